//! The end of a process. That a program ends at all is watched from outside: a shutdown that waits for a silent
//! collector would wait longer than the watchdog.

use std::collections::BTreeSet;

use crate::collector::{Answer, Collector, Nobody};
use crate::program::Program;

/// More than any test takes, so that only the shutdown flushes.
const NEVER: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "3600000");
/// Waiting for this timeout would be noticed.
const LONG: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");
const LONG_TOO: (&str, &str) = ("OTEL_BSP_EXPORT_TIMEOUT", "3600000");

#[test]
fn every_span_and_every_line_is_delivered() {
    for how in ["plain", "current-thread", "multi-thread"] {
        let collector = Collector::start(Answer::Accept);
        let outcome = Program::new(&format!("spans 2000; flood 5000; shutdown {how} 20000"))
            .export_to(&collector.endpoint())
            .env(NEVER.0, NEVER.1)
            .run();
        assert_eq!(outcome.report(), (true, 0), "{how}");
        assert_eq!(outcome.told("logs_flushed"), true);
        let spans = collector.spans();
        let ids: BTreeSet<_> = spans.iter().map(|(_, _, span)| span).collect();
        assert_eq!((spans.len(), ids.len()), (2000, 2000), "each once");
        let numbers: Vec<_> = outcome
            .log()
            .iter()
            .map(|line| line["n"].as_u64())
            .collect();
        assert!(
            numbers.iter().copied().eq((0..5000).map(Some)),
            "{how}: {} lines",
            numbers.len()
        );
    }
}

#[test]
fn a_silent_collector_does_not_hold_up_the_end() {
    let collector = Collector::start(Answer::Silence);
    let programs = ["plain", "current-thread", "multi-thread"].map(|how| {
        let mut running = Program::new(&format!("spans 100; flood 100; shutdown {how} 4000"))
            .export_to(&collector.endpoint())
            .env(NEVER.0, NEVER.1)
            .env(LONG.0, LONG.1)
            .env(LONG_TOO.0, LONG_TOO.1)
            .start();
        running.resume();
        (how, running)
    });
    for (how, running) in programs {
        let outcome = running.finish();
        assert_eq!(outcome.report(), (false, 100), "{how}");
        assert_eq!(
            outcome.told("logs_flushed"),
            true,
            "the log has time of its own"
        );
        let messages = outcome.messages();
        assert!(
            messages
                .iter()
                .any(|message| message.starts_with("100 spans")),
            "it is said: {messages:?}"
        );
    }
}

#[test]
fn nor_does_one_that_is_silent_in_the_middle_of_an_export() {
    let collector = Collector::start(Answer::Silence);
    let program = Program::new("spans 100; pause; shutdown 1000")
        .export_to(&collector.endpoint())
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        .env(LONG.0, LONG.1)
        .env(LONG_TOO.0, LONG_TOO.1);
    let mut running = program.start();
    running.wait_until(|| !collector.requests().is_empty());
    running.resume();
    assert_eq!(running.finish().report(), (false, 100));
}

#[test]
fn nor_does_a_broken_or_absent_one() {
    let nobody = Nobody::there();
    let (broken, busy) = (
        Collector::start(Answer::Status(500)),
        Collector::start(Answer::Status(503)),
    );
    for endpoint in [nobody.endpoint(), broken.endpoint(), busy.endpoint()] {
        let outcome = Program::new("spans 2000; shutdown 2000")
            .export_to(&endpoint)
            .env(NEVER.0, NEVER.1)
            .run();
        assert_eq!(outcome.report(), (false, 2000), "{endpoint}");
        assert_eq!(outcome.told("logs_flushed"), true);
    }
}

#[test]
fn no_time_is_no_flush_and_a_true_report() {
    let collector = Collector::start(Answer::Silence);
    let outcome = Program::new("spans 7; shutdown 0")
        .export_to(&collector.endpoint())
        .env(NEVER.0, NEVER.1)
        .run();
    assert_eq!(outcome.report(), (false, 7));
}

#[test]
fn dropping_flushes_too() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new("say last words; spans 10; drop")
        .export_to(&collector.endpoint())
        .run();
    assert_eq!(outcome.messages(), ["last words"]);
    assert_eq!(collector.spans().len(), 10);
}

#[test]
fn a_second_set_up_is_refused_and_harms_nothing() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new("init; say x; spans 5; metrics; shutdown 5000")
        .export_to(&collector.endpoint())
        .run();
    assert!(
        outcome
            .told("second")
            .as_str()
            .is_some_and(|error| error.contains("already"))
    );
    assert_eq!(outcome.messages(), ["x"]);
    assert_eq!(outcome.report(), (true, 0));
    assert_eq!(collector.spans().len(), 5);
}
