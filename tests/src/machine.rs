//! What a VM is: the one place where the channels that the suite runs over differ.
//!
//! Everything else says what runs in which VM, and leaves the how to a [`Machine`]. Another channel is another
//! implementation of that, and another name in [`Channel`].

mod process;

use crate::Process;
use process::ProcessMachine;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The environment variable that names the channel.
const CHANNEL: &str = "WLPROXY_TEST_CHANNEL";

/// A VM of a desk.
///
/// It shows its programs the host's files, the desk's folder among them, under the same paths. It is there from the
/// start, also before wlproxy is.
pub(crate) trait Machine: Debug + Send + Sync {
    /// The `--channel` of an agent in it.
    fn channel(&self) -> OsString;

    /// A command of the host's that runs `program` in it. Its stdin and stdout, the signals that it gets and its exit
    /// status are the program's.
    fn inside(&self, program: Command) -> Command;

    /// Where the host reaches what is at `path` in it: a socket to be connected to, or a file that was made there.
    fn reach(&self, path: &Path) -> PathBuf;

    /// The process of the host that holds what `program` holds, which runs in it: what is counted for leaks, and
    /// whose memory is measured.
    fn holder(&self, program: &Process) -> u32;
}

/// A channel that the suite runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// VMs without a hypervisor: an agent plays its VM, and what runs in that runs on the host.
    Process,
}

impl Channel {
    const ALL: [Self; 1] = [Self::Process];

    /// That of this run: [`CHANNEL`] names it.
    ///
    /// # Panics
    /// If there is none of that name.
    pub(crate) fn chosen() -> Self {
        Self::named(env::var_os(CHANNEL).as_deref()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn named(name: Option<&OsStr>) -> Result<Self, String> {
        let Some(name) = name else { return Ok(Self::Process) };
        let found = Self::ALL.into_iter().find(|channel| name == channel.name());
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{CHANNEL}={}: no such channel, the suite runs over {known}", name.display())
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
        }
    }

    /// Makes a VM. wlproxy's socket for it is, or will be, at `device`.
    pub(crate) fn machine(self, device: PathBuf) -> Arc<dyn Machine> {
        match self {
            Self::Process => Arc::new(ProcessMachine { device }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_known_by_its_name_and_another_is_refused() {
        for channel in Channel::ALL {
            assert_eq!(Channel::named(Some(channel.name().as_ref())), Ok(channel));
        }
        assert_eq!(Channel::named(None), Ok(Channel::Process));
        for other in ["", "Process", "virtgpu"] {
            let why = Channel::named(Some(other.as_ref())).unwrap_err();
            assert!(why.contains(&format!("={other}: ")) && why.contains("process"), "{why}");
        }
    }
}
