//! The host's end of a context's stream, and the naive model of it: bytes come out as they were let in.

use crate::input::Input;
use crate::wayland::Known;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use wlproxy::device::opener::{Answer, OpenError, Opened, Role};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::{WL_DISPLAY, WL_DISPLAY_ERROR, wire};
use wlproxy_unix::{Read, Stream, memory};

/// Most bytes that are read at a time.
const READ: usize = 65_536;

/// The token of every accepted stream here.
const TOKEN: [u8; Token::LEN] = *b"0123456789abcdef";

/// One stream.
pub struct Far {
    role: Role,
    /// Gone if it hung up.
    stream: Option<Stream>,
    /// Who is what on it.
    pub known: Known,
    /// What the guest sent.
    pub sent: Vec<u8>,
    /// What arrived of it.
    got: Vec<u8>,
    /// What this end has said.
    said: Vec<u8>,
    /// What the guest was told of it.
    pub heard: Vec<u8>,
}

impl Far {
    /// Answers an opener, well or not.
    pub fn answer(input: &mut Input<'_>, is_client: bool, answer: Answer) -> Option<Self> {
        if input.one_in(16) {
            answer(Err(input.pick(&[OpenError::Unknown, OpenError::Limit, OpenError::Failed])));
            return None;
        }
        let role = match input.below(2) {
            _ if is_client => Role::Link { connection: 1 },
            0 => Role::Main,
            _ => Role::Accepted { connection: 1, token: Token::new(TOKEN) },
        };
        let (ours, theirs) = UnixStream::pair().ok()?;
        answer(Ok(Opened { stream: theirs, role }));
        let (sent, got, said, heard) = Default::default();
        let stream = Some(Stream::new(ours).ok()?);
        Some(Self { role, stream, known: Known::default(), sent, got, said, heard })
    }

    /// Something that the guest could send here: a client's requests, or any bytes.
    pub fn to_send(&mut self, input: &mut Input<'_>) -> (Vec<u8>, usize) {
        match self.role {
            Role::Accepted { .. } if self.sent.is_empty() && !input.one_in(8) => {
                (TOKEN.to_vec(), 0)
            }
            Role::Link { .. } if !input.one_in(16) => {
                let made = self.known.message(input, true);
                (made.bytes, made.fds)
            }
            _ => (input.bytes(200).to_vec(), input.below(3)),
        }
    }

    /// Says something: a compositor's events, or any bytes, and fds of any kind.
    pub fn say(&mut self, input: &mut Input<'_>) {
        let Some(stream) = &mut self.stream else { return };
        let (bytes, fds) = match self.role {
            Role::Link { .. } if !input.one_in(16) => {
                let made = self.known.message(input, false);
                (made.bytes, made.fds)
            }
            _ => (input.bytes(200).to_vec(), input.below(3)),
        };
        let fds: Vec<OwnedFd> = (0..fds).filter_map(|_| fd(input)).collect();
        if bytes.is_empty() || stream.queued() > 0 {
            return;
        }
        stream.queue(&bytes, fds);
        let _ = stream.flush();
        self.said.extend(bytes);
    }

    /// Reads what arrived.
    pub fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut fds = Default::default();
        while let Ok(Read::Bytes(_)) = stream.read(&mut self.got, &mut fds, READ) {}
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.read();
        self.stream = None;
    }

    /// Whether all is as it was let in. Where a ring was `wild`, the guest may have sent again what it sent before.
    pub fn check(&self, wild: bool) {
        let sent = match self.role {
            Role::Accepted { .. } => self.sent.strip_prefix(&TOKEN).unwrap_or_default(),
            _ => &self.sent,
        };
        assert!(
            wild || sent.starts_with(&self.got),
            "{:?}: what was sent arrives changed",
            self.role
        );
        if let Role::Link { .. } = self.role {
            let whole: usize = messages(&self.got, MAX_REQUEST).iter().map(|m| m.bytes.len()).sum();
            assert_eq!(whole, self.got.len(), "half a request passed");
            if wild {
                return;
            }
            // What is whole of what was said, in order, but for globals and the last word, which is the relay's.
            let (said, heard) = (messages(&self.said, MAX_EVENT), messages(&self.heard, MAX_EVENT));
            let mut said = said.iter();
            for message in heard {
                let of_relay = message.object == WL_DISPLAY && message.opcode == WL_DISPLAY_ERROR;
                let is_global = message.opcode == 0 && message.bytes.len() > 20;
                let passed = said.any(|said| {
                    said.bytes == message.bytes || is_global && said.object == message.object
                });
                assert!(passed || of_relay, "an event is changed");
            }
        } else {
            assert!(
                wild || self.said.starts_with(&self.heard),
                "{:?}: what was said arrives changed",
                self.role
            );
        }
    }
}

fn messages(mut bytes: &[u8], max: usize) -> Vec<wire::Message<'_>> {
    let mut found = Vec::new();
    while let Ok(Some(message)) = wire::split(&mut bytes, max) {
        found.push(message);
    }
    found
}

/// Any fd that a compositor could send: what can cross, and what can't.
fn fd(input: &mut Input<'_>) -> Option<OwnedFd> {
    Some(match input.below(8) {
        0..3 => memory::allocate("fuzz", 4096 * (1 + input.below(4) as u64)).ok()?,
        3 => memory::constant("fuzz", b"keymap").ok()?,
        4 => std::io::pipe().ok()?.0.into(),
        5 => std::io::pipe().ok()?.1.into(),
        6 => File::open("/dev/null").ok()?.into(),
        _ => UnixStream::pair().ok()?.0.into(),
    })
}
