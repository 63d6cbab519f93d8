//! `flask_dependency_*`.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::breaker::{Breaker, Phase};

/// The `dependency` label.
const DEPENDENCY: &str = "payments";

/// Seconds.
const BUCKETS: [f64; 8] = [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Every child exists from the first scrape.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) ok: IntCounter,
    pub(super) declined: IntCounter,
    pub(super) timeout: IntCounter,
    pub(super) error: IntCounter,
    /// Of every request, whatever came of it: by outcome it would cost more series than it tells.
    pub(super) duration: Histogram,
    pub(super) retries: IntCounter,
    pub(super) rejected: IntCounter,
    pub(super) opened: IntCounter,
}

impl Metrics {
    pub(super) fn new(
        registry: &Registry,
        breaker: Arc<Breaker>,
    ) -> Result<Self, prometheus::Error> {
        let options = |name: &str, help: &str| {
            Opts::new(format!("flask_dependency_{name}"), help)
                .const_label("dependency", DEPENDENCY)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(options(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let requests = IntCounterVec::new(
            options(
                "requests_total",
                "Requests to another service, by what came of them; a retry is one of them.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let duration = Histogram::with_opts(
            HistogramOpts::from(options(
                "duration_seconds",
                "Time until another service answered a request, or until it was given up.",
            ))
            .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(BreakerState {
            gauges: IntGaugeVec::new(
                options(
                    "breaker_state",
                    "1 for the state in which the circuit breaker is, 0 for the others.",
                ),
                &["state"],
            )?,
            breaker,
        }))?;
        let outcome = |outcome| requests.with_label_values(&[outcome]);
        Ok(Self {
            ok: outcome("ok"),
            declined: outcome("declined"),
            timeout: outcome("timeout"),
            error: outcome("error"),
            duration,
            retries: counter(
                "retries_total",
                "Requests to another service that were sent again.",
            )?,
            rejected: counter(
                "rejected_total",
                "Requests to another service that the circuit breaker did not let out.",
            )?,
            opened: counter(
                "breaker_opened_total",
                "Times the circuit breaker opened, also after a trial that failed.",
            )?,
        })
    }
}

/// Asks the breaker when it is scraped, so that it is never behind.
struct BreakerState {
    breaker: Arc<Breaker>,
    gauges: IntGaugeVec,
}

impl Collector for BreakerState {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.breaker.phase();
        for phase in Phase::ALL {
            self.gauges
                .with_label_values(&[phase.as_str()])
                .set((phase == now).into());
        }
        self.gauges.collect()
    }
}
