use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// Drives an [`Accept`] of numbers and remembers everything that came out.
struct Rig {
    accept: Accept<u64>,
    start: Instant,
    now: Instant,
    minted: u64,
    records: Vec<(MainId, Record)>,
    hellos: Vec<MainId>,
    ended: Vec<(MainId, MainEnding)>,
    closed: Vec<(u64, Ending)>,
    dropped: Vec<(u64, Refusal)>,
}

fn token(number: u64) -> Token {
    let mut bits = [0; Token::LEN];
    bits[..8].copy_from_slice(&number.to_le_bytes());
    Token::new(bits)
}

fn hello() -> Vec<u8> {
    Hello { ways: Ways::NAME }.encode().to_vec()
}

fn answer(token: Token, outcome: Result<(), Refusal>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Answer { token, outcome }.encode(&mut bytes);
    bytes
}

impl Rig {
    fn new() -> Self {
        Self::by(Ways::NAME)
    }

    fn by(ways: Ways) -> Self {
        let start = Instant::now();
        Self {
            accept: Accept::new(ways),
            start,
            now: start,
            minted: 0,
            records: Vec::new(),
            hellos: Vec::new(),
            ended: Vec::new(),
            closed: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn settle(&mut self) {
        loop {
            let minted = &mut self.minted;
            let action = self.accept.poll_action(|| {
                *minted += 1;
                token(*minted)
            });
            match action {
                None => return,
                Some(Action::Send { main, bytes }) => self.sent(main, &bytes),
                Some(Action::EndMain { main, why }) => self.ended.push((main, why)),
                Some(Action::Close { connection, stream, why, .. }) => {
                    assert_eq!(connection, stream, "the stream is the client's own");
                    self.closed.push((connection, why));
                }
                Some(Action::Dropped { connection, why }) => self.dropped.push((connection, why)),
            }
        }
    }

    fn sent(&mut self, main: MainId, bytes: &[u8]) {
        assert!(self.ended.iter().all(|(id, _)| *id != main), "sent to an ended main context");
        if !self.hellos.contains(&main) {
            let hello = Hello { ways: self.accept.ways }.encode();
            assert_eq!(bytes, hello, "the hello is first");
            self.hellos.push(main);
            return;
        }
        let mut rest = bytes;
        let record = Record::decode(&mut rest).unwrap().expect("a whole record");
        assert!(rest.is_empty());
        self.records.push((main, record));
    }

    fn client(&mut self, vm: &str, connection: u64) -> Result<(), TooMany> {
        let result = self.accept.handle_client(vm, connection, connection, self.now);
        self.settle();
        result
    }

    fn main(&mut self) -> MainId {
        let id = self.accept.handle_main();
        self.settle();
        id
    }

    fn ready(&mut self) -> MainId {
        let id = self.main();
        self.bytes(id, &Hello { ways: self.accept.ways }.encode());
        id
    }

    fn bytes(&mut self, id: MainId, bytes: &[u8]) {
        self.accept.handle_main_bytes(id, bytes);
        self.settle();
    }

    fn pull(&mut self, token: Token) -> Option<u64> {
        let pulled = self.accept.handle_pull(token);
        self.settle();
        pulled.map(|pulled| {
            assert_eq!(pulled.connection, pulled.stream);
            pulled.stream
        })
    }

    fn after(&mut self, time: Duration) {
        self.now = self.start + time;
        self.accept.handle_time(self.now);
        self.settle();
    }

    fn is_main(&self, id: MainId) -> bool {
        self.accept.main.as_ref().is_some_and(|main| main.id == id)
    }

    fn last_token(&self) -> Token {
        self.records.last().expect("a record").1.token
    }
}

/// The channel type of the last record.
fn channel(rig: &Rig) -> u32 {
    match rig.records.last().expect("a record").1.way {
        Way::ChannelType(channel) => channel,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_channel_type_opens_one_client_once() {
    let mut rig = Rig::by(Ways::CHANNEL_TYPE);
    let old = rig.main();
    rig.bytes(old, &hello());
    assert_eq!(rig.ended, [(old, MainEnding::Malformed(Malformed::Ways))], "it knows names only");
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let first = channel(&rig);
    rig.client("work", 2).unwrap();
    let second = channel(&rig);
    assert!(CHANNEL_TYPES.contains(&first) && CHANNEL_TYPES.contains(&second));
    assert_ne!(first, second);
    let token = rig.accept.token_of(second).unwrap();
    assert_eq!((token, rig.pull(token)), (rig.last_token(), Some(2)));
    assert_eq!(rig.accept.token_of(second), None, "once");
    rig.bytes(main, &answer(token, Ok(())));
    // A client that leaves takes its channel type with it, and nobody is to blame.
    rig.accept.handle_hangup(1);
    rig.settle();
    assert_eq!(rig.accept.token_of(first), None);
    assert!(rig.accept.channel_has_left(first) && !rig.accept.channel_has_left(second));
    // The next main context gets fresh ones.
    rig.client("work", 3).unwrap();
    let before = channel(&rig);
    rig.ready();
    assert_ne!(channel(&rig), before);
    assert_eq!(rig.accept.token_of(before), None);
    assert_eq!(rig.accept.channels.len(), 1);
}

#[test]
fn channel_types_start_again_after_the_last() {
    let mut rig = Rig::by(Ways::CHANNEL_TYPE);
    rig.ready();
    rig.accept.next_channel = CHANNEL_TYPES.end - 1;
    for (connection, expected) in [(1, CHANNEL_TYPES.end - 1), (2, CHANNEL_TYPES.start)] {
        rig.client("work", connection).unwrap();
        assert_eq!(channel(&rig), expected);
    }
}

#[test]
fn who_is_not_told_how_opening_went_may_answer_too_early_or_in_vain() {
    for ways in [Ways::DIAL_BACK, Ways::CHANNEL_TYPE] {
        let mut rig = Rig::by(ways);
        let main = rig.ready();
        for connection in 1..=4 {
            rig.client("work", connection).unwrap();
        }
        let tokens: Vec<Token> = rig.records.drain(..).map(|(_, record)| record.token).collect();
        rig.bytes(main, &answer(tokens[0], Ok(())));
        assert_eq!(rig.pull(tokens[0]), Some(1));
        assert_eq!(rig.pull(tokens[1]), Some(2));
        rig.bytes(main, &answer(tokens[1], Ok(())));
        assert!(rig.accept.main.as_ref().unwrap().opened.is_empty());
        // Its client leaves before the answer, and after it.
        rig.accept.handle_hangup(3);
        rig.bytes(main, &answer(tokens[2], Ok(())));
        rig.bytes(main, &answer(tokens[3], Ok(())));
        rig.accept.handle_hangup(4);
        rig.settle();
        assert!(rig.accept.left.is_empty() && rig.ended.is_empty(), "{:?}", rig.ended);
        assert!(rig.accept.main.as_ref().unwrap().early.is_empty());
    }
}

#[test]
fn clients_that_come_and_go_have_no_more_records_sent_than_those_that_stay() {
    let mut rig = Rig::by(Ways::CHANNEL_TYPE);
    let main = rig.ready();
    let mut connection = 0;
    let mut flee = |rig: &mut Rig| {
        connection += 1;
        let result = rig.client("hostile", connection);
        rig.accept.handle_hangup(connection);
        rig.settle();
        result
    };
    let fled = (0..10_000).filter(|_| flee(&mut rig).is_ok()).count();
    assert_eq!((fled, rig.records.len()), (MAX_PENDING_PER_VM, MAX_PENDING_PER_VM));
    rig.client("work", 1 << 32).unwrap();
    assert_eq!(rig.records.len(), fled + 1);
    // What is answered makes room; and what never is, after a while.
    for (at, outcome) in [(0, Ok(())), (1, Err(Refusal::Open))] {
        let token = rig.records[at].1.token;
        rig.bytes(main, &answer(token, outcome));
        assert_eq!(flee(&mut rig), Ok(()));
        assert_eq!(flee(&mut rig), Err(TooMany));
    }
    rig.after(2 * EXPIRY);
    assert_eq!(flee(&mut rig), Ok(()));
    assert!(rig.ended.is_empty());
}

#[test]
fn a_client_is_announced_and_pulled() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let (to, record) = rig.records.pop().unwrap();
    assert_eq!(
        (to, record.vm.as_str(), record.connection, record.way),
        (main, "work", 1, Way::Name)
    );
    assert_eq!(rig.pull(record.token), Some(1));
    rig.bytes(main, &answer(record.token, Ok(())));
    assert!(rig.closed.is_empty() && rig.ended.is_empty());
    assert_eq!((rig.accept.pending(), rig.accept.next_deadline()), (0, None));
}

#[test]
fn nothing_is_announced_before_the_peers_hello() {
    let mut rig = Rig::new();
    rig.client("work", 1).unwrap();
    let main = rig.main();
    assert_eq!((rig.hellos.as_slice(), rig.accept.is_ready()), (&[main][..], false));
    let hello = hello();
    rig.bytes(main, &hello[..5]);
    assert!(rig.records.is_empty());
    rig.bytes(main, &hello[5..]);
    assert_eq!((rig.records.len(), rig.accept.is_ready()), (1, true));
}

#[test]
fn a_token_is_good_once() {
    let mut rig = Rig::new();
    rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    assert_eq!(rig.pull(super::tests::token(999)), None);
    assert_eq!(rig.pull(token), Some(1));
    assert_eq!(rig.pull(token), None);
}

#[test]
fn a_new_main_context_gets_the_records_again_with_fresh_tokens() {
    let mut rig = Rig::new();
    let first = rig.ready();
    rig.client("work", 1).unwrap();
    rig.client("work", 2).unwrap();
    let (old_1, old_2) = (rig.records[0].1.token, rig.records[1].1.token);
    assert_eq!(rig.pull(old_1), Some(1));
    rig.accept.handle_main_end(first);
    rig.settle();
    assert_eq!(rig.pull(old_2), None, "no main context, no token");
    for _ in 0..2 {
        rig.records.clear();
        let main = rig.ready();
        assert_eq!(rig.records.len(), 1, "the pulled one is not announced again");
        let (to, record) = rig.records[0].clone();
        assert_eq!((to, record.connection), (main, 2));
        assert!(record.token != old_2 && rig.pull(old_2).is_none());
    }
    let last = rig.last_token();
    assert_eq!(rig.pull(last), Some(2));
    assert!(rig.closed.is_empty());
}

#[test]
fn the_newer_main_context_wins_when_it_has_said_hello() {
    let mut rig = Rig::new();
    let old = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    let new = rig.main();
    rig.bytes(new, &hello()[..11]);
    assert!(rig.ended.is_empty() && rig.accept.is_ready());
    assert_eq!(rig.pull(token), Some(1), "the old one lives");
    rig.client("work", 2).unwrap();
    rig.bytes(new, &hello()[11..]);
    assert_eq!(rig.ended, [(old, MainEnding::Superseded)]);
    rig.accept.handle_main_end(old);
    rig.bytes(old, b"ignored");
    assert_eq!(rig.records.last().unwrap().0, new);
    assert_eq!(rig.ended.len(), 1);
    // An answer may come together with the hello.
    let token = rig.last_token();
    assert_eq!(rig.pull(token), Some(2));
    let newest = rig.main();
    rig.bytes(newest, &[hello(), answer(token, Ok(()))].concat());
    let expected = [(new, MainEnding::Superseded), (newest, MainEnding::NotOpened)];
    assert_eq!(rig.ended[1..], expected);
}

#[test]
fn who_says_no_hello_ends_no_main_context() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    let strangers = [rig.main(), rig.main(), rig.main()];
    rig.bytes(strangers[2], b"GET / HTTP/1.1");
    rig.bytes(strangers[0], &hello());
    let closed = rig.main();
    rig.accept.handle_main_end(closed);
    rig.settle();
    // One at a time may be about to say hello.
    assert_eq!(
        rig.ended,
        [
            (strangers[0], MainEnding::Superseded),
            (strangers[1], MainEnding::Superseded),
            (strangers[2], MainEnding::Malformed(Malformed::Magic)),
        ]
    );
    assert_eq!(rig.pull(token), Some(1));
    rig.bytes(main, &answer(token, Ok(())));
    assert_eq!((rig.ended.len(), rig.accept.is_ready()), (3, true));
}

#[test]
fn a_superseded_main_context_is_sent_nothing_more() {
    let mut accept = Accept::<u64>::new(Ways::NAME);
    let old = accept.handle_main();
    let new = accept.handle_main();
    let fresh = || unreachable!("nobody waits");
    let ended = Action::EndMain { main: old, why: MainEnding::Superseded };
    assert_eq!(accept.poll_action(fresh), Some(ended));
    assert!(matches!(accept.poll_action(fresh), Some(Action::Send { main, .. }) if main == new));
    assert_eq!(accept.poll_action(fresh), None);
}

#[test]
fn a_refusal_ends_the_client_at_once() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    rig.bytes(main, &answer(token, Err(Refusal::NoCompositor)));
    assert_eq!(rig.closed, [(1, Ending::Refused(Refusal::NoCompositor))]);
    assert_eq!(rig.pull(token), None);
    // Again, and for a token that never was: no effect.
    rig.bytes(main, &answer(token, Err(Refusal::Limit)));
    rig.bytes(main, &answer(super::tests::token(77), Err(Refusal::Limit)));
    assert_eq!((rig.closed.len(), rig.ended.len()), (1, 0));
    // However many are refused, none of them counts any more.
    for connection in 2..=MAX_PENDING_PER_VM as u64 + 1 {
        rig.client("work", connection).unwrap();
        let token = rig.last_token();
        rig.bytes(main, &answer(token, Err(Refusal::Limit)));
    }
    rig.client("work", 1000).unwrap();
}

#[test]
fn a_refusal_after_the_pull_is_told() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    rig.pull(token).unwrap();
    rig.bytes(main, &answer(token, Err(Refusal::NoCompositor)));
    assert_eq!((rig.dropped.as_slice(), rig.closed.len()), (&[(1, Refusal::NoCompositor)][..], 0));
}

#[test]
fn opened_without_a_pull_ends_the_main_context() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    rig.bytes(main, &answer(token, Ok(())));
    assert_eq!(rig.ended, [(main, MainEnding::NotOpened)]);
    rig.ready();
    assert_eq!(rig.records.len(), 2, "the client waits for the next");
}

#[test]
fn opened_twice_ends_the_main_context() {
    let mut rig = Rig::new();
    let main = rig.ready();
    rig.client("work", 1).unwrap();
    let token = rig.last_token();
    rig.pull(token).unwrap();
    let twice = [answer(token, Ok(())), answer(token, Ok(()))].concat();
    rig.bytes(main, &twice);
    assert_eq!(rig.ended, [(main, MainEnding::NotOpened)]);
}

#[test]
fn garbage_ends_the_main_context_and_no_client() {
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Malformed::Magic),
        ([&hello()[..4], &[9, 0, 0, 0, 1, 0, 0, 0]].concat(), Malformed::Version(9)),
        ([&hello()[..8], &[0b110, 0, 0, 0]].concat(), Malformed::Ways),
        ([&hello()[..], &[1, 0, 40, 0]].concat(), Malformed::Kind(1)),
        ([&hello()[..], &[2, 0, 255, 255]].concat(), Malformed::Length { kind: 2, length: 65_535 }),
    ] {
        let mut rig = Rig::new();
        let main = rig.main();
        rig.client("work", 1).unwrap();
        rig.bytes(main, &bytes);
        assert_eq!(rig.ended, [(main, MainEnding::Malformed(expected))]);
        assert!(rig.closed.is_empty());
        assert_eq!(rig.accept.pending(), 1);
    }
}

#[test]
fn clients_expire_counted_from_their_arrival() {
    let mut rig = Rig::new();
    let second = Duration::from_secs(1);
    rig.client("work", 1).unwrap();
    rig.after(10 * second);
    rig.client("work", 2).unwrap();
    // Main contexts come and go; that wins no time.
    rig.ready();
    assert_eq!(rig.accept.next_deadline(), Some(rig.start + EXPIRY));
    rig.after(EXPIRY - Duration::from_nanos(1));
    assert!(rig.closed.is_empty());
    rig.after(EXPIRY);
    assert_eq!(rig.closed, [(1, Ending::Expired)]);
    let first = rig.records[0].1.token;
    assert_eq!(rig.pull(first), None);
    assert_eq!(rig.accept.next_deadline(), Some(rig.start + 10 * second + EXPIRY));
    rig.after(10 * second + EXPIRY);
    assert_eq!(rig.closed.len(), 2);
    assert_eq!(rig.accept.next_deadline(), None);
}

#[test]
fn one_vm_can_not_take_all_places() {
    let mut rig = Rig::new();
    let mut next = 0;
    let mut add = |rig: &mut Rig, vm: &str| {
        next += 1;
        rig.client(vm, next)
    };
    for _ in 0..MAX_PENDING_PER_VM {
        add(&mut rig, "hostile").unwrap();
    }
    assert_eq!(add(&mut rig, "hostile"), Err(TooMany));
    add(&mut rig, "work").unwrap();
    for vm in 0.. {
        let added =
            (0..MAX_PENDING_PER_VM).take_while(|_| add(&mut rig, &format!("vm{vm}")).is_ok());
        if added.count() < MAX_PENDING_PER_VM {
            break;
        }
    }
    assert_eq!(rig.accept.pending(), MAX_PENDING);
    rig.accept.handle_hangup(1);
    rig.settle();
    assert_eq!(rig.closed, [(1, Ending::HungUp)]);
    assert_eq!(add(&mut rig, "late"), Ok(()), "a place is free again");
}

#[test]
fn who_left_while_its_record_was_out_is_known_for_a_while() {
    let mut rig = Rig::new();
    rig.ready();
    let leave = |rig: &mut Rig, connection| {
        rig.client("work", connection).unwrap();
        let token = rig.last_token();
        assert!(!rig.accept.has_left(token), "it is here");
        rig.accept.handle_hangup(connection);
        rig.settle();
        assert_eq!(rig.pull(token), None);
        assert!(rig.accept.has_left(token));
        token
    };
    let first = leave(&mut rig, 1);
    assert!(!rig.accept.has_left(token(u64::MAX)), "nobody's");
    let taken = {
        rig.client("work", 2).unwrap();
        rig.last_token()
    };
    assert_eq!(rig.pull(taken), Some(2));
    assert!(!rig.accept.has_left(taken), "it was taken");
    rig.after(2 * EXPIRY);
    let last = leave(&mut rig, 3);
    assert!(!rig.accept.has_left(first), "it is forgotten");
    rig.ready();
    assert!(!rig.accept.has_left(last), "another main context");
}

#[test]
fn streams_opened_without_answers_are_bounded() {
    let mut rig = Rig::new();
    let main = rig.ready();
    for connection in 0..MAX_UNANSWERED as u64 {
        rig.client("work", connection).unwrap();
        let token = rig.last_token();
        assert_eq!(rig.pull(token), Some(connection));
    }
    assert_eq!(rig.pull(token(u64::MAX)), None);
    assert!(rig.ended.is_empty(), "a wrong token ends no main context");
    rig.client("work", 9999).unwrap();
    let token = rig.last_token();
    assert_eq!(rig.pull(token), None);
    assert_eq!(rig.ended, [(main, MainEnding::Unanswered)]);
    rig.ready();
    let token = rig.last_token();
    assert_eq!(rig.pull(token), Some(9999));
}

#[derive(Debug, Clone)]
enum Op {
    Client(u8),
    HangUp(usize),
    Main,
    MainEnd,
    Hello,
    Bytes(Vec<u8>),
    Pull(usize),
    Opened(usize),
    Refused(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8).prop_map(Op::Client),
        1 => any::<usize>().prop_map(Op::HangUp),
        1 => Just(Op::Main),
        1 => Just(Op::MainEnd),
        3 => Just(Op::Hello),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Op::Bytes),
        4 => any::<usize>().prop_map(Op::Pull),
        2 => any::<usize>().prop_map(Op::Opened),
        2 => any::<usize>().prop_map(Op::Refused),
        2 => (0..20u64).prop_map(Op::Wait),
    ]
}

/// What must be true whatever happens.
#[derive(Default)]
struct Truth {
    taken_in: HashSet<u64>,
    handed_out: HashSet<u64>,
    used: HashSet<Token>,
}

impl Truth {
    fn pull(&mut self, rig: &mut Rig, token: Token) {
        let announced =
            rig.records.iter().find(|(_, r)| r.token == token).map(|(_, r)| r.connection);
        if let Some(connection) = rig.pull(token) {
            assert!(self.used.insert(token), "token valid twice");
            assert_eq!(announced, Some(connection), "the token is this client's own");
            assert!(self.handed_out.insert(connection), "handed out twice");
        }
    }

    fn check(&self, rig: &Rig) {
        let closed: HashSet<u64> = rig.closed.iter().map(|(connection, _)| *connection).collect();
        assert_eq!(closed.len(), rig.closed.len(), "closed twice");
        assert!(closed.is_disjoint(&self.handed_out), "handed out and closed");
        let over = closed.len() + self.handed_out.len();
        assert_eq!(
            rig.accept.pending(),
            self.taken_in.len() - over,
            "a client is lost or invented"
        );
        assert!(rig.accept.tokens.len() <= rig.accept.pending());
        assert!(rig.accept.pending() + rig.accept.left.len() <= MAX_PENDING);
        assert_eq!(rig.accept.next_deadline().is_some(), rig.accept.pending() > 0);
        assert!(rig.accept.main.as_ref().is_none_or(|main| main.input.len() < 24));
        assert!(rig.accept.newcomer.as_ref().is_none_or(|newcomer| newcomer.input.len() < 12));
        let out = rig.accept.clients.values().filter(|client| client.out.is_some()).count();
        assert_eq!(out, rig.accept.tokens.len());
        assert!(!rig.accept.is_ready() || out == rig.accept.pending(), "everybody is announced");
        let minted: HashSet<Token> = rig.records.iter().map(|(_, record)| record.token).collect();
        assert_eq!(minted.len(), rig.records.len(), "one token, one record");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_client_ends_exactly_once(ops in prop::collection::vec(op(), 0..80)) {
        let (mut rig, mut truth) = (Rig::new(), Truth::default());
        let (mut connection, mut main, mut seconds) = (0, None, 0);
        let mut mains = Vec::new();
        for op in ops {
            let known = |at: usize| match rig.records.len() {
                0 => token(u64::MAX),
                n => rig.records[at % n].1.token,
            };
            match op {
                Op::Client(vm) => {
                    connection += 1;
                    if rig.client(&format!("vm{vm}"), connection).is_ok() {
                        truth.taken_in.insert(connection);
                    }
                }
                Op::HangUp(at) => {
                    rig.accept.handle_hangup(at as u64 % (connection + 1));
                    rig.settle();
                }
                Op::Main => {
                    main = Some(rig.main());
                    mains.extend(main);
                }
                Op::MainEnd => if let Some(id) = main {
                    rig.accept.handle_main_end(id);
                    rig.settle();
                },
                Op::Hello => if let Some(id) = main.filter(|&id| !rig.is_main(id)) {
                    rig.bytes(id, &hello());
                },
                Op::Bytes(bytes) => if let Some(id) = main {
                    rig.bytes(id, &bytes);
                },
                Op::Pull(at) => {
                    let token = known(at);
                    truth.pull(&mut rig, token);
                }
                Op::Opened(at) => if let Some(id) = main {
                    let bytes = answer(known(at), Ok(()));
                    rig.bytes(id, &bytes);
                },
                Op::Refused(at) => if let Some(id) = main {
                    let bytes = answer(known(at), Err(Refusal::Open));
                    rig.bytes(id, &bytes);
                },
                Op::Wait(more) => {
                    seconds += more;
                    rig.after(Duration::from_secs(seconds));
                }
            }
            truth.check(&rig);
        }
        // After the last client's time nobody is left, and nothing is remembered but what the main context may answer.
        rig.after(Duration::from_secs(seconds) + EXPIRY);
        truth.check(&rig);
        mains.into_iter().for_each(|id| rig.accept.handle_main_end(id));
        prop_assert_eq!(rig.accept.pending(), 0);
        prop_assert!(rig.accept.tokens.is_empty() && rig.accept.actions.is_empty());
        prop_assert!(rig.accept.main.is_none() && rig.accept.newcomer.is_none());
    }
}
