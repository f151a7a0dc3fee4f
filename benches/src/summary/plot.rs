//! Plots of the frames, as SVG.

use crate::cell::{Cell, Pace, Size};
use crate::path::{Example, Isolation, Path, Way};
use crate::report::{FrameCell, Frames, Lane};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path as FilePath;

/// Size of a plot, in pixels.
const SIZE: (u32, u32) = (1200, 680);

/// By how much paths are apart from each other at the same size of a window, where 1 is the way to the next size.
const APART: f64 = 0.035;

/// Room for the legend, where 1 is the way from one size of a window to the next.
const LEGEND: f64 = -0.1;

/// The file of the plot by size.
pub(super) fn by_size(pace: Pace) -> String {
    format!("frame-by-size-{pace}.svg")
}

/// The file of the plot of how often a frame takes how long.
pub(super) fn distribution(pace: Pace) -> String {
    format!("frame-distribution-{pace}.svg")
}

/// Whether there is one for a cell.
pub(super) fn is_drawn(cell: Cell) -> bool {
    cell == Cell::full(Size::FULL_HD, cell.pace)
}

/// Draws all that there are numbers for.
///
/// # Errors
/// If a file can't be written.
pub(super) fn all(frames: &Frames, folder: &FilePath) -> Result<()> {
    for pace in Pace::ALL {
        let cells: Vec<(usize, &FrameCell)> = Size::ALL
            .iter()
            .enumerate()
            .filter_map(|(at, &size)| Some((at, frames.cell(Cell::full(size, pace))?)))
            .collect();
        if !cells.is_empty() {
            let path = folder.join(by_size(pace));
            draw(&path, |root| sizes(root, &cells, pace))
                .map_err(|error| anyhow!("can't draw {}: {error}", path.display()))?;
        }
        if let Some(cell) = frames.cell(Cell::full(Size::FULL_HD, pace)) {
            let path = folder.join(distribution(pace));
            draw(&path, |root| shares(root, cell))
                .map_err(|error| anyhow!("can't draw {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(path: &FilePath, what: impl FnOnce(&Root<'_>) -> Drawn) -> Drawn {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    what(&root)?;
    root.present()?;
    Ok(())
}

/// Related paths have related colours.
fn colour(path: Path) -> RGBColor {
    match path {
        Path::Direct => RGBColor(60, 60, 60),
        Path::Relays(count) => {
            let grey = 220 - 25 * count.min(6);
            RGBColor(grey, grey, grey)
        }
        Path::ZeroCopy(Isolation::None) => RGBColor(0, 150, 70),
        Path::ZeroCopy(Isolation::Process) => RGBColor(110, 200, 80),
        Path::Shadow(Isolation::None) => RGBColor(20, 70, 200),
        Path::Shadow(Isolation::Process) => RGBColor(90, 160, 250),
        Path::Linked(Isolation::None) => RGBColor(140, 30, 160),
        Path::Linked(Isolation::Process) => RGBColor(200, 110, 220),
        Path::Waypipe(crate::path::Compression::None) => RGBColor(200, 40, 30),
        Path::Waypipe(crate::path::Compression::Lz4) => RGBColor(250, 140, 60),
        Path::Example(Example::Smithay, way) => shade(
            way,
            [(110, 80, 20), (150, 110, 10), (190, 150, 40), (215, 180, 20), (240, 215, 90)],
        ),
        Path::Example(Example::Libwayland, way) => {
            shade(way, [(0, 80, 90), (0, 120, 130), (60, 160, 165), (0, 180, 190), (120, 220, 225)])
        }
    }
}

/// The colour of a way, from dark to light.
fn shade(way: Way, shades: [(u8, u8, u8); 5]) -> RGBColor {
    let (red, green, blue) = shades[match way {
        Way::Direct => 0,
        Way::Serve(Isolation::None) => 1,
        Way::Serve(Isolation::Process) => 2,
        Way::Shim(Isolation::None) => 3,
        Way::Shim(Isolation::Process) => 4,
    }];
    RGBColor(red, green, blue)
}

/// The least and the most of `numbers`, in milliseconds, with some room around.
fn range(numbers: impl Iterator<Item = u64>) -> std::ops::Range<f64> {
    let (least, most) = numbers
        .map(|ns| ns.max(1) as f64 / 1e6)
        .fold((f64::MAX, f64::MIN), |(least, most), ms| (least.min(ms), most.max(ms)));
    least * 0.7..most * 1.4
}

/// Medians by size, with a whisker up to the 99th percentile and a tick at the 95th.
fn sizes(root: &Root<'_>, cells: &[(usize, &FrameCell)], pace: Pace) -> Drawn {
    let lanes: Vec<(usize, &Lane)> =
        cells.iter().flat_map(|(at, cell)| cell.lanes.iter().map(|lane| (*at, lane))).collect();
    let all = lanes.iter().flat_map(|(_, lane)| [lane.timing.median, lane.timing.p99]);
    let mut chart = ChartBuilder::on(root)
        .caption(
            format!("A frame, full damage, flat, {pace}: median, p95, p99"),
            ("sans-serif", 20),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(-0.4..Size::ALL.len() as f64 + LEGEND, range(all).log_scale())?;
    let size = |at: &f64| {
        let is_whole = (at - at.round()).abs() < 1e-6 && *at >= 0.0;
        let size = is_whole.then(|| Size::ALL.get(at.round() as usize)).flatten();
        size.map(Size::to_string).unwrap_or_default()
    };
    chart.configure_mesh().x_label_formatter(&size).x_labels(8).y_desc("ms").draw()?;
    let paths = [&Path::ALL[..], &Path::EXAMPLES].concat();
    for (number, &path) in paths.iter().enumerate() {
        let x = |at: usize| at as f64 + (number as f64 - paths.len() as f64 / 2.0) * APART;
        let ms = |ns: u64| ns as f64 / 1e6;
        let own: Vec<(f64, &Lane)> = lanes
            .iter()
            .filter(|(_, lane)| lane.path == path)
            .map(|&(at, lane)| (x(at), lane))
            .collect();
        if own.is_empty() {
            continue;
        }
        let style = colour(path).stroke_width(2);
        let line = own.iter().map(|(x, lane)| (*x, ms(lane.timing.median)));
        chart
            .draw_series(LineSeries::new(line.clone(), style))?
            .label(path.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style.stroke_width(4)));
        chart.draw_series(line.map(|at| Circle::new(at, 3, colour(path).filled())))?;
        for (x, lane) in own {
            let [median, p95, p99] = [lane.timing.median, lane.timing.p95, lane.timing.p99].map(ms);
            let thin = colour(path).stroke_width(1);
            let whisker = [(x, median), (x, p99)];
            let tick = [(x - APART / 3.0, p95), (x + APART / 3.0, p95)];
            chart.draw_series([PathElement::new(whisker, thin), PathElement::new(tick, thin)])?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

/// How many of the frames take at most how long.
fn shares(root: &Root<'_>, cell: &FrameCell) -> Drawn {
    let all = cell.lanes.iter().flat_map(|lane| [lane.timing.min, lane.timing.p99]);
    let mut times = range(all);
    // For the legend.
    times.end *= 5.0;
    let mut chart = ChartBuilder::on(root)
        .caption(format!("{}: how many take at most how long", cell.cell), ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(times.log_scale(), 0.0..100.0)?;
    chart.configure_mesh().x_desc("ms").y_desc("%").draw()?;
    for lane in &cell.lanes {
        let style = colour(lane.path).stroke_width(2);
        let mut below = 0;
        let steps: Vec<(f64, f64)> = lane
            .timing
            .histogram
            .iter()
            .map(|&(least, count)| {
                below += count;
                (least as f64 / 1e6, below as f64 / lane.timing.count.max(1) as f64 * 100.0)
            })
            .collect();
        chart
            .draw_series(LineSeries::new(steps, style))?
            .label(lane.path.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style.stroke_width(4)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
