//! wlproxy and its VMs, which `cargo xtask vm demo`, `test` and `shell` work with.

mod den;
mod screen;
mod scripts;
mod vms;

pub(super) use den::device_of_running;
pub(super) use screen::picture_path;
pub(super) use vms::Vm;

use super::examples;
use super::image::Images;
use super::machine::{Machine, USER};
use super::programs::Programs;
use super::setup::{Accel, DISPLAY, Setup};
use crate::failure::Failure;
use crate::part::Spec;
use crate::progress::Progress;
use crate::root;
use crate::supervisor::{Step, Supervisor};
use crate::watch::Watch;
use anyhow::{Context, Result};
use clap::Args;
use den::Den;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take that isn't a VM's start. Alone, and without KVM, the slowest takes ten seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(90);

/// How long it takes until something is asked again that doesn't tell of its changes.
const LOOK: Duration = Duration::from_millis(50);

/// The part that isn't a VM.
const WLPROXY: &str = "wlproxy";

/// How a lab is made.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Who runs the VMs' instructions
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub(super) accel: Accel,
    /// Optimise the programs, on the host and in VMs
    #[arg(long)]
    pub(super) release: bool,
}

/// wlproxy and its VMs. All of it ends when this is dropped.
pub(super) struct Lab {
    // Before the den, so that what uses that ends first.
    supervisor: Supervisor,
    images: Images,
    programs: Programs,
    accel: Accel,
    machines: BTreeMap<Vm, Machine>,
    /// The scripts that go on and aren't usual parts.
    started: Vec<(Vm, String)>,
    logs: PathBuf,
    den: Den,
}

impl Lab {
    /// Makes all that is missing. Nothing runs yet.
    pub(super) fn new(how: &How, progress: Progress) -> Result<Self> {
        Self::make(how, false, progress)
    }

    /// The same, with the compositors of `examples/` in the compositor VM.
    pub(super) fn with_examples(how: &How, progress: Progress) -> Result<Self> {
        Self::make(how, true, progress)
    }

    fn make(how: &How, has_examples: bool, mut progress: Progress) -> Result<Self> {
        let den = Den::new()?;
        let images = Images::ensure(&mut progress)?;
        let mut programs = Programs::build(how.release, &mut progress)?;
        if has_examples {
            programs.examples = examples::make(how.release, &mut progress)?;
        }
        let logs = root().join("target/vm/logs");
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).with_context(|| format!("can't make {}", logs.display()))?;
        let supervisor = Supervisor::new(None, &logs, progress)?;
        Ok(Self {
            supervisor,
            images,
            programs,
            accel: how.accel,
            machines: BTreeMap::new(),
            started: Vec::new(),
            logs,
            den,
        })
    }

    /// What is begun now.
    pub(super) fn stage(&mut self, name: &str) {
        self.supervisor.progress.stage(name);
    }

    /// Tells how it is going.
    pub(super) fn progress(&mut self) -> &mut Progress {
        &mut self.supervisor.progress
    }

    /// Writes a line into the log, such as a figure.
    pub(super) fn note(&mut self, text: &str) {
        self.supervisor.progress.say(&format!("    {text}"));
    }

    /// Where logs and consoles are.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// What VMs are made of.
    pub(super) fn images(&self) -> &Images {
        &self.images
    }

    /// What of ours is in them.
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Who looks after the VMs' processes.
    pub(super) fn supervisor(&mut self) -> &mut Supervisor {
        &mut self.supervisor
    }

    /// Starts wlproxy and all VMs, each with its usual parts, and waits until clients are served.
    pub(super) fn up(&mut self) -> Result<()> {
        self.stage("starting wlproxy");
        self.start_wlproxy()?;
        self.stage("booting the VMs");
        let begin = Instant::now();
        for vm in Vm::ALL {
            self.start_vm(vm)?;
        }
        let mut uptimes = Vec::new();
        for vm in Vm::ALL {
            uptimes.push(format!("{vm} {} s", self.boot(vm)?));
        }
        let seconds = begin.elapsed().as_secs_f32();
        self.note(&format!(
            "all take requests {seconds:.1} s after their start; since their kernels run: {}",
            uptimes.join(", ")
        ));
        self.stage("starting what is in each VM");
        for vm in Vm::ALL {
            self.furnish(vm)?;
        }
        self.supervisor.progress.done();
        Ok(())
    }

    /// The same again, whatever is left of it.
    pub(super) fn again(&mut self) -> Result<()> {
        self.machines.clear();
        self.started.clear();
        self.supervisor.bury();
        for part in Vm::ALL.map(Vm::name).into_iter().chain([WLPROXY]) {
            if self.supervisor.has(part) {
                self.supervisor.kill(part)?;
            }
        }
        self.up()
    }

    /// Ends everything, and checks that it ends in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stage("stopping the VMs");
        self.machines.clear();
        let stopped = self.supervisor.stop();
        if stopped.is_ok() {
            self.supervisor.progress.done();
        } else {
            self.supervisor.progress.failed();
        }
        stopped
    }

    /// Ends what a scenario has left running, and checks that all is as it was before.
    pub(super) fn tidy(&mut self) -> Result<()> {
        for (vm, name) in mem::take(&mut self.started).into_iter().rev() {
            self.with(vm, |machine, supervisor| machine.end(supervisor, &name))?;
        }
        for vm in Vm::ALL {
            self.text(vm, 0, "rm -rf /tmp/* /tmp/.[!.]* && busybox pidof guest-agent")
                .with_context(|| format!("the usual parts of {vm} aren't there any more"))?;
        }
        self.until("empty screen", |lab| Ok(lab.windows()?.is_empty().then_some(())))
    }

    /// Makes any error a failure, with the ends of logs, those in VMs included as far as they can be had.
    pub(super) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let error = self.supervisor.explain(error);
        // What has ended would end each wait for an answer of the others.
        for part in self.supervisor.bury() {
            self.machines.retain(|vm, _| vm.name() != part);
        }
        let Some(failure) = error.downcast_ref::<Failure>() else { return error };
        eprint!("{}", failure.log_tails());
        for vm in Vm::ALL {
            if self.machines.get(&vm).is_some_and(Machine::listens) {
                let said = self.text(vm, 0, "tail -n 15 /run/log/*; dmesg | tail -n 5");
                eprintln!("---- in {vm}\n{}", said.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        error
    }

    /// Starts wlproxy, and waits until it listens for VMs.
    pub(super) fn start_wlproxy(&mut self) -> Result<()> {
        for vm in Vm::ALL {
            // One that was killed left it.
            let _ = fs::remove_file(self.den.device(vm));
        }
        let watch = Watch::new(&[self.den.path()])?;
        self.supervisor.start(&self.wlproxy(WLPROXY, &["run"]))?;
        let den = &self.den;
        let there = || {
            watch.drain();
            let missing = Vm::ALL.into_iter().find(|&vm| !den.device(vm).exists());
            Ok(missing.map_or(Step::Done(()), |vm| Step::Waiting(vm.to_string())))
        };
        let wake = [watch.as_fd()];
        self.supervisor.wait_for("socket for each VM", &[WLPROXY], DEADLINE, &wake, there)
    }

    /// What `wlproxy status --json` tells.
    pub(super) fn status(&mut self) -> Result<Value> {
        let answer = self.logs.join("status.json");
        let mut spec = self.wlproxy("wlproxy-status", &["status", "--json"]);
        spec.stdout = Some(answer.clone());
        self.supervisor.run(&spec, DEADLINE)?;
        serde_json::from_slice(&fs::read(&answer)?).context("wlproxy's status is no JSON")
    }

    /// wlproxy with this configuration.
    fn wlproxy(&self, name: &str, args: &[&str]) -> Spec {
        let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        args.extend(["--config".to_owned(), self.den.config().display().to_string()]);
        Spec {
            name: name.to_owned(),
            program: self.programs.wlproxy.clone(),
            args,
            env: Vec::new(),
            dir: self.den.path().to_owned(),
            stdout: None,
        }
    }

    /// How a VM is with its device, and without a terminal.
    pub(super) fn setup(&self, vm: Vm) -> Setup {
        Setup {
            name: vm.name().to_owned(),
            accel: self.accel,
            device: Some(self.den.device(vm)),
            terminal: None,
            display: true,
            parts: &[],
        }
    }

    /// Starts a VM, without waiting for anything.
    pub(super) fn start_vm(&mut self, vm: Vm) -> Result<()> {
        self.start_machine(vm, &self.setup(vm))
    }

    /// Starts a VM whose usual parts start by themselves, without waiting for anything.
    pub(super) fn start_by_itself(&mut self, vm: Vm) -> Result<()> {
        self.start_machine(vm, &Setup { parts: vm.parts(), ..self.setup(vm) })
    }

    fn start_machine(&mut self, vm: Vm, setup: &Setup) -> Result<()> {
        let mut inside = self.programs.inside.clone();
        if vm == Vm::Gui {
            inside.extend(self.programs.examples.iter().cloned());
        }
        let machine = Machine::start(setup, &self.images, &inside, &mut self.supervisor)?;
        self.machines.insert(vm, machine);
        Ok(())
    }

    /// Waits until a VM that was started takes requests. Returns how long its kernel has run then, in seconds.
    pub(super) fn boot(&mut self, vm: Vm) -> Result<String> {
        self.with(vm, Machine::boot)?;
        self.text(vm, 0, "cut -d ' ' -f 1 /proc/uptime")
    }

    /// Starts the usual parts of a VM that has booted, and waits until they serve clients as far as they can.
    pub(super) fn furnish(&mut self, vm: Vm) -> Result<()> {
        for part in vm.parts() {
            self.start_part(vm, part)?;
        }
        self.wait_for(vm, DISPLAY, vm.parts()[0])?;
        if vm == Vm::Gui { self.wait_until_ready(true) } else { Ok(()) }
    }

    /// Starts one of the usual parts of a VM.
    pub(super) fn start_part(&mut self, vm: Vm, part: &str) -> Result<()> {
        let script = format!("exec vm-{part}");
        self.with(vm, |machine, supervisor| machine.background(supervisor, USER, part, &script))
    }

    /// Ends the usual parts of a VM. [`Lab::furnish`] starts them again.
    pub(super) fn strip(&mut self, vm: Vm) -> Result<()> {
        for part in vm.parts().iter().rev() {
            self.with(vm, |machine, supervisor| machine.end(supervisor, part))?;
        }
        if vm == Vm::Gui { self.wait_until_ready(false) } else { Ok(()) }
    }

    /// Waits until the compositor VM takes clients, or takes none any more.
    pub(super) fn wait_until_ready(&mut self, ready: bool) -> Result<()> {
        self.until(if ready { "compositor" } else { "end of the compositor" }, |lab| {
            Ok((lab.status()?["compositor"]["ready"] == ready).then_some(()))
        })
    }

    /// Kills a VM, as if its power were cut.
    pub(super) fn kill(&mut self, vm: Vm) -> Result<()> {
        self.started.retain(|(of, _)| *of != vm);
        self.machines.remove(&vm).with_context(|| format!("{vm} doesn't run"))?;
        self.supervisor.kill(vm.name())
    }

    /// Starts a VM that was killed, with its usual parts.
    pub(super) fn revive(&mut self, vm: Vm) -> Result<()> {
        let begin = Instant::now();
        self.start_vm(vm)?;
        self.boot(vm)?;
        self.note(&format!("{vm} was started again in {:.1} s", begin.elapsed().as_secs_f32()));
        self.furnish(vm)
    }

    /// Has a VM start again from the inside, while all goes on that runs in it. [`Lab::boot`] waits for it; the usual parts
    /// aren't there then.
    pub(super) fn reboot(&mut self, vm: Vm) -> Result<()> {
        self.started.retain(|(of, _)| *of != vm);
        self.with(vm, |machine, _| machine.reboot())
    }

    /// Asks until there is what is looked for.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if Instant::now() >= end {
                let reason = format!("no {what} after {} s", DEADLINE.as_secs());
                let logs = self.supervisor.logs(&[WLPROXY]);
                return Err(Failure::new(reason, logs).into());
            }
            self.supervisor.pause(LOOK, what)?;
        }
    }

    /// Does something with a VM that runs.
    fn with<T>(
        &mut self,
        vm: Vm,
        act: impl FnOnce(&mut Machine, &mut Supervisor) -> Result<T>,
    ) -> Result<T> {
        let machine = self.machines.get_mut(&vm).with_context(|| format!("{vm} doesn't run"))?;
        act(machine, &mut self.supervisor)
    }
}
