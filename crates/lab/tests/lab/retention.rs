//! The disk that logs take is bounded, and what nobody has read is not deleted.

use std::{collections::BTreeSet, os::unix::fs::symlink, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use stack::table::COMPONENTS;
use tempfile::TempDir;

use crate::running::{TestLab, eventually, everything_is_installed, project, text};

const POLICY: &str = "elk/lifecycle-policy.json";
/// Of all files set aside; the flood writes several times as much.
const FILES_BYTES: u64 = 300_000;

/// This project with a policy of its own.
fn with_policy(change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, skipped) in [("", "elk"), ("elk", "lifecycle-policy.json")] {
        let to = dir.path().join(from);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(project().join(from)).unwrap().flatten() {
            if entry.file_name() != skipped {
                symlink(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let text = std::fs::read(project().join(POLICY)).unwrap();
    let mut policy = serde_json::from_slice(&text).unwrap();
    change(&mut policy);
    std::fs::write(dir.path().join(POLICY), policy.to_string()).unwrap();
    dir
}

/// Bytes of the log files that were set aside, and whether the first is among them.
fn set_aside(logs: &Path) -> (u64, bool) {
    let entries = std::fs::read_dir(logs).unwrap().flatten();
    let files: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            !name.ends_with(".log")
        })
        .collect();
    let bytes = files
        .iter()
        .map(|it| it.metadata().map_or(0, |it| it.len()));
    let first = files.iter().any(|it| it.file_name() == "payments.log.1");
    (bytes.sum(), first)
}

#[test]
fn disk_is_bounded_and_no_unread_line_is_deleted() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let wrong = with_policy(|it| it["policy"]["phases"]["delete"]["min_age"] = json!("soon"));
    let up = lab.run(&["up", "--project", wrong.path().to_str().unwrap()]);
    assert_eq!(up.status.code(), Some(2), "{}", text(&up));
    assert!(
        text(&up).contains("min_age is \"soon\", which is no time such as 7d"),
        "{}",
        text(&up)
    );

    let project = with_policy(|it| {
        it["policy"]["phases"]["hot"]["actions"]["rollover"] = json!({ "max_docs": 1000 });
        it["policy"]["_meta"]["lab"]["log_file_bytes"] = json!(100_000);
        it["policy"]["_meta"]["lab"]["log_files_bytes"] = json!(FILES_BYTES);
    });
    let others = COMPONENTS
        .iter()
        .map(|it| it.name)
        .filter(|name| !["elasticsearch", "otelcol", "payments"].contains(name));
    let mut args: Vec<&str> = others.flat_map(|name| ["--without", name]).collect();
    args.extend(["--project", project.path().to_str().unwrap()]);
    let up = lab.up(&args);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |path: &str, query: Option<Value>| -> Option<Value> {
        let url = format!(
            "http://127.0.0.1:{}{path}",
            lab.port("elasticsearch", "http")
        );
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = match query {
                Some(query) => client.post(url).json(&query),
                None => client.get(url),
            };
            let answer = request.send().await.ok()?.error_for_status().ok()?;
            answer.json().await.ok()
        })
    };
    let indices = || -> BTreeSet<String> {
        let answer = ask("/_cat/indices/flask-logs-0*?format=json&h=index", None);
        let rows = answer.unwrap_or_default();
        let rows = rows.as_array().into_iter().flatten();
        rows.map(|it| it["index"].as_str().unwrap().to_owned())
            .collect()
    };

    // Many lines, and nobody who takes them.
    let status = lab.json(&["status", "--json"]);
    let components = status["components"].as_array().unwrap();
    let elasticsearch = components.iter().find(|it| it["name"] == "elasticsearch");
    let pid = elasticsearch.unwrap()["pid"].as_i64().unwrap();
    // Its launcher has a process group of its own.
    let group = Pid::from_raw(-i32::try_from(pid).unwrap());
    kill(group, Signal::SIGSTOP).unwrap();
    let flood = lab.run(&[
        "chaos",
        "start",
        "log-flood",
        "--service",
        "payments",
        "--rate",
        "500",
        "--for",
        "12s",
    ]);
    assert_eq!(flood.status.code(), Some(0), "{}", text(&flood));
    eventually("the flood is over", || {
        let report = lab.json(&["chaos", "list", "--json"]);
        report["active"].as_array().unwrap().is_empty()
    });
    let logs = lab.data.path().join("logs/app");
    let (bytes, first_is_there) = set_aside(&logs);
    assert!(bytes > 2 * FILES_BYTES, "{bytes}");
    assert!(first_is_there, "unread, and deleted");

    kill(group, Signal::SIGCONT).unwrap();
    eventually("what has been read goes", || {
        let (bytes, first_is_there) = set_aside(&logs);
        bytes <= FILES_BYTES && !first_is_there
    });
    // Every line is there, once, though its file went, and in whichever index.
    let mut lines = Vec::new();
    eventually("every line is a document", || {
        let query = json!({
            "size": 10_000, "_source": ["chaos.line"], "query": { "exists": { "field": "chaos.line" } }, "sort": ["chaos.line"],
        });
        let answer = ask("/flask-logs-*/_search", Some(query)).unwrap_or_default();
        let hits = answer["hits"]["hits"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        lines = hits
            .iter()
            .map(|hit| hit["_source"]["chaos.line"].as_f64().unwrap())
            .collect();
        // A line a tick: what was written is known from the newest that arrived.
        lines
            .last()
            .is_some_and(|last| lines.len() >= 5_000 && lines.len() as f64 >= *last)
    });
    let distinct: BTreeSet<u64> = lines.iter().map(|line| line.to_bits()).collect();
    assert_eq!(distinct.len(), lines.len(), "a line is there twice");
    eventually("the next index is begun", || indices().len() > 1);

    // Who edits the policy sees what comes of it.
    let path = project.path().join(POLICY);
    let mut policy: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    policy["policy"]["_meta"]["lab"]["indices_bytes"] = json!(1);
    std::fs::write(&path, policy.to_string()).unwrap();
    eventually("only the index that is written to is left", || {
        let left = indices();
        left.len() == 1 && !left.contains("flask-logs-000001")
    });
    assert!(ask("/_alias/flask-logs", None).is_some());
}
