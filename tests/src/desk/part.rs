//! Killing a part of a desk, and having it again.

use super::Desk;
use crate::leak::LEAVING;
use crate::process::Process;
use crate::wait::until;
use crate::{Count, Totals};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Instant;

/// A process of a desk that may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `wlproxy run`; its workers go with it.
    Proxy,
    /// The worker of a VM. wlproxy starts it again.
    Worker(&'static str),
    /// The agent of the compositor VM.
    Serve,
    /// The agent of a client VM.
    Run(&'static str),
    /// The compositor.
    Compositor,
}

impl Desk {
    /// Kills a part with SIGKILL, and waits until it and what has to go with it is gone.
    pub fn kill(&mut self, part: Part) {
        match part {
            Part::Proxy => {
                let names: Vec<_> = self.plan.vms.iter().copied().chain(["gui"]).collect();
                let workers: Vec<_> = names.into_iter().map(|name| self.worker(name)).collect();
                end(self.proxy());
                workers.into_iter().for_each(until_gone);
            }
            Part::Worker(vm) => {
                let worker = self.worker(vm);
                kill(worker, Signal::SIGKILL).expect("it lives");
                until_gone(worker);
            }
            Part::Serve => end(self.serve.as_mut().expect("serve was started")),
            Part::Run(vm) => end(&mut self.vms.get_mut(vm).expect("a VM of this desk").process),
            Part::Compositor => self.compositor.kill(),
        }
    }

    /// Sends a part a signal.
    pub fn signal(&mut self, part: Part, signal: Signal) {
        match part {
            Part::Proxy => self.proxy().signal(signal),
            Part::Worker(vm) => kill(self.worker(vm), signal).expect("it lives"),
            Part::Serve => self.serve.as_ref().expect("serve was started").signal(signal),
            Part::Run(vm) => self.vm(vm).signal(signal),
            Part::Compositor => self.compositor.process().signal(signal),
        }
    }

    /// Starts a part again that was killed, unless somebody else does.
    pub fn revive(&mut self, part: Part) {
        match part {
            Part::Proxy => self.start_proxy(),
            Part::Worker(_) => {}
            Part::Serve => self.start_serve(),
            Part::Run(vm) => {
                self.vms.remove(vm);
                self.start_vm(vm);
            }
            Part::Compositor => self.compositor.start(),
        }
    }

    /// The process that a part is now.
    pub fn id(&self, part: Part) -> Pid {
        let of = |process: &Process| Pid::from_raw(process.id().cast_signed());
        match part {
            Part::Proxy => of(self.proxy.as_ref().expect("wlproxy was started")),
            Part::Worker(vm) => self.worker(vm),
            Part::Serve => of(self.serve.as_ref().expect("serve was started")),
            Part::Run(vm) => of(&self.vms[vm].process),
            Part::Compositor => of(self.compositor.process()),
        }
    }

    /// Waits until a part that somebody has killed, and that was the process `id`, is gone.
    pub fn bury(&mut self, part: Part, id: Pid) {
        match part {
            Part::Worker(_) => until_gone(id),
            Part::Proxy => end(self.proxy()),
            // A child that nobody has waited for takes one more signal.
            Part::Serve | Part::Run(_) | Part::Compositor => self.kill(part),
        }
    }

    /// What there is, whoever holds it, when nothing changes any more.
    pub fn totals(&self) -> Totals {
        Totals::of(&Count::settled(self.folder.path()))
    }

    /// Waits until there is no more than `baseline`.
    ///
    /// # Panics
    /// If that doesn't come true, with what there is too much of.
    #[track_caller]
    pub fn expect_totals(&self, baseline: &Totals) {
        let deadline = Instant::now() + LEAVING;
        let found = until("an answer", || {
            let found = Totals::of(&Count::take(self.folder.path())).beyond(baseline);
            (found.is_empty() || Instant::now() >= deadline).then_some(found)
        });
        assert!(found.is_empty(), "left over: {}", found.join("; "));
    }

    /// Every process of ours: not the compositor, nor clients.
    pub fn our_processes(&self) -> Vec<u32> {
        let workers = self.plan.vms.iter().copied().chain(["gui"]).map(|vm| self.worker(vm));
        let agents = self.agents().into_iter().map(|(_, id)| id);
        let proxy = self.proxy.iter().map(Process::id);
        agents.chain(proxy).chain(workers.map(|id| id.as_raw().cast_unsigned())).collect()
    }

    /// The process of a VM's worker, once there is one.
    fn worker(&self, vm: &str) -> Pid {
        until("a worker", || {
            let id = self.whole_status()["vms"][vm]["pid"].as_i64()?;
            Some(Pid::from_raw(id.try_into().expect("a process id")))
        })
    }
}

fn end(process: &mut Process) {
    process.signal(Signal::SIGKILL);
    process.wait();
}

/// Waits until a process has ended that isn't our child.
fn until_gone(id: Pid) {
    let path = format!("/proc/{id}");
    until("the end of a worker", || is_gone(&path).then_some(()));
}

/// Whether it has ended with all of its threads, waited for or not. `path` is its folder in /proc.
fn is_gone(path: &str) -> bool {
    let stat = std::fs::read_to_string(format!("{path}/stat")).unwrap_or_default();
    // "pid (name) state ...", where the name may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
    let fields: Vec<_> = rest.split(' ').collect();
    // The 20th field tells how many threads there are (proc(5)); the state, the first here, is the 3rd.
    matches!(fields[0], "Z" | "X") && fields[20 - 3] == "1"
}
