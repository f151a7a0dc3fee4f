//! A worker: the device of one VM, and what it needs of wlproxy.
//!
//! It runs as a process of its own, or as threads of wlproxy (`isolation = "none"`): the same code, over the same kind
//! of control socket. The device has a thread; the thread that calls [`run`] listens to wlproxy. The listening socket
//! is wlproxy's, so a worker that dies leaves its VM's socket in place for the next.

mod broker;

use crate::ask::Refusal;
use crate::control::{Order, Received, Request, WorkerControl};
use crate::counters::{Counters, Snapshot};
use crate::device::opener::OpenError;
use crate::device::serve::{Ended, Stop, serve};
use crate::device::{self, Dialect, Kind, Neighbours, Side, socket, trace};
use crate::policy::{self, Policy};
use anyhow::{Context as _, Result, bail};
use broker::Broker;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::warn;
use vhost::vhost_user::Listener;

/// How often a worker tells what it counts, at most. Short beside a person's patience with `wlproxy status`, long
/// beside the cost of a packet.
const TELL_PERIOD: Duration = Duration::from_millis(250);

/// Pause after a frontend that could not be served, so that a lasting failure (no fds left) doesn't spin.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Which VM a worker is for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the VM.
    pub vm: String,
    /// Whether it is the compositor VM.
    pub side: Side,
    /// Size of its window, in bytes.
    pub window: u64,
    /// Which device it has.
    pub device: Kind,
}

/// Serves one VM until wlproxy says to end, or is gone. An error is the worker's own, or wlproxy talks nonsense.
///
/// `neighbours` are the workers in the same process.
pub fn run(
    settings: Settings,
    listener: UnixListener,
    control: WorkerControl,
    neighbours: Option<Arc<Neighbours>>,
) -> Result<()> {
    let control = Arc::new(control);
    let _end = ShutdownOnDrop(control.clone());
    let counters = Arc::new(Counters::default());
    let broker = Arc::new(Broker::new(&settings.vm, control.clone()));
    let policy = Arc::new(policy::Current::new(Policy::nothing()));
    let traces = Arc::new(trace::Requests::default());
    let stop = Stop::new().context("can't make the device's stop signal")?;
    let lost = Arc::new(AtomicBool::new(false));
    let device = Device {
        listener,
        settings,
        broker: broker.clone(),
        counters: counters.clone(),
        policy: policy.clone(),
        traces: traces.clone(),
        neighbours,
        stop: stop.clone(),
        alarm: Alarm { lost: lost.clone(), control: control.clone() },
    };
    thread::Builder::new()
        .name("device".to_owned())
        .spawn(move || {
            let _guard = DeviceGuard(device.alarm.clone());
            device.serve();
        })
        .context("can't start the device's thread")?;
    let mut teller = Teller {
        control: &control,
        counters: &counters,
        sent: Snapshot::default(),
        sent_connected: false,
        traces_taken: 0,
        policies_taken: 0,
    };
    let result = listen(&control, &broker, &policy, &traces, &mut teller);
    stop.stop();
    teller.send();
    if lost.load(Ordering::Acquire) {
        bail!("a thread of the device panicked, or can't go on");
    }
    result
}

/// Ends the control socket when [`run`] returns, though the device's thread may still hold it.
struct ShutdownOnDrop(Arc<WorkerControl>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Ends the worker when a thread of the device has ended before its time.
#[derive(Clone)]
struct Alarm {
    lost: Arc<AtomicBool>,
    control: Arc<WorkerControl>,
}

impl Alarm {
    fn raise(&self) {
        self.lost.store(true, Ordering::Release);
        self.control.shutdown();
    }
}

/// Raises it if the device's own thread panics.
struct DeviceGuard(Alarm);

impl Drop for DeviceGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.raise();
        }
    }
}

/// Listens to wlproxy until it says to end, or is gone.
fn listen(
    control: &WorkerControl,
    broker: &Broker,
    current: &policy::Current,
    traces: &trace::Requests,
    teller: &mut Teller<'_>,
) -> Result<()> {
    let mut due = Instant::now() + TELL_PERIOD;
    loop {
        if wait(control, due.saturating_duration_since(Instant::now()))? {
            loop {
                match control.receive().context("wlproxy talks nonsense")? {
                    Received::Message(Order::Opened { ticket, role }, Some(fd)) => {
                        broker.opened(ticket, fd, role);
                    }
                    Received::Message(Order::Refused { ticket, error }, None) => {
                        broker.refused(ticket, error);
                    }
                    // Links of which wlproxy tells later begin later, so they have it.
                    Received::Message(Order::Policy(policy), None) => {
                        current.set(policy);
                        teller.policies_taken += 1;
                    }
                    Received::Message(Order::Trace { connection }, Some(fd)) => {
                        start_trace(traces, connection, fd.into());
                        teller.traces_taken += 1;
                    }
                    // Whoever waits for it is turned away, and the others go on.
                    Received::Lost(Order::Opened { ticket, .. }) => {
                        warn!("a stream is not taken: {}", Errno::EMFILE);
                        broker.refused(ticket, OpenError::Failed);
                    }
                    Received::Lost(Order::Trace { .. }) => teller.traces_taken += 1,
                    Received::Message(Order::Shutdown, None) | Received::Eof => return Ok(()),
                    Received::Message(order, _) | Received::Lost(order) => {
                        bail!("wlproxy sends an fd too many or too few: {order:?}")
                    }
                    Received::WouldBlock => break,
                }
            }
        }
        teller.send_taken();
        if Instant::now() >= due {
            teller.send();
            due = Instant::now() + TELL_PERIOD;
        }
    }
}

fn start_trace(traces: &trace::Requests, connection: u64, reader: UnixStream) {
    if let Err(mut reader) = traces.push(connection, reader) {
        // Who can't be told now sees the end.
        let why = "the VM isn't connected, it has no device of wlproxy's, or too many ask";
        let _ = reader.write_all(&Refusal::line(why));
    }
}

/// Waits until `fd` is readable: `true`, or `timeout` is over: `false`.
fn wait(fd: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], rounded_up(timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whole milliseconds. Rounded down, the last one would be spent in waits of no time at all.
fn rounded_up(timeout: Duration) -> PollTimeout {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// Tells wlproxy what changed.
struct Teller<'a> {
    control: &'a WorkerControl,
    counters: &'a Counters,
    sent: Snapshot,
    sent_connected: bool,
    /// Traces that were taken and of which wlproxy doesn't know yet.
    traces_taken: usize,
    /// The same of policies.
    policies_taken: usize,
}

impl Teller<'_> {
    /// Says that traces and policies were taken. What can't be said now is said after the next message, or with the
    /// numbers.
    fn send_taken(&mut self) {
        for (taken, said) in [
            (&mut self.traces_taken, Request::TraceTaken),
            (&mut self.policies_taken, Request::PolicyTaken),
        ] {
            while *taken > 0 && self.control.send(&said, None).is_ok() {
                *taken -= 1;
            }
        }
    }

    /// What can't be sent now is sent the next time.
    fn send(&mut self) {
        let connected = self.counters.frontends.get() > 0;
        if connected != self.sent_connected
            && self.control.send(&Request::Connected(connected), None).is_ok()
        {
            self.sent_connected = connected;
        }
        let now = self.counters.snapshot();
        if now != self.sent
            && self.control.send(&Request::Stats(Box::new(now.clone())), None).is_ok()
        {
            self.sent = now;
        }
    }
}

/// What the device's thread owns.
struct Device {
    listener: UnixListener,
    settings: Settings,
    broker: Arc<Broker>,
    counters: Arc<Counters>,
    policy: Arc<policy::Current>,
    traces: Arc<trace::Requests>,
    neighbours: Option<Arc<Neighbours>>,
    stop: Stop,
    alarm: Alarm,
}

impl Device {
    /// Serves one frontend after the other until it is stopped: a VM may come, go, and come again.
    fn serve(self) {
        let (dialect, is_socket) = match self.settings.device {
            Kind::Virtio(dialect) => (dialect, false),
            // Nobody looks at it.
            Kind::Socket => (Dialect::default(), true),
        };
        let options = device::Options {
            vm: self.settings.vm,
            opener: self.broker,
            counters: self.counters,
            policy: self.policy,
            traces: self.traces,
            neighbours: self.neighbours,
            window_size: self.settings.window,
            side: self.settings.side,
            dialect,
            on_panic: Arc::new(move || self.alarm.raise()),
        };
        let failed = |error: io::Error| {
            warn!(vm = options.vm, %error, "the VM's frontend could not be served");
            thread::sleep(RETRY_PAUSE);
        };
        if is_socket {
            while let Err(error) = socket::serve(&self.listener, &options, &self.stop) {
                failed(error);
            }
            return;
        }
        let mut listener = Listener::from(self.listener);
        loop {
            match serve(&mut listener, &options, &self.stop) {
                Ok(Ended::Disconnected) => {}
                Ok(Ended::Stopped) => return,
                Err(error) => failed(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
