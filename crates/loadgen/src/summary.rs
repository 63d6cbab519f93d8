//! The result of a run: gathered outcome by outcome in bounded memory, reported once at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::outcome::{End, Failure, Outcome, STATUS_CLASSES, status_class};
use crate::threshold::Checked;
use crate::timeline::Timeline;
use crate::times::Times;

/// How many of the slowest requests are listed, and how many of those that failed.
const LISTED: usize = 10;
/// As many reasons are told apart why a journey is broken off; what further ones get is [`OTHER_REASONS`].
const REASONS: usize = 20;
const OTHER_REASONS: &str = "other reasons";
/// Significant digits of times.
const DIGITS: u8 = 3;
/// Lateness below this never makes the generator the limit: a busy machine's timers are that coarse.
const LATENESS_FLOOR_MS: f64 = 10.0;
/// A core busier than this, 0 to 1, has no time for what comes unevenly.
const BUSY: f64 = 0.9;

/// What a run came to. The JSON of `--json`; times are in milliseconds, rates per second.
///
/// `sent = received + failed + timed_out` and `planned = sent + dropped`. The rates are those of arrivals: requests, or
/// journeys of a scenario, whose later requests come when they come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The rate asked for, on average where it changes.
    pub wanted_rate: f64,
    /// Arrivals that were sent, over the time they were planned to take or, if that is longer, took to send.
    pub achieved_rate: f64,
    /// Starts that came due.
    pub planned: u64,
    /// Requests sent.
    pub sent: u64,
    /// Whole answers with a status below 500, or one that the scenario expects.
    pub received: u64,
    /// Failed connections, and all other answers.
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
    pub slowest: Vec<Traced>,
    /// The first requests that failed or timed out and whose traces are recorded.
    pub failures: Vec<Traced>,
    /// What came of each route, by method and route.
    pub routes: BTreeMap<String, Route>,
    /// What came of each journey of a scenario.
    pub journeys: BTreeMap<String, Journey>,
    /// What the generator itself used.
    pub generator: Generator,
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

/// What came of a journey.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// How many customers set out on it.
    pub begun: u64,
    /// How many came to its end.
    pub completed: u64,
    /// Why others did not, and how many.
    pub broken_off: BTreeMap<String, u64>,
}

/// What the generator itself used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU time of the thread that sends, in seconds; of merged results, the sum.
    pub cpu_seconds: f64,
    /// That, over the time of the run: 1 is a whole core. Of merged results, the largest.
    pub cpu_share: f64,
    /// The most memory that was resident, in bytes; of merged results, the largest.
    pub max_rss_bytes: u64,
    /// Connections made.
    pub connections: u64,
    /// The most connections that were open at a time; of merged results, the sum.
    pub max_connections: u64,
}

/// A request to be looked up by its trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// End − intended start.
    pub latency_ms: f64,
    /// End − actual start: about the length of the trace.
    pub service_ms: f64,
    /// Method and route.
    pub request: String,
    /// The status, `timed out`, or where the connection failed.
    pub outcome: String,
}

/// Gathers outcomes. What it takes does not grow with the length of the run.
#[derive(Debug, Default)]
pub struct Recorder {
    /// `None` once it is finished.
    begin: Option<Instant>,
    histograms: Histograms,
    timeline: Timeline,
    routes: Vec<(String, Route)>,
    journeys: Vec<(String, Journey)>,
    outcomes: u64,
    arrivals: u64,
    bad_answers: u64,
    status: [u64; STATUS_CLASSES.len()],
    timed_out: u64,
    errors: BTreeMap<Failure, Errors>,
    slowest: Vec<Outcome>,
    failures: Vec<Outcome>,
    last_arrival: Duration,
    last_end: Duration,
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
    /// For a run over these routes and journeys, whose first start is due at `begin`.
    pub fn new(begin: Instant, routes: &[String], journeys: &[String]) -> Self {
        Self {
            begin: Some(begin),
            routes: routes
                .iter()
                .map(|name| (name.clone(), Route::default()))
                .collect(),
            journeys: journeys
                .iter()
                .map(|name| (name.clone(), Journey::default()))
                .collect(),
            ..Self::default()
        }
    }

    /// The first start is due at another time.
    pub fn begin(&mut self, begin: Instant) {
        self.begin = Some(begin);
    }

    /// How many it has taken.
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// Takes one outcome.
    pub fn record(&mut self, outcome: Outcome) {
        let Some(begin) = self.begin else { return };
        let since = |time: Instant| time.saturating_duration_since(begin);
        self.outcomes += 1;
        if outcome.arrival {
            self.arrivals += 1;
            self.last_arrival = self.last_arrival.max(since(outcome.started));
        }
        self.last_end = self.last_end.max(since(outcome.ended));
        self.histograms.lateness.record(outcome.lateness());
        self.timeline.record(since(outcome.intended), &outcome);
        let (_, route) = &mut self.routes[outcome.route];
        route.sent += 1;
        route.errors += u64::from(outcome.is_error());
        if outcome.is_timed() {
            // Never corrected for omission: the intended start has done so already.
            let latency = outcome.latency();
            route.latency.record(latency);
            self.histograms.latency.record(latency);
            self.histograms.service.record(outcome.service());
        }
        match &outcome.end {
            End::Answered { status, good } => {
                self.status[status_class(*status)] += 1;
                self.bad_answers += u64::from(!good);
            }
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
        if outcome.trace.is_some() {
            if outcome.is_error() && self.failures.len() < LISTED {
                self.failures.push(outcome.clone());
            }
            if outcome.is_timed() {
                self.keep_if_slow(outcome);
            }
        }
    }

    /// A customer sets out on the journey with this number.
    pub fn journey_begins(&mut self, journey: usize) {
        if let Some((_, journey)) = self.journeys.get_mut(journey) {
            journey.begun += 1;
        }
    }

    /// A customer has ended that journey; `why` before its last step.
    pub fn journey_ends(&mut self, journey: usize, why: Option<String>) {
        let Some((_, journey)) = self.journeys.get_mut(journey) else {
            return;
        };
        let Some(why) = why else {
            journey.completed += 1;
            return;
        };
        let room = journey.broken_off.len() < REASONS || journey.broken_off.contains_key(&why);
        let why = if room { why } else { OTHER_REASONS.to_owned() };
        *journey.broken_off.entry(why).or_default() += 1;
    }

    fn keep_if_slow(&mut self, outcome: Outcome) {
        let latency = outcome.latency();
        let place = self
            .slowest
            .partition_point(|slow| slow.latency() >= latency);
        if place < LISTED {
            self.slowest.insert(place, outcome);
            self.slowest.truncate(LISTED);
        }
    }

    /// The result of the run. Requests that were sent and of which nothing was heard count as abandoned.
    pub fn finish(mut self, paced: Paced, interrupted: bool) -> Summary {
        let sent = paced.planned - paced.dropped;
        let abandoned = sent.saturating_sub(self.outcomes);
        // Journeys are not told apart from plain requests among the abandoned; each of those is an arrival.
        let arrivals = if self.journeys.is_empty() {
            sent
        } else {
            self.arrivals
        };
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
        let answers: u64 = self.status.iter().sum();
        let transport_errors: u64 = self.errors.values().map(|errors| errors.count).sum();
        let window = paced.span.max(self.last_arrival);
        Summary {
            wanted_rate: paced.wanted_rate,
            achieved_rate: if window.is_zero() {
                0.0
            } else {
                rounded(arrivals as f64 / window.as_secs_f64())
            },
            planned: paced.planned,
            sent,
            received: answers - self.bad_answers,
            failed: transport_errors + self.bad_answers,
            timed_out: self.timed_out,
            dropped: paced.dropped,
            latency_ms: percentiles(&self.histograms.latency),
            service_ms: percentiles(&self.histograms.service),
            lateness_ms: percentiles(&self.histograms.lateness),
            limited_by_generator: false,
            limited_because: None,
            interrupted,
            elapsed_seconds: rounded(self.last_end.as_secs_f64()),
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
            slowest: traced(&self.slowest, &self.routes),
            failures: traced(&self.failures, &self.routes),
            journeys: self.journeys.into_iter().collect(),
            generator: Generator::default(),
            routes: self
                .routes
                .into_iter()
                .filter(|(_, route)| route.sent > 0)
                .map(|(name, mut route)| {
                    route.latency_ms = percentiles(&route.latency);
                    (name, route)
                })
                .collect(),
            thresholds: Vec::new(),
            histograms: self.histograms,
            timeline: self.timeline,
        }
        .used(Generator::default())
    }
}

impl Summary {
    /// With what the generator used, and what follows from it for the verdict.
    pub fn used(mut self, generator: Generator) -> Self {
        self.generator = generator;
        self.limited_because = limit(&self);
        self.limited_by_generator = self.limited_because.is_some();
        self
    }

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
        sum.slowest.truncate(LISTED);
        // One late generator of many does not show in the sum's lateness, and yet in its latency.
        sum.limited_because = limit(&sum).or(sum.limited_because);
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
        self.failures.extend(part.failures);
        self.failures.truncate(LISTED);
        for (name, journey) in part.journeys {
            let sum = self.journeys.entry(name).or_default();
            sum.begun += journey.begun;
            sum.completed += journey.completed;
            for (why, count) in journey.broken_off {
                *sum.broken_off.entry(why).or_default() += count;
            }
        }
        self.generator.add(&part.generator);
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

impl Generator {
    fn add(&mut self, part: &Self) {
        self.cpu_seconds = rounded(self.cpu_seconds + part.cpu_seconds);
        self.cpu_share = self.cpu_share.max(part.cpu_share);
        self.max_rss_bytes = self.max_rss_bytes.max(part.max_rss_bytes);
        self.connections += part.connections;
        self.max_connections += part.max_connections;
    }
}

fn traced(outcomes: &[Outcome], routes: &[(String, Route)]) -> Vec<Traced> {
    let traced = |outcome: &Outcome| {
        Some(Traced {
            trace_id: outcome.trace?.to_string(),
            latency_ms: millis(outcome.latency()),
            service_ms: millis(outcome.service()),
            request: routes[outcome.route].0.clone(),
            outcome: match &outcome.end {
                End::Answered { status, .. } => status.as_u16().to_string(),
                End::TimedOut => "timed out".to_owned(),
                End::Failed(failure, _) => failure.name().to_owned(),
            },
        })
    };
    outcomes.iter().filter_map(traced).collect()
}

/// Why the generator shaped the result, if it did: it dropped starts, which no percentile shows; it ran out of ports or
/// descriptors; it was late by more than a tenth of the latency it reports (p99 against p99, and more than a few
/// milliseconds); or its core was busy, so that what it could not read in time looks like a slow server.
fn limit(summary: &Summary) -> Option<String> {
    let dropped = summary.dropped;
    if dropped > 0 {
        return Some(format!(
            "{dropped} starts were dropped because --max-in-flight requests were waiting for answers already, \
             so the latencies leave out the worst: lower --rate, or raise --max-in-flight"
        ));
    }
    if let Some(local) = summary.errors.get(Failure::Local.name()) {
        return Some(format!(
            "{} requests found no port or file descriptor left on this machine ({}): raise `ulimit -n`, lower --rate, \
             keep connections alive, or share the plan with --shard among machines",
            local.count, local.example
        ));
    }
    let late = summary.lateness_ms.p99.unwrap_or(0.0);
    let latency = summary.latency_ms.p99.unwrap_or(0.0);
    if late > LATENESS_FLOOR_MS.max(latency / 10.0) {
        return Some(format!(
            "1 % of the requests left {late} ms late or later, which is part of their latency: the generator, \
             not the server, could not keep up; lower --rate, or give it a machine of its own"
        ));
    }
    let share = summary.generator.cpu_share;
    (share > BUSY).then(|| {
        format!(
            "the thread that sends was busy {:.0} % of the time, so answers may have waited for it and not it for them: \
             lower --rate, or share the plan with --shard among cores or machines",
            share * 100.0
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

    use super::*;

    const RATE: f64 = 100.0;

    fn recorder(begin: Instant) -> Recorder {
        Recorder::new(begin, &["GET /".to_owned(), "GET /1".to_owned()], &[])
    }

    /// An outcome with its times in milliseconds from the begin of the run.
    fn outcome(begin: Instant, intended: u64, started: u64, ended: u64, end: End) -> Outcome {
        let at = |millis| begin + Duration::from_millis(millis);
        Outcome {
            intended: at(intended),
            started: at(started),
            ended: at(ended),
            end,
            trace: None,
            route: 0,
            arrival: true,
        }
    }

    fn answered(status: u16) -> End {
        End::answered(status)
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
        let mut recorder = recorder(begin);
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
        let mut recorder = recorder(begin);
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
        let mut recorder = recorder(begin);
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
        let summary = finish(recorder(Instant::now()), 0, 0);
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
        for (dropped, latency, lateness, busy, local, said) in [
            (0, Some(10.0), Some(0.2), 0.0, 0, None),
            (0, Some(20.0), Some(10.0), 0.9, 0, None),
            (0, Some(20.0), Some(10.1), 0.0, 0, Some("10.1 ms late")),
            (0, Some(900.0), Some(80.0), 0.0, 0, None),
            (0, Some(900.0), Some(91.0), 0.0, 0, Some("91 ms late")),
            (0, None, Some(11.0), 0.0, 0, Some("11 ms late")),
            (0, None, None, 0.0, 0, None),
            (
                1,
                Some(10.0),
                Some(0.1),
                1.0,
                1,
                Some("1 starts were dropped"),
            ),
            (0, Some(10.0), Some(0.1), 0.97, 0, Some("busy 97 %")),
            (
                0,
                Some(10.0),
                Some(0.1),
                0.0,
                3,
                Some("3 requests found no port"),
            ),
        ] {
            let mut summary = finish(recorder(Instant::now()), 0, 0);
            summary.dropped = dropped;
            summary.latency_ms = of(latency);
            summary.lateness_ms = of(lateness);
            if local > 0 {
                let errors = Errors {
                    count: local,
                    example: String::new(),
                };
                summary.errors.insert("local".to_owned(), errors);
            }
            let generator = Generator {
                cpu_share: busy,
                ..Generator::default()
            };
            let because = summary.used(generator).limited_because;
            match (&because, said) {
                (None, None) => {}
                (Some(because), Some(said)) => assert!(because.contains(said), "{because}"),
                _ => panic!("{dropped} {latency:?} {lateness:?} {busy} {local}: {because:?}"),
            }
        }
    }

    #[test]
    fn the_slowest_recorded_traces_are_kept_slowest_first() {
        let begin = Instant::now();
        let mut recorder = recorder(begin);
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
                outcome.route = (n % 2) as usize;
                outcome
            })
            .collect();
        let run = |of: &dyn Fn(usize) -> bool, planned: u64, rate: f64| {
            let mut recorder = recorder(begin);
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
        // The first ones of all, or the first ones of the first part.
        assert_eq!(merged.failures.len(), whole.failures.len());
        whole.failures.clone_from(&merged.failures);
        assert_eq!(merged, whole);
        assert_eq!(Summary::merged([]), None);
    }

    #[test]
    fn a_generator_that_was_the_limit_stays_so_among_others() {
        let begin = Instant::now();
        let mut well = recorder(begin);
        for n in 0..1000 {
            well.record(outcome(begin, n * 10, n * 10, n * 10 + 5, answered(200)));
        }
        let mut late = recorder(begin);
        late.record(outcome(begin, 0, 900, 905, answered(200)));
        let parts = [finish(well, 1000, 0), finish(late, 1, 0)];
        let merged = Summary::merged(parts).expect("two parts");
        assert!(merged.lateness_ms.p99 < Some(1.0), "{merged:?}");
        assert!(merged.limited_by_generator, "{merged:?}");
    }

    #[test]
    fn routes_are_told_apart_and_those_without_requests_left_out() {
        let begin = Instant::now();
        let mut recorder = recorder(begin);
        for n in 0..3 {
            recorder.record(outcome(
                begin,
                0,
                0,
                n,
                answered(if n < 2 { 200 } else { 500 }),
            ));
        }
        let summary = finish(recorder, 3, 0);
        assert_eq!(summary.routes.keys().collect::<Vec<_>>(), ["GET /"]);
        let route = &summary.routes["GET /"];
        assert_eq!((route.sent, route.errors), (3, 1));
        assert!(close(route.latency_ms.max, 2.0), "{route:?}");
    }

    #[test]
    fn what_a_scenario_expects_is_good_and_nothing_else() {
        let begin = Instant::now();
        let mut recorder = recorder(begin);
        for (status, good) in [(503, true), (200, false), (404, true)] {
            let end = End::Answered {
                status: http::StatusCode::from_u16(status).expect("a status"),
                good,
            };
            recorder.record(outcome(begin, 0, 0, 1, end));
        }
        let summary = finish(recorder, 3, 0);
        assert_eq!((summary.received, summary.failed), (2, 1));
        assert_eq!(summary.routes["GET /"].errors, 1);
    }

    #[test]
    fn the_rate_is_that_of_arrivals_and_journeys_are_told() {
        let begin = Instant::now();
        let journeys = ["buy".to_owned(), "look".to_owned()];
        let mut recorder = Recorder::new(begin, &["GET /".to_owned()], &journeys);
        for n in 0..10 {
            recorder.journey_begins(0);
            recorder.record(outcome(begin, n * 10, n * 10, n * 10 + 1, answered(200)));
            let mut second = outcome(
                begin,
                n * 10 + 900,
                n * 10 + 900,
                n * 10 + 901,
                answered(200),
            );
            second.arrival = false;
            recorder.record(second);
            recorder.journey_ends(0, (n > 6).then(|| format!("reason {}", n % 2)));
        }
        recorder.journey_begins(1);
        recorder.journey_ends(1, None);
        let paced = Paced {
            planned: 20,
            dropped: 0,
            span: Duration::from_millis(100),
            wanted_rate: RATE,
        };
        let summary = recorder.finish(paced, false);
        assert_eq!((summary.sent, summary.achieved_rate), (20, 100.0));
        let buy = &summary.journeys["buy"];
        assert_eq!((buy.begun, buy.completed), (10, 7));
        let reasons = BTreeMap::from([("reason 0".to_owned(), 1), ("reason 1".to_owned(), 2)]);
        assert_eq!(buy.broken_off, reasons);
        let merged = Summary::merged([summary.clone(), summary]).expect("two parts");
        let buy = &merged.journeys["buy"];
        assert_eq!(
            (buy.begun, buy.completed, buy.broken_off["reason 1"]),
            (20, 14, 4)
        );
    }

    #[test]
    fn reasons_are_told_apart_up_to_a_limit() {
        let mut recorder = Recorder::new(Instant::now(), &[], &["buy".to_owned()]);
        for n in 0..50 {
            recorder.journey_ends(0, Some(format!("reason {n}")));
        }
        let summary = finish(recorder, 0, 0);
        let reasons = &summary.journeys["buy"].broken_off;
        assert_eq!((reasons.len(), reasons[OTHER_REASONS]), (REASONS + 1, 30));
    }

    #[test]
    fn the_first_failures_with_a_trace_are_listed() {
        let begin = Instant::now();
        let mut recorder = recorder(begin);
        for n in 0..30_u8 {
            let end = match n % 3 {
                0 => answered(503),
                1 => End::Failed(Failure::Connect, "refused".to_owned()),
                _ => answered(200),
            };
            let mut outcome = outcome(begin, 0, 0, 1, end);
            outcome.trace = Some(TraceId::from_bytes([n + 1; 16]));
            recorder.record(outcome);
        }
        let summary = finish(recorder, 30, 0);
        let listed: Vec<_> = summary
            .failures
            .iter()
            .map(|failure| failure.outcome.as_str())
            .collect();
        assert_eq!(listed, ["503", "connect"].repeat(5));
    }

    #[test]
    fn falling_behind_lowers_the_achieved_rate() {
        let begin = Instant::now();
        let mut recorder = recorder(begin);
        for n in 0..100 {
            recorder.record(outcome(begin, n * 10, n * 20, n * 20 + 1, answered(200)));
        }
        let summary = finish(recorder, 100, 0);
        assert!(summary.achieved_rate < 51.0, "{summary:?}");
    }
}
