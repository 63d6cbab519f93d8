//! The end of a program's telemetry: spans first, then the log, which may have something to say about them.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Pipelines;
use crate::span_accounting::SpanAccounting;

/// What [`crate::Telemetry::shutdown`] could still deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Every span that was waiting for export at the shutdown was accepted by the collector in time.
    pub spans_flushed: bool,
    /// Spans that were sampled and never exported, in the whole life of the process.
    pub spans_lost: u64,
    /// Every log line was written, or counted as dropped, in time.
    pub logs_flushed: bool,
}

/// The part of the time kept back for the log, should the collector use up the rest.
const LOG_SHARE: u32 = 4;
/// Longer than any program waits, short enough for the arithmetic of every clock.
const FOREVER: Duration = Duration::from_secs(86_400);

/// Does the work on a thread of its own and waits for it no longer than `deadline`.
///
/// Each step is bounded by itself, yet the SDK also joins its export thread, which ends only with the HTTP
/// client in it, and what these do in a bad moment is not in our hands.
pub(crate) fn run(pipelines: Pipelines, deadline: Duration) -> ShutdownReport {
    let deadline = deadline.min(FOREVER);
    let until = Instant::now() + deadline;
    let spans_until = until - deadline / LOG_SHARE;
    let spans = pipelines.spans.clone();
    let lost_before = spans.counts().lost();
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        if let Some(provider) = &pipelines.provider {
            // The accounting tells what became of the spans; the result adds nothing to it.
            let _ = provider
                .shutdown_with_timeout(spans_until.saturating_duration_since(Instant::now()));
        }
        let report = report(&pipelines.spans, lost_before);
        if !report.spans_flushed {
            tracing::warn!(
                "{} spans of this process never reached the collector",
                report.spans_lost
            );
        }
        let logs_flushed = pipelines.log.flush(until);
        // Nobody listens any more if that took too long.
        let _ = sender.send(ShutdownReport {
            logs_flushed,
            ..report
        });
    };
    // Without a thread there is neither flush nor wait, but still a true report.
    let _ = thread::Builder::new()
        .name("telemetry-shutdown".to_owned())
        .spawn(work);
    let done = receiver.recv_timeout(until.saturating_duration_since(Instant::now()));
    done.unwrap_or_else(|_| report(&spans, lost_before))
}

/// Closes the accounting and reads it.
fn report(spans: &SpanAccounting, lost_before: u64) -> ShutdownReport {
    let lost = spans.close().lost();
    ShutdownReport {
        spans_flushed: lost == lost_before,
        spans_lost: lost,
        logs_flushed: false,
    }
}
