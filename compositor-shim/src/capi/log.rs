//! What the shim logs, handed to a function of the compositor's.
//!
//! A process can have one subscriber of `tracing`, and a library isn't to choose it. So each shim has its own, which hears
//! what happens while one of the shim's functions runs; what a channel's threads log is not heard. It only writes down:
//! the compositor's function is called when nothing of ours is in use, so that it may call whatever it likes.

#![allow(unsafe_code)] // Calls a function of C.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, level_filters::LevelFilter};

/// Most lines that wait, later ones are lost: those of one call, or those that were logged before anybody listened. A
/// call has 64 events at once, and few of them are worth a line.
const MAX_LINES: usize = 256;

/// How much a line of the log matters.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)] // As C names them.
pub enum LogLevel {
    /// Something is wrong with the shim itself.
    WLPROXY_SHIM_LOG_ERROR = 1,
    /// Somebody notices: clients are disconnected, or one couldn't be accepted.
    WLPROXY_SHIM_LOG_WARNING = 2,
    /// For everybody who looks into a log: the host is there, or it is waited for, and why.
    WLPROXY_SHIM_LOG_INFO = 3,
    /// For who looks for a fault: each client that comes or goes.
    WLPROXY_SHIM_LOG_DEBUG = 4,
}

/// The compositor's function.
pub(super) type LogFn =
    unsafe extern "C" fn(data: *mut c_void, level: LogLevel, text: *const c_char);

/// Where lines go.
#[derive(Clone, Copy)]
enum Hook {
    /// To whom is set later.
    Unset,
    /// To nobody.
    None,
    /// To a function.
    Function(LogFn, *mut c_void),
}

/// Lines that nobody was told of.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<(LogLevel, CString)>>>);

impl Lines {
    fn get(&self) -> MutexGuard<'_, VecDeque<(LogLevel, CString)>> {
        // Nothing panics with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shim's log.
pub(super) struct Log {
    hook: Cell<Hook>,
    lines: Lines,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { hook: Cell::new(Hook::Unset), lines: Lines::default() }
    }

    /// What hears, as long as it is the default.
    pub(super) fn dispatch(&self) -> Dispatch {
        Dispatch::new(Ear(self.lines.clone()))
    }

    /// Lines go to `log` from now on.
    pub(super) fn set(&self, log: Option<LogFn>, data: *mut c_void) {
        self.hook.set(log.map_or(Hook::None, |log| Hook::Function(log, data)));
    }

    /// Tells the compositor what it wasn't told of.
    pub(super) fn tell(&self) {
        // What it is told may let it set another one.
        while let Hook::Function(log, data) = self.hook.get() {
            let line = self.lines.get().pop_front();
            let Some((level, text)) = line else { return };
            // SAFETY: the compositor has set both for this call; the text lives until it returns.
            unsafe { log(data, level, text.as_ptr()) };
        }
        if let Hook::None = self.hook.get() {
            self.lines.get().clear();
        }
    }
}

/// The subscriber. Nothing of ours has spans.
struct Ear(Lines);

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut lines = self.0.get();
        if lines.len() < MAX_LINES {
            lines.push_back((level(*event.metadata().level()), text(line.0)));
        }
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// The message, and then what it is about: `the client has left meanwhile connection=work:7`.
#[derive(Default)]
struct Line(String);

impl Line {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing into a String doesn't fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value}{rest}")
            }
            name => write!(self.0, " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::WLPROXY_SHIM_LOG_ERROR,
        Level::WARN => LogLevel::WLPROXY_SHIM_LOG_WARNING,
        Level::INFO => LogLevel::WLPROXY_SHIM_LOG_INFO,
        Level::DEBUG | Level::TRACE => LogLevel::WLPROXY_SHIM_LOG_DEBUG,
    }
}

/// As C has texts: it ends where a NUL would be.
pub(super) fn text(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}
