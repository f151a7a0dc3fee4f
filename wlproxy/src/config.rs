//! The configuration file of `wlproxy`: TOML, checked whole before anything starts. dist/wlproxy.example.toml explains
//! every key.
//!
//! ```toml
//! runtime_dir = "/run/user/1000/wlproxy"   # default: $XDG_RUNTIME_DIR/wlproxy; made if missing
//! isolation = "process"                    # or "none": all workers are threads of wlproxy
//! metrics = "/run/user/1000/wlproxy/metrics.sock"  # where Prometheus asks; default: nowhere
//!
//! [compositor]                             # exactly one of:
//! vm = "gui"                               # a compositor VM
//! # socket = "/run/user/1000/wayland-0"    # a compositor on the host
//!
//! [vm.gui]                                 # one table per VM
//! [vm.work]
//! socket = "/path/work.sock"               # its vhost-user socket; default: NAME.sock in runtime_dir
//! window = "8 GiB"                         # address space for allocations: a power of two
//! device = "virtio_wl"                     # or "virtgpu", "socket": which device the VM has
//!
//! title_prefix = "[work] "                 # before the titles of its windows; "" for none
//! app_id_prefix = "work."                  # and before their app ids
//!
//! [vm.work.globals]                        # which of the compositor's globals its clients are offered
//! allow = ["zwlr_layer_shell_v1"]          # privileged ones that they are
//! deny = ["zwp_idle_inhibit_manager_v1"]   # others that they are not
//! max_version = { wl_output = 3 }
//!
//! [vm.work.quota]                          # what each of its clients may have at once
//! windows = 500                            # and objects, binds, surfaces, nesting, buffers, buffer_side and so on
//! connections = 1024                       # and all of them together: also vfds, memory_mib
//! connections_per_second = 1000            # and how fast: also messages_per_second
//!
//! [vm.gui.quota]                           # of the compositor VM: what may wait there for each client that doesn't read
//! events_kib = 1024
//!
//! [vm.work.selections]                     # what its clients may copy to others, and paste from them
//! give = ["clipboard", "drag"]             # to others
//! take = ["clipboard"]                     # from others
//! types = ["text/*", "image/png"]          # of these types; and bytes of each, and rate of all
//! ```

mod check;
mod difference;
mod error;
mod globals;
mod identity;
mod keys;
mod quota;
mod selections;
mod vm_quota;
mod window;

pub use error::Error;
pub use keys::{KEYS, Key, Kind};

use crate::device::{self, Side};
use crate::policy::Policy;
use error::Place;
use globals::GlobalsTable;
use quota::QuotaTable;
use selections::SelectionsTable;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};
use wlproxy_protocol::limits::MAX_VM_NAME;

/// Most VMs in one configuration: more than a desktop has, and few enough that a status of all has a MiB or so at most.
pub const MAX_VMS: usize = 64;

/// Longest path of a socket, in bytes (Linux, `sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// Whether each worker is a process of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// One process per VM.
    #[default]
    Process,
    /// All workers are threads of wlproxy: a hop less, and no wall between the VMs' memories.
    None,
}

/// Where the Wayland compositor runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compositor {
    /// In the VM of this name.
    Vm(String),
    /// On the host, listening here.
    Socket(PathBuf),
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// 1 to [`MAX_VM_NAME`] bytes of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Whether it is the compositor VM.
    pub side: Side,
    /// Its vhost-user socket, made by wlproxy.
    pub socket: PathBuf,
    /// Size of its window, in bytes.
    pub window: u64,
    /// Which device it has.
    pub device: device::Kind,
    /// What its clients may do. Of the compositor VM, what may wait there for who doesn't read.
    pub policy: Policy,
}

/// A configuration that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the control socket is, and the VMs' sockets unless they say otherwise.
    pub runtime_dir: PathBuf,
    /// Whether each worker is a process of its own.
    pub isolation: Isolation,
    /// The socket that is scraped for metrics, if there is one.
    pub metrics: Option<PathBuf>,
    /// Where clients go.
    pub compositor: Compositor,
    /// All VMs, sorted by name.
    pub vms: Vec<Vm>,
}

/// The file as it is; [`KEYS`] has the same keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    runtime_dir: Option<Spanned<PathBuf>>,
    isolation: Option<Spanned<String>>,
    metrics: Option<Spanned<PathBuf>>,
    compositor: Option<Spanned<CompositorTable>>,
    #[serde(default)]
    vm: BTreeMap<Spanned<String>, VmTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompositorTable {
    vm: Option<Spanned<String>>,
    socket: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmTable {
    socket: Option<Spanned<PathBuf>>,
    window: Option<Spanned<String>>,
    device: Option<Spanned<String>>,
    title_prefix: Option<Spanned<String>>,
    app_id_prefix: Option<Spanned<String>>,
    globals: Option<Spanned<GlobalsTable>>,
    quota: Option<Spanned<QuotaTable>>,
    selections: Option<Spanned<SelectionsTable>>,
}

impl Config {
    /// Reads `path`. The default of `runtime_dir` comes from `XDG_RUNTIME_DIR`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let text = text(path, &bytes)?;
        let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self::parse(text, path, xdg.as_deref())
    }

    /// Checks `text`. `path` is for messages, `xdg_runtime_dir` for the default of `runtime_dir`.
    pub fn parse(text: &str, path: &Path, xdg_runtime_dir: Option<&Path>) -> Result<Self, Error> {
        let place = Place { path, text };
        let tables = DeTable::parse(text).map_err(|error| place.no_toml(&error))?;
        check::check(&place, tables.get_ref())?;
        let document = Document::deserialize(Deserializer::from(tables))
            .map_err(|error| place.no_toml(&error))?;
        let runtime_dir = runtime_dir(&place, document.runtime_dir, xdg_runtime_dir)?;
        let isolation = isolation(&place, document.isolation)?;
        let compositor = compositor(&place, document.compositor.as_ref(), &document.vm)?;
        let mut taken = Sockets::default();
        taken.take(control_socket(&runtime_dir), "wlproxy's control socket".to_owned());
        let metrics = metrics(&place, document.metrics, &mut taken)?;
        let vms = vms(&place, document.vm, &runtime_dir, &compositor, taken)?;
        Ok(Self { runtime_dir, isolation, metrics, compositor, vms })
    }

    /// The compositor VM's device. One on the host has none, and it doesn't matter.
    pub fn compositor_device(&self) -> device::Kind {
        let compositor = self.vms.iter().find(|vm| vm.side == Side::Compositor);
        compositor.map_or_else(device::Kind::default, |vm| vm.device)
    }

    /// Where wlproxy's sockets are: it makes and removes files nowhere else.
    pub fn directories(&self) -> Vec<&Path> {
        let vms = self.vms.iter().filter_map(|vm| vm.socket.parent());
        let metrics = self.metrics.iter().filter_map(|path| path.parent());
        let mut all: Vec<&Path> =
            [self.runtime_dir.as_path()].into_iter().chain(vms).chain(metrics).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where `wlproxy status` asks.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.runtime_dir)
    }
}

fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(bytes);
        // What comes before is the same in both.
        let end = error.valid_up_to();
        let place = Place { path, text: &text };
        let byte = bytes[end];
        place
            .spoilt(end..end, &format!("the byte 0x{byte:02X} is no UTF-8; save the file as UTF-8"))
    })
}

fn control_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

fn runtime_dir(
    place: &Place<'_>,
    given: Option<Spanned<PathBuf>>,
    xdg_runtime_dir: Option<&Path>,
) -> Result<PathBuf, Error> {
    if let Some(given) = given {
        absolute(place, "runtime_dir", &given)?;
        return Ok(given.into_inner());
    }
    match xdg_runtime_dir {
        Some(xdg) if xdg.is_absolute() => Ok(xdg.join("wlproxy")),
        _ => Err(place.error(
            0..0,
            "runtime_dir: XDG_RUNTIME_DIR is not set, so there is no default; \
             add e.g. runtime_dir = \"/run/wlproxy\"",
        )),
    }
}

fn isolation(place: &Place<'_>, given: Option<Spanned<String>>) -> Result<Isolation, Error> {
    let Some(given) = given else { return Ok(Isolation::default()) };
    match given.get_ref().as_str() {
        "process" => Ok(Isolation::Process),
        "none" => Ok(Isolation::None),
        other => Err(place.error(
            given.span(),
            format!("isolation: there is no {other:?}; write \"process\" or \"none\""),
        )),
    }
}

/// All sockets that wlproxy makes, and what each is.
#[derive(Default)]
struct Sockets(BTreeMap<PathBuf, String>);

impl Sockets {
    /// Takes a path; returns what has it already.
    fn take(&mut self, path: PathBuf, what: String) -> Option<String> {
        self.0.insert(path, what)
    }
}

fn metrics(
    place: &Place<'_>,
    given: Option<Spanned<PathBuf>>,
    taken: &mut Sockets,
) -> Result<Option<PathBuf>, Error> {
    let Some(given) = given else { return Ok(None) };
    absolute(place, "metrics", &given)?;
    short(place, given.span(), "metrics", given.get_ref())?;
    if let Some(other) = taken.take(given.get_ref().clone(), "the metrics socket".to_owned()) {
        let shown = given.get_ref().display();
        return Err(place.error(
            given.span(),
            format!("metrics: {shown} is also {other}; choose another path"),
        ));
    }
    Ok(Some(given.into_inner()))
}

fn compositor(
    place: &Place<'_>,
    table: Option<&Spanned<CompositorTable>>,
    vms: &BTreeMap<Spanned<String>, VmTable>,
) -> Result<Compositor, Error> {
    let Some(table) = table else {
        return Err(place.error(
            0..0,
            "compositor: the table is missing; add [compositor], and in it e.g. vm = \"gui\"",
        ));
    };
    match (&table.get_ref().vm, &table.get_ref().socket) {
        (Some(vm), None) if vms.contains_key(vm.get_ref().as_str()) => {
            Ok(Compositor::Vm(vm.get_ref().clone()))
        }
        (Some(vm), None) => {
            let name = vm.get_ref();
            Err(place.error(
                vm.span(),
                format!(
                    "compositor.vm: there is no VM {name:?}; add a table [vm.{name}] or name another"
                ),
            ))
        }
        (None, Some(socket)) => {
            absolute(place, "compositor.socket", socket)?;
            short(place, socket.span(), "compositor.socket", socket.get_ref())?;
            Ok(Compositor::Socket(socket.get_ref().clone()))
        }
        (vm, _) => {
            let found = if vm.is_some() { "both are there" } else { "none is there" };
            Err(place.error(
                table.span(),
                format!("compositor: give exactly one of vm and socket; {found}"),
            ))
        }
    }
}

fn vms(
    place: &Place<'_>,
    tables: BTreeMap<Spanned<String>, VmTable>,
    runtime_dir: &Path,
    compositor: &Compositor,
    mut taken: Sockets,
) -> Result<Vec<Vm>, Error> {
    if !(1..=MAX_VMS).contains(&tables.len()) {
        let found = tables.len();
        return Err(place.error(
            0..0,
            format!("vm: {found} VMs; there must be 1 to {MAX_VMS} tables [vm.NAME]"),
        ));
    }
    let mut vms = Vec::with_capacity(tables.len());
    let mut names = Vec::with_capacity(tables.len());
    for (name, table) in tables {
        let vm = vm(place, &name, table, runtime_dir, compositor)?;
        if let Some(other) = taken.take(vm.socket.clone(), format!("the socket of VM {}", vm.name))
        {
            return Err(place.error(
                name.span(),
                format!(
                    "vm.{}.socket: {} is also {other}; give each its own",
                    vm.name,
                    vm.socket.display()
                ),
            ));
        }
        vms.push(vm);
        names.push(name);
    }
    identity::apart(place, &vms, &names)?;
    Ok(vms)
}

fn vm(
    place: &Place<'_>,
    name: &Spanned<String>,
    table: VmTable,
    runtime_dir: &Path,
    compositor: &Compositor,
) -> Result<Vm, Error> {
    let (span, name) = (name.span(), name.get_ref());
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=MAX_VM_NAME).contains(&name.len()) || !name.bytes().all(valid) {
        return Err(place.error(
            span,
            format!(
                "vm: {name:?} is no VM name; use 1 to {MAX_VM_NAME} bytes of A-Z a-z 0-9 . _ -"
            ),
        ));
    }
    let key = format!("vm.{name}.socket");
    let (span, socket) = match &table.socket {
        Some(socket) => {
            absolute(place, &key, socket)?;
            (socket.span(), socket.get_ref().clone())
        }
        None => (span, runtime_dir.join(format!("{name}.sock"))),
    };
    short(place, span, &key, &socket)?;
    let window = match &table.window {
        None => window::DEFAULT,
        Some(given) => window::parse(given.get_ref())
            .map_err(|why| place.error(given.span(), format!("vm.{name}.window: {why}")))?,
    };
    let device = match &table.device {
        None => device::Kind::default(),
        Some(given) => device::Kind::from_name(given.get_ref()).ok_or_else(|| {
            let (other, names) = (given.get_ref(), device::Kind::NAMES);
            let why = format!("there is no {other:?}; write {names}");
            place.error(given.span(), format!("vm.{name}.device: {why}"))
        })?,
    };
    let side = match compositor {
        Compositor::Vm(vm) if vm == name => Side::Compositor,
        _ => Side::Client,
    };
    let policy = policy(place, name, side, &table, window)?;
    Ok(Vm { name: name.clone(), side, socket, window, device, policy })
}

fn policy(
    place: &Place<'_>,
    vm: &str,
    side: Side,
    table: &VmTable,
    window: u64,
) -> Result<Policy, Error> {
    let VmTable { title_prefix, app_id_prefix, globals, quota, selections, .. } = table;
    if side == Side::Compositor {
        let given = [
            ("globals", globals.as_ref().map(Spanned::span)),
            ("selections", selections.as_ref().map(Spanned::span)),
            ("title_prefix", title_prefix.as_ref().map(Spanned::span)),
            ("app_id_prefix", app_id_prefix.as_ref().map(Spanned::span)),
        ];
        for (key, span) in given {
            if let Some(span) = span {
                let why = format!("{vm} is the compositor VM, which has none; delete it");
                return Err(place.error(span, format!("vm.{vm}.{key}: {why}")));
            }
        }
        let mut policy = Policy::of_compositor();
        if let Some(table) = quota {
            let key = format!("vm.{vm}.quota");
            policy.vm_quota = vm_quota::of_compositor(place, &key, table.get_ref())?;
        }
        return Ok(policy);
    }
    let mut policy = Policy::of(vm);
    if let Some(globals) = globals {
        let key = format!("vm.{vm}.globals");
        policy.offer = Arc::new(globals::offer(place, &key, globals.get_ref())?);
    }
    policy.vm_quota = vm_quota::default(window);
    if let Some(table) = quota {
        let key = format!("vm.{vm}.quota");
        policy.quota = quota::quota(place, &key, table.get_ref())?;
        policy.vm_quota = vm_quota::vm_quota(place, &key, table.get_ref(), policy.vm_quota)?;
    }
    if let Some(table) = selections {
        let key = format!("vm.{vm}.selections");
        policy.selections = Arc::new(selections::selections(place, &key, table.get_ref())?);
    }
    let identity = identity::identity(place, vm, title_prefix.as_ref(), app_id_prefix.as_ref())?;
    policy.identity = Arc::new(identity);
    Ok(policy)
}

fn absolute(place: &Place<'_>, key: &str, path: &Spanned<PathBuf>) -> Result<(), Error> {
    if path.get_ref().is_absolute() {
        return Ok(());
    }
    let shown = path.get_ref().display();
    Err(place
        .error(path.span(), format!("{key}: {shown:?} is relative; give the whole path, from /")))
}

fn short(
    place: &Place<'_>,
    span: std::ops::Range<usize>,
    key: &str,
    path: &Path,
) -> Result<(), Error> {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(place.error(
        span,
        format!(
            "{key}: {} has {length} bytes, a socket's path may have {MAX_SOCKET_PATH}; \
             choose a shorter runtime_dir or socket",
            path.display()
        ),
    ))
}

#[cfg(test)]
mod tests;
