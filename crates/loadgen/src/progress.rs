//! How a run is going, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::Metrics;

/// Shows how a run is going.
#[derive(Debug)]
pub struct Progress {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    planned: Option<u64>,
}

impl Progress {
    /// For a run of `planned` starts, or an endless one.
    pub fn new(planned: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, style) = match planned {
                Some(planned) => (
                    ProgressBar::new(planned),
                    "{bar:30} {pos}/{len} {elapsed} {msg}",
                ),
                None => (
                    ProgressBar::new_spinner(),
                    "{spinner} {pos} {elapsed} {msg}",
                ),
            };
            bar.with_style(ProgressStyle::with_template(style).expect("the template is valid"))
        });
        Self { bar, planned }
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
    pub fn show(&self, metrics: &Metrics) {
        let (sent, dropped) = (metrics.sent.get(), metrics.dropped.get());
        let state = format!(
            "in flight {}, failed or timed out {}, dropped {dropped}",
            metrics.in_flight.get(),
            metrics.not_well()
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(sent + dropped);
                bar.set_message(state);
            }
            None => {
                let of = self
                    .planned
                    .map(|planned| format!(" of {planned}"))
                    .unwrap_or_default();
                note(&format!("sent {sent}{of}, {state}"));
            }
        }
    }

    /// Clears the way for the result.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line for people, on standard error. That it cannot be written is no reason to end a run.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "loadgen: {line}");
}
