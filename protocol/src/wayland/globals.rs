//! The globals that one compositor advertised to one client.

use super::offer::Offer;
use super::tables;
use std::collections::HashMap;
use std::sync::Arc;
use wayland_backend::protocol::Interface;

/// Most globals that are remembered of one compositor. Real ones have some fifty; each output and seat adds one.
const MAX_GLOBALS: usize = 4096;

/// Which globals a client may bind, by name.
///
/// Only what is in an [`Offer`] is offered, with a version that it has.
#[derive(Debug)]
pub struct Globals {
    offer: Arc<Offer>,
    offered: HashMap<u32, (&'static Interface, u32)>,
}

impl Default for Globals {
    fn default() -> Self {
        Self::new(Offer::everything())
    }
}

/// Why a `wl_registry.bind` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// No such global was offered.
    #[error("global {name}{} was not offered", wanted.map(|wanted| format!(", {wanted},")).unwrap_or_default())]
    Name {
        /// The global's name.
        name: u32,
        /// The interface that the client asks for, if it is one that we know.
        wanted: Option<&'static str>,
    },
    /// The global has another interface.
    #[error("global {name} is a {interface}")]
    Interface {
        /// The global's name.
        name: u32,
        /// What it is.
        interface: &'static str,
    },
    /// The version is 0 or above what was offered.
    #[error("version {version} of {interface}, which has 1 to {offered}")]
    Version {
        /// What it is.
        interface: &'static str,
        /// What was asked for.
        version: u32,
        /// What was offered.
        offered: u32,
    },
}

impl Globals {
    /// None yet; of those that come, what is in `offer` is offered.
    pub fn new(offer: Arc<Offer>) -> Self {
        Self { offer, offered: HashMap::new() }
    }

    /// The compositor advertises a global. Returns the version to offer, or `None` to hide it.
    pub fn advertise(&mut self, name: u32, interface: &str, version: u32) -> Option<u32> {
        let offered = self.choose(interface, version);
        let is_known = self.offered.contains_key(&name);
        match offered {
            Some((interface, version)) if is_known || self.offered.len() < MAX_GLOBALS => {
                self.offered.insert(name, (interface, version));
                Some(version)
            }
            // A name that meant something else before doesn't stand for this.
            _ => {
                self.offered.remove(&name);
                None
            }
        }
    }

    fn choose(&self, interface: &str, version: u32) -> Option<(&'static Interface, u32)> {
        let highest = self.offer.version(interface)?;
        let interface = tables::global(interface)?.interface;
        Some((interface, version.min(highest)))
    }

    /// The compositor removes a global. Returns whether the client knows it.
    ///
    /// It stays bindable: the client may not have heard of it, and the compositor has to cope.
    pub fn is_offered(&self, name: u32) -> bool {
        self.offered.contains_key(&name)
    }

    /// The client binds a global.
    pub fn bind(
        &self,
        name: u32,
        interface: &[u8],
        version: u32,
    ) -> Result<&'static Interface, BindError> {
        let Some(&(known, offered)) = self.offered.get(&name) else {
            // Nothing of the client's own text gets into a message.
            let wanted = std::str::from_utf8(interface).ok().and_then(tables::global);
            return Err(BindError::Name { name, wanted: wanted.map(|it| it.interface.name) });
        };
        if known.name.as_bytes() != interface {
            return Err(BindError::Interface { name, interface: known.name });
        }
        if !(1..=offered).contains(&version) {
            return Err(BindError::Version { interface: known.name, version, offered });
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_crosses_is_offered_and_bound() {
        let mut globals = Globals::default();
        assert_eq!(globals.advertise(1, "wl_compositor", 4), Some(4));
        assert_eq!(globals.advertise(2, "zwp_linux_dmabuf_v1", 4), None);
        assert_eq!(globals.advertise(3, "some_private_v1", 1), None);
        assert_eq!(globals.bind(1, b"wl_compositor", 4).unwrap().name, "wl_compositor");
        let refused = globals.bind(2, b"zwp_linux_dmabuf_v1", 1).unwrap_err();
        let wanted = Some("zwp_linux_dmabuf_v1");
        assert_eq!(refused, BindError::Name { name: 2, wanted });
        assert_eq!(refused.to_string(), "global 2, zwp_linux_dmabuf_v1, was not offered");
        let refused = globals.bind(9, b"not \x1b known", 1).unwrap_err();
        assert_eq!(refused.to_string(), "global 9 was not offered");
        assert!(matches!(globals.bind(1, b"wl_shm", 1), Err(BindError::Interface { .. })));
        for version in [0, 5] {
            assert!(matches!(
                globals.bind(1, b"wl_compositor", version),
                Err(BindError::Version { .. })
            ));
        }
    }

    #[test]
    fn versions_are_capped_by_the_tables() {
        let offered = Globals::default().advertise(1, "wl_seat", 1000).unwrap();
        assert_eq!(offered, tables::global("wl_seat").unwrap().interface.version);
    }
    #[test]
    fn only_what_is_in_the_offer_is_offered() {
        let mut offer = Offer::safe();
        offer.add("wl_output", Some(2)).unwrap();
        let mut globals = Globals::new(Arc::new(offer));
        assert_eq!(globals.advertise(1, "zwlr_layer_shell_v1", 4), None);
        assert!(!globals.is_offered(1));
        let refused = globals.bind(1, b"zwlr_layer_shell_v1", 1).unwrap_err();
        assert_eq!(refused.to_string(), "global 1, zwlr_layer_shell_v1, was not offered");
        assert_eq!(globals.advertise(2, "wl_output", 4), Some(2));
        assert!(globals.bind(2, b"wl_output", 2).is_ok());
        let refused = globals.bind(2, b"wl_output", 3).unwrap_err();
        assert_eq!(refused.to_string(), "version 3 of wl_output, which has 1 to 2");
    }

    #[test]
    fn a_name_that_comes_again_for_something_hidden_is_not_offered_any_more() {
        let mut globals = Globals::default();
        globals.advertise(1, "wl_output", 4).unwrap();
        assert_eq!(globals.advertise(1, "zwp_linux_dmabuf_v1", 4), None);
        assert!(globals.bind(1, b"wl_output", 1).is_err());
    }
}
