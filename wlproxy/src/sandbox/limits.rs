//! Limits of a process, of setrlimit(2).

use crate::device::Side;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Most bytes of its own that a client VM's worker may have, beside the memory that VMs share: twice what all of a VM's
/// contexts may have in their queues (1,024 of 1 MiB each, `protocol::limits`). Beyond that it ends, and is started again.
const CLIENT_MEMORY: u64 = 2 << 30;

/// The same of the compositor VM's, which has the clients of all VMs, and so may have twice as many contexts
/// (`virtio_wl::MAX_DRIVER_ID`).
const COMPOSITOR_MEMORY: u64 = 4 << 30;

/// For a worker.
pub(super) fn of_worker(side: Side) -> io::Result<()> {
    common()?;
    let memory = match side {
        Side::Client => CLIENT_MEMORY,
        Side::Compositor => COMPOSITOR_MEMORY,
    };
    lower(Resource::RLIMIT_DATA, memory)
}

/// For wlproxy, which may have workers' threads in it.
pub(super) fn of_wlproxy() -> io::Result<()> {
    common()
}

/// No core dump holds what was on somebody's screen, and no more files may be open than now.
fn common() -> io::Result<()> {
    lower(Resource::RLIMIT_CORE, 0)?;
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    lower(Resource::RLIMIT_NOFILE, files)
}

/// Never raises it.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    Ok(setrlimit(resource, limit, limit)?)
}
