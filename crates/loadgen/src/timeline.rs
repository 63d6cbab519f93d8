//! How a run went from beginning to end, in a bounded number of intervals.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::times::Times;

/// The length of an interval to begin with.
const FINEST_MS: u64 = 100;
/// More are not kept: two become one then, again and again.
const MOST: usize = 256;
/// Digits that are told apart: a hundredth is less than a line on a plot is wide.
const DIGITS: u8 = 2;

/// Intervals of the same length, the first one from the begin of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// How long each of them is: 100 ms, doubled as often as it took to keep their number small.
    pub interval_ms: u64,
    /// One after the other.
    pub intervals: Vec<Interval>,
}

/// The requests that were *due* in an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Requests sent.
    pub sent: u64,
    /// Those that failed or timed out.
    pub errors: u64,
    /// End − intended start in nanoseconds, of answers and time-outs: an HdrHistogram.
    pub latency: Times,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            sent: 0,
            errors: 0,
            latency: Times::new(DIGITS),
        }
    }
}

impl Interval {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.errors += other.errors;
        self.latency.add(&other.latency);
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            interval_ms: FINEST_MS,
            intervals: Vec::new(),
        }
    }
}

impl Timeline {
    /// Takes what came of a request that was due so long after the begin of the run.
    pub fn record(&mut self, due: Duration, outcome: &Outcome) {
        let due = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
        while due / self.interval_ms >= MOST as u64 {
            self.coarsen();
        }
        let at = (due / self.interval_ms) as usize;
        if at >= self.intervals.len() {
            self.intervals.resize_with(at + 1, Interval::default);
        }
        let interval = &mut self.intervals[at];
        interval.sent += 1;
        interval.errors += u64::from(outcome.is_error());
        if outcome.is_timed() {
            interval.latency.record(outcome.latency());
        }
    }

    /// Takes the intervals of a run that began at the same time.
    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.interval_ms < other.interval_ms {
            self.coarsen();
        }
        while other.interval_ms < self.interval_ms {
            other.coarsen();
        }
        if self.intervals.len() < other.intervals.len() {
            self.intervals
                .resize_with(other.intervals.len(), Interval::default);
        }
        for (sum, part) in self.intervals.iter_mut().zip(&other.intervals) {
            sum.add(part);
        }
    }

    fn coarsen(&mut self) {
        self.interval_ms *= 2;
        self.intervals = self
            .intervals
            .chunks(2)
            .map(|pair| {
                let mut sum = pair[0].clone();
                if let Some(second) = pair.get(1) {
                    sum.add(second);
                }
                sum
            })
            .collect();
    }

    /// Whether it is one that this program writes: such can be added up.
    pub fn is_sound(&self) -> bool {
        self.interval_ms.is_multiple_of(FINEST_MS)
            && (self.interval_ms / FINEST_MS).is_power_of_two()
            && self.intervals.len() <= MOST
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::outcome::End;

    /// A run with a request every so often, each of which takes as many milliseconds as its number.
    fn timeline(requests: u64, every: Duration) -> Timeline {
        let begin = Instant::now();
        let mut timeline = Timeline::default();
        for n in 0..requests {
            let due = every * u32::try_from(n).expect("few requests");
            let status = if n % 10 == 0 { 503 } else { 200 };
            timeline.record(
                due,
                &Outcome {
                    intended: begin + due,
                    started: begin + due,
                    ended: begin + due + Duration::from_millis(n),
                    end: End::answered(status),
                    trace: None,
                    route: 0,
                    arrival: true,
                },
            );
        }
        timeline
    }

    #[test]
    fn a_long_run_has_no_more_intervals_and_loses_nothing() {
        for (seconds, interval_ms, intervals) in [
            (1, 100, 10),
            (25, 100, 250),
            (26, 200, 130),
            (3600, 25_600, 141),
        ] {
            let timeline = timeline(seconds * 10, Duration::from_millis(100));
            assert_eq!(timeline.interval_ms, interval_ms, "{seconds} s");
            assert_eq!(timeline.intervals.len(), intervals, "{seconds} s");
            let total = |of: fn(&Interval) -> u64| timeline.intervals.iter().map(of).sum::<u64>();
            assert_eq!(total(|interval| interval.sent), seconds * 10);
            assert_eq!(total(|interval| interval.errors), seconds);
            assert_eq!(total(|interval| interval.latency.count()), seconds * 10);
            assert!(timeline.is_sound());
        }
    }

    #[test]
    fn runs_of_different_length_add_up() {
        let (short, long) = (
            timeline(20, Duration::from_millis(50)),
            timeline(600, Duration::from_millis(100)),
        );
        let mut sum = short.clone();
        sum.add(&long);
        assert_eq!(sum.interval_ms, long.interval_ms);
        let mut other_way = long.clone();
        other_way.add(&short);
        assert_eq!(sum, other_way);
        assert_eq!(
            sum.intervals
                .iter()
                .map(|interval| interval.sent)
                .sum::<u64>(),
            620
        );
    }
}
