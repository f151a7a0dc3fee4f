//! The Wayland wire protocol.

/// Bytes of a Wayland stream and the fds that go with the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<F> {
    /// Whole messages.
    pub bytes: Vec<u8>,
    /// Their fds, in order.
    pub fds: Vec<F>,
}

impl<F> Default for Batch<F> {
    fn default() -> Self {
        Self { bytes: Vec::new(), fds: Vec::new() }
    }
}
