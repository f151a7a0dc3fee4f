//! The Wayland wire protocol: messages, the interface tables, and the objects of one connection.
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | splits bytes into messages, and messages into arguments, by signature; writes them |
//! | [`tables`] | the globals that we know, what each lets a client do, and which of them can cross between VMs |
//! | [`offer`] | which of them a VM's clients are offered |
//! | [`globals`] | the globals that one compositor advertised |
//! | [`objects`] | the objects of one connection: who is what, who may be asked what |
//! | [`inbox`] | bytes and fds that arrived, as messages |
//! | [`text`] | messages as text, for people |
//!
//! Everything is driven by the `Interface` tables that wayland-scanner generates. The same code runs in the agents
//! (which translate) and on the host (which decides).

pub mod globals;
pub mod inbox;
pub mod numbers;
pub mod objects;
pub mod offer;
pub mod tables;
pub mod text;
pub mod wire;

pub use globals::Globals;
pub use inbox::Inbox;
pub use objects::{Call, Objects, Violation};
pub use offer::Offer;
pub use text::Text;
pub use wayland_backend::protocol::{ArgumentType, Interface, MessageDesc};
pub use wire::{Arg, Message};

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

impl<F> Batch<F> {
    /// Appends a message.
    pub fn push(&mut self, object: u32, opcode: u16, args: &[Arg<'_>]) {
        wire::encode(object, opcode, args, &mut self.bytes);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.fds.is_empty()
    }
}

/// The object that every connection starts with.
pub const WL_DISPLAY: u32 = 1;
/// `wl_display.error`, an event.
pub const WL_DISPLAY_ERROR: u16 = 0;
/// `wl_display.delete_id`, an event.
pub const WL_DISPLAY_DELETE_ID: u16 = 1;
