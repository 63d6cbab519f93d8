//! Runs in which something ends before its time: no account is lost.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;

use crate::program::{Running, command, get, summary, value};
use crate::target::{Answer, Target, eventually, refusing};

#[test]
fn a_server_that_is_killed_in_the_middle_loses_no_account() {
    // A process with an HTTP server that can be killed: another loadgen, with its metrics.
    let (_socket, nowhere) = refusing();
    let mut server = Running::start(&[
        &nowhere,
        "--rate",
        "0.001",
        "--metrics-listen",
        "127.0.0.1:0",
    ]);
    let address = server.metrics_address();
    let url = format!("http://{address}/healthz");
    let mut running = Running::start(&[
        &url,
        "--rate",
        "500",
        "--for",
        "3s",
        "--timeout",
        "20s",
        "--metrics-listen",
        "127.0.0.1:0",
    ]);
    let metrics = running.metrics_address();
    eventually("some are answered", || {
        let text = get(&metrics, "/metrics");
        (value(&text, "loadgen_responses_total{status_class=\"2xx\"}") >= 100.0).then_some(())
    });
    server.signal(Signal::SIGKILL);
    server.gone();
    let summary = running.result();
    // That every sum is right is checked for each result; here, that nothing was left out of them.
    assert_eq!(
        (summary.planned, summary.sent, summary.dropped),
        (1500, 1500, 0)
    );
    assert!(summary.received >= 100 && summary.failed > 0, "{summary:?}");
    assert_eq!(
        summary.timed_out, 0,
        "a connection that is gone is no time-out"
    );
    let failed: u64 = summary.errors.values().map(|errors| errors.count).sum();
    assert_eq!(failed, summary.failed);
    // Refused once it is gone; reset what its system had let in before.
    let example = &summary.errors["connect"].example;
    assert!(
        example.contains("refused") || example.contains("reset"),
        "{summary:?}"
    );
    // Every failed request has a trace to look it up by.
    assert_eq!(summary.failures.len(), 10);
    let timed: u64 = summary
        .timeline
        .intervals
        .iter()
        .map(|interval| interval.sent)
        .sum();
    assert_eq!(timed, 1500);
}

#[test]
fn a_terminal_shows_the_run_as_it_goes_and_the_result_so_far() {
    let size = Winsize {
        ws_row: 30,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    let target = Target::start(|_, _| Answer::status(200));
    let mut child = command(&[&target.url, "--rate", "100", "--json", "-"])
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .stderr(Stdio::from(terminal.slave))
        .spawn()
        .expect("the program starts");
    let mut screen = File::from(terminal.master);
    let mut seen = String::new();
    let mut read_up_to = |words: &[&str]| {
        let mut buffer = [0; 4096];
        while !words.iter().all(|word| seen.contains(word)) {
            // The end of a terminal is an error.
            let length = screen.read(&mut buffer).unwrap_or(0);
            assert_ne!(length, 0, "it ended without {words:?}: {seen}");
            seen += &String::from_utf8_lossy(&buffer[..length]);
        }
    };
    read_up_to(&[
        "100 /s wanted",
        "/s got",
        "p99",
        "in flight",
        "failed or timed out",
    ]);
    // A whole second has been measured.
    read_up_to(&["█"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("it is running");
    read_up_to(&["stopping", "imited by the generator", "interrupted"]);
    let mut json = Vec::new();
    child
        .stdout
        .take()
        .expect("it is piped")
        .read_to_end(&mut json)
        .expect("JSON");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(summary(&json).received > 0);
}
