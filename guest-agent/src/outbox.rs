//! What waits to be sent over a context.

use crate::channel::{Channel, Error, Sent, VfdId};
use std::collections::VecDeque;
use wlproxy_protocol::limits::{MAX_FDS, MAX_SEND};

/// Bytes and vfds for one context, in order. Whoever fills it looks at [`Outbox::queued`] and [`Outbox::queued_vfds`]
/// first: it has no bound of its own.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: VecDeque<u8>,
    /// vfds and the position of the byte that they go with, in bytes since the context was opened.
    vfds: VecDeque<(u64, VfdId)>,
    sent: u64,
}

impl Outbox {
    /// Queues bytes, and vfds that go with the first of them; or with the next that are queued, if there are none.
    pub fn queue(&mut self, bytes: &[u8], vfds: impl IntoIterator<Item = VfdId>) {
        let position = self.sent + self.bytes.len() as u64;
        self.vfds.extend(vfds.into_iter().map(|vfd| (position, vfd)));
        self.bytes.extend(bytes);
    }

    /// Bytes that are queued and not sent.
    pub fn queued(&self) -> usize {
        self.bytes.len()
    }

    /// vfds that are queued and not sent.
    pub fn queued_vfds(&self) -> usize {
        self.vfds.len()
    }

    /// Whether a vfd waits to be sent.
    pub fn holds(&self, vfd: VfdId) -> bool {
        self.vfds.iter().any(|&(_, queued)| queued == vfd)
    }

    /// Takes the vfds that were not sent: the context is over.
    pub fn drain_vfds(&mut self) -> impl Iterator<Item = VfdId> + use<'_> {
        self.vfds.drain(..).map(|(_, vfd)| vfd)
    }

    /// Sends what the channel takes. `true` if nothing is left.
    pub fn flush(&mut self, channel: &mut dyn Channel, context: VfdId) -> Result<bool, Error> {
        while !self.bytes.is_empty() {
            let len = self.bytes.len().min(MAX_SEND);
            let mut vfds: Vec<VfdId> = Vec::new();
            let mut until = len;
            for &(position, vfd) in &self.vfds {
                let offset = position.saturating_sub(self.sent) as usize;
                if offset >= len {
                    break;
                }
                if vfds.len() == MAX_FDS {
                    // The next one goes with a later byte: its own, or the next one if its own is in this message.
                    until = offset.max(1);
                    break;
                }
                vfds.push(vfd);
            }
            let (front, _) = self.bytes.as_slices();
            let bytes = if front.len() >= until {
                &front[..until]
            } else {
                &self.bytes.make_contiguous()[..until]
            };
            match channel.send(context, bytes, &vfds)? {
                Sent::Accepted => {
                    self.bytes.drain(..until);
                    self.vfds.drain(..vfds.len());
                    self.sent += until as u64;
                }
                Sent::Busy => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
