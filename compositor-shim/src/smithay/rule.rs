//! Which clients may see a global.

use super::{ClientState, Peer};
use ::smithay::reexports::wayland_server::Client;
use std::collections::BTreeSet;

/// Allows or denies something to clients, by the VM that they are of.
///
/// A client whose data isn't a [`ClientState`] is allowed nothing: who it is can't be told. So a compositor that inserts
/// clients with other data, such as smithay's Xwayland, decides about these by itself:
///
/// ```
/// # use compositor_shim::smithay::Rule;
/// # use smithay::reexports::wayland_server::{Client, backend::ClientData};
/// # struct XWaylandClientData;
/// # impl ClientData for XWaylandClientData {}
/// let rule = Rule::local().and_vm("work");
/// let filter =
///     move |client: &Client| rule.allows(client) || client.get_data::<XWaylandClientData>().is_some();
/// ```
///
/// Local clients are all that came to the compositor's own socket. Where those may be sandboxed in other ways (Flatpak, by
/// wp_security_context_v1), that has to be asked for as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    local: bool,
    vms: Vms,
}

/// Of which VMs clients are allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Vms {
    /// Of these.
    Only(BTreeSet<String>),
    /// Of all but these.
    AllBut(BTreeSet<String>),
}

impl Rule {
    /// Allows it to local clients, and to no VM.
    pub fn local() -> Self {
        Self { local: true, vms: Vms::Only(BTreeSet::new()) }
    }

    /// Allows it to clients of no VM but these, and not to local ones.
    pub fn vms<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self { local: false, vms: Vms::Only(names.into_iter().map(Into::into).collect()) }
    }

    /// Allows it to local clients and those of all VMs.
    pub fn everybody() -> Self {
        Self { local: true, vms: Vms::AllBut(BTreeSet::new()) }
    }

    /// Allows it to local clients, too.
    #[must_use]
    pub fn and_local(mut self) -> Self {
        self.local = true;
        self
    }

    /// Denies it to local clients.
    #[must_use]
    pub fn but_local(mut self) -> Self {
        self.local = false;
        self
    }

    /// Allows it to clients of this VM, too.
    #[must_use]
    pub fn and_vm(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        match &mut self.vms {
            Vms::Only(names) => drop(names.insert(name)),
            Vms::AllBut(names) => drop(names.remove(&name)),
        }
        self
    }

    /// Denies it to clients of this VM.
    #[must_use]
    pub fn but_vm(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        match &mut self.vms {
            Vms::Only(names) => drop(names.remove(&name)),
            Vms::AllBut(names) => drop(names.insert(name)),
        }
        self
    }

    /// Whether a client is allowed it.
    pub fn allows(&self, client: &Client) -> bool {
        client.get_data::<ClientState>().is_some_and(|state| self.allows_peer(state.peer()))
    }

    /// The same of a client that is known by its [`Peer`], or is local.
    pub fn allows_peer(&self, peer: Option<&Peer>) -> bool {
        match (peer, &self.vms) {
            (None, _) => self.local,
            (Some(peer), Vms::Only(names)) => names.contains(&peer.vm),
            (Some(peer), Vms::AllBut(names)) => !names.contains(&peer.vm),
        }
    }

    /// The rule as what smithay's `new_with_filter` functions take, and those of `new` that have a filter.
    pub fn filter(self) -> impl for<'c> Fn(&'c Client) -> bool + Send + Sync + 'static {
        move |client| self.allows(client)
    }
}
