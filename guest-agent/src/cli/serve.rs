//! `guest-agent serve`.

use super::{ChannelSpec, RETRY, Waiting, raise_fd_limit, stats::StatsFile};
use crate::serve::Serve;
use crate::stats::Stats;
use anyhow::{Context, Result, bail};
use calloop::generic::Generic;
use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `guest-agent serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The way out of this VM: `virtio_wl`, `virtio_wl:NODE` if the device isn't /dev/wl0, or `process:SOCKET`.
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelSpec,

    /// Name or path of the compositor's socket.
    #[arg(long, value_name = "SOCKET", env = "WAYLAND_DISPLAY")]
    compositor: PathBuf,

    /// Write numbers to this file as JSON, at the end and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
}

/// What the event loop's callbacks share.
struct State {
    channel: ChannelSpec,
    compositor: PathBuf,
    stats_file: StatsFile,
    /// Numbers of channels that were lost.
    past: Stats,
    serve: Option<(Serve, RegistrationToken)>,
    done: bool,
    waiting: Waiting,
    handle: LoopHandle<'static, State>,
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
        compositor: in_runtime_dir(args.compositor)?,
        stats_file: StatsFile(args.stats),
        past: Stats::default(),
        serve: None,
        done: false,
        waiting: Waiting::default(),
        handle: handle.clone(),
    };
    handle
        .insert_source(signals, |event, _, state| match event.signal() {
            Signal::SIGUSR1 => state.stats_file.write(&state.stats()),
            _ => state.done = true,
        })
        .map_err(|e| e.error)?;
    handle.insert_source(Timer::immediate(), |_, _, state| state.open()).map_err(|e| e.error)?;
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("can't tell systemd: {error}");
    }
    while !state.done {
        events.dispatch(None, &mut state).context("the event loop failed")?;
    }
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
    /// Opens the channel and a main context, or tries again later.
    fn open(&mut self) -> TimeoutAction {
        let serve =
            self.channel.open().and_then(|channel| Serve::new(channel, self.compositor.clone()));
        let serve = match serve {
            Ok(serve) => serve,
            Err(error) => {
                self.waiting.log("the host", &error);
                return TimeoutAction::ToDuration(RETRY);
            }
        };
        match self.start(serve) {
            Ok(()) => {
                self.waiting = Waiting::default();
                TimeoutAction::Drop
            }
            Err(error) => {
                tracing::warn!("can't serve, trying again: {error:#}");
                TimeoutAction::ToDuration(RETRY)
            }
        }
    }

    fn start(&mut self, serve: Serve) -> Result<()> {
        let source =
            Generic::new(serve.poll_fd().try_clone_to_owned()?, Interest::READ, Mode::Level);
        let token = self.handle.insert_source(source, |_, _, state| {
            state.turn();
            Ok(PostAction::Continue)
        });
        self.serve = Some((serve, token.map_err(|e| e.error)?));
        tracing::info!("clients of other VMs are brought to {}", self.compositor.display());
        Ok(())
    }

    fn turn(&mut self) {
        let Some((serve, token)) = &mut self.serve else { return };
        let Err(error) = serve.dispatch() else { return };
        tracing::warn!("{error}; clients are disconnected, and the host is waited for");
        let token = *token;
        self.past = self.stats().over();
        self.serve = None;
        self.handle.remove(token);
        let retry =
            self.handle.insert_source(Timer::from_duration(RETRY), |_, _, state| state.open());
        if let Err(error) = retry {
            tracing::error!("can't wait for the host: {}", error.error);
            self.done = true;
        }
    }

    fn stats(&self) -> Stats {
        match &self.serve {
            Some((serve, _)) => self.past.plus(&serve.agent().world.stats),
            None => self.past.clone(),
        }
    }
}
