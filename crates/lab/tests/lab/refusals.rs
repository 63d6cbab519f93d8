//! Everything a person can get wrong says what happened and what to do, with the right exit code.

use std::net::TcpListener;

use crate::running::{TestLab, everything_is_installed, lab, text};

/// The part of the stack that needs nothing installed.
pub const OURS_ONLY: &[&str] = &[
    "--without",
    "prometheus",
    "--without",
    "alertmanager",
    "--without",
    "node_exporter",
    "--without",
    "blackbox_exporter",
    "--without",
    "cadvisor",
    "--without",
    "jaeger",
    "--without",
    "elasticsearch",
    "--without",
    "otelcol",
];

pub fn refused(output: &std::process::Output, code: i32, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_component_tells_all_its_wrong_settings_at_once() {
    for program in ["flask-api", "payments"] {
        let args = [
            "component",
            program,
            "--workers=0",
            "--listen=here",
            "--chaos-token-file=/nowhere/token",
        ];
        refused(
            &lab(&args).output().unwrap(),
            2,
            &[
                "3 settings are wrong",
                "--workers",
                "--listen",
                "/nowhere/token",
                "No such file",
            ],
        );
    }
}

#[test]
fn installing_everything_asks_for_nothing_that_cannot_be_had() {
    if !everything_is_installed() {
        return;
    }
    let output = TestLab::new().run(&["install"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn wrong_usage() {
    let place = TestLab::new();
    refused(
        &place.run(&["up", "--no-such-flag"]),
        2,
        &["--no-such-flag"],
    );
    refused(
        &place.run(&["up", "--without", "prometeus"]),
        2,
        &["prometeus", "prometheus, alertmanager"],
    );
    refused(&place.run(&["install", "banana"]), 2, &["banana"]);
    refused(
        &lab(&["status", "--port-offset", "99999"]).output().unwrap(),
        2,
        &["99999"],
    );
    refused(
        &lab(&["up", "--port-offset", "60000"]).output().unwrap(),
        2,
        &["60000", "largest that works is"],
    );
    refused(
        &place.run(&["up", "--project", "/proc"]),
        2,
        &["/proc", "--project"],
    );
    refused(&place.run(&["verify"]), 2, &["no lab runs on", "cargo run"]);
    refused(
        &place.run(&["verify", "--endpoints", "/no/such/file"]),
        2,
        &["/no/such/file"],
    );
    let file = place.data.path().join("endpoints.yaml");
    std::fs::write(&file, "prometeus: http://localhost:9090\n").unwrap();
    refused(
        &place.run(&["verify", "--endpoints", file.to_str().unwrap()]),
        2,
        &["prometeus"],
    );
}

#[test]
fn an_unwritable_data_directory() {
    let output = lab(&["up", "--data-dir", "/proc/lab"]).output().unwrap();
    refused(&output, 2, &["/proc/lab", "--data-dir"]);
}

#[test]
fn a_busy_port_names_who_holds_it_and_nothing_is_started() {
    let place = TestLab::new();
    let _holder = TcpListener::bind(("127.0.0.1", place.port("payments", "http"))).unwrap();
    let port = place.port("payments", "http").to_string();
    let holder = format!("process {}", std::process::id());
    for args in [&["up"][..], &["up", "--detach"]] {
        refused(
            &place.run(&[args, OURS_ONLY].concat()),
            2,
            &[&port, "payments", &holder, "--port-offset"],
        );
    }
    assert_eq!(place.processes(), Vec::<u64>::new());
}

#[test]
fn status_and_down_of_a_lab_that_never_ran() {
    let place = TestLab::new();
    let status = place.run(&["status"]);
    refused(&status, 1, &["no lab has run"]);
    assert_eq!(
        place.json(&["status", "--json"])["components"],
        serde_json::json!([])
    );
    let down = place.run(&["down"]);
    assert_eq!(down.status.code(), Some(0), "{}", text(&down));
}

#[test]
fn a_second_lab_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let mut place = TestLab::new();
    let up = place.up(OURS_ONLY);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let processes = place.processes();
    assert_eq!(processes.len(), 7, "six programs and the lab");
    refused(
        &place.run(&[&["up"], OURS_ONLY].concat()),
        2,
        &["already runs", "lab down"],
    );
    assert_eq!(place.processes(), processes);
    assert_eq!(place.run(&["down"]).status.code(), Some(0));
    place.assert_gone(&processes);
}

#[test]
fn missing_tools_hold_back_only_what_needs_them() {
    // A machine with nothing on PATH and an empty cache.
    let empty = tempfile::tempdir().unwrap();
    let mut place = TestLab::new();
    let bare = |place: &TestLab, args: &[&str]| {
        let mut command = place.command(args);
        command
            .arg("--cache-dir")
            .arg(empty.path())
            .env("PATH", empty.path());
        command.output().unwrap()
    };
    refused(
        &bare(&place, &["install", "jaeger"]),
        3,
        &["jaeger", "go", "https://go.dev/doc/install"],
    );
    refused(
        &bare(&place, &["install", "prometheus"]),
        3,
        &["prometheus", "apt-", "Debian"],
    );
    refused(&bare(&place, &["doctor"]), 3, &["missing"]);
    let up = loop {
        let up = bare(&place, &["up", "--detach"]);
        if !text(&up).contains("in use") {
            break up;
        }
        place = TestLab::new();
    };
    refused(&up, 3, &["jaeger absent", "go.dev"]);
    let status = place.json(&["status", "--json"]);
    let state = |name: &str| {
        let components = status["components"].as_array().unwrap();
        components
            .iter()
            .find(|component| component["name"] == name)
            .unwrap()["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(state("flask-api-1"), "ready");
    assert_eq!(state("loadgen"), "ready");
    assert_eq!(state("jaeger"), "absent");
    assert_eq!(state("prometheus"), "absent");
}

#[test]
fn a_lab_whose_data_directory_is_removed_ends() {
    let mut place = TestLab::new();
    let up = place.up(OURS_ONLY);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let processes = place.processes();
    std::fs::remove_dir_all(place.data.path()).unwrap();
    place.assert_gone(&processes);
}

#[test]
fn a_damaged_state_file_hides_no_running_lab() {
    let mut place = TestLab::new();
    let up = place.up(OURS_ONLY);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let processes = place.processes();
    std::fs::write(place.data.path().join("state.json"), "{ damaged").unwrap();
    let down = place.run(&["down"]);
    assert_eq!(down.status.code(), Some(0), "{}", text(&down));
    place.assert_gone(&processes);
}

#[test]
fn output_may_be_cut_off() {
    let place = TestLab::new();
    let mut doctor = place
        .command(&["doctor"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(doctor.stdout.take());
    let output = doctor.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no panic");
}
