//! Whatever stops under a flood: what comes meanwhile waits within bounds, in all processes together, and nothing is lost.
//! For 3 s each, and for a minute with `WLPROXY_SLOW=1`.

use anyhow::Result;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use wlproxy_tests::{
    Arg, Bystander, Desk, PATIENCE, Part, Plan, Raw, Seat, footprint, message, slow,
};

const VMS: &[&str] = &["untrusted", "work"];

/// How long something is stopped.
fn stop_time() -> Duration {
    Duration::from_secs(if slow() { 60 } else { 3 })
}

/// What that may cost in all of our processes together, in bytes: what may wait in each of them for one client (1 MiB), and
/// then some.
const WAITING: u64 = 8 << 20;

/// Requests between two questions: each question is an object, of which a client has only so many.
const BETWEEN: u32 = 1000;

/// Motions between two looks at the clock.
const SWEEP: u32 = 500;

/// Clicks of somebody who waits for a window in vain. Those aren't joined, so they fill what a client may have waiting: some
/// thousands do, with what moves in between.
const CLICKS: u32 = 200;

/// Memory of all our processes.
fn memory(desk: &Desk) -> u64 {
    desk.our_processes().into_iter().map(footprint).sum()
}

/// `part` is stopped while a client says and says, and asks now and then: the client waits, what it said is kept within
/// bounds, and all of it is answered when `part` goes on.
fn is_told_meanwhile(part: Part) {
    let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
    let mut raw = Raw::connect(&desk.through("work"));
    raw.sync();
    let compositor = raw.bind("wl_compositor", 4);
    let surface = raw.id();
    raw.send(&message(compositor, 0, &[Arg::Uint(surface)]), []);
    raw.sync();
    let before = memory(&desk);
    // Whoever isn't on it goes on.
    let other = (part != Part::Compositor).then(|| Bystander::start(&desk.direct()));
    desk.signal(part, Signal::SIGSTOP);
    let (stopped, stop_time) = (Instant::now(), stop_time());
    let (mut said, mut asked) = (0, Vec::new());
    // On a busy machine it takes longer until nothing more fits in.
    while stopped.elapsed() < stop_time
        || !raw.is_held_back() && stopped.elapsed() < stop_time + PATIENCE
    {
        if raw.is_held_back() {
            raw.wait_for_room(stopped + stop_time);
            continue;
        }
        // set_buffer_scale
        raw.send(&message(surface, 8, &[Arg::Int(1)]), []);
        said += 1;
        if said % BETWEEN == 0 {
            asked.push(raw.id());
            raw.send(&message(1, 0, &[Arg::Uint(*asked.last().expect("just pushed"))]), []);
        }
    }
    let (held_back, grown) = (raw.is_held_back(), memory(&desk).saturating_sub(before));
    other.iter().for_each(Bystander::check);
    desk.signal(part, Signal::SIGCONT);
    let goes_on = Instant::now();
    for &callback in &asked {
        let answer = std::iter::from_fn(|| raw.event()).find(|event| event.opcode == 0);
        let found = answer.as_ref().map(|event| event.object);
        assert_eq!(found, Some(callback), "{answer:?} instead of the answer");
    }
    raw.sync();
    eprintln!(
        "{part:?}: {said} requests waited for {stop_time:?} in {} KiB and were answered {:?} later",
        grown >> 10,
        goes_on.elapsed()
    );
    assert!(held_back, "{said} requests, and the client doesn't wait");
    assert!(grown <= WAITING, "{} KiB for {said} requests", grown >> 10);
}

#[test]
fn what_a_stopped_compositor_is_told_waits_for_it() {
    is_told_meanwhile(Part::Compositor);
}

#[test]
fn what_a_stopped_serve_is_told_waits_for_it() {
    is_told_meanwhile(Part::Serve);
}

#[test]
fn what_a_stopped_worker_of_the_compositor_vm_is_told_waits_for_it() {
    is_told_meanwhile(Part::Worker("gui"));
}

#[test]
fn what_a_stopped_worker_of_a_client_vm_is_told_waits_for_it() {
    is_told_meanwhile(Part::Worker("work"));
}

#[test]
fn what_a_stopped_agent_is_told_waits_for_it() {
    is_told_meanwhile(Part::Run("work"));
}

/// A client doesn't read, or its agent is stopped as well, while the mouse moves over its window without a pause, and clicks
/// now and then.
fn is_moved_over(part: Option<Part>) -> Result<()> {
    let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
    let mut seat = Seat::new(&desk, &desk.through("work"))?;
    let before = memory(&desk);
    let other = Bystander::start(&desk.through("untrusted"));
    part.into_iter().for_each(|part| desk.signal(part, Signal::SIGSTOP));
    let (stopped, stop_time) = (Instant::now(), stop_time());
    let (mut moved, mut clicks) = (0, 0u32);
    while stopped.elapsed() < stop_time {
        seat.input.sweep(SWEEP, (150, 150), (350, 250))?;
        moved += SWEEP;
        if stopped.elapsed() * CLICKS > stop_time * clicks {
            seat.input.click()?;
            clicks += 1;
        }
    }
    seat.input.move_to(201, 202)?;
    let grown = memory(&desk).saturating_sub(before);
    other.check();
    part.into_iter().for_each(|part| desk.signal(part, Signal::SIGCONT));
    seat.client().roundtrip()?;
    let state = &seat.client().state;
    eprintln!(
        "heard {} of {moved} motions and {clicks} clicks after {stop_time:?}, {} KiB",
        state.motions,
        grown >> 10
    );
    assert_eq!((state.presses, state.pressed), (clicks, 0));
    assert_eq!(state.mouse.map(|(x, y)| (x.round() as i32, y.round() as i32)), Some((101, 102)));
    assert!(grown <= WAITING, "{} KiB for {moved} motions", grown >> 10);
    Ok(())
}

#[test]
fn what_a_client_is_told_that_does_not_read_waits_for_it() -> Result<()> {
    is_moved_over(None)
}

#[test]
fn what_a_client_of_a_stopped_agent_is_told_waits_for_it() -> Result<()> {
    is_moved_over(Some(Part::Run("work")))
}
