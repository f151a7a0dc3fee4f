//! The host's side of accept(2) over a channel that can only connect: pure.
//!
//! Clients wait here until the compositor VM takes them. It opens one *main context*; over that it gets a record with
//! a token for each client, and whoever asks with that token pulls the client's stream, once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::{
    Answer, CHANNEL_TYPES, Hello, Malformed, Record, Refusal, Token, Way, Ways,
};

/// How long a client waits to be taken, from its arrival. Enough for a compositor VM to boot; after that a person has
/// given up.
pub const EXPIRY: Duration = Duration::from_secs(30);

/// Most clients of one VM that wait at once: a session's start, several times over.
pub const MAX_PENDING_PER_VM: usize = 64;

/// Most clients that wait at once, of all VMs. Each holds one fd.
pub const MAX_PENDING: usize = 512;

/// Most streams that a compositor VM may open without saying so on its main context.
pub const MAX_UNANSWERED: usize = MAX_PENDING;

/// Names one main context, for as long as wlproxy runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MainId(u64);

/// A client was refused at once: its VM, or all VMs together, have too many that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many clients wait for the compositor VM")]
pub struct TooMany;

/// Why a client that waited is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The compositor VM doesn't want it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Nobody took it in time.
    #[error("the compositor VM didn't take it within {} s", EXPIRY.as_secs())]
    Expired,
    /// The client itself is gone.
    #[error("the client hung up before it was taken")]
    HungUp,
}

/// Why a main context ends. Clients that wait are announced again on the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MainEnding {
    /// The compositor VM opened another: it rebooted, or its agent was restarted.
    #[error("the compositor VM opened a new main context")]
    Superseded,
    /// The peer doesn't speak the protocol.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// It says `opened` for a stream that it didn't open, and it was told.
    #[error("the compositor VM says it opened a stream that it didn't open")]
    NotOpened,
    /// It opens streams and never answers their records.
    #[error("{MAX_UNANSWERED} records of opened streams were not answered")]
    Unanswered,
}

/// What is to be done, from [`Accept::poll_action`].
#[derive(Debug, PartialEq, Eq)]
pub enum Action<S> {
    /// Write these bytes, whole, to a main context.
    Send {
        /// The main context.
        main: MainId,
        /// At most a hello or a record.
        bytes: Vec<u8>,
    },
    /// Close a main context. [`Accept`] has forgotten it already.
    EndMain {
        /// The main context.
        main: MainId,
        /// For the log.
        why: MainEnding,
    },
    /// Close a client's stream.
    Close {
        /// The client's VM, for the log.
        vm: String,
        /// Its number.
        connection: u64,
        /// Its stream.
        stream: S,
        /// For the log.
        why: Ending,
    },
    /// The compositor VM opened a client's stream and refuses it now: for the log. It closes the stream itself.
    Dropped {
        /// The client's number.
        connection: u64,
        /// For the log.
        why: Refusal,
    },
}

/// A client whose stream was handed out.
#[derive(Debug, PartialEq, Eq)]
pub struct Pulled<S> {
    /// Its VM.
    pub vm: String,
    /// Its number.
    pub connection: u64,
    /// The host's end of its stream.
    pub stream: S,
}

#[derive(Debug)]
struct Client<S> {
    vm: String,
    stream: S,
    expires: Instant,
    /// How its record on the current main context is opened, if that record is out.
    out: Option<(Token, Way)>,
}

/// A record that is out, and whose client has left.
#[derive(Debug)]
struct Left {
    vm: String,
    token: Token,
    way: Way,
    /// When it is forgotten, though it isn't answered: the compositor VM has forgotten it too, then.
    until: Instant,
}

#[derive(Debug)]
struct Main {
    id: MainId,
    /// The start of an incomplete message.
    input: Vec<u8>,
    /// Tokens of streams that were pulled and not answered yet.
    opened: HashMap<Token, u64>,
    /// Tokens that were answered and not pulled yet: where who opens isn't told how that went, a stream may be overtaken
    /// by its answer. At most those of records that are out.
    early: HashSet<Token>,
}

/// Becomes the main context when its hello has come. Until then anybody may have opened it.
#[derive(Debug)]
struct Newcomer {
    id: MainId,
    /// The start of its hello.
    input: Vec<u8>,
}

/// The state machine. `S` is a client's stream; nothing here touches it.
///
/// # Calls
///
/// - `handle_*` tell it what happened. Each may leave actions, also about other things than it was told of.
/// - After any of them, call [`Accept::poll_action`] until it returns `None`, and carry out each action.
/// - Then sleep until [`Accept::next_deadline`] at most, and call [`Accept::handle_time`].
/// - Instants never go back from one call to the next, and connection numbers never repeat and only grow.
///
/// A client that was taken in ends exactly once: by [`Accept::handle_pull`] or by one [`Action::Close`].
#[derive(Debug)]
pub struct Accept<S> {
    /// How streams can be opened: what the compositor VM's device offers.
    ways: Ways,
    /// By connection, so the oldest is first.
    clients: BTreeMap<u64, Client<S>>,
    /// Records that are out on the current main context and may be pulled.
    tokens: HashMap<Token, u64>,
    /// Their channel types, where records have such.
    channels: HashMap<u32, Token>,
    /// Records whose client left while they were out on the current main context, until they are answered. They count
    /// as clients that wait: or a VM whose clients come and go could have more records sent than are read.
    left: VecDeque<Left>,
    main: Option<Main>,
    newcomer: Option<Newcomer>,
    next_main: u64,
    next_channel: u32,
    actions: VecDeque<Action<S>>,
}

impl<S> Accept<S> {
    /// No clients yet. The compositor VM's device can open streams in one of `ways`.
    pub fn new(ways: Ways) -> Self {
        Self {
            ways,
            clients: BTreeMap::new(),
            tokens: HashMap::new(),
            channels: HashMap::new(),
            left: VecDeque::new(),
            main: None,
            newcomer: None,
            next_main: 0,
            next_channel: CHANNEL_TYPES.start,
            actions: VecDeque::new(),
        }
    }

    /// Takes in a client of `vm`. Refused, its stream is dropped.
    pub fn handle_client(
        &mut self,
        vm: &str,
        connection: u64,
        stream: S,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.left.retain(|left| left.until > now);
        let of_vm = self.clients.values().filter(|client| client.vm == vm).count()
            + self.left.iter().filter(|left| left.vm == vm).count();
        if of_vm >= MAX_PENDING_PER_VM || self.clients.len() + self.left.len() >= MAX_PENDING {
            return Err(TooMany);
        }
        let client = Client { vm: vm.to_owned(), stream, expires: now + EXPIRY, out: None };
        self.clients.insert(connection, client);
        Ok(())
    }

    /// A client's own side is gone. Unknown numbers are ignored: it may have been pulled meanwhile.
    pub fn handle_hangup(&mut self, connection: u64) {
        self.close(connection, Ending::HungUp);
    }

    /// The compositor VM opened a context to be its main one. With a valid hello it is, and supersedes the one that
    /// lives; a newer one that has said nothing yet takes its place.
    pub fn handle_main(&mut self) -> MainId {
        if let Some(newcomer) = self.newcomer.take() {
            self.end(newcomer.id, MainEnding::Superseded);
        }
        let id = MainId(self.next_main);
        self.next_main += 1;
        self.newcomer = Some(Newcomer { id, input: Vec::new() });
        let bytes = Hello { ways: self.ways }.encode().to_vec();
        self.actions.push_back(Action::Send { main: id, bytes });
        id
    }

    /// Bytes arrived on a main context. Ignored if it ended.
    pub fn handle_main_bytes(&mut self, id: MainId, bytes: &[u8]) {
        if let Some(newcomer) = self.newcomer.take_if(|newcomer| newcomer.id == id) {
            self.greet(newcomer, bytes);
        } else if let Some(main) = self.main.as_mut().filter(|main| main.id == id) {
            main.input.extend_from_slice(bytes);
            self.read_answers();
        }
    }

    /// A main context is gone. Ignored if it had ended already.
    pub fn handle_main_end(&mut self, id: MainId) {
        if self.newcomer.take_if(|newcomer| newcomer.id == id).is_some() {
            self.unsend(id);
        } else if self.main.as_ref().is_some_and(|main| main.id == id) {
            self.forget_main();
        }
    }

    /// The compositor VM's worker asks for the client of a token. `None`: the token is wrong, old or used.
    pub fn handle_pull(&mut self, token: Token) -> Option<Pulled<S>> {
        let main = self.main.as_mut()?;
        if self.tokens.contains_key(&token) && main.opened.len() >= MAX_UNANSWERED {
            self.end_main(MainEnding::Unanswered);
            return None;
        }
        let connection = self.tokens.remove(&token)?;
        if !main.early.remove(&token) {
            main.opened.insert(token, connection);
        }
        let client = self.clients.remove(&connection)?;
        self.forget_channel(client.out);
        Some(Pulled { vm: client.vm, connection, stream: client.stream })
    }

    /// The token of the record that announced this channel type. `None` as from [`Accept::handle_pull`], for which it is.
    pub fn token_of(&self, channel: u32) -> Option<Token> {
        self.channels.get(&channel).copied()
    }

    /// Whether that is the token of a client that left a moment ago. Nobody is to blame for asking with it: its record was
    /// on the way.
    pub fn has_left(&self, token: Token) -> bool {
        self.left.iter().any(|left| left.token == token)
    }

    /// The same of a channel type.
    pub fn channel_has_left(&self, channel: u32) -> bool {
        self.left.iter().any(|left| left.way == Way::ChannelType(channel))
    }

    /// Time passed.
    pub fn handle_time(&mut self, now: Instant) {
        while let Some((&connection, client)) = self.clients.first_key_value() {
            if client.expires > now {
                break;
            }
            self.close(connection, Ending::Expired);
        }
    }

    /// What to do next. `fresh` makes a token of random bits, if one is needed.
    pub fn poll_action(&mut self, fresh: impl FnOnce() -> Token) -> Option<Action<S>> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let main = self.main.as_ref()?;
        let (&connection, client) = self.clients.iter_mut().find(|(_, c)| c.out.is_none())?;
        let token = fresh();
        let way = if self.ways.contains(Way::Name) {
            Way::Name
        } else if self.ways.contains(Way::DialBack) {
            Way::DialBack
        } else {
            // Fresh: there are far more than clients that can wait.
            let channel = self.next_channel;
            let next = channel + 1;
            self.next_channel =
                if CHANNEL_TYPES.contains(&next) { next } else { CHANNEL_TYPES.start };
            self.channels.insert(channel, token);
            Way::ChannelType(channel)
        };
        client.out = Some((token, way));
        self.tokens.insert(token, connection);
        let mut bytes = Vec::new();
        Record { vm: client.vm.clone(), connection, token, way }.encode(&mut bytes);
        Some(Action::Send { main: main.id, bytes })
    }

    /// When to call [`Accept::handle_time`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.first_key_value().map(|(_, client)| client.expires)
    }

    /// Clients that wait.
    pub fn pending(&self) -> usize {
        self.clients.len()
    }

    /// Whether a compositor VM that speaks the protocol is there.
    pub fn is_ready(&self) -> bool {
        self.main.is_some()
    }

    /// Takes what a newcomer says, who is the main context from its hello on.
    fn greet(&mut self, mut newcomer: Newcomer, bytes: &[u8]) {
        newcomer.input.extend_from_slice(bytes);
        let mut rest = &newcomer.input[..];
        let common = match Hello::decode(&mut rest) {
            Ok(None) => return self.newcomer = Some(newcomer),
            Ok(Some(hello)) => hello.ways.common(self.ways),
            Err(why) => return self.end(newcomer.id, why.into()),
        };
        if common.is_empty() {
            return self.end(newcomer.id, Malformed::Ways.into());
        }
        self.end_main(MainEnding::Superseded);
        let (id, input) = (newcomer.id, rest.to_vec());
        self.main = Some(Main { id, input, opened: HashMap::new(), early: HashSet::new() });
        self.read_answers();
    }

    /// Takes the whole messages that the main context has sent.
    fn read_answers(&mut self) {
        let Some(main) = &mut self.main else { return };
        let input = std::mem::take(&mut main.input);
        let mut rest = &input[..];
        let result = loop {
            match Answer::decode(&mut rest) {
                Ok(None) => break Ok(()),
                Ok(Some(answer)) => {
                    if let Err(why) = self.answer(answer) {
                        break Err(why);
                    }
                }
                Err(why) => break Err(why.into()),
            }
        };
        if let Err(why) = result {
            self.end_main(why);
        } else if let Some(main) = &mut self.main {
            main.input = rest.to_vec();
        }
    }

    fn answer(&mut self, answer: Answer) -> Result<(), MainEnding> {
        let opened = self.main.as_mut().and_then(|main| main.opened.remove(&answer.token));
        match (answer.outcome, opened) {
            (Ok(()), Some(_)) => {}
            (Ok(()), None) if self.ways.contains(Way::Name) => return Err(MainEnding::NotOpened),
            (Ok(()), None) => self.answered_early(answer.token),
            (Err(why), Some(connection)) => {
                self.actions.push_back(Action::Dropped { connection, why });
            }
            // A token of nobody is no fault: the client may have ended while its record was on the way.
            (Err(why), None) => {
                if let Some(&connection) = self.tokens.get(&answer.token) {
                    self.close(connection, Ending::Refused(why));
                }
            }
        }
        // Also if it has left by this answer.
        self.left.retain(|left| left.token != answer.token);
        Ok(())
    }

    /// Who isn't told how opening went says that it is opened: before it is, or though its client has left meanwhile.
    fn answered_early(&mut self, token: Token) {
        if let Some(main) = &mut self.main
            && self.tokens.contains_key(&token)
        {
            main.early.insert(token);
        }
    }

    fn close(&mut self, connection: u64, why: Ending) {
        let Some(client) = self.clients.remove(&connection) else { return };
        self.forget_channel(client.out);
        if let Some((token, way)) = client.out {
            self.tokens.remove(&token);
            let was_answered = self.main.as_mut().is_some_and(|main| main.early.remove(&token));
            if !was_answered {
                let (vm, until) = (client.vm.clone(), client.expires + EXPIRY);
                self.left.push_back(Left { vm, token, way, until });
            }
        }
        let Client { vm, stream, .. } = client;
        self.actions.push_back(Action::Close { vm, connection, stream, why });
    }

    fn forget_channel(&mut self, out: Option<(Token, Way)>) {
        if let Some((_, Way::ChannelType(channel))) = out {
            self.channels.remove(&channel);
        }
    }

    fn end_main(&mut self, why: MainEnding) {
        if let Some(main) = self.forget_main() {
            self.end(main, why);
        }
    }

    /// Ends one that isn't the main context, any more or yet.
    fn end(&mut self, main: MainId, why: MainEnding) {
        self.unsend(main);
        self.actions.push_back(Action::EndMain { main, why });
    }

    /// What was still to be sent there must not be sent after the next one's hello.
    fn unsend(&mut self, id: MainId) {
        self.actions.retain(|action| !matches!(action, Action::Send { main, .. } if *main == id));
    }

    /// Takes back every record that is out, so that the next main context gets them.
    fn forget_main(&mut self) -> Option<MainId> {
        let main = self.main.take()?;
        self.unsend(main.id);
        self.tokens.clear();
        self.channels.clear();
        self.left.clear();
        for client in self.clients.values_mut() {
            client.out = None;
        }
        Some(main.id)
    }
}

#[cfg(test)]
mod tests;
