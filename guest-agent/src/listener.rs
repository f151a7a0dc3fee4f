//! The accept side of a compositor VM: the main context, and the streams that its records announce.

use crate::channel::{Channel, Error, Event, Received, VfdId};
use crate::outbox::Outbox;
use wlproxy_protocol::accept::{Answer, Hello, Malformed, Record, Refusal, Ways};

/// Most bytes of records that are half here, or of answers that the host doesn't take. It announces a client once, and
/// has its own bounds.
const MAX_BACKLOG: usize = 64 * 1024;

/// Why a main context ended.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] Error),
    /// The host said something that isn't in the protocol.
    #[error("on the main context: {0}")]
    Malformed(#[from] Malformed),
    /// The host closed the main context. It does that when another one is opened.
    #[error("the host closed the main context: is another `serve` running in this VM?")]
    Closed,
}

/// Learns of clients over a main context, as a listening socket would.
#[derive(Debug)]
pub struct Listener {
    main: VfdId,
    ways: Ways,
    out: Outbox,
    unread: Vec<u8>,
    greeted: bool,
}

impl Listener {
    /// Opens a main context and says hello.
    pub fn new(channel: &mut dyn Channel) -> Result<Self, Error> {
        let main = channel.connect()?;
        let ways = channel.ways();
        let mut out = Outbox::default();
        out.queue(&Hello { ways }.encode(), []);
        if let Err(error) = out.flush(channel, main) {
            channel.close(main);
            return Err(error);
        }
        Ok(Self { main, ways, out, unread: Vec::new(), greeted: false })
    }

    /// Whether an event of the channel concerns the main context.
    pub fn concerns(&self, event: Event) -> bool {
        matches!(event, Event::Readable(vfd) | Event::Writable(vfd) if vfd == self.main)
    }

    /// Takes in what arrived and appends the records. Doesn't block.
    pub fn dispatch(
        &mut self,
        channel: &mut dyn Channel,
        records: &mut Vec<Record>,
    ) -> Result<(), ListenError> {
        if let Err(error @ Error::Lost(_)) = self.out.flush(channel, self.main) {
            return Err(error.into());
        }
        while self.out.queued() <= MAX_BACKLOG {
            let vfds = match channel.receive(self.main, &mut self.unread)? {
                Received::Message(vfds) => vfds,
                Received::Nothing => return Ok(()),
                Received::HangUp => return Err(ListenError::Closed),
            };
            vfds.iter().for_each(|arrived| channel.close(arrived.vfd()));
            if !vfds.is_empty() || self.unread.len() > MAX_BACKLOG {
                return Err(Malformed::Field("what came with a record").into());
            }
            self.decode(records)?;
        }
        Ok(())
    }

    fn decode(&mut self, records: &mut Vec<Record>) -> Result<(), Malformed> {
        let mut rest = &self.unread[..];
        if !self.greeted {
            let Some(hello) = Hello::decode(&mut rest)? else { return Ok(()) };
            if hello.ways.common(self.ways).is_empty() {
                return Err(Malformed::Ways);
            }
            self.greeted = true;
        }
        while let Some(record) = Record::decode(&mut rest)? {
            records.push(record);
        }
        let read = self.unread.len() - rest.len();
        self.unread.drain(..read);
        Ok(())
    }

    /// Opens the stream of a record, and tells the host so. What is still to be sent first is in the outbox.
    pub fn accept(
        &mut self,
        channel: &mut dyn Channel,
        record: &Record,
    ) -> Result<(VfdId, Outbox), Error> {
        match open(channel, record) {
            Ok(stream) => {
                self.answer(channel, record, Ok(()))?;
                Ok(stream)
            }
            Err(error @ Error::Lost(_)) => Err(error),
            Err(error) => {
                let refusal = if matches!(error, Error::OutOfMemory) {
                    Refusal::Limit
                } else {
                    Refusal::Open
                };
                self.answer(channel, record, Err(refusal))?;
                Err(error)
            }
        }
    }

    /// Doesn't take the client of a record: the host disconnects it.
    pub fn refuse(
        &mut self,
        channel: &mut dyn Channel,
        record: &Record,
        refusal: Refusal,
    ) -> Result<(), Error> {
        self.answer(channel, record, Err(refusal))
    }

    fn answer(
        &mut self,
        channel: &mut dyn Channel,
        record: &Record,
        outcome: Result<(), Refusal>,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        Answer { token: record.token, outcome }.encode(&mut bytes);
        self.out.queue(&bytes, []);
        match self.out.flush(channel, self.main) {
            Err(error @ Error::Lost(_)) => Err(error),
            // That the main context is over is seen when it is read.
            _ => Ok(()),
        }
    }

    /// Closes the main context.
    pub fn close(self, channel: &mut dyn Channel) {
        channel.close(self.main);
    }
}

/// Opens the stream of a record and sends the token, or as much of it as the channel takes now.
fn open(channel: &mut dyn Channel, record: &Record) -> Result<(VfdId, Outbox), Error> {
    let context = channel.open(record.way, record.token)?;
    let mut out = Outbox::default();
    out.queue(record.token.as_bytes(), []);
    match out.flush(channel, context) {
        Ok(_) => Ok((context, out)),
        Err(error) => {
            channel.close(context);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
