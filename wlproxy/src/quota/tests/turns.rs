//! Commits that wait for their turns: with fifo, or commit-timing.

use super::*;

/// A surface whose commits may wait, a pool, and a buffer that was shown before.
fn with_turns(manager: &CStr) -> (Client, [u32; 3]) {
    let mut client = Client::new(Quota { buffers: 10, ..MANY });
    client.last += 1;
    let id = client.last;
    client.bind(manager, id);
    let pool = client.pool().unwrap();
    let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let buffer = client.buffer(pool, 1, 1).unwrap();
    client.show(surface, buffer).unwrap();
    // get_fifo, get_timer
    client.make(id, 1, &[Arg::Object(surface)]).unwrap();
    (client, [pool, surface, buffer])
}

/// When a commit with fifo or commit-timing has its turn, the release of its buffer tells.
#[test]
fn what_waits_for_its_turn_counts_until_a_release() {
    for manager in [c"wp_fifo_manager_v1", c"wp_commit_timing_manager_v1"] {
        let (mut client, [pool, surface, buffer]) = with_turns(manager);
        client.hear(buffer, RELEASE, &[]);
        for _ in 0..10 {
            (0..7).for_each(|_| client.flash(pool, surface).unwrap());
            client.show(surface, buffer).unwrap();
            client.hear(buffer, RELEASE, &[]);
        }
        (0..8).for_each(|_| client.flash(pool, surface).unwrap());
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);

        // A release of what was before tells nothing, nor does one of another buffer that had the same id.
        let (mut client, [pool, surface, buffer]) = with_turns(manager);
        (0..7).for_each(|_| client.flash(pool, surface).unwrap());
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE, &[]);
        client.say(buffer, BUFFER_DESTROY, &[]).unwrap();
        let size = [0, 1, 1, 4].map(Arg::Int);
        let again = [&[Arg::NewId(buffer)], &size[..], &[Arg::Uint(0)]].concat();
        client.say(pool, CREATE_BUFFER, &again).unwrap();
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE, &[]);
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);
    }
}

#[test]
fn each_commit_that_waits_for_its_turn_counts() {
    let (mut client, [_, surface, _]) = with_turns(c"wp_fifo_manager_v1");
    (0..30).for_each(|_| client.commit(surface).unwrap());
    let violation = client.commit(surface).unwrap_err();
    check(violation, "wl_surface@", &["30 commits that wait", "`commits`"]);
}

/// One that shows nothing new has no release.
#[test]
fn a_frame_callback_tells_what_was_shown() {
    let (mut client, [_, surface, _]) = with_turns(c"wp_fifo_manager_v1");
    let frame = |client: &mut Client| client.make(surface, FRAME, &[]).unwrap();
    for _ in 0..10 {
        (0..10).for_each(|_| client.commit(surface).unwrap());
        let (_, last) = (frame(&mut client), frame(&mut client));
        client.commit(surface).unwrap();
        (0..10).for_each(|_| client.commit(surface).unwrap());
        client.hear(last, DONE, &[Arg::Uint(0)]);
        assert_eq!(client.waiting(), 10);
        let next = frame(&mut client);
        client.commit(surface).unwrap();
        client.hear(next, DONE, &[Arg::Uint(0)]);
        assert_eq!(client.waiting(), 0);
    }
    // Of a surface that is gone it tells nothing.
    let last = frame(&mut client);
    client.commit(surface).unwrap();
    client.say(surface, SURFACE_DESTROY, &[]).unwrap();
    client.hear(last, DONE, &[Arg::Uint(0)]);
}

/// A buffer may be in several places, and compositors release it for each, or once for all.
#[test]
fn a_release_tells_nothing_that_is_not_sure() {
    let (mut client, [pool, surface, buffer]) = with_turns(c"wp_fifo_manager_v1");
    client.hear(buffer, RELEASE, &[]);
    let other = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    client.show(surface, buffer).unwrap();
    // Shown elsewhere, and attached but not committed.
    client.show(other, buffer).unwrap();
    client.attach(other, buffer);
    client.attach(other, 0);
    for waiting in [1, 1, 0] {
        client.hear(buffer, RELEASE, &[]);
        assert_eq!(client.waiting(), waiting);
    }
    // Too often to tell.
    let second = client.buffer(pool, 1, 1).unwrap();
    (0..65).for_each(|_| client.show(other, second).unwrap());
    client.show(surface, second).unwrap();
    (0..66).for_each(|_| client.hear(second, RELEASE, &[]));
    assert_eq!(client.waiting(), 1);
    client.show(surface, buffer).unwrap();
    client.hear(buffer, RELEASE, &[]);
    assert_eq!(client.waiting(), 0);
}

#[test]
fn what_queues_is_shown_by_no_parent() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    client.last += 1;
    let fifo = client.last;
    client.bind(c"wp_fifo_manager_v1", fifo);
    client.commit(child).unwrap();
    client.make(fifo, 1, &[Arg::Object(child)]).unwrap();
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 1);
    // But what waits for what queues is shown with it.
    let (grandchild, _) = client.below(child);
    client.commit(grandchild).unwrap();
    let callback = client.make(child, FRAME, &[]).unwrap();
    client.commit(child).unwrap();
    client.commit(grandchild).unwrap();
    assert_eq!(client.waiting(), 4);
    client.hear(callback, DONE, &[Arg::Uint(0)]);
    assert_eq!(client.waiting(), 1);
}
