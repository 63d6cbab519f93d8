//! What it tells others: JSON, the table, trace context, metrics.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::watch;

use crate::program::{Running, command, get, output, result, summary, value};
use crate::target::{Answer, Target, eventually};

#[test]
fn the_json_has_the_keys_that_others_rely_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("result.json");
    std::fs::write(&file, "an older and much longer result ".repeat(1000)).expect("it is writable");
    let target = Target::start(|_, _| Answer::status(200));
    let output = output(&[
        &target.url,
        "--rate",
        "100",
        "--for",
        "100ms",
        "--json",
        file.to_str().expect("UTF-8"),
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json = std::fs::read(&file).expect("the result");
    summary(&json);
    let json: Value = serde_json::from_slice(&json).expect("JSON and nothing behind it");
    for key in [
        "wanted_rate",
        "achieved_rate",
        "sent",
        "received",
        "failed",
        "timed_out",
        "dropped",
    ] {
        assert!(json[key].is_number(), "{key} in {json}");
    }
    assert!(json["limited_by_generator"].is_boolean(), "{json}");
    for key in ["latency_ms", "service_ms", "lateness_ms"] {
        let percentiles = json[key].as_object().expect(key);
        let names: BTreeSet<_> = percentiles.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            BTreeSet::from(["p50", "p90", "p99", "p99.9", "max"]),
            "{key}"
        );
        assert!(percentiles.values().all(Value::is_number), "{json}");
    }
    assert_eq!(json["sent"], 10);

    let table = String::from_utf8(output.stdout).expect("text");
    for word in [
        "sent",
        "received",
        "failed",
        "timed out",
        "dropped",
        "p99.9",
        "latency",
        "service",
        "lateness",
    ] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
}

#[test]
fn trace_context_is_on_the_chosen_share_of_requests() {
    for (ratio, possible) in [("0", 0..=0), ("0.5", 1..=199), ("1", 200..=200)] {
        let target = Target::start(|_, _| Answer::status(200));
        let summary = result(&[
            &target.url,
            "--rate",
            "1000",
            "--for",
            "200ms",
            "--trace-ratio",
            ratio,
            "--seed",
            "1",
        ]);
        let headers: Vec<_> = target
            .seen()
            .into_iter()
            .filter_map(|seen| seen.traceparent)
            .collect();
        assert!(
            possible.contains(&headers.len()),
            "{} at {ratio}",
            headers.len()
        );
        let traces: BTreeSet<_> = headers
            .iter()
            .map(|header| {
                let parts: Vec<_> = header.split('-').collect();
                let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
                assert_eq!(
                    (parts[0], lengths.as_slice()),
                    ("00", [2, 32, 16, 2].as_slice()),
                    "{header}"
                );
                parts[1].to_owned()
            })
            .collect();
        assert_eq!(
            traces.len(),
            headers.len(),
            "each request is a trace of its own"
        );
        assert_eq!(summary.slowest.len(), headers.len().min(10));
        assert!(
            summary
                .slowest
                .iter()
                .all(|slow| traces.contains(&slow.trace_id)),
            "{summary:?}"
        );
    }
}

/// Trace ids from the headers that a server saw, and the flags behind them.
fn traces(target: &Target) -> Vec<(String, String)> {
    let ids = |header: String| {
        let parts: Vec<_> = header.split('-').map(str::to_owned).collect();
        (parts[1].clone(), parts[3].clone())
    };
    target
        .seen()
        .into_iter()
        .filter_map(|seen| seen.traceparent)
        .map(ids)
        .collect()
}

#[test]
fn spans_go_where_the_environment_says_and_the_servers_continue_them() {
    let collector = Target::start(|_, _| Answer::status(200));
    let shop = Target::start(|_, _| Answer::status(200));
    let output = command(&[
        &shop.url,
        "--scenario",
        "browse",
        "--rate",
        "50",
        "--for",
        "200ms",
    ])
    .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
    .output()
    .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let posts = collector.seen();
    assert!(
        posts.iter().all(|post| post.path == "/v1/traces"),
        "{posts:?}"
    );
    let sent: Vec<u8> = posts.into_iter().flat_map(|post| post.body).collect();
    let contains = |bytes: &[u8]| sent.windows(bytes.len()).any(|window| window == bytes);
    let traces = traces(&shop);
    assert_eq!(traces.len(), 20);
    for (trace, flags) in traces {
        assert!(
            contains(
                &u128::from_str_radix(&trace, 16)
                    .expect("hexadecimal")
                    .to_be_bytes()
            ),
            "{trace}"
        );
        assert_eq!(flags, "01");
    }
    for text in [
        "loadgen",
        "GET /api/products/{id}",
        "url.template",
        "http.request.method",
        "server.port",
    ] {
        assert!(contains(text.as_bytes()), "{text}");
    }
}

#[test]
fn the_sampler_decides_what_the_headers_say() {
    let collector = Target::start(|_, _| Answer::status(200));
    let target = Target::start(|_, _| Answer::status(200));
    let output = command(&[
        &target.url,
        "--rate",
        "100",
        "--for",
        "200ms",
        "--json",
        "-",
    ])
    .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
    .env("OTEL_TRACES_SAMPLER", "always_off")
    .output()
    .expect("the program runs");
    let traces = traces(&target);
    assert_eq!(traces.len(), 20);
    assert!(traces.iter().all(|(_, flags)| flags == "00"), "{traces:?}");
    assert!(collector.seen().is_empty());
    assert!(
        summary(&output.stdout).slowest.is_empty(),
        "nobody could look them up"
    );
}

#[test]
fn without_a_collector_nothing_is_said_about_one() {
    let target = Target::start(|_, _| Answer::status(200));
    let output = output(&[&target.url, "--rate", "100", "--for", "200ms"]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(
        said.lines().all(|line| line.starts_with("loadgen: ")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn metrics_agree_with_the_result() {
    let (release, released) = watch::channel(false);
    let target = Target::start(move |n, _| match n {
        // Held until the metrics have been read: the run cannot end before.
        99 => Answer::Once(released.clone()),
        n => Answer::status([200, 404, 500][n % 3]),
    });
    let mut running = Running::start(&[
        &target.url,
        "--rate",
        "200",
        "--for",
        "500ms",
        "--metrics-listen",
        "127.0.0.1:0",
    ]);
    let address = running.metrics_address();
    assert!(
        get(&address, "/healthz").starts_with("HTTP/1.1 200"),
        "it is healthy"
    );
    let class = |text: &str, class| {
        value(
            text,
            &format!("loadgen_responses_total{{status_class=\"{class}\"}}"),
        )
    };
    target.wait_for(100);
    let text = eventually("all but one are answered", || {
        let text = get(&address, "/metrics");
        let answers = class(&text, "2xx") + class(&text, "4xx") + class(&text, "5xx");
        // Counters and histograms are brought up to date one after the other.
        let measured = ["latency", "lateness"]
            .iter()
            .all(|it| value(&text, &format!("loadgen_{it}_seconds_count")) == 99.0);
        (answers == 99.0 && measured).then_some(text)
    });
    release.send(true).expect("the server waits for it");
    let summary = running.result();

    assert_eq!(value(&text, "loadgen_wanted_rate"), summary.wanted_rate);
    assert_eq!(
        value(&text, "loadgen_requests_sent_total"),
        summary.sent as f64
    );
    assert_eq!(value(&text, "loadgen_in_flight"), 1.0);
    assert_eq!(class(&text, "2xx") + 1.0, summary.status["2xx"] as f64);
    assert_eq!(class(&text, "4xx"), summary.status["4xx"] as f64);
    assert_eq!(class(&text, "5xx"), summary.failed as f64);
    assert_eq!(
        value(&text, "loadgen_timeouts_total"),
        summary.timed_out as f64
    );
    assert_eq!(
        value(&text, "loadgen_dropped_total"),
        summary.dropped as f64
    );
    assert_eq!(value(&text, "loadgen_latency_seconds_count"), 99.0);
    assert_eq!(value(&text, "loadgen_lateness_seconds_count"), 99.0);
}
