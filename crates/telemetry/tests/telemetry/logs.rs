//! Log lines as they leave a process.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::collector::{Answer, Collector};
use crate::program::Program;

fn keys(line: &Value) -> BTreeSet<&str> {
    line.as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

const ALWAYS: [&str; 8] = [
    "@timestamp",
    "event.dataset",
    "log.level",
    "log.logger",
    "message",
    "service.instance.id",
    "service.name",
    "service.version",
];

#[test]
fn lines_follow_the_contract() {
    let outcome = Program::new("lines; shutdown 5000").run();
    assert_eq!(outcome.told("logs_flushed"), true);
    let log = outcome.log();
    let [outside, access, error, old, hostile] = &log[..] else {
        panic!("{log:?}")
    };

    assert_eq!(keys(outside), BTreeSet::from(ALWAYS));
    assert_eq!(outside["service.name"], "shop");
    assert_eq!(outside["service.version"], "1.2.3");
    assert_eq!(outside["event.dataset"], "shop.app");

    let expected = [
        "trace.id",
        "span.id",
        "http.request.method",
        "http.route",
        "url.path",
        "http.response.status_code",
        "event.duration",
        "client.address",
    ];
    assert_eq!(keys(access), ALWAYS.into_iter().chain(expected).collect());
    assert_eq!(access["event.dataset"], "shop.access");
    assert_eq!(access["http.response.status_code"], 200);
    assert_eq!(access["event.duration"], 1_234_567);

    let expected = ["trace.id", "span.id", "error.type", "error.message"];
    assert_eq!(keys(error), ALWAYS.into_iter().chain(expected).collect());
    assert_eq!(error["event.dataset"], "shop.error");
    assert_eq!(error["trace.id"], access["trace.id"]);

    assert_eq!(keys(old), BTreeSet::from(ALWAYS));
    assert_eq!(
        (&old["log.logger"], &old["log.level"]),
        (&json!("old_library"), &json!("warn"))
    );
    assert_eq!(hostile["attack"], "x\n{\"log.level\":\"forged\"}\u{2028}");
    let instances: BTreeSet<_> = log
        .iter()
        .map(|line| line["service.instance.id"].as_str())
        .collect();
    assert_eq!(instances.len(), 1, "one process is one instance");
}

#[test]
fn instances_differ() {
    let instance =
        || Program::new("say x; shutdown 5000").run().log()[0]["service.instance.id"].clone();
    assert_ne!(instance(), instance());
}

#[test]
fn programs_with_a_result_log_to_stderr() {
    let outcome = Program::new("say here; shutdown 5000")
        .log_to_stderr()
        .run();
    assert_eq!(outcome.stdout, "");
    assert_eq!(outcome.told("message"), "here");
}

#[test]
fn a_bad_filter_is_an_error_and_not_a_surprise() {
    let outcome = Program::new("").filter("inof").run();
    let error = outcome.told("error");
    assert!(
        error.as_str().is_some_and(|error| error.contains("inof")),
        "{error}"
    );
}

#[test]
fn the_level_can_be_changed_and_leaves_traces_alone() {
    let collector = Collector::start(Answer::Accept);
    let script = "lines; level debug; lines; level nonsense; say still; level error; lines; spans 3; shutdown 5000";
    let outcome = Program::new(script)
        .export_to(&collector.endpoint())
        .filter("info")
        .run();
    let messages = outcome.messages();
    let count = |message: &str| messages.iter().filter(|found| *found == message).count();
    assert_eq!(count("detail"), 1, "only while debug was on: {messages:?}");
    assert_eq!(
        count("detail from the log crate"),
        1,
        "its records follow: {messages:?}"
    );
    assert_eq!(count("outside"), 2);
    assert_eq!(count("from the log crate"), 2);
    assert_eq!(count("still"), 1, "nonsense changes nothing");
    assert_eq!(count("order failed"), 3);
    let errors = outcome
        .log()
        .into_iter()
        .filter(|line| line["message"] == "order failed");
    assert!(
        errors.into_iter().all(|line| line["trace.id"].is_string()),
        "the span is there whatever is logged"
    );
    assert_eq!(collector.spans().len(), 3 + 3);
}

#[test]
fn logging_everything_does_not_feed_on_itself() {
    let collector = Collector::start(Answer::Accept);
    let script = "spans 3; await telemetry_spans_exported_total 3; spans 1; shutdown 5000";
    let outcome = Program::new(script)
        .export_to(&collector.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "10")
        .filter("trace")
        .run();
    let spans = collector.spans();
    assert_eq!(
        spans.len(),
        4,
        "the export makes no spans of its own: {spans:?}"
    );
    assert!(spans.iter().all(|(name, ..)| name == "work"));
    assert!(
        outcome
            .log()
            .iter()
            .all(|line| line.get("trace.id").is_none()),
        "no line came from inside a span"
    );
}

#[test]
fn a_closed_output_costs_lines_and_nothing_else() {
    let mut running = Program::new(
        "pause; flood 100; await telemetry_log_lines_dropped_total 100; metrics; shutdown 5000",
    )
    .start();
    running.close_stdout();
    running.resume();
    let outcome = running.finish_unread();
    assert_eq!(
        outcome.told("metrics")["telemetry_log_lines_dropped_total"],
        100.0
    );
    assert_eq!(
        outcome.told("logs_flushed"),
        true,
        "what cannot be written is not waited for"
    );
}

#[test]
fn a_blocked_output_holds_up_nobody() {
    let mut running = Program::new("flood 60000; metrics; shutdown 200").start();
    running.resume();
    let outcome = running.finish_unread();
    assert_eq!(outcome.told("logs_flushed"), false);
    let dropped = outcome.told("metrics")["telemetry_log_lines_dropped_total"]
        .as_f64()
        .expect("a number");
    assert!(dropped > 10_000.0, "{dropped}");
    // The process ended in the middle of a line; all before it are whole.
    let (whole, _) = outcome
        .stdout
        .rsplit_once('\n')
        .expect("some lines got through");
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["message"], "flood");
    }
}
