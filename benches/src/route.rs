//! A path that runs: the sink, the client, and all processes between them.

mod builder;

use crate::cell::Size;
use crate::compositor::Compositor;
use crate::path::{Path, Way};
use crate::talk::{Answer, Beside, Burst, Flood, Listener, Measured, Order, Task};
use crate::waypipe::Waypipe;
use crate::{cpu, part, sink};
use anyhow::{Context, Result, bail};
use builder::Builder;
use guest_agent::stats::Stats;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use tempfile::TempDir;
use wlproxy_tests::{Process, until};

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
    compositor: Option<Compositor>,
    processes: Vec<Process>,
    /// A client of another VM.
    neighbour: Option<Listener>,
    /// Where the agent writes its numbers, if one does.
    stats: Option<PathBuf>,
    /// Removed last.
    folder: TempDir,
}

/// What a path has that isn't needed everywhere.
#[derive(Debug, Default, Clone, Copy)]
pub struct Extras {
    /// The largest window of which [`Route::check`] has to see all, where the compositor isn't the sink.
    pub window: Option<Size>,
    /// Whether there is somebody of another VM, for [`Route::flood`].
    pub neighbour: bool,
}

impl Route {
    /// Starts `path` to `sink`, and a client on it.
    ///
    /// # Errors
    /// If it can't be had on this machine, with how to get it; or a process doesn't start.
    pub fn start(path: Path, sink: &mut Sink) -> Result<Self> {
        Self::start_with(path, Extras::default(), sink)
    }

    /// The same with what isn't needed everywhere.
    ///
    /// # Errors
    /// As above, or if the path can't have it.
    pub fn start_with(path: Path, extras: Extras, sink: &mut Sink) -> Result<Self> {
        let Extras { window, neighbour } = extras;
        let folder = folder()?;
        let socket = sink.socket().to_owned();
        let mut builder =
            Builder { folder: folder.path(), sink: &socket, processes: Vec::new(), stats: None };
        let mut compositor = None;
        let client = match path {
            Path::Direct => builder.client_at(&socket),
            Path::Relays(count) => builder.relays(count),
            Path::Shadow(isolation) => {
                builder.wlproxy(isolation, neighbour);
                builder.serve();
                builder.run(false)
            }
            Path::ZeroCopy(isolation) => {
                builder.wlproxy(isolation, neighbour);
                builder.serve();
                builder.run(true)
            }
            Path::Linked(isolation) => {
                builder.wlproxy(isolation, neighbour);
                sink.link(builder.channel(builder::GUI))?;
                builder.run(true)
            }
            Path::Waypipe(compression) => builder.waypipe(compression.key())?,
            Path::Example(which, way) => {
                let socket =
                    compositor.insert(builder.example(which, way, window)).socket().to_owned();
                match way {
                    Way::Direct => builder.client_at(&socket),
                    Way::Serve(isolation) => {
                        builder.wlproxy(isolation, neighbour);
                        builder.serve_for(&socket);
                        builder.run(true)
                    }
                    Way::Shim(isolation) => {
                        builder.wlproxy(isolation, neighbour);
                        builder.run(true)
                    }
                }
            }
        };
        let neighbour = if neighbour {
            let socket = compositor.as_ref().map_or(&*socket, Compositor::socket);
            let client = builder.neighbour(path, socket)?;
            Some(Listener::new(Process::spawn("neighbour", client, folder.path(), true)))
        } else {
            None
        };
        let Builder { processes, stats, .. } = builder;
        let client = Listener::new(Process::spawn("client", client, folder.path(), true));
        let mut route =
            Self { path, client, client_id: 0, compositor, processes, neighbour, stats, folder };
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

    /// The same if windows up to a size are checked.
    ///
    /// # Errors
    /// If one doesn't start.
    pub fn start_all_for(paths: &[Path], window: Size, sink: &mut Sink) -> Result<Vec<Self>> {
        let extras = Extras { window: Some(window), ..Extras::default() };
        paths.iter().map(|&path| Self::start_with(path, extras, sink)).collect()
    }

    /// Why `path` can't be had on this machine, if it can't.
    pub fn lacks(path: Path) -> Option<String> {
        match path {
            Path::Waypipe(_) => Waypipe::find().err().map(|error| error.to_string()),
            Path::Example(which, _) => {
                let missing = Compositor::lacks(which);
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
        let answer = ask(&mut self.client, order);
        answer.with_context(|| format!("{}\n{}", self.path, self.logs()))
    }

    /// Tells the neighbour something.
    fn tell_neighbour(&mut self, order: Order) -> Result<Answer> {
        let neighbour = self.neighbour.as_mut().context("there is no neighbour")?;
        let answer = ask(neighbour, order);
        answer.with_context(|| format!("{}, beside it\n{}", self.path, self.logs()))
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

    /// Has the neighbour be ready to flood the path whenever the client measures.
    ///
    /// # Errors
    /// If there is none or it can't, with the ends of all logs.
    pub fn flood(&mut self, flood: Flood) -> Result<()> {
        self.tell_neighbour(Order::Flood(flood)).map(|_| ())
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
        if self.neighbour.is_some() {
            self.tell_neighbour(Order::Wake)?;
        }
        let mut measured = match self.tell(Order::Burst(burst))? {
            Answer::Measured(measured) => measured,
            other => bail!("{}: measured nothing but {other:?}", self.path),
        };
        if self.neighbour.is_some() {
            match self.tell_neighbour(Order::Hush)? {
                Answer::Poured(poured) => measured.beside = poured,
                other => bail!("{}: beside it, there was nothing but {other:?}", self.path),
            }
        }
        Ok(measured)
    }

    /// Makes sure that the compositor shows what the client has drawn last; and if it is the sink, that this is the last that
    /// any client has.
    ///
    /// # Errors
    /// If it doesn't: then nothing that was measured counts.
    pub fn check(&mut self, sink: &mut Sink) -> Result<()> {
        let Answer::Checksum(drawn) = self.tell(Order::Checksum)? else { bail!("no checksum") };
        let shown = match &self.compositor {
            None => sink.checksum()?,
            Some(compositor) => {
                let shown = compositor.checksum();
                Some(shown.with_context(|| format!("{}\n{}", self.path, self.logs()))?)
            }
        };
        if shown != Some(drawn) {
            bail!("{}: it isn't shown what the client has drawn: {shown:?}", self.path);
        }
        Ok(())
    }

    /// The compositor at its other end.
    pub(crate) fn compositor(&self, sink: &mut Sink) -> u32 {
        self.compositor.as_ref().map_or_else(|| sink.id(), Compositor::id)
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

/// Tells a client something; what it answers.
fn ask(client: &mut Listener, order: Order) -> Result<Answer> {
    let answer = match client.tell(&order) {
        Ok(Answer::Failed(why)) => Err(anyhow::anyhow!("{why}")),
        answer => answer,
    };
    answer.with_context(|| format!("{order:?} failed"))
}

/// A fresh folder, not readable for others.
fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("wlb").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}
