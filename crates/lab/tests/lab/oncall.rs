//! `lab oncall` as a command, and the hand-over drill: the real Alertmanager, before and after.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::{
    refusals::refused,
    running::{eventually, free_port, lab, program, project, skip, text},
};

/// A project of a test's own: a rotation and a configuration to write it into.
struct Project(TempDir);

impl Project {
    /// The committed ones.
    fn new() -> Self {
        let read =
            |file| std::fs::read_to_string(project().join("alertmanager").join(file)).unwrap();
        Self::with(&read("oncall.yaml"), &read("alertmanager.yml"))
    }

    fn with(rotation: &str, config: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(project.0.path().join("alertmanager")).unwrap();
        // By this file a project is known.
        let marker = project.0.path().join("prometheus/prometheus.yml");
        std::fs::create_dir(marker.parent().unwrap()).unwrap();
        std::fs::write(marker, "").unwrap();
        std::fs::write(project.file("oncall.yaml"), rotation).unwrap();
        std::fs::write(project.file("alertmanager.yml"), config).unwrap();
        project
    }

    fn file(&self, file: &str) -> PathBuf {
        self.0.path().join("alertmanager").join(file)
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file(file)).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(self.file(file), text.replace(from, to)).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        lab(&["oncall"])
            .args(args)
            .arg("--project")
            .arg(self.0.path())
            .output()
            .unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }
}

#[test]
fn the_committed_configuration_is_what_the_rotation_says() {
    let output = lab(&["oncall", "render", "--check"])
        .arg("--project")
        .arg(project())
        .output()
        .unwrap();
    refused(
        &output,
        0,
        &["is what the layers and overrides of alertmanager/oncall.yaml say"],
    );
}

#[test]
fn who_answers_people_and_machines() {
    let project = Project::new();
    // New Year's Eve, overridden; by the clock in Berlin.
    let args = ["who", "--at", "2026-12-31T23:00"];
    refused(
        &project.run(&args),
        0,
        &[
            "Thu 2026-12-31 23:00 +01:00, outside business hours",
            "third",
            "override",
            "until Sat 2027-01-02 12:00 +01:00",
        ],
    );
    let answer = project.json(&["who", "--at", "2026-12-31T22:00:00Z", "--json"]);
    assert_eq!(answer["at"], "2026-12-31T22:00:00Z");
    assert_eq!(answer["business_hours"], false);
    assert_eq!(answer["primary"]["handle"], "third");
    assert_eq!(answer["primary"]["since"], "2026-12-31T11:00:00Z");
    assert_eq!(
        answer["primary"]["claims"],
        json!([{ "handle": "third", "by": "override" }])
    );
    assert_eq!(answer["secondary"]["handle"], "first");
    // Before the rotation began.
    refused(
        &project.run(&["who", "--at", "2026-01-01T00:00"]),
        1,
        &["nobody"],
    );
    let nobody = project.json(&["who", "--at", "2026-01-01T00:00", "--json"]);
    assert_eq!(nobody["primary"]["handle"], Value::Null);
}

#[test]
fn check_proves_and_names_what_is_missing() {
    let project = Project::new();
    let from = ["check", "--from", "2026-11-23T09:00"];
    refused(
        &project.run(&from),
        0,
        &[
            "26 weeks, Mon 2026-11-23 09:00 +01:00 to Mon 2027-05-24 09:00 +02:00",
            "every minute has exactly one primary",
            "by +60 min on Sun 2027-03-28 03:00 +02:00",
        ],
    );
    let report = project.json(&[&from[..], &["--json"]].concat());
    assert_eq!(report["ok"], true);
    assert_eq!(report["findings"], json!([]));
    let hours = report["people"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["secondary_hours"].as_f64().unwrap());
    assert!((hours.sum::<f64>() - 4367.0).abs() < 1e-6, "{report:#}");

    // The secondary's layer ends and nothing follows.
    project.change(
        "oncall.yaml",
        "    hours: always\n",
        "    hours: always\n    until: 2027-05-17\n",
    );
    let finding = "Mon 2027-05-17 09:00 +02:00 to Mon 2027-05-24 09:00 +02:00: nobody is secondary";
    refused(&project.run(&from), 1, &["FAIL", finding]);
    let report = project.json(&[&from[..], &["--json"]].concat());
    assert_eq!(report["ok"], false);
    let found = &report["findings"][0];
    assert_eq!(
        (&found["kind"], &found["role"]),
        (&json!("gap"), &json!("secondary"))
    );
    assert_eq!(found["from"], "2027-05-17T07:00:00Z");
    refused(
        &project.run(&["render", "--from", "2026-11-23"]),
        1,
        &[finding],
    );
}

#[test]
fn render_writes_the_marked_regions_and_check_shows_what_differs() {
    let project = Project::new();
    refused(
        &project.run(&["render", "--from", "2026-11-30"]),
        0,
        &["wrote"],
    );
    refused(&project.run(&["render", "--check"]), 0, &[]);
    project.change("oncall.yaml", "escalate_after: 15m", "escalate_after: 20m");
    refused(
        &project.run(&["render", "--check"]),
        1,
        &[
            "-          group_wait: 15m",
            "+          group_wait: 20m",
            "run `lab oncall render`",
        ],
    );
    refused(&project.run(&["render"]), 0, &["wrote"]);
    refused(&project.run(&["render", "--check"]), 0, &[]);
    project.change(
        "alertmanager.yml",
        "  - name: oncall-second\n",
        "  - name: oncall-nobody\n",
    );
    refused(
        &project.run(&["render"]),
        2,
        &["alertmanager/alertmanager.yml: there is no receiver oncall-second"],
    );
}

#[test]
fn pagerduty_gets_bodies_of_its_api() {
    let project = Project::new();
    let body = project.json(&["render", "--pagerduty"]);
    let layers = body["schedule"]["schedule_layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2, "{body:#}");
    assert_eq!(layers[0]["rotation_turn_length_seconds"], 604_800);
    let secondary = project.json(&["render", "--pagerduty", "secondary"]);
    assert_eq!(secondary["schedule"]["name"], "secondary on call");
    let overrides = project.json(&[
        "render",
        "--pagerduty",
        "primary-overrides",
        "--from",
        "2026-11-23",
    ]);
    let overrides = overrides["overrides"].as_array().unwrap();
    // Four holidays, and New Year's Eve with New Year's Day in it.
    assert_eq!(overrides.len(), 4, "{overrides:#?}");
    assert_eq!(overrides[1]["start"], "2026-12-31T12:00:00+01:00");
    project.change(
        "oncall.yaml",
        "handle: second, pagerduty_user: REPLACE-SECOND",
        "handle: second",
    );
    refused(
        &project.run(&["render", "--pagerduty"]),
        2,
        &["second", "pagerduty_user"],
    );
}

#[test]
fn refusals() {
    let project = Project::new();
    refused(
        &project.run(&["who", "--at", "tomorrow"]),
        2,
        &["`tomorrow` is no time", "2026-12-24T18:00"],
    );
    refused(&project.run(&["check", "--weeks", "0"]), 2, &["--weeks"]);
    refused(
        &project.run(&["render", "--check", "--from", "2026-11-23"]),
        2,
        &["--from"],
    );
    project.change("oncall.yaml", "role: secondary", "role: tertiary");
    project.change("oncall.yaml", "person: third", "person: nobody-we-know");
    for command in ["who", "check", "render"] {
        refused(
            &project.run(&[command]),
            2,
            &[
                "alertmanager/oncall.yaml:",
                "`tertiary` is no role",
                "`nobody-we-know` is not among the people",
            ],
        );
    }
    std::fs::remove_file(project.file("oncall.yaml")).unwrap();
    refused(&project.run(&["who"]), 2, &["cannot read", "oncall.yaml"]);
}

/// An Alertmanager with a configuration; ended with the test.
struct Alertmanager {
    process: Child,
    url: String,
    _state: TempDir,
}

impl Alertmanager {
    fn start(program: &Path, config: &Path) -> Self {
        let state = tempfile::tempdir().unwrap();
        let port = free_port();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", state.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            _state: state,
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One Alertmanager and what its people received.
struct Drill<'a> {
    runtime: &'a Runtime,
    inbox: MockServer,
    project: Project,
    alertmanager: Alertmanager,
}

impl<'a> Drill<'a> {
    /// `early` has the week that ends with the hand-over and `late` the one that begins, as primary and secondary.
    fn new(runtime: &'a Runtime, program: &Path, hand_over: Timestamp) -> Self {
        let inbox = runtime.block_on(async {
            let inbox = MockServer::start().await;
            Mock::given(any())
                .respond_with(ResponseTemplate::new(200))
                .mount(&inbox)
                .await;
            inbox
        });
        let at = TimeZone::UTC.to_datetime(hand_over);
        let since = at.date().checked_sub(7.days()).unwrap();
        let people = ["early", "early-second", "late", "late-second"];
        let handles: String = people
            .iter()
            .map(|it| format!("  - handle: {it}\n"))
            .collect();
        let rotation = format!(
            "version: oncall/v1\ntime_zone: UTC\nhand_over: {{ weekday: {}, time: '{}' }}\nescalate_after: 2s\npeople:\n{handles}layers:\n  - {{ name: one, role: primary, hours: always, since: {since}, people: [early, late] }}\n  - {{ name: two, role: secondary, hours: always, since: {since}, people: [early-second, late-second] }}\n",
            at.strftime("%A").to_string().to_lowercase(),
            at.strftime("%H:%M"),
        );
        let receivers: String = people
            .iter()
            .chain(&["fallback"])
            .map(|it| {
                format!(
                    "  - name: oncall-{it}\n    webhook_configs: [{{ url: '{}/{it}' }}]\n",
                    inbox.uri()
                )
            })
            .collect();
        let config = format!(
            "route:\n  receiver: nobody\n  group_by: [alertname]\n  group_wait: 1s\n  group_interval: 1s\n  repeat_interval: 4h\n  routes:\n    # begin generated by lab oncall render: routes\n    # end generated by lab oncall render: routes\nreceivers:\n  - name: nobody\n{receivers}time_intervals:\n  # begin generated by lab oncall render: time_intervals\n  # end generated by lab oncall render: time_intervals\n"
        );
        let project = Project::with(&rotation, &config);
        refused(
            &project.run(&["render", "--from", &since.to_string()]),
            0,
            &["wrote"],
        );
        let alertmanager = Alertmanager::start(program, &project.file("alertmanager.yml"));
        let mut drill = Self {
            runtime,
            inbox,
            project,
            alertmanager,
        };
        eventually("Alertmanager is ready", || {
            assert!(
                drill.alertmanager.process.try_wait().unwrap().is_none(),
                "Alertmanager has ended"
            );
            drill.get("/-/ready").is_some()
        });
        drill
    }

    fn get(&self, path: &str) -> Option<String> {
        let url = format!("{}{path}", self.alertmanager.url);
        self.runtime.block_on(async {
            let answer = reqwest::get(url).await.ok()?.error_for_status().ok()?;
            answer.text().await.ok()
        })
    }

    fn alert(&self, name: &str, ends: Option<Timestamp>) {
        let mut alert = json!({ "labels": { "alertname": name, "severity": "critical" } });
        if let Some(ends) = ends {
            alert["endsAt"] = json!(ends);
        }
        let request = reqwest::Client::new()
            .post(format!("{}/api/v2/alerts", self.alertmanager.url))
            .json(&json!([alert]));
        let answer = self.runtime.block_on(request.send()).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Messages that a person has received of an alert, with its status, in order.
    fn received(&self, person: &str, alert: &str) -> Vec<String> {
        let requests = self
            .runtime
            .block_on(self.inbox.received_requests())
            .unwrap();
        requests
            .iter()
            .filter(|request| request.url.path() == format!("/{person}"))
            .map(|request| request.body_json::<Value>().unwrap())
            .filter(|message| message["groupLabels"]["alertname"] == alert)
            .map(|message| message["status"].as_str().unwrap().to_owned())
            .collect()
    }

    /// That the Alertmanager that runs shows what is rendered.
    fn assert_loaded(&self) {
        let status: Value = serde_json::from_str(&self.get("/api/v2/status").unwrap()).unwrap();
        let running = status["config"]["original"].as_str().unwrap();
        let rendered = std::fs::read_to_string(self.project.file("alertmanager.yml")).unwrap();
        let [running, rendered] =
            [running, &rendered].map(|it| oncall::alertmanager::Loaded::read(it).unwrap());
        assert_eq!(running, rendered);
    }
}

/// Debian's, where it is on the path.
fn debians() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("prometheus-alertmanager"))
        .find(|file| file.is_file())
}

/// The clock is the true one: Go programs ask the kernel for the time, not the C library, so that a library cannot
/// fake it (docs/oncall.md). The hand-over is put where the clock is about to be.
#[test]
fn a_hand_over_moves_pages_from_one_person_to_the_next() {
    let Some(installed) = program("alertmanager") else {
        skip("Alertmanager is not installed; get it with `lab install alertmanager`");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A whole minute, with time enough to be paged before it.
    let soon = Timestamp::now().as_second() + 30;
    let hand_over = Timestamp::from_second((soon / 60 + 1) * 60).unwrap();
    let drills: Vec<Drill<'_>> = [Some(installed), debians()]
        .iter()
        .flatten()
        .map(|program| Drill::new(&runtime, program, hand_over))
        .collect();
    for drill in &drills {
        drill.assert_loaded();
        drill.alert("Before", None);
    }
    for drill in &drills {
        eventually("both who are on call are told", || {
            ["early", "early-second"]
                .iter()
                .all(|it| drill.received(it, "Before") == ["firing"])
        });
        assert!(
            Timestamp::now() < hand_over,
            "too slow to be paged in half a minute"
        );
        for person in ["late", "late-second", "fallback"] {
            assert_eq!(drill.received(person, "Before"), [""; 0], "{person}");
        }
    }

    eventually("the hand-over has come", || Timestamp::now() >= hand_over);
    for drill in &drills {
        drill.alert("After", None);
    }
    for drill in &drills {
        eventually("those who took over are told", || {
            ["late", "late-second"]
                .iter()
                .all(|it| drill.received(it, "After") == ["firing"])
        });
        // What still burns is handed over with the rest.
        eventually("they hear of what came before", || {
            ["late", "late-second"]
                .iter()
                .all(|it| drill.received(it, "Before") == ["firing"])
        });
        drill.alert("After", Some(Timestamp::now()));
        drill.alert("Before", Some(Timestamp::now()));
        eventually("they are told of the end", || {
            ["late", "late-second"].iter().all(|it| {
                ["After", "Before"]
                    .iter()
                    .all(|alert| drill.received(it, alert) == ["firing", "resolved"])
            })
        });
        for person in ["early", "early-second"] {
            assert_eq!(drill.received(person, "After"), [""; 0], "{person}");
            assert_eq!(drill.received(person, "Before"), ["firing"], "{person}");
        }
        assert_eq!(drill.received("fallback", "After"), [""; 0]);
    }
}
