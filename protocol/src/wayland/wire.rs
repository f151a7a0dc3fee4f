//! Messages on the wire: a header of two words, then arguments by signature.
//!
//! Words are in the machine's byte order, which is little-endian wherever virtio_wl exists. The codec borrows, and
//! returns what it didn't read.

use std::ffi::CStr;
use wayland_backend::protocol::{AllowNull, ArgumentType};

/// Size of a message's header, in bytes: the object, then the size in the upper and the opcode in the lower half.
pub const HEADER: usize = 8;

/// A message, not yet understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whom it concerns.
    pub object: u32,
    /// Which of the object's requests or events.
    pub opcode: u16,
    /// All of it, header included.
    pub bytes: &'a [u8],
}

/// One argument of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// A signed number.
    Int(i32),
    /// An unsigned number.
    Uint(u32),
    /// A number with 8 fractional bits.
    Fixed(i32),
    /// Text, or none.
    Str(Option<&'a CStr>),
    /// An object, or 0 for none.
    Object(u32),
    /// The id of a new object.
    NewId(u32),
    /// Bytes.
    Array(&'a [u8]),
    /// A file descriptor, which travels beside the bytes.
    Fd,
}

/// What is wrong with a message's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header claims a size that no message has.
    #[error("message of {size} bytes: sizes are multiples of four, from 8 to {max}")]
    Size {
        /// The claimed size.
        size: u16,
        /// The largest that is taken.
        max: usize,
    },
    /// The arguments need more bytes than there are.
    #[error("message too short for argument {0}")]
    Short(usize),
    /// There are more bytes than the arguments need.
    #[error("message longer than its arguments by {0} bytes")]
    Long(usize),
    /// A text that isn't one: no NUL at its end, or one inside.
    #[error("argument {0} is not a proper string")]
    Str(usize),
    /// An argument that must be there is null.
    #[error("argument {0} must not be null")]
    Null(usize),
    /// A new object has no id.
    #[error("argument {0} must be a new id, not 0")]
    NewId(usize),
}

/// Takes a message off the front of `bytes`; `None` if it isn't complete yet. `max` is the largest size, in bytes.
///
/// A bad size is seen as soon as the header is there: what follows can't be understood any more.
#[inline]
pub fn split<'a>(
    bytes: &mut &'a [u8],
    max: usize,
) -> Result<Option<Message<'a>>, (u32, WireError)> {
    let Some(header) = bytes.get(..HEADER) else { return Ok(None) };
    let (object, second) = (word(header, 0), word(header, 4));
    let (size, opcode) = ((second >> 16) as u16, second as u16);
    if !(HEADER..=max).contains(&usize::from(size)) || size % 4 != 0 {
        return Err((object, WireError::Size { size, max }));
    }
    let Some((message, rest)) = bytes.split_at_checked(usize::from(size)) else { return Ok(None) };
    *bytes = rest;
    Ok(Some(Message { object, opcode, bytes: message }))
}

/// Reads the arguments of a message one by one.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    rest: &'a [u8],
    signature: &'static [ArgumentType],
    index: usize,
}

impl<'a> Args<'a> {
    /// The arguments of `message`, which has this signature.
    #[inline]
    pub fn new(message: Message<'a>, signature: &'static [ArgumentType]) -> Self {
        Self { rest: &message.bytes[HEADER..], signature, index: 0 }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short(self.index))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn word(&mut self) -> Result<u32, WireError> {
        self.take(4).map(|bytes| word(bytes, 0))
    }

    /// A counted piece, padded to whole words.
    #[inline]
    fn counted(&mut self, len: u32) -> Result<&'a [u8], WireError> {
        let len = len as usize;
        // The length may be anything up to 4 GiB; the padding must not overflow on 32-bit machines.
        let padded = len.checked_next_multiple_of(4).ok_or(WireError::Short(self.index))?;
        self.take(padded).map(|bytes| &bytes[..len])
    }

    #[inline]
    fn read(&mut self, kind: ArgumentType) -> Result<Arg<'a>, WireError> {
        let index = self.index;
        let null = |allowed| match allowed {
            AllowNull::Yes => Ok(()),
            AllowNull::No => Err(WireError::Null(index)),
        };
        Ok(match kind {
            ArgumentType::Int => Arg::Int(self.word()? as i32),
            ArgumentType::Uint => Arg::Uint(self.word()?),
            ArgumentType::Fixed => Arg::Fixed(self.word()? as i32),
            ArgumentType::Str(allowed) => match self.word()? {
                0 => null(allowed).map(|()| Arg::Str(None))?,
                len => {
                    let bytes = self.counted(len)?;
                    let text =
                        CStr::from_bytes_with_nul(bytes).map_err(|_| WireError::Str(self.index))?;
                    Arg::Str(Some(text))
                }
            },
            ArgumentType::Object(allowed) => match self.word()? {
                0 => null(allowed).map(|()| Arg::Object(0))?,
                id => Arg::Object(id),
            },
            ArgumentType::NewId => match self.word()? {
                0 => return Err(WireError::NewId(self.index)),
                id => Arg::NewId(id),
            },
            ArgumentType::Array => {
                let len = self.word()?;
                Arg::Array(self.counted(len)?)
            }
            ArgumentType::Fd => Arg::Fd,
        })
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Result<Arg<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Some(&kind) = self.signature.get(self.index) else {
            let left = std::mem::take(&mut self.rest).len();
            return (left > 0).then_some(Err(WireError::Long(left)));
        };
        let arg = self.read(kind);
        self.index += 1;
        Some(arg)
    }
}

/// Appends a message to `out`.
///
/// # Panics
/// If it is larger than the wire allows: the caller made it.
pub fn encode(object: u32, opcode: u16, args: &[Arg<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&object.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    for arg in args {
        match *arg {
            Arg::Int(value) | Arg::Fixed(value) => out.extend_from_slice(&value.to_ne_bytes()),
            Arg::Uint(value) | Arg::Object(value) | Arg::NewId(value) => {
                out.extend_from_slice(&value.to_ne_bytes())
            }
            Arg::Str(None) => out.extend_from_slice(&[0; 4]),
            Arg::Str(Some(text)) => encode_counted(text.to_bytes_with_nul(), out),
            Arg::Array(bytes) => encode_counted(bytes, out),
            Arg::Fd => {}
        }
    }
    let size = out.len() - start;
    assert!(size <= crate::limits::MAX_EVENT, "a message of {size} bytes");
    let second = (size as u32) << 16 | u32::from(opcode);
    out[start + 4..start + HEADER].copy_from_slice(&second.to_ne_bytes());
}

fn encode_counted(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
    out.extend_from_slice(bytes);
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    out.extend_from_slice(&[0; 3][..padding]);
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests;
