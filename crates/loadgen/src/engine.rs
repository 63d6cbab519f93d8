//! The open loop: a thread that keeps the schedule, a task for each request, one place that counts.
//!
//! The thread never waits for an answer, and answers never make it wait: a server that stalls does
//! not slow down the arrival of work, just as its customers would not.

use std::sync::Arc;
use std::sync::mpsc::{self as thread_mpsc, RecvTimeoutError};
use std::time::{Duration, Instant};

use rand::RngExt;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect, retry};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::client_span::{ClientSpan, ClientSpans};
use crate::metrics::Metrics;
use crate::outcome::{End, Failure, Outcome};
use crate::pacing::{Schedule, Start};
use crate::summary::{Paced, Recorder, Summary};
use crate::traffic::{Shot, Traffic, numbered};

/// Outcomes waiting to be counted; a task whose outcome does not fit waits, and holds its place in flight.
const UNCOUNTED: usize = 1024;
/// Idle connections are given up before common servers close them (gunicorn after 2 s, actix after 5 s):
/// sending on a connection that is being closed would show as an error of the server.
const IDLE_CONNECTION: Duration = Duration::from_millis(1500);
/// More of an answer than this is read but not kept.
const KEPT_BODY: usize = 64 * 1024;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A run: when, what and how.
#[derive(Debug)]
pub struct Plan {
    /// When to send.
    pub schedule: Schedule,
    /// What to send.
    pub traffic: Traffic,
    /// How long a request may take, from its actual start to the last byte of its answer.
    pub timeout: Duration,
    /// Requests that may wait for an answer at once; a start beyond that is dropped.
    pub max_in_flight: usize,
    /// The share of requests, 0 to 1, that carry a `traceparent`.
    pub trace_ratio: f64,
    /// Chooses those requests.
    pub seed: u64,
}

/// Runs `plan` to its end, and reports when every request has ended.
///
/// The first message in `stops` ends the schedule: what is in flight is waited for. The second one
/// does not wait either.
///
/// # Errors
/// When the HTTP client cannot be set up.
pub async fn drive(
    plan: Plan,
    metrics: Arc<Metrics>,
    mut stops: mpsc::UnboundedReceiver<()>,
) -> Result<Summary, reqwest::Error> {
    let client = client()?;
    let (outcomes, mut counting) = mpsc::channel(UNCOUNTED);
    let (stop_pacing, stopped) = thread_mpsc::channel();
    let begin = Instant::now();

    let pacing = tokio::task::spawn_blocking({
        let metrics = Arc::clone(&metrics);
        move || fire(plan, client, begin, &stopped, outcomes, &metrics)
    });

    let mut recorder = Recorder::new(begin);
    let mut heard = 0;
    let mut interrupted = false;
    let mut batch = Vec::with_capacity(UNCOUNTED);
    loop {
        tokio::select! {
            // Ends when pacing and every request have let go of their senders.
            count = counting.recv_many(&mut batch, UNCOUNTED) => {
                if count == 0 {
                    break;
                }
                heard += count as u64;
                for outcome in batch.drain(..) {
                    metrics.observe(&outcome);
                    recorder.record(outcome);
                }
            }
            Some(()) = stops.recv() => {
                if interrupted {
                    break;
                }
                interrupted = true;
                // Fails when the schedule has ended by itself, which is as well.
                let _ = stop_pacing.send(());
            }
        }
    }
    let paced = pacing.await.expect("pacing does not panic");
    metrics.abandon(paced.planned - paced.dropped - heard);
    Ok(recorder.finish(paced, interrupted))
}

fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("loadgen/", env!("CARGO_PKG_VERSION")))
        // One start is one request to the server that was named: no detours, no second tries.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .pool_idle_timeout(IDLE_CONNECTION)
        .tcp_nodelay(true)
        .build()
}

/// Keeps the schedule on a thread of its own, where a sleep is exact to tens of microseconds (the runtime's
/// timers: a millisecond), and hands each request to the runtime.
fn fire(
    mut plan: Plan,
    client: Client,
    begin: Instant,
    stopped: &thread_mpsc::Receiver<()>,
    outcomes: mpsc::Sender<Outcome>,
    metrics: &Arc<Metrics>,
) -> Paced {
    let runtime = Handle::current();
    let places = Arc::new(Semaphore::new(plan.max_in_flight));
    let spans = ClientSpans::from_environment();
    let sender = Arc::new(Sender {
        client,
        timeout: plan.timeout,
        outcomes,
        metrics: Arc::clone(metrics),
    });
    let mut dropped = 0;
    let mut starts = plan.schedule.starts();
    let planned = keep(&mut starts, begin, stopped, |start, intended| {
        metrics.wanted_rate.set(plan.schedule.rate_at(start.due));
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            dropped += 1;
            metrics.dropped.inc();
            return;
        };
        // From the number of the start in the whole plan, so that each shard makes its part of the same requests.
        let shot = plan.traffic.shot(start.number);
        let span = is_traced(plan.trace_ratio, plan.seed, start.number).then(|| spans.start(&shot));
        let sender = Arc::clone(&sender);
        runtime.spawn(async move {
            sender.send(shot, span, intended).await;
            drop(place);
        });
    });
    let span = starts.span();
    Paced {
        planned,
        dropped,
        span,
        wanted_rate: plan.schedule.constant_rate().unwrap_or_else(|| {
            if span.is_zero() {
                0.0
            } else {
                (planned as f64 / span.as_secs_f64() * 1e3).round() / 1e3
            }
        }),
    }
}

/// Whether the request of a start belongs to the `ratio` that is traced.
fn is_traced(ratio: f64, seed: u64, start: u64) -> bool {
    // Not the sequence that decides what is sent, or the choice would follow it.
    ratio >= 1.0 || (ratio > 0.0 && numbered(seed.wrapping_add(1), start).random_bool(ratio))
}

/// Calls `start` for each of `starts` with the time it was due, until they end or `stopped` hears something (or nobody
/// is left to say it). Returns the number of calls.
///
/// A start that is late is still made, at once, with the time it was *due*: nothing is skipped and the grid
/// does not move.
fn keep(
    starts: impl Iterator<Item = Start>,
    begin: Instant,
    stopped: &thread_mpsc::Receiver<()>,
    mut make: impl FnMut(Start, Instant),
) -> u64 {
    let mut made = 0;
    for start in starts {
        let due = begin + start.due;
        match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => make(start, due),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
        made += 1;
    }
    made
}

/// Sends requests and reports what became of them.
#[derive(Debug)]
struct Sender {
    client: Client,
    timeout: Duration,
    outcomes: mpsc::Sender<Outcome>,
    metrics: Arc<Metrics>,
}

impl Sender {
    async fn send(&self, shot: Shot, span: Option<ClientSpan>, intended: Instant) {
        let method = shot.method.clone();
        let route = shot
            .template
            .map_or_else(|| shot.url.path().to_owned(), str::to_owned);
        self.metrics.sent.inc();
        self.metrics.in_flight.inc();
        let started = Instant::now();
        let end = tokio::time::timeout(self.timeout, self.exchange(shot, span.as_ref())).await;
        let ended = Instant::now();
        self.metrics.in_flight.dec();
        let end = match end {
            Err(_) => End::TimedOut,
            Ok(Ok(status)) => End::Answered(status),
            Ok(Err(error)) => End::Failed(failure(&error), innermost(&error)),
        };
        let trace = span.and_then(|span| {
            let trace = span.recorded_trace();
            span.end(&end);
            trace
        });
        // The counting end is gone only after a second signal.
        let _ = self
            .outcomes
            .send(Outcome {
                intended,
                started,
                ended,
                end,
                trace,
                method,
                route,
            })
            .await;
    }

    async fn exchange(
        &self,
        shot: Shot,
        span: Option<&ClientSpan>,
    ) -> Result<reqwest::StatusCode, reqwest::Error> {
        let mut request = self.client.request(shot.method, shot.url);
        if let Some(span) = span {
            request = request.header(TRACEPARENT, span.traceparent());
        }
        let Some(order) = shot.order else {
            let mut response = request.send().await?;
            while response.chunk().await?.is_some() {}
            return Ok(response.status());
        };
        let response = request
            .header(IDEMPOTENCY_KEY, order.key)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(order.body.to_string())
            .send()
            .await?;
        let status = response.status();
        let body = kept_body(response).await?;
        if status == reqwest::StatusCode::CREATED {
            order.placed.learn(&body);
        }
        Ok(status)
    }
}

async fn kept_body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut kept = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = KEPT_BODY - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(kept)
}

fn failure(error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else if error.is_body() || error.is_decode() {
        Failure::Body
    } else {
        Failure::Exchange
    }
}

/// What happened at the bottom ("Connection refused"), without the URL and the layers above it.
fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: &str, length: Option<Duration>) -> Schedule {
        Schedule::constant(rate.parse().expect("a rate"), length)
    }

    #[test]
    fn a_late_start_keeps_its_time_and_nothing_is_skipped() {
        let schedule = schedule("1000", Some(Duration::from_millis(100)));
        let (_stop, stopped) = thread_mpsc::channel();
        let begin = Instant::now();
        let resume = begin + Duration::from_millis(50);
        let mut starts = Vec::new();
        keep(schedule.starts(), begin, &stopped, |_, due| {
            // The tenth start holds everything up until the fiftieth is due.
            while starts.len() == 10 && Instant::now() < resume {
                std::hint::spin_loop();
            }
            starts.push((due, Instant::now()));
        });
        let grid: Vec<_> = (0..100).map(|n| begin + Duration::from_millis(n)).collect();
        assert_eq!(starts.iter().map(|(due, _)| *due).collect::<Vec<_>>(), grid);
        assert!(
            starts.iter().all(|(due, made)| made >= due),
            "none is early"
        );
        assert!(
            starts[10..50].iter().all(|(_, made)| *made >= resume),
            "those behind it are late"
        );
    }

    #[test]
    fn a_stop_ends_an_endless_schedule() {
        let (stop, stopped) = thread_mpsc::channel();
        let mut starts = 0;
        let planned = keep(
            schedule("100000", None).starts(),
            Instant::now(),
            &stopped,
            |_, _| {
                starts += 1;
                if starts == 20 {
                    stop.send(()).expect("it listens");
                }
            },
        );
        assert_eq!((starts, planned), (20, 20));
    }

    #[test]
    fn a_stop_is_heard_while_waiting_for_a_start_far_away() {
        let (stop, stopped) = thread_mpsc::channel();
        // The second start is due in eleven days.
        let planned = keep(
            schedule("0.000001", None).starts(),
            Instant::now(),
            &stopped,
            |_, _| {
                stop.send(()).expect("it listens");
            },
        );
        assert_eq!(planned, 1);
    }

    #[test]
    fn pacing_ends_with_its_owner() {
        let (stop, stopped) = thread_mpsc::channel::<()>();
        drop(stop);
        assert_eq!(
            keep(
                schedule("1", None).starts(),
                Instant::now(),
                &stopped,
                |_, _| ()
            ),
            0
        );
    }
}
