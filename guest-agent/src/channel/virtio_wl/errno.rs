//! What an errno of the driver means.
//!
//! The driver makes one of every response of the device (`virtwl_resp_err` in its `virtio_wl.c`), and has some of its
//! own for what it couldn't ask.
//!
//! | errno | from | [`Error`] |
//! |---|---|---|
//! | `ENOMEM` | RESP_OUT_OF_MEMORY; or the VM has no memory | `OutOfMemory` |
//! | `ENOSPC` | the driver has no vfd id left: 2,047 are in use | `OutOfMemory` |
//! | `EBUSY` | NEW found no room on the OUT ring for a second | `OutOfMemory` |
//! | `ENOENT` | RESP_INVALID_ID | `NotFound` |
//! | `ENODEV` | RESP_ERR | `Refused`: the device works, what it was asked for failed |
//! | `EINVAL` | RESP_INVALID_TYPE; or the driver was asked for what there is not | `Refused` |
//! | `EPERM` | RESP_INVALID_FLAGS | `Refused` |
//! | `ENOTTY` | RESP_INVALID_CMD; or the fd isn't the driver's | `Refused` |
//! | `EPROTO` | any other response | `Refused` |
//! | `EAGAIN` | no thread could be started to send (ours, not the driver's, which is asked again) | `Refused` |
//! | `EMFILE`, `ENFILE` | the vfd was made, and found no fd in this process | `Refused` |
//! | `EMSGSIZE` | more than [`MAX_PENDING_FDS`] vfds arrived at once (ours, not the driver's) | `Refused` |
//! | `EIO` | the ring is broken: the device broke it, or is gone | `Lost` |
//!
//! The driver's own comment on RESP_ERR is that the device can't be relied on any more. But a device that can't open
//! one stream has no other response, neither crosvm's nor ours, and all others go on.

use super::Error;
use nix::errno::Errno;
use wlproxy_protocol::wayland::inbox::MAX_PENDING_FDS;

/// What NEW or SEND failed with.
pub(super) fn refusal(errno: Errno) -> Error {
    match errno {
        Errno::ENOMEM | Errno::ENOSPC | Errno::EBUSY => Error::OutOfMemory,
        Errno::ENOENT => Error::NotFound,
        Errno::EIO => Error::Lost("its ring is broken (EIO)".into()),
        errno => Error::Refused(reason(errno)),
    }
}

/// What RECV failed with: some of the stream is missing.
pub(super) fn loss(errno: Errno) -> Error {
    Error::Refused(format!("what arrived is lost: {}", reason(errno)))
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::EAGAIN => "no thread can be started (ulimit -u)".into(),
        Errno::ENODEV => "ERR (ENODEV)".into(),
        Errno::EINVAL => "INVALID_TYPE (EINVAL)".into(),
        Errno::EPERM => "INVALID_FLAGS (EPERM)".into(),
        Errno::ENOTTY => "INVALID_CMD (ENOTTY)".into(),
        Errno::EMFILE | Errno::ENFILE => {
            "there is no room for its fd: raise the limit of open files (ulimit -n)".into()
        }
        Errno::EMSGSIZE => format!("more than {MAX_PENDING_FDS} vfds came at once"),
        errno => errno.to_string(),
    }
}
