//! How the compositor VM learns of clients: each client ends exactly once, whoever says whatever when.

use crate::input::Input;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use wlproxy::accept::{Accept, Action, EXPIRY, MAX_PENDING, MainId};
use wlproxy_protocol::accept::{Answer, Hello, Opening, Record, Refusal, Token, Way, Ways};
use wlproxy_protocol::limits::CONTEXT_NAME;

/// VMs whose clients come.
const VMS: [&str; 3] =
    ["work", "untrusted", "a-name-of-sixty-four-bytes-0123456789-0123456789-0123456789-0123"];

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.one_in(8) {
        return formats(input.rest());
    }
    let ways = input.pick(&[
        Ways::NAME,
        Ways::CHANNEL_TYPE,
        Ways::DIAL_BACK,
        Ways::NAME.or(Ways::CHANNEL_TYPE),
    ]);
    let mut host = Host::new(ways);
    while !input.is_empty() {
        host.step(&mut input);
        host.settle();
        host.check();
    }
    host.now += EXPIRY;
    host.accept.handle_time(host.now);
    host.settle();
    host.check();
    assert_eq!(host.accept.pending(), 0, "somebody waits for ever");
}

/// The naive model: who was taken in, and what became of everybody.
struct Host {
    accept: Accept<u64>,
    now: Instant,
    connection: u64,
    minted: u64,
    taken_in: HashSet<u64>,
    over: HashSet<u64>,
    /// What every record announced.
    records: Vec<Record>,
    /// Main contexts that got their hello and haven't ended, newest last.
    mains: Vec<MainId>,
    ended: HashSet<MainId>,
    /// The bytes that each main context was sent.
    sent: HashMap<MainId, usize>,
}

impl Host {
    fn new(ways: Ways) -> Self {
        Self {
            accept: Accept::new(ways),
            now: Instant::now(),
            connection: 0,
            minted: 0,
            taken_in: HashSet::new(),
            over: HashSet::new(),
            records: Vec::new(),
            mains: Vec::new(),
            ended: HashSet::new(),
            sent: HashMap::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(10) {
            0 | 1 => {
                for _ in 0..=input.below(4) * input.below(32) {
                    self.connection += 1;
                    let vm = input.pick(&VMS);
                    let stream = self.connection;
                    if self.accept.handle_client(vm, self.connection, stream, self.now).is_ok() {
                        self.taken_in.insert(self.connection);
                    }
                }
            }
            2 => self.accept.handle_hangup(u64::from(input.byte()) % (self.connection + 1)),
            3 => self.mains.push(self.accept.handle_main()),
            4 => {
                if let Some(main) = self.main(input) {
                    self.ended.insert(main);
                    self.accept.handle_main_end(main);
                }
            }
            5 => {
                let token = self.token(input);
                self.pull(token);
            }
            6 => {
                let channel = input.number();
                if let Some(token) = self.accept.token_of(channel) {
                    assert!(
                        self.announced(token).is_some_and(|r| r.way == Way::ChannelType(channel))
                    );
                    self.pull(token);
                }
            }
            7 => {
                self.now += Duration::from_secs(input.below(40) as u64);
                self.accept.handle_time(self.now);
            }
            _ => self.say(input),
        }
    }

    fn main(&self, input: &mut Input<'_>) -> Option<MainId> {
        let back = if input.one_in(4) { input.below(4) } else { 0 };
        self.mains.iter().rev().nth(back).copied()
    }

    fn announced(&self, token: Token) -> Option<&Record> {
        self.records.iter().find(|record| record.token == token)
    }

    /// One of those that were announced, mostly lately, or another.
    fn token(&self, input: &mut Input<'_>) -> Token {
        let back = input.below(64);
        self.records.iter().rev().nth(back).map_or(Token::new([7; 16]), |record| record.token)
    }

    fn pull(&mut self, token: Token) {
        let announced = self.announced(token).map(|record| (record.vm.clone(), record.connection));
        if let Some(pulled) = self.accept.handle_pull(token) {
            assert_eq!(Some((pulled.vm, pulled.connection)), announced, "another's stream");
            assert_eq!(pulled.stream, pulled.connection);
            assert!(self.over.insert(pulled.connection), "a client ends twice");
            assert!(self.accept.handle_pull(token).is_none(), "a token is good twice");
        }
    }

    /// What the compositor VM says on a main context: something right, cut anywhere, or not.
    fn say(&mut self, input: &mut Input<'_>) {
        let Some(main) = self.main(input) else { return };
        let mut bytes = Vec::new();
        for _ in 0..=input.below(3) {
            match input.below(8) {
                0 | 1 => bytes.extend(
                    Hello { ways: input.pick(&[Ways::NAME, Ways::CHANNEL_TYPE, Ways::DIAL_BACK]) }
                        .encode(),
                ),
                2 => bytes.extend(input.bytes(24)),
                outcome => {
                    let why = [Refusal::NoCompositor, Refusal::Limit, Refusal::Open];
                    let outcome = why.get(outcome - 3).map_or(Ok(()), |&why| Err(why));
                    Answer { token: self.token(input), outcome }.encode(&mut bytes);
                }
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.accept.handle_main_bytes(main, input.piece(&mut rest));
        }
    }

    fn settle(&mut self) {
        loop {
            let minted = &mut self.minted;
            let action = self.accept.poll_action(|| {
                *minted += 1;
                Token::new((u128::from(*minted) << 64 | 1).to_le_bytes())
            });
            match action {
                None => return,
                Some(Action::Send { main, bytes }) => {
                    assert!(!self.ended.contains(&main), "bytes for a main context that is over");
                    match self.sent.insert(main, bytes.len()) {
                        None => assert!(Hello::decode(&mut &bytes[..]).expect("a hello").is_some()),
                        Some(_) => {
                            let mut rest = &bytes[..];
                            let record =
                                Record::decode(&mut rest).expect("a record").expect("whole");
                            assert!(rest.is_empty() && self.announced(record.token).is_none());
                            self.records.push(record);
                        }
                    }
                }
                Some(Action::EndMain { main, .. }) => {
                    assert!(self.ended.insert(main), "a main context ends twice");
                }
                Some(Action::Close { connection, stream, .. }) => {
                    assert_eq!(stream, connection);
                    assert!(self.over.insert(connection), "a client ends twice");
                }
                Some(Action::Dropped { connection, .. }) => {
                    assert!(self.over.contains(&connection), "its stream wasn't handed out");
                }
            }
        }
    }

    fn check(&self) {
        assert!(self.over.is_subset(&self.taken_in), "a client that never was");
        let waiting = self.taken_in.len() - self.over.len();
        assert_eq!(self.accept.pending(), waiting, "a client is lost");
        assert!(waiting <= MAX_PENDING);
        assert_eq!(self.accept.next_deadline().is_some(), waiting > 0);
    }
}

/// What is decoded is what is encoded, and nothing is taken for two things.
fn formats(bytes: &[u8]) {
    let mut rest = bytes;
    if let Ok(Some(hello)) = Hello::decode(&mut rest) {
        let again = hello.encode();
        assert_eq!(Hello::decode(&mut &again[..]), Ok(Some(hello)));
        assert_eq!(Opening::decode(bytes), Some(Opening::Main));
    }
    let mut rest = bytes;
    if let Ok(Some(record)) = Record::decode(&mut rest)
        && !record.vm.is_empty()
    {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!([&again, rest].concat(), bytes);
    }
    let mut rest = bytes;
    if let Ok(Some(answer)) = Answer::decode(&mut rest) {
        let mut again = Vec::new();
        answer.encode(&mut again);
        assert_eq!([&again, rest].concat(), bytes);
    }
    if let Some(Opening::Accepted(token)) = Opening::decode(bytes) {
        assert_eq!(token.as_bytes()[..], bytes[..Token::LEN]);
    }
    if let Some(name) = bytes.first_chunk::<CONTEXT_NAME>()
        && let Some(token) = Token::from_name(name)
    {
        assert_eq!(token.to_name(), *name);
    }
}
