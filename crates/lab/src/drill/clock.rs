//! How fast the time of rules and of Alertmanager passes in a drill.

use std::fmt::Write as _;

use anyhow::{Context, bail};

/// Times faster than the committed rules: five minutes are four scrapes, the fewest that rate() works in.
const COMPRESSED: u64 = 15;
/// `scrape_interval` and `evaluation_interval` of prometheus.yml, in seconds.
pub(super) const INTERVAL: u64 = 5;
/// No window holds fewer scrapes; as with the objectives' clock.
const SHORTEST_WINDOW: u64 = 4 * INTERVAL;
/// Alertmanager waits for no shorter time.
const SHORTEST_WAIT: u64 = 5;

/// Thresholds that are times themselves, and pass as fast as the windows.
const AGES: [(&str, u64); 1] = [("shop_oldest_pending_order_age_seconds > ", 300)];

/// Real time, or a faster one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    factor: u64,
}

impl Clock {
    pub(super) fn new(real_time: bool) -> Self {
        Self {
            factor: if real_time { 1 } else { COMPRESSED },
        }
    }

    pub(super) fn factor(self) -> u64 {
        self.factor
    }

    pub(super) fn is_real(self) -> bool {
        self.factor == 1
    }

    /// Seconds of a window between brackets.
    fn window(self, seconds: u64) -> u64 {
        match self.is_real() {
            true => seconds,
            false => (seconds / self.factor).max(SHORTEST_WINDOW),
        }
    }

    /// Seconds that Alertmanager waits for more alerts.
    fn wait(self, seconds: u64) -> u64 {
        match self.is_real() {
            true => seconds,
            false => (seconds / self.factor).max(SHORTEST_WAIT.min(seconds)),
        }
    }

    /// Prometheus rules on this clock: windows, offsets, `for`, and thresholds that are ages.
    pub(super) fn rules(self, text: &str) -> anyhow::Result<String> {
        if self.is_real() {
            return Ok(text.to_owned());
        }
        let mut faster = String::new();
        for line in text.lines() {
            let trimmed = line.trim_start();
            let line = match trimmed.strip_prefix("for: ") {
                _ if trimmed.starts_with('#') => line.to_owned(),
                Some(hold) => {
                    let indent = &line[..line.len() - trimmed.len()];
                    format!("{indent}for: {}s", seconds(hold)? / self.factor)
                }
                None => self.expression(line)?,
            };
            let _ = writeln!(faster, "{line}");
        }
        Ok(faster)
    }

    fn expression(self, line: &str) -> anyhow::Result<String> {
        let mut line = self.each(line, "[", |c| c == ']')?;
        line = self.each(&line, " offset ", |c| !c.is_ascii_alphanumeric())?;
        for (age, threshold) in AGES {
            let faster = format!("{age}{}", threshold / self.factor);
            line = line.replace(&format!("{age}{threshold}"), &faster);
        }
        Ok(line)
    }

    /// Replaces every time that follows `before`.
    fn each(self, line: &str, before: &str, ends: impl Fn(char) -> bool) -> anyhow::Result<String> {
        let mut parts = line.split(before);
        let mut faster = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(&ends).unwrap_or(part.len());
            faster += before;
            match seconds(&part[..end]) {
                Ok(window) => {
                    let _ = write!(faster, "{}s", self.window(window));
                    faster += &part[end..];
                }
                // Brackets of a list, say.
                Err(_) => faster += part,
            }
        }
        Ok(faster)
    }

    /// Alertmanager's configuration on this clock: how long it gathers alerts before it tells of them.
    pub(super) fn alertmanager(self, text: &str) -> anyhow::Result<String> {
        if self.is_real() {
            return Ok(text.to_owned());
        }
        let mut faster = String::new();
        for line in text.lines() {
            let named = ["group_wait: ", "group_interval: "]
                .into_iter()
                .find_map(|key| {
                    line.split_once(key)
                        .filter(|(before, _)| !before.contains('#'))
                        .map(|(before, value)| (before, key, value))
                });
            match named {
                Some((before, key, value)) => {
                    let _ = writeln!(faster, "{before}{key}{}s", self.wait(seconds(value)?));
                }
                None => {
                    let _ = writeln!(faster, "{line}");
                }
            }
        }
        Ok(faster)
    }
}

/// Seconds of `14m45s`.
pub(super) fn seconds(time: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    let mut number: Option<u64> = None;
    for c in time.trim().chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0) * 10 + u64::from(digit));
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => bail!("{time} is no time of whole seconds"),
        };
        total += number.take().context("a unit without a number")? * unit;
    }
    match number {
        None if !time.trim().is_empty() => Ok(total),
        _ => bail!("{time} is no time of whole seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_offsets_holds_and_ages_pass_faster() {
        let rules = "\
# over [5m], a comment
- expr: increase(a[10m]) > 0 or a unless a offset 5m
  for: 10m
- expr: shop_oldest_pending_order_age_seconds > 300
  for: 30s
- expr: a{b=~\"[a-z]+\"} > 300
";
        let faster = "\
# over [5m], a comment
- expr: increase(a[40s]) > 0 or a unless a offset 20s
  for: 40s
- expr: shop_oldest_pending_order_age_seconds > 20
  for: 2s
- expr: a{b=~\"[a-z]+\"} > 300
";
        assert_eq!(Clock::new(false).rules(rules).unwrap(), faster);
        assert_eq!(Clock::new(true).rules(rules).unwrap(), rules);
        let text = "route:\n  group_wait: 5s\n  group_interval: 5m\n  repeat_interval: 4h\n- { group_wait: 0s\n";
        assert_eq!(
            Clock::new(false).alertmanager(text).unwrap(),
            "route:\n  group_wait: 5s\n  group_interval: 20s\n  repeat_interval: 4h\n- { group_wait: 0s\n"
        );
    }

    #[test]
    fn times() {
        assert_eq!(seconds("14m45s").unwrap(), 885);
        for wrong in ["", "5", "m", "1w", "5ms"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
