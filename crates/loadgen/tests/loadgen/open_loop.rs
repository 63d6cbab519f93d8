//! What a stall does to the percentiles: the relation between them, not the times of this machine.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser as _;
use loadgen::cli::{Args, Command};
use loadgen::engine::{Plan, drive};
use loadgen::metrics::Metrics;
use loadgen::summary::Summary;
use tokio::sync::{Notify, mpsc};

use crate::program::result;
use crate::target::{Answer, Target};

const STALL: Duration = Duration::from_secs(1);
const HALF_A_STALL_MS: Option<f64> = Some(500.0);

/// 100 requests a second for twice the length of the stall.
fn plan(target: &Target) -> Plan {
    let length = format!("{}s", (STALL * 2).as_secs());
    let args = [
        "loadgen",
        "run",
        &target.url,
        "--rate",
        "100",
        "--for",
        &length,
        "--timeout",
        "60s",
        "--trace-ratio",
        "0",
    ];
    match Args::parse_from(args).command {
        Command::Run(args) => args.plan().expect("a good plan").0,
        other => panic!("{other:?}"),
    }
}

async fn run(plan: Plan) -> Summary {
    let (_stop, stops) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new(plan.schedule.rate_at(Duration::ZERO)));
    drive(plan, metrics, stops).await.expect("a timer")
}

#[tokio::test]
async fn a_stall_of_the_server_is_felt_by_everyone_who_came_meanwhile() {
    let end_of_stall = Mutex::new(None);
    let target = Target::start(move |n, _| {
        let mut end = end_of_stall.lock().expect("no panic");
        if n == 20 {
            *end = Some(Instant::now() + STALL);
        }
        end.map_or(Answer::status(200), Answer::NotBefore)
    });
    let summary = run(plan(&target)).await;
    assert_eq!((summary.sent, summary.received), (200, 200));
    // About 100 of 200 came during the stall, and half of those waited for more than half of it. A generator that
    // waits for answers would have sent one request into the stall, and have no trace of it at the 90th percentile.
    assert!(summary.latency_ms.p90 >= HALF_A_STALL_MS, "{summary:?}");
}

#[tokio::test]
async fn a_stall_of_the_generator_is_latency_but_not_service_time() {
    let reached = Arc::new(Notify::new());
    let target = Target::start({
        let reached = Arc::clone(&reached);
        move |n, _| {
            if n == 20 {
                reached.notify_one();
            }
            Answer::status(200)
        }
    });
    // The schedule is kept, and requests are sent, on this very thread, so all of them have to wait.
    tokio::spawn(async move {
        reached.notified().await;
        // Holding up this thread is the point.
        thread::sleep(STALL);
    });
    let summary = run(plan(&target)).await;
    assert_eq!((summary.sent, summary.received), (200, 200));
    assert!(summary.latency_ms.p90 >= HALF_A_STALL_MS, "{summary:?}");
    assert!(summary.lateness_ms.p90 >= HALF_A_STALL_MS, "{summary:?}");
    // The server was quick all along: only what was under way when the stall began took long to serve.
    let (latency, service) = (
        summary.latency_ms.p90.expect("p90"),
        summary.service_ms.p90.expect("p90"),
    );
    assert!(service < latency / 2.0, "{summary:?}");
    assert!(summary.limited_by_generator, "{summary:?}");
}

#[test]
fn achieved_is_wanted_at_any_pace() {
    let target = Target::start(|_, _| Answer::status(200));
    for (pace, sent, wanted) in [
        ("ramp:0..400/500ms", 100, 200.0),
        ("steps:200/250ms,0/250ms,400/250ms", 150, 200.0),
        ("sine:100..300/250ms", 100, 200.0),
        ("spike:100..600@100ms/100ms", 100, 200.0),
    ] {
        let length: &[&str] = if pace.starts_with("steps") {
            &[]
        } else {
            &["--for", "500ms"]
        };
        let summary = result(&[&[target.url.as_str(), "--pace", pace], length].concat());
        assert_eq!((summary.planned, summary.sent), (sent, sent), "{pace}");
        assert_eq!(summary.wanted_rate, wanted, "{pace}");
        // Only its last start can be late on a busy machine.
        assert!(
            summary.achieved_rate <= summary.wanted_rate,
            "{pace}: {summary:?}"
        );
    }
}

#[test]
fn shards_send_the_requests_of_one_plan() {
    let requests = |shard: &str| {
        let target = Target::start(|_, _| Answer::status(404));
        result(&[
            &target.url,
            "--scenario",
            "shop",
            "--pace",
            "poisson:400",
            "--for",
            "500ms",
            "--seed",
            "5",
            "--shard",
            shard,
        ]);
        let seen = target.seen().into_iter();
        let mut seen: Vec<_> = seen
            .map(|seen| {
                format!(
                    "{} {} {} {:?}",
                    seen.method, seen.path, seen.query, seen.body
                )
            })
            .collect();
        seen.sort();
        seen
    };
    let mut union = [requests("0/3"), requests("1/3"), requests("2/3")].concat();
    union.sort();
    assert_eq!(union, requests("0/1"));
}
