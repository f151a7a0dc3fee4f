//! What goes wrong.

use super::disk::{Disk, Full};
use super::{PARTS, Place, VMS};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;
use wlproxy_tests::{Arg, Desk, Dice, Part, Raw, message};

/// So many fds more than it has may a process still have, at most.
const SPARE: u32 = 4;

/// Clients that come while a process has no fds left.
const COMERS: usize = 20;

/// Questions whose answers nobody reads.
const QUESTIONS: usize = 50_000;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// A process is killed.
    Kill(Part),
    /// It is stopped for a while.
    Stop(Part),
    /// It may have only so many fds more for a while, and clients come.
    FewFds(Part, u32),
    /// A client of a VM floods it with questions, and reads no answer.
    Flood(&'static str),
    /// A client of a VM dies in a message.
    HalfMessage(&'static str),
    /// The disk with everybody's sockets and logs is full for a while.
    FullDisk,
}

impl Fault {
    pub(crate) fn roll(dice: &mut Dice, has_disk: bool) -> Self {
        let part = PARTS[dice.roll(PARTS.len() as u32) as usize];
        let vm = VMS[dice.roll(VMS.len() as u32) as usize];
        match dice.roll(10) {
            0..=2 => Self::Kill(part),
            3..=4 => Self::Stop(part),
            // The compositor isn't ours: what it does without fds is its own affair.
            5..=6 if part != Part::Compositor => Self::FewFds(part, dice.roll(SPARE) as u32),
            5..=7 => Self::Flood(vm),
            8 if has_disk => Self::FullDisk,
            _ => Self::HalfMessage(vm),
        }
    }

    /// The process that it concerns.
    pub(crate) fn part(self) -> Option<Part> {
        match self {
            Self::Kill(part) | Self::Stop(part) | Self::FewFds(part, _) => Some(part),
            Self::Flood(_) | Self::HalfMessage(_) | Self::FullDisk => None,
        }
    }

    /// Does it; what has to be done when it is over.
    pub(crate) fn happen(
        self,
        desk: &Desk,
        ids: &BTreeMap<String, Pid>,
        limits: &BTreeMap<String, u64>,
        disk: Option<&Disk>,
    ) -> Option<Undo> {
        let id = |part: Part| ids[&format!("{part:?}")];
        match self {
            Self::Kill(part) => {
                kill(id(part), Signal::SIGKILL).expect("it is killed once");
                None
            }
            Self::Stop(part) => {
                kill(id(part), Signal::SIGSTOP).expect("it lives");
                Some(Undo::Continue(id(part)))
            }
            Self::FewFds(part, spare) => {
                let before = limits[&format!("{part:?}")];
                let id = id(part);
                let has = fs::read_dir(format!("/proc/{id}/fd")).expect("it lives").count();
                let limit = has as u64 + u64::from(spare);
                set_soft_limit(id, limit);
                assert_eq!(soft_limit(id), limit, "prlimit has no say");
                let places = VMS.iter().map(|vm| Place::Vm(vm)).filter(|place| place.is_on(part));
                let comers = places.flat_map(|place| {
                    let display = place.display(desk);
                    (0..COMERS / VMS.len()).filter_map(move |_| Raw::try_connect(&display))
                });
                Some(Undo::Fds { id, before, _comers: comers.collect() })
            }
            Self::Flood(vm) => {
                let mut raw = Raw::try_connect(&desk.through(vm))?;
                let questions: Vec<u8> =
                    (0..QUESTIONS).flat_map(|_| message(1, 0, &[Arg::Uint(raw.id())])).collect();
                raw.send(&questions, []);
                Some(Undo::Leave { _client: raw })
            }
            Self::HalfMessage(vm) => {
                let mut raw = Raw::try_connect(&desk.through(vm))?;
                raw.send(&message(1, 0, &[Arg::Uint(9)])[..7], []);
                None
            }
            Self::FullDisk => Some(Undo::Free { _full: disk?.fill() }),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(f, "{part:?} killed"),
            Self::Stop(part) => write!(f, "{part:?} stopped"),
            Self::FewFds(part, spare) => write!(f, "{part:?} with {spare} fds left"),
            Self::Flood(vm) => write!(f, "a flood in {vm}"),
            Self::HalfMessage(vm) => write!(f, "half a message in {vm}"),
            Self::FullDisk => write!(f, "a full disk"),
        }
    }
}

/// The end of a fault.
pub(crate) enum Undo {
    Continue(Pid),
    Fds { id: Pid, before: u64, _comers: Vec<Raw> },
    Leave { _client: Raw },
    Free { _full: Full },
}

impl Undo {
    pub(crate) fn undo(self) {
        match self {
            // It may have been killed meanwhile.
            Self::Continue(id) => _ = kill(id, Signal::SIGCONT),
            Self::Fds { id, before, .. } => set_soft_limit(id, before),
            Self::Leave { .. } | Self::Free { .. } => {}
        }
    }
}

/// How many fds a process may have (`/proc/PID/limits`, proc(5)).
pub(crate) fn soft_limit(id: Pid) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("it lives");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    limit.expect("every process has this limit")
}

/// Nothing, if it has ended.
fn set_soft_limit(id: Pid, limit: u64) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={id}")).arg(format!("--nofile={limit}:"));
    command.stderr(std::process::Stdio::null());
    command.status().expect("prlimit is on every Debian");
}
