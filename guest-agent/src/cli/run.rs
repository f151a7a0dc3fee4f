//! `guest-agent run`.

use super::alarm::Alarms;
use super::export::Export;
use super::preload::Preload;
use super::{RETRY, Waiting, raise_fd_limit, stats::StatsFile, tell_systemd};
use crate::channel::{ChannelSpec, Error};
use crate::lend::LendSocket;
use crate::run::{Run, Socket};
use crate::stats::Stats;
use anyhow::{Context, Result};
use calloop::generic::Generic;
use calloop::signals::{self, Signal, Signals};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, Readiness, RegistrationToken};
use nix::libc::SI_KERNEL;
use nix::sys::epoll::EpollTimeout;
use nix::sys::signal::{SigHandler, SigSet, kill, signal};
use nix::unistd::Pid;
use sd_notify::NotifyState;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// How long the application may take to end after it was asked to. systemd and the like wait longer than this.
const GRACE: Duration = Duration::from_secs(5);

/// How long it may take, after the application or the session has ended, until the host has what it sent last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the user manager may take to forget the socket, at the end.
const UNSET: Duration = Duration::from_secs(1);

/// What systemd tells a service by its environment (sd_listen_fds(3), sd_notify(3)).
const OF_SYSTEMD: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];

/// How long the next client is left waiting at first when one can't be taken. The compositor VM takes a client in about
/// a millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Arguments of `guest-agent run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The way out of this VM: `virtio_wl`, `virtio_wl:NODE` if the device isn't /dev/wl0, `virtgpu`, `virtgpu:NODE` to
    /// name the render node, `process:SOCKET`, or `auto` for the device that the VM has.
    #[arg(long, value_name = "CHANNEL", default_value = "auto")]
    channel: ChannelSpec,

    /// Name or path of the Wayland socket that is made for applications [default: the one that systemd
    /// passes (socket activation), else the first free wayland-N].
    #[arg(long, value_name = "NAME")]
    socket: Option<PathBuf>,

    /// Without an application: don't set WAYLAND_DISPLAY for what the user manager (`systemctl --user`) starts.
    #[arg(long)]
    no_export: bool,

    /// Let the application draw into memory that the compositor VM sees, so that nothing has to be copied.
    ///
    /// The application isn't modified: a library is preloaded into it (LD_PRELOAD), which puts such memory in the place of
    /// its wl_shm pools; what it can't do that for is copied as ever. The compositor VM can write to that memory, too. What
    /// the application starts doesn't have the library.
    #[arg(long, requires = "app")]
    zero_copy: bool,

    /// The library that is preloaded [default: libwlproxy_interposer.so beside this program, or in
    /// ../lib/wlproxy from there].
    #[arg(long, value_name = "FILE", requires = "zero_copy")]
    interposer: Option<PathBuf>,

    /// Write numbers to this file as JSON, at the end and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,

    /// The application and its arguments. Without one, the socket is there for all applications of the session, until
    /// SIGTERM, SIGINT or SIGHUP.
    #[arg(last = true, value_name = "APP")]
    app: Vec<OsString>,
}

/// What the event loop's callbacks share.
struct State {
    channel: ChannelSpec,
    socket: Socket,
    /// Where the application borrows what it draws into.
    lend_socket: Option<LendSocket>,
    stats_file: StatsFile,
    /// Numbers of channels that were lost.
    past: Stats,
    run: Option<Run>,
    /// Sources that exist while `run` does.
    sources: Vec<RegistrationToken>,
    /// A client for which the host has no room yet, or isn't there.
    held: Option<UnixStream>,
    /// How long to wait before the next client is taken, if that is to wait.
    pause: Duration,
    /// The application; none if the socket is the session's.
    child: Option<Child>,
    export: Option<Export>,
    /// Whether systemd was told that applications may be started.
    announced: bool,
    asked_to_end: bool,
    exit: Option<ExitStatus>,
    waiting: Waiting,
    handle: LoopHandle<'static, State>,
    alarms: Alarms<State>,
    /// The event loop's own fd: readable when one of its sources is.
    events: OwnedFd,
}

pub(crate) fn main(args: Args) -> Result<ExitCode> {
    let fd_limit = raise_fd_limit();
    let mut events: EventLoop<'static, State> =
        EventLoop::try_new().context("can't make an event loop")?;
    let handle = events.handle();
    // Before any thread is made: signals are blocked per thread.
    let signals = Signals::new(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGUSR1,
    ])
    .context("can't take signals")?;
    let socket = Socket::take_or_bind(args.socket.as_deref())?;
    hear_of_children()?;
    let preload = match args.zero_copy {
        true => Some(Preload::find(args.interposer.as_deref(), &socket)?),
        false => None,
    };
    let lend_socket = preload.as_ref().map(Preload::listen).transpose()?;
    let child = match args.app.split_first() {
        Some((program, arguments)) => {
            Some(spawn(program, arguments, &socket, preload.as_ref(), fd_limit)?)
        }
        None => None,
    };
    let is_session = child.is_none();
    let export = (is_session && !args.no_export).then(|| Export::start(socket.display())).flatten();
    let mut state = State {
        channel: args.channel,
        socket,
        lend_socket,
        stats_file: StatsFile(args.stats),
        past: Stats::default(),
        run: None,
        sources: Vec::new(),
        held: None,
        pause: FIRST_PAUSE,
        child,
        export,
        announced: false,
        asked_to_end: false,
        exit: None,
        waiting: Waiting::default(),
        handle: handle.clone(),
        alarms: Alarms::new(&handle)?,
        events: events.as_fd().try_clone_to_owned()?,
    };
    handle.insert_source(signals, |event, _, state| state.signal(&event)).map_err(|e| e.error)?;
    state.alarms.after(Duration::ZERO, State::open);
    if let Some(lend_socket) = &state.lend_socket {
        let fd = lend_socket.as_fd().try_clone_to_owned()?;
        let borrowers = Generic::new(fd, Interest::READ, Mode::Level);
        let accept = |_: Readiness, _: &mut _, state: &mut State| {
            state.accept_borrower();
            Ok(PostAction::Continue)
        };
        handle.insert_source(borrowers, accept).map_err(|e| e.error)?;
    }
    state.announce();
    while state.exit.is_none() && !(state.asked_to_end && state.child.is_none()) {
        state.wait(&mut events, None)?;
    }
    tell_systemd(&[NotifyState::Stopping]);
    state.unset_export(&mut events)?;
    state.deliver(&mut events)?;
    state.stats_file.write(&state.stats());
    // What was asked to end without an application ends well.
    let Some(status) = state.exit else { return Ok(ExitCode::SUCCESS) };
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// If SIGCHLD was inherited as ignored, nobody would learn of a child's end.
#[expect(unsafe_code, reason = "for signals")]
fn hear_of_children() -> Result<()> {
    // SAFETY: the default is no handler, so none runs at a bad time.
    unsafe { signal(nix::sys::signal::Signal::SIGCHLD, SigHandler::SigDfl)? };
    Ok(())
}

/// Starts the application, with the limit of open files that this program was started with.
#[expect(unsafe_code, reason = "for what is done between fork and exec")]
fn spawn(
    program: &OsStr,
    arguments: &[OsString],
    socket: &Socket,
    preload: Option<&Preload>,
    fd_limit: Option<u64>,
) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).env("WAYLAND_DISPLAY", socket.display()).env_remove("WAYLAND_SOCKET");
    if let Some(preload) = preload {
        preload.apply(&mut command);
    }
    // What systemd has told us concerns nobody else.
    for variable in OF_SYSTEMD {
        command.env_remove(variable);
    }
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            // The signals that we take by fd are blocked here, and would stay so in the application.
            SigSet::empty().thread_set_mask()?;
            fd_limit.map_or(Ok(()), wlproxy_unix::fd_limit::restore)
        });
    }
    command.spawn().with_context(|| format!("can't start {}", program.display()))
}

impl State {
    /// Tells systemd, once, that applications may be started: the socket takes connections, and who is started finds
    /// it. Whoever uses it before the host is there waits in its queue.
    fn announce(&mut self) {
        let may_start = self.export.as_ref().is_none_or(|export| !export.is_busy());
        if may_start && !std::mem::replace(&mut self.announced, true) {
            tell_systemd(&[NotifyState::Ready]);
        }
    }

    /// Opens the channel, or tries again later.
    fn open(&mut self) -> Option<Duration> {
        let run = match self.channel.open() {
            Ok(channel) => Run::new(channel, self.past.connections),
            Err(error) => {
                self.waiting.log("the host", &error);
                return Some(RETRY);
            }
        };
        match run.map_err(anyhow::Error::from).and_then(|run| self.start(run)) {
            Ok(()) => {
                self.waiting = Waiting::default();
                // Nobody else tells of a client that was held already.
                self.accept();
                None
            }
            Err(error) => {
                tracing::warn!("can't serve clients, trying again: {error:#}");
                self.stop();
                Some(RETRY)
            }
        }
    }

    fn start(&mut self, mut run: Run) -> Result<()> {
        run.wait_for(&self.events)?;
        let clients = Generic::new(
            self.socket.listener.as_fd().try_clone_to_owned()?,
            Interest::READ,
            Mode::Level,
        );
        self.run = Some(run);
        let token = self.handle.insert_source(clients, |_, _, state| {
            state.accept();
            Ok(PostAction::Continue)
        });
        self.sources.push(token.map_err(|e| e.error)?);
        let status = format!("clients of {} are brought to the host", self.socket.path().display());
        tracing::info!("{status}");
        tell_systemd(&[NotifyState::Status(&status)]);
        Ok(())
    }

    /// Forgets a channel. Its clients are disconnected.
    fn stop(&mut self) {
        self.past = self.stats().over();
        self.run = None;
        for token in self.sources.drain(..) {
            self.handle.remove(token);
        }
    }

    /// Does what there is to do, after waiting for it up to `timeout`.
    ///
    /// The agent waits, if there is one; the event loop has its turn when one of its sources is ready.
    fn wait(
        &mut self,
        events: &mut EventLoop<'static, Self>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let mut left = timeout;
        if self.run.is_some() {
            let timeout = timeout.map_or(EpollTimeout::NONE, millis);
            self.turn(|run| run.wait(timeout));
            if self.run.as_ref().is_some_and(|run| !run.agent().outer_is_ready()) {
                return Ok(());
            }
            left = Some(Duration::ZERO);
        }
        events.dispatch(left, self).context("the event loop failed")
    }

    fn turn(&mut self, work: impl FnOnce(&mut Run) -> Result<(), Error>) {
        let Some(run) = &mut self.run else { return };
        if let Err(error) = work(run) {
            tracing::warn!("{error}; clients are disconnected, and the host is waited for");
            self.stop();
            self.alarms.after(RETRY, Self::open);
        }
    }

    /// Takes one client. If there are more, we are called again, after those that are connected had their turn.
    fn accept(&mut self) {
        let next = self.held.take().map(Ok);
        match next.unwrap_or_else(|| self.socket.listener.accept().map(|(client, _)| client)) {
            Ok(client) => {
                let mut held = Some(client);
                self.turn(|run| run.accept(&mut held));
                self.held = held;
                if self.held.is_some() {
                    self.pause_accepting(&"the host has no room for more clients");
                } else {
                    self.pause = FIRST_PAUSE;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Out of fds, most likely.
            Err(error) => self.pause_accepting(&format!("can't accept a client: {error}")),
        }
    }

    /// Takes one application that wants to borrow. Without a host there is nothing to lend: then it draws into files of
    /// its own.
    fn accept_borrower(&mut self) {
        match self.lend_socket.as_mut().map(LendSocket::accept) {
            Some(Ok(socket)) => self.turn(|run| {
                run.lend_to(socket);
                run.dispatch()
            }),
            Some(Err(error)) if error.kind() != std::io::ErrorKind::WouldBlock => {
                tracing::warn!("can't take an application that borrows: {error}");
            }
            _ => {}
        }
    }

    /// The application has ended, or the session: lets go on what was sent before.
    fn deliver(&mut self, events: &mut EventLoop<'static, State>) -> Result<()> {
        let deadline = Instant::now() + LAST_WORDS;
        self.turn(Run::dispatch);
        while self.run.as_ref().is_some_and(|run| run.agent().is_delivering()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wait(events, Some(left))?;
        }
        self.turn(Run::report);
        Ok(())
    }

    /// The session has ended: so has its socket, unless systemd keeps it.
    fn unset_export(&mut self, events: &mut EventLoop<'static, State>) -> Result<()> {
        let deadline = Instant::now() + UNSET;
        let mut is_set = self.socket.is_ours();
        while let Some(export) = &mut self.export {
            if !export.is_busy() {
                if !std::mem::take(&mut is_set) {
                    break;
                }
                export.unset();
                // Nobody would wake us if systemctl can't be started.
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wait(events, Some(left))?;
        }
        self.export = None;
        Ok(())
    }

    /// Lets clients wait in the queue, for longer each time: without a pause we would spin.
    fn pause_accepting(&mut self, why: &dyn Display) {
        let Some(&clients) = self.sources.last() else { return };
        if self.handle.disable(&clients).is_ok() {
            self.alarms.after(self.pause, move |state: &mut State| {
                // If the channel was lost meanwhile, the source is gone, and that is right.
                if state.handle.enable(&clients).is_ok() {
                    state.accept();
                }
                None
            });
        }
        let next = (self.pause * 2).min(RETRY);
        // Not each time that many come at once.
        if std::mem::replace(&mut self.pause, next) < next && next == RETRY {
            tracing::warn!("{why}: clients wait");
        }
    }

    fn signal(&mut self, event: &signals::Event) {
        match event.signal() {
            Signal::SIGUSR1 => self.stats_file.write(&self.stats()),
            Signal::SIGCHLD => {
                let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap_or(None));
                self.exit = ended.or(self.exit);
                if let Some(export) = &mut self.export {
                    export.child_ended();
                }
                self.announce();
            }
            _ if self.child.is_none() => self.asked_to_end = true,
            // From the terminal, which has sent it to the application as well.
            _ if event.code() == SI_KERNEL => {}
            signal => {
                let kind = if self.asked_to_end { Signal::SIGKILL } else { signal };
                self.signal_child(kind);
                if !self.asked_to_end {
                    self.asked_to_end = true;
                    self.alarms.after(GRACE, |state: &mut State| {
                        state.signal_child(Signal::SIGKILL);
                        None
                    });
                }
            }
        }
    }

    fn signal_child(&mut self, signal: Signal) {
        // Not yet waited for, so the pid is still the child's.
        if let Some(child) = self.child.as_ref().filter(|_| self.exit.is_none()) {
            let signal = nix::sys::signal::Signal::try_from(signal as i32).ok();
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    fn stats(&self) -> Stats {
        match &self.run {
            Some(run) => self.past.plus(&run.agent().world.stats),
            None => self.past.clone(),
        }
    }
}

/// Whole milliseconds, rounded up: rounded down, the last one would be spent in waits of no time at all.
fn millis(timeout: Duration) -> EpollTimeout {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
}
