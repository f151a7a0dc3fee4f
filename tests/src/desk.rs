//! The whole: a compositor, `serve`, `wlproxy` and client VMs in one temporary directory.

mod part;

pub use part::Part;

use crate::binaries::binary;
use crate::leak::{self, Count, Kept, MARKER};
use crate::machine::{Channel, Machine};
use crate::process::{Process, output};
use crate::wait::{PATIENCE, until};
use crate::{Client, Compositor, Display, Image, Kind, Leaks, Picture, Puppet, Raw, Sway, Vm};
use guest_agent::channel::process::Options;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use tempfile::TempDir;

/// Where desks are.
const PLACE: &str = "/tmp";

/// How a client reaches the compositor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It connects to the compositor's own socket.
    Direct,
    /// It runs in the client VM "work".
    Through,
}

/// What a desk consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The compositor.
    pub compositor: Kind,
    /// Client VMs; without any there is no wlproxy either.
    pub vms: &'static [&'static str],
    /// Those of them whose agents lend to clients.
    pub lending: &'static [&'static str],
    /// Client VMs without an agent: each connection to their sockets on the host is a client.
    pub dialling: &'static [&'static str],
    /// Privileged globals that the clients of every VM are offered. Then no policy has a table of globals of its own.
    pub allow: &'static [&'static str],
    /// What stands in the configuration of a VM besides: its name, and lines of its table or of tables in that.
    pub policies: &'static [(&'static str, &'static str)],
    /// Whether the compositor stands in a VM of its own, or on the host.
    pub compositor_vm: bool,
    /// More arguments of `guest-agent serve`.
    pub serve: &'static [&'static str],
    /// `isolation` in the config, if it is to be there.
    pub isolation: Option<&'static str>,
    /// Whether the compositor logs every message.
    pub debug: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            compositor: Kind::Sway,
            vms: &["work"],
            lending: &[],
            dialling: &[],
            allow: &[],
            policies: &[],
            compositor_vm: true,
            serve: &[],
            isolation: None,
            debug: false,
        }
    }
}

impl Plan {
    /// Whether clients of other VMs are brought to the compositor, or come to it by themselves.
    fn has_serve(&self) -> bool {
        self.compositor_vm && !self.compositor.is_linked()
    }
}

/// Which VMs the test plays itself, as [`Puppet`]s.
///
/// Those stand on the host's devices, over `process` whatever the channel of the others is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByHand {
    None,
    Compositor,
    All,
}

/// One of everything. Ends all of it when dropped, and then fails the test if something is left.
#[derive(Debug)]
pub struct Desk {
    way: Way,
    plan: Plan,
    channel: Channel,
    by_hand: ByHand,
    extras: Vec<Process>,
    vms: BTreeMap<String, Vm>,
    /// Where the compositor runs.
    gui: Arc<dyn Machine>,
    serve: Option<Process>,
    proxy: Option<Process>,
    compositor: Compositor,
    baseline: Option<Leaks>,
    folder: TempDir,
}

impl Desk {
    /// sway, and for [`Way::Through`] also all that stands between it and the client VM "work".
    pub fn new(way: Way) -> Self {
        match way {
            Way::Direct => Self::start(Plan { vms: &[], ..Plan::default() }),
            Way::Through => Self::start(Plan::default()),
        }
    }

    /// Starts all of `plan` and waits until a client is served in every client VM.
    pub fn start(plan: Plan) -> Self {
        Self::start_in(Path::new(PLACE), plan)
    }

    /// The same in another folder than /tmp, whose name has to be as short, as sockets are in it.
    pub fn start_in(place: &Path, plan: Plan) -> Self {
        let mut desk = Self::make_in(place, plan, ByHand::None).with_compositor();
        if !desk.plan.vms.is_empty() {
            desk.start_proxy();
        }
        if !desk.plan.vms.is_empty() && desk.plan.has_serve() {
            desk.start_serve();
        }
        desk.plan.vms.iter().for_each(|vm| desk.start_vm(vm));
        desk.take_baseline();
        desk
    }

    /// wlproxy and client VMs; the test starts `serve` later.
    pub fn without_serve(plan: Plan) -> Self {
        Self::compositor_only(plan).with_client_vms()
    }

    /// wlproxy and client VMs; the test itself plays the compositor VM or, behind a `serve` on the host, the compositor.
    pub fn gui_by_hand(plan: Plan) -> Self {
        Self::make(plan, ByHand::Compositor).with_compositor().with_client_vms()
    }

    /// wlproxy and nothing in any VM: the test itself plays them all, as [`Puppet`]s.
    ///
    /// At the end there has to be what there was after each of them had come and gone once.
    pub fn host_only(plan: Plan) -> Self {
        let mut desk = Self::make(plan, ByHand::All).with_compositor();
        desk.start_proxy();
        for name in desk.plan.vms.iter().copied().chain(["gui"]) {
            drop(desk.puppet(name));
            until("the end of a VM", || (desk.status(name, "frontends") == 0).then_some(()));
        }
        desk.warm_up();
        desk.baseline = Some(desk.leaks());
        desk
    }

    /// Nothing of `plan` but its compositor; the test starts the rest, in whatever order.
    pub fn compositor_only(plan: Plan) -> Self {
        Self::nothing(plan).with_compositor()
    }

    fn with_compositor(mut self) -> Self {
        self.compositor.start();
        self
    }

    fn with_client_vms(mut self) -> Self {
        self.start_proxy();
        self.plan.vms.iter().for_each(|vm| self.start_vm(vm));
        self
    }

    /// Nothing of `plan`: the test starts it all, in whatever order.
    pub fn nothing(plan: Plan) -> Self {
        Self::make(plan, ByHand::None)
    }

    fn make(plan: Plan, by_hand: ByHand) -> Self {
        Self::make_in(Path::new(PLACE), plan, by_hand)
    }

    fn make_in(place: &Path, plan: Plan, by_hand: ByHand) -> Self {
        let folder = tempfile::Builder::new().prefix("wlp").tempdir_in(place);
        let folder = folder.expect("the folder for desks is writable");
        // The compositor may run as somebody else, and has to pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))
            .expect("our own folder");
        for name in ["logs", "host"] {
            fs::create_dir(folder.path().join(name)).expect("a fresh folder");
        }
        let marker = folder.path().to_str().expect("a temporary path is text").to_owned();
        let channel = Channel::chosen();
        let way = if plan.vms.is_empty() { Way::Direct } else { Way::Through };
        let is_in_vm = way == Way::Through && plan.compositor_vm && by_hand == ByHand::None;
        // Otherwise it is on the host, and so is what runs in a VM of this channel.
        let of_gui = if is_in_vm { channel } else { Channel::Process };
        let gui = of_gui.machine(device(&folder, "gui"));
        let (place, logs) = (folder.path().join("gui"), folder.path().join("logs"));
        let compositor =
            Compositor::new(plan.compositor, gui.clone(), &place, &logs, &marker, plan.debug);
        Self {
            way,
            plan,
            channel,
            by_hand,
            extras: Vec::new(),
            vms: BTreeMap::new(),
            gui,
            serve: None,
            proxy: None,
            compositor,
            baseline: None,
            folder,
        }
    }

    /// Starts `wlproxy run`.
    pub fn start_proxy(&mut self) {
        fs::write(self.config(), self.config_text()).expect("a file in our own folder");
        let mut command = self.command(binary("wlproxy"));
        command.arg("run").arg("--config").arg(self.config());
        self.proxy = Some(Process::spawn("wlproxy", command, &self.logs(), false));
    }

    /// Starts `guest-agent serve` in the compositor VM.
    pub fn start_serve(&mut self) {
        let socket = self.compositor.socket().to_owned();
        self.start_serve_for(&socket, self.plan.serve);
    }

    /// The same for another compositor's socket, with more arguments.
    pub fn start_serve_for(&mut self, socket: &Path, arguments: &[&str]) {
        let folder = self.serve_folder();
        fs::create_dir_all(&folder).expect("our own folder");
        let mut command = self.command(binary("guest-agent"));
        command.env("XDG_RUNTIME_DIR", folder);
        command.arg("serve").arg("--channel").arg(self.gui.channel());
        command.arg("--compositor").arg(socket).args(arguments);
        let command = self.gui.inside(command);
        self.serve = Some(Process::spawn("serve", command, &self.logs(), false));
    }

    /// The XDG_RUNTIME_DIR of `guest-agent serve`.
    pub fn serve_folder(&self) -> PathBuf {
        self.path("serve")
    }

    /// Starts a client VM: an agent that keeps its Wayland socket open until the desk ends.
    pub fn start_vm(&mut self, name: &str) {
        self.start_vm_with(name, "cat");
    }

    /// The same with another child, which has to answer each line with a line and to end with its stdin.
    pub fn start_vm_with(&mut self, name: &str, child: &str) {
        let machine = self.machine(name);
        let (mut command, folder) = self.agent(name, &*machine);
        if self.plan.lending.contains(&name) {
            command.arg("--zero-copy");
        }
        let stats = folder.join("stats.json");
        command.args(["--socket", "wayland-0", "--stats"]).arg(&stats).args(["--", child]);
        let command = machine.inside(command);
        let process = Process::spawn(&format!("run-{name}"), command, &self.logs(), true);
        self.vms.insert(name.to_owned(), Vm { machine, process, folder, stats, worker: None });
    }

    /// Ends a client VM.
    pub fn stop_vm(&mut self, name: &str) {
        let mut vm = self.vms.remove(name).expect("a VM of this desk");
        assert!(vm.process.finish().success(), "guest-agent run failed");
    }

    /// Runs an application in a client VM that isn't running, as its only one; how `guest-agent run` ended.
    pub fn run(&mut self, name: &str, application: &[&str]) -> ExitStatus {
        let machine = self.machine(name);
        let (mut command, _) = self.agent(name, &*machine);
        command.arg("--").args(application);
        let command = machine.inside(command);
        Process::spawn(&format!("run-{name}"), command, &self.logs(), false).wait()
    }

    /// A VM that the test plays itself.
    pub fn puppet(&self, name: &str) -> Puppet {
        self.puppet_with(name, Options::default())
    }

    /// The same with a driver like `options`.
    pub fn puppet_with(&self, name: &str, options: Options) -> Puppet {
        let is_by_hand = match self.by_hand {
            ByHand::None => false,
            ByHand::Compositor => name == "gui",
            ByHand::All => true,
        };
        assert!(is_by_hand, "{name} isn't played by hand on this desk");
        Puppet::start(&device(&self.folder, name), options)
    }

    /// A client VM.
    fn machine(&self, name: &str) -> Arc<dyn Machine> {
        self.channel.machine(device(&self.folder, name))
    }

    /// `guest-agent run` for a client VM, to be run in it, and the VM's XDG_RUNTIME_DIR.
    fn agent(&self, name: &str, machine: &dyn Machine) -> (Command, PathBuf) {
        let folder = self.path(&format!("vm-{name}"));
        fs::create_dir_all(&folder).expect("our own folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("our own folder");
        let mut command = self.command(binary("guest-agent"));
        command.env("XDG_RUNTIME_DIR", &folder);
        command.arg("run").arg("--channel").arg(machine.channel());
        (command, folder)
    }

    /// Waits until a client VM's Wayland socket takes connections.
    pub fn ready(&mut self, name: &str) {
        self.vms.get_mut(name).expect("a VM of this desk").ready();
    }

    /// Waits until a client is served on every way, then notes what there is, to be compared at the end.
    ///
    /// Everything that only happens once happens before. What client VMs keep for reuse, as their agents count it, may
    /// differ at the end; nothing else may.
    pub fn take_baseline(&mut self) {
        self.vms.values_mut().for_each(Vm::ready);
        self.warm_up();
        self.vms.keys().for_each(|name| Raw::connect(&self.through(name)).sync());
        let workers: Vec<_> =
            self.vms.keys().map(|name| self.status(name, "pid").try_into().ok()).collect();
        self.vms.values_mut().zip(workers).for_each(|(vm, worker)| vm.worker = worker);
        let mut ignored = Vec::new();
        if let Some(outer) = self.compositor.outer_mut() {
            // The inner one has as many buffers as it happened to need at once, and the outer one maps them.
            ignored.push(outer.process().id());
            ignored.push(self.compositor.process().id());
        }
        self.baseline = Some(self.leaks().but(&self.kept()).ignoring(ignored));
    }

    /// The memory that client VMs keep for reuse.
    fn kept(&mut self) -> Vec<Kept> {
        let kept = |vm: &mut Vm| {
            let worker = vm.worker.filter(|_| vm.process.running())?;
            let allocations = vm.stats("allocations") as usize;
            Some(Kept { agent: vm.holder(), worker, allocations })
        };
        self.vms.values_mut().filter_map(kept).collect()
    }

    /// The compositor's first client, and its first frame.
    fn warm_up(&self) {
        Raw::connect(&self.direct()).sync();
        if let Kind::Newer(_) = self.plan.compositor {
            // At the first window it opens what it draws its identifiers from.
            let open = || {
                let mut client = Client::connect(&self.direct())?;
                let window = client.toplevel("first")?;
                window.show(&client.buffer(1, 1));
                // As in `place`.
                client.until("the window's size", |state| state.wanted != (0, 0))?;
                client.roundtrip()
            };
            open().expect("a window on a fresh compositor");
            self.sway().empty();
        }
        let first = matches!(self.plan.compositor, Kind::Example(_)).then(|| {
            // Here it opens the fonts that it writes names with.
            let mut client = Client::connect(&self.direct()).expect("a client");
            let window = client.toplevel("first").expect("a window");
            window.show(&client.buffer(1, 1));
            client.roundtrip().expect("a window on a fresh compositor");
            client
        });
        if self.plan.compositor.has_picture() {
            self.screenshot();
        }
        drop(first);
    }

    /// Where the clients of this desk's [`Way`] connect.
    pub fn display(&self) -> Display {
        match self.way {
            Way::Direct => self.direct(),
            Way::Through => self.through("work"),
        }
    }

    /// The compositor's own socket.
    pub fn direct(&self) -> Display {
        Display::new(&self.gui, self.compositor.socket())
    }

    /// The socket in a client VM.
    pub fn through(&self, vm: &str) -> Display {
        let Vm { machine, folder, .. } = &self.vms[vm];
        let display = Display::new(machine, &folder.join("wayland-0"));
        if self.plan.lending.contains(&vm) { display.lending() } else { display }
    }

    /// The socket on the host of a client VM without an agent.
    pub fn dial(&self, vm: &str) -> Display {
        assert!(self.plan.dialling.contains(&vm), "{vm} has an agent");
        let path = device(&self.folder, vm);
        until("the socket of a VM", || UnixStream::connect(&path).ok());
        Display::here(&path)
    }

    /// Tells the child in a client VM a line; the line that it answers.
    pub fn tell(&mut self, vm: &str, line: &str) -> String {
        self.vms.get_mut(vm).expect("a VM of this desk").tell(line)
    }

    /// The names of all client VMs.
    pub fn vms(&self) -> &'static [&'static str] {
        self.plan.vms
    }

    /// The client VM that a display is in.
    pub fn vm_of(&self, display: &Display) -> Option<&Vm> {
        let is_it = |vm: &&str| self.through(vm).socket == display.socket;
        self.plan.vms.iter().copied().find(is_it).map(|vm| self.vm(vm))
    }

    /// A client VM.
    pub fn vm(&self, name: &str) -> &Vm {
        &self.vms[name]
    }

    /// The processes of ours that are on the way: each VM's agent and worker, and `serve`.
    pub fn ours(&self) -> Vec<(String, u32)> {
        let mut ours = self.agents();
        let gui = self.plan.compositor_vm.then_some("gui");
        for vm in self.vms.keys().map(String::as_str).chain(gui) {
            let id = u32::try_from(self.status(vm, "pid")).expect("a process id");
            ours.push((format!("worker-{vm}"), id));
        }
        ours
    }

    /// The agents, by name, and the processes that hold what they hold.
    fn agents(&self) -> Vec<(String, u32)> {
        let name = |process: &Process| process.name().to_owned();
        let runs = self.vms.values().map(|vm| (name(&vm.process), vm.holder()));
        let serve = self.serve.iter().map(|serve| (name(serve), self.gui.holder(serve)));
        runs.chain(serve).collect()
    }

    /// Plugs in one more output, with a scale of 2, on the right of the first.
    pub fn plug(&self) {
        self.compositor.plug();
    }

    /// Unplugs the last one; only [`Kind::Nested`] can.
    pub fn unplug(&self) {
        self.compositor.unplug();
    }

    /// The compositor.
    pub fn compositor(&mut self) -> &mut Compositor {
        &mut self.compositor
    }

    /// `wlproxy run`.
    pub fn proxy(&mut self) -> &mut Process {
        self.proxy.as_mut().expect("wlproxy was started")
    }

    /// Whether a window that floats is moved when it has acknowledged a configure with its own size. Who has left owing
    /// sway one makes all that is moved next wait for 200 ms.
    pub(crate) fn configures_the_placed(&self) -> bool {
        matches!(self.plan.compositor, Kind::Newer(_))
    }

    /// A new connection to sway's control socket.
    pub fn sway(&self) -> Sway {
        self.compositor.sway()
    }

    /// What our programs have warned of so far, or called an error.
    pub fn complaints(&self) -> Vec<String> {
        let agents = self.vms.values().map(|vm| &vm.process);
        let processes = agents.chain([&self.serve, &self.proxy].into_iter().flatten());
        let complains = |line: &&str| ["WARN", "ERROR"].iter().any(|word| line.contains(word));
        processes
            .flat_map(|process| {
                let log = process.log();
                let lines: Vec<_> = log.lines().filter(complains).map(str::to_owned).collect();
                lines
            })
            .collect()
    }

    /// What is on the screen now.
    pub fn screenshot(&self) -> Image {
        self.compositor.screenshot(&[])
    }

    /// The same with the mouse on it, also where that is drawn beside the picture.
    pub fn screenshot_with_mouse(&self) -> Image {
        self.compositor.screenshot(&["-c"])
    }

    /// What an example compositor shows now, and which windows these are.
    pub fn picture(&self) -> Picture {
        self.compositor.picture()
    }

    /// One number of a VM from `wlproxy status`, such as "requests".
    pub fn status(&self, vm: &str, key: &str) -> u64 {
        let status = self.whole_status();
        status["vms"][vm][key].as_u64().unwrap_or_else(|| panic!("no {key} of {vm} in {status}"))
    }

    /// Clients that wait for the compositor VM.
    pub fn pending(&self) -> u64 {
        self.whole_status()["pending"].as_u64().expect("a number")
    }

    /// All of `wlproxy status --json`.
    ///
    /// Waits until wlproxy listens: it may have been started a moment ago.
    pub fn whole_status(&self) -> Value {
        let socket = self.path("host/control.sock");
        until("wlproxy's control socket", || UnixStream::connect(&socket).ok());
        let mut command = self.wlproxy(&["status", "--json"]);
        serde_json::from_slice(&output(&mut command, PATIENCE)).expect("JSON")
    }

    /// Another wlproxy, which asks the one that runs.
    pub fn wlproxy(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(binary("wlproxy"));
        command.args(arguments).arg("--config").arg(self.config());
        command
    }

    /// A baseline of everything.
    ///
    /// Also of memory that is kept for reuse: what comes back to it has to need no more of it at once than what was
    /// there before.
    ///
    /// # Panics
    /// If not all of the desk can be counted.
    pub fn leaks(&self) -> Leaks {
        let leaks = Leaks::baseline(self.folder.path());
        let proxy = self.proxy.iter().map(|proxy| ("wlproxy".to_owned(), proxy.id()));
        let compositor = ("compositor".to_owned(), self.gui.holder(self.compositor.process()));
        for (name, id) in self.agents().into_iter().chain(proxy).chain([compositor]) {
            assert!(
                leaks.counts(id),
                "{name} (process {id}) has ended, or /proc/{id}/environ or /proc/{id}/fd can't be read: root without \
                 CAP_SYS_PTRACE, as in most containers, can't read those of the user who runs the compositor; run the \
                 tests with that capability, or not as root"
            );
        }
        leaks
    }

    /// The temporary directory of it all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that belongs to this desk.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env(MARKER, self.folder.path());
        command.env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or("info".into()));
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// Starts an unmodified application on `display`. It is killed at the end, or by [`Desk::close`].
    pub fn app(&mut self, display: &Display, name: &str, arguments: &[&str]) {
        let mut command = self.command(name);
        command.args(arguments);
        self.adopt(name, display.command(command), false);
    }

    /// Starts `command`, which belongs to this desk; `piped`: with pipes as stdin and stdout.
    pub fn adopt(&mut self, name: &str, command: Command, piped: bool) -> &mut Process {
        self.extras.push(Process::spawn(name, command, &self.logs(), piped));
        self.extras.last_mut().expect("just pushed")
    }

    /// The applications that were started, first to last.
    pub fn apps(&mut self) -> impl Iterator<Item = &mut Process> {
        self.extras.iter_mut()
    }

    /// Ends all applications that [`Desk::app`] has started.
    pub fn close(&mut self) {
        for app in &mut self.extras {
            app.terminate();
        }
        self.extras.clear();
    }

    /// Kills them instead.
    pub fn kill_apps(&mut self) {
        // Killed and reaped as they are dropped.
        self.extras.clear();
    }

    /// Writes other policies into the configuration, of which wlproxy isn't told.
    pub fn rewrite_config(&mut self, policies: &'static [(&'static str, &'static str)]) {
        self.plan.policies = policies;
        fs::write(self.config(), self.config_text()).expect("a file in our own folder");
    }

    /// `wlproxy reload`, which has to succeed; what it says.
    pub fn reload(&self) -> String {
        let said = output(&mut self.wlproxy(&["reload"]), PATIENCE);
        String::from_utf8(said).expect("text")
    }

    fn config(&self) -> PathBuf {
        self.path("wlproxy.toml")
    }

    fn config_text(&self) -> String {
        let mut text = format!("runtime_dir = {:?}\n", self.path("host"));
        if let Some(isolation) = self.plan.isolation {
            let _ = writeln!(text, "isolation = {isolation:?}");
        }
        text += "[compositor]\n";
        let _ = match self.plan.compositor_vm {
            true => writeln!(text, "vm = \"gui\"\n[vm.gui]"),
            false => writeln!(text, "socket = {:?}", self.compositor.socket()),
        };
        for vm in self.plan.vms {
            let _ = writeln!(text, "[vm.{vm}]");
            self.write_policy(vm, &mut text);
        }
        for vm in self.plan.dialling {
            let _ = writeln!(text, "[vm.{vm}]\ndevice = \"socket\"");
            self.write_policy(vm, &mut text);
        }
        text
    }

    fn write_policy(&self, vm: &str, text: &mut String) {
        if let Some((_, lines)) = self.plan.policies.iter().find(|(name, _)| *name == vm) {
            *text += &format!("{lines}\n");
        }
        if !self.plan.allow.is_empty() {
            let _ = writeln!(text, "[vm.{vm}.globals]\nallow = {:?}", self.plan.allow);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder with the log of each process.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Ends everything in order; what went wrong.
    fn stop(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ended = |process: &mut Process, end: fn(&mut Process) -> ExitStatus| {
            let status = end(process);
            if !status.success() {
                wrong.push(format!("{} ended with {status}", process.name()));
            }
        };
        self.vms.values_mut().for_each(|vm| ended(&mut vm.process, Process::finish));
        let others = [&mut self.serve, &mut self.proxy].into_iter().flatten();
        others.for_each(|process| ended(process, Process::terminate));
        // A test may have another instead.
        if self.compositor.was_started() {
            ended(self.compositor.process_mut(), Process::terminate);
        }
        if let Some(outer) = self.compositor.outer_mut() {
            ended(outer.process_mut(), Process::terminate);
        }
        let left = Leaks::after_all(self.folder.path()).find();
        wrong.extend(left.into_iter().map(|left| format!("left at the end: {left}")));
        wrong
    }

    fn show_logs(&self) {
        let mut paths: Vec<_> =
            fs::read_dir(self.logs()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let tail = Process::tail(&path).unwrap_or_default();
            eprintln!("---- {} ----\n{tail}", path.file_name().unwrap_or_default().display());
        }
        eprintln!("---- there was ----\n{:#?}", Count::take(self.folder.path()));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
            // Our own children are killed as the fields are dropped; this is for theirs.
            return leak::kill(self.folder.path());
        }
        self.close();
        let mut wrong = Vec::new();
        if let Some(baseline) = self.baseline.take() {
            let found = baseline.find_but(|| self.kept());
            wrong.extend(found.into_iter().map(|found| format!("left by clients: {found}")));
        }
        wrong.extend(self.stop());
        if !wrong.is_empty() {
            self.show_logs();
            panic!("{}", wrong.join("; "));
        }
    }
}

/// The vhost-user socket of a VM of the desk in `folder`.
fn device(folder: &TempDir, vm: &str) -> PathBuf {
    folder.path().join(format!("host/{vm}.sock"))
}
