use super::*;
use crate::limits::{MAX_EVENT, MAX_REQUEST};
use proptest::prelude::*;
use std::ffi::CString;

const STR: ArgumentType = ArgumentType::Str(AllowNull::No);
const OPTIONAL: ArgumentType = ArgumentType::Str(AllowNull::Yes);

fn args(words: &[u8], signature: &'static [ArgumentType]) -> Result<Vec<Arg<'static>>, WireError> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(words);
    let message = Message { object: 1, opcode: 0, bytes: bytes.leak() };
    Args::new(message, signature).collect()
}

fn header(size: u16) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&3u32.to_ne_bytes());
    bytes[4..].copy_from_slice(&(u32::from(size) << 16 | 7).to_ne_bytes());
    bytes
}

#[test]
fn sizes_that_no_message_has_are_refused_by_the_header_alone() {
    for size in [0, 4, 7, 9, 10, 11, 4098, 4100, 65_532] {
        let bytes = header(size);
        let refused = split(&mut &bytes[..], MAX_REQUEST);
        assert_eq!(refused, Err((3, WireError::Size { size, max: MAX_REQUEST })), "{size}");
    }
    for size in [12, 4096] {
        assert_eq!(split(&mut &header(size)[..], MAX_REQUEST), Ok(None), "{size}");
    }
    assert_eq!(split(&mut &header(65_532)[..], MAX_EVENT), Ok(None));
}

#[test]
fn a_message_is_taken_whole() {
    let mut bytes = header(12).to_vec();
    bytes.extend_from_slice(&[1, 2, 3, 4, 5]);
    let mut rest = &bytes[..];
    let message = split(&mut rest, MAX_REQUEST).unwrap().unwrap();
    assert_eq!((message.object, message.opcode, message.bytes.len()), (3, 7, 12));
    assert_eq!(rest, &[5]);
}

#[test]
fn strings_end_with_their_only_nul() {
    assert_eq!(args(b"\x03\0\0\0ab\0\0", &[STR]), Ok(vec![Arg::Str(Some(c"ab"))]));
    assert_eq!(args(b"\x02\0\0\0ab\0\0", &[STR]), Err(WireError::Str(0)), "no NUL");
    assert_eq!(args(b"\x04\0\0\0a\0b\0", &[STR]), Err(WireError::Str(0)), "a NUL inside");
    assert_eq!(args(b"\x09\0\0\0ab\0\0", &[STR]), Err(WireError::Short(0)));
    assert_eq!(args(b"\xff\xff\xff\xffab\0\0", &[STR]), Err(WireError::Short(0)));
    assert_eq!(args(b"\0\0\0\0", &[STR]), Err(WireError::Null(0)));
    assert_eq!(args(b"\0\0\0\0", &[OPTIONAL]), Ok(vec![Arg::Str(None)]));
}

#[test]
fn arguments_use_the_message_up() {
    assert_eq!(
        args(b"\x01\0\0\0", &[ArgumentType::Uint, ArgumentType::Int]),
        Err(WireError::Short(1))
    );
    assert_eq!(args(b"\x01\0\0\0\x02\0\0\0", &[ArgumentType::Uint]), Err(WireError::Long(4)));
    assert_eq!(args(b"", &[ArgumentType::Fd]), Ok(vec![Arg::Fd]));
    assert_eq!(args(b"\0\0\0\0", &[ArgumentType::NewId]), Err(WireError::NewId(0)));
    assert_eq!(args(b"\0\0\0\0", &[ArgumentType::Object(AllowNull::No)]), Err(WireError::Null(0)));
}

/// Something that owns what an argument borrows.
#[derive(Debug, Clone)]
enum Owned {
    Int(i32),
    Uint(u32),
    Fixed(i32),
    Str(Option<CString>),
    Object(u32),
    NewId(u32),
    Array(Vec<u8>),
    Fd,
}

impl Owned {
    fn kind(&self) -> ArgumentType {
        match self {
            Owned::Int(_) => ArgumentType::Int,
            Owned::Uint(_) => ArgumentType::Uint,
            Owned::Fixed(_) => ArgumentType::Fixed,
            Owned::Str(_) => OPTIONAL,
            Owned::Object(_) => ArgumentType::Object(AllowNull::Yes),
            Owned::NewId(_) => ArgumentType::NewId,
            Owned::Array(_) => ArgumentType::Array,
            Owned::Fd => ArgumentType::Fd,
        }
    }

    fn borrow(&self) -> Arg<'_> {
        match self {
            &Owned::Int(value) => Arg::Int(value),
            &Owned::Uint(value) => Arg::Uint(value),
            &Owned::Fixed(value) => Arg::Fixed(value),
            Owned::Str(text) => Arg::Str(text.as_deref()),
            &Owned::Object(id) => Arg::Object(id),
            &Owned::NewId(id) => Arg::NewId(id),
            Owned::Array(bytes) => Arg::Array(bytes),
            Owned::Fd => Arg::Fd,
        }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    prop_oneof![
        any::<i32>().prop_map(Owned::Int),
        any::<u32>().prop_map(Owned::Uint),
        any::<i32>().prop_map(Owned::Fixed),
        prop::option::of(prop::collection::vec(1u8.., 0..50))
            .prop_map(|text| Owned::Str(text.map(|bytes| CString::new(bytes).unwrap()))),
        any::<u32>().prop_map(Owned::Object),
        (1u32..).prop_map(Owned::NewId),
        prop::collection::vec(any::<u8>(), 0..50).prop_map(Owned::Array),
        Just(Owned::Fd),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(object: u32, opcode: u16, owned in prop::collection::vec(owned(), 0..20)) {
        let args: Vec<Arg<'_>> = owned.iter().map(Owned::borrow).collect();
        let signature: &'static [ArgumentType] = owned.iter().map(Owned::kind).collect::<Vec<_>>().leak();
        let mut bytes = vec![9; 3];
        encode(object, opcode, &args, &mut bytes);
        let mut rest = &bytes[3..];
        let message = split(&mut rest, MAX_EVENT).unwrap().unwrap();
        prop_assert_eq!((message.object, message.opcode, rest.len()), (object, opcode, 0));
        let read: Result<Vec<_>, _> = Args::new(message, signature).collect();
        prop_assert_eq!(read, Ok(args));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kinds in prop::collection::vec(owned(), 0..6)) {
        let signature: &'static [ArgumentType] = kinds.iter().map(Owned::kind).collect::<Vec<_>>().leak();
        let mut rest = &bytes[..];
        while let Ok(Some(message)) = split(&mut rest, MAX_EVENT) {
            let _ = Args::new(message, signature).try_for_each(|arg| arg.map(drop));
        }
    }
}
