//! `cargo xtask vm test`: what is done with VMs, in VMs.
//!
//! For now it tests the VMs themselves.

use super::image::Images;
use super::machine::{Machine, USER};
use super::setup::{Accel, Program, Room, Setup, build};
use crate::demo::picture::Picture;
use crate::demo::sway::Rect;
use crate::family;
use crate::part::end_with_caller;
use crate::progress::Progress;
use crate::supervisor::{Step, Supervisor};
use crate::{demo, root};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Options of `cargo xtask vm test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Who runs the VMs' instructions
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    accel: Accel,
}

/// How long a script of a test may take. The slowest takes two seconds, without KVM and alone.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is copied out whole, in bytes.
const BULK: usize = 1 << 20;

/// The screen of the picture, in pixels.
const SCREEN: (u32, u32) = (800, 600);

/// More than the height of a window's title, in pixels.
const TITLE: i64 = 30;

/// How many windows SWAY shows, all of the same size beside each other.
const COLUMNS: i64 = 4;

/// Starts sway, and clients of several kinds in it.
const SWAY: &str = "\
export SWAYSOCK=$XDG_RUNTIME_DIR/sway.sock
export WLR_BACKENDS=headless WLR_RENDERER=pixman WLR_LIBINPUT_NO_DEVICES=1
cat >/tmp/sway.conf <<'END'
output * resolution 800x600 background #204060 solid_color
exec gtk3-demo
exec weston-simple-shm
exec weston-flower
exec foot -- sh -c 'echo; echo A window in a VM; exec sleep infinity'
END
exec sway -c /tmp/sway.conf
";

/// Waits for their windows, then makes a file.
const WINDOWS: &str = "\
export SWAYSOCK=$XDG_RUNTIME_DIR/sway.sock
for app in gtk3-demo simple-shm flower foot; do
    until swaymsg -t get_tree | grep -q '\"app_id\": \".*'$app; do sleep 0.1; done
done
exec mkfifo /tmp/windows
";

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut progress = Progress::new();
    let images = Images::ensure(&mut progress)?;
    let programs = build(&mut progress)?;
    let logs = root().join("target/vm/logs");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).with_context(|| format!("can't make {}", logs.display()))?;
    let mut supervisor = Supervisor::new(None, &logs, progress)?;
    let mut bench = Bench { images, programs, accel: options.accel, supervisor: &mut supervisor };
    let tested = bench.test();
    let tested = tested.map_err(|error| supervisor.explain(error));
    if tested.is_err() {
        supervisor.progress.failed();
    }
    supervisor.progress.stage("stopping the VMs");
    let stopped = supervisor.stop();
    if stopped.is_ok() {
        supervisor.progress.done();
    }
    supervisor.progress.say(&format!("consoles: {}", logs.display()));
    tested.and(stopped).map_err(demo::tell_logs)
}

/// Where the windows of SWAY are.
fn columns() -> impl Iterator<Item = Rect> {
    let (width, height) = (i64::from(SCREEN.0) / COLUMNS, i64::from(SCREEN.1) - TITLE);
    (0..COLUMNS).map(move |column| Rect { x: column * width, y: TITLE, width, height })
}

struct Bench<'a> {
    images: Images,
    programs: Vec<Program>,
    accel: Accel,
    supervisor: &'a mut Supervisor,
}

impl Bench<'_> {
    fn test(&mut self) -> Result<()> {
        self.stage("booting two VMs");
        let begin = Instant::now();
        let (mut one, mut two) = (self.start("one")?, self.start("two")?);
        one.boot(self.supervisor)?;
        two.boot(self.supervisor)?;
        let seconds = begin.elapsed().as_secs_f32();
        self.supervisor.progress.detail(&format!("{seconds:.1} s"));

        self.stage("each VM is itself");
        self.names(&mut one)?;
        self.names(&mut two)?;
        self.stage("exit statuses come out");
        self.statuses(&mut one)?;
        self.stage("1 MiB comes out as it is, and it is of the current build");
        self.bulk(&mut one)?;
        self.stage("what isn't there is waited for, and what goes on is started");
        self.waiting(&mut one)?;
        self.stage("windows on a compositor in a VM, and a picture of them");
        self.picture(&mut one)?;
        self.stage("a shell on a console, whose VM ends with it");
        self.shell()?;
        self.stage("a VM that is killed is told, leaves nothing, and nobody else notices");
        self.killed(two, &mut one)?;
        self.supervisor.progress.done();
        Ok(())
    }

    fn stage(&mut self, name: &str) {
        self.supervisor.progress.stage(name);
    }

    fn start(&mut self, name: &str) -> Result<Machine> {
        let setup =
            Setup { name: name.to_owned(), accel: self.accel, device: None, terminal: None };
        Machine::start(&setup, &self.images, &self.programs, self.supervisor)
    }

    /// What a script writes, as text.
    fn text(&mut self, vm: &mut Machine, uid: u32, script: &str) -> Result<String> {
        let bytes = vm.check(self.supervisor, uid, script, DEADLINE)?;
        Ok(String::from_utf8(bytes)?.trim().to_owned())
    }

    fn names(&mut self, vm: &mut Machine) -> Result<()> {
        let name = self.text(vm, 0, "cat /proc/sys/kernel/hostname")?;
        ensure!(name == vm.name(), "the VM {} calls itself {name}", vm.name());
        let user = self.text(vm, USER, "id -un; cd; pwd; echo $XDG_RUNTIME_DIR")?;
        ensure!(user == "user\n/home/user\n/run/user/1000", "the user is {user:?}");
        Ok(())
    }

    fn statuses(&mut self, vm: &mut Machine) -> Result<()> {
        for (script, status) in [("true", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)] {
            let output = vm.run(self.supervisor, 0, script, DEADLINE)?;
            ensure!(output.status == status, "{script} had status {}", output.status);
        }
        let output = vm.run(self.supervisor, 0, "echo good; echo bad >&2", DEADLINE)?;
        ensure!(output.stdout == b"good\n" && output.stderr == b"bad\n", "it wrote {output:?}");
        Ok(())
    }

    fn bulk(&mut self, vm: &mut Machine) -> Result<()> {
        for (name, path) in &self.programs {
            let script = format!("head -c {BULK} /usr/local/bin/{name}");
            let found = vm.check(self.supervisor, 0, &script, DEADLINE)?;
            let built = fs::read(path)?;
            let built = &built[..built.len().min(BULK)];
            let differs = found.iter().zip(built).position(|(a, b)| a != b);
            ensure!(
                found == built,
                "{name}: {} of {} bytes came, the first that differs is {differs:?}",
                found.len(),
                built.len()
            );
        }
        self.text(vm, 0, "guest-agent --version")?;
        Ok(())
    }

    fn waiting(&mut self, vm: &mut Machine) -> Result<()> {
        let supervisor = &mut *self.supervisor;
        let sleeper = "echo tired; mkfifo /tmp/there; exec sleep infinity";
        vm.background(supervisor, USER, "sleeper", sleeper)?;
        vm.wait_for(supervisor, "/tmp/there", "sleeper", DEADLINE)?;
        let short = Duration::from_millis(50);
        let Err(error) = vm.wait_for(supervisor, "/tmp/never", "sleeper", short) else {
            bail!("what isn't there was found");
        };
        ensure!(format!("{error:#}").contains("tired"), "the log isn't told: {error:#}");
        Ok(())
    }

    fn picture(&mut self, vm: &mut Machine) -> Result<()> {
        vm.background(self.supervisor, USER, "sway", SWAY)?;
        vm.wait_for(self.supervisor, "/run/user/1000/wayland-1", "sway", DEADLINE)?;
        vm.background(self.supervisor, USER, "windows", WINDOWS)?;
        vm.wait_for(self.supervisor, "/tmp/windows", "sway", DEADLINE)?;
        let path = Self::picture_path();
        let end = Instant::now() + DEADLINE;
        loop {
            let grim = "WAYLAND_DISPLAY=wayland-1 grim -";
            fs::write(&path, vm.check(self.supervisor, USER, grim, DEADLINE)?)?;
            let picture = Picture::read(&path)?;
            let size = (picture.width, picture.height);
            if size == SCREEN && columns().all(|column| picture.shows_content(column)) {
                return Ok(());
            }
            if Instant::now() >= end {
                let log = self.text(vm, 0, "tail /run/log/sway")?;
                bail!(
                    "{}: {size:?} pixels don't show all windows; sway says:\n{log}",
                    path.display()
                );
            }
        }
    }

    fn picture_path() -> PathBuf {
        root().join("target/vm/test.png")
    }

    /// `cargo xtask vm shell`, with a pipe for a terminal.
    fn shell(&mut self) -> Result<()> {
        let processes = family::descendants().len();
        let mut command = Command::new(env::current_exe()?);
        command.args(["vm", "shell", "three", "--plain", "--accel", &self.accel.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = root().join("target/vm/logs/three.log");
        command.stderr(fs::File::create(&log)?);
        end_with_caller(&mut command);
        let mut child = command.spawn().context("can't run the shell")?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, mut stdout) = (stdin.as_mut().expect("piped"), stdout.expect("piped"));
        let mut said = String::new();
        self.read_until(&mut stdout, &mut said, "root@three:~# ")?;
        // The terminal echoes what is typed; only the shell makes 42 of it.
        stdin.write_all(b"echo it is $((6 * 7))\n")?;
        self.read_until(&mut stdout, &mut said, "it is 42")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let status = child.wait()?;
        let code = 128 + Signal::SIGTERM as i32;
        ensure!(status.code() == Some(code), "when it was told to stop, it ended with {status}");
        let left = family::descendants().len();
        ensure!(left == processes, "of a shell {} processes are left", left - processes);
        Ok(())
    }

    fn read_until(&mut self, from: &mut ChildStdout, said: &mut String, text: &str) -> Result<()> {
        let mut bytes = vec![0; 4096];
        while !said.contains(text) {
            let wake = from.as_fd();
            let ready = || {
                let mut fds = [PollFd::new(wake, PollFlags::POLLIN)];
                Ok(match poll(&mut fds, PollTimeout::ZERO)? {
                    0 => Step::Waiting("three".to_owned()),
                    _ => Step::Done(()),
                })
            };
            self.supervisor.wait_for(text, &["three"], DEADLINE, &[wake], ready)?;
            let length = from.read(&mut bytes)?;
            ensure!(length > 0, "the shell ended before it said {text:?}; it said: {said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        Ok(())
    }

    fn killed(&mut self, mut vm: Machine, other: &mut Machine) -> Result<()> {
        let name = vm.name().to_owned();
        ensure!(Room::new(&self.images.rooms, &name).is_err(), "there could be two VMs {name}");
        let processes = family::descendants().len();
        self.supervisor.signal(&name, Signal::SIGKILL)?;
        let Err(error) = vm.run(self.supervisor, 0, "sleep infinity", DEADLINE) else {
            bail!("a script ended by itself");
        };
        let told = format!("{error:#}");
        ensure!(told.contains(&name), "whose end it was isn't told: {told}");
        vm.kill(self.supervisor)?;
        let left = family::descendants().len();
        ensure!(left == processes - 1, "of {processes} processes {left} are left");
        Room::new(&self.images.rooms, &name)?;
        self.names(other)
    }
}
