//! A deadline for what is said over a socket. The vhost crate waits for answers for ever, also on a socket with a timeout.

use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Does `work`, which talks over `connection`. If that takes longer than `patience`, the connection is shut down, so that
/// the work ends, and `None` is returned.
///
/// Fails if this process is out of threads.
pub(super) fn within<T>(
    connection: BorrowedFd<'_>,
    patience: Duration,
    work: impl FnOnce() -> T,
) -> io::Result<Option<T>> {
    let (done, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = move || {
            let late = end.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
            }
            late
        };
        let watch = thread::Builder::new().name("deadline".into()).spawn_scoped(scope, watch)?;
        let result = work();
        drop(done);
        let late = watch.join().expect("it doesn't panic");
        Ok((!late).then_some(result))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_takes_too_long_ends() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let connection = ours.try_clone().unwrap();
        let late = within(connection.as_fd(), Duration::from_millis(1), || ours.read(&mut [0]));
        assert!(late.unwrap().is_none());
    }

    #[test]
    fn what_is_in_time_stays() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(within(ours.as_fd(), Duration::from_secs(60), || 5).unwrap(), Some(5));
        ours.set_nonblocking(true).unwrap();
        let open = (&ours).read(&mut [0]).unwrap_err();
        assert_eq!(open.kind(), io::ErrorKind::WouldBlock, "it is still connected");
    }
}
