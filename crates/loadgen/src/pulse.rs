//! How a run is going at the moment, for those who watch it.

use std::time::{Duration, Instant};

use crate::times::Times;

/// A moment is as long.
const MOMENT: Duration = Duration::from_secs(1);
/// Digits that are told apart.
const DIGITS: u8 = 2;

/// How a run was going in the last whole moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pulse {
    /// Which moment it was, counted from 1; 0 when none has passed.
    pub moment: u64,
    /// Arrivals per second asked for.
    pub wanted_rate: f64,
    /// Arrivals per second sent.
    pub achieved_rate: f64,
    /// Half of the answers took no longer, in milliseconds from the intended start.
    pub p50_ms: Option<f64>,
    /// 99 % of them took no longer.
    pub p99_ms: Option<f64>,
    /// Connections open.
    pub connections: u64,
}

/// Takes the pulse.
#[derive(Debug)]
pub struct Wrist {
    since: Instant,
    arrivals: u64,
    latency: Times,
    last: Pulse,
}

impl Wrist {
    /// From now on.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            arrivals: 0,
            latency: Times::new(DIGITS),
            last: Pulse::default(),
        }
    }

    /// A request has ended.
    pub fn ended(&mut self, latency: Option<Duration>, arrival: bool) {
        self.arrivals += u64::from(arrival);
        if let Some(latency) = latency {
            self.latency.record(latency);
        }
    }

    /// How things are.
    pub fn pulse(&mut self, now: Instant, wanted_rate: f64, connections: u64) -> Pulse {
        let passed = now.saturating_duration_since(self.since);
        if passed >= MOMENT {
            self.last = Pulse {
                moment: self.last.moment + 1,
                wanted_rate,
                achieved_rate: self.arrivals as f64 / passed.as_secs_f64(),
                p50_ms: self.latency.quantile_ms(0.5),
                p99_ms: self.latency.quantile_ms(0.99),
                connections,
            };
            self.since = now;
            self.arrivals = 0;
            self.latency = Times::new(DIGITS);
        }
        Pulse {
            wanted_rate,
            connections,
            ..self.last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_that_of_the_last_whole_moment() {
        let begin = Instant::now();
        let mut wrist = Wrist::new(begin);
        let mut at = |seconds: u64, latencies: std::ops::Range<u64>| {
            for millis in latencies {
                wrist.ended(Some(Duration::from_millis(millis)), millis % 2 == 0);
            }
            wrist.pulse(begin + Duration::from_secs(seconds), 50.0, 3)
        };
        let none = at(0, 0..100);
        assert_eq!((none.moment, none.p99_ms, none.connections), (0, None, 3));
        let first = at(2, 0..0);
        assert_eq!(
            (first.moment, first.achieved_rate, first.wanted_rate),
            (1, 25.0, 50.0)
        );
        assert!(
            first.p50_ms.is_some_and(|p50| (48.0..52.0).contains(&p50)),
            "{first:?}"
        );
        let second = at(3, 0..0);
        assert_eq!(
            (second.moment, second.achieved_rate, second.p50_ms),
            (2, 0.0, None)
        );
    }
}
