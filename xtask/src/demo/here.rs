//! `--here`: the client VMs' windows on the desktop that is there, until the user has seen enough.

use super::scene::{CLIENT_VMS, COMPOSITOR_VM, ClientVm, agent_name};
use super::show::{ANSWER_DEADLINE, GRIM, Show, WINDOWS_DEADLINE, text, words};
use crate::failure::{Failure, Interrupted};
use crate::part::Identity;
use crate::supervisor::Step;
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long somebody may look: for ever.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How often agents are asked whether their windows are there.
const WINDOWS_INTERVAL: Duration = Duration::from_millis(500);

/// What a client VM makes in its room when its last application has ended.
const CLOSED: &str = "closed";

/// The compositor that is there.
#[derive(Debug)]
pub(crate) struct Desktop {
    pub(crate) socket: PathBuf,
    /// Whose it is.
    pub(crate) owner: Identity,
}

impl Desktop {
    /// The one of `WAYLAND_DISPLAY`.
    pub(crate) fn find() -> Result<Self> {
        Self::of(env::var_os("WAYLAND_DISPLAY"), env::var_os("XDG_RUNTIME_DIR"))
    }

    fn of(display: Option<OsString>, runtime_dir: Option<OsString>) -> Result<Self> {
        let cure = "call this in a terminal on a Wayland desktop, or without --here";
        let set = |value: Option<OsString>| value.filter(|value| !value.is_empty());
        let Some(display) = set(display) else {
            bail!("there is no desktop here: WAYLAND_DISPLAY isn't set; {cure}");
        };
        let socket = match set(runtime_dir) {
            _ if Path::new(&display).is_absolute() => PathBuf::from(display),
            Some(runtime_dir) => Path::new(&runtime_dir).join(display),
            None => bail!("WAYLAND_DISPLAY is {display:?}, but XDG_RUNTIME_DIR isn't set; {cure}"),
        };
        let shown = socket.display();
        UnixStream::connect(&socket)
            .with_context(|| format!("no compositor can be reached at {shown}; {cure}"))?;
        let metadata = fs::metadata(&socket)?;
        let owner = Identity { uid: metadata.uid(), gid: metadata.gid() };
        Ok(Self { socket, owner })
    }
}

/// What `guest-agent run` runs: applications to click at, and a terminal from which others can be started. When the last
/// one has ended, it says so and waits to be stopped, so that its agent can still be asked for its numbers.
fn script(vm: ClientVm) -> String {
    let ClientVm { name, .. } = vm;
    format!(
        r#"
app() {{ "$@"; echo "$1 ended with status $?"; }}
app foot --config=/dev/null --title=foot --font='DejaVu Sans Mono:size=12' \
    --window-size-pixels=560x300 sh -c '
        printf "\n  This is foot in the client VM \033[1m{name}\033[0m\n\n"
        printf "  Applications that you start here are in it, too.\n\n"
        exec sh' &
app weston-clickdot &
app weston-flower &
wait
: > {CLOSED}
exec sleep infinity
"#
    )
}

/// How many applications that starts.
const APPLICATIONS: u64 = 3;

impl Show<'_> {
    /// Runs it until Ctrl-C, or until the last window was closed. Returns the table.
    pub(crate) fn run_here(mut self, desktop: &Desktop) -> Result<String> {
        self.steps_here(desktop).map_err(|error| self.supervisor.explain(error))
    }

    fn steps_here(&mut self, desktop: &Desktop) -> Result<String> {
        let config = self.start_wlproxy()?;
        self.start_serve(&desktop.socket)?;
        for vm in CLIENT_VMS {
            let mut spec = self.agent(vm.name, "run")?;
            spec.args.extend(words(&["--", "sh", "-c", &script(vm)]));
            self.supervisor.start(&spec)?;
        }
        for vm in CLIENT_VMS {
            self.wait_for_frames(vm)?;
        }
        self.try_picture(&desktop.socket)?;
        self.look()?;
        let numbers = self.count(&config)?;
        self.supervisor.progress.done();
        let report = serde_json::to_string_pretty(&numbers.json())? + "\n";
        fs::write(&self.output.report, report)
            .with_context(|| format!("can't write {}", self.output.report.display()))?;
        Ok(numbers.table())
    }

    /// Waits until the applications of a VM have connected and drawn. Their windows are the desktop's business.
    fn wait_for_frames(&mut self, vm: ClientVm) -> Result<()> {
        let name = vm.name;
        self.supervisor.progress.stage(format!("waiting for the windows of client VM `{name}`"));
        let begin = Instant::now();
        loop {
            let stats = self.agent_stats(name)?;
            let [connections, frames] =
                ["connections", "frames"].map(|key| stats[key].as_u64().unwrap_or(0));
            if connections >= APPLICATIONS && frames >= APPLICATIONS {
                return Ok(());
            }
            let what = format!("{connections} of {APPLICATIONS} connections, {frames} frames");
            if begin.elapsed() > WINDOWS_DEADLINE {
                let seconds = WINDOWS_DEADLINE.as_secs();
                let agent = agent_name(name);
                let logs = self.supervisor.logs(&[&agent]);
                return Err(Failure::new(format!("{agent}: after {seconds} s {what}"), logs).into());
            }
            self.supervisor.pause(WINDOWS_INTERVAL, &what)?;
        }
    }

    /// Takes a picture, of all that is on the desktop, if the compositor lets clients do so, as those of wlroots do.
    fn try_picture(&mut self, compositor: &Path) -> Result<()> {
        self.supervisor.progress.stage("taking a picture of the whole desktop, if it allows it");
        let mut grim = self.spec(GRIM, COMPOSITOR_VM, Path::new(GRIM));
        grim.env.push(("WAYLAND_DISPLAY".to_owned(), text(compositor)?.to_owned()));
        grim.args = words(&["-"]);
        grim.stdout = Some(self.output.picture.clone());
        match self.supervisor.run(&grim, ANSWER_DEADLINE) {
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Ok(()) => return Ok(()),
            Err(_) => {}
        }
        // What stands there is no picture.
        let _ = fs::remove_file(&self.output.picture);
        self.supervisor.progress.done();
        let why = "no picture is taken: grim is missing, or this compositor lets no client do so";
        self.supervisor.progress.say(why);
        Ok(())
    }

    /// Lets the user look.
    fn look(&mut self) -> Result<()> {
        self.supervisor.progress.stage("look, click and type; Ctrl-C ends it");
        let rooms: Vec<PathBuf> = CLIENT_VMS.map(|vm| self.rooms.room(vm.name)).into();
        let watch = Watch::new(&rooms.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        let looked = self.supervisor.wait_for("end", &[], FOREVER, &[watch.as_fd()], || {
            watch.drain();
            let open = rooms.iter().filter(|room| !room.join(CLOSED).exists()).count();
            Ok(match open {
                0 => Step::Done(()),
                open => Step::Waiting(format!("{open} client VMs have windows")),
            })
        });
        match looked {
            Err(error) if is_enough(&error) => Ok(()),
            looked => looked,
        }
    }
}

/// Whether the user has pressed Ctrl-C.
fn is_enough(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Interrupted(Signal::SIGINT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use std::os::unix::net::UnixListener;

    fn of(display: &str, runtime_dir: &str) -> Result<Desktop> {
        Desktop::of(Some(display.into()), Some(runtime_dir.into()))
    }

    #[test]
    fn a_desktop_is_found_by_name_and_by_path() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("wayland-7");
        let _listener = UnixListener::bind(&path).unwrap();
        let found = of("wayland-7", temp.path().to_str().unwrap()).unwrap();
        assert_eq!(found.socket, path);
        assert_eq!(found.owner.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(of(path.to_str().unwrap(), "/nonexistent").unwrap().socket, path);
    }

    #[test]
    fn without_a_desktop_the_cure_is_told() {
        for (error, needle) in [
            (Desktop::of(None, None), "WAYLAND_DISPLAY isn't set"),
            (of("", "/run"), "WAYLAND_DISPLAY isn't set"),
            (of("wayland-7", ""), "XDG_RUNTIME_DIR isn't set"),
            (of("wayland-7", "/nonexistent"), "/nonexistent/wayland-7"),
        ] {
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains(needle) && error.contains("without --here"), "{error}");
        }
    }

    #[test]
    fn only_ctrl_c_is_enough() {
        assert!(is_enough(&Interrupted(Signal::SIGINT).into()));
        assert!(!is_enough(&Interrupted(Signal::SIGTERM).into()));
        assert!(!is_enough(&anyhow!("a part ended")));
    }
}
