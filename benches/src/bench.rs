//! What every benchmark program has in common: its command line, criterion, and where the results go.

use crate::machine::{Machine, today};
use crate::part;
use crate::path::Path;
use crate::report::{self, About};
use crate::resident::Bytes;
use crate::rounds::Collected;
use crate::route::Route;
use crate::summary;
use crate::waypipe::Waypipe;
use anyhow::Result;
use criterion::measurement::{Measurement, WallTime};
use criterion::{Criterion, SamplingMode, Throughput};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How many numbers criterion gets of each lane. Each stands for as many measurements as make their number this.
const BLOCKS: usize = 30;

/// How many resamples criterion makes: enough for two digits, and quick for hundreds of lanes.
const RESAMPLES: usize = 2000;

/// A benchmark program.
#[derive(Debug)]
pub struct Bench {
    name: &'static str,
    test: bool,
    about: About,
    /// Whether it was told what is left out.
    told: bool,
}

impl Bench {
    /// The benchmark `name`, by the command line.
    pub fn new(name: &'static str) -> Self {
        // As criterion sees it: cargo says --bench unless it only tests.
        let has = |option: &str| std::env::args().any(|arg| arg == option);
        let about = About { date: today(), machine: Machine::this(), ..About::default() };
        Self { name, test: has("--test") || !has("--bench"), about, told: false }
    }

    /// Whether everything is only tried, once and quickly.
    pub fn is_test(&self) -> bool {
        self.test
    }

    /// `measure`, or nothing if everything is only tried.
    pub fn time(&self, measure: Duration) -> Duration {
        if self.test { Duration::ZERO } else { measure }
    }

    /// `measure`, or `test` if everything is only tried.
    pub fn count(&self, measure: u32, test: u32) -> u32 {
        if self.test { test } else { measure }
    }

    /// criterion, for times that a [`Replay`] gives it.
    pub fn criterion() -> Criterion {
        Self::criterion_of(Criterion::default(), BLOCKS)
    }

    /// The same for anything, of which it gets `samples` numbers.
    pub fn criterion_of<M: Measurement>(criterion: Criterion<M>, samples: usize) -> Criterion<M> {
        // Nothing takes as long as it says: all was measured before.
        let criterion = criterion
            .sample_size(samples)
            .nresamples(RESAMPLES)
            .warm_up_time(Duration::from_nanos(1))
            .measurement_time(Duration::from_millis(1))
            .without_plots();
        criterion.configure_from_args()
    }

    /// Tells what is going on.
    pub fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
    }

    /// Those of `paths` that this machine has. The others will be told of.
    pub fn there(&mut self, paths: &[Path]) -> Vec<Path> {
        let mut there = Vec::new();
        for &path in paths {
            match Route::lacks(path) {
                None => there.push(path),
                Some(why) => self.about.left_out.push(format!("{path}: {why}")),
            }
        }
        self.about.waypipe = Waypipe::find().ok().map(|waypipe| waypipe.version);
        there
    }

    /// Has criterion show what `measure` finds for each of `lanes`, in that order. It is called once if criterion wants any
    /// of them, and not at all if not.
    ///
    /// # Panics
    /// If it fails.
    pub fn compare<M: Unit>(
        &mut self,
        criterion: &mut Criterion<M>,
        group: &str,
        lanes: &[String],
        throughput: Option<Throughput>,
        measure: impl FnOnce(&mut Self) -> Result<Vec<Collected>>,
    ) -> Option<Vec<Collected>> {
        let mut group = criterion.benchmark_group(format!("{}/{group}", self.name));
        group.sampling_mode(SamplingMode::Flat);
        if let Some(throughput) = throughput {
            group.throughput(throughput);
        }
        let (mut measure, mut measured) = (Some(measure), None);
        for (at, lane) in lanes.iter().enumerate() {
            let mut replay = None;
            group.bench_function(lane, |bencher| {
                if let Some(measure) = measure.take() {
                    self.tell_left_out();
                    let found = measure(self).unwrap_or_else(|error| panic!("{error:#}"));
                    assert_eq!(found.len(), lanes.len(), "one for each lane");
                    measured = Some(found);
                }
                let Some(measured) = &measured else { return };
                let replay = replay.get_or_insert_with(|| Replay::new(&measured[at].samples));
                bencher.iter_custom(|count| replay.take::<M>(count));
            });
        }
        group.finish();
        measured
    }

    /// Tells, once, what isn't measured.
    fn tell_left_out(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.about.left_out.iter().for_each(|what| self.say(&format!("left out: {what}")));
        }
    }

    /// The circumstances of this run.
    pub fn about(&self) -> About {
        self.about.clone()
    }

    /// Where results go. Those of a mere try aren't taken for any.
    pub fn folder(&self) -> PathBuf {
        let target = part::target();
        target.join(if self.test { "bench/test" } else { "bench" })
    }

    /// Keeps what was measured, and makes the summary anew.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, report: &impl Serialize) -> Result<()> {
        report::save(&self.folder(), self.name, report)?;
        self.refresh().map(|_| ())
    }

    /// Makes the summary of all benchmarks anew; it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn refresh(&self) -> Result<String> {
        summary::refresh(&self.folder(), &part::target().join("criterion"))
    }
}

/// Gives criterion what was measured before: for each sample the mean of another part of the measurements. So all that
/// criterion says is about measurements that were made in turns with those of other lanes.
#[derive(Debug)]
pub struct Replay {
    means: Vec<f64>,
    next: usize,
}

impl Replay {
    /// Of measurements in nanoseconds, in the order of time.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(samples: &[u64]) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        let blocks = BLOCKS.min(samples.len());
        let block =
            |at: usize| &samples[samples.len() * at / blocks..samples.len() * (at + 1) / blocks];
        let mean = |block: &[u64]| block.iter().sum::<u64>() as f64 / block.len() as f64;
        Self { means: (0..blocks).map(|at| mean(block(at))).collect(), next: 0 }
    }

    /// The value of `count` iterations, for [`criterion::Bencher::iter_custom`].
    fn take<M: Unit>(&mut self, count: u64) -> M::Value {
        let mean = self.means[self.next % self.means.len()];
        self.next += 1;
        M::value(mean * count as f64)
    }
}

/// What a number that was measured stands for.
pub trait Unit: Measurement {
    /// The value of a number.
    fn value(number: f64) -> Self::Value;
}

/// Nanoseconds.
impl Unit for WallTime {
    fn value(number: f64) -> Duration {
        Duration::from_nanos(number as u64)
    }
}

impl Unit for Bytes {
    fn value(number: f64) -> f64 {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_has_every_measurement_once() {
        let samples: Vec<u64> = (1..=100).collect();
        let mut replay = Replay::new(&samples);
        let mut take = |count| replay.take::<WallTime>(count).as_nanos();
        let means: Vec<u128> = (0..BLOCKS).map(|_| take(1000)).collect();
        assert!(means.is_sorted());
        assert_eq!((means[0], means[BLOCKS - 1]), (2000, 98_500));
        assert_eq!(take(1000), 2000);
        // Fewer than criterion wants come again.
        let mut few = Replay::new(&[5, 7]);
        let mut take = |count| few.take::<WallTime>(count).as_nanos();
        assert_eq!([take(1), take(1), take(2)], [5, 7, 10]);
    }
}
