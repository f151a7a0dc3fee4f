//! What agents tell of themselves: whatever they tell, wlproxy counts what was told last, and nothing else.

use crate::input::Input;
use std::sync::Arc;
use wlproxy::counters::{Counters, Reporter};
use wlproxy_protocol::report::{LENGTH, Malformed, Report};

/// Most agents at once: enough for their sums to overflow.
const AGENTS: usize = 4;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let counters = Arc::new(Counters::default());
    let mut agents: Vec<(Reporter, Report)> = Vec::new();
    let mut gone = [0u128; 3];
    while !input.is_empty() {
        match input.below(4) {
            0 if agents.len() < AGENTS => agents.push((counters.reporter(), Report::default())),
            1 if !agents.is_empty() => {
                let (_, last) = agents.swap_remove(input.below(AGENTS) % agents.len());
                for (sum, number) in gone.iter_mut().zip(numbers(last)) {
                    *sum += number;
                }
            }
            _ => {
                let message = message(&mut input);
                if let Some(report) = decoded(&message)
                    && !agents.is_empty()
                {
                    let at = input.below(AGENTS) % agents.len();
                    agents[at].0.tell(report);
                    agents[at].1 = report;
                }
            }
        }
        let shown = counters.snapshot().reported;
        let mut sums = gone;
        for (_, last) in &agents {
            for (sum, number) in sums.iter_mut().zip(numbers(*last)) {
                *sum += number;
            }
        }
        let expected = sums.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX));
        assert_eq!([shown.frames, shown.damaged_bytes, shown.copied_bytes], expected);
        assert_eq!(shown.agents, agents.len() as u64);
    }
}

fn numbers(report: Report) -> [u128; 3] {
    [report.frames, report.damaged_bytes, report.copied_bytes].map(u128::from)
}

/// A report, or nearly one.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let [frames, damaged_bytes, copied_bytes] = [input.long(), input.long(), input.long()];
    let mut bytes = Report { frames, damaged_bytes, copied_bytes }.encode().to_vec();
    match input.below(8) {
        0 => bytes = input.bytes(2 * LENGTH).to_vec(),
        1 => bytes.extend(input.bytes(LENGTH)),
        2 => bytes.truncate(input.below(LENGTH)),
        3 => bytes[input.below(LENGTH)] ^= input.byte(),
        _ => {}
    }
    bytes
}

/// What is taken is exactly what is made.
fn decoded(message: &[u8]) -> Option<Report> {
    match Report::decode(message) {
        Ok(report) => {
            assert_eq!(report.encode(), message, "two messages are one report");
            Some(report)
        }
        Err(Malformed::Length(length)) => {
            assert_eq!(length, message.len());
            assert_ne!(length, LENGTH);
            None
        }
        Err(_) => None,
    }
}
