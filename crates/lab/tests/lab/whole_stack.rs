//! The whole stack: up, proven, down, up again, killed.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::running::{TestLab, eventually, everything_is_installed, text};
use crate::{
    dead_letters::assert_every_field_is_mapped, playbook::assert_playbook_holds,
    rules::assert_rules_are_about_something,
};

/// What the whole stack may take, in bytes.
const MEMORY_LIMIT: u64 = 1_600 * 1024 * 1024;

fn row(report: &Value, n: u64) -> &Value {
    report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["n"] == n)
        .unwrap()
}

fn assert_pillars_hold(lab: &TestLab) -> Value {
    let output = lab.run(&["verify", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for n in 1..=8 {
        let row = row(&report, n);
        assert_eq!(row["ok"], true, "{row:#}");
        assert!(!row["evidence"].as_array().unwrap().is_empty(), "{row:#}");
    }
    assert_one_request_is_followed(&report);
    assert_eq!(report["ok"], true);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    report
}

/// Rows 3 and 4 tell of one request: counted, logged, and traced, each with the others' ids.
fn assert_one_request_is_followed(report: &Value) {
    let followed = &row(report, 3)["followed"];
    assert_eq!(followed, &row(report, 4)["followed"]);
    let trace_id = followed["trace_id"].as_str().unwrap();
    let metrics = &followed["metrics"];
    assert!(
        metrics["after"].as_f64() > metrics["before"].as_f64(),
        "{metrics:#}"
    );
    // Another slow request may have taken its place in the histogram; no other may stand for it.
    let exemplar = &metrics["exemplar"];
    assert!(
        exemplar.is_null() || exemplar["labels"]["trace_id"] == trace_id,
        "{metrics:#}"
    );
    let lines = followed["log_lines"].as_array().unwrap();
    let spans = followed["spans"].as_array().unwrap();
    assert!(!lines.is_empty(), "{followed:#}");
    for line in lines {
        assert_eq!(line["trace.id"], trace_id);
        assert!(
            spans.iter().any(|span| span["span_id"] == line["span.id"]),
            "{followed:#}"
        );
    }
}

#[test]
fn is_proven_survives_a_restart_and_leaves_nothing() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));

    let status = lab.json(&["status", "--json"]);
    assert_eq!(status["running"], true);
    let components = status["components"].as_array().unwrap();
    for component in components
        .iter()
        .filter(|component| component["pid"].is_u64())
    {
        assert_eq!(component["state"], "ready", "{component:#}");
        assert!(
            component["rss_bytes"].as_u64().unwrap() > 0,
            "{component:#}"
        );
        assert!(
            component["version"].is_string() && component["log"].is_string(),
            "{component:#}"
        );
    }
    let memory: u64 = components
        .iter()
        .filter_map(|component| component["rss_bytes"].as_u64())
        .sum();
    assert!(memory < MEMORY_LIMIT, "{} MiB", memory / 1024 / 1024);
    assert_eq!(lab.run(&["status"]).status.code(), Some(0));

    let report = assert_pillars_hold(&lab);
    assert_cost_is_told(&lab);
    assert_every_field_is_mapped(&lab);
    assert_rules_are_about_something(&lab);
    assert_playbook_holds(&lab);

    // What verify says of the logs is what Elasticsearch says, after a restart too.
    let trace_id = row(&report, 3)["evidence"][0]
        .as_str()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let processes = lab.processes();
    let down = lab.run(&["down"]);
    assert_eq!(down.status.code(), Some(0), "{}", text(&down));
    lab.assert_gone(&processes);

    let up = lab.up(&[]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    assert_pillars_hold(&lab);
    assert!(
        lines_of(&lab, &trace_id) > 0,
        "the logs of before the restart are gone"
    );

    // The hardest end: the lab itself is killed and cannot clean up.
    let processes = lab.processes();
    let own = lab.json(&["status", "--json"])["lab_pid"].as_i64().unwrap();
    kill(Pid::from_raw(own.try_into().unwrap()), Signal::SIGKILL).unwrap();
    lab.assert_gone(&processes);
}

/// Samples and series of every target, and what evaluating each group of rules takes.
fn assert_cost_is_told(lab: &TestLab) {
    let targets_are_there = || {
        let scraping = &lab.json(&["status", "--json"])["scraping"];
        let targets = scraping["targets"].as_array().cloned().unwrap_or_default();
        let of = |job: &str| {
            let target = targets.iter().find(|target| target["job"] == job)?;
            let number = |key: &str| target[key].as_f64();
            Some((
                number("samples")?,
                number("series")?,
                number("sample_limit")?,
            ))
        };
        let groups = scraping["rules"]["groups"].as_array().map_or(0, Vec::len);
        groups > 10
            && scraping["head_series"].as_f64() > Some(1000.0)
            && ["flask-api", "node", "blackbox-tls"].iter().all(|job| {
                of(job).is_some_and(|(samples, series, limit)| {
                    series > 1.0 && samples >= series && limit > samples
                })
            })
    };
    eventually("status tells what scraping costs", targets_are_there);
}

/// Documents with a trace id, asked of Elasticsearch without any of our code.
fn lines_of(lab: &TestLab, trace_id: &str) -> u64 {
    let url = format!(
        "http://127.0.0.1:{}/flask-logs-*/_count?q=trace.id:{trace_id}",
        lab.port("elasticsearch", "http")
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer: Value =
        runtime.block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() });
    answer["count"].as_u64().unwrap()
}

#[test]
fn in_the_foreground_ctrl_c_ends_everything() {
    if !everything_is_installed() {
        return;
    }
    let lab = TestLab::new();
    let mut process = lab
        .command(&["up", "--without", "elasticsearch", "--without", "otelcol"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(
        lines.any(|line| line.contains("Ctrl-C ends everything")),
        "it never said that everything runs"
    );
    let processes = lab.processes();
    assert!(processes.len() > 8, "{processes:?}");
    kill(
        Pid::from_raw(process.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let status = process.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    lab.assert_gone(&processes);
}

/// The console's first page.
fn overview(lab: &TestLab) -> String {
    let url = format!("http://127.0.0.1:{}/", lab.port("console", "http"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
}

#[test]
fn a_component_that_dies_is_reported_and_the_rest_goes_on() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&["--without", "elasticsearch", "--without", "otelcol"]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let find = |name: &str| {
        let status = lab.json(&["status", "--json"]);
        status["components"]
            .as_array()
            .unwrap()
            .iter()
            .find(|component| component["name"] == name)
            .unwrap()
            .clone()
    };
    // One that hangs counts as failed until it answers again.
    let alertmanager = Pid::from_raw(
        find("alertmanager")["pid"]
            .as_i64()
            .unwrap()
            .try_into()
            .unwrap(),
    );
    kill(alertmanager, Signal::SIGSTOP).unwrap();
    eventually("its silence is told", || {
        find("alertmanager")["state"] == "failed"
    });
    assert!(
        find("alertmanager")["detail"]
            .as_str()
            .unwrap()
            .contains("does not answer")
    );
    // The console knows after its first page, and says since when: a page that had waited anew would name a later time.
    let silence = "Alertmanager does not answer: no answer since ";
    let since = || {
        let page = overview(&lab);
        let (_, since) = page.split_once(silence).unwrap_or_else(|| panic!("{page}"));
        since.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(since(), since());
    kill(alertmanager, Signal::SIGCONT).unwrap();
    eventually("it is ready again", || {
        find("alertmanager")["state"] == "ready"
    });
    eventually("the console has heard", || {
        !overview(&lab).contains(silence)
    });

    let jaeger = find("jaeger")["pid"].as_i64().unwrap();
    kill(Pid::from_raw(jaeger.try_into().unwrap()), Signal::SIGKILL).unwrap();
    eventually("its death is told", || find("jaeger")["state"] == "failed");
    let jaeger = find("jaeger");
    assert!(
        jaeger["detail"].as_str().unwrap().contains("signal: 9"),
        "{jaeger:#}"
    );
    assert!(
        !jaeger["last_lines"].as_array().unwrap().is_empty(),
        "{jaeger:#}"
    );
    assert_eq!(find("flask-api-1")["state"], "ready");
    assert_eq!(lab.run(&["status"]).status.code(), Some(1));
    let report = lab.json(&["verify", "--json"]);
    for (n, part) in [
        (3, "elasticsearch does not run"),
        (4, "jaeger does not run"),
    ] {
        let row = row(&report, n);
        assert_eq!(row["ok"], false, "{row:#}");
        assert!(
            row["evidence"][0].as_str().unwrap().contains(part),
            "{row:#}"
        );
    }
    assert_eq!(row(&report, 7)["ok"], true, "{:#}", row(&report, 7));
}
