//! Ctrl-C and SIGTERM end a run, and its result is still told.

use nix::sys::signal::Signal;
use tokio::sync::watch;

use crate::program::{Running, get, value};
use crate::target::{Answer, Target, eventually, refusing};

#[test]
fn an_endless_run_ends_with_a_result() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let target = Target::start(|_, _| Answer::status(200));
        let running = Running::start(&[&target.url, "--rate", "200"]);
        target.wait_for(5);
        running.signal(signal);
        let summary = running.result();
        assert!(summary.interrupted && summary.received >= 5, "{summary:?}");
        assert_eq!(target.seen().len() as u64, summary.sent);
    }
}

#[test]
fn a_run_with_an_end_is_cut_short() {
    let target = Target::start(|_, _| Answer::status(200));
    let running = Running::start(&[&target.url, "--rate", "100", "--for", "1h"]);
    target.wait_for(5);
    running.signal(Signal::SIGINT);
    let summary = running.result();
    assert!(summary.interrupted, "{summary:?}");
    assert!(
        (5..360_000).contains(&summary.planned),
        "only what came due was planned: {summary:?}"
    );
}

#[test]
fn what_is_in_flight_is_waited_for() {
    let (release, released) = watch::channel(false);
    let target = Target::start(move |_, _| Answer::Once(released.clone()));
    let mut running = Running::start(&[&target.url, "--rate", "100", "--timeout", "1h"]);
    target.wait_for(3);
    running.signal(Signal::SIGTERM);
    running.line_with("stopping");
    release.send(true).expect("the server waits for it");
    let summary = running.result();
    assert!(summary.sent >= 3, "{summary:?}");
    assert_eq!(summary.received, summary.sent);
}

#[test]
fn a_second_signal_does_not_wait() {
    let target = Target::start(|_, _| Answer::Never);
    let mut running = Running::start(&[&target.url, "--rate", "100", "--timeout", "1h"]);
    target.wait_for(3);
    running.signal(Signal::SIGINT);
    running.line_with("stopping");
    running.signal(Signal::SIGINT);
    let summary = running.result();
    assert!(summary.sent >= 3, "{summary:?}");
    assert_eq!(summary.errors["abandoned"].count, summary.sent);
}

#[test]
fn a_server_that_is_away_does_not_end_background_traffic() {
    let (_socket, url) = refusing();
    let mut running = Running::start(&[&url, "--rate", "100", "--metrics-listen", "127.0.0.1:0"]);
    let address = running.metrics_address();
    eventually("connections are refused", || {
        (value(
            &get(&address, "/metrics"),
            "loadgen_errors_total{kind=\"connect\"}",
        ) >= 5.0)
            .then_some(())
    });
    running.signal(Signal::SIGTERM);
    assert!(running.result().failed >= 5);
}
