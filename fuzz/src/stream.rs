//! The host's end of a context's stream, and the naive model of it: bytes come out as they were let in.

use crate::input::Input;
use crate::wayland::Known;
use nix::sys::stat::fstat;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use wlproxy::device::opener::{Answer, OpenError, Opened, Role};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::{Offer, WL_DISPLAY, WL_DISPLAY_ERROR, wire};
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
    sent: Vec<u8>,
    /// What arrived of it.
    got: Vec<u8>,
    /// What this end has said.
    said: Vec<u8>,
    /// What the guest was told of it.
    pub heard: Vec<u8>,
    /// The inodes of the files that the guest sent, where these are known.
    sent_files: Vec<Option<u64>>,
    got_files: Vec<u64>,
    said_files: Vec<u64>,
    /// Where each thing that was sent, or said, begins, and how many files there had been with it.
    sent_marks: Vec<(usize, usize)>,
    said_marks: Vec<(usize, usize)>,
    /// Of a link, as it passes on no more: files that belong to the request that is sent next, and to all before.
    due: (usize, usize),
    /// The same of what the guest was told.
    pub heard_files: Vec<Option<u64>>,
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
            _ => Role::Accepted { connection: 1, vm: 0, token: Token::new(TOKEN) },
        };
        let (ours, theirs) = UnixStream::pair().ok()?;
        answer(Ok(Opened { stream: theirs, role }));
        let (sent, got, said, heard) = Default::default();
        let (sent_files, got_files, said_files, heard_files) = Default::default();
        let (sent_marks, said_marks) = Default::default();
        let stream = Some(Stream::new(ours).ok()?);
        let known = Known::new(Offer::everything(), input.one_in(2));
        Some(Self {
            role,
            stream,
            known,
            sent,
            got,
            said,
            heard,
            sent_files,
            got_files,
            said_files,
            heard_files,
            sent_marks,
            said_marks,
            due: (0, 0),
        })
    }

    /// Something that the guest could send here: a client's requests, or any bytes.
    pub fn to_send(&mut self, input: &mut Input<'_>) -> (Vec<u8>, usize) {
        match self.role {
            Role::Accepted { .. } if self.sent.is_empty() && !input.one_in(8) => {
                (TOKEN.to_vec(), 0)
            }
            Role::Link { .. } if !input.one_in(16) => {
                let mut bytes = Vec::new();
                let with_file = input.one_in(3).then(|| self.with_file(input, &mut bytes));
                let fds = with_file
                    .flatten()
                    .unwrap_or_else(|| self.known.message(input, true, &mut bytes));
                self.due.0 = fds;
                (bytes, fds)
            }
            _ => (input.bytes(200).to_vec(), input.below(3)),
        }
    }

    /// A request that a file goes with, or what has to come before. Lots would seldom fall so.
    fn with_file(&mut self, input: &mut Input<'_>, bytes: &mut Vec<u8>) -> Option<usize> {
        let pool = self.known.particular(input, (true, "wl_shm", "create_pool"), bytes);
        let bind = pool.or_else(|| self.known.bind(input, "wl_shm", bytes));
        bind.or_else(|| self.known.particular(input, (true, "wl_display", "get_registry"), bytes))
    }

    /// Says something: a compositor's events, or any bytes, and fds of any kind.
    pub fn say(&mut self, input: &mut Input<'_>) {
        let Some(stream) = &mut self.stream else { return };
        let (bytes, fds) = match self.role {
            Role::Link { .. } if !input.one_in(16) => {
                let mut bytes = Vec::new();
                let global = (false, "wl_registry", "global");
                let is_global = input.one_in(3);
                let fds =
                    is_global.then(|| self.known.particular(input, global, &mut bytes)).flatten();
                let fds = fds.unwrap_or_else(|| self.known.message(input, false, &mut bytes));
                (bytes, fds)
            }
            _ => (input.bytes(200).to_vec(), input.below(3)),
        };
        let fds: Vec<OwnedFd> = (0..fds).filter_map(|_| fd(input)).collect();
        if bytes.is_empty() || stream.queued() > 0 {
            return;
        }
        self.said_files.extend(fds.iter().filter_map(file));
        stream.queue(&bytes, fds);
        let _ = stream.flush();
        self.said_marks.push((self.said.len(), self.said_files.len()));
        self.said.extend(bytes);
    }

    /// The guest has sent this.
    pub fn send(&mut self, bytes: &[u8], files: impl IntoIterator<Item = Option<u64>>) {
        self.sent_files.extend(files);
        let (next, before) = std::mem::take(&mut self.due);
        self.due.1 = before + next;
        let is_link = matches!(self.role, Role::Link { .. });
        let of_files = if is_link { self.due.1 } else { self.sent_files.len() };
        self.sent_marks.push((self.sent.len(), of_files));
        self.sent.extend(bytes);
    }

    /// Reads what arrived.
    pub fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut fds = Default::default();
        while let Ok(Read::Bytes(_)) = stream.read(&mut self.got, &mut fds, READ) {}
        self.got_files.extend(fds.iter().filter_map(file));
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.read();
        self.stream = None;
    }

    /// Whether all is as it was let in. Where a ring was `wild`, the guest may have sent again what it sent before.
    pub fn check(&self, wild: bool) {
        let sent_bytes = match self.role {
            Role::Accepted { .. } => self.sent.strip_prefix(&TOKEN).unwrap_or_default(),
            _ => &self.sent,
        };
        let is_of = |files: &[u64], known: &[Option<u64>]| {
            let known_or_any =
                |(file, known): (&u64, &Option<u64>)| known.is_none_or(|it| it == *file);
            files.iter().zip(known).all(known_or_any)
        };
        if !wild {
            let (sent, got) = (&self.sent_files, &self.got_files);
            let is_all = got.len() <= sent.len() && is_of(got, sent);
            assert!(is_all, "{:?}: files {sent:?} were sent, and {got:?} arrive", self.role);
            let (said, heard) = (&self.said_files, &self.heard_files);
            let is_all = heard.len() <= said.len() && is_of(said, heard);
            assert!(is_all, "{:?}: files {said:?} were said, and {heard:?} heard", self.role);
            // They come with the first byte behind them, or before.
            let lost = |marks: &[(usize, usize)], bytes: usize, files: usize| {
                marks.iter().any(|&(first, of_files)| first < bytes && of_files > files)
            };
            let arrived = match self.got.len() {
                0 => 0,
                bytes => self.sent.len() - sent_bytes.len() + bytes,
            };
            let is_link = matches!(self.role, Role::Link { .. });
            if !is_link || self.known.is_right() {
                let is_lost = lost(&self.sent_marks, arrived, got.len());
                assert!(!is_lost, "{:?}: files that were sent are lost", self.role);
            }
            if !is_link {
                let is_lost = lost(&self.said_marks, self.heard.len(), heard.len());
                assert!(!is_lost, "{:?}: files that were said are lost", self.role);
            }
        }
        assert!(
            wild || sent_bytes.starts_with(&self.got),
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
                // What waited long may be told in one.
                let is_sum = self.known.interface(message.object).is_some_and(|interface| {
                    matches!(interface.name, "wl_pointer" | "zwp_relative_pointer_v1")
                });
                let passed = said.any(|said| {
                    said.bytes == message.bytes
                        || (is_global || is_sum) && said.bytes[..8] == message.bytes[..8]
                        || is_global && said.object == message.object
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

/// The number of a file.
fn file(fd: &OwnedFd) -> Option<u64> {
    fstat(fd).ok().map(|stat| stat.st_ino)
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
