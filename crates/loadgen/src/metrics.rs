//! What the generator tells Prometheus while it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use actix_web::{App, HttpResponse, HttpServer, web};
use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::outcome::{End, Failure, Outcome, STATUS_CLASSES, status_class};
use crate::pulse::Pulse;

/// Bounds in seconds, from a millisecond to the default time-out and beyond it.
const LATENCY_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds in seconds: a generator that keeps up is late by tens of microseconds.
const LATENESS_BUCKETS: [f64; 10] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0, 10.0,
];

/// All `loadgen_*` metrics, in a registry of their own. Every series exists, at 0, from the first scrape.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests sent.
    pub sent: IntCounter,
    /// Starts given up.
    pub dropped: IntCounter,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// The rate wanted at the moment.
    pub wanted_rate: Gauge,
    responses: [IntCounter; STATUS_CLASSES.len()],
    errors: [IntCounter; Failure::ALL.len()],
    unexpected: IntCounter,
    timeouts: IntCounter,
    latency: Histogram,
    lateness: Histogram,
    /// Not for Prometheus, which has the rest to compute them from.
    pulse: Mutex<Pulse>,
    arrived: AtomicU64,
}

impl Metrics {
    /// Fresh metrics for a run that wants `wanted_rate` requests per second to begin with.
    pub fn new(wanted_rate: f64) -> Self {
        let registry = Registry::new();
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let family = |name, help, label| {
            register(
                &registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let histogram = |name, help, bounds: &[f64]| {
            register(
                &registry,
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec())),
            )
        };
        let responses = family(
            "loadgen_responses_total",
            "Whole answers, by class of status.",
            "status_class",
        );
        let errors = family(
            "loadgen_errors_total",
            "Failed connections, by where they failed.",
            "kind",
        );
        let metrics = Self {
            sent: counter("loadgen_requests_sent_total", "Requests sent."),
            dropped: counter(
                "loadgen_dropped_total",
                "Starts given up because too many requests were in flight already.",
            ),
            in_flight: register(
                &registry,
                IntGauge::new("loadgen_in_flight", "Requests waiting for their answer."),
            ),
            wanted_rate: register(
                &registry,
                Gauge::new(
                    "loadgen_wanted_rate",
                    "Arrivals per second asked for at the moment: requests, or journeys of a scenario.",
                ),
            ),
            responses: STATUS_CLASSES.map(|class| responses.with_label_values(&[class])),
            errors: Failure::ALL.map(|failure| errors.with_label_values(&[failure.name()])),
            unexpected: counter(
                "loadgen_unexpected_responses_total",
                "Whole answers with a status of 500 or more, or one that the scenario does not expect.",
            ),
            timeouts: counter(
                "loadgen_timeouts_total",
                "Requests without a whole answer in the time allowed.",
            ),
            latency: histogram(
                "loadgen_latency_seconds",
                "From the intended start to the end, of answers and time-outs.",
                &LATENCY_BUCKETS,
            ),
            lateness: histogram(
                "loadgen_lateness_seconds",
                "From the intended to the actual start.",
                &LATENESS_BUCKETS,
            ),
            pulse: Mutex::default(),
            arrived: AtomicU64::new(0),
            registry,
        };
        metrics.wanted_rate.set(wanted_rate);
        metrics
    }

    /// The registry, to add to and to serve.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts of a single thread, which cost no synchronisation until they are flushed.
    pub fn tally(&self) -> Tally {
        Tally {
            sent: self.sent.local(),
            dropped: self.dropped.local(),
            responses: self.responses.each_ref().map(IntCounter::local),
            errors: self.errors.each_ref().map(IntCounter::local),
            unexpected: self.unexpected.local(),
            timeouts: self.timeouts.local(),
            latency: self.latency.local(),
            lateness: self.lateness.local(),
        }
    }

    /// How the run is going at the moment.
    pub fn pulse(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts that came due so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Tells how the run is going, and how many starts came due.
    pub fn feel(&self, pulse: Pulse, arrived: u64) {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = pulse;
        self.arrived.store(arrived, Ordering::Relaxed);
    }

    /// Failed connections, answers that were not asked for, and time-outs so far.
    pub fn not_well(&self) -> u64 {
        let errors: u64 = self.errors.iter().map(IntCounter::get).sum();
        errors + self.unexpected.get() + self.timeouts.get()
    }
}

/// What one thread has counted and not yet told.
#[derive(Debug)]
pub struct Tally {
    sent: LocalIntCounter,
    dropped: LocalIntCounter,
    responses: [LocalIntCounter; STATUS_CLASSES.len()],
    errors: [LocalIntCounter; Failure::ALL.len()],
    unexpected: LocalIntCounter,
    timeouts: LocalIntCounter,
    latency: LocalHistogram,
    lateness: LocalHistogram,
}

impl Tally {
    /// Counts a request.
    pub fn sent(&mut self) {
        self.sent.inc();
    }

    /// Counts a start that was given up.
    pub fn dropped(&mut self) {
        self.dropped.inc();
    }

    /// Counts the end of a request.
    pub fn observe(&mut self, outcome: &Outcome) {
        match &outcome.end {
            End::Answered { status, good } => {
                self.responses[status_class(*status)].inc();
                if !good {
                    self.unexpected.inc();
                }
            }
            End::TimedOut => self.timeouts.inc(),
            End::Failed(failure, _) => self.errors[*failure as usize].inc(),
        }
        if outcome.is_timed() {
            self.latency.observe(outcome.latency().as_secs_f64());
        }
        self.lateness.observe(outcome.lateness().as_secs_f64());
    }

    /// Counts requests that were still in flight when the run was cut short.
    pub fn abandon(&mut self, requests: u64) {
        self.errors[Failure::Abandoned as usize].inc_by(requests);
    }

    /// Tells all of it.
    pub fn flush(&mut self) {
        let counters = [&self.sent, &self.dropped, &self.unexpected, &self.timeouts];
        counters
            .into_iter()
            .chain(&self.responses)
            .chain(&self.errors)
            .for_each(LocalIntCounter::flush);
        self.latency.flush();
        self.lateness.flush();
    }
}

fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("the names in this file are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("the names in this file differ");
    metric
}

/// `/metrics` and `/healthz`, bound and not yet served.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Binds `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address)?,
        })
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `registry` in the background of the current runtime until that ends.
    pub fn serve(self, registry: Registry) -> io::Result<()> {
        let registry = web::Data::new(registry);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(registry.clone())
                .route("/metrics", web::get().to(exposition))
                .route("/healthz", web::get().to(HttpResponse::Ok))
        })
        .workers(1)
        .disable_signals()
        .listen(self.listener)?
        .run();
        tokio::spawn(server);
        Ok(())
    }
}

async fn exposition(registry: web::Data<Registry>) -> HttpResponse {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => HttpResponse::Ok()
            .content_type(prometheus::TEXT_FORMAT)
            .body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_own_counter() {
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index);
        }
    }

    #[test]
    fn every_series_exists_from_the_first_scrape() {
        let metrics = Metrics::new(20.0);
        let text = TextEncoder::new()
            .encode_to_string(&metrics.registry.gather())
            .expect("text");
        for series in [
            "loadgen_requests_sent_total 0",
            "loadgen_responses_total{status_class=\"5xx\"} 0",
            "loadgen_errors_total{kind=\"connect\"} 0",
            "loadgen_unexpected_responses_total 0",
            "loadgen_timeouts_total 0",
            "loadgen_dropped_total 0",
            "loadgen_latency_seconds_count 0",
            "loadgen_lateness_seconds_count 0",
            "loadgen_wanted_rate 20",
            "loadgen_in_flight 0",
        ] {
            assert!(
                text.lines().any(|line| line == series),
                "{series} in\n{text}"
            );
        }
    }
}
