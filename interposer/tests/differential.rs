//! A client does the same with the interposer as without, whatever it does; and what it draws into is what it should be.

mod rig;

use rig::{Event, Manners, content, same, with, without};

/// A pool as clients make it: sized, mapped, sealed. The rest of a page is left.
const POOL: [&str; 4] = ["create 0 3", "truncate 0 100000", "map 0 0 100000 0", "pool 0"];

fn lines<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<&'a str> {
    [before, after].concat()
}

#[test]
fn what_becomes_a_pool_is_an_allocation() {
    let outcome =
        same(&lines(&POOL, &["poke 0 5 10 7", "look 0", "close 0", "poke 0 90000 10 8", "look 0"]));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 0));
    assert!(matches!(outcome.events[0], Event::Lent { size: 100_000, .. }));
    assert_eq!(outcome.closed(), [(1, 1)]);
    let seen = content(&outcome.pools[0]);
    assert_eq!(seen.len(), 102_400, "whole pages");
    assert_eq!((&seen[5..15], &seen[90_000..90_010]), (&[7; 10][..], &[8; 10][..]));
}

/// Whoever uses the C library to send it.
#[test]
fn a_client_without_libwayland_is_lent_to() {
    let outcome = same(&[
        "create 0 1",
        "truncate 0 100000",
        "map 0 0 100000 0",
        "poke 0 0 9 5",
        "pool-without 0",
        "pool-without 0",
        "poke 0 4 9 6",
        "look 0",
        "truncate 0 200000",
        "pool-without 0",
        "look 0",
        "close 0",
    ]);
    assert_eq!((outcome.lent(), outcome.demoted(), outcome.pools.len()), (1, 1, 3));
    assert_eq!(content(&outcome.pools[0])[..13], [5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6]);
    assert_eq!(content(&outcome.pools[2]).len(), 200_000, "a file");
}

/// As clients were seen to make their pools.
#[test]
fn real_clients_are_lent_to() {
    for recipe in [
        // foot
        &[
            "create 0 3",
            "truncate 0 536870912",
            "truncate 0 294912",
            "map 0 0 294912 0",
            "add-seals 0 7",
            "pool 0",
        ][..],
        // weston-simple-shm, Xwayland
        &[
            "create 0 3",
            "add-seals 0 2",
            "posix-allocate 0 0 250000",
            "map 0 0 250000 0",
            "pool 0",
            "close 0",
        ],
        // GTK 3
        &["create-by-number 0 1", "truncate 0 2382192", "map 0 0 2382192 0", "pool 0", "close 0"],
        // GTK 4
        &[
            "create-by-number 0 3",
            "add-seals 0 2",
            "truncate 0 2083248",
            "map 0 0 2083248 0",
            "pool 0",
            "close 0",
        ],
        // Qt 5
        &[
            "create 0 3",
            "add-seals 0 3",
            "stat 0",
            "seek 0 0 1",
            "truncate 0 458380",
            "map 0 0 458380 0",
            "pool 0",
            "close 0",
        ],
        // mpv
        &[
            "create 0 3",
            "add-seals 0 3",
            "posix-allocate 0 0 307200",
            "map 0 0 307200 0",
            "pool 0",
            "close 0",
        ],
        // sway's own clients, wev
        &[
            "create-named 0",
            "truncate 0 1228800",
            "map 0 0 1228800 0",
            "pool 0",
            "get-seals 0",
            "get-flags 0",
            "close 0",
        ],
        // Firefox: mapped later, and over itself
        &["create 0 11", "truncate 0 1555200", "pool 0", "dup 0 1", "map 0 1 1555200 0", "close 0"],
    ] {
        let outcome = same(&lines(recipe, &["poke 0 0 200000 9", "look 0"]));
        assert_eq!((outcome.lent(), outcome.demoted()), (1, 0), "{recipe:?}");
        assert_eq!(content(&outcome.pools[0])[..200_000], [9; 200_000], "{recipe:?}");
    }
}

/// wayland-cursor's pools begin small and grow.
#[test]
fn what_is_small_stays_a_file() {
    let outcome = same(&[
        "create 0 3",
        "add-seals 0 3",
        "posix-allocate 0 0 2304",
        "map 0 0 2304 0",
        "pool 0",
        "posix-allocate 0 0 100000",
        "remap 0 100000",
        "poke 0 0 100000 5",
        "look 0",
        "stat 0",
    ]);
    assert_eq!(outcome.events.len(), 0, "{:?}", outcome.events);
    assert_eq!(content(&outcome.pools[0]), [5; 100_000]);
}

#[test]
fn what_was_drawn_before_is_there() {
    let outcome = same(&[
        "create 0 1",
        "truncate 0 200000",
        "map 0 0 200000 0",
        "map 1 0 200000 0",
        "poke 0 100000 5000 3",
        "pwrite 0 199999 4",
        "seek 0 77 0",
        "pool 0",
        "look 0",
        "look 1",
        "poke 0 0 100 9",
        "look 1",
        "protect 1 0 4096 1",
        "look 1",
        "read 0",
        "look 0",
        "poke 0 10 5 1",
        "look 1",
    ]);
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
    let seen = content(&outcome.pools[0]);
    assert_eq!((seen[99_999], seen[100_000], seen[104_999], seen[0]), (0, 3, 3, 9));
}

/// Each of these works as on a file, since it is made one; the agent is told, and gets that file.
#[test]
fn what_an_allocation_can_not_do_makes_it_a_file() {
    for operation in [
        "truncate 0 200000",
        "truncate 0 50000",
        "truncate 0 100000",
        "allocate 0 0 0 150000",
        "allocate 0 1 0 150000",
        "posix-allocate 0 0 150000",
        "stat 0",
        "stat-at 0",
        "seek 0 0 2",
        "read 0",
        "pread 0 40000",
        "readv 0",
        "read-checked 0",
        "pread-checked 0 40000",
        "readv2 0 40000",
        "readv2 0 -1",
        "writev2 0 99990 6",
        "touch 0",
        "reopen-checked 0 1",
        "reopen-checked 0 1 1",
        "write 0 6",
        "pwrite 0 99990 6",
        "bytes-left 0",
        "set-flags 0 2048",
        "add-seals 0 8",
        "reopen 0 1",
        "reopen 0 1 1",
        "map 1 0 100000 0 1",
        "map 1 0 4096 0",
        "map 1 0 4096 4096",
        "map 1 0 200000 0",
        "remap 0 50000",
        "remap 0 150000",
        "send-file 0 1",
    ] {
        let after = [
            "look 0",
            "look 1",
            "poke 0 0 40 3",
            "look 1",
            "stat 0",
            "pread 0 0",
            "get-seals 0",
            "get-flags 0",
        ];
        let script = [&POOL[..], &["poke 0 10 40000 5", operation], &after].concat();
        let outcome = same(&script);
        assert_eq!((outcome.lent(), outcome.demoted()), (1, 1), "{operation}");
        let file = outcome.events.iter().find_map(|event| match event {
            Event::Demoted(parting, file) => Some((parting, file)),
            _ => None,
        });
        let (parting, file) = file.unwrap();
        assert_eq!((parting.id, parting.sent), (1, 1));
        let drawn = content(&file.try_clone().unwrap().into());
        assert_eq!(
            (drawn[0], drawn[100], drawn[40_005]),
            (3, 5, 5),
            "{operation}: what is drawn is in that file"
        );
    }
}

/// Each of these is answered, or works.
#[test]
fn what_an_allocation_can_do_leaves_it_one() {
    let script = [
        &POOL[..],
        &[
            "get-flags 0",
            "get-seals 0",
            "add-seals 0 2",
            "get-seals 0",
            "add-seals 0 4",
            "get-seals 0",
            "add-seals 0 1",
            "get-seals 0",
            "add-seals 0 2",
            "get-closing 0",
            "set-closing 0 0",
            "get-closing 0",
            "dup 0 1",
            "dupfd 0 2 100",
            "dup2 0 50",
            "dup3 0 51",
            "dup2 0 50",
            "map 1 0 100000 0",
            "map 2 2 102400 0",
            "map 3 1 99000 0 2",
            "move 1",
            "poke 1 0 100 4",
            "look 0",
            "look 2",
            "look 3",
            "unmap 2 0 102400",
            "unmap 3 8192 4096",
            "protect 0 4096 4096 1",
            "pool 1",
            "number 3 50",
            "close 3",
            "number 3 51",
            "close 3",
            "close 2",
            "close 1",
            "poke 0 9000 100 3",
            "look 1",
            "close 0",
            "close 0",
        ],
    ]
    .concat();
    let outcome = same(&script);
    assert_eq!((outcome.lent(), outcome.demoted(), outcome.closed()), (1, 0, vec![(1, 2)]));
    assert_eq!(outcome.pools.len(), 2);
}

/// What is sealed before stays sealed after.
#[test]
fn seals_are_kept() {
    for (seals, operation) in [
        (4, "truncate 0 200000"),
        (2, "truncate 0 50000"),
        (7, "truncate 0 200000"),
        (4, "posix-allocate 0 0 200000"),
        (4, "allocate 0 0 0 200000"),
        (6, "pwrite 0 200000 1"),
        (1, "add-seals 0 8"),
    ] {
        for before in [true, false] {
            let seal = format!("add-seals 0 {seals}");
            let (first, then) = if before { (&*seal, "look 0") } else { ("look 0", &*seal) };
            let script = [
                "create 0 3",
                "truncate 0 100000",
                "map 0 0 100000 0",
                first,
                "pool 0",
                then,
                "get-seals 0",
                operation,
                "get-seals 0",
                "truncate 0 150000",
                "truncate 0 100",
                "stat 0",
            ];
            assert_eq!(same(&script).lent(), 1, "{seals} {operation}");
        }
    }
    // Who may not seal may not.
    same(&[
        "create 0 1",
        "truncate 0 100000",
        "pool 0",
        "get-seals 0",
        "add-seals 0 2",
        "read 0",
        "get-seals 0",
        "add-seals 0 2",
    ]);
}

/// Where a file is written next, and whether at its end.
#[test]
fn flags_and_the_position_are_kept() {
    let (append, non_blocking) = ("set-flags 0 1024", "set-flags 0 2048");
    for before in [append, non_blocking, "seek 0 70000 0", "write 0 7"] {
        let script = [
            "create 0 1",
            "truncate 0 100000",
            "map 0 0 100000 0",
            before,
            "pool 0",
            "get-flags 0",
            "write 0 5",
            "get-flags 0",
            "seek 0 0 1",
            "stat 0",
            "look 0",
        ];
        let outcome = same(&script);
        assert_eq!((outcome.lent(), outcome.demoted()), (1, 1), "{before}");
    }
}

/// What can't be an allocation, or perhaps has been got by others, stays a file.
#[test]
fn what_is_unsuitable_stays_a_file() {
    let pool = "pool 0";
    for script in [
        &["create 0 1", "truncate 0 65535", pool][..],
        &["create 0 1", "truncate 0 268435457", pool],
        &["create 0 1", pool],
        &["create 0 3", "truncate 0 100000", "add-seals 0 8", pool],
        &["create 0 3", "truncate 0 100000", "add-seals 0 16", pool],
        &["create 0 1", "truncate 0 100000", "map 0 0 4096 0", pool],
        &["create 0 1", "truncate 0 100000", "map 0 0 4096 4096", pool],
        &["create 0 1", "truncate 0 100000", "map 0 0 100000 0 1", pool],
        &["create 0 1", "truncate 0 100000", "map 0 0 200000 0", pool],
        &["create 0 1", "truncate 0 100000", "reopen 0 1", pool],
        &["create 0 1", "truncate 0 100000", "send-other 0", pool],
        &["create 0 1", "truncate 0 100000", "send 0", "receive 1", pool],
        &["create 0 1", "truncate 0 100000", "send-pair 0", "receive-pair 1", pool],
        &["create 0 1", "truncate 0 100000", "fork 0", pool],
        &["create 0 1", "truncate 0 1000", pool, "truncate 0 100000", pool],
        &["create-named 0 1", "truncate 0 100000", pool, "unlink"],
        &["null 0", pool],
    ] {
        let outcome = same(&lines(script, &["look 0", "stat 0"]));
        assert_eq!(outcome.events.len(), 0, "{script:?}: {:?}", outcome.events);
    }
    // A child made by vfork(2) only starts another program: that is no reason.
    let outcome = same(&["create 0 1", "truncate 0 100000", "fork 0 1", pool, "look 0"]);
    assert_eq!(outcome.lent(), 1);
}

/// Somebody else gets a file, that has what was drawn; the agent gets to know it.
#[test]
fn others_get_a_file() {
    let outcome =
        same(&lines(&POOL, &["poke 0 0 100 6", "send-other 0", "poke 0 50 100 7", "stat 0"]));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
    let got = content(&outcome.others[0]);
    assert_eq!((got.len(), &got[..50], &got[50..150]), (100_000, &[6; 50][..], &[7; 100][..]));
}

/// A thread of the client's may stand between it and the compositor, and have the only fd for a moment.
#[test]
fn what_a_client_sends_to_itself_stays_lent() {
    let script = lines(
        &POOL,
        &[
            "send 0",
            "close 0",
            "receive 1",
            "pool 1",
            "send 1",
            "receive 2",
            "close 1",
            "look 0",
            "close 2",
        ],
    );
    let outcome = same(&script);
    assert_eq!((outcome.lent(), outcome.demoted(), outcome.closed()), (1, 0, vec![(1, 2)]));
    let many = ["send 0", "close 0", "receive 1 1", "pool 1", "close 1"];
    assert_eq!(same(&lines(&POOL, &many)).closed(), [(1, 2)]);
    let outcome = same(&lines(&POOL, &["send 0", "close 0", "receive 1", "stat 1", "close 1"]));
    assert_eq!((outcome.demoted(), outcome.closed()), (1, vec![]));
}

/// Who has the other one of a pair isn't known: a child may.
#[test]
fn what_goes_over_a_pair_is_a_file() {
    let outcome = same(&lines(&POOL, &["send-pair 0", "close 0", "receive-pair 1", "close 1"]));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
}

/// What is between two threads when the pool is resized arrives at the agent after that, and has to be known there.
#[test]
fn what_is_on_the_way_when_it_becomes_a_file_is_told() {
    let script = ["send 0", "truncate 0 200000", "receive 1", "pool 1"];
    let outcome = with(Manners::GOOD, &lines(&POOL, &script));
    let parting = outcome.events.iter().find_map(|event| match event {
        Event::Demoted(parting, _) => Some(parting),
        _ => None,
    });
    assert_eq!((parting.map(|parting| parting.sent), outcome.pools.len()), (Some(2), 2));
}

#[test]
fn numbers_that_were_closed_behind_our_back_are_others() {
    // The number is another file's, and what is done with that is done with that.
    let reused = [
        "close-behind 0",
        "null 1",
        "read 1",
        "write 1 5",
        "stat 1",
        "dup 1 2",
        "pool 1",
        "map 1 1 4096 0",
        "close 1",
    ];
    let outcome = same(&lines(&POOL, &reused));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 0));
    // Also where the allocation is still known by another number.
    let kept = [&["dup 0 3"][..], &reused, &["truncate 3 50000", "stat 3", "look 0"]].concat();
    let outcome = same(&lines(&POOL, &kept));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
    // It may also be another pool's.
    let other = ["close-behind 0", "create 1 3", "truncate 1 100000", "dupfd 1 2 100"];
    let other = [&other[..], &["set-closing 2 1", "pool 1", "poke 0 0 9 9", "stat 1"]].concat();
    let outcome = same(&lines(&POOL, &other));
    assert_eq!((outcome.lent(), outcome.demoted(), outcome.closed()), (2, 1, vec![(1, 1)]));
    // And where the number was put over by another.
    let outcome =
        same(&lines(&POOL, &["null 1", "dup2 1 5", "number 0 5", "dup2 1 5", "stat 0", "look 0"]));
    assert_eq!(outcome.lent(), 1);
}

/// Nothing of ours is in the way of numbers, or can be closed.
#[test]
fn our_own_fds_are_not_there() {
    for close in ["close-range 3 4294967295", "close-from 3", "close-range 5 5"] {
        let outcome = same(&lines(
            &POOL,
            &[close, "look 0", "create 0 1", "truncate 0 100000", "map 1 0 100000 0", "stat 0"],
        ));
        assert_eq!(outcome.lent(), 1, "{close}");
    }
    let ours: Vec<String> = (512..516)
        .flat_map(|fd| {
            [
                format!("number 5 {fd}"),
                "close 5".into(),
                "read 5".into(),
                "dup 5 6".into(),
                "stat 5".into(),
                "map 4 5 4096 0".into(),
            ]
        })
        .collect();
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    let outcome = same(&[&POOL[..], &ours, &["look 0", "truncate 0 200000", "stat 0"]].concat());
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
    // A number that the application wants is given up.
    let wanted: Vec<String> = (512..516).map(|fd| format!("dup2 6 {fd}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let after =
        ["number 7 513", "write 7 1", "poke 0 0 9 9", "truncate 0 200000", "stat 0", "look 0"];
    let outcome = same(&[&POOL[..], &["null 6"], &wanted, &after].concat());
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
}

/// A library that closes what it doesn't know, by system calls, closes ours as well: the numbers are others' then.
#[test]
fn our_own_numbers_may_be_closed_behind_our_back() {
    let close = (512..516).flat_map(|fd| [format!("number 5 {fd}"), "close-behind 5".into()]);
    let again = (7..11).map(|slot| format!("dupfd 6 {slot} 512"));
    let script: Vec<String> = close.chain(["null 6".into()]).chain(again).collect();
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let write = ["write 7 1", "write 8 1", "write 9 1", "write 10 1"];
    let after = [&write[..], &["seek 0 0 0", "close 0"], &write].concat();
    let outcome = with(Manners::GOOD, &[&POOL[..], &script, &after].concat());
    let written = outcome.said.lines().filter(|line| *line == "write: 64").count();
    assert_eq!(written, 8, "{}", outcome.said);
}

#[test]
fn pieces_of_mappings_are_put_back_where_they_are() {
    let outcome = same(&lines(
        &POOL,
        &[
            "poke 0 0 100000 1",
            "map 1 0 100000 0",
            "unmap 1 0 8192",
            "map 2 0 100000 0",
            "cover 2 4096 8192",
            "poke 2 5000 100 9",
            "map 3 0 100000 0",
            "protect 3 8192 4096 1",
            "move 0",
            "truncate 0 120000",
            "look 0",
            "look 1",
            "look 2",
            "look 3",
            "poke 0 9000 3000 2",
            "look 0",
            "look 1",
            "look 2",
            "look 3",
            "poke 3 4096 100 3",
            "look 0",
            "remap 0 120000",
            "poke 0 110000 100 4",
            "look 0",
            "stat 0",
        ],
    ));
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 1));
}

#[test]
fn what_is_mapped_still_is_put_back_too() {
    for operation in ["move-and-stay 0 1", "cover-badly 0"] {
        let script =
            [operation, "truncate 0 200000", "poke 0 0 9 7", "look 0", "look 1", "pread 0 0"];
        let outcome = same(&lines(&POOL, &script));
        assert_eq!((outcome.lent(), outcome.demoted()), (1, 1), "{operation}");
    }
}

/// In a VM the kernel can't tell allocations apart: what is mapped where another one was is known by us alone.
#[test]
fn where_an_allocation_was_is_another() {
    let manners = Manners { one_file: true, ..Manners::GOOD };
    let other = ["create 1 3", "truncate 1 100000", "pool 1"];
    for replaced in ["map-again 0 1", "cover 0 0 100000"] {
        let script = [&POOL[..], &other, &[replaced, "truncate 0 50000", "poke 0 0 9 7", "look 0"]];
        let outcome = with(manners, &script.concat());
        assert_eq!((outcome.lent(), outcome.demoted()), (2, 1));
        assert!(outcome.said.contains(": 0\ntruncate: 0\npoke: done"), "{}", outcome.said);
        let drawn = content(&outcome.pools[1])[..9] == [7; 9];
        assert_eq!(drawn, replaced.starts_with("map"), "{replaced}");
        let Some(Event::Demoted(_, file)) = outcome.events.last_chunk::<2>().map(|last| &last[0])
        else {
            panic!("{:?}", outcome.events)
        };
        assert_eq!(content(&file.try_clone().unwrap().into())[..9], [0; 9], "{replaced}");
    }
}

#[test]
fn a_child_has_what_it_inherits() {
    let outcome = same(&lines(&POOL, &["fork 0 1", "poke 0 0 9 9", "look 0", "close 0"]));
    assert_eq!(
        (outcome.demoted(), outcome.closed()),
        (0, vec![(1, 1)]),
        "its parent's fd is still there"
    );
    // In the child it is what it is to the kernel; so this differs from a file, by whole pages.
    let outcome = with(Manners::GOOD, &lines(&POOL, &["fork 0", "look 0", "stat 0", "close 0"]));
    assert!(outcome.said.contains("stat in the child: 102400 bytes"), "{}", outcome.said);
    assert!(outcome.said.contains("stat: 100000 bytes"), "{}", outcome.said);
    let ended = outcome.events.iter().filter(|event| matches!(event, Event::Ended)).count();
    assert_eq!(ended, 1, "the child hasn't kept the connection");
}

/// foot asks, and then makes pools of the size of its window.
#[test]
fn a_hole_of_a_byte_is_not_punched() {
    let (punch, keep) = (2, 1);
    let mode = punch | keep;
    let ask = format!("allocate 0 {mode} 0 1");
    let outcome = with(
        Manners::GOOD,
        &["create 0 1", "truncate 0 536870912", &ask, "truncate 0 100000", "pool 0", "null 0"],
    );
    assert!(outcome.said.contains("allocate: EOPNOTSUPP"), "{}", outcome.said);
    assert_eq!((outcome.lent(), outcome.demoted()), (1, 0));
    let said = without(&["create 0 1", "truncate 0 536870912", &ask]).said;
    assert!(said.ends_with("allocate: 0\n"), "{said}");
    // Who doesn't only ask gets it.
    let punch = format!("allocate 0 {mode} 65536 65536");
    let memory =
        ["create 0 1", "truncate 0 200000", "map 0 0 200000 0", "poke 0 0 200000 5", &punch];
    let outcome = same(&lines(&memory, &["look 0", "pool 0", "stat 0"]));
    assert_eq!(outcome.lent(), 0);
}

#[test]
fn without_a_lender_all_is_as_before() {
    for manners in [Manners::default(), Manners { lends: 1, hangs_up: usize::MAX, ..Manners::GOOD }]
    {
        let script = [
            &POOL[..],
            &["poke 0 0 100 5", "truncate 0 200000", "stat 0", "look 0"],
            &POOL,
            &["look 0", "stat 0"],
        ]
        .concat();
        let (with, without) = (with(manners, &script), without(&script));
        assert_eq!(with.said, without.said);
        assert!(with.events.iter().any(|event| matches!(event, Event::Refused | Event::Ended)));
    }
}

/// Or the window would stay as it is.
#[test]
fn an_agent_that_hangs_up_is_told_again() {
    let manners = Manners { hangs_up: 1, ..Manners::GOOD };
    let script = [&POOL[..], &["poke 0 0 9 5", "truncate 0 200000"], &POOL].concat();
    let outcome = with(manners, &script);
    assert!(
        matches!(
            outcome.events[..],
            [
                Event::Lent { .. },
                Event::Demoted(..),
                Event::Demoted(..),
                Event::Lent { .. },
                Event::Ended
            ]
        ),
        "{:?}",
        outcome.events
    );
}

/// What the agent refused goes to it as a file, and stays one.
#[test]
fn what_was_sent_as_a_file_stays_a_file() {
    let outcome = with(Manners { lends: 0, ..Manners::GOOD }, &lines(&POOL, &["pool 0", "pool 0"]));
    let refused = outcome.events.iter().filter(|event| matches!(event, Event::Refused)).count();
    assert_eq!((refused, outcome.pools.len()), (1, 3));
}
