//! `lab drill` on the real Prometheus, Alertmanager and inbox: what it provokes is seen, what is not seen is said, and the lab
//! is as before, whatever ends the drill.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    refusals::refused,
    running::{TestLab, eventually, everything_is_installed, lab, text},
};

/// What no drill here needs.
const WATCHED: &[&str] = &[
    "--without",
    "elasticsearch",
    "--without",
    "otelcol",
    "--without",
    "jaeger",
    "--without",
    "cadvisor",
    "--without",
    "node_exporter",
];

/// Every configuration file of Prometheus and Alertmanager, with what is in it or where it leads.
fn configuration(lab: &TestLab) -> BTreeMap<PathBuf, String> {
    fn read(dir: &Path, files: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(to) = std::fs::read_link(&path) {
                files.insert(path, to.display().to_string());
            } else if path.is_dir() {
                read(&path, files);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(path, text);
            }
        }
    }
    let mut files = BTreeMap::new();
    for component in ["prometheus", "alertmanager"] {
        read(&lab.data.path().join("run").join(component), &mut files);
    }
    files
}

/// Nothing is left of a drill.
fn assert_mended(lab: &TestLab, before: &BTreeMap<PathBuf, String>) {
    assert_eq!(&configuration(lab), before);
    assert!(!lab.data.path().join("drill.json").exists());
    let faults = lab.json(&["chaos", "list", "--json"]);
    assert_eq!(faults["active"], serde_json::json!([]));
    for pid in lab.processes() {
        assert_ne!(state(pid), 'T', "{pid} stands still");
    }
    // Prometheus runs with what is in the files.
    let rules = get(lab, "prometheus", "/api/v1/rules?type=alert");
    let hold = |name: &str| {
        let groups = rules["data"]["groups"].as_array().unwrap().iter();
        let mut rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules.find(|rule| rule["name"] == name).unwrap()["duration"].as_u64()
    };
    assert_eq!(hold("HighErrorRate"), Some(300));
    let status = get(lab, "alertmanager", "/api/v2/status");
    let config = status["config"]["original"].as_str().unwrap();
    assert!(config.contains("group_wait: 15m"), "{config}");
}

/// `T` is stopped.
fn state(pid: u64) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(") ").next().unwrap();
    after.chars().next().unwrap()
}

fn pid(lab: &TestLab, component: &str) -> u64 {
    let status = lab.json(&["status", "--json"]);
    let components = status["components"].as_array().unwrap();
    let of = components.iter().find(|it| it["name"] == component);
    of.unwrap()["pid"].as_u64().unwrap()
}

fn get(lab: &TestLab, component: &str, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{}{path}", lab.port(component, "http"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() })
}

/// A drill that goes on in the background.
fn start(lab: &TestLab, args: &[&str]) -> Child {
    lab.command(&[&["drill"], args].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn outcome<'a>(report: &'a Value, alert: &str) -> &'a Value {
    let drills = report["drills"].as_array().unwrap();
    let found = drills.iter().find(|drill| drill["alert"] == alert);
    found.unwrap_or_else(|| panic!("no {alert} in {report:#}"))
}

#[test]
fn what_cannot_be_drilled_is_refused() {
    let place = TestLab::new();
    refused(
        &place.run(&["drill", "HighErrorRates"]),
        2,
        &["no alert HighErrorRates", "did you mean HighErrorRate?"],
    );
    refused(
        &place.run(&["drill", "Zzz"]),
        2,
        &["no alert Zzz", "lab drill --list"],
    );
    refused(
        &place.run(&["drill", "KubeNodeNotReady"]),
        2,
        &["KubeNodeNotReady cannot be provoked here", "cluster"],
    );
    refused(
        &place.run(&["drill", "HighErrorRate"]),
        2,
        &["no lab runs on", "cargo run"],
    );
    let list = lab(&["drill", "--list", "KubeNodeNotReady", "ReplicaDown"])
        .output()
        .unwrap();
    assert_eq!(list.status.code(), Some(0), "{}", text(&list));
    for part in ["not here: it needs a cluster", "SIGSTOP"] {
        assert!(text(&list).contains(part), "{}", text(&list));
    }
}

#[test]
fn alerts_are_seen_from_the_fault_to_the_all_clear_and_the_lab_is_as_before() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(WATCHED);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let before = configuration(&lab);
    let report = lab.data.path().join("report.md");

    // A process that stands still, a broken configuration, a second instance, a fault; two lanes.
    let alerts = [
        ("ReplicaDown", "slack/slack-shop"),
        ("ServiceMissing", "slack/slack-shop"),
        ("ShopDatabaseUnreadable", "slack/slack-shop"),
        ("PrometheusConfigReloadFailed", "slack/slack-platform"),
    ];
    let names: Vec<&str> = alerts.iter().map(|(name, _)| *name).collect();
    let args = ["drill", "--json", "--report", report.to_str().unwrap()];
    let output = lab.run(&[&args[..], &names].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["clock"], 15);
    assert_eq!(json["ok"], true);
    for (alert, receiver) in alerts {
        let outcome = outcome(&json, alert);
        let measured = &outcome["measured"];
        let at = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{outcome:#}"));
        let [pending, firing] = ["pending", "firing"].map(|key| at(&measured[key]));
        let told = at(&measured["notified"][receiver]);
        // Prometheus is looked at twice a second, a receiver tells to the moment: who is told may be seen first.
        assert!(pending <= firing && firing <= told + 2.0, "{outcome:#}");
        // Its first evaluation that holds is not its last one before it fires: `for` is not nothing.
        assert!(at(&outcome["theory"]["firing"]) > at(&outcome["theory"]["pending"]));
        at(&measured["ended"]);
        at(&measured["resolved"][receiver]);
    }
    let missing = &outcome(&json, "ServiceMissing")["measured"]["notified"];
    let channels = missing.as_object().unwrap().keys();
    assert!(
        channels
            .clone()
            .any(|it| it.starts_with("pagerduty/oncall-")),
        "a critical alert pages: {missing:#}"
    );
    let report = std::fs::read_to_string(report).unwrap();
    for (alert, _) in alerts {
        assert!(report.contains(&format!("| {alert} (")), "{report}");
    }
    assert_mended(&lab, &before);

    // What is not there cannot be broken: that is told, and nothing waited for.
    let output = lab.run(&["drill", "JaegerDown", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing = outcome(&json, "JaegerDown")["missing"][0].as_str().unwrap();
    assert!(missing.contains("jaeger does not run"), "{missing}");

    // Ctrl-C in the middle.
    let mut child = start(&lab, &["HighErrorRate"]);
    eventually("the fault is active", || {
        let faults = lab.json(&["chaos", "list", "--json"]);
        !faults["active"].as_array().unwrap().is_empty()
    });
    assert_ne!(configuration(&lab), before, "another clock");
    refused(
        &lab.run(&["drill", "ReplicaDown"]),
        2,
        &["another drill is running"],
    );
    send(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_mended(&lab, &before);

    // Killed in the middle: the next one mends.
    let mut child = start(&lab, &["ReplicaDown"]);
    let replica = pid(&lab, "flask-api-2");
    eventually("the replica stands still", || state(replica) == 'T');
    send(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert_eq!(state(replica), 'T');
    assert_ne!(configuration(&lab), before);

    // Meanwhile somebody has made a rule of it that nothing fulfils: the drill says so.
    let rules = lab.data.path().join("run/prometheus/recording-rules.yml");
    assert!(before.contains_key(&rules));
    let alerts = lab.data.path().join("run/prometheus/alerts.yml");
    let aside = alerts.with_file_name("alerts.yml.before-drill-1");
    let committed = std::fs::read_to_string(&aside).unwrap();
    let holds = "up{job=~\"flask-api|payments\"} == 0 and";
    assert!(committed.contains(holds));
    std::fs::remove_file(&aside).unwrap();
    std::fs::write(&aside, committed.replace(holds, "up == 2 and")).unwrap();
    let output = lab.run(&["drill", "ReplicaDown", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("an earlier drill was killed"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcome = outcome(&json, "ReplicaDown");
    assert_eq!(
        (&outcome["ok"], &outcome["measured"]["firing"]),
        (&Value::Bool(false), &Value::Null)
    );
    assert_eq!(outcome["missing"][0], "it did not become pending");
    let table = configuration(&lab);
    let changed: Vec<_> = table
        .iter()
        .filter(|&(path, text)| before.get(path) != Some(text))
        .collect();
    assert_eq!(changed.len(), 1, "only what was edited: {changed:?}");
    assert_eq!(changed[0].0, &alerts);
    assert_ne!(state(replica), 'T');
}
