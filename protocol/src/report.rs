//! What an agent tells of its own numbers: a *report*.
//!
//! It is the VM's own word, and nobody can check it. The agent opens a context by the name [`NAME`], or on a virtio-gpu by
//! the channel type [`CHANNEL`], and sends one report at a time, each as one message; nothing comes back. All numbers are
//! little-endian.
//!
//! ```text
//! report   guest to host    magic u32 | version u16 | 0 u16 | frames u64 | damaged bytes u64 | copied bytes u64
//! ```
//!
//! The zero after the version stands where a Wayland message has its size, as in a hello of [`crate::accept`].

use crate::limits::CONTEXT_NAME;

/// The name of the context. It is too short for a token's, so it stands for no stream.
pub const NAME: [u8; CONTEXT_NAME] = padded(b"wlproxy-report");

/// The channel type of the context, where those have no names. It is below [those of records](crate::accept::CHANNEL_TYPES)
/// and far above those that other devices give a meaning, which are counted from 0 and so far below 32 (rutabaga_gfx's
/// `cross_domain_protocol.rs`); they refuse this one.
pub const CHANNEL: u32 = 0x7000;

/// "wlpr" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"wlpr");

/// The only version so far. Another one may have another length.
pub const VERSION: u16 = 1;

/// Length of a report, in bytes.
pub const LENGTH: usize = 32;

const fn padded(text: &[u8]) -> [u8; CONTEXT_NAME] {
    let mut name = [0; CONTEXT_NAME];
    name.split_at_mut(text.len()).0.copy_from_slice(text);
    name
}

/// What is wrong with a report. Its context ends; nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Something else speaks here.
    #[error("it is no report (wrong magic)")]
    Magic,
    /// A report of another version.
    #[error(
        "it is a report of version {0}, this side takes {VERSION}: update the older of agent and host"
    )]
    Version(u16),
    /// A length that no report has.
    #[error("a report has {LENGTH} bytes, not {0}")]
    Length(usize),
    /// The zero isn't one.
    #[error("a report with its reserved word out of range")]
    Reserved,
}

/// Numbers of one agent since it opened its channel. It may tell whatever it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// `wl_surface.commit` requests.
    pub frames: u64,
    /// Bytes of buffers that clients declared as damaged.
    pub damaged_bytes: u64,
    /// Bytes of buffers that were copied into shadows.
    pub copied_bytes: u64,
}

impl Report {
    /// The message to send.
    pub fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let numbers = [self.frames, self.damaged_bytes, self.copied_bytes];
        for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The report that is the whole message.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        // The version first: it says how long it is.
        if message.len() >= 8 {
            if message[..4] != MAGIC.to_le_bytes() {
                return Err(Malformed::Magic);
            }
            match u16::from_le_bytes([message[4], message[5]]) {
                VERSION => {}
                other => return Err(Malformed::Version(other)),
            }
        }
        let message: &[u8; LENGTH] =
            message.try_into().map_err(|_| Malformed::Length(message.len()))?;
        if message[6..8] != [0; 2] {
            return Err(Malformed::Reserved);
        }
        let number =
            |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("eight bytes"));
        Ok(Self { frames: number(8), damaged_bytes: number(16), copied_bytes: number(24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::{CHANNEL_TYPES, Token};
    use proptest::prelude::*;

    const REPORT: Report = Report { frames: 1, damaged_bytes: 0x0203, copied_bytes: u64::MAX };

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = REPORT.encode();
        assert_eq!(bytes[..8], *b"wlpr\x01\0\0\0", "a Wayland message of size 0 is always refused");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..], [0xff; 8]);
    }

    #[test]
    fn the_name_is_no_tokens() {
        assert_eq!(&NAME[..15], b"wlproxy-report\0");
        assert_eq!(Token::from_name(&NAME), None);
        assert!(!CHANNEL_TYPES.contains(&CHANNEL));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let changed = |at: usize| {
            let mut bytes = REPORT.encode();
            bytes[at] ^= 0x40;
            Report::decode(&bytes)
        };
        assert_eq!(changed(0), Err(Malformed::Magic));
        assert_eq!(changed(4), Err(Malformed::Version(0x41)));
        assert_eq!(changed(6), Err(Malformed::Reserved));
        assert!(changed(8).is_ok(), "numbers are whatever they are");
        let twice = [REPORT.encode(); 2].concat();
        for length in [0, 7, LENGTH - 1, LENGTH + 1, 2 * LENGTH] {
            assert_eq!(Report::decode(&twice[..length]), Err(Malformed::Length(length)));
        }
        assert_eq!(Report::decode(b"wlpr\x02\0\0\0"), Err(Malformed::Version(2)), "and its length");
    }

    proptest! {
        #[test]
        fn reports_survive(frames: u64, damaged_bytes: u64, copied_bytes: u64) {
            let report = Report { frames, damaged_bytes, copied_bytes };
            prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Report::decode(&bytes);
        }

        /// What is taken is exactly what is made.
        #[test]
        fn nothing_else_is_a_report(at in 0..LENGTH, value: u8, extra in prop::collection::vec(any::<u8>(), 0..3)) {
            let mut bytes = REPORT.encode().to_vec();
            bytes[at] = value;
            bytes.extend(extra);
            if let Ok(report) = Report::decode(&bytes) {
                prop_assert_eq!(&report.encode()[..], &bytes[..]);
            }
        }
    }
}
