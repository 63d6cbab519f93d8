//! `lab slo` and the rules it makes: committed, checked by promtool, and at work in a running lab.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Output},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::running::{self, TestLab, eventually, everything_is_installed, lab, project, text};

/// A project of a test's own: the configuration that `lab slo` reads, to be changed.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(copy.file("slos")).unwrap();
        for file in ["prometheus.yml", "slo-rules.yml", "slos/flask-api.yaml"] {
            std::fs::copy(project().join("prometheus").join(file), copy.file(file)).unwrap();
        }
        copy
    }

    fn file(&self, file: &str) -> PathBuf {
        self.0.path().join("prometheus").join(file)
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file(file)).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(self.file(file), text.replace(from, to)).unwrap();
    }

    fn render(&self, args: &[&str]) -> Output {
        lab(&["slo", "render"])
            .args(args)
            .arg("--project")
            .arg(self.0.path())
            .output()
            .unwrap()
    }
}

#[track_caller]
fn assert_says(output: &Output, code: i32, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn the_committed_rules_are_what_the_objectives_say() {
    let output = lab(&["slo", "render", "--check"])
        .arg("--project")
        .arg(project())
        .output()
        .unwrap();
    assert_says(&output, 0, &[]);
}

#[test]
fn check_shows_what_differs_and_render_mends_it() {
    let project = Project::new();
    project.change("slos/flask-api.yaml", "objective: 99.9", "objective: 99.5");
    assert_says(
        &project.render(&["--check"]),
        1,
        &[
            "-    expr: vector(0.999)",
            "+    expr: vector(0.995)",
            "run `lab slo render`",
        ],
    );
    assert_says(&project.render(&[]), 0, &["wrote"]);
    assert_says(&project.render(&["--check"]), 0, &[]);
    std::fs::remove_file(project.file("slo-rules.yml")).unwrap();
    assert_says(&project.render(&["--check"]), 1, &[]);
}

#[test]
fn a_clock_or_another_specification_leaves_the_committed_rules_alone() {
    let project = Project::new();
    let before = std::fs::read(project.file("slo-rules.yml")).unwrap();
    assert_says(
        &project.render(&["--clock", "60"]),
        0,
        &["5m is 20s", "[1m]", "vector(0.5)"],
    );
    let other = project.file("slos/flask-api.yaml");
    assert_says(
        &project.render(&[other.to_str().unwrap()]),
        0,
        &["vector(30)"],
    );
    let output = project.file("fast.yml");
    assert_says(
        &project.render(&["--clock", "60", "--output", output.to_str().unwrap()]),
        0,
        &["fast.yml"],
    );
    assert!(std::fs::read_to_string(output).unwrap().contains("[20s]"));
    assert_eq!(
        std::fs::read(project.file("slo-rules.yml")).unwrap(),
        before
    );
}

#[test]
fn refusals() {
    let project = Project::new();
    assert_says(
        &project.render(&["--clock", "7"]),
        2,
        &["clock 7", "whole seconds", "usable clocks are 1, 2"],
    );
    assert_says(
        &project.render(&["--clock", "120"]),
        2,
        &["twice the 20s", "75, 90"],
    );
    assert_says(
        &project.render(&["--clock", "60", "--check"]),
        2,
        &["--check"],
    );
    assert_says(&project.render(&["no-such.yaml"]), 2, &["no-such.yaml"]);

    project.change("slos/flask-api.yaml", r#"le="0.25""#, r#"le="0.3""#);
    assert_says(
        &project.render(&[]),
        2,
        &[
            "prometheus/slos/flask-api.yaml:",
            "flask_http_request_duration_seconds_bucket",
            r#"le="0.3""#,
            "0.1, 0.25, 0.5",
        ],
    );
    let project = Project::new();
    project.change("slos/flask-api.yaml", "objective: 99.9", "objektive: 99.9");
    assert_says(
        &project.render(&["--check"]),
        2,
        &["objektive", "expected one of", "line"],
    );
    let project = Project::new();
    project.change(
        "prometheus.yml",
        "scrape_interval: 5s",
        "scrape_interval: 1500ms",
    );
    assert_says(&project.render(&[]), 2, &["1500ms", "prometheus.yml"]);
    std::fs::remove_dir_all(project.file("slos")).unwrap();
    assert_says(&Project::render(&project, &[]), 2, &["slos"]);
}

/// A rule file that prometheus.yml does not name would be linked, tested and never evaluated.
#[test]
fn prometheus_reads_every_rule_file() {
    let config = std::fs::read_to_string(project().join("prometheus/prometheus.yml")).unwrap();
    let config: Value = serde_saphyr::from_str(&config).unwrap();
    let listed: BTreeSet<_> = config["rule_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file.as_str().unwrap().to_owned())
        .collect();
    let there: BTreeSet<_> = std::fs::read_dir(project().join("prometheus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.ends_with(".yml") && file != "prometheus.yml")
        .collect();
    assert_eq!(listed, there);
}

fn promtool(args: &[&str]) -> Output {
    Command::new(running::promtool())
        .args(args)
        .current_dir(project().join("prometheus"))
        .output()
        .unwrap()
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if !everything_is_installed() {
        return;
    }
    assert_says(
        &promtool(&["check", "rules", "slo-rules.yml"]),
        0,
        &["SUCCESS"],
    );
    let lab_profile = tempfile::NamedTempFile::new().unwrap();
    let rules = lab(&["slo", "render", "--clock", "60"])
        .arg("--project")
        .arg(project())
        .output()
        .unwrap();
    std::fs::write(lab_profile.path(), rules.stdout).unwrap();
    assert_says(
        &promtool(&["check", "rules", lab_profile.path().to_str().unwrap()]),
        0,
        &["SUCCESS"],
    );
}

#[test]
fn alerts_fire_when_the_mathematics_says() {
    if !everything_is_installed() {
        return;
    }
    assert_says(
        &promtool(&["test", "rules", "tests/slo-rules_test.yml"]),
        0,
        &["SUCCESS"],
    );
}

#[test]
fn slow_burns_wait_for_the_morning() {
    if !everything_is_installed() {
        return;
    }
    assert_says(
        &promtool(&["test", "rules", "tests/slo-rules-slow_test.yml"]),
        0,
        &["SUCCESS"],
    );
}

#[test]
fn a_running_lab_measures_its_objectives_and_pages_when_the_budget_burns() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&["--without", "elasticsearch", "--without", "otelcol"]);
    assert_says(&up, 0, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let http = reqwest::Client::new();
    let api = format!("http://127.0.0.1:{}/api/v1", lab.port("prometheus", "http"));
    let get = |path: &str, query: &[(&str, &str)]| -> Value {
        runtime.block_on(async {
            let answer = http
                .get(format!("{api}/{path}"))
                .query(query)
                .send()
                .await
                .unwrap();
            answer.json().await.unwrap()
        })
    };
    let values = |query: &str| -> Vec<f64> {
        let answer = get("query", &[("query", query)]);
        let result = answer["data"]["result"].as_array().unwrap().iter();
        result
            .map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    };

    // Two objectives, seven windows and the period each.
    let ratios = r#"{__name__=~"slo:sli_error:ratio_rate.+", sloth_service="flask-api"}"#;
    eventually("every ratio is recorded", || values(ratios).len() == 16);
    let found = values(ratios);
    assert!(
        found.iter().all(|ratio| (0.0..=1.0).contains(ratio)),
        "{found:?}"
    );
    eventually("the budget is measured", || {
        values("slo:period_error_budget_remaining:ratio").len() == 2
    });
    assert_eq!(
        values("slo:time_period:days"),
        [0.5, 0.5],
        "the lab's clock is sixty times faster"
    );

    // Without payments no order can be placed: one request in six answers 503.
    let status = lab.json(&["status", "--json"]);
    let components = status["components"].as_array().unwrap();
    let payments = components
        .iter()
        .find(|component| component["name"] == "payments")
        .unwrap();
    let pid = i32::try_from(payments["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("somebody is paged", || {
        let answer = get("alerts", &[]);
        answer["data"]["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|alert| {
                let labels = &alert["labels"];
                alert["state"] == "firing"
                    && labels["alertname"] == "AvailabilityBudgetBurn"
                    && labels["severity"] == "critical"
                    && labels["sloth_severity"] == "page"
            })
    });
    // The page may come by the slower pair of windows, at a burn rate of 6; this outage burns faster.
    eventually("the quick pair's burn rate is reached", || {
        values(r#"slo:current_burn_rate:ratio{sloth_slo="availability"} > 14.4"#).len() == 1
    });
}
