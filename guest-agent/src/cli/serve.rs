//! `guest-agent serve`.

use super::alarm::{AlarmId, Alarms};
use super::{RETRY, Waiting, raise_fd_limit, stats::StatsFile, tell_systemd};
use crate::channel::{ChannelSpec, Error};
use crate::compositor::{Compositor, Watch};
use crate::serve::Serve;
use crate::stats::Stats;
use anyhow::{Context, Result, bail};
use calloop::generic::Generic;
use calloop::signals::{Signal, Signals};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction};
use nix::sys::epoll::EpollTimeout;
use sd_notify::NotifyState;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `guest-agent serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The way out of this VM: `virtio_wl`, `virtio_wl:NODE` if the device isn't /dev/wl0, `virtgpu`, `virtgpu:NODE` to
    /// name the render node, `process:SOCKET`, or `auto` for the device that the VM has.
    #[arg(long, value_name = "CHANNEL", default_value = "auto")]
    channel: ChannelSpec,

    /// Name or path of the compositor's socket.
    #[arg(long, value_name = "SOCKET", env = "WAYLAND_DISPLAY")]
    compositor: PathBuf,

    /// Whether the compositor is told by wp_security_context_v1, if it offers that, which VM a client is of. It may hide
    /// privileged protocols from such clients.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = SecurityContext::Auto)]
    security_context: SecurityContext,

    /// Write numbers to this file as JSON, at the end and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
}

/// When clients are tagged with their VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SecurityContext {
    /// If the compositor offers it.
    Auto,
    /// Never.
    Off,
}

/// What the event loop's callbacks share.
struct State {
    channel: ChannelSpec,
    security_context: SecurityContext,
    watch: Watch,
    /// The compositor, until it is served: it may not have answered yet.
    compositor: Option<Compositor>,
    /// When the compositor is looked for again.
    next_look: Option<AlarmId>,
    stats_file: StatsFile,
    /// Numbers of channels that were lost.
    past: Stats,
    serve: Option<Serve>,
    done: bool,
    waiting: Waiting,
    handle: LoopHandle<'static, State>,
    alarms: Alarms<State>,
    /// The event loop's own fd: readable when one of its sources is.
    events: OwnedFd,
}

pub(crate) fn main(args: Args) -> Result<ExitCode> {
    raise_fd_limit();
    let mut events: EventLoop<'static, State> =
        EventLoop::try_new().context("can't make an event loop")?;
    let handle = events.handle();
    // Before any thread is made: signals are blocked per thread.
    let signals = Signals::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1])
        .context("can't take signals")?;
    let mut state = State {
        channel: args.channel,
        security_context: args.security_context,
        watch: Watch::new(in_runtime_dir(args.compositor)?)
            .context("can't watch for the compositor's socket")?,
        compositor: None,
        next_look: None,
        stats_file: StatsFile(args.stats),
        past: Stats::default(),
        serve: None,
        done: false,
        waiting: Waiting::default(),
        handle: handle.clone(),
        alarms: Alarms::new(&handle)?,
        events: events.as_fd().try_clone_to_owned()?,
    };
    handle
        .insert_source(signals, |event, _, state| match event.signal() {
            Signal::SIGUSR1 => state.stats_file.write(&state.stats()),
            _ => state.done = true,
        })
        .map_err(|e| e.error)?;
    let watched = state.watch.poll_fd().try_clone_to_owned()?;
    handle
        .insert_source(Generic::new(watched, Interest::READ, Mode::Level), |_, _, state| {
            state.watch.clear();
            if state.is_looking() {
                state.look();
            }
            Ok(PostAction::Continue)
        })
        .map_err(|e| e.error)?;
    state.look();
    while !state.done {
        state.wait(&mut events)?;
    }
    tell_systemd(&[NotifyState::Stopping]);
    state.stats_file.write(&state.stats());
    Ok(ExitCode::SUCCESS)
}

fn in_runtime_dir(socket: PathBuf) -> Result<PathBuf> {
    if socket.is_absolute() {
        return Ok(socket);
    }
    let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR") else {
        bail!("XDG_RUNTIME_DIR is not set: give the compositor's socket as an absolute path");
    };
    Ok(PathBuf::from(directory).join(socket))
}

impl State {
    /// Whether there is no compositor, neither one that is served nor one that may be.
    fn is_looking(&self) -> bool {
        self.compositor.is_none() && !self.serve.as_ref().is_some_and(Serve::is_open)
    }

    /// Connects to the compositor, or waits for its socket.
    fn look(&mut self) {
        if let Some(look) = self.next_look.take() {
            self.alarms.cancel(look);
        }
        let told = self.watch.arm();
        let tags = self.security_context == SecurityContext::Auto;
        match Compositor::connect(self.watch.socket(), tags) {
            Ok(compositor) => match self.greet(compositor) {
                Ok(()) => self.watch.disarm(),
                // Out of fds, most likely.
                Err(error) => {
                    self.waiting.log("the compositor", &format!("it can't be watched: {error:#}"));
                    self.look_later();
                }
            },
            Err(error) => {
                self.waiting.log("the compositor", &error);
                // A socket that is there and takes nobody is a dead compositor's, or one's that will listen in a moment.
                if !(told && error.is_absence()) {
                    self.look_later();
                }
            }
        }
    }

    fn look_later(&mut self) {
        let look = self.alarms.after(RETRY, |state: &mut State| {
            state.next_look = None;
            if state.is_looking() {
                state.look();
            }
            None
        });
        self.next_look = Some(look);
    }

    /// Waits for the compositor's answer: only then it is ready to serve clients.
    fn greet(&mut self, compositor: Compositor) -> Result<()> {
        let source =
            Generic::new(compositor.poll_fd().try_clone_to_owned()?, Interest::READ, Mode::Level);
        let token = self.handle.insert_source(source, |_, _, state| Ok(state.answered()));
        token.map_err(|e| e.error)?;
        // Most answer within milliseconds, and then there is nothing to say.
        self.alarms.after(RETRY, |state: &mut State| {
            if state.compositor.as_ref().is_some_and(|compositor| !compositor.is_complete()) {
                state.waiting.log("the compositor", &"it hasn't answered yet");
            }
            None
        });
        self.compositor = Some(compositor);
        Ok(())
    }

    fn answered(&mut self) -> PostAction {
        let Some(compositor) = &mut self.compositor else { return PostAction::Remove };
        match compositor.dispatch() {
            Ok(()) if !compositor.is_complete() => return PostAction::Continue,
            Ok(()) => {
                self.alarms.after(Duration::ZERO, Self::open);
            }
            Err(error) => {
                self.waiting.log("the compositor", &error);
                self.compositor = None;
                self.look_later();
            }
        }
        PostAction::Remove
    }

    /// Opens a main context, and the channel if need be, or tries again later.
    fn open(&mut self) -> Option<Duration> {
        if let Err(error) = self.open_channel() {
            self.waiting.log("the host", &error);
            return Some(RETRY);
        }
        let compositor = self.compositor.take()?;
        let serve = self.serve.as_mut()?;
        if self.security_context == SecurityContext::Auto && !compositor.tags() {
            tracing::info!(
                "the compositor doesn't offer wp_security_context_v1, and isn't told which VM a client is of"
            );
        }
        let opened = serve.open(compositor);
        match opened {
            Ok(()) => {
                self.waiting = Waiting::default();
                let socket = self.watch.socket().display();
                let status = format!("clients of other VMs are brought to {socket}");
                tracing::info!("{status}");
                tell_systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
            Err(error) => {
                self.waiting.log("the host", &error);
                self.forget_channel();
                self.look_later();
            }
        }
        None
    }

    fn open_channel(&mut self) -> Result<(), Error> {
        if self.serve.is_some() {
            return Ok(());
        }
        let mut serve = Serve::new(self.channel.open()?)?;
        serve.wait_for(&self.events).map_err(|error| Error::Lost(error.to_string()))?;
        self.serve = Some(serve);
        Ok(())
    }

    /// Waits until there is something to do, and does it.
    ///
    /// The agent waits, if there is one; the event loop has its turn when one of its sources is ready.
    fn wait(&mut self, events: &mut EventLoop<'static, Self>) -> Result<()> {
        let mut timeout = None;
        if self.serve.is_some() {
            self.turn();
            if self.serve.as_ref().is_some_and(|serve| !serve.agent().outer_is_ready()) {
                return Ok(());
            }
            timeout = Some(Duration::ZERO);
        }
        events.dispatch(timeout, self).context("the event loop failed")
    }

    fn turn(&mut self) {
        let Some(serve) = &mut self.serve else { return };
        let was_open = serve.is_open();
        let turned = serve.wait(EpollTimeout::NONE);
        let is_open = serve.is_open();
        if let Err(error) = turned {
            tracing::warn!("{error}; clients are disconnected, and the host is waited for");
            self.forget_channel();
            if was_open {
                self.look_later();
            }
        } else if was_open && !is_open {
            self.look();
        }
    }

    /// Forgets a channel. Its clients are disconnected.
    fn forget_channel(&mut self) {
        self.past = self.stats().over();
        self.serve = None;
    }

    fn stats(&self) -> Stats {
        match &self.serve {
            Some(serve) => self.past.plus(&serve.agent().world.stats),
            None => self.past.clone(),
        }
    }
}
