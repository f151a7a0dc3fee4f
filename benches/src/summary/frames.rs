//! The frames: a table for each cell.

use super::figures::{bytes, speed, time};
use super::table::Table;
use super::{plot, times};
use crate::cell::{Cell, Content, Damage, Pace};
use crate::path::{Isolation, Path};
use crate::report::{FrameCell, Frames, Lane};
use crate::talk::Copyist;
use std::fmt::Write as _;

impl Frames {
    /// What was measured of a cell.
    pub(crate) fn cell(&self, cell: Cell) -> Option<&FrameCell> {
        self.cells.iter().find(|found| found.cell == cell)
    }

    /// How long it takes to bring a shadow up to date, in nanoseconds: by how much longer a frame takes whose every pixel
    /// is copied than one of which none is.
    pub(crate) fn copy(&self, cell: Cell, isolation: Isolation) -> Option<f64> {
        let full = self.cell(cell).filter(|cell| cell.cell.damage == Damage::Full)?;
        let with = full.median(Path::Shadow(isolation))?;
        // The same without the copy; if nobody can do that, a frame of which nothing changes.
        let nothing = Cell { damage: Damage::None, content: Content::Flat, ..cell };
        let without = full
            .median(Path::ZeroCopy(isolation))
            .or_else(|| self.cell(nothing)?.median(Path::Shadow(isolation)))?;
        (with > without).then_some(with - without)
    }
}

impl FrameCell {
    pub(crate) fn lane(&self, path: Path) -> Option<&Lane> {
        lane(&self.lanes, path)
    }

    pub(crate) fn median(&self, path: Path) -> Option<f64> {
        median(&self.lanes, path)
    }

    /// How long memcpy(3) of a frame takes, in nanoseconds.
    pub(crate) fn memcpy(&self, copyist: Copyist) -> Option<f64> {
        let found = self.memcpy.iter().find(|(found, _)| *found == copyist);
        found.map(|(_, timing)| timing.median.max(1) as f64)
    }
}

/// One of them.
pub(crate) fn lane(lanes: &[Lane], path: Path) -> Option<&Lane> {
    lanes.iter().find(|lane| lane.path == path)
}

/// The median of one of them, in nanoseconds.
pub(crate) fn median(lanes: &[Lane], path: Path) -> Option<f64> {
    lane(lanes, path).map(|lane| lane.timing.median as f64)
}

/// The better one of waypipe's settings, by what `value` says of it.
pub(crate) fn best_waypipe(lanes: &[Lane], value: impl Fn(&Lane) -> f64) -> Option<f64> {
    let waypipes = lanes.iter().filter(|lane| matches!(lane.path, Path::Waypipe(_)));
    waypipes.map(value).min_by(f64::total_cmp)
}

/// The columns of [`compared`].
pub(crate) const COMPARED: [&str; 8] =
    ["path", "median", "p95", "p99", "to direct", "to relays", "adds, to relays", "waypipe to it"];

/// A path beside the others.
pub(crate) fn compared(lane: &Lane, lanes: &[Lane]) -> Vec<String> {
    let own = lane.timing.median as f64;
    let direct = median(lanes, lane.path.direct()).unwrap_or(0.0);
    let relays = lane.path.relays().and_then(|relays| median(lanes, relays)).unwrap_or(0.0);
    let adds = if relays > direct { times(own - direct, relays - direct) } else { String::new() };
    let is_ours = matches!(lane.path, Path::ZeroCopy(_) | Path::Shadow(_) | Path::Linked(_));
    let waypipe = best_waypipe(lanes, |lane| lane.timing.median as f64).filter(|_| is_ours);
    vec![
        lane.path.to_string(),
        time(own),
        time(lane.timing.p95 as f64),
        time(lane.timing.p99 as f64),
        times(own, direct),
        times(own, relays),
        adds,
        waypipe.map(|waypipe| times(waypipe, own)).unwrap_or_default(),
    ]
}

/// All cells.
pub(super) fn section(frames: &Frames) -> String {
    let mut text = "## A frame: commit and wl_display.sync\n\n".to_owned();
    text += "`to direct`, `to relays`: how many times the median of the direct path, and of bare relays that are as many \
             processes. `adds, to relays`: the same of what is added to the direct path. `waypipe to it`: how many times its \
             median the better one of waypipe's settings takes. `CPU`: processor time of all processes between client \
             and compositor, for each frame. `copied`: by the client VM's agent, for each frame. Paths to compositors of \
             `examples/` are compared with the direct one to the same.\n\n";
    for pace in Pace::ALL {
        if frames.cells.iter().any(|cell| cell.cell.pace == pace) {
            let _ = writeln!(text, "![by size, {pace}]({})\n", plot::by_size(pace));
        }
    }
    for cell in &frames.cells {
        let _ = writeln!(text, "### {}\n", cell.cell);
        let columns = [&COMPARED[..], &["CPU", "copied", "frames"]].concat();
        let mut table = Table::new(&columns);
        for lane in &cell.lanes {
            let mut row = compared(lane, &cell.lanes);
            row.push(if lane.path == lane.path.direct() {
                String::new()
            } else {
                time(lane.between_ns)
            });
            row.push(lane.copied.map(bytes).unwrap_or_default());
            row.push(lane.timing.count.to_string());
            table.row(row);
        }
        text += &table.render();
        text += &copies(frames, cell);
        if plot::is_drawn(cell.cell) {
            let _ =
                writeln!(text, "![how often how long]({})\n", plot::distribution(cell.cell.pace));
        }
    }
    text
}

/// How fast a frame of a cell is copied.
fn copies(frames: &Frames, cell: &FrameCell) -> String {
    let bytes = cell.cell.size.bytes() as f64;
    let fast = |ns: f64| format!("{}, {}", time(ns), speed(bytes / ns * 1e9));
    let mut text = String::new();
    let copyists = [
        (Copyist::Other, "memcpy(3) of a frame by another thread than has drawn it"),
        (Copyist::Painter, "by the same thread"),
    ];
    for (copyist, what) in copyists {
        if let Some(memcpy) = cell.memcpy(copyist) {
            let _ = write!(text, "{what}: {}; ", fast(memcpy));
        }
    }
    for isolation in Isolation::ALL {
        if let Some(copy) = frames.copy(cell.cell, isolation) {
            let _ = write!(text, "shadow, {isolation}: {}; ", fast(copy));
        }
    }
    match text.strip_suffix("; ") {
        Some(text) => format!("{text}.\n\n"),
        None => String::new(),
    }
}
