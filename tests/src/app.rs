//! An unmodified application: started, seen, used and closed, directly or through the path.

use crate::footprint::is_at_work;
use crate::process::Process;
use crate::wait::PATIENCE;
use crate::{Client, Desk, Display, Image, Input, Plan, Suite, Sway, Vm};
use anyhow::Result;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_protocols::xdg::activation::v1::client::xdg_activation_v1::XdgActivationV1;

/// So many screenshots in a row have to be equal until an application counts as having drawn all it wants to. Toolkits
/// draw twice or thrice when they get the focus, and a screenshot takes some frames.
const STILL: usize = 10;

/// The same of one that always has something to do, as SDL's loop has.
const STILL_AT_WORK: usize = 5 * STILL;

/// So many keys may have something copied: toolkits hide the mouse, which makes a cursor, at the first.
const FIRST: usize = 5;

/// How long an application may take until its window is there. A browser reads 300 MB for it, from a disk that may be
/// cold.
const START: Duration = Duration::from_secs(60);

/// Where the window's upper left corner is put, in pixels: the mouse rests beside it.
const PLACE: (i64, i64) = (20, 20);

/// An application, and what is done with it.
#[derive(Debug)]
pub struct App {
    /// Its name in logs.
    pub name: &'static str,
    /// Where its program is from, if not from the machine.
    pub suite: Option<Suite>,
    /// Its command line.
    pub command: &'static [&'static str],
    /// Variables in its environment besides those of every desk.
    pub environment: &'static [(&'static str, &'static str)],
    /// Files in its home, which is fresh: path and content.
    pub files: &'static [(&'static str, &'static str)],
    /// Its window's app id, or a part of its title.
    pub window: &'static str,
    /// How it is used.
    pub steps: &'static [Step],
    /// What it has to say meanwhile, besides what libwayland logs of it.
    pub says: &'static [&'static str],
    /// How it is asked to end. Its exit status is 0 then, if it isn't killed.
    pub close: Close,
}

/// How an application is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// By the compositor, as when a user closes its window.
    Window,
    /// The same, but it may hang when its window is gone, and is killed then.
    WindowOnly,
    /// By SIGTERM.
    Signal,
}

/// One use of an application. Places are in logical pixels from the window's upper left corner.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A key, by its code in linux/input-event-codes.h.
    Key(u32, Effect),
    /// These keys in turn, so many in all, each after the application has drawn the one before. If its agent lends to it,
    /// nothing of all that is copied but of the first five.
    Keys(&'static [u32], usize, Effect),
    /// A click with the left button.
    Click(i64, i64, Effect),
    /// One with the right button.
    RightClick(i64, i64, Effect),
    /// So many clicks of the wheel.
    Scroll(i64, i64, u32, Effect),
    /// A byte into the pipe of this path, and a wait until somebody has made `PATH.done`. The application shows nothing of
    /// it.
    Poke(&'static str),
    /// A command to sway, of which the application needn't hear.
    Sway(&'static str, Effect),
    /// One more output is plugged in.
    Plug(Effect),
    /// It is unplugged.
    Unplug(Effect),
}

/// What has to follow from it on the screen. In any case the application hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Another picture, that stays, and is the same on both ways.
    Picture,
    /// Pictures that change on and on.
    Motion,
    /// The application shows nothing of it.
    Nothing,
}

impl App {
    /// The whole life of the application directly, in a client VM, and in one whose agent lends to it; each picture has to
    /// be the same.
    pub fn live_twice(&self) -> Result<()> {
        let (vms, lending) = (&["work", "lent"], &["lent"]);
        self.live_twice_on(Desk::start(Plan { vms, lending, ..Plan::default() }))
    }

    /// The same on a desk of the caller's, in each of its client VMs.
    pub fn live_twice_on(&self, mut desk: Desk) -> Result<()> {
        self.live_everywhere(&mut desk)
    }

    /// The same, and the desk is the caller's still.
    pub fn live_everywhere(&self, desk: &mut Desk) -> Result<()> {
        warm_up(desk)?;
        desk.take_baseline();
        let mut expected = self.live(desk, &desk.direct(), "direct", None)?;
        for vm in desk.vms() {
            let display = desk.through(vm);
            let Err(error) = self.live(desk, &display, vm, Some(&expected)) else { continue };
            // What a toolkit does when it is idle may come after it was taken for still: if the application looks
            // otherwise the second time, directly, then that is what is expected.
            desk.sway().empty();
            let second = self.live(desk, &desk.direct(), &format!("direct-for-{vm}"), None)?;
            if second == expected {
                return Err(error);
            }
            self.live(desk, &display, &format!("{vm}-again"), Some(&second))?;
            expected = second;
        }
        for vm in desk.vms().iter().filter(|vm| desk.through(vm).lends()) {
            let seen = desk.vm(vm).stats("seen_frames");
            assert!(seen > 0, "{} has drawn into nothing that it was lent", self.name);
        }
        assert_eq!(desk.complaints(), [""; 0]);
        Ok(())
    }

    /// Its whole life on `display`: its pictures, the first one of the window as it opens.
    pub fn live(
        &self,
        desk: &Desk,
        display: &Display,
        way: &str,
        expected: Option<&[Image]>,
    ) -> Result<Vec<Image>> {
        let mut input = Input::new(&desk.direct())?;
        // Beside every window, so that each starts without it.
        input.move_to(0, 0)?;
        let mut running = self.start(desk, display, way);
        let id = running.process.id();
        let mut pictures = Vec::new();
        let mut last = desk.screenshot();
        let look = |pictures: &mut Vec<Image>, last: &Image, name: &str| {
            let expected = expected.map(|expected| &expected[pictures.len()]);
            let name = format!("{}-{name}", self.name);
            let picture = settled(desk, id, last, expected, &name)?;
            pictures.push(picture.clone());
            anyhow::Ok(picture)
        };
        running.wait_for_window();
        last = look(&mut pictures, &last, "opened")?;
        running.wait_for("wl_keyboard", "enter", 0);
        for (i, step) in self.steps.iter().enumerate() {
            running.perform(desk, &mut input, step)?;
            match step.effect() {
                Effect::Picture => last = look(&mut pictures, &last, &format!("step-{i}"))?,
                Effect::Motion => last = moving(desk, last),
                Effect::Nothing => {}
            }
        }
        running.close();
        Ok(pictures)
    }

    /// Starts it with a home and an XDG_RUNTIME_DIR of its own.
    fn start(&self, desk: &Desk, display: &Display, way: &str) -> Running<'_> {
        let home = desk.folder().join(format!("{}-{way}", self.name));
        fs::create_dir(&home).expect("a fresh folder");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("our own folder");
        for (path, content) in self.files {
            let path = home.join(path);
            fs::create_dir_all(path.parent().expect("it lies in the home"))
                .expect("our own folder");
            fs::write(path, content).expect("our own folder");
        }
        let mut command = match self.suite {
            None => desk.command(self.command[0]),
            Some(suite) => desk.command(suite.program(self.command[0])),
        };
        command.envs(self.suite.into_iter().flat_map(Suite::environment));
        command.args(&self.command[1..]).current_dir(&home);
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        command.env("WAYLAND_DEBUG", "1").envs(self.environment.iter().copied());
        let name = format!("{}-{way}", self.name);
        let process = Process::spawn(&name, display.command(command), &desk.logs(), false);
        let (sway, display) = (desk.sway(), display.clone());
        Running { app: self, process, sway, window: None, place: (0, 0), home, display }
    }
}

/// What is made once, for the first application, and kept: the keymap in each VM, the source of sway's tokens.
fn warm_up(desk: &Desk) -> Result<()> {
    let _input = Input::new(&desk.direct())?;
    let vms = desk.vms().iter().map(|vm| desk.through(vm));
    for display in [desk.direct()].into_iter().chain(vms) {
        let mut client = Client::connect(&display)?;
        let seat: WlSeat = client.bind(7)?;
        client.until("a keyboard", |state| state.keyboard)?;
        seat.get_keyboard(&client.handle(), ());
        client.until("a keymap", |state| state.keymap.is_some())?;
        let activation: XdgActivationV1 = client.bind(1)?;
        activation.get_activation_token(&client.handle(), ()).commit();
        client.roundtrip()?;
    }
    Ok(())
}

impl Step {
    fn effect(self) -> Effect {
        match self {
            Self::Key(_, effect)
            | Self::Keys(_, _, effect)
            | Self::Click(_, _, effect)
            | Self::RightClick(_, _, effect)
            | Self::Scroll(_, _, _, effect)
            | Self::Sway(_, effect)
            | Self::Plug(effect)
            | Self::Unplug(effect) => effect,
            Self::Poke(_) => Effect::Nothing,
        }
    }
}

/// An application that runs.
#[derive(Debug)]
struct Running<'a> {
    app: &'a App,
    process: Process,
    sway: Sway,
    window: Option<u64>,
    place: (i64, i64),
    home: PathBuf,
    display: Display,
}

impl Running<'_> {
    /// Waits for the window and puts it where it belongs.
    fn wait_for_window(&mut self) {
        let wanted = self.app.window;
        let window = self.sway.wait_within(START, wanted, |windows| {
            // In a VM, the host puts something before both.
            windows.iter().find(|w| w.app_id.ends_with(wanted) || w.title.contains(wanted)).cloned()
        });
        if window.floating {
            self.place = PLACE;
            self.sway.place(window.id, PLACE.0, PLACE.1);
        }
        self.window = Some(window.id);
    }

    /// Does it, and waits until the application has heard of it, if it has to.
    fn perform(&mut self, desk: &Desk, input: &mut Input, step: &Step) -> Result<()> {
        match *step {
            Step::Key(code, _) => {
                let before = self.told("wl_keyboard", "key");
                input.key(code)?;
                self.wait_for("wl_keyboard", "key", before + 1);
            }
            Step::Keys(codes, count, _) => self.press(desk, input, codes, count)?,
            Step::Click(x, y, _) | Step::RightClick(x, y, _) => {
                let before = self.told("wl_pointer", "button");
                input.move_to(self.place.0 + x, self.place.1 + y)?;
                match step {
                    Step::RightClick(..) => input.right_click()?,
                    _ => input.click()?,
                }
                self.wait_for("wl_pointer", "button", before + 1);
            }
            Step::Scroll(x, y, notches, _) => {
                let before = self.told("wl_pointer", "axis");
                input.move_to(self.place.0 + x, self.place.1 + y)?;
                input.scroll(notches)?;
                self.wait_for("wl_pointer", "axis", before + notches as usize - 1);
            }
            Step::Poke(path) => {
                // Who doesn't read it any more fails the test, and isn't waited for.
                let open = || {
                    OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
                };
                let mut pipe = open().expect("a pipe that is read");
                pipe.write_all(b"x").expect("a pipe that is read");
                let done = format!("{path}.done");
                crate::until(&done, || fs::remove_file(&done).ok());
            }
            Step::Sway(command, _) => self.sway.command(command),
            Step::Plug(_) => desk.plug(),
            Step::Unplug(_) => desk.unplug(),
        }
        Ok(())
    }

    /// Presses keys, each after the frame that the one before has made: an agent tells of frames.
    fn press(&mut self, desk: &Desk, input: &mut Input, codes: &[u32], count: usize) -> Result<()> {
        let vm = desk.vm_of(&self.display);
        let numbers = |vm: &Vm| (vm.stats("copied_bytes"), vm.stats("seen_frames"));
        let mut before = None;
        for (i, &code) in codes.iter().cycle().take(count).enumerate() {
            if i == FIRST {
                before = vm.map(numbers);
            }
            let (told, frames) = (self.told("wl_keyboard", "key"), vm.map(|vm| vm.stats("frames")));
            input.key(code)?;
            self.wait_for("wl_keyboard", "key", told + 1);
            if let (Some(vm), Some(frames)) = (vm, frames) {
                crate::until("a frame", || (vm.stats("frames") > frames).then_some(()));
            }
        }
        if let (true, Some(before), Some(vm)) = (self.display.lends(), before, vm) {
            let after = numbers(vm);
            let copied = after.0 - before.0;
            assert_eq!(copied, 0, "{} had {copied} bytes copied", self.app.name);
            let seen = after.1 - before.1;
            assert!(
                seen >= (count - FIRST) as u64,
                "{}: {seen} frames for {count} keys",
                self.app.name
            );
        }
        Ok(())
    }

    /// Waits until the application was told more than `before` such events.
    fn wait_for(&mut self, interface: &str, event: &str, before: usize) {
        crate::until(&format!("{interface}.{event} for {}", self.app.name), || {
            (self.told(interface, event) > before).then_some(())
        });
    }

    /// How many such events the application was told; it logs them by WAYLAND_DEBUG.
    fn told(&self, interface: &str, event: &str) -> usize {
        let told = |line: &&str| {
            // `[ 12.345] interface@7.event(`, and with `#7` since libwayland 1.23.
            let Some((start, rest)) = line.split_once(interface) else { return false };
            let rest = rest.trim_start_matches(['@', '#']).trim_start_matches(char::is_numeric);
            let rest = rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(event));
            !start.contains("->") && rest.is_some_and(|rest| rest.starts_with('('))
        };
        self.process.log().lines().filter(told).count()
    }

    /// Asks it to close its window and waits until it has ended, by itself.
    fn close(mut self) {
        match (self.app.close, self.window) {
            (Close::Window | Close::WindowOnly, Some(window)) => {
                self.sway.command(&format!("[con_id={window}] kill"));
            }
            _ => self.process.signal(Signal::SIGTERM),
        }
        self.sway.empty();
        if self.app.close == Close::WindowOnly {
            self.process.terminate();
        } else {
            let status = self.process.wait();
            assert!(status.success(), "{} ended with {status}", self.process.name());
        }
        let log = self.process.log();
        let error = log.lines().find(|line| line.contains("wl_display@1.error("));
        assert_eq!(error, None, "{}", self.app.name);
        let unsaid = self.app.says.iter().find(|said| !log.contains(*said));
        assert_eq!(unsaid, None, "{} didn't say it", self.app.name);
        fs::remove_dir_all(&self.home).expect("our own folder");
    }
}

/// Waits until the screen looks like `expected`, which may not come true; without that until it looks otherwise than
/// `before`, and stays so while the application, process `id`, has nothing to do, or for long.
fn settled(
    desk: &Desk,
    id: u32,
    before: &Image,
    expected: Option<&Image>,
    name: &str,
) -> Result<Image> {
    let deadline = Instant::now() + PATIENCE;
    let mut image = desk.screenshot();
    let (mut equal, mut idle) = (0, 0);
    let is_still = |equal, idle| equal >= STILL_AT_WORK || idle >= STILL;
    while expected.map_or(!is_still(equal, idle), |expected| image != *expected) {
        if Instant::now() >= deadline {
            if let Some(expected) = expected {
                image.check_equals(expected, name)?;
            }
            before.save(&std::env::temp_dir().join(format!("{name}-before.png")));
            image.save(&std::env::temp_dir().join(format!("{name}-is.png")));
            let still = if image == *before { "nothing changed" } else { "it never stood still" };
            panic!("{name}: {still} in {PATIENCE:?}");
        }
        let is_idle = !is_at_work(id);
        let next = desk.screenshot();
        let is_equal = next == image && next != *before;
        equal = if is_equal { equal + 1 } else { 0 };
        idle = if is_equal && is_idle { idle + 1 } else { 0 };
        image = next;
    }
    Ok(image)
}

/// Waits until the screen has changed thrice.
fn moving(desk: &Desk, mut image: Image) -> Image {
    for _ in 0..3 {
        image = crate::until("another picture", || {
            let next = desk.screenshot();
            (next != image).then_some(next)
        });
    }
    image
}
