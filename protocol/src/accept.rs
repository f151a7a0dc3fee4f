//! What travels on a *main context*: hello, records and their answers.
//!
//! A channel can only connect, so the compositor VM learns of clients over one main context and opens a stream for
//! each (ARCHITECTURE.md, "accept"). All numbers are little-endian.
//!
//! ```text
//! hello    both ways, once      magic u32 | version u16 | 0 u16 | ways u32
//! record   host to guest        kind 1 u16 | length u16 | way u8 | name length u8 | 0 u16 | channel type u32
//!                               | connection u64 | token [16] | VM name
//! answer   guest to host        kind 2 u16 | length u16 | reason u32 | token [16]
//! token    first on the stream  token [16]
//! ```
//!
//! Where the compositor VM's device can only dial one path, the first bytes tell a main context from a stream: no token
//! begins as a hello does ([`Opening`]).
//!
//! The zero after the version stands where a Wayland message has its size, so no Wayland peer can be mistaken for one
//! of ours. Everything is refused that isn't exactly as above: unknown kinds, lengths, reasons, ways of a record, and
//! zeros that aren't. Only a hello may name ways that this version doesn't know: a newer peer's, which are left out.

use crate::limits::{CONTEXT_NAME, MAX_VM_NAME};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// "wlpx" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"wlpx");
/// The only version so far.
pub const VERSION: u16 = 1;
/// Length of a hello, in bytes.
pub const HELLO: usize = 12;

const KIND_RECORD: u16 = 1;
const KIND_ANSWER: u16 = 2;
const RECORD_FIXED: usize = 36;
const ANSWER: usize = 8 + Token::LEN;

/// What is wrong with bytes on a main context. The context ends; nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a hello of ours: something else speaks here.
    #[error("the peer does not speak the accept protocol (wrong magic)")]
    Magic,
    /// A hello of another version.
    #[error(
        "the peer speaks version {0} of the accept protocol, this side speaks {VERSION}: update the older one"
    )]
    Version(u16),
    /// The two sides have no way to open a stream in common.
    #[error("the peer knows no way to open a stream that this side knows")]
    Ways,
    /// A message of an unknown kind.
    #[error("message of unknown kind {0}")]
    Kind(u16),
    /// A length that its kind doesn't have.
    #[error("message of kind {kind} with a length of {length} bytes")]
    Length {
        /// The message's kind.
        kind: u16,
        /// The length that it claims.
        length: u16,
    },
    /// A field out of range.
    #[error("message with {0} out of range")]
    Field(&'static str),
}

/// 128 random bits that stand for one client, once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Token::LEN]);

impl Token {
    /// Length, in bytes.
    pub const LEN: usize = 16;
    /// Length of [`Token::to_name`] without its padding, in bytes.
    const NAME_LEN: usize = 22;

    /// The token of these bits, which must be random.
    pub fn new(bits: [u8; Self::LEN]) -> Self {
        Self(bits)
    }

    /// Whether no hello begins so. Those that aren't, one of 2^32, are no good where a stream is dialled back.
    pub fn is_distinct(self) -> bool {
        !self.0.starts_with(&MAGIC.to_le_bytes())
    }

    /// The bits, as they are sent.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The name under which virtio_wl opens the stream: base64url without padding, 22 of 32 bytes, then zeros.
    pub fn to_name(self) -> [u8; CONTEXT_NAME] {
        let mut name = [0; CONTEXT_NAME];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut name);
        debug_assert_eq!(written, Ok(Self::NAME_LEN));
        name
    }

    /// The token that a name stands for. `None` if it isn't exactly as [`Token::to_name`] makes it.
    pub fn from_name(name: &[u8; CONTEXT_NAME]) -> Option<Self> {
        let (text, padding) = name.split_at(Self::NAME_LEN);
        if padding.iter().any(|&b| b != 0) {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

/// Shows the first 32 bits only: logs must not help anyone to use a token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Token({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// How a stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// virtio_wl's NEW_CTX_NAMED with [`Token::to_name`].
    Name,
    /// A cross-domain context with this channel type.
    ChannelType(u32),
    /// A plain connection to the one path that the device knows.
    DialBack,
}

/// The channel types that records announce. The types that other devices give a meaning are below, and one is above
/// (rutabaga_gfx's `cross_domain_protocol.rs`); the bits of the capset end below too.
pub const CHANNEL_TYPES: std::ops::Range<u32> = 0x1_0000..0xffff_ffff;

/// A set of [`Way`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways(u32);

impl Ways {
    /// [`Way::Name`] only.
    pub const NAME: Self = Self(1);
    /// [`Way::ChannelType`] only.
    pub const CHANNEL_TYPE: Self = Self(1 << 1);
    /// [`Way::DialBack`] only.
    pub const DIAL_BACK: Self = Self(1 << 2);
    const ALL: u32 = 0b111;

    /// Whether `way` is in the set.
    pub fn contains(self, way: Way) -> bool {
        self.0 & 1 << way.code() != 0
    }

    /// What either set holds.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets hold.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Way {
    fn code(self) -> u8 {
        match self {
            Way::Name => 0,
            Way::ChannelType(_) => 1,
            Way::DialBack => 2,
        }
    }
}

/// The first bytes in each direction of a main context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The ways to open that the sender knows.
    pub ways: Ways,
}

impl Hello {
    /// The bytes to send.
    pub fn encode(self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..].copy_from_slice(&self.ways.0.to_le_bytes());
        bytes
    }

    /// Takes a hello from the front of `bytes`; `None` if it isn't complete yet.
    ///
    /// A wrong magic is seen in the first four bytes, so a Wayland client that got here is refused at once. Ways that
    /// this version doesn't know are left out.
    pub fn decode(bytes: &mut &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.iter().zip(&MAGIC.to_le_bytes()).any(|(a, b)| a != b) {
            return Err(Malformed::Magic);
        }
        let Some((hello, rest)) = bytes.split_first_chunk::<HELLO>() else { return Ok(None) };
        let version = u16_at(hello, 4);
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if u16_at(hello, 6) != 0 {
            return Err(Malformed::Field("the reserved word"));
        }
        *bytes = rest;
        Ok(Some(Self { ways: Ways(u32_at(hello, 8) & Ways::ALL) }))
    }
}

/// What a connection is to be that somebody else's device has dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A main context: a hello comes.
    Main,
    /// The stream of this token, if it is one.
    Accepted(Token),
}

impl Opening {
    /// What these first bytes say; `None` if that takes more of them, of which [`Token::LEN`] are always enough.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&MAGIC.to_le_bytes()) {
            return Some(Self::Main);
        }
        bytes.first_chunk().map(|&bits| Self::Accepted(Token(bits)))
    }
}

/// Announces a client to the compositor VM. Only the host can know what stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Name of the client VM, 1 to [`MAX_VM_NAME`] bytes.
    pub vm: String,
    /// The connection's number, unique while wlproxy runs.
    pub connection: u64,
    /// Opens the stream, once.
    pub token: Token,
    /// How to open it.
    pub way: Way,
}

impl Record {
    /// Appends the record to `out`.
    ///
    /// # Panics
    /// If the VM's name is empty or too long: the configuration was checked.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let name = self.vm.as_bytes();
        assert!((1..=MAX_VM_NAME).contains(&name.len()), "VM name of {} bytes", name.len());
        let channel_type = if let Way::ChannelType(number) = self.way { number } else { 0 };
        out.extend_from_slice(&KIND_RECORD.to_le_bytes());
        out.extend_from_slice(&((RECORD_FIXED + name.len()) as u16).to_le_bytes());
        out.extend_from_slice(&[self.way.code(), name.len() as u8, 0, 0]);
        out.extend_from_slice(&channel_type.to_le_bytes());
        out.extend_from_slice(&self.connection.to_le_bytes());
        out.extend_from_slice(&self.token.0);
        out.extend_from_slice(name);
    }

    /// Takes a record from the front of `bytes`; `None` if it isn't complete yet.
    pub fn decode(bytes: &mut &[u8]) -> Result<Option<Self>, Malformed> {
        let valid = RECORD_FIXED + 1..=RECORD_FIXED + MAX_VM_NAME;
        let Some(message) = split_message(bytes, KIND_RECORD, valid)? else { return Ok(None) };
        let (fixed, name) = message.split_at(RECORD_FIXED);
        let channel_type = u32_at(fixed, 8);
        let way = match (fixed[4], channel_type) {
            (0, 0) => Way::Name,
            (1, number) => Way::ChannelType(number),
            (2, 0) => Way::DialBack,
            _ => return Err(Malformed::Field("the way to open")),
        };
        if usize::from(fixed[5]) != name.len() || u16_at(fixed, 6) != 0 {
            return Err(Malformed::Field("the VM name's length"));
        }
        let vm = str::from_utf8(name).map_err(|_| Malformed::Field("the VM name"))?;
        let connection = u64::from_le_bytes(fixed[12..20].try_into().expect("eight bytes"));
        let token = Token(fixed[20..].try_into().expect("sixteen bytes"));
        Ok(Some(Self { vm: vm.to_owned(), connection, token, way }))
    }
}

/// Why the accept side doesn't take a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u32)]
pub enum Refusal {
    /// No compositor listens in the compositor VM.
    #[error("no compositor is running in the compositor VM")]
    NoCompositor = 1,
    /// The compositor VM is out of vfds, fds or memory.
    #[error("the compositor VM is at its limit of clients")]
    Limit = 2,
    /// Opening the stream failed.
    #[error("the compositor VM could not open the stream")]
    Open = 3,
}

impl Refusal {
    fn from_code(code: u32) -> Option<Self> {
        [Self::NoCompositor, Self::Limit, Self::Open].into_iter().find(|&r| r as u32 == code)
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The record's token.
    pub token: Token,
    /// `Ok`: opened. `Err`: the client is to be disconnected.
    pub outcome: Result<(), Refusal>,
}

impl Answer {
    /// Appends the answer to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&KIND_ANSWER.to_le_bytes());
        out.extend_from_slice(&(ANSWER as u16).to_le_bytes());
        let reason = self.outcome.err().map_or(0, |refusal| refusal as u32);
        out.extend_from_slice(&reason.to_le_bytes());
        out.extend_from_slice(&self.token.0);
    }

    /// Takes an answer from the front of `bytes`; `None` if it isn't complete yet.
    pub fn decode(bytes: &mut &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(message) = split_message(bytes, KIND_ANSWER, ANSWER..=ANSWER)? else {
            return Ok(None);
        };
        let outcome = match u32_at(message, 4) {
            0 => Ok(()),
            code => Err(Refusal::from_code(code).ok_or(Malformed::Field("the reason"))?),
        };
        Ok(Some(Self { token: Token(message[8..].try_into().expect("sixteen bytes")), outcome }))
    }
}

/// Splits a message of `kind` off the front; its length is judged as soon as its four bytes are there.
fn split_message<'a>(
    bytes: &mut &'a [u8],
    kind: u16,
    valid: std::ops::RangeInclusive<usize>,
) -> Result<Option<&'a [u8]>, Malformed> {
    if bytes.len() < 4 {
        return Ok(None);
    }
    let (found, length) = (u16_at(bytes, 0), u16_at(bytes, 2));
    if found != kind {
        return Err(Malformed::Kind(found));
    }
    if !valid.contains(&usize::from(length)) {
        return Err(Malformed::Length { kind, length });
    }
    let Some((message, rest)) = bytes.split_at_checked(usize::from(length)) else {
        return Ok(None);
    };
    *bytes = rest;
    Ok(Some(message))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: Token = Token([7; 16]);

    #[test]
    fn hello_is_no_wayland_message() {
        let bytes = Hello { ways: Ways::NAME }.encode();
        assert_eq!(u16_at(&bytes, 6), 0, "a Wayland message of size 0 is always refused");
        assert_eq!(Hello::decode(&mut &bytes[..]), Ok(Some(Hello { ways: Ways::NAME })));
        for len in 0..HELLO {
            assert_eq!(Hello::decode(&mut &bytes[..len]), Ok(None));
        }
    }

    #[test]
    fn a_wayland_client_is_refused_by_its_first_bytes() {
        let get_registry = [1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0];
        assert_eq!(Hello::decode(&mut &get_registry[..1]), Err(Malformed::Magic));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Hello { ways: Ways::NAME }.encode();
        bytes[4] = 9;
        assert_eq!(Hello::decode(&mut &bytes[..]), Err(Malformed::Version(9)));
    }

    #[test]
    fn the_first_bytes_tell_a_hello_from_a_token() {
        let hello = Hello { ways: Ways::DIAL_BACK }.encode();
        assert!(TOKEN.is_distinct());
        for (bytes, opening, enough) in
            [(&hello[..], Opening::Main, 4), (&TOKEN.0[..], Opening::Accepted(TOKEN), Token::LEN)]
        {
            for len in 0..bytes.len() {
                let expected = (len >= enough).then_some(opening);
                assert_eq!(Opening::decode(&bytes[..len]), expected, "{len} bytes");
            }
        }
        let mut bits = [7; Token::LEN];
        bits[..4].copy_from_slice(&hello[..4]);
        assert!(!Token(bits).is_distinct());
    }

    #[test]
    fn names_are_exact() {
        let name = TOKEN.to_name();
        assert_eq!(Token::from_name(&name), Some(TOKEN));
        for at in 0..CONTEXT_NAME {
            let mut other = name;
            other[at] ^= 0x80;
            assert_eq!(Token::from_name(&other), None, "byte {at}");
        }
        // base64 has spare bits in its last digit; a name that sets them is no name of ours.
        let mut other = name;
        other[21] += 1;
        assert_eq!(Token::from_name(&other), None);
    }

    #[test]
    fn every_refusal_survives() {
        for outcome in [Ok(()), Err(Refusal::NoCompositor), Err(Refusal::Limit), Err(Refusal::Open)]
        {
            let mut bytes = Vec::new();
            let answer = Answer { token: TOKEN, outcome };
            answer.encode(&mut bytes);
            assert_eq!(Answer::decode(&mut &bytes[..]), Ok(Some(answer)));
        }
    }

    fn way() -> impl Strategy<Value = Way> {
        prop_oneof![Just(Way::Name), any::<u32>().prop_map(Way::ChannelType), Just(Way::DialBack)]
    }

    proptest! {
        #[test]
        fn records_survive_in_pieces(vm in "[a-z]{1,64}", connection: u64, bits: [u8; 16], way in way()) {
            let record = Record { vm, connection, token: Token(bits), way };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for len in 0..bytes.len() {
                prop_assert_eq!(Record::decode(&mut &bytes[..len]), Ok(None));
            }
            bytes.push(99);
            let mut rest = &bytes[..];
            prop_assert_eq!(Record::decode(&mut rest), Ok(Some(record)));
            prop_assert_eq!(rest, &[99]);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Hello::decode(&mut &bytes[..]);
            let _ = Record::decode(&mut &bytes[..]);
            let _ = Answer::decode(&mut &bytes[..]);
        }
    }
}
