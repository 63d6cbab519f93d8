//! *When* to send, apart from *what* and *how*: pure functions, tested without sleeping.
//!
//! A start's time is computed from the area under the curve up to it, never from the start before it, in integers: a
//! run of a year ends on the same grid that it began on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::curve::{Curve, START};

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

    /// Starts in a million seconds.
    pub fn millionths(self) -> u64 {
        self.millionths
    }
}

/// The longest run with an end. A longer one is meant to be endless.
pub const LONGEST: Duration = Duration::from_hours(365 * 24);
/// More starts than [`LONGEST`] at the highest rate has.
const MOST_STARTS: u64 = 1 << 45;

/// How starts are spread under the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly: at a constant rate, all gaps are the same.
    Even,
    /// At random and independently of each other, as people come: a Poisson process, the same for the same seed.
    Poisson {
        /// Decides when.
        seed: u64,
    },
}

/// One of several generators that share a plan: it makes the starts whose number leaves `index` when divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    of: u64,
}

impl Default for Shard {
    /// A generator that works alone.
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

impl Shard {
    /// Whether this is one of several.
    pub fn is_part(self) -> bool {
        self.of > 1
    }

    /// How many of the first `starts` starts of the plan are its own.
    fn share(self, starts: u64) -> u64 {
        starts.saturating_sub(self.index).div_ceil(self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .trim()
            .split_once('/')
            .and_then(|(index, of)| Some((index.trim().parse().ok()?, of.trim().parse().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            Some((_, 0)) => Err("there is no shard of none; give for example 0/4".to_owned()),
            Some((index, of)) => Err(format!(
                "shards count from 0, so {index}/{of} is none; the last of {of} is {}/{of}",
                of - 1
            )),
            None => Err("give the number of the shard, from 0, and how many there are: 0/4, 1/4, 2/4 and 3/4".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// All starts of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    curve: Curve,
    arrivals: Arrivals,
    length: Option<Duration>,
    shard: Shard,
}

/// One start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Its number in the whole plan, from 0.
    pub number: u64,
    /// When it is due, from the begin of the run.
    pub due: Duration,
}

impl Schedule {
    /// An even, constant `rate` for `length`, or until something ends the run.
    pub fn constant(rate: Rate, length: Option<Duration>) -> Self {
        Self::new(Curve::Constant(rate), Arrivals::Even, length)
    }

    /// `arrivals` under `curve` for `length`, at most [`LONGEST`], or until something ends the run; the end itself is
    /// not part of the run.
    pub fn new(curve: Curve, arrivals: Arrivals, length: Option<Duration>) -> Self {
        Self {
            curve,
            arrivals,
            length,
            shard: Shard::default(),
        }
    }

    /// Only what falls to `shard`.
    pub fn of_shard(self, shard: Shard) -> Self {
        Self { shard, ..self }
    }

    /// The starts, in order.
    pub fn starts(&self) -> Starts<'_> {
        let (area, rng) = match self.arrivals {
            Arrivals::Even => (0, None),
            Arrivals::Poisson { seed } => {
                let mut rng = StdRng::seed_from_u64(seed);
                (gap(&mut rng), Some(rng))
            }
        };
        Starts {
            schedule: self,
            number: 0,
            area,
            last: area,
            given: 0,
            rng,
        }
    }

    /// The number of starts of a run with an end: exact for even arrivals, the expectation for random ones.
    pub fn expected(&self) -> Option<u64> {
        let length = self.length?;
        let (mut below, mut above) = (0, MOST_STARTS);
        while below < above {
            let middle = below + (above - below) / 2;
            if self
                .reached(u128::from(middle) * START)
                .is_some_and(|due| due < length)
            {
                below = middle + 1;
            } else {
                above = middle;
            }
        }
        Some(self.shard.share(below))
    }

    /// The rate wanted of this generator at a moment, in starts per second.
    pub fn rate_at(&self, since_begin: Duration) -> f64 {
        self.curve.rate_at(since_begin.as_nanos()) / self.shard.of as f64
    }

    /// The rate that is wanted, when it is the same all the time. What random arrivals come to is for chance to say.
    pub fn constant_rate(&self) -> Option<f64> {
        match (&self.curve, self.arrivals) {
            (Curve::Constant(rate), Arrivals::Even) => {
                Some(rate.per_second() / self.shard.of as f64)
            }
            _ => None,
        }
    }

    /// When the run is over, if it has an end.
    pub fn length(&self) -> Option<Duration> {
        self.length
    }

    fn reached(&self, area: u128) -> Option<Duration> {
        self.curve.reached(area).map(Duration::from_nanos_u128)
    }
}

/// The starts of a [`Schedule`].
#[derive(Debug)]
pub struct Starts<'a> {
    schedule: &'a Schedule,
    /// Number and area of the next start of the whole plan.
    number: u64,
    area: u128,
    /// The area of the start that was given out last.
    last: u128,
    given: u64,
    rng: Option<StdRng>,
}

impl Starts<'_> {
    /// How long those given out so far were planned to take: up to the next one, but not beyond the end.
    ///
    /// At an even and constant rate always up to the next one, so that number and time give the rate.
    pub fn span(&self) -> Duration {
        let next = self.schedule.reached(self.area);
        let exact = matches!(
            (&self.schedule.curve, self.schedule.arrivals),
            (Curve::Constant(_), Arrivals::Even)
        );
        match self.schedule.length {
            Some(length) if !exact => next.map_or(length, |next| next.min(length)),
            _ => next.unwrap_or_default(),
        }
    }

    /// How many have been given out.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// The one that was given out last was not made, and no further one will be.
    pub fn take_back(&mut self) {
        self.given -= 1;
        self.area = self.last;
    }

    fn advance(&mut self) {
        self.number += 1;
        self.last = self.area;
        self.area += match &mut self.rng {
            None => START,
            Some(rng) => gap(rng),
        };
    }
}

impl Iterator for Starts<'_> {
    type Item = Start;

    fn next(&mut self) -> Option<Start> {
        let shard = self.schedule.shard;
        loop {
            let due = self.schedule.reached(self.area)?;
            if self.schedule.length.is_some_and(|length| due >= length) {
                return None;
            }
            let number = self.number;
            self.advance();
            if number % shard.of == shard.index {
                self.given += 1;
                return Some(Start { number, due });
            }
        }
    }
}

/// The area between two random arrivals: exponential, one start on average.
fn gap(rng: &mut StdRng) -> u128 {
    // In [0, 1), so the logarithm is finite.
    let chance: f64 = rng.random();
    (-(-chance).ln_1p() * START as f64) as u128
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pace::Pace;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    fn constant(text: &str, length: Option<Duration>) -> Schedule {
        Schedule::constant(rate(text), length)
    }

    fn schedule(pace: &str, length: Option<&str>) -> Schedule {
        let length = length.map(|text| crate::pace::length(text).expect("a length"));
        Pace::parse(pace, |_| unreachable!("nothing is replayed"))
            .expect("a pace")
            .schedule(length, 1)
    }

    fn nanos(schedule: &Schedule) -> Vec<u128> {
        schedule
            .starts()
            .map(|start| start.due.as_nanos())
            .collect()
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
            let due = constant(text, None).reached(u128::from(n) * START);
            assert_eq!(
                due.map(|due| due.as_nanos()),
                Some(nanos),
                "start {n} at {text}/s"
            );
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
            let schedule = constant(text, Some(length));
            assert_eq!(schedule.expected(), Some(starts), "{text}/s for {length:?}");
        }
    }

    #[test]
    fn a_schedule_has_exactly_the_starts_that_are_due_before_its_end() {
        for text in ["1", "3", "7", "99.9", "0.3", "12345.678901"] {
            for millis in [1, 999, 1000, 1001, 12_345] {
                let length = Duration::from_millis(millis);
                let schedule = constant(text, Some(length));
                let mut starts = schedule.starts();
                let all: Vec<_> = starts.by_ref().collect();
                assert_eq!(schedule.expected(), Some(all.len() as u64));
                assert!(
                    all.iter().all(|start| start.due < length),
                    "{text}/s for {length:?}"
                );
                assert!(
                    starts.span() >= length,
                    "{text}/s for {length:?}: the next one is outside"
                );
                assert_eq!(starts.next(), None);
            }
        }
    }

    #[test]
    fn without_an_end_there_is_always_a_next_start() {
        assert_eq!(constant("1000", None).expected(), None);
        let third = constant("1000", None).starts().nth(2).expect("a start");
        assert_eq!((third.number, third.due), (2, Duration::from_millis(2)));
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

    #[test]
    fn where_the_starts_of_a_curve_are() {
        const MS: u128 = 1_000_000;
        for (pace, length, millis) in [
            ("4", Some("1s"), vec![0, 250, 500, 750]),
            (
                "steps:2/1s,4/1s",
                None,
                vec![0, 500, 1000, 1250, 1500, 1750],
            ),
            // A pause: what would fall on its begin waits for its end.
            ("steps:2/1s,0/5s,2/1s", None, vec![0, 500, 6000, 6500]),
            ("steps:0/3s,2/1s", None, vec![3000, 3500]),
            // The last rate is held, or the run ends earlier.
            (
                "steps:2/1s,1/1s",
                Some("4s"),
                vec![0, 500, 1000, 2000, 3000],
            ),
            ("steps:2/1s,4/1s", Some("1s"), vec![0, 500]),
            ("steps:2/1s,0/1s", Some("9s"), vec![0, 500]),
            // n = t² from 0 to 4 a second within 2 s: square roots.
            ("ramp:0..4/2s", Some("2s"), vec![0, 1000, 1414, 1732]),
            // Down: n = 4 t - t².
            ("ramp:4..0/2s", None, vec![0, 267, 585, 1000]),
            ("ramp:2..2/1s", None, vec![0, 500]),
            ("steps:0..2/1s,2/1s", None, vec![0, 1000, 1500]),
            (
                "spike:1..4@2s/1s",
                Some("5s"),
                vec![0, 1000, 2000, 2250, 2500, 2750, 3000, 4000],
            ),
            // Between two rates that are the same, a wave is a line.
            ("sine:2..2/10s", Some("2s"), vec![0, 500, 1000, 1500]),
        ] {
            let schedule = schedule(pace, length);
            let due: Vec<_> = nanos(&schedule).iter().map(|nanos| nanos / MS).collect();
            assert_eq!(due, millis, "{pace} for {length:?}");
            assert_eq!(
                schedule.expected(),
                Some(millis.len() as u64),
                "{pace} for {length:?}"
            );
        }
    }

    #[test]
    fn waves_are_symmetric_and_add_up() {
        let starts = nanos(&schedule("sine:0..20/10s", Some("30s")));
        assert_eq!(starts.len(), 300, "on average half the highest rate");
        let within = |from: u128, to: u128| {
            let second = 1_000_000_000;
            starts
                .iter()
                .filter(|due| (from * second..to * second).contains(due))
                .count()
        };
        assert_eq!(
            [within(0, 10), within(10, 20), within(20, 30)],
            [100, 100, 100]
        );
        // 10 t - 50/π sin(π t / 5) at t = 2 is 4.9.
        assert_eq!(within(10, 12), 5);
        assert!(within(14, 16) > 3 * within(10, 12), "most come at the top");
    }

    #[test]
    fn the_rate_at_a_moment() {
        for (pace, at, rate) in [
            ("7", 100, 7.0),
            ("ramp:0..10/10s", 5, 5.0),
            ("ramp:0..10/10s", 20, 10.0),
            ("steps:1/1s,3/1s", 1, 3.0),
            ("spike:1..9@2s/2s", 1, 1.0),
            ("spike:1..9@2s/2s", 3, 9.0),
            ("spike:1..9@2s/2s", 4, 1.0),
            ("sine:2..10/10s", 0, 2.0),
            ("sine:2..10/10s", 15, 10.0),
        ] {
            let actual = schedule(pace, None).rate_at(Duration::from_secs(at));
            assert!((actual - rate).abs() < 1e-9, "{pace} at {at} s: {actual}");
        }
        let half = schedule("7", None).of_shard("1/2".parse().expect("a shard"));
        assert_eq!(half.rate_at(Duration::ZERO), 3.5);
        assert_eq!(half.constant_rate(), Some(3.5));
    }

    #[test]
    fn achieved_is_wanted_when_nothing_is_late() {
        for (pace, length, wanted) in [
            ("100", "3s", 100.0),
            ("3", "500ms", 3.0),
            ("ramp:0..100/10s", "10s", 50.0),
            ("ramp:0..100/10s", "20s", 75.0),
            ("sine:10..30/5s", "10s", 20.0),
            ("steps:2/1s,0/1s", "4s", 0.5),
        ] {
            let schedule = schedule(pace, Some(length));
            let mut starts = schedule.starts();
            let count = starts.by_ref().count();
            let rate = count as f64 / starts.span().as_secs_f64();
            assert!(
                (rate - wanted).abs() < 1e-6 * wanted,
                "{pace} for {length}: {rate}"
            );
        }
    }

    /// The distance of the Kolmogorov-Smirnov test between `sample` and a distribution.
    fn distance(mut sample: Vec<f64>, distribution: impl Fn(f64) -> f64) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        sample
            .iter()
            .enumerate()
            .fold(0.0, |distance: f64, (rank, value)| {
                let expected = distribution(*value);
                distance
                    .max(expected - rank as f64 / n)
                    .max((rank + 1) as f64 / n - expected)
            })
    }

    #[test]
    fn random_arrivals_pass_a_kolmogorov_smirnov_test() {
        for seed in 1..=5 {
            let schedule = Schedule::new(
                Curve::Constant(rate("200")),
                Arrivals::Poisson { seed },
                Some(Duration::from_secs(100)),
            );
            let times: Vec<_> = schedule
                .starts()
                .map(|start| start.due.as_secs_f64())
                .collect();
            let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let n = gaps.len() as f64;
            // Six standard deviations of the number around 20,000.
            assert!((n - 20_000.0).abs() < 850.0, "{n}");
            // 1 % significance.
            let bound = 1.628 / n.sqrt();
            let exponential = distance(gaps.clone(), |gap| 1.0 - (-200.0 * gap).exp());
            assert!(
                exponential < bound,
                "seed {seed}: {exponential} is not below {bound}"
            );
            // Given their number, the times themselves are uniform.
            let uniform = distance(times, |time| time / 100.0);
            assert!(
                uniform < bound,
                "seed {seed}: {uniform} is not below {bound}"
            );
            // The test can tell: a rate that is 5 % off does not pass.
            assert!(distance(gaps, |gap| 1.0 - (-210.0 * gap).exp()) > bound);
        }
        // Even arrivals fail it by far.
        let even = constant("200", Some(Duration::from_secs(10)));
        let times: Vec<_> = even.starts().map(|start| start.due.as_secs_f64()).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(distance(gaps, |gap| 1.0 - (-200.0 * gap).exp()) > 0.3);
    }

    #[test]
    fn random_arrivals_follow_their_curve_and_their_seed() {
        let run = |seed| {
            let pace = Pace::parse("poisson:ramp:0..200/100s", |_| unreachable!()).expect("a pace");
            nanos(&pace.schedule(None, seed))
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        // Under a ramp from nothing, the square of the time is uniform.
        let times: Vec<_> = run(7).into_iter().map(|nanos| nanos as f64 / 1e9).collect();
        let bound = 1.628 / (times.len() as f64).sqrt();
        let distance = distance(times, |time| (time / 100.0).powi(2));
        assert!(distance < bound, "{distance} is not below {bound}");
    }

    #[test]
    fn what_is_no_shard() {
        for (text, said) in [
            ("", "0/4"),
            ("1", "0/4"),
            ("a/b", "0/4"),
            ("-1/2", "0/4"),
            ("4/4", "the last of 4 is 3/4"),
            ("0/0", "no shard of none"),
        ] {
            let message = text.parse::<Shard>().expect_err(text);
            assert!(message.contains(said), "{text}: {message}");
        }
        assert_eq!(
            "3/4".parse::<Shard>().map(|shard| shard.to_string()),
            Ok("3/4".to_owned())
        );
    }

    proptest! {
        #[test]
        fn shards_together_are_the_plan(
            of in 1_u64..9,
            seed in any::<u64>(),
            millis in 1_u64..4000,
            pace in prop::sample::select(vec![
                "250", "poisson:250", "ramp:0..300/2s", "poisson:ramp:300..0/1s", "steps:100/1s,0/1s,50..200/1s",
                "sine:0..200/700ms", "poisson:spike:20..400@1s/500ms",
            ]),
        ) {
            let pace = Pace::parse(pace, |_| unreachable!()).expect("a pace");
            let whole = pace.schedule(Some(Duration::from_millis(millis)), seed);
            let mut union = Vec::new();
            let mut expected = 0;
            for index in 0..of {
                let shard = format!("{index}/{of}").parse().expect("a shard");
                let shard = whole.clone().of_shard(shard);
                union.extend(shard.starts());
                expected += shard.expected().expect("it has an end");
            }
            union.sort_by_key(|start| start.number);
            prop_assert_eq!(union, whole.starts().collect::<Vec<_>>());
            prop_assert_eq!(Some(expected), whole.expected());
        }

        #[test]
        fn time_never_goes_back(
            pieces in prop::collection::vec((0_u32..500, 0_u32..500, 1_u32..3000), 1..6),
            seed in any::<u64>(),
        ) {
            let text = pieces.iter().map(|(from, to, millis)| format!("{from}..{to}/{millis}ms"));
            let text = format!("steps:1/1ms,{}", text.collect::<Vec<_>>().join(","));
            let area: u64 = pieces.iter().map(|(from, to, millis)| u64::from(from + to) * u64::from(*millis)).sum();
            for pace in [text.clone(), format!("poisson:{text}")] {
                let pace = Pace::parse(&pace, |_| unreachable!()).expect("a pace");
                let schedule = pace.schedule(None, seed);
                let starts: Vec<_> = schedule.starts().collect();
                prop_assert!(starts.windows(2).all(|pair| pair[0].due <= pair[1].due));
                prop_assert!(starts.iter().enumerate().all(|(n, start)| start.number == n as u64));
                // As many as the area under the curve, in thousandths halved.
                let expected = schedule.expected().expect("it has an end");
                prop_assert!((expected as f64 - (area + 2) as f64 / 2000.0).abs() <= 1.0);
            }
        }
    }
}
