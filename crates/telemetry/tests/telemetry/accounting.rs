//! Where spans went, as the metrics of a process tell it: sampled, exported, failed, dropped, queued.

use crate::collector::{Answer, Collector, Nobody};
use crate::program::{Outcome, Program};

const DELAY: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "10");

fn balanced(outcome: &Outcome) -> [u64; 5] {
    let counts = outcome.spans();
    let [sampled, exported, failed, dropped, queued] = counts;
    assert_eq!(sampled, exported + failed + dropped + queued, "{counts:?}");
    counts
}

#[test]
fn a_working_collector_gets_every_span() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new(
        "spans 1500; await telemetry_spans_exported_total 1500; metrics; shutdown 5000",
    )
    .export_to(&collector.endpoint())
    .env(DELAY.0, DELAY.1)
    .run();
    assert_eq!(balanced(&outcome), [1500, 1500, 0, 0, 0]);
    assert_eq!(outcome.report(), (true, 0));
    assert_eq!(collector.spans().len(), 1500);
}

#[test]
fn refused_connections_and_error_answers_are_failures() {
    let nobody = Nobody::there();
    let broken = Collector::start(Answer::Status(500));
    let busy = Collector::start(Answer::Status(503));
    for endpoint in [nobody.endpoint(), broken.endpoint(), busy.endpoint()] {
        let outcome =
            Program::new("spans 30; await telemetry_spans_failed_total 30; metrics; shutdown 5000")
                .export_to(&endpoint)
                .env(DELAY.0, DELAY.1)
                .run();
        assert_eq!(balanced(&outcome), [30, 0, 30, 0, 0], "{endpoint}");
        assert_eq!(
            outcome.report(),
            (true, 30),
            "nothing was left to flush, yet all was lost"
        );
        let log = outcome.log();
        assert!(!log.is_empty(), "the failure is in the log");
        assert!(
            log.iter().all(|line| line["log.level"] == "warn"),
            "{log:?}"
        );
    }
    assert!(broken.spans().is_empty() && busy.spans().is_empty());
}

#[test]
fn a_busy_collector_is_tried_again() {
    let collector = Collector::start(Answer::BusyFor(2));
    let outcome =
        Program::new("spans 5; await telemetry_spans_exported_total 5; metrics; shutdown 5000")
            .export_to(&collector.endpoint())
            .env(DELAY.0, DELAY.1)
            .run();
    assert_eq!(balanced(&outcome), [5, 5, 0, 0, 0]);
    assert_eq!(collector.spans().len(), 5);
    assert!(collector.requests().len() >= 3);
}

#[test]
fn a_silent_collector_fills_the_queue_and_the_rest_is_dropped() {
    let collector = Collector::start(Answer::Silence);
    let outcome = Program::new("spans 100; metrics; shutdown 500")
        .export_to(&collector.endpoint())
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "16")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        .run();
    assert_eq!(balanced(&outcome), [100, 0, 0, 84, 16]);
    assert_eq!(outcome.report(), (false, 100));
}

#[test]
fn after_the_shutdown_nothing_is_queued_and_it_still_adds_up() {
    let collector = Collector::start(Answer::Silence);
    let outcome = Program::new("spans 10; shutdown 300; spans 5; metrics")
        .export_to(&collector.endpoint())
        .run();
    assert_eq!(balanced(&outcome), [10, 0, 0, 10, 0]);
}

#[test]
fn metrics_can_be_in_several_registries_and_once_in_each() {
    let outcome = Program::new("metrics; register; shutdown 5000").run();
    assert_eq!(outcome.told("registered"), serde_json::json!([true, false]));
    let metrics = outcome.told("metrics");
    for name in [
        "telemetry_log_lines_dropped_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(metrics.get(name).is_some(), "{name} is missing: {metrics}");
    }
}
