//! A path that runs: the sink, the client, and all processes between them.

use crate::path::{self, Isolation, Path, Way};
use crate::talk::{Answer, Beside, Burst, Listener, Measured, Order, Task};
use crate::waypipe::Waypipe;
use crate::{cpu, part, sink};
use anyhow::{Context, Result, bail};
use guest_agent::stats::Stats;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use wlproxy_tests::{Example, Process, binary, example, until};

/// Files of the libraries that the smithay example is built with, in Debian's packages.
const SMITHAY: &[&str] = &["/usr/include/pixman-1/pixman.h", "/usr/include/xkbcommon/xkbcommon.h"];

/// Those of what the libwayland example is built with.
const LIBWAYLAND: &[&str] = &[
    "/usr/bin/make",
    "/usr/bin/pkg-config",
    "/usr/bin/wayland-scanner",
    "/usr/include/cairo/cairo.h",
    "/usr/include/wayland-server-core.h",
    "/usr/include/xkbcommon/xkbcommon.h",
    "/usr/share/wayland-protocols/stable/xdg-shell/xdg-shell.xml",
];

/// The sink's process.
#[derive(Debug)]
pub struct Sink {
    listener: Listener,
    socket: PathBuf,
    /// Removed last.
    _folder: TempDir,
}

impl Sink {
    /// Starts it, and waits until it takes clients.
    pub fn start() -> Result<Self> {
        let folder = folder()?;
        let socket = folder.path().join("sink");
        let process = Process::spawn("sink", part::sink(&socket), folder.path(), true);
        let mut sink = Self { listener: Listener::new(process), socket, _folder: folder };
        // It answers when it listens.
        sink.checksum()?;
        Ok(sink)
    }

    /// Its process.
    pub(crate) fn id(&mut self) -> u32 {
        self.listener.process().id()
    }

    /// A number that tells what was shown last; none if that is nothing.
    fn checksum(&mut self) -> Result<Option<u64>> {
        self.listener.tell(&sink::Order::Checksum)
    }

    /// Has it accept clients of other VMs by itself.
    fn link(&mut self, channel: String) -> Result<()> {
        let done: Option<u64> = self.listener.tell(&sink::Order::Link(channel))?;
        done.map_or(Ok(()), |_| bail!("the sink was asked for something else"))
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> &FilePath {
        &self.socket
    }
}

/// A client and its way to the sink.
#[derive(Debug)]
pub struct Route {
    path: Path,
    client: Listener,
    client_id: u32,
    /// The compositor, where that isn't the sink.
    compositor: Option<Process>,
    processes: Vec<Process>,
    /// Where the agent writes its numbers, if one does.
    stats: Option<PathBuf>,
    /// Removed last.
    folder: TempDir,
}

impl Route {
    /// Starts `path` to `sink`, and a client on it.
    ///
    /// # Errors
    /// If it can't be had on this machine, with how to get it; or a process doesn't start.
    pub fn start(path: Path, sink: &mut Sink) -> Result<Self> {
        let folder = folder()?;
        let socket = sink.socket().to_owned();
        let mut builder =
            Builder { folder: folder.path(), sink: &socket, processes: Vec::new(), stats: None };
        let mut compositor = None;
        let client = match path {
            Path::Direct => builder.client_at(&socket),
            Path::Relays(count) => builder.relays(count),
            Path::Shadow(isolation) => {
                builder.wlproxy(isolation);
                builder.serve();
                builder.run(false)
            }
            Path::ZeroCopy(isolation) => {
                builder.wlproxy(isolation);
                builder.serve();
                builder.run(true)
            }
            Path::Linked(isolation) => {
                builder.wlproxy(isolation);
                sink.link(builder.channel("gui"))?;
                builder.run(true)
            }
            Path::Waypipe(compression) => builder.waypipe(compression.key())?,
            Path::Example(which, way) => {
                let (process, socket) = builder.example(which, way);
                compositor = Some(process);
                match way {
                    Way::Direct => builder.client_at(&socket),
                    Way::Serve(isolation) => {
                        builder.wlproxy(isolation);
                        builder.serve_for(&socket);
                        builder.run(true)
                    }
                    Way::Shim(isolation) => {
                        builder.wlproxy(isolation);
                        builder.run(true)
                    }
                }
            }
        };
        let Builder { processes, stats, .. } = builder;
        let client = Listener::new(Process::spawn("client", client, folder.path(), true));
        let mut route = Self { path, client, client_id: 0, compositor, processes, stats, folder };
        let Answer::Process(id) = route.tell(Order::Who)? else { bail!("{path}: who is it?") };
        route.client_id = id;
        Ok(route)
    }

    /// The same for all of `paths`.
    ///
    /// # Errors
    /// If one doesn't start.
    pub fn start_all(paths: &[Path], sink: &mut Sink) -> Result<Vec<Self>> {
        paths.iter().map(|&path| Self::start(path, sink)).collect()
    }

    /// Why `path` can't be had on this machine, if it can't.
    pub fn lacks(path: Path) -> Option<String> {
        match path {
            Path::Waypipe(_) => Waypipe::find().err().map(|error| error.to_string()),
            Path::Example(which, _) => {
                let files = match which {
                    path::Example::Smithay => SMITHAY,
                    path::Example::Libwayland => LIBWAYLAND,
                };
                let missing = files.iter().find(|file| !FilePath::new(file).exists());
                missing.map(|file| format!("there is no {file}; cargo xtask bench gets it"))
            }
            _ => None,
        }
    }

    /// Whether a paste of any size comes to its end over `path`.
    pub fn pastes(path: Path) -> bool {
        !matches!(path, Path::Waypipe(_)) || Waypipe::find().is_ok_and(|waypipe| waypipe.pastes())
    }

    /// Which it is.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Tells the client something.
    ///
    /// # Errors
    /// If it fails, with the ends of all logs.
    fn tell(&mut self, order: Order) -> Result<Answer> {
        let path = self.path;
        let answer = match self.client.tell(&order) {
            Ok(Answer::Failed(why)) => Err(anyhow::anyhow!("{why}")),
            answer => answer,
        };
        answer.with_context(|| format!("{path}: {order:?} failed\n{}", self.logs()))
    }

    /// Has the client be ready for a task.
    ///
    /// # Errors
    /// If it can't, with the ends of all logs.
    pub fn take(&mut self, task: Task) -> Result<()> {
        self.tell(Order::Take(task)).map(|_| ())
    }

    /// Has others be beside the client.
    ///
    /// # Errors
    /// If they can't, with the ends of all logs.
    pub fn beside(&mut self, beside: Beside) -> Result<()> {
        self.tell(Order::Beside(beside)).map(|_| ())
    }

    /// Has the client forget its task.
    ///
    /// # Errors
    /// If it is gone, with the ends of all logs.
    pub fn close(&mut self) -> Result<()> {
        self.tell(Order::Close).map(|_| ())
    }

    /// Has the client measure.
    ///
    /// # Errors
    /// If it fails, with the ends of all logs.
    pub fn burst(&mut self, burst: Burst) -> Result<Measured> {
        match self.tell(Order::Burst(burst))? {
            Answer::Measured(measured) => Ok(measured),
            other => bail!("{}: measured nothing but {other:?}", self.path),
        }
    }

    /// Makes sure that the sink shows what the client has drawn last, and that this is the last that any client has.
    ///
    /// # Errors
    /// If it doesn't: then nothing that was measured counts.
    pub fn check(&mut self, sink: &mut Sink) -> Result<()> {
        let Answer::Checksum(drawn) = self.tell(Order::Checksum)? else { bail!("no checksum") };
        let shown = sink.checksum()?;
        if shown != Some(drawn) {
            bail!("{}: the sink doesn't show what the client has drawn: {shown:?}", self.path);
        }
        Ok(())
    }

    /// The compositor at its other end.
    pub(crate) fn compositor(&self, sink: &mut Sink) -> u32 {
        self.compositor.as_ref().map_or_else(|| sink.id(), Process::id)
    }

    /// The process of the client.
    pub(crate) fn client(&self) -> u32 {
        self.client_id
    }

    /// The processes between client and sink, by now.
    pub fn between(&mut self) -> Vec<u32> {
        let mut roots: Vec<u32> = self.processes.iter().map(Process::id).collect();
        // It may be the parent of the client, or the client.
        roots.push(self.client.process().id());
        roots.retain(|&id| id != self.client_id);
        cpu::family(&roots, &[self.client_id])
    }

    /// What the agent of the client VM has counted; none on paths without one.
    pub fn stats(&mut self) -> Option<Stats> {
        let path = self.stats.as_ref()?;
        let _ = fs::remove_file(path);
        self.client.process().signal(Signal::SIGUSR1);
        let stats = || serde_json::from_slice(&fs::read(path).ok()?).ok();
        Some(until("the agent's numbers", stats))
    }

    /// What the processes have said.
    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let tail = Process::tail(&entry.path()).unwrap_or_default();
                text += &format!("---- {} ----\n{tail}", entry.file_name().display());
            }
        }
        text
    }
}

/// A fresh folder, not readable for others.
fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("wlb").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}

/// Starts what a path consists of.
struct Builder<'a> {
    folder: &'a FilePath,
    sink: &'a FilePath,
    processes: Vec<Process>,
    stats: Option<PathBuf>,
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
    fn client_at(&self, socket: &FilePath) -> Command {
        let mut client = self.clean(part::client());
        client.env("WAYLAND_DISPLAY", socket);
        client
    }

    fn relays(&mut self, count: u8) -> Command {
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

    /// A compositor, and its socket.
    fn example(&self, which: path::Example, way: Way) -> (Process, PathBuf) {
        let program = example(match which {
            path::Example::Smithay => Example::Smithay,
            path::Example::Libwayland => Example::Libwayland,
        });
        let socket = self.path("example");
        let mut compositor = part::leash(program);
        compositor.arg("--socket").arg(&socket);
        if let Way::Shim(_) = way {
            compositor.arg("--channel").arg(self.channel("gui"));
        }
        let compositor = self.clean(compositor);
        let process = Process::spawn("example", compositor, self.folder, false);
        until("the compositor's socket", || socket.exists().then_some(()));
        (process, socket)
    }

    /// Its host, with a client VM and a compositor VM.
    fn wlproxy(&mut self, isolation: Isolation) {
        let config = format!(
            "runtime_dir = {:?}\nisolation = {:?}\n[compositor]\nvm = \"gui\"\n[vm.gui]\n[vm.work]\n",
            self.path("host"),
            isolation.key(),
        );
        let config_path = self.path("wlproxy.toml");
        fs::write(&config_path, config).expect("a file in our own folder");
        let mut wlproxy = part::leash(binary("wlproxy"));
        wlproxy.arg("run").arg("--config").arg(config_path);
        self.start("wlproxy", wlproxy);
    }

    /// The way out of a VM.
    fn channel(&self, vm: &str) -> String {
        format!("process:{}", self.path("host").join(vm).with_extension("sock").display())
    }

    fn serve(&mut self) {
        self.serve_for(self.sink);
    }

    /// The same for a compositor that listens at `socket`.
    fn serve_for(&mut self, socket: &FilePath) {
        let mut serve = part::leash(binary("guest-agent"));
        serve.args(["serve", "--channel", &self.channel("gui"), "--compositor"]).arg(socket);
        self.start("serve", serve);
    }

    /// The client, in the client VM.
    fn run(&mut self, zero_copy: bool) -> Command {
        let stats = self.path("stats.json");
        let mut run = part::leash(binary("guest-agent"));
        run.args(["run", "--channel", &self.channel("work"), "--stats"]).arg(&stats);
        if zero_copy {
            run.arg("--zero-copy");
        }
        run.arg("--").arg(part::client().get_program()).args(part::client().get_args());
        self.stats = Some(stats);
        self.clean(run)
    }

    fn waypipe(&mut self, compression: &str) -> Result<Command> {
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
