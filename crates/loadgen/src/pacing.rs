//! *When* to send, apart from *what* and *how*: pure functions from the number of a start to its time.
//!
//! The n-th start is computed from n, never from the start before it, in integers: a run of a year
//! ends on the same grid that it began on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds in a second, times the unit of [`Rate`] (a millionth of a request per second).
const SCALE: u128 = 1_000_000_000 * 1_000_000;

/// Starts per second, exact to a millionth; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    millionths: u64,
}

/// Why a text is no [`Rate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a decimal number.
    #[error("not a number; give requests per second, for example 50 or 0.5")]
    NotANumber,
    /// Zero, negative, not finite, or beyond what one generator can mean.
    #[error("out of range; give requests per second between 0.000001 and 1000000")]
    OutOfRange,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let per_second: f64 = text.trim().parse().map_err(|_| RateError::NotANumber)?;
        if !(0.000_001..=1_000_000.0).contains(&per_second) {
            return Err(RateError::OutOfRange);
        }
        // In range a double is closer to the written decimal than half a millionth, so rounding
        // recovers what was written.
        Ok(Self {
            millionths: (per_second * 1e6).round() as u64,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_second().fmt(f)
    }
}

impl Rate {
    /// Starts per second.
    pub fn per_second(self) -> f64 {
        self.millionths as f64 / 1e6
    }

    /// How long after the begin of the run the `n`-th start (from 0) is due, rounded down to a nanosecond.
    pub fn due(self, n: u64) -> Duration {
        Duration::from_nanos_u128(u128::from(n) * SCALE / u128::from(self.millionths))
    }

    /// How many starts are due before `length` has passed; the end itself is not part of the run.
    ///
    /// `length` is at most [`LONGEST`].
    pub fn starts_within(self, length: Duration) -> u64 {
        let starts = (length.as_nanos() * u128::from(self.millionths)).div_ceil(SCALE);
        u64::try_from(starts).expect("a year at a million a second fits easily")
    }
}

/// The longest run with an end. A longer one is meant to be endless.
pub const LONGEST: Duration = Duration::from_hours(365 * 24);

/// All starts of a run: a constant rate, with or without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    rate: Rate,
    starts: Option<u64>,
}

impl Schedule {
    /// `rate` for `length`, or until something ends the run.
    pub fn constant(rate: Rate, length: Option<Duration>) -> Self {
        Self {
            rate,
            starts: length.map(|length| rate.starts_within(length)),
        }
    }

    /// When the `n`-th start (from 0) is due, from the begin of the run; `None` when the run has fewer.
    pub fn due(&self, n: u64) -> Option<Duration> {
        match self.starts {
            Some(starts) if n >= starts => None,
            _ => Some(self.rate.due(n)),
        }
    }

    /// The number of starts, of a run with an end.
    pub fn starts(&self) -> Option<u64> {
        self.starts
    }

    /// The rate that is wanted.
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn the_nth_start_is_exact() {
        let second = 1_000_000_000_u128;
        for (text, n, nanos) in [
            ("1", 0, 0),
            ("1", 1, second),
            ("1000", 1, 1_000_000),
            ("1000", 999, 999_000_000),
            // A third of a second does not fit in nanoseconds: rounded down, and not added up.
            ("3", 1, 333_333_333),
            ("3", 2, 666_666_666),
            ("3", 3, second),
            ("3", 3_000_000_000, second * 1_000_000_000),
            ("0.5", 1, 2 * second),
            ("0.1", 1, 10 * second),
            ("0.000001", 1, 1_000_000 * second),
            ("33.333333", 33_333_333, second * 1_000_000),
            ("1000000", 1, 1_000),
            ("1000000", u64::MAX, u128::from(u64::MAX) * 1_000),
            ("7", 7 * 31_536_000, 31_536_000 * second),
        ] {
            assert_eq!(rate(text).due(n).as_nanos(), nanos, "start {n} at {text}/s");
        }
    }

    #[test]
    fn starts_within_a_length() {
        for (text, length, starts) in [
            ("1", Duration::from_secs(1), 1),
            ("100", Duration::from_secs(10), 1000),
            ("3", Duration::from_secs(1), 3),
            ("3", Duration::from_nanos(666_666_666), 2),
            ("3", Duration::from_nanos(666_666_667), 3),
            ("0.5", Duration::from_millis(1), 1),
            ("0.5", Duration::from_secs(2), 1),
            ("0.5", Duration::from_nanos(2_000_000_001), 2),
            ("1000000", LONGEST, 31_536_000_000_000),
            ("1", Duration::ZERO, 0),
        ] {
            assert_eq!(
                rate(text).starts_within(length),
                starts,
                "{text}/s for {length:?}"
            );
        }
    }

    #[test]
    fn a_schedule_has_exactly_the_starts_that_are_due_before_its_end() {
        for text in ["1", "3", "7", "99.9", "0.3", "12345.678901"] {
            for millis in [1, 999, 1000, 1001, 12_345] {
                let length = Duration::from_millis(millis);
                let schedule = Schedule::constant(rate(text), Some(length));
                let starts = schedule.starts().expect("it has an end");
                let last = schedule.due(starts - 1).expect("the last start");
                assert!(
                    last < length,
                    "{text}/s for {length:?}: the last start is inside"
                );
                assert!(
                    rate(text).due(starts) >= length,
                    "{text}/s for {length:?}: the next one is not"
                );
                assert_eq!(schedule.due(starts), None);
            }
        }
    }

    #[test]
    fn without_an_end_there_is_always_a_next_start() {
        let schedule = Schedule::constant(rate("1000"), None);
        assert_eq!(schedule.starts(), None);
        assert_eq!(schedule.due(u64::MAX), Some(rate("1000").due(u64::MAX)));
    }

    #[test]
    fn what_is_no_rate() {
        for (text, why) in [
            ("", RateError::NotANumber),
            ("fast", RateError::NotANumber),
            ("10/s", RateError::NotANumber),
            ("0", RateError::OutOfRange),
            ("-1", RateError::OutOfRange),
            ("0.0000001", RateError::OutOfRange),
            ("1000001", RateError::OutOfRange),
            ("inf", RateError::OutOfRange),
            ("NaN", RateError::OutOfRange),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(why), "{text:?}");
        }
        assert_eq!(rate("99.9").to_string(), "99.9");
    }
}
