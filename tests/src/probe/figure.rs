//! How long something took, again and again, in one line.

use std::fmt;
use std::time::Duration;

/// The middle of what was measured, and its slow end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figure {
    count: usize,
    median: Duration,
    most: Duration,
}

impl Figure {
    /// Of so many times.
    ///
    /// # Panics
    /// If there are none.
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: usize| times[(times.len() * part / 10).min(times.len() - 1)];
        Self { count: times.len(), median: at(5), most: at(9) }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, median, most } = self;
        let (median, most) = (median.as_micros(), most.as_micros());
        write!(f, "median {median} us, 9 of 10 below {most} us, {count} times")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_slow_end_are_told() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let text = Figure::of(times).to_string();
        assert_eq!(text, "median 51 us, 9 of 10 below 91 us, 100 times");
        let one = Figure::of(vec![Duration::from_millis(2)]).to_string();
        assert_eq!(one, "median 2000 us, 9 of 10 below 2000 us, 1 times");
    }
}
