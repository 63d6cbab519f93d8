//! What people chose, as it stands in the address: time range and refresh, in Grafana's words.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Names and values of a query string.
pub(crate) type Pairs = Vec<(String, String)>;

/// The ranges that people can choose with a click.
pub(crate) const RANGES: [&str; 8] = ["5m", "15m", "30m", "1h", "3h", "6h", "24h", "7d"];

/// How often the page can be drawn anew.
pub(crate) const REFRESHES: [&str; 5] = ["5s", "10s", "30s", "1m", "5m"];

/// Longer ago than anything is kept, and more than any data source likes to be asked for.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 400);

/// From when to when, as it was written and as it is meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Milliseconds since 1970.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl Range {
    /// What was asked for; what there is instead when it cannot be understood, and why.
    pub(crate) fn read(
        pairs: &Pairs,
        otherwise: (&str, &str),
        now: Timestamp,
    ) -> (Self, Option<String>) {
        let text = |name: &str, otherwise: &str| {
            let given = last(pairs, name).filter(|it| !it.trim().is_empty());
            given.unwrap_or(otherwise).trim().to_owned()
        };
        let (from, to) = (text("from", otherwise.0), text("to", otherwise.1));
        match Self::of(&from, &to, now) {
            Ok(range) => (range, None),
            Err(why) => {
                let range = Self::of(otherwise.0, otherwise.1, now);
                let range = range.or_else(|_| Self::of("now-15m", "now", now));
                let hour = |it: i64| it - 3_600_000;
                let range = range.unwrap_or_else(|_| Self {
                    from: "now-1h".into(),
                    to: "now".into(),
                    from_ms: hour(now.as_millisecond()),
                    to_ms: now.as_millisecond(),
                });
                (range, Some(why))
            }
        }
    }

    fn of(from: &str, to: &str, now: Timestamp) -> Result<Self, String> {
        let (start, end) = (moment(from, now)?, moment(to, now)?);
        if end <= start {
            return Err(format!("{to} is not after {from}"));
        }
        if end.duration_since(start) > LONGEST {
            return Err(format!("{from} to {to} is longer than 400 days"));
        }
        Ok(Self {
            from: from.into(),
            to: to.into(),
            from_ms: start.as_millisecond(),
            to_ms: end.as_millisecond(),
        })
    }

    /// Seconds since 1970.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are far below 2^53"
    )]
    pub(crate) fn seconds(&self) -> std::ops::Range<f64> {
        self.from_ms as f64 / 1000.0..self.to_ms as f64 / 1000.0
    }
}

/// `now`, `now-15m`, milliseconds since 1970, or a time as RFC 3339 writes it, in UTC when it does not say.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "{text} is not a time; write now, now-15m, 2026-11-25T10:00:00Z or milliseconds since 1970"
        )
    };
    if let Some(rest) = text.strip_prefix("now") {
        let Some(back) = rest.strip_prefix('-') else {
            return if rest.is_empty() {
                Ok(now)
            } else {
                Err(wrong())
            };
        };
        let back = duration(back).ok_or_else(wrong)?;
        let back = SignedDuration::try_from(back).map_err(|_| wrong())?;
        return now.checked_sub(back).map_err(|_| wrong());
    }
    if let Ok(ms) = text.parse() {
        return Timestamp::from_millisecond(ms).map_err(|_| wrong());
    }
    let in_utc = || format!("{text}Z").parse().ok();
    text.parse().ok().or_else(in_utc).ok_or_else(wrong)
}

/// `15m` as Grafana and Prometheus write it.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|it: char| !it.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number.parse().ok()?)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        "M" => 2_592_000,
        "y" => 31_536_000,
        _ => return None,
    };
    Some(Duration::from_secs(
        number.parse::<u64>().ok()?.checked_mul(seconds)?,
    ))
}

/// The last value of a name counts.
pub(crate) fn last<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let found = pairs.iter().rev().find(|(it, _)| it == name);
    found.map(|(_, value)| value.as_str())
}

/// How often the page is drawn anew; not at all when that is what was chosen.
pub(crate) fn refresh(pairs: &Pairs, otherwise: &str) -> Option<String> {
    let text = last(pairs, "refresh").unwrap_or(otherwise);
    let known = REFRESHES.contains(&text) || text == otherwise;
    (known && duration(text).is_some()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    fn pairs(of: &[(&str, &str)]) -> Pairs {
        of.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn times_are_those_of_grafana() {
        for (text, meant) in [
            ("now", "2026-11-25T12:00:00Z"),
            ("now-15m", "2026-11-25T11:45:00Z"),
            ("now-2d", "2026-11-23T12:00:00Z"),
            ("2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z"),
            ("2026-11-25T10:00:00+01:00", "2026-11-25T09:00:00Z"),
            ("2026-11-25 10:00", "2026-11-25T10:00:00Z"),
            ("1764064800000", "2025-11-25T10:00:00Z"),
        ] {
            assert_eq!(moment(text, now()).unwrap().to_string(), meant, "{text}");
        }
    }

    #[test]
    fn a_wrong_time_is_told_and_the_usual_one_taken() {
        for (from, to, said) in [
            ("yesterday", "now", "yesterday is not a time"),
            ("now-15", "now", "now-15 is not a time"),
            ("now-99999999999999y", "now", "is not a time"),
            ("now+1h", "now", "is not a time"),
            ("now", "now-1h", "now-1h is not after now"),
            ("now-9y", "now", "longer than 400 days"),
            ("<script>", "now", "<script> is not a time"),
        ] {
            let asked = pairs(&[("from", from), ("to", to)]);
            let (range, why) = Range::read(&asked, ("now-30m", "now"), now());
            let why = why.unwrap_or_default();
            assert!(why.contains(said), "{from}: {why}");
            assert_eq!(range.to_ms - range.from_ms, 30 * 60_000);
        }
        let (range, why) = Range::read(&pairs(&[("from", " now-1h ")]), ("now-30m", "now"), now());
        assert_eq!((range.to_ms - range.from_ms, why), (3_600_000, None));
    }

    #[test]
    fn only_a_known_refresh_is_taken() {
        assert_eq!(refresh(&pairs(&[]), "10s").as_deref(), Some("10s"));
        assert_eq!(
            refresh(&pairs(&[("refresh", "5s")]), "10s").as_deref(),
            Some("5s")
        );
        assert_eq!(refresh(&pairs(&[("refresh", "")]), "10s"), None);
        assert_eq!(refresh(&pairs(&[("refresh", "1ms")]), "10s"), None);
        assert_eq!(refresh(&pairs(&[]), ""), None);
    }
}
