//! What a VM has to do with us.

use super::Dialect;
use wlproxy_protocol::accept::Ways;

/// Which device a VM has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of ours, whose driver speaks this dialect.
    Virtio(Dialect),
    /// Somebody else's, which dials our socket once for each context.
    Socket,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Virtio(Dialect::default())
    }
}

impl From<Dialect> for Kind {
    fn from(dialect: Dialect) -> Self {
        Self::Virtio(dialect)
    }
}

impl Kind {
    /// All names in the configuration, as a message lists them.
    pub const NAMES: &str = "\"virtio_wl\", \"virtgpu\" or \"socket\"";

    /// How the compositor VM opens accepted streams with it.
    pub(crate) fn ways(self) -> Ways {
        match self {
            Self::Virtio(dialect) => dialect.ways(),
            Self::Socket => Ways::DIAL_BACK,
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio(dialect) => dialect.name(),
            Self::Socket => "socket",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Dialect::VirtioWl.into(), Dialect::Virtgpu.into(), Self::Socket];
        all.into_iter().find(|kind| kind.name() == name)
    }
}
