//! Which VMs there are.

use std::fmt;

/// A VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Vm {
    /// The compositor VM.
    Gui,
    /// A client VM.
    Work,
    /// Another one.
    Untrusted,
}

impl Vm {
    /// All of them. The compositor VM is first, since it has most to do at its start.
    pub(crate) const ALL: [Self; 3] = [Self::Gui, Self::Work, Self::Untrusted];

    /// The client VMs.
    pub(crate) const CLIENTS: [Self; 2] = [Self::Work, Self::Untrusted];

    /// That of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vm| vm.name() == name)
    }

    /// Its name, with which wlproxy and it itself call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gui => "gui",
            Self::Work => "work",
            Self::Untrusted => "untrusted",
        }
    }

    /// The usual parts in it, by name.
    pub(crate) fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Gui => &["sway", "serve"],
            Self::Work | Self::Untrusted => &["run"],
        }
    }
}

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
