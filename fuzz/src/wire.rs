//! The Wayland codec: what is read is what was written, however it arrives.

use crate::input::Input;
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

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let max = if input.one_in(2) { MAX_EVENT } else { MAX_REQUEST };
    let signature = SIGNATURES[input.word() as usize % SIGNATURES.len()];
    let split_at = input.clone();
    let bytes = stream(&mut input, signature);
    let (messages, error) = read(&bytes, max);
    for message in &messages {
        arguments(*message, signature);
    }
    arrive_in_pieces(split_at, &bytes, max, &messages, error);
}

/// Messages of this signature, whole words at least, then anything.
fn stream(input: &mut Input<'_>, signature: &[ArgumentType]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.is_empty() && !input.one_in(4) {
        let (object, opcode) = (input.number(), input.byte().into());
        let start = bytes.len();
        encode(object, opcode, &[], &mut bytes);
        for kind in signature {
            match kind {
                ArgumentType::Str(_) | ArgumentType::Array => {
                    let text = input.bytes(16);
                    let length = if input.one_in(8) { input.number() } else { text.len() as u32 };
                    bytes.extend(length.to_le_bytes());
                    bytes.extend(text);
                    bytes.resize(bytes.len().next_multiple_of(4), input.byte());
                }
                ArgumentType::Fd => {}
                _ => bytes.extend(input.number().to_le_bytes()),
            }
        }
        let size = if input.one_in(16) { input.number() } else { (bytes.len() - start) as u32 };
        bytes[start + 6..start + HEADER].copy_from_slice(&(size as u16).to_le_bytes());
    }
    bytes.extend(input.rest());
    bytes
}

/// All messages, and what is wrong with the one after them.
fn read(bytes: &[u8], max: usize) -> (Vec<Message<'_>>, Option<(u32, WireError)>) {
    let (mut rest, mut messages) = (bytes, Vec::new());
    let error = loop {
        match split(&mut rest, max) {
            Ok(Some(message)) => {
                assert!((HEADER..=max).contains(&message.bytes.len()), "a size out of bounds");
                assert_eq!(message.object.to_le_bytes(), message.bytes[..4]);
                messages.push(message);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let taken: usize = messages.iter().map(|message| message.bytes.len()).sum();
    assert_eq!(taken + rest.len(), bytes.len(), "bytes are lost or read twice");
    (messages, error)
}

/// Arguments that are read are written as they were, but for what fills words up.
fn arguments(message: Message<'_>, signature: &'static [ArgumentType]) {
    let read: Result<Vec<Arg<'_>>, _> = Args::new(message, signature).collect();
    let Ok(args) = read else { return };
    assert_eq!(args.len(), signature.len());
    let mut again = Vec::new();
    encode(message.object, message.opcode, &args, &mut again);
    assert_eq!(again.len(), message.bytes.len(), "written longer or shorter than it was");
    let mut rest = &again[..];
    let second = split(&mut rest, MAX_EVENT).expect("its size").expect("whole");
    assert_eq!((second.object, second.opcode), (message.object, message.opcode));
    let args_again: Vec<Arg<'_>> =
        Args::new(second, signature).map(|arg| arg.expect("it was read before")).collect();
    assert_eq!(args_again, args);
}

/// An inbox gives the same messages and all fds, in order, wherever the stream is cut.
fn arrive_in_pieces(
    mut input: Input<'_>,
    bytes: &[u8],
    max: usize,
    messages: &[Message<'_>],
    error: Option<(u32, WireError)>,
) {
    let mut inbox = Inbox::default();
    let (mut seen, mut given, mut taken) = (0, 0usize, 0);
    'pieces: for piece in input.clone().pieces(bytes) {
        let fds = input.below(4);
        let waiting = given - taken + fds;
        assert_eq!(inbox.push(piece, given..given + fds), waiting <= MAX_PENDING_FDS);
        given += fds;
        loop {
            match inbox.next(max) {
                Ok(Some((message, fds))) => {
                    assert_eq!(message, messages[seen]);
                    seen += 1;
                    if let Some(fd) = fds.pop_front() {
                        assert_eq!(fd, taken, "fds out of order");
                        taken += 1;
                    }
                }
                Ok(None) => break,
                Err(found) => {
                    assert_eq!(Some(found), error);
                    assert_eq!(seen, messages.len());
                    break 'pieces;
                }
            }
        }
    }
    assert_eq!(seen, messages.len(), "messages are lost");
    assert!(inbox.drain_fds().eq(taken..given), "fds are lost");
}
