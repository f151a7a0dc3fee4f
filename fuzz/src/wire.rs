//! The Wayland codec: what is read is what was written, however it arrives.

use crate::input::Input;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::inbox::MAX_PENDING_FDS;
use wlproxy_protocol::wayland::wire::{Args, HEADER, WireError, encode, split};
use wlproxy_protocol::wayland::{Arg, ArgumentType, Inbox, Interface, Message, tables};

use crate::wayland::GLOBALS;

/// All signatures that are reached from [`GLOBALS`].
static SIGNATURES: LazyLock<Vec<&'static [ArgumentType]>> = LazyLock::new(|| {
    let mut found: BTreeMap<&str, &'static Interface> = BTreeMap::new();
    let named = GLOBALS.iter().filter_map(|name| tables::global(name.to_str().ok()?));
    let mut left: Vec<_> = named.map(|global| global.interface).collect();
    left.push(tables::wl_display());
    while let Some(interface) = left.pop() {
        if found.insert(interface.name, interface).is_none() {
            let messages = interface.requests.iter().chain(interface.events);
            left.extend(messages.filter_map(|message| message.child_interface));
        }
    }
    let messages = found.values().flat_map(|found| found.requests.iter().chain(found.events));
    let mut all: Vec<_> = messages.map(|message| message.signature).collect();
    all.dedup();
    all
});

/// Most arguments of a message, with room: `wl_output.geometry` has eight.
const MOST_ARGS: usize = 32;

/// What an input needs, kept from one to the next.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    again: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One input.
pub fn run(data: &[u8]) {
    SCRATCH.with_borrow_mut(|scratch| run_with(data, scratch));
}

fn run_with(data: &[u8], Scratch { bytes, again }: &mut Scratch) {
    let mut input = Input::new(data);
    let max = if input.one_in(2) { MAX_EVENT } else { MAX_REQUEST };
    let signature = SIGNATURES[input.word() as usize % SIGNATURES.len()];
    let split_at = input.clone();
    bytes.clear();
    stream(&mut input, signature, bytes);
    arrive_in_pieces(split_at, bytes, max, signature, again);
}

/// Messages of this signature, mostly right, then anything.
fn stream(input: &mut Input<'_>, signature: &[ArgumentType], bytes: &mut Vec<u8>) {
    while !input.is_empty() && !input.one_in(16) {
        let (object, opcode) = (input.number(), input.byte().into());
        let start = bytes.len();
        encode(object, opcode, &[], bytes);
        for kind in signature {
            match kind {
                ArgumentType::Str(_) | ArgumentType::Array => {
                    let text = input.bytes(16);
                    let end = usize::from(matches!(kind, ArgumentType::Str(_)));
                    let length =
                        if input.one_in(32) { input.number() } else { (text.len() + end) as u32 };
                    bytes.extend(length.to_le_bytes());
                    bytes.extend(text);
                    if end > 0 {
                        bytes.push(if input.one_in(32) { input.byte() } else { 0 });
                    }
                    bytes.resize(bytes.len().next_multiple_of(4), input.byte());
                }
                ArgumentType::Fd => {}
                _ => bytes.extend(input.number().to_le_bytes()),
            }
        }
        let size = if input.one_in(32) { input.number() } else { (bytes.len() - start) as u32 };
        bytes[start + 6..start + HEADER].copy_from_slice(&(size as u16).to_le_bytes());
    }
    bytes.extend(input.rest());
}

/// The next message, looked at closely.
fn next<'a>(rest: &mut &'a [u8], max: usize) -> Result<Option<Message<'a>>, (u32, WireError)> {
    let before = *rest;
    let found = split(rest, max);
    let length = match &found {
        Ok(Some(message)) => {
            assert_eq!(message.bytes, &before[..message.bytes.len()], "another's bytes");
            assert!((HEADER..=max).contains(&message.bytes.len()), "a size out of bounds");
            assert_eq!(message.object, word(before, 0));
            assert_eq!(u32::from(message.opcode), word(before, 4) & 0xffff);
            message.bytes.len()
        }
        _ => 0,
    };
    assert_eq!(rest.len() + length, before.len(), "bytes are lost or read twice");
    found
}

/// The word at `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Arguments are what stands there, one after the other, and are written as they were, but for what fills words up.
fn arguments(message: Message<'_>, signature: &'static [ArgumentType], again: &mut Vec<u8>) {
    let mut args = [Arg::Fd; MOST_ARGS];
    let mut count = 0;
    let mut at = HEADER;
    for arg in Args::new(message, signature) {
        let Ok(arg) = arg else { return };
        let first = || word(message.bytes, at);
        let counted = |length: usize| &message.bytes[at + 4..at + 4 + length];
        match arg {
            Arg::Int(number) | Arg::Fixed(number) => assert_eq!(number.cast_unsigned(), first()),
            Arg::Uint(number) | Arg::Object(number) | Arg::NewId(number) => {
                assert_eq!(number, first());
            }
            Arg::Str(None) => assert_eq!(first(), 0),
            Arg::Str(Some(text)) => {
                assert_eq!(text.to_bytes_with_nul(), counted(first() as usize));
            }
            Arg::Array(array) => assert_eq!(array, counted(first() as usize)),
            Arg::Fd => {}
        }
        at += match arg {
            Arg::Fd => 0,
            Arg::Str(Some(_)) | Arg::Array(_) => 4 + (first() as usize).next_multiple_of(4),
            _ => 4,
        };
        args[count] = arg;
        count += 1;
    }
    assert_eq!((count, at), (signature.len(), message.bytes.len()), "not all was read");
    again.clear();
    encode(message.object, message.opcode, &args[..count], again);
    if again != message.bytes {
        let mut rest = &again[..];
        let second = split(&mut rest, MAX_EVENT).expect("its size").expect("whole");
        assert_eq!((second.object, second.opcode), (message.object, message.opcode));
        assert_eq!(
            second.bytes.len(),
            message.bytes.len(),
            "written longer or shorter than it was"
        );
        let read_again = Args::new(second, signature).map(|arg| arg.expect("it was read before"));
        assert!(read_again.eq(args[..count].iter().copied()));
    }
}

/// An inbox gives the messages that stand there and all fds, in order, wherever the stream is cut.
fn arrive_in_pieces(
    mut input: Input<'_>,
    bytes: &[u8],
    max: usize,
    signature: &'static [ArgumentType],
    again: &mut Vec<u8>,
) {
    let mut whole = bytes;
    let wanted = signature.iter().filter(|&&kind| kind == ArgumentType::Fd).count();
    let mut inbox = Inbox::default();
    let (mut given, mut taken, mut arrived) = (0usize, 0, 0);
    let mut cuts = input.clone();
    let mut rest = bytes;
    'pieces: loop {
        let piece = cuts.piece(&mut rest);
        let fds = input.below(4);
        let waiting = given - taken + fds;
        assert_eq!(inbox.push(piece, given..given + fds), waiting <= MAX_PENDING_FDS);
        given += fds;
        arrived += piece.len();
        loop {
            match inbox.next(max) {
                Ok(Some((message, fds))) => {
                    let expected = next(&mut whole, max);
                    assert_eq!(expected, Ok(Some(message)), "another message, or none");
                    arguments(message, signature, again);
                    for _ in 0..wanted.min(fds.len()) {
                        assert_eq!(fds.pop_front(), Some(taken), "fds out of order");
                        taken += 1;
                    }
                }
                Ok(None) => break,
                Err(found) => {
                    assert_eq!(next(&mut whole, max), Err(found));
                    break 'pieces;
                }
            }
        }
        assert_eq!(inbox.pending(), arrived - (bytes.len() - whole.len()), "bytes are lost");
        if rest.is_empty() {
            assert_eq!(next(&mut whole, max), Ok(None), "a message is lost");
            break;
        }
    }
    assert!(inbox.drain_fds().eq(taken..given), "fds are lost");
}
