//! `wlproxy run`: the small process that starts the workers, keeps them running, and joins their streams.
//!
//! It holds no VM's memory and sees no byte of Wayland that a worker relays. One thread, one event loop; nothing in it
//! waits for a worker.

use crate::ask::{self, Ask, Refusal, Reloaded};
use crate::config::{Config, Isolation};
use crate::control::{HostControl, Received, Request};
use crate::device::Side;
use crate::device::opener::OpenError;
use crate::launch::Home;
use crate::links::{HasLinks, Links};
use crate::metrics;
use crate::sandbox;
use crate::services::{HasServices, Service, Services};
use crate::slot::{Slot, apart, client_with};
use crate::sockets::{Listening, RuntimeDir};
use crate::status::{CompositorStatus, Status};
use anyhow::{Context as _, Result};
use calloop::generic::Generic;
use calloop::signals::{Signal, Signals};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use nix::sys::stat::{Mode as FileMode, umask};
use sd_notify::NotifyState;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// How long workers may take to end when they are asked to; then they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long a killed worker may take to be gone; then wlproxy ends without it.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// Most messages taken from one worker before others get their turn.
const MESSAGES_PER_TURN: usize = 32;

/// What the event loop works on.
struct Supervisor {
    /// As it was at the start. The VMs' policies of now are in the slots.
    config: Config,
    /// Where it was read.
    file: PathBuf,
    /// The filter of the workers' logs.
    log: String,
    handle: LoopHandle<'static, Self>,
    links: Links<Self>,
    home: Home,
    slots: Vec<Slot>,
    services: Services<Self>,
    stopping: Option<Stopping>,
}

/// wlproxy was asked to end.
struct Stopping {
    until: Instant,
    killed: bool,
}

impl HasLinks for Supervisor {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

impl HasServices for Supervisor {
    fn services(&mut self) -> &mut Services<Self> {
        &mut self.services
    }

    fn answer(&mut self, service: Service, question: &[u8], asker: &UnixStream) -> Option<Vec<u8>> {
        match service {
            Service::Control => Some(match Ask::parse(question)? {
                Ok(Ask::Status) => ask::line(&self.status()),
                Ok(Ask::Trace { vm, connection }) => {
                    match self.trace(vm.as_deref(), connection, asker) {
                        Ok(()) => Vec::new(),
                        Err(error) => Refusal::line(error),
                    }
                }
                Ok(Ask::Reload) => match self.reload() {
                    Ok(reloaded) => ask::line(&reloaded),
                    Err(error) => Refusal::line(error),
                },
                Err(refusal) => refusal,
            }),
            Service::Metrics => metrics::answer(question, || self.status()),
        }
    }
}

/// Runs until SIGTERM or SIGINT, with the configuration in `file`. `log` is the filter for the workers' logs; `sandbox`:
/// wlproxy and its workers are shut in.
pub fn run(file: &Path, log: &str, sandbox: bool) -> Result<()> {
    let config = Config::load(file)?;
    // Sockets are this user's alone, wherever the configuration puts them.
    umask(FileMode::S_IRWXG | FileMode::S_IRWXO);
    raise_fd_limit();
    let _claim = RuntimeDir::claim(&config.runtime_dir)?;
    let mut events = EventLoop::<Supervisor>::try_new().context("can't make an event loop")?;
    let handle = events.handle();
    // Before any thread is started, so that all of them leave these signals alone.
    watch_signals(&handle)?;
    let mut services = Services::new(handle.clone());
    services.listen(Service::Control, Listening::bind(&config.control_socket())?)?;
    if let Some(path) = &config.metrics {
        services.listen(Service::Metrics, Listening::bind(path)?)?;
    }
    let now = Instant::now();
    let slots = config.vms.iter().map(|vm| Slot::new(vm.clone(), now));
    let mut supervisor = Supervisor {
        slots: slots.collect::<Result<_>>()?,
        links: Links::new(config.compositor.clone(), config.compositor_device(), handle.clone()),
        home: Home::new(config.isolation, sandbox),
        config,
        file: file.to_owned(),
        log: log.to_owned(),
        handle,
        services,
        stopping: None,
    };
    if supervisor.config.isolation == Isolation::None {
        warn!("isolation = \"none\": all VMs' memories are in this one process");
    }
    if sandbox {
        sandbox::enter_wlproxy(&supervisor.config.directories())
            .context("wlproxy isn't shut in, so it ends")?;
    } else {
        warn!("--no-sandbox: a VM that takes over its worker can do what this user can");
    }
    info!(vms = supervisor.slots.len(), runtime_dir = %supervisor.config.runtime_dir.display(), "wlproxy runs");
    // All sockets are there: the VMs' monitors may start.
    tell_systemd(NotifyState::Ready);
    while let Some(timeout) = supervisor.tick(Instant::now()) {
        events.dispatch(timeout, &mut supervisor).context("the event loop failed")?;
    }
    info!("wlproxy ends");
    Ok(())
}

/// Tells systemd, if it is who has started us.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "can't tell systemd");
    }
}

/// Every client that waits costs an fd.
fn raise_fd_limit() {
    if let Err(error) = wlproxy_unix::fd_limit::raise() {
        warn!(%error, "can't raise the limit of open files");
    }
}

fn watch_signals(handle: &LoopHandle<'static, Supervisor>) -> Result<()> {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD];
    let source = Signals::new(&signals).context("can't take signals")?;
    let inserted = handle.insert_source(source, |event, (), supervisor| match event.signal() {
        Signal::SIGCHLD => supervisor.look_for_dead_workers(),
        // The log tells.
        Signal::SIGHUP => drop(supervisor.reload()),
        signal => supervisor.stop(&format!("{signal:?}")),
    });
    inserted.map(drop).map_err(|error| error.error).context("can't take signals")
}

fn watch_worker(
    handle: &LoopHandle<'static, Supervisor>,
    index: usize,
    control: Rc<HostControl>,
) -> Result<RegistrationToken> {
    let source = Generic::new(control, Interest::READ, Mode::Level);
    let inserted = handle.insert_source(source, move |_, _, supervisor| {
        supervisor.read_worker(index);
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| error.error).context("can't watch the worker's control socket")
}

impl Supervisor {
    /// Does what is due; returns how long to sleep at most. `None`: wlproxy is done.
    fn tick(&mut self, now: Instant) -> Option<Option<Duration>> {
        let mut deadlines = vec![self.links.tick(now), self.services.tick(now)];
        self.reap(now);
        self.cut_late(now);
        if let Some(stopping) = &mut self.stopping {
            let over = stopping.until <= now;
            if self.slots.iter().all(Slot::is_down) || over && stopping.killed {
                return None;
            }
            if over {
                *stopping = Stopping { until: now + KILL_PATIENCE, killed: true };
                self.slots.iter_mut().for_each(Slot::kill);
            }
            deadlines.push(Some(stopping.until));
        } else {
            self.start_workers(now);
        }
        let stopping = self.stopping.is_some();
        let slots = self.slots.iter().filter(|slot| !(stopping && slot.is_down()));
        deadlines.extend(slots.map(|slot| slot.deadline(now)));
        let earliest = deadlines.into_iter().flatten().min();
        Some(earliest.map(|at| at.saturating_duration_since(now)))
    }

    fn start_workers(&mut self, now: Instant) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let watch = |control| watch_worker(&self.handle, index, control);
            if let Err(error) = slot.start(&self.home, &self.log, now, watch) {
                error!(vm = slot.vm.name, "{error:#}; trying again later");
            }
        }
    }

    /// Takes what a worker says.
    fn read_worker(&mut self, index: usize) {
        for _ in 0..MESSAGES_PER_TURN {
            let slot = &mut self.slots[index];
            let Some(control) = slot.control() else { return };
            match control.receive() {
                Ok(Received::Message(Request::Open { ticket, target }, None)) => {
                    let result = match slot.admits(Instant::now()) {
                        true => self.links.open(&slot.vm.name, slot.vm.side, target),
                        false => Err(OpenError::Limit),
                    };
                    if let Err(error) = control.answer(&slot.vm.name, ticket, result) {
                        return self
                            .cut(index, Some(&format!("it doesn't take its answers: {error}")));
                    }
                }
                Ok(Received::Message(Request::Stats(counters), None)) => {
                    if !slot.handle_counters(*counters) {
                        return self.cut(index, Some("it lists more than it may"));
                    }
                }
                Ok(Received::Message(Request::Connected(connected), None)) => {
                    slot.handle_connected(connected)
                }
                Ok(Received::Message(Request::TraceTaken, None)) => {
                    if !slot.handle_trace_taken() {
                        return self.cut(index, Some("it takes what it wasn't given"));
                    }
                }
                Ok(Received::Message(Request::PolicyTaken, None)) => {
                    if !slot.handle_policy_taken(Instant::now()) {
                        return self.cut(index, Some("it takes a policy that it wasn't sent"));
                    }
                }
                Ok(Received::Message(_, Some(_)) | Received::Lost(_)) => {
                    return self.cut(index, Some("it sends a file descriptor"));
                }
                Ok(Received::WouldBlock) => return,
                Ok(Received::Eof) => return self.cut(index, None),
                Err(error) => return self.cut(index, Some(&error.to_string())),
            }
        }
    }

    /// Ends a worker: for a fault of its own, or because it ends anyway.
    fn cut(&mut self, index: usize, fault: Option<&str>) {
        let slot = &mut self.slots[index];
        if let Some(fault) = fault {
            error!(vm = slot.vm.name, fault, "the worker misbehaves: killed");
        }
        if let Some(watch) = slot.cut(Instant::now(), fault.is_some()) {
            self.handle.remove(watch);
            if slot.vm.side == Side::Compositor {
                self.links.compositor_worker_ended();
            }
        }
    }

    /// Ends workers that don't take their policies: clients of theirs would go on to come under those of before.
    fn cut_late(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            if self.slots[index].is_late(now) {
                // It may have taken them, and said so.
                self.read_worker(index);
                if self.slots[index].is_late(now) {
                    self.cut(index, Some("it doesn't take its policies"));
                }
            }
        }
    }

    /// A child died: some worker's process.
    fn look_for_dead_workers(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].has_ended_unseen() {
                // What it said last stands in its socket; the end of that comes after.
                self.read_worker(index);
                self.cut(index, None);
            }
        }
        self.reap(Instant::now());
    }

    fn reap(&mut self, now: Instant) {
        for slot in &mut self.slots {
            let Some(how) = slot.reap(now) else { continue };
            match &self.stopping {
                Some(_) => debug!(vm = slot.vm.name, how, "the worker ended"),
                None => warn!(vm = slot.vm.name, how, "the worker died: it is started again"),
            }
        }
    }

    /// Asks everything to end. Asked again, it doesn't wait for the workers any more.
    fn stop(&mut self, signal: &str) {
        let now = Instant::now();
        if let Some(stopping) = &mut self.stopping {
            stopping.until = now;
            return;
        }
        info!(signal, "asked to end");
        tell_systemd(NotifyState::Stopping);
        self.stopping = Some(Stopping { until: now + STOP_PATIENCE, killed: false });
        self.slots.iter_mut().for_each(Slot::ask_to_end);
    }

    /// Gives the asker's socket to the worker that relays a connection: no byte of a trace passes through here.
    fn trace(
        &mut self,
        vm: Option<&str>,
        connection: u64,
        asker: &UnixStream,
    ) -> Result<(), String> {
        let slot = match vm {
            Some(vm) => self
                .slots
                .iter_mut()
                .find(|slot| slot.name() == vm)
                .ok_or_else(|| format!("there is no VM {vm}; `wlproxy status` shows all"))?,
            None => client_with(&mut self.slots, connection)?,
        };
        if slot.vm.side == Side::Compositor {
            return Err(format!(
                "{} is the compositor VM; a connection is traced at its client VM",
                slot.name()
            ));
        }
        slot.trace(connection, asker).map_err(|why| format!("VM {}: {why}", slot.name()))
    }

    /// Reads the configuration again. Clients that come from now on have the policies in it, all of them or, if there is an
    /// error, none.
    fn reload(&mut self) -> Result<Reloaded, String> {
        let reloaded = self.try_reload().inspect_err(|error| {
            error!(error, "the configuration is not taken over: the policies stay as they were");
        })?;
        let Reloaded { policies, connections, waits, .. } = &reloaded;
        info!(?policies, connections, "the configuration was read again");
        if !waits.is_empty() {
            warn!(?waits, "not all of it holds before wlproxy is started again");
        }
        Ok(reloaded)
    }

    fn try_reload(&mut self) -> Result<Reloaded, String> {
        // One line, as answers are.
        let in_line = |text: String| text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let config = Config::load(&self.file).map_err(|error| in_line(error.to_string()))?;
        let mut changed = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let new = config.vm(slot.name()).map(|vm| &vm.policy);
            if let Some(policy) = new.filter(|&policy| *policy != slot.vm.policy) {
                changed.push((index, policy.clone()));
            }
        }
        for (index, policy) in &changed {
            let slot = &self.slots[*index];
            slot.has_room_for_policy(policy).map_err(|why| format!("VM {}: {why}", slot.name()))?;
            apart(slot.name(), &policy.identity, &self.slots)?;
        }
        let (mut policies, mut connections, now) = (Vec::new(), 0, Instant::now());
        for (index, policy) in changed {
            let slot = &mut self.slots[index];
            policies.push(slot.name().to_owned());
            if slot.vm.side == Side::Client {
                connections += slot.connections();
            }
            if let Err(error) = slot.set_policy(policy, now) {
                self.cut(index, Some(&format!("it doesn't take its policy: {error}")));
            }
        }
        let waits = self.config.fixed_differences(&config);
        Ok(Reloaded { reloaded: self.file.clone(), policies, connections, waits })
    }

    fn status(&self) -> Status {
        let compositor = CompositorStatus::new(&self.config.compositor, self.links.is_ready());
        let vms = self.slots.iter().map(|slot| (slot.name().to_owned(), slot.status()));
        Status::new(compositor, self.links.pending(), vms.collect())
    }
}
