//! Random lists of what a client may do with its files, with the interposer and without: a plain memfd is the model.

mod rig;

use proptest::prelude::*;
use rig::{Manners, with, without};

/// Of fcntl(2).
const O_APPEND: i32 = 0o2000;
const O_NONBLOCK: i32 = 0o4000;

/// Sizes around those that matter: pages, and the smallest file that is lent to.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(100_000),
        2 => Just(65_536),
        1 => prop_oneof![Just(0), Just(1), Just(4096), Just(65_535), Just(98_304), Just(131_072), Just(200_000)],
    ]
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0), 1 => Just(4096), 1 => Just(8192), 1 => Just(98_304), 1 => 0..100_000u32]
}

/// A line for the client. Slots are few, so that things meet.
fn line() -> impl Strategy<Value = String> {
    let file = || 0..3u8;
    let map = || 0..3u8;
    prop_oneof![
        4 => (file(), any::<bool>()).prop_map(|(f, by_number)| {
            format!("{} {f} 3", if by_number { "create-by-number" } else { "create" })
        }),
        1 => file().prop_map(|f| format!("create-named {f}")),
        6 => (file(), size()).prop_map(|(f, size)| format!("truncate {f} {size}")),
        1 => (file(), offset(), 1..100_000u32).prop_map(|(f, at, len)| format!("posix-allocate {f} {at} {len}")),
        1 => (file(), 0..2u8, offset(), 1..100_000u32).prop_map(|(f, mode, at, len)| format!("allocate {f} {mode} {at} {len}")),
        6 => (map(), file(), size()).prop_map(|(m, f, size)| format!("map {m} {f} {} 0", size.max(1))),
        1 => (map(), file(), size(), offset(), 0..4u8).prop_map(|(m, f, size, at, kind)| {
            format!("map {m} {f} {} {} {kind}", size.max(1), at / 4096 * 4096)
        }),
        1 => (map(), offset(), size()).prop_map(|(m, at, len)| format!("unmap {m} {} {}", at / 4096 * 4096, len.max(1))),
        1 => (map(), 0..20u32, 1..20_000u32, 0..2u8).prop_map(|(m, page, len, ro)| format!("protect {m} {} {len} {ro}", page * 4096)),
        1 => (map(), size()).prop_map(|(m, len)| format!("remap {m} {}", len.max(1))),
        1 => (map(), 0..20u32, 1..20_000u32).prop_map(|(m, page, len)| format!("cover {m} {} {len}", page * 4096)),
        6 => (map(), offset(), 1..500u32, any::<u8>()).prop_map(|(m, at, len, byte)| format!("poke {m} {at} {len} {byte}")),
        4 => map().prop_map(|m| format!("look {m}")),
        8 => file().prop_map(|f| format!("pool {f}")),
        2 => file().prop_map(|f| format!("pool-without {f}")),
        2 => (file(), file()).prop_map(|(f, to)| format!("dup {f} {to}")),
        1 => (file(), 10..40u8).prop_map(|(f, to)| format!("dup2 {f} {to}")),
        1 => (file(), 10..40u8).prop_map(|(f, to)| format!("dup3 {f} {to}")),
        1 => (file(), file(), 3..500u32).prop_map(|(f, to, least)| format!("dupfd {f} {to} {least}")),
        1 => (file(), 10..40u8).prop_map(|(f, number)| format!("number {f} {number}")),
        2 => file().prop_map(|f| format!("close {f}")),
        1 => file().prop_map(|f| format!("close-behind {f}")),
        1 => (10..40u8, 10..40u8).prop_map(|(first, last)| format!("close-range {first} {last}")),
        1 => file().prop_map(|f| format!("null {f}")),
        1 => file().prop_map(|f| format!("stat {f}")),
        1 => (file(), offset(), 0..3u8).prop_map(|(f, at, whence)| format!("seek {f} {at} {whence}")),
        1 => file().prop_map(|f| format!("read {f}")),
        1 => (file(), offset()).prop_map(|(f, at)| format!("pread {f} {at}")),
        1 => (file(), any::<u8>()).prop_map(|(f, byte)| format!("write {f} {byte}")),
        1 => (file(), offset(), any::<u8>()).prop_map(|(f, at, byte)| format!("pwrite {f} {at} {byte}")),
        1 => (file(), file(), 1..9000u32).prop_map(|(f, to, len)| format!("send-file {f} {to} {len}")),
        2 => (file(), 0..8u8).prop_map(|(f, seals)| format!("add-seals {f} {seals}")),
        1 => file().prop_map(|f| format!("add-seals {f} 8")),
        2 => file().prop_map(|f| format!("get-seals {f}")),
        1 => file().prop_map(|f| format!("get-flags {f}")),
        1 => (file(), prop_oneof![Just(0), Just(O_APPEND), Just(O_NONBLOCK)])
            .prop_map(|(f, flags)| format!("set-flags {f} {flags}")),
        1 => (file(), 0..2u8).prop_map(|(f, closing)| format!("set-closing {f} {closing}")),
        1 => file().prop_map(|f| format!("get-closing {f}")),
        1 => (file(), file(), 0..2u8).prop_map(|(f, to, read_only)| format!("reopen {f} {to} {read_only}")),
        1 => file().prop_map(|f| format!("send-other {f}")),
        1 => file().prop_map(|f| format!("send {f}")),
        1 => file().prop_map(|f| format!("send-pair {f}")),
        1 => file().prop_map(|f| format!("fork {f} 1")),
    ]
}

/// So many lists, of which each is two processes.
const CASES: u32 = 150;

/// Most lines of a list. What a client says of them fits into a pipe.
const LINES: usize = 60;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_memfd_is_the_model(random in prop::collection::vec(line(), 1..LINES)) {
        // A client that has a pool already, so that what is lent is met often.
        let mut lines = vec!["create 0 3", "truncate 0 100000", "map 0 0 100000 0", "pool 0"];
        lines.extend(random.iter().map(String::as_str));
        lines.extend(["look 0", "look 1", "look 2", "stat 0", "stat 1", "stat 2"]);
        let (with, without) = (with(Manners::GOOD, &lines), without(&lines));
        prop_assert_eq!(&with.said, &without.said);
        prop_assert!(with.lent() > 0);
        // Each is parted from once at most.
        let mut parted: Vec<u32> = with.closed().iter().map(|&(id, _)| id).collect();
        parted.extend(with.events.iter().filter_map(|event| match event {
            rig::Event::Demoted(parting, _) => Some(parting.id),
            _ => None,
        }));
        parted.sort();
        prop_assert!(parted.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", parted);
        // What was sent of it before has arrived.
        prop_assert_eq!(with.pools.len(), without.pools.len());
    }
}
