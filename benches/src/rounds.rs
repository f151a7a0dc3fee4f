//! Who is measured when: all lanes in turns, so that whatever the machine is busy with meanwhile hits all of them.

use crate::cpu;
use crate::order::order;
use crate::route::{Route, Sink};
use crate::scatter::Scatter;
use crate::talk::{Burst, Measured, Poured};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// In each turn of a lane.
    pub burst: Burst,
    /// No further round is begun after this time.
    pub time: Duration,
    /// But so many rounds are there at least.
    pub rounds: u32,
}

/// What was measured of one lane.
#[derive(Debug, Default, Clone)]
pub struct Collected {
    /// Each measurement, in nanoseconds, in the order of time.
    pub samples: Vec<u64>,
    /// How many there were, warm-up included.
    pub all: u64,
    /// Processor time of the client, drawing included, in nanoseconds.
    pub client_ns: u64,
    /// That of all processes between client and sink.
    pub between_ns: u64,
    /// That of the compositor: the sink, or an example.
    pub sink_ns: u64,
    /// Bytes that the client VM's agent has copied; none if there is no agent.
    pub copied: Option<u64>,
    /// What somebody else flooded the path with meanwhile.
    pub beside: Poured,
}

impl Collected {
    fn add(&mut self, measured: Measured, sink_ns: u64) {
        self.samples.extend(measured.samples);
        self.all += measured.all;
        self.client_ns += measured.client_ns;
        self.sink_ns += sink_ns;
        self.beside.add(measured.beside);
    }
}

/// What a lane had cost when its first turn came.
struct Before {
    between: Vec<u32>,
    cpu: u64,
    copied: Option<u64>,
}

impl Before {
    fn of(route: &mut Route) -> Self {
        let between = route.between();
        let cpu = between.iter().map(|&process| cpu::used(process)).sum();
        Self { between, cpu, copied: route.stats().map(|stats| stats.copied_bytes) }
    }
}

/// Measures all `lanes`, which are ready to, in rounds. The order is another in each round.
///
/// # Errors
/// If a lane fails.
pub fn measure(lanes: &mut [&mut Route], sink: &mut Sink, plan: &Plan) -> Result<Vec<Collected>> {
    let begin = Instant::now();
    let mut scatter = Scatter::new().context("can't tell which processors there are")?;
    let before: Vec<Before> = lanes.iter_mut().map(|route| Before::of(route)).collect();
    let mut collected = vec![Collected::default(); lanes.len()];
    for round in 0.. {
        if round >= plan.rounds as usize && begin.elapsed() >= plan.time {
            break;
        }
        for lane in order(lanes.len(), round) {
            let route = &mut lanes[lane];
            let mut processes = before[lane].between.clone();
            let compositor = route.compositor(sink);
            processes.extend([route.client(), compositor]);
            let sink_before = cpu::used(compositor);
            scatter.pin(&processes);
            let mut measured = route.burst(Burst { count: 0, ..plan.burst })?;
            scatter.release(&processes);
            measured.add(route.burst(plan.burst)?);
            collected[lane].add(measured, cpu::used(compositor).saturating_sub(sink_before));
        }
    }
    for ((route, before), collected) in lanes.iter_mut().zip(before).zip(&mut collected) {
        let cpu: u64 = before.between.iter().map(|&process| cpu::used(process)).sum();
        collected.between_ns = cpu.saturating_sub(before.cpu);
        let copied = route.stats().map(|stats| stats.copied_bytes);
        collected.copied = copied.zip(before.copied).map(|(now, then)| now - then);
    }
    Ok(collected)
}
