//! Accept over the device, message by message: the test plays the compositor VM and the client VMs.

use guest_agent::channel::{Error, VfdId};
use wlproxy_protocol::accept::{Refusal, Token};
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, message, until};

fn desk() -> Desk {
    Desk::host_only(Plan { vms: &["work", "untrusted"], ..Plan::default() })
}

fn gui(desk: &Desk) -> Puppet {
    desk.puppet("gui")
}

fn work(desk: &Desk) -> Puppet {
    desk.puppet("work")
}

/// wl_display.get_registry and .sync for a callback.
fn greeting() -> Vec<u8> {
    [message(1, 1, &[Arg::Uint(2)]), sync(3)].concat()
}

fn sync(callback: u32) -> Vec<u8> {
    message(1, 0, &[Arg::Uint(callback)])
}

/// wl_callback.done, and wl_display.delete_id.
fn done(callback: u32) -> Vec<u8> {
    [message(callback, 0, &[Arg::Uint(7)]), message(1, 1, &[Arg::Uint(callback)])].concat()
}

/// Both sides of a link hear each other: the client asks for `callback`, the compositor answers.
fn talk((work, client): (&mut Puppet, VfdId), (gui, context): (&mut Puppet, VfdId), callback: u32) {
    work.send(client, &sync(callback), &[]);
    assert_eq!(gui.read(context, 12).0, sync(callback));
    gui.send(context, &done(callback), &[]);
    assert_eq!(work.read(client, 24).0, done(callback));
}

#[track_caller]
fn refused(gui: &mut Puppet, token: Token) {
    match gui.open(token) {
        Err(Error::NotFound) => {}
        other => panic!("not refused: {other:?}"),
    }
}

fn pending(desk: &Desk, count: u64) {
    until(&format!("{count} clients to wait"), || (desk.pending() == count).then_some(()));
}

/// The bytes of a whole accept, written out by hand.
#[test]
fn a_client_is_announced_opened_and_connected() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let main = gui.connect();
    let hello = *b"wlpx\x01\0\0\0\x01\0\0\0";
    gui.send(main, &hello, &[]);
    assert_eq!(gui.read(main, 12).0, hello);

    let mut before = 0;
    for compositor_leaves in [false, true] {
        let client = work.connect();
        // It needn't wait to speak.
        work.send(client, &greeting(), &[]);
        let (record, _) = gui.read(main, 40);
        // kind, length, way by name, length of the name, 0, channel type, connection, token, name
        assert_eq!(record[..12], [1, 0, 40, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
        let connection = u64::from_le_bytes(record[12..20].try_into().expect("eight"));
        assert!(connection > before, "connection {connection} after {before}");
        before = connection;
        assert_eq!(&record[36..], b"work");
        let bits: [u8; 16] = record[20..36].try_into().expect("sixteen");

        let context = gui.open(Token::new(bits)).expect("it was announced");
        gui.send(context, &bits[..5], &[]);
        // wl_registry.global
        let global = message(2, 0, &[Arg::Uint(1), Arg::Text("wl_shm"), Arg::Uint(1)]);
        gui.send(main, &[&[2, 0, 24, 0, 0, 0, 0, 0][..], &bits].concat(), &[]);
        assert_eq!(desk.pending(), 0, "it was taken");
        gui.send(context, &bits[5..], &[]);
        assert_eq!(gui.read(context, greeting().len()).0, greeting());
        gui.send(context, &global, &[]);
        assert_eq!(work.read(client, global.len()).0, global);
        talk((&mut work, client), (&mut gui, context), 4);

        if compositor_leaves {
            gui.close(context);
            assert_eq!(work.rest(client), b"", "a clean disconnect");
            work.close(client);
        } else {
            work.close(client);
            assert_eq!(gui.rest(context), b"");
            gui.close(context);
        }
    }
    assert_eq!(desk.status("work", "violations"), 0);
}

#[test]
fn the_first_event_may_come_with_the_token() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut door = Doorway::open(&mut gui);
    let client = work.connect();
    work.send(client, &greeting(), &[]);
    let record = door.record(&mut gui);
    let context = gui.open(record.token).expect("it was announced");
    gui.send(context, &[&record.token.as_bytes()[..], &done(3)].concat(), &[]);
    door.answer(&mut gui, record.token, Ok(()));
    assert_eq!(gui.read(context, greeting().len()).0, greeting());
    assert_eq!(work.read(client, 24).0, done(3));
}

/// Clients attach while no driver runs in the compositor VM, nor ever ran; then all of them are served.
#[test]
fn clients_wait_for_the_compositor_vms_driver() {
    let desk = desk();
    let mut work = work(&desk);
    let mut untrusted = desk.puppet("untrusted");
    let clients = [work.connect(), untrusted.connect(), work.connect()];
    let names = ["work", "untrusted", "work"];
    for (client, name) in clients.into_iter().zip(names) {
        let puppet = if name == "work" { &mut work } else { &mut untrusted };
        puppet.send(client, &greeting(), &[]);
    }
    pending(&desk, 3);
    let mut gui = gui(&desk);
    let mut door = Doorway::open(&mut gui);
    for (client, name) in clients.into_iter().zip(names) {
        let record = door.record(&mut gui);
        assert_eq!(record.vm, name, "in order of arrival");
        let context = door.accept(&mut gui, &record);
        let puppet = if name == "work" { &mut work } else { &mut untrusted };
        assert_eq!(gui.read(context, greeting().len()).0, greeting());
        talk((puppet, client), (&mut gui, context), 4);
    }
    pending(&desk, 0);
}

/// A main context alone attaches nothing: until its hello there are no records, and after it all of them.
#[test]
fn no_record_goes_out_before_the_hello() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let main = gui.connect();
    work.connect();
    pending(&desk, 1);
    assert_eq!(gui.read(main, 12).0.len(), 12, "only the host's hello");
    gui.send(main, b"wlpx\x01\0\0\0\x01\0\0\0", &[]);
    assert_eq!(gui.read(main, 40).0[36..], *b"work");
}

#[test]
fn a_refused_client_is_disconnected_at_once() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut door = Doorway::open(&mut gui);
    for refusal in [Refusal::NoCompositor, Refusal::Limit, Refusal::Open] {
        let (unwanted, other) = (work.connect(), work.connect());
        let (first, second) = (door.record(&mut gui), door.record(&mut gui));
        door.answer(&mut gui, first.token, Err(refusal));
        assert_eq!(work.rest(unwanted), b"", "a clean disconnect");
        refused(&mut gui, first.token);
        let context = door.accept(&mut gui, &second);
        talk((&mut work, other), (&mut gui, context), 2);
        work.close(unwanted);
        work.close(other);
    }
    // Also if its stream was opened first.
    let client = work.connect();
    let record = door.record(&mut gui);
    let context = gui.open(record.token).expect("it was announced");
    door.answer(&mut gui, record.token, Err(Refusal::Limit));
    gui.close(context);
    assert_eq!(work.rest(client), b"");
}

/// The right name and then wrong bytes: that stream and its client end, and nothing else.
#[test]
fn a_wrong_token_on_a_stream_ends_that_stream_only() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut door = Doorway::open(&mut gui);
    let beside = work.connect();
    let record = door.record(&mut gui);
    let beside_context = door.accept(&mut gui, &record);
    let waiting = work.connect();
    let waiting_record = door.record(&mut gui);

    for case in 0..3 {
        let client = work.connect();
        work.send(client, &greeting(), &[]);
        let record = door.record(&mut gui);
        let context = gui.open(record.token).expect("it was announced");
        let mut last_bit = *record.token.as_bytes();
        last_bit[15] ^= 1;
        let bytes = match case {
            // The token of another client, which is good for that one only.
            0 => waiting_record.token.as_bytes().to_vec(),
            1 => greeting(),
            _ => last_bit.to_vec(),
        };
        gui.send(context, &bytes, &[]);
        assert_eq!(gui.rest(context), b"", "not a byte of the client's");
        gui.close(context);
        assert_eq!(work.rest(client), b"", "a clean disconnect");
        work.close(client);
        refused(&mut gui, record.token);
        door.answer(&mut gui, record.token, Err(Refusal::Open));
        talk((&mut work, beside), (&mut gui, beside_context), 2);
    }
    let context = door.accept(&mut gui, &waiting_record);
    talk((&mut work, waiting), (&mut gui, context), 2);
}

/// What the compositor VM has opened ends with it; who comes later waits for the next one.
#[test]
fn the_compositor_vm_goes_away_and_comes_back() {
    let desk = desk();
    let mut work = work(&desk);
    for round in 0..2 {
        let mut gui = gui(&desk);
        let mut door = Doorway::open(&mut gui);
        let (served, opened) = (work.connect(), work.connect());
        let (first, second) = (door.record(&mut gui), door.record(&mut gui));
        let context = door.accept(&mut gui, &first);
        talk((&mut work, served), (&mut gui, context), 2);
        // Opened, and neither proven nor answered.
        gui.open(second.token).expect("it was announced");
        let announced = work.connect();
        let unopened = door.record(&mut gui);
        drop(gui);
        for client in [served, opened] {
            assert_eq!(work.rest(client), b"", "a clean disconnect, round {round}");
            work.close(client);
        }
        let later = work.connect();
        pending(&desk, 2);

        let mut gui = self::gui(&desk);
        let mut door = Doorway::open(&mut gui);
        for (client, number) in [(announced, unopened.connection), (later, unopened.connection + 1)]
        {
            let record = door.record(&mut gui);
            assert_eq!(record.connection, number);
            assert_ne!(record.token, unopened.token);
            let context = door.accept(&mut gui, &record);
            talk((&mut work, client), (&mut gui, context), 2);
            work.close(client);
            assert_eq!(gui.rest(context), b"");
        }
        refused(&mut gui, unopened.token);
    }
}

/// Nonsense on a main context ends that main context; streams that were accepted and clients that wait live on.
#[test]
fn garbage_on_the_main_context_ends_it_alone() {
    let hello = b"wlpx\x01\0\0\0\x01\0\0\0";
    let after = |bytes: &[u8]| [hello, bytes].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("a wayland client", greeting()),
        ("another version", b"wlpx\x02\0\0\0\x01\0\0\0".to_vec()),
        ("no way in common", b"wlpx\x01\0\0\0\x04\0\0\0".to_vec()),
        ("the hello twice", after(hello)),
        ("an unknown kind", after(&[9, 0, 24, 0, 0, 0, 0, 0])),
        ("an answer that is too long", after(&[2, 0, 255, 255, 0, 0, 0, 0])),
        ("an unknown refusal", after(&[&[2, 0, 24, 0, 99, 0, 0, 0][..], &[5; 16]].concat())),
        ("opened, what nobody opened", after(&[&[2, 0, 24, 0, 0, 0, 0, 0][..], &[5; 16]].concat())),
    ];
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut door = Doorway::open(&mut gui);
    let beside = work.connect();
    let record = door.record(&mut gui);
    let beside_context = door.accept(&mut gui, &record);
    let waiting = work.connect();
    let mut tokens = vec![door.record(&mut gui).token];
    door.answer(&mut gui, record.token, Ok(()));
    // It was answered already.
    door.ended(&mut gui);
    for (name, bytes) in cases {
        let main = gui.connect();
        gui.send(main, &bytes, &[]);
        gui.rest(main);
        gui.close(main);
        let mut door = Doorway::open(&mut gui);
        let record = door.record(&mut gui);
        assert!(!tokens.contains(&record.token), "{name}: a token came twice");
        tokens.push(record.token);
        talk((&mut work, beside), (&mut gui, beside_context), 2);
        gui.close(door.main);
    }
    let mut door = Doorway::open(&mut gui);
    tokens.into_iter().for_each(|token| refused(&mut gui, token));
    let record = door.record(&mut gui);
    let context = door.accept(&mut gui, &record);
    talk((&mut work, waiting), (&mut gui, context), 2);
}

#[test]
fn the_newer_of_two_main_contexts_wins() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut older = Doorway::open(&mut gui);
    let (client, accepted) = (work.connect(), work.connect());
    let old = older.record(&mut gui);
    let record = older.record(&mut gui);
    let context = older.accept(&mut gui, &record);

    let mut newer = Doorway::open(&mut gui);
    older.ended(&mut gui);
    let new = newer.record(&mut gui);
    assert_eq!((&new.vm, new.connection), (&old.vm, old.connection));
    assert_ne!(new.token, old.token);
    refused(&mut gui, old.token);
    talk((&mut work, accepted), (&mut gui, context), 2);
    let context = newer.accept(&mut gui, &new);
    talk((&mut work, client), (&mut gui, context), 2);
}

/// The client may leave at any moment of it: the compositor VM never waits for one that is gone.
#[test]
fn a_client_may_leave_before_it_is_taken() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut door = Doorway::open(&mut gui);

    // Before its stream is opened.
    let client = work.connect();
    work.send(client, &greeting(), &[]);
    let record = door.record(&mut gui);
    work.close(client);
    pending(&desk, 0);
    refused(&mut gui, record.token);
    // The agent says so, and that is no fault.
    door.answer(&mut gui, record.token, Err(Refusal::Open));

    // After, and before the token; what it said is still there.
    let client = work.connect();
    work.send(client, &greeting(), &[]);
    let record = door.record(&mut gui);
    let context = gui.open(record.token).expect("it was announced");
    work.close(client);
    until("the client's end", || (desk.status("work", "contexts") == 0).then_some(()));
    gui.send(context, record.token.as_bytes(), &[]);
    door.answer(&mut gui, record.token, Ok(()));
    assert_eq!(gui.rest(context), greeting());

    // With its whole VM, at the very moment.
    for _ in 0..8 {
        work.connect();
        let record = door.record(&mut gui);
        drop(work);
        match gui.open(record.token) {
            Ok(context) => {
                gui.send(context, record.token.as_bytes(), &[]);
                door.answer(&mut gui, record.token, Ok(()));
                assert_eq!(gui.rest(context), b"");
                gui.close(context);
            }
            Err(Error::NotFound) => door.answer(&mut gui, record.token, Err(Refusal::Open)),
            Err(error) => panic!("{error}"),
        }
        work = self::work(&desk);
    }
    let client = work.connect();
    let record = door.record(&mut gui);
    let context = door.accept(&mut gui, &record);
    talk((&mut work, client), (&mut gui, context), 2);
}

/// A client VM opens no accepted streams, even if it got hold of a token; and the token stays good.
#[test]
fn tokens_are_the_compositor_vms_alone() {
    let desk = desk();
    let (mut gui, mut work) = (gui(&desk), work(&desk));
    let mut untrusted = desk.puppet("untrusted");
    let mut door = Doorway::open(&mut gui);
    let client = work.connect();
    let record = door.record(&mut gui);
    refused(&mut untrusted, record.token);
    refused(&mut work, record.token);
    let context = door.accept(&mut gui, &record);
    talk((&mut work, client), (&mut gui, context), 2);
}
