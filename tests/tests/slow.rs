//! Clients that are slow to read: the compositor ends none of them for it, and they miss nothing that a person did.

use anyhow::Result;
use guest_agent::channel::VfdId;
use nix::sys::signal::Signal;
use serde_json::Value;
use wlproxy_protocol::accept::Refusal;
use wlproxy_tests::{
    Arg, Desk, Display, Doorway, Input, Plan, Puppet, Raw, Seat, anonymous, message, until,
};

const VMS: &[&str] = &["untrusted", "work"];

/// Motions of the mouse that nobody reads: with their frames 2.8 MB, and all that is in between keeps less than that.
const MOTIONS: u32 = 100_000;

/// Motions between two presses of a button.
const BETWEEN: u32 = 1000;

/// Motions in one message of the compositor VM.
const AT_ONCE: u32 = 125;

/// Motions before the test waits until the host has read them. With their frames 224 KB: the compositor VM never waits, and
/// no mouse moves so fast that a worker couldn't follow.
const AHEAD: u32 = 8 * BETWEEN;

/// What the workers may have grown by, in bytes: what may wait in both of them for one client, and then some.
const WAITING: usize = 4 << 20;

/// wl_pointer's events.
const MOTION: u16 = 2;
const BUTTON: u16 = 3;
const FRAME: u16 = 5;

/// The compositor VM, played by the test.
struct Gui {
    puppet: Puppet,
    door: Doorway,
}

/// A client, and the compositor's end of its connection.
struct Link {
    raw: Raw,
    number: u64,
    context: VfdId,
    callback: u32,
    pointer: u32,
}

impl Gui {
    fn new(desk: &Desk) -> Self {
        let mut puppet = desk.puppet("gui");
        let door = Doorway::open(&mut puppet);
        Self { puppet, door }
    }

    /// A client that has a mouse.
    fn client(&mut self, display: &Display) -> Link {
        let mut raw = Raw::connect(display);
        let record = self.door.record(&mut self.puppet);
        let context = self.door.accept(&mut self.puppet, &record);
        self.hear(context, 12);
        let global = message(2, 0, &[Arg::Uint(1), Arg::Text("wl_seat"), Arg::Uint(5)]);
        self.puppet.send(context, &global, &[]);
        assert!(raw.event().is_some());
        let seat = raw.bind("wl_seat", 5);
        self.hear(context, 32);
        let (pointer, callback) = (raw.id(), raw.id());
        raw.send(&message(seat, 0, &[Arg::Uint(pointer)]), []);
        self.hear(context, 12);
        Link { raw, number: record.connection, context, callback, pointer }
    }

    fn hear(&mut self, context: VfdId, length: usize) {
        self.puppet.read(context, length);
    }

    /// The client asks, and hears the answer after whatever else it hears first.
    fn roundtrip(&mut self, link: &mut Link) {
        let callback = Arg::Uint(link.callback);
        link.raw.send(&message(1, 0, &[callback]), []);
        self.hear(link.context, 12);
        let done = message(link.callback, 0, &[Arg::Uint(0)]);
        self.puppet.send(link.context, &[done, message(1, 1, &[callback])].concat(), &[]);
        loop {
            let event = link.raw.event().expect("the connection stays");
            if (event.object, event.opcode) == (1, 1) {
                return;
            }
        }
    }

    /// The mouse moves and moves over the window of a client in `vm`, and clicks now and then, while `other` is served.
    fn flood(&mut self, desk: &Desk, vm: &str, link: &Link, other: &mut Link) {
        let received = || {
            let all = &desk.whole_status()["vms"][vm]["connections"];
            let connections = all.as_array().expect("a list").iter();
            let ours = |one: &&Value| one["connection"].as_u64() == Some(link.number);
            connections.filter(ours).find_map(|one| one["received_bytes"].as_u64()).unwrap_or(0)
        };
        let (before, mut sent) = (received(), 0);
        let event = |opcode, args: &[u32]| {
            let args: Vec<_> = args.iter().map(|&arg| Arg::Uint(arg)).collect();
            message(link.pointer, opcode, &args)
        };
        for from in (0..MOTIONS).step_by(AT_ONCE as usize) {
            let mut bytes = Vec::new();
            for number in from..from + AT_ONCE {
                bytes.extend(event(MOTION, &[number, number, 2 * number]));
                bytes.extend(event(FRAME, &[]));
            }
            if from % BETWEEN == 0 {
                bytes.extend(event(BUTTON, &[from / BETWEEN, from, 0x110, 1]));
                bytes.extend(event(FRAME, &[]));
            }
            self.puppet.send(link.context, &bytes, &[]);
            sent += bytes.len() as u64;
            if from % AHEAD == 0 {
                self.roundtrip(other);
                let until_read = || (received() >= before + sent).then_some(());
                until("the host to read what nobody takes", until_read);
            }
        }
    }
}

/// What a client hears of all that, which is asked for an answer behind it.
fn hears_all(gui: &mut Gui, mut link: Link) {
    let callback = Arg::Uint(link.callback);
    let done = message(link.callback, 0, &[Arg::Uint(0)]);
    link.raw.send(&message(1, 0, &[callback]), []);
    gui.hear(link.context, 12);
    gui.puppet.send(link.context, &[done, message(1, 1, &[callback])].concat(), &[]);
    let (mut clicks, mut motions, mut last, mut position) = (0, 0, None, None);
    loop {
        let event = link.raw.event().expect("the connection stays");
        if (event.object, event.opcode) == (1, 1) {
            break;
        }
        if event.object != link.pointer {
            continue;
        }
        match event.opcode {
            MOTION => {
                let number = event.uint(0);
                assert!(position < Some(number), "{number} after {position:?}");
                assert_eq!((event.uint(4), event.uint(8)), (number, 2 * number));
                position = Some(number);
                motions += 1;
            }
            BUTTON => {
                assert_eq!(event.uint(0), clicks, "each click once, in order");
                // Where the mouse was then: after all that came before in the same message.
                assert_eq!(position, Some(clicks * BETWEEN + AT_ONCE - 1));
                clicks += 1;
            }
            opcode => assert_eq!(opcode, FRAME),
        }
        assert!((last, event.opcode) != (Some(FRAME), FRAME), "a frame of nothing");
        last = Some(event.opcode);
    }
    assert_eq!(last, Some(FRAME));
    assert_eq!((clicks, position), (MOTIONS / BETWEEN, Some(MOTIONS - 1)));
    eprintln!("heard {motions} of {MOTIONS} motions, and all {clicks} clicks");
    gui.roundtrip(&mut link);
}

fn memory(desk: &Desk, vms: &[&str]) -> usize {
    vms.iter().map(|vm| anonymous(desk.status(vm, "pid") as u32)).sum()
}

/// Who is slow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    Client,
    Agent,
}

fn is_slow(plan: Plan, slow: Slow) {
    let mut desk = Desk::gui_by_hand(plan);
    VMS.iter().for_each(|vm| desk.ready(vm));
    let mut gui = Gui::new(&desk);
    let link = gui.client(&desk.through("work"));
    let vm = if slow == Slow::Client { "work" } else { "untrusted" };
    let mut other = gui.client(&desk.through(vm));
    let before = memory(&desk, &["work", "gui"]);
    if slow == Slow::Agent {
        desk.vm("work").signal(Signal::SIGSTOP);
    }
    gui.flood(&desk, "work", &link, &mut other);
    let grown = memory(&desk, &["work", "gui"]).saturating_sub(before);
    assert!(grown <= WAITING, "the workers have grown by {} KiB", grown >> 10);
    desk.vm("work").signal(Signal::SIGCONT);
    hears_all(&mut gui, link);
    gui.roundtrip(&mut other);
}

fn plan() -> Plan {
    Plan { vms: VMS, ..Plan::default() }
}

#[test]
fn a_client_that_does_not_read_misses_no_click() {
    is_slow(plan(), Slow::Client);
}

#[test]
fn a_client_whose_agent_is_stopped_misses_no_click() {
    is_slow(plan(), Slow::Agent);
}

#[test]
fn without_isolation_neither_does() {
    is_slow(Plan { isolation: Some("none"), ..plan() }, Slow::Client);
    is_slow(Plan { isolation: Some("none"), ..plan() }, Slow::Agent);
}

/// The same for one that dials the host, without an agent of ours.
#[test]
fn a_client_without_an_agent_misses_no_click() {
    let mut desk = Desk::gui_by_hand(Plan { vms: &["work"], dialling: &["far"], ..plan() });
    desk.ready("work");
    let mut gui = Gui::new(&desk);
    let mut other = gui.client(&desk.through("work"));
    let far = desk.dial("far");
    // Somebody has looked whether the socket is there.
    let left = gui.door.record(&mut gui.puppet);
    gui.door.answer(&mut gui.puppet, left.token, Err(Refusal::Open));
    let link = gui.client(&far);
    gui.flood(&desk, "far", &link, &mut other);
    hears_all(&mut gui, link);
    gui.roundtrip(&mut other);
}

/// Clicks of the mouse over a window on sway, after each of which the host catches up: it has no more time for all that moves
/// than there is in such a test, and sway keeps what fits into a socket.
const CLICKS: u32 = 50;

/// Moves the mouse as `sweep` has it, so often between two clicks, and clicks, while a client beside the window is served.
fn play(
    desk: &Desk,
    seat: &mut Seat,
    mut sweep: impl FnMut(&mut Input, u32) -> Result<()>,
) -> Result<()> {
    const BETWEEN: u32 = MOTIONS / CLICKS;
    let mut bystander = Raw::connect(&desk.through("work"));
    bystander.sync();
    let events = || desk.status("work", "events");
    let before = events();
    for number in 1..=CLICKS {
        sweep(&mut seat.input, BETWEEN)?;
        seat.input.click()?;
        bystander.sync();
        // With each motion comes a frame.
        let told = u64::from(2 * (BETWEEN - 1) * number);
        until("the host to read what nobody takes", || (events() >= before + told).then_some(()));
    }
    Ok(())
}

/// A game on sway, which has locked the mouse in place, hangs: of each push a distance is told, and nothing else.
#[test]
fn a_game_that_hangs_misses_no_click_and_no_distance() -> Result<()> {
    const PUSHES: [(f64, f64); 2] = [(3.0, -2.5), (-1.0, 1.25)];
    let desk = Desk::start(plan());
    let mut seat = Seat::new(&desk, &desk.through("work"))?;
    let (pointer, surface) = (seat.pointer.clone(), seat.placed.window.surface.clone());
    seat.client().lock(&pointer, &surface)?;
    let place = seat.client().state.mouse;
    play(&desk, &mut seat, |input, times| input.push(times, PUSHES))?;
    seat.client().roundtrip()?;
    let state = &seat.client().state;
    assert_eq!((state.presses, state.pressed, state.mouse), (CLICKS, 0, place));
    let pairs = f64::from(MOTIONS / 2);
    let sum = |one: f64, other: f64| pairs * (one + other);
    let (x, y) = (sum(PUSHES[0].0, PUSHES[1].0), sum(PUSHES[0].1, PUSHES[1].1));
    assert_eq!(state.lock.sums, [x, y, x, y]);
    let moves = state.lock.moves;
    eprintln!("heard {moves} of {MOTIONS} distances, and all {CLICKS} clicks");
    assert!(moves < MOTIONS as usize / 2, "{moves} distances");
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}

/// A window on sway that isn't read for: sway knows nothing of the proxy, and ends whoever doesn't read.
#[test]
fn a_compositor_ends_no_window_for_being_slow() -> Result<()> {
    let desk = Desk::start(plan());
    let mut seat = Seat::new(&desk, &desk.through("work"))?;
    // The window is 300 wide, and 100 from the screen's left and upper edges.
    play(&desk, &mut seat, |input, times| input.sweep(times, (150, 150), (350, 250)))?;
    seat.input.move_to(201, 202)?;
    seat.client().roundtrip()?;
    let state = &seat.client().state;
    assert_eq!((state.presses, state.pressed), (CLICKS, 0));
    assert_eq!(state.mouse.map(|(x, y)| (x.round() as i32, y.round() as i32)), Some((101, 102)));
    eprintln!("heard {} of {MOTIONS} motions, and all {CLICKS} clicks", state.motions);
    assert!(state.motions < MOTIONS as usize / 2, "{} motions", state.motions);
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}
