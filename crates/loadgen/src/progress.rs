//! How a run is going, on standard error: live on a terminal, a line now and then elsewhere.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::Metrics;
use crate::pulse::Pulse;

/// So many moments of latency are drawn.
const DRAWN: usize = 40;
/// From the lowest to the highest.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows how a run is going.
#[derive(Debug)]
pub struct Progress {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    planned: Option<u64>,
    history: History,
}

impl Progress {
    /// For a run of `planned` starts, or an endless one.
    pub fn new(planned: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, style) = match planned {
                Some(planned) => (
                    ProgressBar::new(planned),
                    "{bar:40} {percent} %, {elapsed} of about {duration}\n{msg}",
                ),
                None => (ProgressBar::new_spinner(), "{spinner} {elapsed}\n{msg}"),
            };
            bar.with_style(ProgressStyle::with_template(style).expect("the template is valid"))
        });
        Self {
            bar,
            planned,
            history: History::default(),
        }
    }

    /// How often [`Progress::show`] is worth calling.
    pub fn interval(&self) -> Duration {
        if self.bar.is_some() {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(5)
        }
    }

    /// Shows where the run is.
    pub fn show(&mut self, metrics: &Metrics) {
        let pulse = metrics.pulse();
        self.history.take(&pulse);
        let (sent, dropped) = (metrics.sent.get(), metrics.dropped.get());
        let (not_well, in_flight) = (metrics.not_well(), metrics.in_flight.get());
        match &self.bar {
            Some(bar) => {
                bar.set_position(metrics.arrived());
                bar.set_message(format!(
                    "rate      {:.0} /s wanted, {:.0} /s got\n\
                     latency   p50 {}, p99 {}  {}\n\
                     requests  {sent} sent, {not_well} failed or timed out, {dropped} dropped\n\
                     in flight {in_flight} on {} connections",
                    pulse.wanted_rate,
                    pulse.achieved_rate,
                    time(pulse.p50_ms),
                    time(pulse.p99_ms),
                    self.history.drawn(),
                    pulse.connections,
                ));
            }
            None => {
                let of = self
                    .planned
                    .map(|planned| format!(", {} of {planned} starts", metrics.arrived()))
                    .unwrap_or_default();
                note(&format!(
                    "sent {sent}{of}, {:.0} /s of {:.0} /s wanted, p50 {}, p99 {}, in flight {in_flight}, \
                     failed or timed out {not_well}, dropped {dropped}",
                    pulse.achieved_rate,
                    pulse.wanted_rate,
                    time(pulse.p50_ms),
                    time(pulse.p99_ms),
                ));
            }
        }
    }

    /// Clears the way for the result.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line for people that does not get in the way of what is shown.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }
}

/// The 99th percentiles of the last moments.
#[derive(Debug, Default)]
struct History {
    p99_ms: VecDeque<f64>,
    moment: u64,
}

impl History {
    fn take(&mut self, pulse: &Pulse) {
        if pulse.moment == self.moment {
            return;
        }
        self.moment = pulse.moment;
        if self.p99_ms.len() == DRAWN {
            self.p99_ms.pop_front();
        }
        self.p99_ms.push_back(pulse.p99_ms.unwrap_or_default());
    }

    /// A bar for each, the longest for the highest.
    fn drawn(&self) -> String {
        let highest = self
            .p99_ms
            .iter()
            .copied()
            .fold(f64::MIN_POSITIVE, f64::max);
        self.p99_ms
            .iter()
            .map(|value| LEVELS[((value / highest) * (LEVELS.len() - 1) as f64).round() as usize])
            .collect()
    }
}

fn time(millis: Option<f64>) -> String {
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.2} ms"))
}

/// A line for people, on standard error. That it cannot be written is no reason to end a run.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "loadgen: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_drawn_by_its_highest_and_each_moment_once() {
        let mut history = History::default();
        assert_eq!(history.drawn(), "");
        for (moment, p99_ms) in [
            (1, Some(0.0)),
            (2, Some(7.0)),
            (2, Some(700.0)),
            (3, Some(14.0)),
            (4, None),
        ] {
            history.take(&Pulse {
                moment,
                p99_ms,
                ..Pulse::default()
            });
        }
        assert_eq!(history.drawn(), "▁▅█▁");
        for moment in 5..100 {
            history.take(&Pulse {
                moment,
                p99_ms: Some(1.0),
                ..Pulse::default()
            });
        }
        assert_eq!(history.drawn(), "█".repeat(DRAWN));
    }
}
