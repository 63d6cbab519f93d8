//! What a stall does to the percentiles: the relation between them, not the times of this machine.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::engine::{Plan, drive};
use loadgen::metrics::Metrics;
use loadgen::pacing::Schedule;
use loadgen::summary::Summary;
use loadgen::traffic::Traffic;
use tokio::sync::{Notify, mpsc};

use crate::target::{Answer, Target};

const STALL: Duration = Duration::from_secs(1);
const HALF_A_STALL_MS: Option<f64> = Some(500.0);

/// 100 requests a second for twice the length of the stall.
fn plan(target: &Target) -> Plan {
    Plan {
        schedule: Schedule::constant("100".parse().expect("a rate"), Some(STALL * 2)),
        traffic: Traffic::Urls(vec![target.url.parse().expect("a URL")]),
        timeout: Duration::from_secs(60),
        max_in_flight: 1000,
        trace_ratio: 0.0,
        seed: 1,
    }
}

async fn run(plan: Plan) -> Summary {
    let (_stop, stops) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new(plan.schedule.rate().per_second()));
    drive(plan, metrics, stops).await.expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "current_thread")]
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
    // Requests are sent from this very thread, so they have to wait; the schedule is kept on another.
    tokio::spawn(async move {
        reached.notified().await;
        #[expect(
            clippy::disallowed_methods,
            reason = "holding up this thread is the point"
        )]
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
