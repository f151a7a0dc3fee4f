//! The ways from a client to the sink that are compared.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A way from a client to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Path {
    /// The client connects to the sink's own socket.
    Direct,
    /// So many bare relays are between them.
    Relays(u8),
    /// wlproxy, for a client that draws into memory that the compositor VM sees, without knowing it.
    ZeroCopy(Isolation),
    /// wlproxy, which copies what a client has drawn.
    Shadow(Isolation),
    /// wlproxy with zero copies, and a sink that links the shim: nobody serves beside it.
    Linked(Isolation),
    /// waypipe.
    Waypipe(Compression),
    /// A compositor of `examples/` in the place of the sink.
    Example(Example, Way),
}

/// A compositor of `examples/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Example {
    /// The one that is made with smithay, and links the shim as a crate.
    Smithay,
    /// The one that is made with libwayland, and links the shim as a C library.
    Libwayland,
}

/// How a client comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// It connects to its own socket.
    Direct,
    /// wlproxy, and `serve` beside the compositor.
    Serve(Isolation),
    /// wlproxy, and the compositor links the shim.
    Shim(Isolation),
}

/// `isolation` in the configuration of wlproxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isolation {
    /// Each VM has a worker process of its own.
    Process,
    /// The workers are threads of wlproxy.
    None,
}

/// What waypipe does to what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Nothing.
    None,
    /// LZ4.
    Lz4,
}

impl Isolation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Process, Self::None];

    /// As it stands in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::None => "none",
        }
    }

    /// Bare relays that are as many processes.
    pub fn relays(self) -> Path {
        match self {
            // run, two workers, serve.
            Self::Process => Path::Relays(4),
            // run, wlproxy, serve.
            Self::None => Path::Relays(3),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "isolated",
            Self::None => "one process",
        })
    }
}

impl Example {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Smithay, Self::Libwayland];

    /// Its name in files and on command lines.
    pub fn key(self) -> &'static str {
        match self {
            Self::Smithay => "smithay",
            Self::Libwayland => "libwayland",
        }
    }
}

/// How it links the shim.
impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smithay => "smithay",
            Self::Libwayland => "C",
        })
    }
}

impl Compression {
    /// Both.
    pub const ALL: [Self; 2] = [Self::None, Self::Lz4];

    /// As waypipe is told.
    pub fn key(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
        }
    }
}

impl Path {
    /// All that lead to the sink, in the order of the tables.
    pub const ALL: [Self; 12] = [
        Self::Direct,
        Self::Relays(2),
        Self::Relays(3),
        Self::Relays(4),
        Self::ZeroCopy(Isolation::None),
        Self::ZeroCopy(Isolation::Process),
        Self::Shadow(Isolation::None),
        Self::Shadow(Isolation::Process),
        Self::Linked(Isolation::None),
        Self::Linked(Isolation::Process),
        Self::Waypipe(Compression::None),
        Self::Waypipe(Compression::Lz4),
    ];

    /// Those to compositors of `examples/`, in the order of the tables.
    pub const EXAMPLES: [Self; 10] = [
        Self::Example(Example::Smithay, Way::Direct),
        Self::Example(Example::Smithay, Way::Serve(Isolation::None)),
        Self::Example(Example::Smithay, Way::Serve(Isolation::Process)),
        Self::Example(Example::Smithay, Way::Shim(Isolation::None)),
        Self::Example(Example::Smithay, Way::Shim(Isolation::Process)),
        Self::Example(Example::Libwayland, Way::Direct),
        Self::Example(Example::Libwayland, Way::Serve(Isolation::None)),
        Self::Example(Example::Libwayland, Way::Serve(Isolation::Process)),
        Self::Example(Example::Libwayland, Way::Shim(Isolation::None)),
        Self::Example(Example::Libwayland, Way::Shim(Isolation::Process)),
    ];

    /// The direct path to the same compositor.
    pub fn direct(self) -> Self {
        match self {
            Self::Example(example, _) => Self::Example(example, Way::Direct),
            _ => Self::Direct,
        }
    }

    /// How isolated the host is, if nothing of what a client draws has to be copied on the way.
    pub fn zero_copy(self) -> Option<Isolation> {
        match self {
            Self::ZeroCopy(isolation) | Self::Linked(isolation) => Some(isolation),
            Self::Example(_, Way::Serve(isolation) | Way::Shim(isolation)) => Some(isolation),
            _ => None,
        }
    }

    /// Those that differ where no pixels are drawn: zero copies or one make no difference there.
    pub fn without_pixels() -> Vec<Self> {
        Self::ALL.into_iter().filter(|path| !matches!(path, Self::ZeroCopy(_))).collect()
    }

    /// Bare relays that are as many processes, if this isn't those, and there are any.
    pub fn relays(self) -> Option<Self> {
        match self {
            // Relays lead to the sink, which answers faster than another compositor.
            Self::Direct | Self::Relays(_) | Self::Example(..) => None,
            Self::ZeroCopy(isolation) | Self::Shadow(isolation) => Some(isolation.relays()),
            // The same without serve.
            Self::Linked(Isolation::Process) => Some(Self::Relays(3)),
            Self::Linked(Isolation::None) => Some(Self::Relays(2)),
            // Its client's side and its server's, each with a process for the connection.
            Self::Waypipe(_) => Some(Self::Relays(2)),
        }
    }

    /// Its name in files and on command lines.
    pub fn key(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Relays(count) => format!("relays-{count}"),
            Self::ZeroCopy(isolation) => format!("zero-copy-{}", isolation.key()),
            Self::Shadow(isolation) => format!("shadow-{}", isolation.key()),
            Self::Linked(isolation) => format!("shim-{}", isolation.key()),
            Self::Waypipe(compression) => format!("waypipe-{}", compression.key()),
            Self::Example(example, way) => match way {
                Way::Direct => format!("{}-direct", example.key()),
                Way::Serve(isolation) => format!("{}-serve-{}", example.key(), isolation.key()),
                Way::Shim(isolation) => format!("{}-shim-{}", example.key(), isolation.key()),
            },
        }
    }
}

/// Its name for people.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Relays(count) => write!(f, "{count} bare relays"),
            Self::ZeroCopy(isolation) => write!(f, "zero-copy, {isolation}"),
            Self::Shadow(isolation) => write!(f, "shadow, {isolation}"),
            Self::Linked(isolation) => write!(f, "shim, {isolation}"),
            Self::Waypipe(compression) => write!(f, "waypipe -c {}", compression.key()),
            Self::Example(example, way) => match way {
                Way::Direct => write!(f, "direct ({example})"),
                Way::Serve(isolation) => write!(f, "serve ({example}), {isolation}"),
                Way::Shim(isolation) => write!(f, "shim ({example}), {isolation}"),
            },
        }
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.key()
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(key: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().chain(Self::EXAMPLES).find(|path| path.key() == key);
        found.ok_or_else(|| format!("there is no path {key:?}"))
    }
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        key.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for path in Path::ALL.into_iter().chain(Path::EXAMPLES) {
            assert_eq!(path.key().parse(), Ok(path));
            assert!(path.relays().is_none_or(|relays| Path::ALL.contains(&relays)), "{path}");
        }
        assert!("relays-9".parse::<Path>().is_err());
    }

    #[test]
    fn every_example_has_every_way() {
        for example in Example::ALL {
            let paths: Vec<Path> = Path::EXAMPLES
                .into_iter()
                .filter(|path| path.direct() == Path::Example(example, Way::Direct))
                .collect();
            assert_eq!(paths.len(), 1 + 2 * Isolation::ALL.len(), "{example}");
            for way in [Way::Serve, Way::Shim] {
                for isolation in Isolation::ALL {
                    assert!(paths.contains(&Path::Example(example, way(isolation))), "{example}");
                }
            }
        }
    }

    #[test]
    fn examples_are_told_by_how_they_link_the_shim() {
        let name = |example| Path::Example(example, Way::Shim(Isolation::None)).to_string();
        assert_eq!(name(Example::Smithay), "shim (smithay), one process");
        assert_eq!(name(Example::Libwayland), "shim (C), one process");
    }
}
