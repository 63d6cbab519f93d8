//! Every start ends up in exactly one count, and that count agrees with the server's own.

use std::collections::BTreeMap;

use crate::program::{output, result, summary};
use crate::target::{Answer, Target, hangs_up_after, refusing};

#[test]
fn answers() {
    let target = Target::start(|n, _| Answer::status([200, 204, 302, 404, 500, 503][n % 6]));
    let summary = result(&[&target.url, "--rate", "300", "--for", "200ms"]);
    assert_eq!(
        (summary.planned, summary.sent, summary.dropped),
        (60, 60, 0)
    );
    assert_eq!(
        (summary.received, summary.failed, summary.timed_out),
        (40, 20, 0)
    );
    let status: BTreeMap<_, _> = summary
        .status
        .iter()
        .map(|(class, n)| (class.as_str(), *n))
        .collect();
    assert_eq!(
        status,
        BTreeMap::from([
            ("1xx", 0),
            ("2xx", 20),
            ("3xx", 10),
            ("4xx", 10),
            ("5xx", 20)
        ])
    );
    // Neither redirects nor errors made it ask twice.
    assert_eq!(target.seen().len(), 60);
    assert!(summary.errors.is_empty());
    assert!(!summary.interrupted);
}

#[test]
fn urls_take_turns() {
    let target = Target::start(|_, _| Answer::status(200));
    let (a, b) = (format!("{}/a?x=1", target.url), format!("{}/b", target.url));
    result(&[&a, &b, "--rate", "100", "--for", "100ms"]);
    let mut paths: BTreeMap<String, u64> = BTreeMap::new();
    for seen in target.seen() {
        *paths
            .entry(format!("{} {}?{}", seen.method, seen.path, seen.query))
            .or_default() += 1;
    }
    assert_eq!(
        paths,
        BTreeMap::from([("GET /a?x=1".to_owned(), 5), ("GET /b?".to_owned(), 5)])
    );
}

#[test]
fn refused_connections() {
    let (_socket, url) = refusing();
    let summary = result(&[&url, "--rate", "100", "--for", "200ms"]);
    assert_eq!((summary.sent, summary.failed), (20, 20));
    assert_eq!(summary.errors["connect"].count, 20);
    assert!(
        summary.errors["connect"].example.contains("refused"),
        "{summary:?}"
    );
    // Nothing answered, so there is no latency, but the generator was still on time or not.
    assert_eq!(summary.latency_ms.p50, None);
    assert!(summary.lateness_ms.p50.is_some());
}

#[test]
fn connections_that_break() {
    let silent = hangs_up_after(b"");
    let summary = result(&[&silent, "--rate", "100", "--for", "100ms"]);
    assert_eq!(
        (summary.failed, summary.errors["exchange"].count),
        (10, 10),
        "{summary:?}"
    );

    let half = hangs_up_after(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let summary = result(&[&half, "--rate", "100", "--for", "100ms"]);
    assert_eq!(
        (summary.failed, summary.errors["body"].count),
        (10, 10),
        "{summary:?}"
    );
}

#[test]
fn answers_that_never_come() {
    let target = Target::start(|n, _| {
        if n % 2 == 0 {
            Answer::Never
        } else {
            Answer::status(200)
        }
    });
    let summary = result(&[
        &target.url,
        "--rate",
        "100",
        "--for",
        "200ms",
        "--timeout",
        "3s",
    ]);
    assert_eq!(
        (summary.sent, summary.timed_out, summary.received),
        (20, 10, 10)
    );
    // They waited three seconds, and the percentiles do not hide it.
    assert!(summary.latency_ms.p90 >= Some(3000.0), "{summary:?}");
}

#[test]
fn starts_beyond_the_cap_are_dropped_and_told() {
    let target = Target::start(|_, _| Answer::Never);
    let args = [
        &target.url,
        "--rate",
        "100",
        "--for",
        "500ms",
        "--timeout",
        "2s",
        "--max-in-flight",
        "3",
    ];
    let output = output(&[args.as_slice(), &["--json", "-"]].concat());
    let summary = summary(&output.stdout);
    assert_eq!(summary.planned, 50);
    assert!(summary.dropped > 0 && summary.sent >= 3, "{summary:?}");
    assert_eq!(target.seen().len() as u64, summary.sent);
    assert!(summary.limited_by_generator);
    assert!(summary.achieved_rate < summary.wanted_rate);
    let table = String::from_utf8(output.stderr).expect("text");
    assert!(
        table.contains("Limited by the generator") && table.contains("--max-in-flight"),
        "{table}"
    );
}
