//! One VM's slot in wlproxy: its socket, and its worker while it lives, dies and comes back.

use crate::ask::{self, Tracing};
use crate::backoff::Backoff;
use crate::bucket::Bucket;
use crate::config::Vm;
use crate::control::{HostControl, MAX_POLICY_ORDERS, MAX_TRACE_ORDERS, Order};
use crate::counters::Snapshot;
use crate::device::Side;
use crate::launch::{Home, Running, launch};
use crate::policy::{Identity, Policy};
use crate::sockets::Listening;
use crate::status::{VmStatus, side_name};
use anyhow::Result;
use calloop::RegistrationToken;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long a worker that closed its control socket may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// How long a worker that was sent new policies may go without taking one. It does nothing but listen, so it takes them
/// within milliseconds; until it has, its clients may get the old ones, and [`MAX_POLICY_ORDERS`] hold up reloads.
const POLICY_PATIENCE: Duration = Duration::from_secs(5);

/// Most identities that clients of one worker may have: as many reloads as change a prefix in one day's work. The next such
/// reload has to wait until the VM has no clients, or wlproxy is started again.
const MAX_WORN: usize = 64;

/// How often a worker thread that ends is looked at: no signal tells when it has.
const THREAD_PERIOD: Duration = Duration::from_millis(10);

/// A VM, and its worker. The event loop's side is the supervisor's.
///
/// A worker is down, then up, then ending, then down again. It is up while it is listened to; whatever it says must be
/// read before it is [cut](Slot::cut) off. While it ends, [`Slot::reap`] tells when it has.
#[derive(Debug)]
pub struct Slot {
    /// The VM.
    pub vm: Vm,
    listening: Listening,
    phase: Phase,
    backoff: Backoff,
    connected: bool,
    counters: Snapshot,
    /// Traces that the worker was asked for and hasn't taken.
    traces: usize,
    /// Policies that the worker was sent and hasn't taken.
    policies: usize,
    /// When it has to have taken the next one, if it was sent one since it was started.
    policy_due: Option<Instant>,
    /// Names that windows of this VM may have beside those of its policy: of clients that came under an earlier one.
    worn: Vec<Arc<Identity>>,
    /// How fast its clients have come.
    arrivals: Bucket,
    /// The log was told that they come too fast.
    told: bool,
}

#[derive(Debug)]
enum Phase {
    /// It is to be started at this time.
    Down { until: Instant },
    /// It was started and is listened to.
    Up { running: Running, control: Rc<HostControl>, watch: RegistrationToken, since: Instant },
    /// It isn't listened to any more, and is killed at `kill_at` if it wasn't yet.
    Ending { running: Running, since: Instant, kill_at: Option<Instant> },
}

impl Slot {
    /// The slot of `vm`: listens for it. Its worker is due to be started at once.
    pub fn new(vm: Vm, now: Instant) -> Result<Self> {
        let listening = Listening::bind(&vm.socket)?;
        let phase = Phase::Down { until: now };
        let (backoff, counters) = Default::default();
        Ok(Self {
            vm,
            listening,
            phase,
            backoff,
            connected: false,
            counters,
            traces: 0,
            policies: 0,
            policy_due: None,
            worn: Vec::new(),
            arrivals: Bucket::default(),
            told: false,
        })
    }

    /// Whether one more client may come now. If not, it may try again a moment later.
    pub fn admits(&mut self, now: Instant) -> bool {
        let rate = self.vm.policy.vm_quota.arrivals();
        self.told &= self.arrivals.missing(rate, now) > 0;
        let admitted = self.vm.side == Side::Compositor || self.arrivals.take(rate, now);
        if !admitted && !std::mem::replace(&mut self.told, true) {
            warn!(
                vm = self.vm.name,
                "clients are refused: more than {} come at once, and then more than {} in a second, the quota \
                 `connections_per_second`",
                rate.burst,
                rate.per_second
            );
        }
        admitted
    }

    /// Starts the worker, if it is due. `watch` puts its control socket into the event loop.
    ///
    /// If that fails, it is due again later.
    pub fn start(
        &mut self,
        home: &Home,
        log: &str,
        now: Instant,
        watch: impl FnOnce(Rc<HostControl>) -> Result<RegistrationToken>,
    ) -> Result<()> {
        if !matches!(self.phase, Phase::Down { until } if until <= now) {
            return Ok(());
        }
        let launched = launch(&self.vm, self.listening.listener(), home, log);
        let (control, running) = launched.inspect_err(|_| {
            self.phase = Phase::Down { until: self.backoff.after_failure(now) };
        })?;
        info!(vm = self.vm.name, pid = running.pid(), "worker started");
        self.policies = 1;
        let control = Rc::new(control);
        match watch(control.clone()) {
            Ok(watch) => self.phase = Phase::Up { running, control, watch, since: now },
            // It ends as `control` goes, and is reaped like any other.
            Err(error) => {
                self.phase = Phase::Ending { running, since: now, kill_at: Some(now + GRACE) };
                return Err(error);
            }
        }
        Ok(())
    }

    /// Its control socket, while it is listened to.
    pub fn control(&self) -> Option<Rc<HostControl>> {
        match &self.phase {
            Phase::Up { control, .. } => Some(control.clone()),
            Phase::Ending { .. } | Phase::Down { .. } => None,
        }
    }

    /// The worker counts this now. `false` if no worker counts so much.
    #[must_use]
    pub fn handle_counters(&mut self, counters: Snapshot) -> bool {
        let possible = counters.is_within_limits();
        if possible {
            self.counters = counters;
        }
        possible
    }

    /// The VM's frontend came, or went.
    pub fn handle_connected(&mut self, connected: bool) {
        self.connected = connected;
        // As long as a policy is under way, a client may still come under the one before.
        if !connected && self.policies == 0 {
            self.worn.clear();
        }
    }

    /// The worker took a trace. `false` if it wasn't asked for one.
    #[must_use]
    pub fn handle_trace_taken(&mut self) -> bool {
        let taken = self.traces.checked_sub(1);
        self.traces = taken.unwrap_or(0);
        taken.is_some()
    }

    /// The worker took a policy. `false` if it wasn't sent one.
    #[must_use]
    pub fn handle_policy_taken(&mut self, now: Instant) -> bool {
        let taken = self.policies.checked_sub(1);
        self.policies = taken.unwrap_or(0);
        self.policy_due =
            self.policy_due.filter(|_| self.policies > 0).map(|_| now + POLICY_PATIENCE);
        taken.is_some()
    }

    /// Whether the worker was sent a policy and hasn't taken it in time.
    pub fn is_late(&self, now: Instant) -> bool {
        self.policy_due.is_some_and(|due| due <= now)
    }

    /// Whether [`Slot::set_policy`] would find room for one more. `Err` tells why not.
    pub fn has_room_for_policy(&self, policy: &Policy) -> Result<(), &'static str> {
        if self.policies >= MAX_POLICY_ORDERS {
            return Err("its worker hasn't taken the last policies yet; try again later");
        }
        if self.worn.len() >= MAX_WORN && policy.identity != self.vm.policy.identity {
            return Err("its prefixes were changed too often while it ran; start it again first");
        }
        Ok(())
    }

    /// What windows of this VM may be called by: as its policy has it, and as earlier ones had it.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&self.vm.policy.identity).chain(&self.worn).map(|identity| &**identity)
    }

    /// Clients that come from now on have this policy. `Err`: the worker that is up can't be told, so it has to go; the
    /// next one starts with it.
    pub fn set_policy(&mut self, policy: Policy, now: Instant) -> io::Result<()> {
        let before = std::mem::replace(&mut self.vm.policy, policy.clone());
        if let Phase::Up { control, .. } = &self.phase {
            if before.identity != policy.identity && !self.worn.contains(&before.identity) {
                self.worn.push(before.identity);
            }
            control.send(&Order::Policy(policy), None)?;
            self.policies += 1;
            self.policy_due = self.policy_due.or(Some(now + POLICY_PATIENCE));
        }
        Ok(())
    }

    /// Connections of its clients, as its worker counts them.
    pub fn connections(&self) -> u64 {
        self.counters.contexts
    }

    /// Whether this is a client VM whose worker counts this connection, as far as it has told.
    fn lists(&self, connection: u64) -> bool {
        let mut connections = self.counters.connections.iter();
        self.vm.side == Side::Client && connections.any(|one| one.connection == connection)
    }

    /// Has the worker write what passes over a connection to `reader`, which doesn't block, after a line that tells whose
    /// connection it is: that is known here, and a worker could say anything. `Err` tells why it can't.
    pub fn trace(&mut self, connection: u64, reader: &UnixStream) -> Result<(), &'static str> {
        let Phase::Up { control, .. } = &self.phase else { return Err("its worker is down") };
        if self.traces >= MAX_TRACE_ORDERS {
            return Err("too many ask at once");
        }
        let line = ask::line(&Tracing { trace: self.vm.name.clone(), connection });
        // Nothing was written to it before, so whoever reads gets it whole.
        if !matches!((&*reader).write(&line), Ok(length) if length == line.len()) {
            return Err("nobody reads");
        }
        control
            .send(&Order::Trace { connection }, Some(reader.as_fd()))
            .map_err(|_| "its worker can't be asked now")?;
        self.traces += 1;
        Ok(())
    }

    /// Asks the worker to end. It goes on being listened to.
    pub fn ask_to_end(&mut self) {
        if let Phase::Up { control, running, .. } = &mut self.phase
            && let Err(error) = control.send(&Order::Shutdown, None)
        {
            warn!(vm = self.vm.name, %error, "the worker can't be told to end: killed");
            running.kill();
        }
    }

    /// Stops to listen to the worker; returns what is to be taken out of the event loop.
    ///
    /// `at_once` kills it now: it said something that no worker says. Otherwise it gets a moment to end by itself.
    pub fn cut(&mut self, now: Instant, at_once: bool) -> Option<RegistrationToken> {
        let phase = std::mem::replace(&mut self.phase, Phase::Down { until: now });
        let Phase::Up { mut running, control, watch, since } = phase else {
            self.phase = phase;
            return None;
        };
        control.shutdown();
        let kill_at = if at_once {
            running.kill();
            None
        } else {
            Some(now + GRACE)
        };
        self.connected = false;
        self.counters = Snapshot::default();
        (self.traces, self.policies, self.policy_due) = (0, 0, None);
        // Its links end with it.
        self.worn.clear();
        self.phase = Phase::Ending { running, since, kill_at };
        Some(watch)
    }

    /// Whether the worker has ended though it is still listened to.
    pub fn has_ended_unseen(&mut self) -> bool {
        match &mut self.phase {
            Phase::Up { running, .. } => running.try_wait().is_some(),
            Phase::Ending { .. } | Phase::Down { .. } => false,
        }
    }

    /// How a worker that was ending has ended. It is down from then on.
    pub fn reap(&mut self, now: Instant) -> Option<String> {
        let Phase::Ending { running, since, kill_at } = &mut self.phase else { return None };
        if kill_at.is_some_and(|at| at <= now) {
            *kill_at = None;
            running.kill();
        }
        let how = running.try_wait()?;
        self.phase = Phase::Down { until: self.backoff.after_death(*since, now) };
        Some(how)
    }

    /// When to call [`Slot::start`] or [`Slot::reap`] at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Down { until } => Some(*until),
            Phase::Up { .. } => self.policy_due,
            Phase::Ending { running: Running::Thread(_), .. } => Some(now + THREAD_PERIOD),
            Phase::Ending { kill_at, .. } => *kill_at,
        }
    }

    /// Kills a worker that didn't end when it was asked to.
    pub fn kill(&mut self) {
        if let Phase::Up { running, .. } | Phase::Ending { running, .. } = &mut self.phase {
            error!(vm = self.vm.name, pid = running.pid(), "the worker didn't end in time: killed");
            running.kill();
        }
    }

    /// Whether there is no worker.
    pub fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }

    /// Name of the VM.
    pub fn name(&self) -> &str {
        &self.vm.name
    }

    /// For `wlproxy status`.
    pub fn status(&self) -> VmStatus {
        let pid = match &self.phase {
            Phase::Up { running, .. } => Some(running.pid()),
            Phase::Ending { .. } | Phase::Down { .. } => None,
        };
        VmStatus {
            side: side_name(self.vm.side).to_owned(),
            socket: self.vm.socket.clone(),
            connected: self.connected,
            pid,
            restarts: self.backoff.restarts(),
            quota: (self.vm.side == Side::Client).then_some(self.vm.policy.quota),
            vm_quota: (self.vm.side == Side::Client).then_some(self.vm.policy.vm_quota),
            events_kib: (self.vm.side == Side::Compositor)
                .then_some(self.vm.policy.vm_quota.events_kib),
            counters: self.counters.clone(),
        }
    }
}

/// The only client VM whose worker counts this connection. One that claims another's connection is told from the other
/// by nothing that is known here, so then there is none. `Err` tells why.
pub fn client_with(slots: &mut [Slot], connection: u64) -> Result<&mut Slot, String> {
    let mut found = slots.iter_mut().filter(|slot| slot.lists(connection));
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (Some(one), Some(other)) => Err(format!(
            "the status lists connection {connection} of VM {} and of VM {}, and one of their workers lies; \
             name the VM with --vm",
            one.name(),
            other.name()
        )),
        (None, _) => Err(format!(
            "the status lists no connection {connection} of a client VM; \
             if it is new, or one of many, name its VM with --vm"
        )),
    }
}

/// Checks that windows of `vm` can't be called as those of another VM that is served, if its prefixes are these from now on.
/// The configuration sees to that for the VMs in it, but one that is gone from it goes on, as do clients that came before.
/// `Err` tells what is the same, and the cure.
pub fn apart(vm: &str, identity: &Identity, slots: &[Slot]) -> Result<(), String> {
    type Prefix = fn(&Identity) -> &str;
    let keys: [(&str, Prefix); 2] =
        [("title_prefix", Identity::title), ("app_id_prefix", Identity::app_id)];
    let others = slots.iter().filter(|slot| slot.vm.side == Side::Client && slot.name() != vm);
    for other in others {
        for of in other.identities() {
            for (key, prefix) in keys {
                let (own, of) = (prefix(identity), prefix(of));
                if !own.is_empty() && !of.is_empty() && (own.starts_with(of) || of.starts_with(own))
                {
                    let other = other.name();
                    return Err(format!(
                        "VM {vm}: {key} {own:?} can't be told from {of:?}, which windows of VM {other} may still have; \
                         choose another, or start wlproxy again"
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
