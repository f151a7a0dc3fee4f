//! What all benchmarks say together: `summary.md` and its plots.

mod figures;
mod frames;
mod goals;
mod others;
mod plot;
mod table;
mod wire;

use crate::report::{
    self, About, Clients, Connects, Floods, Frames, Memories, Roundtrips, Throughputs,
};
use anyhow::{Context, Result};
use figures::{bytes, three};
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use wire::Rate;

/// The name of the summary in the folder of the results.
pub const NAME: &str = "summary.md";

/// What the benchmarks have left.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Results {
    /// `frame.json`.
    pub frames: Option<Frames>,
    /// `roundtrip.json`.
    pub roundtrips: Option<Roundtrips>,
    /// `connect.json`.
    pub connects: Option<Connects>,
    /// `clients.json`.
    pub clients: Option<Clients>,
    /// `flood.json`.
    pub floods: Option<Floods>,
    /// `throughput.json`.
    pub throughputs: Option<Throughputs>,
    /// `memory.json`.
    pub memories: Option<Memories>,
    /// What criterion has kept of `wire`.
    rates: Vec<Rate>,
    /// What is there, but not understood.
    not_understood: Vec<String>,
}

fn understood<R: DeserializeOwned>(
    folder: &Path,
    name: &str,
    wrong: &mut Vec<String>,
) -> Option<R> {
    report::load(folder, name).unwrap_or_else(|error| {
        wrong.push(format!("{error:#}"));
        None
    })
}

impl Results {
    /// What is in `folder`, and in criterion's. What another version has left there is told of, and no more.
    pub fn load(folder: &Path, criterion: &Path) -> Self {
        let mut results = Self { rates: wire::rates(criterion), ..Self::default() };
        let wrong = &mut results.not_understood;
        results.frames = understood(folder, "frame", wrong);
        results.roundtrips = understood(folder, "roundtrip", wrong);
        results.connects = understood(folder, "connect", wrong);
        results.clients = understood(folder, "clients", wrong);
        results.floods = understood(folder, "flood", wrong);
        results.throughputs = understood(folder, "throughput", wrong);
        results.memories = understood(folder, "memory", wrong);
        results
    }

    /// The circumstances of each benchmark that has left something.
    fn abouts(&self) -> Vec<(&'static str, &About)> {
        let all = [
            ("frame", self.frames.as_ref().map(|report| &report.about)),
            ("roundtrip", self.roundtrips.as_ref().map(|report| &report.about)),
            ("connect", self.connects.as_ref().map(|report| &report.about)),
            ("clients", self.clients.as_ref().map(|report| &report.about)),
            ("flood", self.floods.as_ref().map(|report| &report.about)),
            ("throughput", self.throughputs.as_ref().map(|report| &report.about)),
            ("memory", self.memories.as_ref().map(|report| &report.about)),
        ];
        all.into_iter().filter_map(|(name, about)| Some((name, about?))).collect()
    }

    /// All of it as text, with links to the plots.
    pub fn render(&self) -> String {
        let mut text = "# What the path costs\n\n".to_owned();
        text += &self.circumstances();
        text += &goals::section(self);
        text += &self.frames.as_ref().map(frames::section).unwrap_or_default();
        text += &self.roundtrips.as_ref().map(others::roundtrips).unwrap_or_default();
        text += &self.connects.as_ref().map(others::connects).unwrap_or_default();
        text += &self.clients.as_ref().map(others::clients).unwrap_or_default();
        text += &self.floods.as_ref().map(others::floods).unwrap_or_default();
        text += &self.throughputs.as_ref().map(others::throughputs).unwrap_or_default();
        text += &self.memories.as_ref().map(others::memories).unwrap_or_default();
        text += &wire::section(&self.rates);
        text
    }

    fn circumstances(&self) -> String {
        let mut text = String::new();
        for wrong in &self.not_understood {
            let _ = writeln!(text, "- Left out: {wrong}.");
        }
        let abouts = self.abouts();
        let Some((_, first)) = abouts.first() else {
            return text + "Nothing was measured yet: `cargo bench`.\n\n";
        };
        let machine = &first.machine;
        let _ = writeln!(
            text,
            "{}, {} processors ({}), {} of memory, Linux {}. Every part of a path is a process; there are no VMs.",
            first.date,
            machine.cores,
            machine.processor,
            bytes(machine.memory as f64),
            machine.kernel,
        );
        match &first.waypipe {
            Some(version) => {
                let _ = writeln!(text, "Beside it: waypipe {version}.");
            }
            None => text += "There was no waypipe to compare with.\n",
        }
        let loads: Vec<String> = abouts
            .iter()
            .map(|(name, about)| format!("{name} {:.1}", about.machine.load))
            .collect();
        let _ = writeln!(text, "Load of the machine before each: {}.", loads.join(", "));
        if abouts.iter().any(|(_, about)| about.date != first.date) {
            let dates: Vec<String> =
                abouts.iter().map(|(name, about)| format!("{name} {}", about.date)).collect();
            let _ = writeln!(text, "**Not one run**: {}.", dates.join(", "));
        }
        let mut left_out: Vec<&String> =
            abouts.iter().flat_map(|(_, about)| &about.left_out).collect();
        left_out.sort();
        left_out.dedup();
        for left_out in left_out {
            let _ = writeln!(text, "\n- Left out: {left_out}.");
        }
        text + "\n"
    }
}

/// Makes the summary and the plots of what is in `folder` anew; the summary.
///
/// # Errors
/// If nothing can be written.
pub fn refresh(folder: &Path, criterion: &Path) -> Result<String> {
    let results = Results::load(folder, criterion);
    let text = results.render();
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let path = folder.join(NAME);
    fs::write(&path, &text).with_context(|| format!("can't write {}", path.display()))?;
    if let Some(frames) = &results.frames {
        plot::all(frames, folder)?;
    }
    Ok(text)
}

/// How many times `of` `what` is.
fn times(what: f64, of: f64) -> String {
    if of > 0.0 { format!("{}x", three(what / of)) } else { String::new() }
}
