//! How long a window is.

use crate::Error;

/// A window that holds fewer samples than this loses its rate() with one late scrape: two are needed.
const SAMPLES_IN_A_WINDOW: u64 = 4;

/// A stretch of time, named as the specification means it: over 5 minutes, whatever the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window(u64);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What an SLO is kept or missed over.
pub(crate) const PERIOD: Window = Window(30 * DAY);

/// Two windows and a burn rate: both must burn faster for the alert to fire. The long one says that it
/// matters, the short one that it goes on.
#[derive(Debug)]
pub(crate) struct Burn {
    /// How many times faster than the budget lasts.
    pub(crate) factor: f64,
    pub(crate) short: Window,
    pub(crate) long: Window,
}

/// An alert's two burns: either is enough.
#[derive(Debug)]
pub(crate) struct Severity {
    /// `page` or `ticket`.
    pub(crate) name: &'static str,
    pub(crate) quick: Burn,
    pub(crate) slow: Burn,
}

// SRE workbook, chapter 5, table 5-8, for 30 days: 2 % of the budget in an hour, 5 % in six hours, 10 % in
// a day, 10 % in three days.
pub(crate) const PAGE: Severity = Severity {
    name: "page",
    quick: Burn {
        factor: 14.4,
        short: Window(5 * MINUTE),
        long: Window(HOUR),
    },
    slow: Burn {
        factor: 6.0,
        short: Window(30 * MINUTE),
        long: Window(6 * HOUR),
    },
};
pub(crate) const TICKET: Severity = Severity {
    name: "ticket",
    quick: Burn {
        factor: 3.0,
        short: Window(2 * HOUR),
        long: Window(DAY),
    },
    slow: Burn {
        factor: 1.0,
        short: Window(6 * HOUR),
        long: Window(3 * DAY),
    },
};

/// A pair of windows and what both must exceed, as others show it.
#[derive(Debug, Clone, PartialEq)]
pub struct BurnRate {
    /// `sloth_severity` of its alert: `page` or `ticket`.
    pub severity: &'static str,
    /// How many times faster than the budget lasts.
    pub factor: f64,
    /// `sloth_window` of the long window's recordings, `1h`.
    pub long: String,
    /// Seconds of the long window on the real clock.
    pub long_seconds: u64,
    /// `sloth_window` of the short window's recordings, `5m`.
    pub short: String,
}

/// Every pair of windows that an alert looks at, the most urgent first.
#[must_use]
pub fn burn_rates() -> Vec<BurnRate> {
    let of = |severity: &Severity, burn: &Burn| BurnRate {
        severity: severity.name,
        factor: burn.factor,
        long: burn.long.to_string(),
        long_seconds: burn.long.0,
        short: burn.short.to_string(),
    };
    [&PAGE, &TICKET]
        .into_iter()
        .flat_map(|severity| [of(severity, &severity.quick), of(severity, &severity.slow)])
        .collect()
}

/// `sloth_window` of the period that an objective is kept or missed over, `30d`.
#[must_use]
pub fn period() -> String {
    PERIOD.to_string()
}

/// Every window that an alert looks at, each once, in order.
pub(crate) fn alert_windows() -> Vec<Window> {
    let mut windows: Vec<_> = [&PAGE, &TICKET]
        .into_iter()
        .flat_map(|severity| [&severity.quick, &severity.slow])
        .flat_map(|burn| [burn.short, burn.long])
        .collect();
    windows.sort_by_key(|window| window.0);
    windows.dedup();
    windows
}

/// The shortest window, which says how fast the budget burns now.
pub(crate) const NOW: Window = PAGE.quick.short;

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&promql(self.0))
    }
}

/// How fast the time of the objectives runs: at 60 a month passes in twelve hours.
///
/// Names keep the window that is meant (`slo:sli_error:ratio_rate5m`), so that dashboards and alerts are the
/// same on every clock; the expressions have the length it really has.
#[derive(Debug, Clone)]
pub struct Clock {
    factor: u32,
    scrape_interval: u64,
}

impl Clock {
    /// A clock on which every window and the period are `factor` times shorter, for a Prometheus that
    /// scrapes every `scrape_interval` seconds. At 1 it is real time.
    ///
    /// A window that would hold fewer than four scrapes is raised to four.
    ///
    /// # Errors
    /// When a window is no whole number of seconds, or the raised short windows come so close to the long
    /// ones that they reset an alert no sooner.
    pub fn new(factor: u32, scrape_interval: u64) -> Result<Self, Error> {
        let clock = Self {
            factor,
            scrape_interval,
        };
        clock.misfit().map_or(Ok(clock.clone()), |reason| {
            Err(Error::Clock {
                factor,
                reason,
                scrape_interval,
                usable: (1..=3600)
                    .filter(|&factor| {
                        Self {
                            factor,
                            scrape_interval,
                        }
                        .misfit()
                        .is_none()
                    })
                    .collect(),
            })
        })
    }

    /// Times faster than real time.
    pub fn factor(&self) -> u32 {
        self.factor
    }

    /// Seconds of the shortest window that rate() works in.
    fn floor(&self) -> u64 {
        SAMPLES_IN_A_WINDOW * self.scrape_interval
    }

    fn misfit(&self) -> Option<String> {
        if self.factor == 0 || self.scrape_interval == 0 {
            return Some("time would stand still".into());
        }
        let broken = alert_windows().into_iter().find(|window| {
            window.0 / u64::from(self.factor) >= self.floor()
                && window.0 % u64::from(self.factor) != 0
        });
        if let Some(window) = broken {
            return Some(format!(
                "{window} does not divide into {} whole seconds",
                self.factor
            ));
        }
        let Burn { long, short, .. } = PAGE.quick;
        (long.0 < 2 * self.floor() * u64::from(self.factor)).then(|| {
            format!(
                "{long} would be {:.1} s, less than twice the {} that {short} needs for {SAMPLES_IN_A_WINDOW} scrapes",
                seconds(long.0) / f64::from(self.factor),
                promql(self.floor()),
            )
        })
    }

    /// Seconds that a window really has.
    pub(crate) fn seconds(&self, window: Window) -> u64 {
        (window.0 / u64::from(self.factor)).max(self.floor())
    }

    /// The window as PromQL has it between brackets.
    pub(crate) fn range(&self, window: Window) -> String {
        promql(self.seconds(window))
    }

    /// Days that a window really has.
    pub(crate) fn days(&self, window: Window) -> f64 {
        seconds(self.seconds(window)) / seconds(DAY)
    }

    /// Windows that are longer than the clock alone would make them.
    pub(crate) fn raised(&self) -> Vec<Window> {
        let mut windows = alert_windows();
        windows.retain(|window| window.0 < self.floor() * u64::from(self.factor));
        windows
    }

    /// Seconds between two scrapes.
    pub(crate) fn scrape_interval(&self) -> u64 {
        self.scrape_interval
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no window has more than 2^52 seconds"
)]
fn seconds(seconds: u64) -> f64 {
    seconds as f64
}

/// A duration as PromQL writes it.
pub(crate) fn promql(seconds: u64) -> String {
    let mut left = seconds;
    let mut text = String::new();
    for (unit, length) in [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)] {
        if left >= length {
            text += &format!("{}{unit}", left / length);
            left %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_writes_them() {
        for (seconds, text) in [(20, "20s"), (300, "5m"), (4320, "1h12m"), (30 * DAY, "30d")] {
            assert_eq!(promql(seconds), text);
        }
    }

    #[test]
    fn burn_rates_spend_the_shares_of_the_budget_that_the_workbook_names() {
        for (burn, share) in [
            (&PAGE.quick, 0.02),
            (&PAGE.slow, 0.05),
            (&TICKET.quick, 0.10),
            (&TICKET.slow, 0.10),
        ] {
            let spent = burn.factor * seconds(burn.long.0) / seconds(PERIOD.0);
            assert!((spent - share).abs() < 1e-9, "{burn:?} spends {spent}");
            assert!(burn.short.0 * 12 >= burn.long.0, "{burn:?}");
        }
    }

    #[test]
    fn every_usable_clock_keeps_what_the_alerts_rely_on() {
        for scrape_interval in [1, 5, 15, 30] {
            for factor in 1..=5000 {
                let clock = Clock {
                    factor,
                    scrape_interval,
                };
                if clock.misfit().is_some() {
                    continue;
                }
                for severity in [&PAGE, &TICKET] {
                    for burn in [&severity.quick, &severity.slow] {
                        let (short, long) = (clock.seconds(burn.short), clock.seconds(burn.long));
                        assert!(
                            short >= 4 * scrape_interval,
                            "{factor} {scrape_interval} {burn:?}"
                        );
                        assert!(long >= 2 * short, "{factor} {scrape_interval} {burn:?}");
                        assert_eq!(
                            long * u64::from(factor),
                            burn.long.0,
                            "{factor} {scrape_interval}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_unusable_clock_names_the_usable_ones() {
        let text = Clock::new(91, 5).unwrap_err().to_string();
        assert!(text.ends_with(", 72, 75, 90"), "{text}");
        let text = Clock::new(7, 5).unwrap_err().to_string();
        assert!(text.contains("does not divide"), "{text}");
        assert!(Clock::new(0, 5).is_err());
        // With scrapes this rare, an hour holds too few of them.
        let text = Clock::new(1, 600).unwrap_err().to_string();
        assert!(text.ends_with("usable clocks are none"), "{text}");
    }
}
