//! The open loop: starts are made when they are due, whatever became of those before.
//!
//! One thread keeps the schedule, sends, receives and counts; nothing on it waits for an answer before it does the next
//! thing. A server that stalls does not slow down the arrival of work, just as its customers would not.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::alarm::Alarm;
use crate::client::{Client, Job, Manner};
use crate::client_span::ClientSpans;
use crate::journey::{Journeys, Walk};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::outcome::End;
use crate::pacing::{Schedule, Start, Starts};
use crate::processor::Usage;
use crate::summary::Summary;
use crate::traffic::{Routes, Shot, numbered, turn};
use crate::transport::Connector;

/// So many starts are made in a row before answers have their turn.
const IN_A_ROW: u32 = 16;
/// How often the world is told how things are.
const PUBLISHED: Duration = Duration::from_millis(100);
/// So many connections are opened at once before the run, few enough for the backlog of common servers.
const OPENING: usize = 100;

/// A run: when, what and how.
#[derive(Debug)]
pub struct Plan {
    /// When to send.
    pub schedule: Schedule,
    /// What to send.
    pub traffic: Traffic,
    /// The routes of that.
    pub routes: Routes,
    /// Where to, and over what.
    pub connector: Connector,
    /// How.
    pub manner: Manner,
    /// Requests that may wait for an answer at once; a start beyond that is dropped.
    pub max_in_flight: u64,
    /// The share of requests, 0 to 1, that carry a `traceparent`.
    pub trace_ratio: f64,
    /// Chooses those requests.
    pub seed: u64,
}

/// What the run sends.
#[derive(Debug)]
pub enum Traffic {
    /// Each request in turn.
    Requests(Vec<Rc<Shot>>),
    /// Customers on their journeys.
    Journeys(Rc<Journeys>),
}

/// Runs `plan` to its end, and reports when every request has ended.
///
/// The first message in `stops` ends the schedule: what is in flight is waited for. The second one
/// does not wait either.
///
/// # Errors
/// When the system gives no timer, or connections that are to be held cannot be had.
pub async fn drive(
    plan: Plan,
    metrics: Arc<Metrics>,
    stops: mpsc::UnboundedReceiver<()>,
) -> io::Result<Summary> {
    LocalSet::new().run_until(run(plan, metrics, stops)).await
}

/// What the parts of a run share.
struct Run {
    client: Rc<Client>,
    ledger: Rc<Ledger>,
    alarm: Rc<Alarm>,
    spans: ClientSpans,
    traffic: Traffic,
    max_in_flight: u64,
    trace_ratio: f64,
    seed: u64,
    stopped: Cell<bool>,
    stop: Notify,
}

async fn run(
    plan: Plan,
    metrics: Arc<Metrics>,
    mut stops: mpsc::UnboundedReceiver<()>,
) -> io::Result<Summary> {
    let Plan {
        schedule,
        traffic,
        routes,
        connector,
        manner,
        max_in_flight,
        trace_ratio,
        seed,
    } = plan;
    let journeys: Vec<_> = match &traffic {
        Traffic::Requests(_) => Vec::new(),
        Traffic::Journeys(journeys) => journeys
            .all
            .iter()
            .map(|journey| journey.name.clone())
            .collect(),
    };
    let ledger = Ledger::new(routes.names(), &journeys, metrics);
    let run = Rc::new(Run {
        client: Client::new(connector, manner, Rc::clone(&ledger)),
        ledger,
        alarm: Alarm::new()?,
        spans: ClientSpans::from_environment(),
        traffic,
        max_in_flight,
        trace_ratio,
        seed,
        stopped: Cell::new(false),
        stop: Notify::new(),
    });
    let alarm = Rc::clone(&run.alarm);
    let ringing = spawn_local(async move { alarm.ring().await });

    let mut interrupted = tokio::select! {
        opened = run.client.hold(OPENING) => {
            opened?;
            false
        }
        _ = stops.recv() => true,
    };
    let begin = Instant::now();
    run.ledger.begin(begin);
    let used = Usage::of_this_thread();
    let publishing = spawn_local(Rc::clone(&run).publish(begin, schedule.clone()));

    let mut starts = schedule.starts();
    if !interrupted {
        interrupted = keep(&mut starts, begin, &run.alarm, &mut stops, |start, due| {
            run.make(start, due)
        })
        .await;
    }
    if interrupted {
        run.stopped.set(true);
        run.stop.notify_waiters();
    }
    let paced = begin.elapsed();
    let generator = Usage::of_this_thread().since(&used, paced);
    tokio::select! {
        () = run.ledger.quiet() => {}
        () = told_twice(&mut stops, &mut interrupted, &run) => {}
    }
    ringing.abort();
    publishing.abort();
    let span = starts.span();
    let arrivals = starts.given();
    let wanted_rate = schedule.constant_rate().unwrap_or_else(|| {
        if span.is_zero() {
            0.0
        } else {
            (arrivals as f64 / span.as_secs_f64() * 1e3).round() / 1e3
        }
    });
    Ok(run.ledger.close(span, wanted_rate, interrupted, generator))
}

/// Calls `make` for each of `starts` when it is due, until they end or somebody says stop; whether that was so.
///
/// A start that is late is still made, at once, with the time it was *due*: nothing is skipped and the grid
/// does not move.
async fn keep(
    starts: &mut Starts<'_>,
    begin: Instant,
    alarm: &Alarm,
    stops: &mut mpsc::UnboundedReceiver<()>,
    mut make: impl FnMut(Start, Instant),
) -> bool {
    let mut in_a_row = 0;
    while let Some(start) = starts.next() {
        let due = begin + start.due;
        let mut stopped = false;
        if due > Instant::now() {
            in_a_row = 0;
            tokio::select! {
                biased;
                Some(()) = stops.recv() => stopped = true,
                () = alarm.at(due) => {}
            }
        } else if in_a_row == IN_A_ROW {
            in_a_row = 0;
            yield_now().await;
            stopped = stops.try_recv().is_ok();
        }
        if stopped {
            starts.take_back();
            return true;
        }
        in_a_row += 1;
        make(start, due);
    }
    false
}

/// Returns when the run is not to wait any longer.
async fn told_twice(stops: &mut mpsc::UnboundedReceiver<()>, interrupted: &mut bool, run: &Run) {
    loop {
        match stops.recv().await {
            Some(()) if *interrupted => return,
            Some(()) => {
                *interrupted = true;
                run.stopped.set(true);
                run.stop.notify_waiters();
            }
            // Nobody is left who could say it.
            None => std::future::pending().await,
        }
    }
}

impl Run {
    fn make(self: &Rc<Self>, start: Start, due: Instant) {
        self.ledger.arrived();
        if !self.ledger.admit(self.max_in_flight) {
            return;
        }
        match &self.traffic {
            Traffic::Requests(shots) => {
                // From the number of the start in the whole plan, so that each shard makes its part of the same requests.
                let shot = Rc::clone(&shots[turn(start.number, shots.len())]);
                let span = self.span(&shot, start.number);
                self.client.send(Job {
                    shot,
                    intended: due,
                    arrival: true,
                    span,
                    reply: None,
                });
            }
            Traffic::Journeys(journeys) => {
                let walk = journeys.set_out(start.number);
                self.ledger.begins(walk.journey);
                spawn_local(Rc::clone(self).walk(Rc::clone(journeys), walk, start.number, due));
            }
        }
    }

    fn span(&self, shot: &Shot, start: u64) -> Option<crate::client_span::ClientSpan> {
        is_traced(self.trace_ratio, self.seed, start).then(|| {
            self.spans
                .start(shot, &self.client.connector.targets()[shot.target])
        })
    }

    /// Goes the journey of a start, step by step.
    async fn walk(
        self: Rc<Self>,
        journeys: Rc<Journeys>,
        mut walk: Walk,
        number: u64,
        due: Instant,
    ) {
        let why = self.steps(&journeys, &mut walk, number, due).await.err();
        self.ledger.ends(walk.journey, why);
    }

    /// All steps of a journey, or why it ended before.
    async fn steps(
        &self,
        journeys: &Journeys,
        walk: &mut Walk,
        number: u64,
        due: Instant,
    ) -> Result<(), String> {
        let mut due = due;
        for (n, step) in journeys.all[walk.journey].steps.iter().enumerate() {
            // The first one is due, and was admitted, when the customer arrived.
            if n > 0 {
                due += walk.think(step.think);
                self.until(due).await?;
                if !self.ledger.admit(self.max_in_flight) {
                    return Err(
                        "dropped: --max-in-flight requests were waiting for answers already"
                            .to_owned(),
                    );
                }
            }
            let target = &self.client.connector.targets()[walk.target];
            let shot = Rc::new(journeys.shot(walk, step, target));
            let span = self.span(&shot, number);
            let (reply, answer) = oneshot::channel();
            self.client.send(Job {
                shot,
                intended: due,
                arrival: n == 0,
                span,
                reply: Some(reply),
            });
            let Ok(answer) = answer.await else {
                return Err("stopped".to_owned());
            };
            due = answer.ended;
            match answer.end {
                End::Answered { good: true, .. } => {}
                End::Answered { status, .. } => {
                    return Err(format!(
                        "{} {} answered {}",
                        step.method,
                        step.route,
                        status.as_u16()
                    ));
                }
                End::TimedOut => return Err(format!("{} {} timed out", step.method, step.route)),
                End::Failed(failure, _) => {
                    return Err(format!(
                        "{} {} failed: {}",
                        step.method,
                        step.route,
                        failure.name()
                    ));
                }
            }
            if let Some(kept) = &answer.kept {
                walk.learn(step, kept)?;
            }
        }
        Ok(())
    }

    /// Waits, unless the run is stopped.
    async fn until(&self, due: Instant) -> Result<(), String> {
        let stopped = || Err("stopped".to_owned());
        if self.stopped.get() {
            return stopped();
        }
        tokio::select! {
            () = self.alarm.at(due) => Ok(()),
            () = self.stop.notified() => stopped(),
        }
    }

    /// Tells the world how things are, now and then.
    async fn publish(self: Rc<Self>, begin: Instant, schedule: Schedule) {
        let mut ticks = tokio::time::interval(PUBLISHED);
        loop {
            ticks.tick().await;
            self.ledger.publish(schedule.rate_at(begin.elapsed()));
            self.client.sweep();
        }
    }
}

/// Whether the requests of a start belong to the `ratio` that is traced.
fn is_traced(ratio: f64, seed: u64, start: u64) -> bool {
    // Not the sequence that decides what is sent, or the choice would follow it.
    ratio >= 1.0 || (ratio > 0.0 && numbered(seed.wrapping_add(1), start).random_bool(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: &str, length: Option<Duration>) -> Schedule {
        Schedule::constant(rate.parse().expect("a rate"), length)
    }

    /// Keeps `schedule` from `begin` on.
    async fn keep_from(
        begin: Instant,
        schedule: &Schedule,
        stops: &mut mpsc::UnboundedReceiver<()>,
        make: impl FnMut(Start, Instant),
    ) -> (bool, u64) {
        let alarm = Alarm::new().expect("a timer");
        let mut starts = schedule.starts();
        let stopped = tokio::select! {
            result = alarm.ring() => panic!("{result:?}"),
            stopped = keep(&mut starts, begin, &alarm, stops, make) => stopped,
        };
        (stopped, starts.given())
    }

    #[tokio::test]
    async fn a_late_start_keeps_its_time_and_nothing_is_skipped() {
        let schedule = schedule("1000", Some(Duration::from_millis(100)));
        let (_stop, mut stops) = mpsc::unbounded_channel();
        let begin = Instant::now();
        let resume = begin + Duration::from_millis(50);
        let mut starts = Vec::new();
        keep_from(begin, &schedule, &mut stops, |_, due| {
            // The tenth start holds everything up until the fiftieth is due.
            while starts.len() == 10 && Instant::now() < resume {
                std::hint::spin_loop();
            }
            starts.push((due, Instant::now()));
        })
        .await;
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

    #[tokio::test]
    async fn a_stop_ends_an_endless_schedule() {
        let (stop, mut stops) = mpsc::unbounded_channel();
        let mut starts = 0;
        // It was to begin a minute ago, so there never is a pause in which to hear of anything.
        let begin = Instant::now() - Duration::from_secs(60);
        let stopped = keep_from(begin, &schedule("100000", None), &mut stops, |_, _| {
            starts += 1;
            if starts == 20 {
                stop.send(()).expect("it listens");
            }
        })
        .await;
        assert!((20..20 + 2 * IN_A_ROW).contains(&starts), "{starts}");
        assert_eq!(stopped, (true, u64::from(starts)));
    }

    #[tokio::test]
    async fn a_stop_is_heard_while_waiting_for_a_start_far_away() {
        let (stop, mut stops) = mpsc::unbounded_channel();
        // The second start is due in eleven days.
        let stopped = keep_from(
            Instant::now(),
            &schedule("0.000001", None),
            &mut stops,
            |_, _| {
                stop.send(()).expect("it listens");
            },
        )
        .await;
        assert_eq!(stopped, (true, 1));
    }
}
