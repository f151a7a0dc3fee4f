//! Starts workers: as processes, or as threads of wlproxy.

use crate::config::{Isolation, Vm};
use crate::control::{self, HostControl, Order, WorkerControl};
use crate::device::{Neighbours, Side};
use crate::packet::{PacketSocket, inherit};
use crate::sandbox;
use crate::worker::{self, Settings};
use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::panic;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tracing::error;

/// A worker that was started.
#[derive(Debug)]
pub enum Running {
    /// A child process.
    Process(Child),
    /// A thread of this process.
    Thread(JoinHandle<()>),
}

impl Running {
    /// The process that it is in.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Process(child) => child.id(),
            Self::Thread(_) => std::process::id(),
        }
    }

    /// Ends it at once, if it is a process. A thread ends when its control socket does.
    pub fn kill(&mut self) {
        if let Self::Process(child) = self
            && let Err(error) = child.kill()
        {
            error!(pid = child.id(), %error, "can't kill a worker");
        }
    }

    /// Whether it has ended, and how. Never waits.
    pub fn try_wait(&mut self) -> Option<String> {
        match self {
            Self::Process(child) => match child.try_wait() {
                Ok(status) => status.map(|status| status.to_string()),
                Err(error) => Some(format!("can't tell how: {error}")),
            },
            Self::Thread(thread) => thread.is_finished().then(|| "its thread ended".to_owned()),
        }
    }
}

/// Where workers run.
#[derive(Debug)]
pub enum Home {
    /// Each in a process of its own, which is shut in if that is so.
    Processes {
        /// Whether they are shut in.
        sandbox: bool,
    },
    /// All in this one, where they know each other.
    Threads(Arc<Neighbours>),
}

impl Home {
    /// As the configuration has it.
    pub fn new(isolation: Isolation, sandbox: bool) -> Self {
        match isolation {
            Isolation::Process => Self::Processes { sandbox },
            Isolation::None => Self::Threads(Arc::default()),
        }
    }
}

/// Starts the worker of `vm`, which takes the VM's frontends from `listener`. `log` is its filter.
///
/// The first thing that the worker hears is the policy of its VM.
pub fn launch(
    vm: &Vm,
    listener: &UnixListener,
    home: &Home,
    log: &str,
) -> Result<(HostControl, Running)> {
    let (host, control) = control::pair()?;
    host.send(&Order::Policy(vm.policy.clone()), None)?;
    let listener = listener.try_clone()?;
    let running = match home {
        &Home::Processes { sandbox } => {
            Running::Process(spawn(vm, listener, control, log, sandbox)?)
        }
        Home::Threads(neighbours) => {
            Running::Thread(start_thread(vm, listener, control, neighbours.clone())?)
        }
    };
    Ok((host, running))
}

fn spawn(
    vm: &Vm,
    listener: UnixListener,
    control: WorkerControl,
    log: &str,
    sandbox: bool,
) -> Result<Child> {
    let (listener, control) = (OwnedFd::from(listener), OwnedFd::from(control));
    // Copies, made for this child: everything else here stays close-on-exec.
    for fd in [&listener, &control] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    // Not by its path: the file there may be another version by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wlproxy").args(["worker", "--vm", &vm.name, "--log", log]);
    command.arg("--window").arg(vm.window.to_string());
    command.args(["--device", vm.device.name()]);
    command.arg("--listener-fd").arg(listener.as_raw_fd().to_string());
    command.arg("--control-fd").arg(control.as_raw_fd().to_string());
    if vm.side == Side::Compositor {
        command.arg("--compositor");
    }
    if !sandbox {
        command.arg("--no-sandbox");
    }
    // A group of its own: Ctrl-C is for wlproxy, which tells its workers.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("can't start the worker of VM {}", vm.name))
}

fn start_thread(
    vm: &Vm,
    listener: UnixListener,
    control: WorkerControl,
    neighbours: Arc<Neighbours>,
) -> Result<JoinHandle<()>> {
    let Vm { name, side, window, device, .. } = vm.clone();
    let settings = Settings { vm: name, side, window, device };
    let thread = thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let vm = settings.vm.clone();
        if let Err(error) = worker::run(settings, listener, control, Some(neighbours)) {
            error!(vm, "the worker failed: {error:#}");
        }
    });
    thread.with_context(|| format!("can't start the worker of VM {}", vm.name))
}

/// The whole life of a worker process, on the fds that [`launch`] left open for it.
pub fn worker_process(
    settings: Settings,
    listener_fd: RawFd,
    control_fd: RawFd,
    sandbox: bool,
) -> Result<()> {
    // A worker never outlives wlproxy. One that died before this line shows as the end of the control socket.
    prctl::set_pdeathsig(Signal::SIGKILL).context("can't ask to end with wlproxy")?;
    abort_on_panic(&settings.vm);
    let listener = inherit(listener_fd).context("--listener-fd: wlproxy alone starts workers")?;
    let control = inherit(control_fd).context("--control-fd: wlproxy alone starts workers")?;
    if sandbox {
        sandbox::enter_worker(&settings.vm, settings.side)
            .context("the worker isn't shut in, so it ends")?;
    }
    worker::run(settings, listener.into(), PacketSocket::from(control).into(), None)
}

/// Lets this process end when any of its threads panics. Otherwise the others would go on, and the VM would be frozen.
fn abort_on_panic(vm: &str) {
    let (vm, usual) = (vm.to_owned(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        usual(panic);
        error!(vm, "the worker panicked, and ends: {panic}");
        process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::child;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn a_panic_on_any_thread_ends_the_process_and_names_the_vm() {
        let name = "launch::tests::a_panic_on_any_thread_ends_the_process_and_names_the_vm";
        let Some(output) = child(name) else {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            abort_on_panic("work");
            let _ = thread::spawn(|| panic!("on purpose")).join();
            unreachable!("the process goes on");
        };
        assert_eq!(output.status.signal(), Some(Signal::SIGABRT as i32));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("vm=\"work\"") && said.contains("on purpose"), "{said}");
    }
}
