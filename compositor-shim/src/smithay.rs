//! What a compositor that is made with smithay wants (feature `smithay`).
//!
//! [`insert`] makes clients of other VMs the compositor's, with a [`ClientState`] as their client data. A client that
//! comes to the compositor's own socket gets [`ClientState::local`]. From then on [`peer`] tells of each which VM it is of,
//! and a [`Rule`] decides which of them see a global:
//!
//! ```no_run
//! use compositor_shim::smithay::{ClientState, Rule};
//! use compositor_shim::{ChannelSpec, Listener};
//! use smithay::reexports::calloop::LoopHandle;
//! use smithay::reexports::wayland_server::{Client, DisplayHandle};
//! use smithay::wayland::compositor::CompositorClientState;
//! # use smithay::reexports::wayland_server::{Dispatch, GlobalDispatch};
//! # use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_decoration_manager_v1::ZxdgDecorationManagerV1;
//! use smithay::wayland::shell::xdg::decoration::{XdgDecorationManagerGlobalData, XdgDecorationState};
//!
//! fn start<State>(
//!     events: &LoopHandle<'static, State>,
//!     display: &DisplayHandle,
//!     channel: ChannelSpec,
//! ) -> Result<(), Box<dyn std::error::Error>>
//! # where State: 'static + GlobalDispatch<ZxdgDecorationManagerV1, XdgDecorationManagerGlobalData> + Dispatch<ZxdgDecorationManagerV1, ()>,
//! {
//!     // From now on clients of other VMs are served.
//!     compositor_shim::smithay::insert(events, Listener::new(channel)?, display)?;
//!     // A global that is none of their business.
//!     let local = Rule::local().filter();
//!     let _decoration = XdgDecorationState::new_with_filter::<State, _>(display, local);
//!     Ok(())
//! }
//!
//! /// `CompositorHandler::client_compositor_state`.
//! fn compositor_state(client: &Client) -> &CompositorClientState {
//!     let state = client.get_data::<ClientState>();
//!     &state.expect("each client is inserted with one").compositor
//! }
//! ```

mod rule;

pub use rule::Rule;

use crate::{Client as Accepted, Listener, Peer};
use ::smithay::reexports::calloop::{LoopHandle, RegistrationToken};
use ::smithay::reexports::wayland_server::backend::ClientData;
use ::smithay::reexports::wayland_server::{Client, DisplayHandle};
use ::smithay::utils::user_data::UserDataMap;
use ::smithay::wayland::compositor::CompositorClientState;
use guest_agent::compositor::ENGINE;
use std::sync::Arc;

/// The data of a client: who it is, and what smithay keeps for it.
///
/// A compositor that has more to keep of a client puts it into [`user_data`](Self::user_data).
#[derive(Debug, Default)]
pub struct ClientState {
    /// For [`CompositorHandler::client_compositor_state`](::smithay::wayland::compositor::CompositorHandler).
    pub compositor: CompositorClientState,
    /// Whatever else the compositor keeps of it.
    pub user_data: UserDataMap,
    peer: Option<Peer>,
}

impl ClientState {
    /// That of a client which came to the compositor's own socket.
    pub fn local() -> Self {
        Self::default()
    }

    /// That of a client of another VM.
    pub fn of(peer: Peer) -> Self {
        Self { peer: Some(peer), ..Self::default() }
    }

    /// Who the client is, if it is of another VM.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The same as it would stand in a security context, if the client is of another VM.
    pub fn security_context(&self) -> Option<SecurityContext> {
        self.peer.as_ref().map(SecurityContext::of)
    }
}

impl ClientData for ClientState {}

/// Who a client of another VM is, in the words of wp_security_context_v1.
///
/// These are what `guest-agent serve` tags its clients with, so one rule of a compositor's fits both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SecurityContext {
    /// `wlproxy`, for each.
    pub sandbox_engine: &'static str,
    /// The VM's name.
    pub app_id: String,
    /// The connection's number on the host.
    pub instance_id: String,
}

impl SecurityContext {
    fn of(peer: &Peer) -> Self {
        Self {
            sandbox_engine: ENGINE,
            app_id: peer.vm.clone(),
            instance_id: peer.connection.to_string(),
        }
    }
}

/// Who a client is, if it is of another VM. `None` for local clients, and for those whose data isn't a [`ClientState`].
pub fn peer(client: &Client) -> Option<&Peer> {
    client.get_data::<ClientState>()?.peer()
}

/// Has clients that `listener` accepts served by `display`, each with a [`ClientState`].
///
/// When it is removed, by the token, the clients of other VMs are disconnected.
///
/// # Errors
/// If the event loop doesn't take it.
pub fn insert<D>(
    events: &LoopHandle<'_, D>,
    listener: Listener,
    display: &DisplayHandle,
) -> calloop::Result<RegistrationToken> {
    let mut display = display.clone();
    let inserted = events.insert_source(listener, move |Accepted { stream, peer }, _, _| {
        let name = format!("{}:{}", peer.vm, peer.connection);
        if let Err(error) = display.insert_client(stream, Arc::new(ClientState::of(peer))) {
            tracing::warn!(connection = name, "the display doesn't take the client: {error}");
        }
    });
    inserted.map_err(|error| error.error)
}

#[cfg(test)]
mod tests;
