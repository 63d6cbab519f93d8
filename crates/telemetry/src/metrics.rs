//! Telemetry about telemetry, for `/metrics`.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};

use crate::log_writer::LogWriter;
use crate::span_accounting::{SpanAccounting, SpanCounts};

/// Reads all counts in one go: counters registered one by one would be read at different times, and would not
/// add up while spans keep flowing.
pub(crate) struct TelemetryCollector {
    spans: Arc<SpanAccounting>,
    log: LogWriter,
    descriptions: Vec<Desc>,
}

impl TelemetryCollector {
    pub(crate) fn new(spans: Arc<SpanAccounting>, log: LogWriter) -> prometheus::Result<Self> {
        let metrics = metrics(spans.counts(), log.dropped())?;
        let descriptions = metrics
            .iter()
            .flat_map(|metric| metric.desc())
            .cloned()
            .collect();
        Ok(Self {
            spans,
            log,
            descriptions,
        })
    }
}

impl Collector for TelemetryCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = metrics(self.spans.counts(), self.log.dropped());
        metrics
            .into_iter()
            .flatten()
            .flat_map(|metric| metric.collect())
            .collect()
    }
}

/// Metrics with these values, made anew each time, so that scrapes at the same time do not mix theirs.
fn metrics(spans: SpanCounts, lines_dropped: u64) -> prometheus::Result<Vec<Box<dyn Collector>>> {
    let queued = IntGauge::new(
        "telemetry_spans_queued",
        "Spans waiting for export or being exported.",
    )?;
    queued.set(i64::try_from(spans.queued).unwrap_or(i64::MAX));
    let mut metrics: Vec<Box<dyn Collector>> = vec![Box::new(queued)];
    for (name, help, value) in [
        (
            "telemetry_spans_sampled_total",
            "Sampled spans that ended.",
            spans.sampled,
        ),
        (
            "telemetry_spans_exported_total",
            "Spans the collector accepted.",
            spans.exported,
        ),
        (
            "telemetry_spans_failed_total",
            "Spans given up after a failed export.",
            spans.failed,
        ),
        (
            "telemetry_spans_dropped_total",
            "Spans never handed to the exporter: the queue was full, or the process ended.",
            spans.dropped,
        ),
        (
            "telemetry_log_lines_dropped_total",
            "Log lines that did not fit in the queue or could not be written.",
            lines_dropped,
        ),
    ] {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        metrics.push(Box::new(counter));
    }
    Ok(metrics)
}
