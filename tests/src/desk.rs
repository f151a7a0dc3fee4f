//! The whole: a compositor, `serve`, `wlproxy` and client VMs in one temporary directory.

mod count;
mod end;
mod host;
mod part;
mod plan;

pub use part::Part;
pub use plan::{Plan, Way};

use crate::binaries::binary;
use crate::leak::MARKER;
use crate::machine::{Channel, Machine};
use crate::process::Process;
use crate::sanitizer;
use crate::wait::until;
use crate::{Compositor, Display, Image, Kind, Leaks, Picture, Puppet, Sway, Vm};
use guest_agent::channel::process::Options;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use tempfile::TempDir;

/// Where desks are.
const PLACE: &str = "/tmp";

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
        self.write_config();
        let mut command = self.command(binary("wlproxy"));
        command.arg("run").arg("--config").arg(self.config()).args(sanitizer::arguments());
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
        sanitizer::configure(&mut command);
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

    fn config(&self) -> PathBuf {
        self.path("wlproxy.toml")
    }

    fn write_config(&self) {
        let text = self.plan.config(&self.path("host"), self.compositor.socket());
        fs::write(self.config(), text).expect("a file in our own folder");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder with the log of each process.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }
}

/// The vhost-user socket of a VM of the desk in `folder`.
fn device(folder: &TempDir, vm: &str) -> PathBuf {
    folder.path().join(format!("host/{vm}.sock"))
}
