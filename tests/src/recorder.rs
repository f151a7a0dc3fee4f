//! A compositor of the harness's own, without a screen, that tells its clients what it sees: so a client alone can say
//! whether all of it has arrived, wherever the two run.
//!
//! | a client | and hears |
//! |---|---|
//! | commits a surface with a wl_buffer | its frame callbacks are done at once |
//! | commits one without attaching anything | they are done with the [`Digest`] of what the surface shows, row by row |
//! | sets a title | a configure, as [`answer_to_title`] has it |
//! | gets a keyboard | [`keymap`], which is too long for a socket's message |
//!
//! It keeps the wl_buffer that a surface shows, and releases the one before. What is copied it offers to everybody,
//! whoever has the focus.

mod protocol;

use crate::{Digest, Flood};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use protocol::State;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use wayland_server::Display;

/// Bytes of the keymap: real ones have 40,000 to 70,000.
const KEYMAP: usize = 60_000;

/// Most bytes of a title that come back: with them an event has 4,096, as long as one may be.
const ECHO: usize = 4096 - 8 - 2 * 4 - 4;

/// What every keyboard gets. It isn't one that types anything.
pub fn keymap() -> Vec<u8> {
    let mut text = b"xkb_keymap ".to_vec();
    text.extend(
        Flood::new(5).take(KEYMAP - text.len() - 1).into_iter().map(|byte| b' ' + byte % 95),
    );
    text.push(0);
    text
}

/// What a toplevel with this title is configured with: width and height, which are its length and its digest, and the
/// states, which are its first bytes.
pub fn answer_to_title(title: &str) -> ((i32, i32), Vec<u8>) {
    let bytes = title.as_bytes();
    let digest = Digest::of(bytes) & i32::MAX as u32;
    ((bytes.len() as i32, digest as i32), bytes[..bytes.len().min(ECHO)].to_vec())
}

/// Serves clients at `socket` until SIGTERM.
///
/// # Errors
/// If it can't listen there.
pub fn main(socket: &Path) -> Result<()> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("can't listen at {}", socket.display()))?;
    listener.set_nonblocking(true)?;
    let mut display: Display<State> = Display::new()?;
    protocol::advertise(&display.handle());
    let mut state = State::default();
    loop {
        wait(&signals, &listener, &mut display)?;
        if signals.read_signal()?.is_some() {
            return fs::remove_file(socket).context("the socket is gone");
        }
        accept(&listener, &display)?;
        display.dispatch_clients(&mut state)?;
        display.flush_clients()?;
    }
}

/// Waits until there is something to do.
fn wait(signals: &SignalFd, listener: &UnixListener, display: &mut Display<State>) -> Result<()> {
    let backend = display.backend();
    let fds = [signals.as_fd(), listener.as_fd(), backend.poll_fd()];
    match poll(&mut fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes all clients that wait.
fn accept(listener: &UnixListener, display: &Display<State>) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((client, _)) => display.handle().insert_client(client, Arc::new(())).map(drop)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("can't accept a client"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keymap_is_text_with_a_zero_at_its_end() {
        let keymap = keymap();
        assert_eq!(keymap.len(), KEYMAP);
        assert!(keymap.starts_with(b"xkb_keymap ") && keymap.ends_with(b"\0"));
        assert!(keymap[..KEYMAP - 1].iter().all(|byte| (b' '..=b'~').contains(byte)));
    }

    #[test]
    fn titles_are_told_apart_beyond_what_comes_back() {
        let (long, other) = ("a".repeat(4083), format!("{}b", "a".repeat(4082)));
        let ((length, digest), states) = answer_to_title(&long);
        assert_eq!((length, states.len(), states.len() % 4), (4083, ECHO, 0));
        assert!(answer_to_title(&other) != ((length, digest), states));
        assert_eq!(answer_to_title("short").1, b"short");
    }
}
