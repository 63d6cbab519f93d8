//! The result of a run: gathered outcome by outcome in bounded memory, reported once at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::outcome::{End, Failure, Outcome, STATUS_CLASSES, status_class};
use crate::threshold::Checked;
use crate::timeline::Timeline;
use crate::times::Times;

/// How many of the slowest requests are kept.
const SLOWEST: usize = 10;
/// Significant digits of times.
const DIGITS: u8 = 3;
/// As many routes are told apart; what further ones get is counted as [`OTHER_ROUTES`].
const ROUTES: usize = 100;
/// The name of routes beyond the first [`ROUTES`].
const OTHER_ROUTES: &str = "other routes";
/// Lateness below this never makes the generator the limit: a busy machine's timers are that coarse.
const LATENESS_FLOOR_MS: f64 = 10.0;

/// What a run came to. The JSON of `--json`; times are in milliseconds, rates per second.
///
/// `sent = received + failed + timed_out` and `planned = sent + dropped`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The rate asked for, on average where it changes.
    pub wanted_rate: f64,
    /// Requests sent, over the time they were planned to take or, if that is longer, took to send.
    pub achieved_rate: f64,
    /// Starts that came due.
    pub planned: u64,
    /// Requests sent.
    pub sent: u64,
    /// Whole answers with a status below 500.
    pub received: u64,
    /// Failed connections, and answers with a status of 500 or more.
    pub failed: u64,
    /// Requests without a whole answer in the time allowed.
    pub timed_out: u64,
    /// Starts given up because too many requests were in flight already.
    pub dropped: u64,
    /// End − intended start, of whole answers (any status) and of requests that timed out.
    pub latency_ms: Percentiles,
    /// End − actual start, of the same requests.
    pub service_ms: Percentiles,
    /// Actual − intended start, of every request sent.
    pub lateness_ms: Percentiles,
    /// The generator, not the server, shaped this result: read its latencies with care.
    pub limited_by_generator: bool,
    /// Why that is so.
    pub limited_because: Option<String>,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// From the first start to the end of the last request.
    pub elapsed_seconds: f64,
    /// Answers by class of status: `2xx`, `4xx` ...
    pub status: BTreeMap<String, u64>,
    /// Failed connections by kind.
    pub errors: BTreeMap<String, Errors>,
    /// The slowest requests whose traces are recorded, slowest first.
    pub slowest: Vec<Slow>,
    /// What came of each route, by method and route.
    pub routes: BTreeMap<String, Route>,
    /// What it was to come up to, and whether it did.
    pub thresholds: Vec<Checked>,
    /// All times, for the tools of HdrHistogram.
    pub histograms: Histograms,
    /// How it went from beginning to end.
    pub timeline: Timeline,
}

/// All times of a run, in nanoseconds: HdrHistograms with three significant digits, compressed V2 form in base64.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histograms {
    /// Behind `latency_ms`.
    pub latency: Times,
    /// Behind `service_ms`.
    pub service: Times,
    /// Behind `lateness_ms`.
    pub lateness: Times,
}

/// What came of one route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Requests sent of which was heard.
    pub sent: u64,
    /// Those that failed or timed out.
    pub errors: u64,
    /// End − intended start, of answers and time-outs.
    pub latency_ms: Percentiles,
    /// Behind `latency_ms`: an HdrHistogram.
    pub latency: Times,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            latency: Times::new(DIGITS),
            service: Times::new(DIGITS),
            lateness: Times::new(DIGITS),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            sent: 0,
            errors: 0,
            latency_ms: Percentiles::default(),
            latency: Times::new(DIGITS),
        }
    }
}

/// Percentiles, in milliseconds; `null` when nothing was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the requests took no longer.
    pub p50: Option<f64>,
    /// 90 % took no longer.
    pub p90: Option<f64>,
    /// 99 % took no longer.
    pub p99: Option<f64>,
    /// 99.9 % took no longer.
    #[serde(rename = "p99.9")]
    pub p99_9: Option<f64>,
    /// None took longer.
    pub max: Option<f64>,
}

/// Failed connections of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// What the first one said.
    pub example: String,
}

/// A slow request, to be looked up by its trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// End − intended start.
    pub latency_ms: f64,
    /// End − actual start: about the length of the trace.
    pub service_ms: f64,
    /// Method and route.
    pub request: String,
    /// The status, or `timed out`.
    pub outcome: String,
}

/// Gathers outcomes. What it takes does not grow with the length of the run.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    histograms: Histograms,
    timeline: Timeline,
    routes: BTreeMap<String, Route>,
    outcomes: u64,
    status: [u64; STATUS_CLASSES.len()],
    timed_out: u64,
    errors: BTreeMap<Failure, Errors>,
    slowest: Vec<Outcome>,
    last_start: Instant,
    last_end: Instant,
}

/// What pacing knows at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paced {
    /// Starts that came due.
    pub planned: u64,
    /// Starts given up because too many requests were in flight.
    pub dropped: u64,
    /// The time that the starts which came due were planned to take.
    pub span: Duration,
    /// The rate wanted, on average where it changes.
    pub wanted_rate: f64,
}

impl Recorder {
    /// For a run whose first start is due at `begin`.
    pub fn new(begin: Instant) -> Self {
        Self {
            begin,
            histograms: Histograms::default(),
            timeline: Timeline::default(),
            routes: BTreeMap::new(),
            outcomes: 0,
            status: [0; STATUS_CLASSES.len()],
            timed_out: 0,
            errors: BTreeMap::new(),
            slowest: Vec::with_capacity(SLOWEST + 1),
            last_start: begin,
            last_end: begin,
        }
    }

    /// Takes one outcome.
    pub fn record(&mut self, outcome: Outcome) {
        self.outcomes += 1;
        self.last_start = self.last_start.max(outcome.started);
        self.last_end = self.last_end.max(outcome.ended);
        self.histograms.lateness.record(outcome.lateness());
        let due = outcome.intended.saturating_duration_since(self.begin);
        self.timeline.record(due, &outcome);
        let errors = u64::from(outcome.is_error());
        let route = self.route(&outcome);
        route.sent += 1;
        route.errors += errors;
        if outcome.is_timed() {
            // Never corrected for omission: the intended start has done so already.
            route.latency.record(outcome.latency());
            self.histograms.latency.record(outcome.latency());
            self.histograms.service.record(outcome.service());
        }
        match &outcome.end {
            End::Answered(status) => self.status[status_class(*status)] += 1,
            End::TimedOut => self.timed_out += 1,
            End::Failed(failure, message) => {
                self.errors
                    .entry(*failure)
                    .or_insert_with(|| Errors {
                        count: 0,
                        example: message.clone(),
                    })
                    .count += 1;
            }
        }
        if outcome.is_timed() && outcome.trace.is_some() {
            self.keep_if_slow(outcome);
        }
    }

    fn route(&mut self, outcome: &Outcome) -> &mut Route {
        let mut name = format!("{} {}", outcome.method, outcome.route);
        if self.routes.len() >= ROUTES && !self.routes.contains_key(&name) {
            name = OTHER_ROUTES.to_owned();
        }
        self.routes.entry(name).or_default()
    }

    fn keep_if_slow(&mut self, outcome: Outcome) {
        let latency = outcome.latency();
        let place = self
            .slowest
            .partition_point(|slow| slow.latency() >= latency);
        if place < SLOWEST {
            self.slowest.insert(place, outcome);
            self.slowest.truncate(SLOWEST);
        }
    }

    /// The result of the run. Requests that were sent and of which nothing was heard count as abandoned.
    pub fn finish(mut self, paced: Paced, interrupted: bool) -> Summary {
        let sent = paced.planned - paced.dropped;
        let abandoned = sent.saturating_sub(self.outcomes);
        if abandoned > 0 {
            let example = "told to stop twice".to_owned();
            self.errors.insert(
                Failure::Abandoned,
                Errors {
                    count: abandoned,
                    example,
                },
            );
        }
        let server_errors = self.status[STATUS_CLASSES.len() - 1];
        let answers: u64 = self.status.iter().sum();
        let transport_errors: u64 = self.errors.values().map(|errors| errors.count).sum();
        let window = paced.span.max(self.last_start - self.begin);
        let (latency_ms, lateness_ms) = (
            percentiles(&self.histograms.latency),
            percentiles(&self.histograms.lateness),
        );
        let limited_because = limit(paced.dropped, &latency_ms, &lateness_ms);
        Summary {
            wanted_rate: paced.wanted_rate,
            achieved_rate: if window.is_zero() {
                0.0
            } else {
                rounded(sent as f64 / window.as_secs_f64())
            },
            planned: paced.planned,
            sent,
            received: answers - server_errors,
            failed: transport_errors + server_errors,
            timed_out: self.timed_out,
            dropped: paced.dropped,
            latency_ms,
            service_ms: percentiles(&self.histograms.service),
            lateness_ms,
            limited_by_generator: limited_because.is_some(),
            limited_because,
            interrupted,
            elapsed_seconds: rounded((self.last_end - self.begin).as_secs_f64()),
            status: STATUS_CLASSES
                .iter()
                .map(|class| (*class).to_owned())
                .zip(self.status)
                .collect(),
            errors: self
                .errors
                .into_iter()
                .map(|(failure, errors)| (failure.name().to_owned(), errors))
                .collect(),
            slowest: self.slowest.iter().filter_map(slow).collect(),
            routes: self
                .routes
                .into_iter()
                .map(|(name, mut route)| {
                    route.latency_ms = percentiles(&route.latency);
                    (name, route)
                })
                .collect(),
            thresholds: Vec::new(),
            histograms: self.histograms,
            timeline: self.timeline,
        }
    }
}

impl Summary {
    /// Adds up what several generators came to that ran at the same time: the shards of one plan, for example.
    ///
    /// Nothing is left to say of percentiles or thresholds but what the sum says; those of the parts are not
    /// looked at.
    pub fn merged(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut sum = parts.next()?;
        for part in parts {
            sum.add(part);
        }
        sum.latency_ms = percentiles(&sum.histograms.latency);
        sum.service_ms = percentiles(&sum.histograms.service);
        sum.lateness_ms = percentiles(&sum.histograms.lateness);
        for route in sum.routes.values_mut() {
            route.latency_ms = percentiles(&route.latency);
        }
        sum.slowest
            .sort_by(|a, b| b.latency_ms.total_cmp(&a.latency_ms));
        sum.slowest.truncate(SLOWEST);
        // One late generator of many does not show in the sum's lateness, and yet in its latency.
        sum.limited_because =
            limit(sum.dropped, &sum.latency_ms, &sum.lateness_ms).or(sum.limited_because);
        sum.limited_by_generator = sum.limited_because.is_some();
        sum.thresholds.clear();
        Some(sum)
    }

    fn add(&mut self, part: Self) {
        self.wanted_rate = rounded(self.wanted_rate + part.wanted_rate);
        self.achieved_rate = rounded(self.achieved_rate + part.achieved_rate);
        self.planned += part.planned;
        self.sent += part.sent;
        self.received += part.received;
        self.failed += part.failed;
        self.timed_out += part.timed_out;
        self.dropped += part.dropped;
        self.limited_because = self.limited_because.take().or(part.limited_because);
        self.interrupted |= part.interrupted;
        self.elapsed_seconds = self.elapsed_seconds.max(part.elapsed_seconds);
        for (class, count) in part.status {
            *self.status.entry(class).or_default() += count;
        }
        for (kind, errors) in part.errors {
            let sum = self.errors.entry(kind).or_default();
            sum.count += errors.count;
            if sum.example.is_empty() {
                sum.example = errors.example;
            }
        }
        self.slowest.extend(part.slowest);
        for (name, route) in part.routes {
            let sum = self.routes.entry(name).or_default();
            sum.sent += route.sent;
            sum.errors += route.errors;
            sum.latency.add(&route.latency);
        }
        self.histograms.latency.add(&part.histograms.latency);
        self.histograms.service.add(&part.histograms.service);
        self.histograms.lateness.add(&part.histograms.lateness);
        self.timeline.add(&part.timeline);
    }

    /// Whether it comes up to all of its thresholds.
    pub fn is_good(&self) -> bool {
        self.thresholds.iter().all(|threshold| threshold.ok)
    }
}

fn slow(outcome: &Outcome) -> Option<Slow> {
    Some(Slow {
        trace_id: outcome.trace?.to_string(),
        latency_ms: millis(outcome.latency()),
        service_ms: millis(outcome.service()),
        request: format!("{} {}", outcome.method, outcome.route),
        outcome: match &outcome.end {
            End::Answered(status) => status.as_u16().to_string(),
            End::TimedOut => "timed out".to_owned(),
            End::Failed(failure, _) => failure.name().to_owned(),
        },
    })
}

/// Why the generator shaped the result, if it did: it dropped starts, which no percentile shows; or it was
/// late by more than a tenth of the latency it reports (p99 against p99, and more than a few milliseconds).
fn limit(dropped: u64, latency: &Percentiles, lateness: &Percentiles) -> Option<String> {
    if dropped > 0 {
        return Some(format!(
            "{dropped} starts were dropped because --max-in-flight requests were waiting for answers already, \
             so the latencies leave out the worst: lower --rate, or raise --max-in-flight"
        ));
    }
    let late = lateness.p99?;
    let bound = LATENESS_FLOOR_MS.max(latency.p99.unwrap_or(0.0) / 10.0);
    (late > bound).then(|| {
        format!(
            "1 % of the requests left {late} ms late or later, which is part of their latency: the generator, \
             not the server, could not keep up; lower --rate, or give it a machine of its own"
        )
    })
}

fn percentiles(times: &Times) -> Percentiles {
    let at = |share| times.quantile_ms(share).map(rounded);
    Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: at(1.0),
    }
}

fn millis(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// To three digits after the point: finer is noise here.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceId;
    use reqwest::{Method, StatusCode};

    use super::*;

    const RATE: f64 = 100.0;

    /// An outcome with its times in milliseconds from the begin of the run.
    fn outcome(begin: Instant, intended: u64, started: u64, ended: u64, end: End) -> Outcome {
        let at = |millis| begin + Duration::from_millis(millis);
        Outcome {
            intended: at(intended),
            started: at(started),
            ended: at(ended),
            end,
            trace: None,
            method: Method::GET,
            route: "/".to_owned(),
        }
    }

    fn answered(status: u16) -> End {
        End::Answered(StatusCode::from_u16(status).expect("a status"))
    }

    fn finish(recorder: Recorder, planned: u64, dropped: u64) -> Summary {
        recorder.finish(
            Paced {
                planned,
                dropped,
                span: Duration::from_secs_f64(planned as f64 / RATE),
                wanted_rate: RATE,
            },
            false,
        )
    }

    fn close(actual: Option<f64>, expected: f64) -> bool {
        // Three significant digits are kept.
        actual.is_some_and(|actual| (actual - expected).abs() <= expected * 0.001 + 0.001)
    }

    #[test]
    fn latency_counts_from_the_intended_start_service_from_the_actual_one() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        // One request holds the generator up for a second; the 99 behind it leave late and are served in 2 ms.
        recorder.record(outcome(begin, 0, 0, 1000, answered(200)));
        for n in 1..100 {
            recorder.record(outcome(begin, n * 10, 1000, 1002, answered(200)));
        }
        let summary = finish(recorder, 100, 0);
        assert!(close(summary.latency_ms.p50, 502.0), "{summary:?}");
        assert!(close(summary.latency_ms.p90, 902.0), "{summary:?}");
        assert!(close(summary.latency_ms.max, 1000.0), "{summary:?}");
        assert!(
            close(summary.service_ms.p99, 2.0),
            "only one was slow to serve: {summary:?}"
        );
        assert!(close(summary.service_ms.max, 1000.0), "{summary:?}");
        assert!(close(summary.lateness_ms.p50, 490.0), "{summary:?}");
        assert!(summary.limited_by_generator);
        assert_eq!(summary.achieved_rate, 100.0);
    }

    #[test]
    fn every_request_is_counted_once() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        for (end, times) in [
            (answered(200), 5),
            (answered(304), 1),
            (answered(404), 2),
            (answered(500), 3),
            (answered(599), 1),
            (answered(999), 1),
            (End::TimedOut, 4),
            (End::Failed(Failure::Connect, "refused".to_owned()), 6),
            (End::Failed(Failure::Body, "cut".to_owned()), 1),
        ] {
            for _ in 0..times {
                recorder.record(outcome(begin, 0, 0, 1, end.clone()));
            }
        }
        // 30 planned, 2 dropped, 24 heard of: 4 are still out.
        let summary = finish(recorder, 30, 2);
        assert_eq!(
            (summary.planned, summary.sent, summary.dropped),
            (30, 28, 2)
        );
        assert_eq!(
            (summary.received, summary.failed, summary.timed_out),
            (8, 16, 4)
        );
        assert_eq!(
            summary.sent,
            summary.received + summary.failed + summary.timed_out
        );
        assert_eq!(
            summary.status.values().copied().collect::<Vec<_>>(),
            [0, 5, 1, 2, 5]
        );
        let errors: Vec<_> = summary
            .errors
            .iter()
            .map(|(kind, e)| (kind.as_str(), e.count))
            .collect();
        assert_eq!(errors, [("abandoned", 4), ("body", 1), ("connect", 6)]);
        assert_eq!(summary.errors["connect"].example, "refused");
    }

    #[test]
    fn failed_connections_do_not_flatter_and_timeouts_are_not_left_out() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        for _ in 0..100 {
            recorder.record(outcome(
                begin,
                0,
                0,
                0,
                End::Failed(Failure::Connect, String::new()),
            ));
        }
        recorder.record(outcome(begin, 0, 0, 500, End::TimedOut));
        let summary = finish(recorder, 101, 0);
        assert!(close(summary.latency_ms.p50, 500.0), "{summary:?}");
        assert_eq!(summary.lateness_ms.max, Some(0.0));
    }

    #[test]
    fn without_a_measurement_there_is_no_percentile() {
        let summary = finish(Recorder::new(Instant::now()), 0, 0);
        assert_eq!(summary.latency_ms, Percentiles::default());
        assert!(!summary.limited_by_generator);
        assert_eq!(summary.achieved_rate, 0.0);
    }

    #[test]
    fn when_the_generator_is_the_limit() {
        let of = |p99| Percentiles {
            p99,
            ..Percentiles::default()
        };
        for (dropped, latency, lateness, limited) in [
            (0, Some(10.0), Some(0.2), false),
            (0, Some(20.0), Some(10.0), false),
            (0, Some(20.0), Some(10.1), true),
            (0, Some(900.0), Some(80.0), false),
            (0, Some(900.0), Some(91.0), true),
            (0, None, Some(11.0), true),
            (0, None, None, false),
            (1, Some(10.0), Some(0.1), true),
        ] {
            let because = limit(dropped, &of(latency), &of(lateness));
            assert_eq!(
                because.is_some(),
                limited,
                "{dropped} {latency:?} {lateness:?}"
            );
        }
    }

    #[test]
    fn the_slowest_recorded_traces_are_kept_slowest_first() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        for n in 1..=100_u8 {
            // 37 and 101 have no common factor: every latency from 1 to 100 once, in a mixed order.
            let latency = u64::from(n) * 37 % 101;
            let mut outcome = outcome(begin, 0, 0, latency, answered(200));
            // The slowest of all is not recorded anywhere, so it is of no use.
            outcome.trace = (latency < 100).then(|| TraceId::from_bytes([n; 16]));
            recorder.record(outcome);
        }
        let summary = finish(recorder, 100, 0);
        let latencies: Vec<_> = summary
            .slowest
            .iter()
            .map(|slow| slow.latency_ms as u64)
            .collect();
        assert_eq!(latencies, [99, 98, 97, 96, 95, 94, 93, 92, 91, 90]);
        assert_eq!(summary.slowest[0].trace_id.len(), 32);
        assert_eq!(summary.slowest[0].request, "GET /");
    }

    #[test]
    fn merging_is_recording_together() {
        let begin = Instant::now();
        let ends = [
            answered(200),
            answered(404),
            answered(500),
            End::TimedOut,
            End::Failed(Failure::Body, "cut".to_owned()),
        ];
        let outcomes: Vec<_> = (0..1000_u64)
            .map(|n| {
                let end = ends[(n % 5) as usize].clone();
                let mut outcome =
                    outcome(begin, n * 40, n * 40 + n % 3, n * 40 + 3 + n * 7 % 101, end);
                outcome.trace = Some(TraceId::from_bytes([(n * 7 % 101) as u8; 16]));
                outcome.route = format!("/{}", n % 2);
                outcome
            })
            .collect();
        let run = |of: &dyn Fn(usize) -> bool, planned: u64, rate: f64| {
            let mut recorder = Recorder::new(begin);
            for (n, outcome) in outcomes.iter().enumerate() {
                if of(n) {
                    recorder.record(outcome.clone());
                }
            }
            let paced = Paced {
                planned,
                dropped: 0,
                span: Duration::from_secs(40),
                wanted_rate: rate,
            };
            recorder.finish(paced, false)
        };
        let parts = [0, 1, 2].map(|part| {
            let share = (0..1000).filter(|n| n % 3 == part).count() as u64;
            run(&|n| n % 3 == part, share, share as f64 / 40.0)
        });
        let merged = Summary::merged(parts).expect("three parts");
        let mut whole = run(&|_| true, 1000, 25.0);
        // Among equals, either may be listed.
        let slow = |summary: &Summary| {
            summary
                .slowest
                .iter()
                .map(|slow| slow.latency_ms)
                .collect::<Vec<_>>()
        };
        assert_eq!(slow(&merged), slow(&whole));
        whole.slowest.clone_from(&merged.slowest);
        assert_eq!(merged, whole);
        assert_eq!(Summary::merged([]), None);
    }

    #[test]
    fn a_generator_that_was_the_limit_stays_so_among_others() {
        let begin = Instant::now();
        let mut well = Recorder::new(begin);
        for n in 0..1000 {
            well.record(outcome(begin, n * 10, n * 10, n * 10 + 5, answered(200)));
        }
        let mut late = Recorder::new(begin);
        late.record(outcome(begin, 0, 900, 905, answered(200)));
        let parts = [finish(well, 1000, 0), finish(late, 1, 0)];
        let merged = Summary::merged(parts).expect("two parts");
        assert!(merged.lateness_ms.p99 < Some(1.0), "{merged:?}");
        assert!(merged.limited_by_generator, "{merged:?}");
    }

    #[test]
    fn routes_are_told_apart_up_to_a_limit() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        for n in 0..300 {
            let mut outcome = outcome(begin, 0, 0, n, answered(if n < 150 { 200 } else { 500 }));
            outcome.route = format!("/{}", n % 150);
            recorder.record(outcome);
        }
        let summary = finish(recorder, 300, 0);
        assert_eq!(summary.routes.len(), ROUTES + 1);
        let first = &summary.routes["GET /0"];
        assert_eq!((first.sent, first.errors), (2, 1));
        assert!(close(first.latency_ms.max, 150.0), "{first:?}");
        assert_eq!(summary.routes[OTHER_ROUTES].sent, 100);
    }

    #[test]
    fn falling_behind_lowers_the_achieved_rate() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin);
        for n in 0..100 {
            recorder.record(outcome(begin, n * 10, n * 20, n * 20 + 1, answered(200)));
        }
        let summary = finish(recorder, 100, 0);
        assert!(summary.achieved_rate < 51.0, "{summary:?}");
    }
}
