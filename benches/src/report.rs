//! What was measured, as it is kept: a JSON file for each benchmark in `target/bench`.

use crate::cell::{Cell, Pace};
use crate::machine::Machine;
use crate::path::Path;
use crate::resident::Roles;
use crate::rounds::Collected;
use crate::samples::Timing;
use crate::talk::{Beside, Copyist, Flood};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::Path as FilePath;

/// The circumstances of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// When, as YYYY-MM-DD.
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// The waypipe that it is compared with, if there is one.
    pub waypipe: Option<String>,
    /// What isn't there, and how to get it.
    pub left_out: Vec<String>,
}

/// What one path was like in one situation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Which.
    pub path: Path,
    /// How long it took.
    pub timing: Timing,
    /// Processor time of all processes between client and sink for each of them, in nanoseconds.
    pub between_ns: f64,
    /// The same of the client, drawing included.
    pub client_ns: f64,
    /// The same of the sink.
    pub sink_ns: f64,
    /// Bytes that the client VM's agent has copied for each of them; none if there is no agent.
    pub copied: Option<f64>,
}

impl Lane {
    /// Of what was collected over all `paths`, in that order.
    pub fn all(paths: &[Path], collected: &[Collected]) -> Vec<Self> {
        paths.iter().zip(collected).map(|(&path, collected)| Self::of(path, collected)).collect()
    }

    /// Of what was collected over `path`.
    pub fn of(path: Path, collected: &Collected) -> Self {
        let each = |total: u64| total as f64 / collected.all.max(1) as f64;
        Self {
            path,
            timing: Timing::of(&collected.samples),
            between_ns: each(collected.between_ns),
            client_ns: each(collected.client_ns),
            sink_ns: each(collected.sink_ns),
            copied: collected.copied.map(each),
        }
    }
}

/// `frame.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    /// The circumstances.
    pub about: About,
    /// What was measured.
    pub cells: Vec<FrameCell>,
}

/// The frames of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameCell {
    /// Which.
    pub cell: Cell,
    /// How long memcpy(3) takes for a frame's bytes, where all of them change, by who copies.
    pub memcpy: Vec<(Copyist, Timing)>,
    /// The paths.
    pub lanes: Vec<Lane>,
}

/// `roundtrip.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Roundtrips {
    /// The circumstances.
    pub about: About,
    /// By pace.
    pub paces: Vec<(Pace, Vec<Lane>)>,
}

/// `connect.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connects {
    /// The circumstances.
    pub about: About,
    /// From connect(2) to the first global.
    pub lanes: Vec<Lane>,
}

/// `clients.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// The circumstances.
    pub about: About,
    /// Frames beside others.
    pub lanes: Vec<Company>,
}

/// What one path was like beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Company {
    /// Who was there.
    pub beside: Beside,
    /// What it was like.
    pub lane: Lane,
}

/// `flood.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Floods {
    /// The circumstances.
    pub about: About,
    /// wl_display.sync, while another VM floods.
    pub lanes: Vec<Beaten>,
}

/// What one path was like while another VM flooded what they share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beaten {
    /// With what; with nothing, if none.
    pub flood: Option<Flood>,
    /// How many of that in a second.
    pub rate: f64,
    /// What it was like.
    pub lane: Lane,
}

/// `throughput.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughputs {
    /// The circumstances.
    pub about: About,
    /// How many messages are sent at once.
    pub messages: u32,
    /// How many bytes are pasted at once.
    pub bytes: u64,
    /// So many requests.
    pub requests: Vec<Lane>,
    /// So many events.
    pub events: Vec<Lane>,
    /// So many bytes.
    pub pastes: Vec<Lane>,
}

/// `memory.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memories {
    /// The circumstances.
    pub about: About,
    /// By path.
    pub paths: Vec<Memory>,
}

/// What a client that does nothing costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The path to it.
    pub path: Path,
    /// How many there were.
    pub clients: u32,
    /// By what processes are there for: memory for each client.
    pub each: Roles,
}

/// Reads what a benchmark has left in `folder`; none if it never ran.
///
/// # Errors
/// If it can't be read or understood: another version may have written it.
pub fn load<R: DeserializeOwned>(folder: &FilePath, name: &str) -> Result<Option<R>> {
    let path = folder.join(name).with_extension("json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("{name}.json can't be read"))?,
    };
    let report = serde_json::from_slice(&text);
    report.map(Some).with_context(|| format!("{name}.json is of another version"))
}

/// Writes what a benchmark leaves.
///
/// # Errors
/// If it can't be written.
pub fn save(folder: &FilePath, name: &str, report: &impl Serialize) -> Result<()> {
    let path = folder.join(name).with_extension("json");
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(&path, serde_json::to_vec_pretty(report)?)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}
