//! The main context of a compositor VM that the test plays.

use crate::Puppet;
use guest_agent::channel::VfdId;
use wlproxy_protocol::accept::{Answer, Hello, Record, Refusal, Token, Ways};

/// A main context: hears of clients, and says what became of them.
#[derive(Debug)]
pub struct Doorway {
    /// The context.
    pub main: VfdId,
    unread: Vec<u8>,
}

impl Doorway {
    /// Opens one; the greetings are exchanged.
    pub fn open(gui: &mut Puppet) -> Self {
        let mut doorway = Self { main: gui.connect(), unread: Vec::new() };
        let hello = Hello { ways: Ways::NAME };
        gui.send(doorway.main, &hello.encode(), &[]);
        assert_eq!(doorway.next(gui, Hello::decode), hello);
        doorway
    }

    /// The next client.
    pub fn record(&mut self, gui: &mut Puppet) -> Record {
        self.next(gui, Record::decode)
    }

    fn next<T, E: std::fmt::Debug>(
        &mut self,
        gui: &mut Puppet,
        decode: impl Fn(&mut &[u8]) -> Result<Option<T>, E>,
    ) -> T {
        loop {
            let mut rest = &self.unread[..];
            if let Some(found) = decode(&mut rest).expect("the host speaks the protocol") {
                let read = self.unread.len() - rest.len();
                self.unread.drain(..read);
                return found;
            }
            let (bytes, arrived) = gui.receive(self.main).expect("the main context stays");
            assert!(arrived.is_empty(), "nothing comes with a record");
            self.unread.extend(bytes);
        }
    }

    /// Takes in a client: opens its stream, proves it, says so.
    pub fn accept(&self, gui: &mut Puppet, record: &Record) -> VfdId {
        let context = gui.open(record.token).expect("a record can be opened");
        gui.send(context, record.token.as_bytes(), &[]);
        self.answer(gui, record.token, Ok(()));
        context
    }

    /// Says what became of a client.
    pub fn answer(&self, gui: &mut Puppet, token: Token, outcome: Result<(), Refusal>) {
        let mut bytes = Vec::new();
        Answer { token, outcome }.encode(&mut bytes);
        gui.send(self.main, &bytes, &[]);
    }

    /// Waits until the host closes it.
    pub fn ended(self, gui: &mut Puppet) {
        gui.rest(self.main);
        gui.close(self.main);
    }
}
