//! `wlproxy top`: the status, live in a terminal.
//!
//! | part | what it does |
//! |---|---|
//! | this file | the terminal, and asking once a second |
//! | `model` | what was told last and before, and the rates between (pure) |
//! | `screen` | how it looks (pure) |

mod model;
mod screen;

use crate::ask::Ask;
use crate::status::Status;
use anyhow::{Context as _, Result, bail};
use model::Model;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::{IsTerminal as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often wlproxy is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// How soon an answer or a signal is seen. Keys are seen at once.
const TICK: Duration = Duration::from_millis(100);

/// What wlproxy said, or why it said nothing.
type Answer = Result<Status, String>;

/// Shows the status of the wlproxy behind `control_socket` until the user has seen enough.
pub fn run(control_socket: &Path) -> Result<()> {
    if !(stdin().is_terminal() && stdout().is_terminal()) {
        bail!("top needs a terminal; use `wlproxy status` to print the numbers once");
    }
    // Before any thread is started, so that all of them leave these signals alone.
    let signals = take_signals().context("can't take signals")?;
    let answers = ask_on_and_on(control_socket.to_owned())?;
    // Failed half-way, it leaves behind what it has done.
    let mut terminal = ratatui::try_init()
        .inspect_err(|_| ratatui::restore())
        .context("can't take over the terminal")?;
    let shown = show(&mut terminal, &answers, &signals);
    ratatui::restore();
    shown
}

/// The signals that end this. They are taken, not obeyed, so that the terminal is given back first.
fn take_signals() -> nix::Result<SignalFd> {
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    ends.thread_block()?;
    SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// On a thread of its own: a wlproxy that is stopped lets nobody wait but this.
fn ask_on_and_on(control_socket: PathBuf) -> Result<Receiver<(Answer, Instant)>> {
    let (send, receive) = sync_channel(1);
    thread::Builder::new().name("ask".to_owned()).spawn(move || {
        loop {
            let due = Instant::now() + PERIOD;
            if send.send((ask(&control_socket), Instant::now())).is_err() {
                return;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    })?;
    Ok(receive)
}

fn ask(control_socket: &Path) -> Answer {
    let answer = Ask::Status.send(control_socket).map_err(|error| format!("{error:#}"))?;
    serde_json::from_str(&answer.0).map_err(|_| "wlproxy speaks another version".to_owned())
}

fn show(
    terminal: &mut DefaultTerminal,
    answers: &Receiver<(Answer, Instant)>,
    signals: &SignalFd,
) -> Result<()> {
    let mut model = Model::default();
    let mut changed = true;
    while signals.read_signal()?.is_none() {
        while let Ok((answer, at)) = answers.try_recv() {
            model.update(answer, at);
            changed = true;
        }
        if changed {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            terminal.draw(|frame| screen::draw(frame, &model, now))?;
        }
        changed = event::poll(TICK)?;
        if changed {
            match event::read()? {
                Event::Key(key) if ends(key) => return Ok(()),
                // A resize, or something that doesn't concern us.
                _ => {}
            }
        }
    }
    Ok(())
}

fn ends(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
    let leaves = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || control_c;
    leaves && key.kind == KeyEventKind::Press
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn signals_are_taken_one_by_one() {
        let signals = take_signals().unwrap();
        assert_eq!(signals.read_signal(), Ok(None));
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            raise(signal).unwrap();
            assert!(signals.read_signal().unwrap().is_some(), "{signal}");
            assert_eq!(signals.read_signal(), Ok(None));
        }
    }

    #[test]
    fn who_has_seen_enough_can_leave() {
        let key = |code, modifiers| ends(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
