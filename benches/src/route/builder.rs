//! What paths consist of, and how that is started.

use crate::cell::Size;
use crate::compositor::Compositor;
use crate::part;
use crate::path::{Example, Isolation, Path, Way};
use crate::waypipe::Waypipe;
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use wlproxy_tests::{Process, binary, until};

/// The VM of the client that is measured.
const WORK: &str = "work";

/// That of its neighbour.
const OTHER: &str = "other";

/// What the client that is measured may send: as much as passes.
const UNBOUNDED: &str =
    "messages_per_second = 1_000_000_000\nclient_messages_per_second = 1_000_000_000";

/// The compositor's.
pub(super) const GUI: &str = "gui";

/// Starts what a path consists of.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub(super) folder: &'a FilePath,
    pub(super) sink: &'a FilePath,
    pub(super) processes: Vec<Process>,
    pub(super) stats: Option<PathBuf>,
}

impl Builder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A command with an environment of its own, in which it finds none of the user's.
    fn clean(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder).env("XDG_RUNTIME_DIR", self.folder);
        command.env("RUST_LOG", "warn").env("RUST_BACKTRACE", "1");
        command
    }

    fn start(&mut self, name: &str, command: Command) {
        self.processes.push(Process::spawn(name, self.clean(command), self.folder, false));
    }

    /// A client of the compositor that listens at `socket`.
    pub(super) fn client_at(&self, socket: &FilePath) -> Command {
        let mut client = self.clean(part::client());
        client.env("WAYLAND_DISPLAY", socket);
        client
    }

    pub(super) fn relays(&mut self, count: u8) -> Command {
        let mut socket = self.sink.to_owned();
        for number in 1..=count {
            let name = format!("relay-{number}");
            let next = self.path(&name);
            let relay = self.clean(part::relay(&next, &socket));
            // Its stdin is a pipe, so that it isn't at its end.
            self.processes.push(Process::spawn(&name, relay, self.folder, true));
            until(&name, || next.exists().then_some(()));
            socket = next;
        }
        self.client_at(&socket)
    }

    /// A compositor that clients come to in this way.
    pub(super) fn example(&self, which: Example, way: Way, window: Option<Size>) -> Compositor {
        let mut command = self.clean(part::leash(Compositor::program(which)));
        if let Way::Shim(_) = way {
            command.args(["--channel", &self.channel(GUI)]);
        }
        let vm = matches!(way, Way::Shim(_)).then_some(WORK);
        Compositor::start(command, self.folder, vm, window)
    }

    /// Its host, with a compositor VM, a client VM, and maybe that of a neighbour.
    pub(super) fn wlproxy(&mut self, isolation: Isolation, neighbour: bool) {
        let mut config = format!(
            "runtime_dir = {:?}\nisolation = {:?}\n[compositor]\nvm = {GUI:?}\n[vm.{GUI}]\n[vm.{WORK}.selections]\nrate = 60000\n[vm.{WORK}.quota]\n{UNBOUNDED}\n",
            self.path("host"),
            isolation.key(),
        );
        if neighbour {
            config += &format!("[vm.{OTHER}]\n");
        }
        let config_path = self.path("wlproxy.toml");
        fs::write(&config_path, config).expect("a file in our own folder");
        let mut wlproxy = part::leash(binary("wlproxy"));
        wlproxy.arg("run").arg("--config").arg(config_path);
        self.start("wlproxy", wlproxy);
    }

    /// The way out of a VM.
    pub(super) fn channel(&self, vm: &str) -> String {
        format!("process:{}", self.path("host").join(vm).with_extension("sock").display())
    }

    pub(super) fn serve(&mut self) {
        self.serve_for(self.sink);
    }

    /// The same for a compositor that listens at `socket`.
    pub(super) fn serve_for(&mut self, socket: &FilePath) {
        let mut serve = part::leash(binary("guest-agent"));
        serve.args(["serve", "--channel", &self.channel(GUI), "--compositor"]).arg(socket);
        self.start("serve", serve);
    }

    /// The client, in the client VM.
    pub(super) fn run(&mut self, zero_copy: bool) -> Command {
        let stats = self.path("stats.json");
        let mut run = self.agent(WORK);
        run.arg("--stats").arg(&stats);
        if zero_copy {
            run.arg("--zero-copy");
        }
        self.stats = Some(stats);
        self.with_client(run)
    }

    /// A client that comes to the compositor at `socket` the same way over `path`, but from another VM.
    pub(super) fn neighbour(&self, path: Path, socket: &FilePath) -> Result<Command> {
        Ok(match path {
            Path::Direct | Path::Example(_, Way::Direct) => self.client_at(socket),
            Path::Shadow(_) => self.with_client(self.agent(OTHER)),
            Path::Example(..) => {
                let mut run = self.agent(OTHER);
                run.arg("--zero-copy");
                self.with_client(run)
            }
            _ => bail!("{path}: nobody is beside it"),
        })
    }

    /// An agent that runs applications in a client VM.
    fn agent(&self, vm: &str) -> Command {
        let mut run = part::leash(binary("guest-agent"));
        run.args(["run", "--channel", &self.channel(vm)]);
        run
    }

    /// The client as the application of an agent.
    fn with_client(&self, mut run: Command) -> Command {
        run.arg("--").arg(part::client().get_program()).args(part::client().get_args());
        self.clean(run)
    }

    pub(super) fn waypipe(&mut self, compression: &str) -> Result<Command> {
        let socket = self.path("waypipe");
        let (program, args) = Waypipe::find()?.command(&socket, compression);
        let mut near = part::leash(&program);
        near.args(&args).arg("client");
        let mut near = self.clean(near);
        near.env("WAYLAND_DISPLAY", self.sink);
        self.processes.push(Process::spawn("waypipe-client", near, self.folder, false));
        until("waypipe's socket", || socket.exists().then_some(()));
        let mut far = part::leash(&program);
        far.args(&args).args(["server", "--"]);
        far.arg(part::client().get_program()).args(part::client().get_args());
        Ok(self.clean(far))
    }
}
