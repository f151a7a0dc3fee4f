//! The listener as an event source of calloop's.

use crate::{Client, Listener};
use calloop::{EventSource, Poll, PostAction, Readiness, Token, TokenFactory};
use std::io;

impl EventSource for Listener {
    /// Who came.
    type Event = Client;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(
        &mut self,
        readiness: Readiness,
        token: Token,
        mut callback: F,
    ) -> io::Result<PostAction>
    where
        F: FnMut(Client, &mut ()),
    {
        let mut is_own = false;
        self.set.process_events(readiness, token, |_, _| {
            is_own = true;
            Ok(PostAction::Continue)
        })?;
        if is_own {
            let mut clients = Vec::new();
            let dispatched = self.dispatch(&mut clients);
            // Also if it failed: they are connected.
            clients.into_iter().for_each(|client| callback(client, &mut ()));
            dispatched?;
        }
        Ok(PostAction::Continue)
    }

    fn register(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.set.register(poll, factory)
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.set.reregister(poll, factory)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.set.unregister(poll)
    }
}
