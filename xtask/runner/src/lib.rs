//! What `cargo xtask vm` and the runner in a VM say to each other, over a port of a virtio console.
//!
//! Both send messages: a line of a word, numbers and at last the length of what follows it, in bytes.
//!
//! | from | message | what follows | answer |
//! |---|---|---|---|
//! | runner | `ready 0` | | none: it takes requests from now on |
//! | host | `run UID LENGTH` | a script of sh | `out` and `err` as they come, then `exit` |
//! | host | `start UID LENGTH` | a name, a line feed, a script of sh | `exit 0`: it runs, with its output in `/run/log/NAME` |
//! | host | `end MILLISECONDS LENGTH` | the name of what was started | its `exit`, when nothing of it is left |
//! | host | `wait MILLISECONDS LENGTH` | a path | `exit 0` when it is there, `exit 1` if it isn't in time |
//! | runner | `out LENGTH`, `err LENGTH` | output of the script | |
//! | runner | `exit STATUS 0` | | |
//! | runner | `fail LENGTH` | why it couldn't be done | |
//!
//! One request is under way at a time.

#![forbid(unsafe_code)]

use std::fmt;

/// The port's name, on both sides.
pub const PORT: &str = "wlproxy.runner";

/// Longest line, in bytes, with some room: a word and two numbers.
const MAX_LINE: usize = 64;

/// Most bytes that follow one line: what is read of a script's output at once, and longer than any script.
pub const MAX_BODY: usize = 64 * 1024;

/// A message of the runner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It takes requests.
    Ready,
    /// What the script wrote to its standard output.
    Out(Vec<u8>),
    /// What the script wrote to its standard error.
    Err(Vec<u8>),
    /// The request is done. The status is the script's, or 128 and the number of the signal that ended it.
    Exit(i32),
    /// The request can't be done.
    Fail(String),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run a script to its end.
    Run {
        /// As whom; the group has the same number.
        uid: u32,
        /// What `sh -c` gets.
        script: String,
    },
    /// Start a script that goes on.
    Start {
        /// As whom; the group has the same number.
        uid: u32,
        /// What it is called: a file's name.
        name: String,
        /// What `sh -c` gets.
        script: String,
    },
    /// End what was started, with all that it has started itself.
    End {
        /// How long SIGTERM has time for that, in milliseconds, before SIGKILL has as long.
        milliseconds: u32,
        /// What it is called.
        name: String,
    },
    /// Wait until there is a file, a folder or a socket.
    Wait {
        /// For how long, in milliseconds.
        milliseconds: u32,
        /// Its path.
        path: String,
    },
}

/// What was received isn't a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbled(String);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no message between host and runner: {:?}", self.0)
    }
}

impl std::error::Error for Garbled {}

fn message(line: String, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= MAX_BODY, "what follows a line is at most {MAX_BODY} bytes");
    let mut bytes = format!("{line}{}\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Answer {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ready => message("ready ".to_owned(), &[]),
            Self::Out(bytes) => message("out ".to_owned(), bytes),
            Self::Err(bytes) => message("err ".to_owned(), bytes),
            Self::Exit(status) => message(format!("exit {status} "), &[]),
            Self::Fail(reason) => message("fail ".to_owned(), reason.as_bytes()),
        }
    }
}

impl Request {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Run { uid, script } => message(format!("run {uid} "), script.as_bytes()),
            Self::Start { uid, name, script } => {
                message(format!("start {uid} "), format!("{name}\n{script}").as_bytes())
            }
            Self::End { milliseconds, name } => {
                message(format!("end {milliseconds} "), name.as_bytes())
            }
            Self::Wait { milliseconds, path } => {
                message(format!("wait {milliseconds} "), path.as_bytes())
            }
        }
    }
}

/// Bytes that were received, until they are messages.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next answer, if it is whole.
    pub fn answer(&mut self) -> Result<Option<Answer>, Garbled> {
        let Some((line, body)) = self.next()? else { return Ok(None) };
        let words: Vec<&str> = line.split(' ').collect();
        let garbled = || Garbled(line.clone());
        Ok(Some(match words[..] {
            ["ready"] => Answer::Ready,
            ["out"] => Answer::Out(body),
            ["err"] => Answer::Err(body),
            ["exit", status] => Answer::Exit(status.parse().map_err(|_| garbled())?),
            ["fail"] => Answer::Fail(String::from_utf8_lossy(&body).into_owned()),
            _ => return Err(garbled()),
        }))
    }

    /// The next request, if it is whole.
    pub fn request(&mut self) -> Result<Option<Request>, Garbled> {
        let Some((line, body)) = self.next()? else { return Ok(None) };
        let garbled = || Garbled(line.clone());
        let rest = String::from_utf8(body).map_err(|_| garbled())?;
        let (verb, number) = line.split_once(' ').ok_or_else(garbled)?;
        let number: u32 = number.parse().map_err(|_| garbled())?;
        Ok(Some(match verb {
            "run" => Request::Run { uid: number, script: rest },
            "start" => {
                let (name, script) = rest.split_once('\n').ok_or_else(garbled)?;
                Request::Start { uid: number, name: name.to_owned(), script: script.to_owned() }
            }
            "end" => Request::End { milliseconds: number, name: rest },
            "wait" => Request::Wait { milliseconds: number, path: rest },
            _ => return Err(garbled()),
        }))
    }

    /// A whole message: the words before the length, and what follows.
    fn next(&mut self) -> Result<Option<(String, Vec<u8>)>, Garbled> {
        let shown = &self.bytes[..self.bytes.len().min(MAX_LINE)];
        let garbled = || Garbled(String::from_utf8_lossy(shown).into_owned());
        let Some(end) = shown.iter().position(|&byte| byte == b'\n') else {
            return if shown.len() == MAX_LINE { Err(garbled()) } else { Ok(None) };
        };
        let line = std::str::from_utf8(&shown[..end]).map_err(|_| garbled())?;
        let (words, length) = line.rsplit_once(' ').ok_or_else(garbled)?;
        let length: usize = length.parse().map_err(|_| garbled())?;
        if length > MAX_BODY {
            return Err(garbled());
        }
        let whole = end + 1 + length;
        if self.bytes.len() < whole {
            return Ok(None);
        }
        let words = words.to_owned();
        let body = self.bytes[end + 1..whole].to_vec();
        self.bytes.drain(..whole);
        Ok(Some((words, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_in_any_pieces() {
        let answers = [
            Answer::Ready,
            Answer::Out((0..=255).cycle().take(MAX_BODY).collect()),
            Answer::Err(b"exit 0 0\n".to_vec()),
            Answer::Fail("why\nnot".to_owned()),
            Answer::Exit(130),
        ];
        let requests = [
            Request::Run { uid: 0, script: "echo 'ä'\nexit 3\n".to_owned() },
            Request::Start { uid: 1000, name: "sway".to_owned(), script: "a\nb".to_owned() },
            Request::End { milliseconds: 700, name: "sway".to_owned() },
            Request::Wait { milliseconds: 5, path: "/run/x y".to_owned() },
        ];
        for piece in [1, 7, 1 << 20] {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for bytes in
                answers.iter().flat_map(Answer::to_bytes).collect::<Vec<u8>>().chunks(piece)
            {
                inbox.push(bytes);
                while let Some(answer) = inbox.answer().unwrap() {
                    found.push(answer);
                }
            }
            assert_eq!(found, answers, "in pieces of {piece}");
            let mut found = Vec::new();
            for bytes in
                requests.iter().flat_map(Request::to_bytes).collect::<Vec<u8>>().chunks(piece)
            {
                inbox.push(bytes);
                while let Some(request) = inbox.request().unwrap() {
                    found.push(request);
                }
            }
            assert_eq!(found, requests, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        for bytes in [
            &b"hello\n"[..],
            b"exit x 0\n",
            b"out 65537\n",
            b"out -1\n",
            b"other 0\n",
            b"\xff 0\n",
            &[b'x'; MAX_LINE],
        ] {
            let mut inbox = Inbox::default();
            inbox.push(bytes);
            assert!(inbox.answer().is_err(), "{bytes:?}");
        }
        let mut inbox = Inbox::default();
        inbox.push(b"start 0 4\nname");
        assert!(inbox.request().is_err(), "a start without a script");
    }
}
