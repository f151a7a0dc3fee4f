//! The relay of one link: pure.

use wlproxy_protocol::wayland::Batch;

/// Ends a link.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct Violation;

impl Violation {
    /// The `wl_display.error` that tells the client why it is disconnected, as bytes of an event.
    pub fn to_event(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// The state machine of one link: bytes and fds in, bytes and fds out. Pure; `F` stands for a file descriptor.
#[derive(Debug)]
pub struct Relay<F> {
    _marker: std::marker::PhantomData<F>,
}

impl<F> Default for Relay<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Relay<F> {
    /// A link on which nothing was said.
    pub fn new() -> Self {
        Self { _marker: std::marker::PhantomData }
    }

    /// Takes bytes and fds of the client; appends to `out` what the compositor is to get.
    ///
    /// Incomplete messages wait inside. After an error nothing may follow: what `out` got before is to be sent, and
    /// the client gets [`Violation::to_event`].
    pub fn from_client(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
        out: &mut Batch<F>,
    ) -> Result<(), Violation> {
        out.bytes.extend_from_slice(bytes);
        out.fds.extend(fds);
        Ok(())
    }

    /// Takes bytes and fds of the compositor; appends to `out` what the client is to get.
    pub fn from_compositor(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
        out: &mut Batch<F>,
    ) -> Result<(), Violation> {
        out.bytes.extend_from_slice(bytes);
        out.fds.extend(fds);
        Ok(())
    }
}
