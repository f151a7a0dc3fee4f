//! The globals that one compositor advertised to one client.

use super::tables;
use std::collections::HashMap;
use wayland_backend::protocol::Interface;

/// Most globals that are remembered of one compositor. Real ones have some fifty; each output and seat adds one.
const MAX_GLOBALS: usize = 4096;

/// Which globals a client may bind, by name.
///
/// Only what is in the tables and crosses is offered, with a version that the tables know.
#[derive(Debug, Default)]
pub struct Globals {
    offered: HashMap<u32, (&'static Interface, u32)>,
}

/// Why a `wl_registry.bind` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// No such global was offered.
    #[error("global {0} was not offered")]
    Name(u32),
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
    /// The compositor advertises a global. Returns the version to offer, or `None` to hide it.
    pub fn advertise(&mut self, name: u32, interface: &str, version: u32) -> Option<u32> {
        let global = tables::global(interface).filter(|global| global.crosses.is_ok())?;
        if self.offered.len() >= MAX_GLOBALS && !self.offered.contains_key(&name) {
            return None;
        }
        let version = version.min(global.interface.version);
        self.offered.insert(name, (global.interface, version));
        Some(version)
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
        let &(known, offered) = self.offered.get(&name).ok_or(BindError::Name(name))?;
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
        assert_eq!(globals.bind(2, b"zwp_linux_dmabuf_v1", 1).unwrap_err(), BindError::Name(2));
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
}
