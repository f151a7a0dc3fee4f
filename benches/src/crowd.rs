//! Other clients of the same VM, beside the one that measures.

use crate::connection::Connection;
use crate::flood::Flooder;
use crate::talk::{Beside, Flood};
use crate::task::surface;
use anyhow::Result;
use std::path::Path;

/// Clients that are there.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    idle: Vec<Connection>,
    flood: Option<Flooder>,
}

impl Crowd {
    /// Has so many in all.
    pub(crate) fn grow(&mut self, beside: Beside, display: &Path) -> Result<()> {
        match beside {
            Beside::Idle(count) => {
                let first = self.idle.len();
                // All of them at once, then each by itself.
                for _ in first..count as usize {
                    self.idle.push(Connection::connect(display)?);
                }
                for client in &mut self.idle[first..] {
                    client.sync()?;
                    surface(client)?;
                    client.shrink();
                }
            }
            Beside::Flood => self.flood = Some(Flooder::start(Flood::Requests, display)?),
        }
        Ok(())
    }

    /// Lets the flood begin, if there is one.
    pub(crate) fn wake(&self) {
        self.flood.iter().for_each(Flooder::wake);
    }

    /// Lets it end, and waits until it has.
    pub(crate) fn hush(&self) -> Result<()> {
        self.flood.iter().try_for_each(|flood| flood.hush().map(|_| ()))
    }
}
