//! Which globals the clients of one VM are offered.

use super::tables::{self, Class};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// The interfaces of globals that may be offered, each with the highest version.
///
/// Whatever is in no table, or can't cross, is never in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer(BTreeMap<&'static str, u32>);

/// Why an interface can't be offered in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It is in no table.
    #[error("no such interface is known")]
    Unknown,
    /// It doesn't work between two VMs.
    #[error("{0}")]
    CannotCross(&'static str),
    /// The version is 0 or above what the tables know.
    #[error("its versions are 1 to {0}")]
    Version(u32),
}

impl Offer {
    /// Everything that crosses.
    pub fn everything() -> Arc<Self> {
        static EVERYTHING: LazyLock<Arc<Offer>> =
            LazyLock::new(|| Arc::new(Offer::of(&[Class::Safe, Class::Privileged])));
        EVERYTHING.clone()
    }

    /// What concerns the client's own windows alone.
    pub fn safe() -> Self {
        Self::of(&[Class::Safe])
    }

    /// Nothing at all.
    pub fn nothing() -> Self {
        Self::default()
    }

    fn of(classes: &[Class]) -> Self {
        let globals = tables::globals().filter(|global| classes.contains(&global.class));
        Self(globals.map(|global| (global.interface.name, global.version)).collect())
    }

    /// The highest version that may be offered of an interface, if any may.
    pub fn version(&self, interface: &str) -> Option<u32> {
        self.0.get(interface).copied()
    }

    /// Every interface in it, with its version, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter().map(|(&interface, &version)| (interface, version))
    }

    /// Offers an interface up to `version`, or up to the newest one that is known.
    pub fn add(&mut self, interface: &str, version: Option<u32>) -> Result<(), OfferError> {
        let global = tables::global(interface).ok_or(OfferError::Unknown)?;
        if global.class == Class::CannotCross {
            return Err(OfferError::CannotCross(global.reason));
        }
        let version = version.unwrap_or(global.version);
        if !(1..=global.version).contains(&version) {
            return Err(OfferError::Version(global.version));
        }
        self.0.insert(global.interface.name, version);
        Ok(())
    }

    /// Doesn't offer an interface.
    pub fn remove(&mut self, interface: &str) {
        self.0.remove(interface);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_safe_ones_are_fewer_than_all_that_cross() {
        let (safe, everything) = (Offer::safe(), Offer::everything());
        assert_eq!(safe.version("wl_shm"), everything.version("wl_shm"));
        for privileged in ["zwlr_layer_shell_v1", "ext_data_control_manager_v1"] {
            assert_eq!(safe.version(privileged), None, "{privileged}");
            assert!(everything.version(privileged).is_some(), "{privileged}");
        }
        for stuck in ["zwp_linux_dmabuf_v1", "wp_security_context_manager_v1", "wl_drm"] {
            assert_eq!(everything.version(stuck), None, "{stuck}");
        }
        assert_eq!(Offer::nothing().iter().count(), 0);
    }

    #[test]
    fn versions_are_checked() {
        let mut offer = Offer::nothing();
        assert_eq!(offer.add("wl_output", None), Ok(()));
        let newest = offer.version("wl_output").unwrap();
        assert_eq!(offer.add("wl_output", Some(2)), Ok(()));
        assert_eq!(offer.version("wl_output"), Some(2));
        for version in [0, newest + 1] {
            assert_eq!(
                offer.add("wl_output", Some(version)),
                Err(OfferError::Version(newest)),
                "{version}"
            );
        }
        assert_eq!(offer.add("wl_drm", None), Err(OfferError::Unknown));
        assert!(matches!(offer.add("zwp_linux_dmabuf_v1", None), Err(OfferError::CannotCross(_))));
        offer.remove("wl_output");
        assert_eq!(offer, Offer::nothing());
    }
}
