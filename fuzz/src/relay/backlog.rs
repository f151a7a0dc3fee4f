//! What may become of events that wait for a client: some are joined, and then what they tell is the same.

use std::collections::BTreeMap;
use wlproxy_protocol::limits::MAX_EVENT;
use wlproxy_protocol::wayland::{Batch, Call, wire};

/// An event that is for the client.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<u32>,
    pub(super) nature: Nature,
}

/// What an event is to somebody who reads late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// It must come, between those that came before and after it.
    Single,
    /// The last one counts. Which of its words says of what it is.
    Latest(Option<usize>),
    /// So many of its last words add up.
    Sum(usize, Option<usize>),
    /// Once is enough.
    Once,
}

/// What this event is.
pub(super) fn nature(call: &Call<'_>) -> Nature {
    match call.name() {
        ("wl_pointer" | "wl_data_device", "motion") => Nature::Latest(None),
        ("wl_touch", "motion") => Nature::Latest(Some(1)),
        ("wl_touch", "shape" | "orientation") => Nature::Latest(Some(0)),
        (
            "zwp_tablet_tool_v2",
            "motion" | "pressure" | "distance" | "tilt" | "rotation" | "slider",
        ) => Nature::Latest(None),
        ("zwp_relative_pointer_v1", "relative_motion") => Nature::Sum(4, None),
        ("wl_pointer", "axis") => Nature::Sum(1, Some(1)),
        ("wl_pointer", "axis_discrete" | "axis_value120") => Nature::Sum(1, Some(0)),
        ("wl_pointer", "axis_source") => Nature::Once,
        ("wl_pointer", "axis_relative_direction") => Nature::Latest(Some(0)),
        ("wl_pointer" | "wl_touch" | "zwp_tablet_tool_v2", "frame") => Nature::Once,
        _ => Nature::Single,
    }
}

/// Object, opcode, and of what.
type Key = (u32, u32, u32);

/// What a client knows after some events between two that must come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    last: BTreeMap<Key, Vec<u8>>,
    sums: BTreeMap<Key, Vec<i64>>,
}

impl Told {
    fn add(&mut self, bytes: &[u8], nature: Nature) {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, i32::from_le_bytes)
        };
        let part = match nature {
            Nature::Latest(part) | Nature::Sum(_, part) => part,
            _ => None,
        };
        let part = part.map_or(0, |at| word(8 + 4 * at).cast_unsigned());
        let key = (word(0).cast_unsigned(), word(4).cast_unsigned() & 0xffff, part);
        match nature {
            Nature::Single => {}
            Nature::Once | Nature::Latest(_) => drop(self.last.insert(key, bytes.to_vec())),
            Nature::Sum(count, _) => {
                let words = bytes.len() / 4;
                let sums = self.sums.entry(key).or_insert_with(|| vec![0; count]);
                for (sum, at) in sums.iter_mut().zip(words - count..) {
                    *sum += i64::from(word(4 * at));
                }
            }
        }
    }
}

/// Events that a client has not read.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Said>);

impl Waiting {
    pub(super) fn push(&mut self, said: Vec<Said>) {
        self.0.extend(said);
    }

    /// Of what has been read so far, the fds are those of the messages that came.
    pub(super) fn check_fds(&self, read: &Batch<u32>) {
        let mut singles = self.0.iter().filter(|said| said.nature == Nature::Single);
        let mut expected: Vec<u32> = Vec::new();
        for bytes in split(&read.bytes) {
            // What is joined has no fds, and is passed over.
            let mut ahead = singles.clone();
            if let Some(single) = ahead.next()
                && is_part(&single.bytes, bytes)
            {
                expected.extend(&single.fds);
                singles = ahead;
            }
        }
        assert_eq!(read.fds, expected, "fds come with others' messages");
    }

    /// All has been read: it tells what was said.
    pub(super) fn check(&mut self, read: &Batch<u32>) {
        let mut read = split(&read.bytes).into_iter().peekable();
        let (mut said, mut heard) = (Told::default(), Told::default());
        let (mut count, mut heard_count) = (0, 0);
        let natures: BTreeMap<(u32, u32), Nature> =
            self.0.iter().map(|said| (whose(&said.bytes), said.nature)).collect();
        let mut said_all = self.0.drain(..).peekable();
        loop {
            let single = match said_all.next() {
                Some(Said { bytes, nature, .. }) if nature != Nature::Single => {
                    said.add(&bytes, nature);
                    count += 1;
                    continue;
                }
                single => single,
            };
            while let Some(bytes) =
                read.next_if(|bytes| single.as_ref().is_none_or(|it| !it.bytes.starts_with(bytes)))
            {
                let nature = natures.get(&whose(bytes)).copied().unwrap_or(Nature::Single);
                assert_ne!(nature, Nature::Single, "{bytes:?} isn't in order, or was never said");
                heard.add(bytes, nature);
                heard_count += 1;
            }
            assert_eq!(std::mem::take(&mut said), std::mem::take(&mut heard), "something else");
            assert!(heard_count <= count, "more events than there were");
            (count, heard_count) = (0, 0);
            let Some(single) = single else { break };
            // It may be some messages: those that waited for it inside.
            for bytes in split(&single.bytes) {
                assert_eq!(read.next(), Some(bytes), "it is lost, or changed");
            }
        }
        assert_eq!(read.next(), None);
    }
}

/// Object and opcode of a message.
fn whose(bytes: &[u8]) -> (u32, u32) {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (word(0), word(4) & 0xffff)
}

/// Whether this message begins what was said.
fn is_part(said: &[u8], message: &[u8]) -> bool {
    said.starts_with(message)
}

fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(message) = wire::split(&mut bytes, MAX_EVENT).expect("a size") {
        all.push(message.bytes);
    }
    assert!(bytes.is_empty(), "half a message");
    all
}
