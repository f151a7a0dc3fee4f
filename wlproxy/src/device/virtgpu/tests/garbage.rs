//! What a hostile VM says, by the thousand: the same that the program `wlproxy-hostile` says in a real one.

use super::driver::{Driver, Event, place};
use super::{HANG_UP, OK};
use crate::device::Side;
use crate::device::opener::Role;
use crate::device::virtio_wl::tests::wayland::report;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::os::unix::net::UnixStream;
use wlproxy_hostile::{Places, RESOURCES, Random, command};
use wlproxy_protocol::virtio_gpu::{Header, message};
use wlproxy_protocol::virtio_wl::read;

/// The context of somebody else, whose rings are out of reach.
const OTHER: u32 = 20;

/// Longest command that the driver has room for, in bytes: longer than the longest that the device takes.
const ROOM: usize = 68 << 10;

/// Streams that the host's side keeps open. The others hang up.
const STREAMS: usize = 3;

fn places() -> Places {
    const { assert!(RESOURCES < OTHER) };
    Places {
        arena: place(0)..place(RESOURCES),
        elsewhere: vec![32 << 20..33 << 20, 1 << 40..u64::MAX],
    }
}

struct Hostile {
    driver: Driver,
    random: Random,
    /// Commands that aren't answered yet.
    held: Vec<u16>,
    codes: BTreeMap<u32, usize>,
    contexts: BTreeSet<u32>,
    resources: BTreeSet<u32>,
    streams: VecDeque<UnixStream>,
    connected: u64,
}

impl Hostile {
    fn say(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(ROOM)];
        if let Some(header) = read::<Header>(bytes) {
            if header.kind == message::CTX_CREATE {
                self.contexts.insert(header.context);
            }
            if let Some(resource) = bytes.get(24..28) {
                self.resources.insert(u32::from_le_bytes(resource.try_into().unwrap()));
            }
        }
        let room = if self.random.one_in(64) { self.random.below(30) as u32 } else { 512 };
        let slot = self.driver.submit(bytes, room);
        self.held.push(slot);
        while !self.driver.opener.0.lock().unwrap().is_empty() {
            self.connected += 1;
            let role = Role::Link { connection: 100 + self.connected };
            self.streams.push_back(self.driver.open(role).1);
        }
        while self.streams.len() > STREAMS {
            self.streams.pop_front();
            self.driver.turn();
        }
        self.take_answers();
        if self.held.len() > 50 {
            self.end_contexts();
        }
    }

    fn take_answers(&mut self) {
        let (driver, codes) = (&mut self.driver, &mut self.codes);
        self.held.retain(|&slot| match driver.answer(slot) {
            Some(answer) => {
                let code = answer.first_chunk().map_or(0, |&code| u32::from_le_bytes(code));
                *codes.entry(code).or_default() += 1;
                false
            }
            None => true,
        });
    }

    /// All that the device holds back is of some context.
    fn end_contexts(&mut self) {
        for context in std::mem::take(&mut self.contexts) {
            self.driver.destroy_context(context);
        }
        self.take_answers();
        assert!(self.held.is_empty(), "{} commands are never answered", self.held.len());
    }
}

#[test]
fn a_hostile_vm_is_answered_and_harms_nobody() {
    for seed in 0..4 {
        let mut driver = Driver::new(Side::Client);
        let mut peer = driver.link(OTHER);
        let before = driver.counters.snapshot();
        let mut hostile = Hostile {
            driver,
            random: Random::new(seed),
            held: Vec::new(),
            codes: BTreeMap::new(),
            contexts: BTreeSet::new(),
            resources: (1..=RESOURCES).collect(),
            streams: VecDeque::new(),
            connected: 0,
        };
        let places = places();
        for number in 0..5_000 {
            let bytes = command(&mut hostile.random, &places);
            hostile.say(&bytes);
            if number % 500 == 0 {
                peer.write_all(&report("well")).unwrap();
                let event = hostile.driver.receive(OTHER);
                assert_eq!(event, Event::Receive(vec![], report("well")), "seed {seed}, {number}");
            }
        }
        hostile.end_contexts();
        // By a number that is anything it may have named those of the other.
        let own = [super::query_ring(OTHER), super::channel_ring(OTHER)];
        for resource in hostile.resources.iter().filter(|resource| !own.contains(resource)) {
            hostile.driver.of_resource(message::RESOURCE_UNREF, *resource);
        }
        hostile.streams.clear();
        let Hostile { mut driver, codes, connected, .. } = hostile;
        driver.turn();
        let after = driver.counters.snapshot();
        assert_eq!(
            (after.vfds, after.contexts, after.allocation_bytes, after.window_bytes),
            (before.vfds, before.contexts, before.allocation_bytes, before.window_bytes),
            "seed {seed}: something is left"
        );
        assert!(
            driver.frontend.mapped.lock().unwrap().is_empty(),
            "seed {seed}: mappings are left"
        );
        // It got far enough to be worth it.
        for code in [
            OK,
            message::RESP_OK_MAP_INFO,
            message::RESP_ERR_UNSPEC,
            message::RESP_ERR_INVALID_CONTEXT_ID,
            message::RESP_ERR_INVALID_RESOURCE_ID,
            message::RESP_ERR_INVALID_PARAMETER,
        ] {
            assert!(codes.get(&code).is_some_and(|&count| count >= 20), "{code:#x}: {codes:?}");
        }
        assert!(connected >= 20 && after.violations > 0, "{connected}, {}", after.violations);
        drop(peer);
        assert_eq!(driver.receive(OTHER), HANG_UP);
    }
}
