//! How an application borrows allocations to draw in: what its interposer and the agent of its VM say to each other.
//!
//! They have a Unix socket that keeps records apart (`SOCK_SEQPACKET`). Each record has 24 bytes; numbers are
//! little-endian.
//!
//! ```text
//! record   magic u32 | kind u16 | 0 u16 | id u32 | sent u32 | size u64
//!
//! lend     1   size: that of the application's file, in bytes    -> lent or refused
//! close    2   id, sent                                          no answer
//! demote   3   id, sent, with two fds                            -> demoted
//! lent     4   id, with one fd
//! refused  5
//! demoted  6   id
//! ```
//!
//! The fds of `demote` are one of the allocation, which it is known by, and the application's file. So it can also be told
//! over another connection than the one over which it was lent; `id` is only answered then.
//!
//! `sent` is how often the application has sent the allocation's fd over Wayland sockets so far: what it closes may
//! still be on its way there. Everything is refused that isn't exactly as above; fields that a kind doesn't list are 0.

/// "wlpl" in the order of the bytes; another version would have another.
const MAGIC: u32 = u32::from_le_bytes(*b"wlpl");

/// Length of a record, in bytes.
pub const RECORD: usize = 24;

/// Smallest file that is worth an allocation, in bytes. To map one into two VMs takes milliseconds, to copy this much ten
/// microseconds; the shadows of wl_buffers that small share allocations.
pub const MIN_LENT: u64 = 64 * 1024;

/// Largest file that gets an allocation, in bytes: two wl_buffers of 8K. Some clients size their pool by gigabytes and
/// use little of it.
pub const MAX_LENT: u64 = 256 * 1024 * 1024;

/// What an application asks for or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// For a file of so many bytes, an allocation.
    Lend {
        /// In bytes, from [`MIN_LENT`] to [`MAX_LENT`].
        size: u64,
    },
    /// The application has closed its last fd of it. It may still have it mapped.
    Close(Parting),
    /// The application draws into a file of its own again, which comes along, behind the last fd that there is of the
    /// allocation.
    Demote(Parting),
}

/// An allocation that the application won't send any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parting {
    /// Which.
    pub id: u32,
    /// How often its fd was sent over Wayland sockets.
    pub sent: u32,
}

/// What the agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The allocation comes along, as an fd. It is at least as large as was asked for, rounded up to whole pages.
    Lent {
        /// Names it on this connection; no other there ever has this number.
        id: u32,
    },
    /// There is none: the file has to stay as it is.
    Refused,
    /// From now on the agent reads the file.
    Demoted {
        /// Which.
        id: u32,
    },
}

/// A record, taken apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Record {
    kind: u16,
    id: u32,
    sent: u32,
    size: u64,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.id.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sent.to_le_bytes());
        bytes[16..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// `None` if these bytes are no record.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (zero, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (sent, size) = rest.split_first_chunk()?;
        let right = u32::from_le_bytes(*magic) == MAGIC && *zero == [0; 2];
        right.then_some(Self {
            kind: u16::from_le_bytes(*kind),
            id: u32::from_le_bytes(*id),
            sent: u32::from_le_bytes(*sent),
            size: u64::from_le_bytes(size.try_into().ok()?),
        })
    }
}

mod kind {
    pub(super) const LEND: u16 = 1;
    pub(super) const CLOSE: u16 = 2;
    pub(super) const DEMOTE: u16 = 3;
    pub(super) const LENT: u16 = 4;
    pub(super) const REFUSED: u16 = 5;
    pub(super) const DEMOTED: u16 = 6;
}

impl Request {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; RECORD] {
        let record = match self {
            Self::Lend { size } => Record { kind: kind::LEND, size, ..Record::default() },
            Self::Close(Parting { id, sent }) => {
                Record { kind: kind::CLOSE, id, sent, ..Record::default() }
            }
            Self::Demote(Parting { id, sent }) => {
                Record { kind: kind::DEMOTE, id, sent, ..Record::default() }
            }
        };
        record.to_bytes()
    }

    /// `None` if these bytes are no request.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Record { kind, id, sent, size } = Record::from_bytes(bytes)?;
        match (kind, id, sent, size) {
            (kind::LEND, 0, 0, MIN_LENT..=MAX_LENT) => Some(Self::Lend { size }),
            (kind::CLOSE, id, sent, 0) => Some(Self::Close(Parting { id, sent })),
            (kind::DEMOTE, id, sent, 0) => Some(Self::Demote(Parting { id, sent })),
            _ => None,
        }
    }
}

impl Answer {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; RECORD] {
        let record = match self {
            Self::Lent { id } => Record { kind: kind::LENT, id, ..Record::default() },
            Self::Refused => Record { kind: kind::REFUSED, ..Record::default() },
            Self::Demoted { id } => Record { kind: kind::DEMOTED, id, ..Record::default() },
        };
        record.to_bytes()
    }

    /// `None` if these bytes are no answer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Record { kind, id, sent, size } = Record::from_bytes(bytes)?;
        match (kind, id, sent, size) {
            (kind::LENT, id, 0, 0) => Some(Self::Lent { id }),
            (kind::REFUSED, 0, 0, 0) => Some(Self::Refused),
            (kind::DEMOTED, id, 0, 0) => Some(Self::Demoted { id }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
