//! VMs reset: whatever was half-way is done anew, and nothing old is good for anything.

use guest_agent::channel::{Error, VfdId};
use wlproxy_protocol::accept::Token;
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, message, until};

fn sync() -> Vec<u8> {
    message(1, 0, &[Arg::Uint(2)])
}

#[track_caller]
fn connected((work, client): (&mut Puppet, VfdId), (gui, context): (&mut Puppet, VfdId)) {
    work.send(client, &sync(), &[]);
    assert_eq!(gui.read(context, 12).0, sync());
    let done = [message(2, 0, &[Arg::Uint(0)]), message(1, 1, &[Arg::Uint(2)])].concat();
    gui.send(context, &done, &[]);
    assert_eq!(work.read(client, 24).0, done);
}

#[track_caller]
fn refused(gui: &mut Puppet, token: Token) {
    assert!(matches!(gui.open(token), Err(Error::NotFound)), "an old or wrong token opens");
}

/// The compositor VM resets between record and open, twice; each time the client is announced anew.
#[test]
fn the_compositor_vm_resets_between_record_and_open() {
    between_record_and_open(Plan::default());
}

/// The same with threads for workers.
#[test]
fn the_compositor_vm_resets_between_record_and_open_without_isolation() {
    between_record_and_open(Plan { isolation: Some("none"), ..Plan::default() });
}

fn between_record_and_open(plan: Plan) {
    let desk = Desk::host_only(plan);
    let mut gui = desk.puppet("gui");
    let mut work = desk.puppet("work");
    let client = work.connect();
    let mut door = Doorway::open(&mut gui);
    let mut old = Vec::new();
    let connection = {
        let record = door.record(&mut gui);
        old.push(record.token);
        record.connection
    };
    for _ in 0..2 {
        gui.reset();
        // Nothing is good for anything before there is a main context...
        old.iter().for_each(|&token| refused(&mut gui, token));
        door = Doorway::open(&mut gui);
        // ...nor after.
        old.iter().for_each(|&token| refused(&mut gui, token));
        let record = door.record(&mut gui);
        assert_eq!((&*record.vm, record.connection), ("work", connection));
        assert!(!old.contains(&record.token), "a token came twice");
        old.push(record.token);
        old[..old.len() - 1].iter().for_each(|&token| refused(&mut gui, token));
    }
    let token = *old.last().expect("three");
    let context = gui.open(token).expect("the newest");
    gui.send(context, token.as_bytes(), &[]);
    door.answer(&mut gui, token, Ok(()));
    connected((&mut work, client), (&mut gui, context));

    // Used up now, like the others; and random ones never were any.
    old.extend([Token::new([0; 16]), Token::new([0xff; 16]), Token::new(*b"0123456789abcdef")]);
    old.iter().for_each(|&token| refused(&mut gui, token));
    connected((&mut work, client), (&mut gui, context));
    assert_eq!(desk.pending(), 0);

    // Later clients are announced as ever.
    let later = work.connect();
    let record = door.record(&mut gui);
    assert_eq!(record.connection, connection + 1);
    let context = door.accept(&mut gui, &record);
    connected((&mut work, later), (&mut gui, context));
}

/// The first stage at which a client is the compositor VM's.
const OPENED: u32 = 3;

/// Goes as far as `stage` with the only client.
fn advance(stage: u32, gui: &mut Puppet) {
    if stage == 0 {
        // No hello.
        gui.connect();
        return;
    }
    let mut door = Doorway::open(gui);
    if stage == 1 {
        return;
    }
    let record = door.record(gui);
    if stage < OPENED {
        return;
    }
    let context = gui.open(record.token).expect("it was announced");
    if stage > OPENED {
        gui.send(context, record.token.as_bytes(), &[]);
    }
    if stage > OPENED + 1 {
        door.answer(gui, record.token, Ok(()));
    }
}

/// Each stage of an accept, cut off by a reset of the compositor VM: the client is either announced anew or cleanly
/// disconnected.
#[test]
fn the_compositor_vm_resets_at_every_stage() {
    let desk = Desk::host_only(Plan::default());
    let mut gui = desk.puppet("gui");
    let mut work = desk.puppet("work");
    for stage in 0..6 {
        let client = work.connect();
        advance(stage, &mut gui);
        gui.reset();
        if stage >= OPENED {
            assert_eq!(work.rest(client), b"", "stage {stage}: a clean disconnect");
        } else {
            let mut door = Doorway::open(&mut gui);
            let record = door.record(&mut gui);
            let context = door.accept(&mut gui, &record);
            connected((&mut work, client), (&mut gui, context));
            gui.close(context);
            assert_eq!(work.rest(client), b"", "stage {stage}");
        }
        work.close(client);
        assert_eq!(desk.pending(), 0, "stage {stage}");
    }
}

/// A client VM resets: the compositor sees its clients leave, served or not.
#[test]
fn a_client_vm_resets() {
    let desk = Desk::host_only(Plan { vms: &["work", "untrusted"], ..Plan::default() });
    let mut gui = desk.puppet("gui");
    let mut work = desk.puppet("work");
    let mut untrusted = desk.puppet("untrusted");
    let mut door = Doorway::open(&mut gui);
    let beside = untrusted.connect();
    let record = door.record(&mut gui);
    let beside_context = door.accept(&mut gui, &record);
    for _ in 0..3 {
        let served = work.connect();
        let record = door.record(&mut gui);
        let context = door.accept(&mut gui, &record);
        connected((&mut work, served), (&mut gui, context));
        work.allocate(1 << 20);
        work.connect();
        let waits = door.record(&mut gui);
        work.reset();
        assert_eq!(gui.rest(context), b"");
        gui.close(context);
        until("nobody to wait", || (desk.pending() == 0).then_some(()));
        refused(&mut gui, waits.token);
        connected((&mut untrusted, beside), (&mut gui, beside_context));
    }
    // Each on its own: the numbers are of a moment, and nothing keeps it from lying between two of them.
    for number in ["vfds", "allocation_bytes", "window_bytes"] {
        until(&format!("no {number}"), || (desk.status("work", number) == 0).then_some(()));
    }
}
