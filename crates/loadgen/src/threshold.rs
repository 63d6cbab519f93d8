//! What a result must come up to, so that a program can tell: `p99 < 50ms`, `error_rate < 0.1%`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::summary::Summary;
use crate::times::Times;

/// How one is written, for `--help` and for errors.
pub const FORMS: &str = "\
  p99 < 50ms, max <= 1s, mean < 900us      latency; any percentile: p50, p99.9
  service.p99 < 20ms, lateness.p99 < 1ms   service time, lateness
  error_rate < 0.1%                        failed and timed out, of those sent
  p99{GET /api/orders} < 80ms              the same of one route, as the result names it
  achieved_rate >= 99, dropped <= 0        requests per second, starts given up";

/// A bound on one number of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    measure: Measure,
    route: Option<String>,
    comparison: Comparison,
    bound: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    Time(Kind, Point),
    ErrorRate,
    AchievedRate,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Latency,
    Service,
    Lateness,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    Quantile(f64),
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What came of a [`Threshold`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// As it was given.
    pub threshold: String,
    /// Whether the result comes up to it. Never when nothing was measured.
    pub ok: bool,
    /// What was measured: milliseconds, a share from 0 to 1, requests per second, or a number.
    pub value: Option<f64>,
}

impl Threshold {
    /// Whether `summary` comes up to it.
    pub fn check(&self, summary: &Summary) -> Checked {
        let value = self.value(summary);
        Checked {
            threshold: self.text.clone(),
            ok: value.is_some_and(|value| self.comparison.holds(value, self.bound)),
            value,
        }
    }

    fn value(&self, summary: &Summary) -> Option<f64> {
        let share = |errors: u64, of: u64| (of > 0).then(|| errors as f64 / of as f64);
        if let Some(route) = &self.route {
            let route = summary.routes.get(route)?;
            return match self.measure {
                Measure::Time(_, point) => point.of(&route.latency),
                _ => share(route.errors, route.sent),
            };
        }
        match self.measure {
            Measure::Time(kind, point) => point.of(match kind {
                Kind::Latency => &summary.histograms.latency,
                Kind::Service => &summary.histograms.service,
                Kind::Lateness => &summary.histograms.lateness,
            }),
            Measure::ErrorRate => share(summary.failed + summary.timed_out, summary.sent),
            Measure::AchievedRate => Some(summary.achieved_rate),
            Measure::Dropped => Some(summary.dropped as f64),
        }
    }
}

impl Point {
    fn of(self, times: &Times) -> Option<f64> {
        match self {
            Self::Quantile(share) => times.quantile_ms(share),
            Self::Mean => times.mean_ms(),
        }
    }
}

impl Comparison {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::LessOrEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterOrEqual => value >= bound,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |why: &str| format!("{why}; thresholds look like\n{FORMS}");
        let (before, after) =
            outside_braces(text).ok_or_else(|| wrong("there is no <, <=, > or >= in it"))?;
        let (comparison, bound) = match (&text[before..=before], &text[after..]) {
            ("<", rest) => match rest.strip_prefix('=') {
                Some(rest) => (Comparison::LessOrEqual, rest),
                None => (Comparison::Less, rest),
            },
            (_, rest) => match rest.strip_prefix('=') {
                Some(rest) => (Comparison::GreaterOrEqual, rest),
                None => (Comparison::Greater, rest),
            },
        };
        let (name, route) = match text[..before].trim().split_once('{') {
            None => (text[..before].trim(), None),
            Some((name, route)) => {
                let route = route
                    .strip_suffix('}')
                    .ok_or_else(|| wrong("a { without its }"))?;
                (name.trim(), Some(route.trim().to_owned()))
            }
        };
        let measure = measure(name).ok_or_else(|| wrong(&format!("{name:?} is not measured")))?;
        let of_routes = matches!(
            measure,
            Measure::Time(Kind::Latency, _) | Measure::ErrorRate
        );
        if route.is_some() && !of_routes {
            return Err(wrong(
                "routes have latencies and an error_rate, nothing else",
            ));
        }
        Ok(Self {
            measure,
            route,
            comparison,
            bound: bound_of(measure, bound.trim()).map_err(|why| wrong(&why))?,
            text: text.to_owned(),
        })
    }
}

/// Where the comparison is, and what follows it; a route may have such characters too.
fn outside_braces(text: &str) -> Option<(usize, usize)> {
    let from = text.rfind('}').unwrap_or(0);
    let at = from + text[from..].find(['<', '>'])?;
    Some((at, at + 1))
}

fn measure(name: &str) -> Option<Measure> {
    let (kind, point) = match name.split_once('.') {
        Some(("latency", point)) => (Kind::Latency, point),
        Some(("service", point)) => (Kind::Service, point),
        Some(("lateness", point)) => (Kind::Lateness, point),
        _ => (Kind::Latency, name),
    };
    Some(match point {
        "error_rate" if point == name => Measure::ErrorRate,
        "achieved_rate" if point == name => Measure::AchievedRate,
        "dropped" if point == name => Measure::Dropped,
        "mean" => Measure::Time(kind, Point::Mean),
        "max" => Measure::Time(kind, Point::Quantile(1.0)),
        _ => Measure::Time(kind, Point::Quantile(percentile(point)?)),
    })
}

/// The share of `p99` or `p99.9`.
pub fn percentile(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('p')?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let percent: f64 = digits.parse().ok()?;
    // Rounded, or 99.9 % were a tiny bit more than 0.999.
    (0.0..=100.0)
        .contains(&percent)
        .then(|| (percent * 1e7).round() / 1e9)
}

fn bound_of(measure: Measure, text: &str) -> Result<f64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    let factor = match (measure, unit.trim()) {
        (Measure::Time(..), "us" | "µs") => 0.001,
        (Measure::Time(..), "ms") => 1.0,
        (Measure::Time(..), "s") => 1000.0,
        (Measure::Time(..), _) => {
            return Err(format!("{text:?} needs a unit: us, ms or s"));
        }
        (Measure::ErrorRate, "%") => 0.01,
        (_, "") => 1.0,
        (_, unit) => return Err(format!("{unit:?} is no unit of that")),
    };
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_what_they_say() {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
        let latency = |share| Measure::Time(Kind::Latency, Point::Quantile(share));
        for (text, measure, route, comparison, bound) in [
            ("p99 < 50ms", latency(0.99), None, Less, 50.0),
            ("p99.9<=1.5s", latency(0.999), None, LessOrEqual, 1500.0),
            ("latency.p50 < 900us", latency(0.5), None, Less, 0.9),
            ("max < 1s", latency(1.0), None, Less, 1000.0),
            (
                "service.mean < 5 ms",
                Measure::Time(Kind::Service, Point::Mean),
                None,
                Less,
                5.0,
            ),
            (
                "lateness.p99 < 1ms",
                Measure::Time(Kind::Lateness, Point::Quantile(0.99)),
                None,
                Less,
                1.0,
            ),
            ("error_rate < 0.1%", Measure::ErrorRate, None, Less, 0.001),
            ("error_rate<0.25", Measure::ErrorRate, None, Less, 0.25),
            (
                "achieved_rate >= 99.5",
                Measure::AchievedRate,
                None,
                GreaterOrEqual,
                99.5,
            ),
            ("dropped <= 0", Measure::Dropped, None, LessOrEqual, 0.0),
            (
                "p90{GET /api/orders/{id}} < 80ms",
                latency(0.9),
                Some("GET /api/orders/{id}"),
                Less,
                80.0,
            ),
            (
                "error_rate { GET /a>b } > 5%",
                Measure::ErrorRate,
                Some("GET /a>b"),
                Greater,
                0.05,
            ),
        ] {
            let threshold: Threshold = text.parse().expect(text);
            assert_eq!(threshold.measure, measure, "{text}");
            assert_eq!(threshold.route.as_deref(), route, "{text}");
            assert_eq!(threshold.comparison, comparison, "{text}");
            assert!(
                (threshold.bound - bound).abs() < 1e-12,
                "{text}: {}",
                threshold.bound
            );
            assert_eq!(threshold.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_threshold_is_told_with_what_to_write() {
        for (text, said) in [
            ("", "no <, <=, > or >="),
            ("p99", "no <, <=, > or >="),
            ("p99 = 5ms", "no <, <=, > or >="),
            ("p99 < 50", "needs a unit"),
            ("p99 < 5 minutes", "needs a unit"),
            ("p99 < ms", "begin with a number"),
            ("p99 < -5ms", "begin with a number"),
            ("p101 < 5ms", "\"p101\" is not measured"),
            ("p < 5ms", "not measured"),
            ("pNaN < 5ms", "not measured"),
            ("speed < 5ms", "\"speed\" is not measured"),
            ("service.error_rate < 1%", "not measured"),
            ("error_rate < 5ms", "\"ms\" is no unit of that"),
            ("achieved_rate > 5%", "no unit of that"),
            ("p99{GET / < 5ms", "without its }"),
            ("service.p99{GET /} < 5ms", "nothing else"),
        ] {
            let message = text.parse::<Threshold>().expect_err(text);
            assert!(message.contains(said), "{text:?}: {message}");
            assert!(
                message.contains("error_rate < 0.1%"),
                "{text:?} gives examples"
            );
        }
    }

    #[test]
    fn comparisons_at_the_bound() {
        for (comparison, holds) in [
            (Comparison::Less, [true, false, false]),
            (Comparison::LessOrEqual, [true, true, false]),
            (Comparison::Greater, [false, false, true]),
            (Comparison::GreaterOrEqual, [false, true, true]),
        ] {
            assert_eq!(
                [1.0, 2.0, 3.0].map(|value| comparison.holds(value, 2.0)),
                holds
            );
        }
    }
}
