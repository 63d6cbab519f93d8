//! Rate, errors, duration: the request metrics of a service, bounded by its table of routes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use actix_web::http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::limits::Refusal;

/// Upper bounds of `{prefix}_http_request_duration_seconds`, in seconds. A latency SLO can only be asked for
/// at one of them: `lab slo render` refuses any other threshold.
// Each one is a series for every route and status: what is slower than the last is too slow anyway.
pub const DURATION_BUCKETS: [f64; 8] = [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The `route` of a request that no route answers.
pub(crate) const UNMATCHED: &str = "unmatched";
const OTHER: &str = "other";

/// One line of a service's table of routes.
#[derive(Debug, Clone)]
pub struct Route {
    method: Method,
    pattern: &'static str,
    statuses: &'static [u16],
}

impl Route {
    /// A route, its pattern written exactly as it is registered, and the statuses it can answer with.
    /// 500 is always among them, for any handler can panic; and with 413, the mark of a route that reads a
    /// body, 408 is.
    pub const fn new(method: Method, pattern: &'static str, statuses: &'static [u16]) -> Self {
        Self {
            method,
            pattern,
            statuses,
        }
    }

    /// Its pattern, as in the `route` label.
    pub const fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// Its method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The statuses it can answer with, 500 among them.
    pub fn statuses(&self) -> BTreeSet<u16> {
        self.statuses.iter().copied().chain([500]).collect()
    }
}

/// Request metrics of one service; cheap to clone.
///
/// Every series is created here, from the table, so that a first error is an increase from 0
/// (prometheus/prometheus#1673) and nothing a client sends adds one.
///
/// HEAD on a route that has GET is answered as GET is, and counted under `method="other"` with its
/// route and without a duration: it is rare, and series of its own would cost more than they tell.
///
/// Requests without a route, counted under `route="unmatched"`, and those refused with a 4xx have no
/// duration: a scanner's thousand fast 404s would make the latency SLO look better than it is.
#[derive(Clone)]
pub struct Red(Arc<Metrics>);

struct Metrics {
    requests: IntCounterVec,
    requests_by_status: IntCounterVec,
    durations: HistogramVec,
    in_progress: IntGauge,
    connections: IntGauge,
    ambiguous: IntCounter,
    too_large: IntCounter,
    rate_limited: IntCounter,
    endpoints: HashMap<&'static str, Vec<(Method, Arc<Endpoint>)>>,
    unmatched: HashMap<Method, Arc<Endpoint>>,
    unmatched_other: Arc<Endpoint>,
}

/// The metrics of one method on one route, found once per request.
pub(crate) struct Endpoint {
    /// The `method` label.
    method: String,
    /// The `route` label, also in logs.
    pub(crate) route: &'static str,
    /// `{method} {route}`; absent when unmatched.
    pub(crate) span_name: Option<String>,
    exceptions: IntCounter,
    outcomes: Vec<Outcome>,
}

struct Outcome {
    status: u16,
    requests: IntCounter,
    requests_by_status: IntCounter,
    duration: Option<Histogram>,
}

/// Whether the time that a request took says something of the service. A refused one does not, and
/// anybody can send any number of them.
fn is_timed(method: &str, route: &str, status: u16) -> bool {
    method != OTHER && route != UNMATCHED && !(400..500).contains(&status)
}

impl Red {
    /// Registers `{prefix}_requests_total` and its siblings, every child of the table at 0.
    ///
    /// # Errors
    /// When `registry` already holds metrics of these names.
    pub fn new(
        registry: &Registry,
        prefix: &str,
        version: &str,
        routes: &[Route],
    ) -> Result<Self, prometheus::Error> {
        let name = |suffix: &str| format!("{prefix}_{suffix}");
        let counters = |suffix: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name(suffix), help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |suffix: &str, help: &str| {
            let gauge = IntGauge::new(name(suffix), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };

        let requests = counters(
            "requests_total",
            "Requests answered.",
            &["method", "route", "status"],
        )?;
        let requests_by_status = counters(
            "http_request_total",
            "Requests answered, under the name prometheus_flask_exporter gives them.",
            &["method", "status"],
        )?;
        let exceptions = counters(
            "http_request_exceptions_total",
            "Requests that ended in an error of the handler or a panic.",
            &["method", "route"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                name("http_request_duration_seconds"),
                "Time from a request's head to its response's head, of requests that were not refused.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &["method", "route", "status"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let in_progress = gauge("http_requests_in_progress", "Requests being handled.")?;
        let connections = gauge("connections_active", "Open client connections.")?;
        let refused = counters(
            "http_requests_refused_total",
            "Requests refused before they were looked at.",
            &["reason"],
        )?;
        let info = prometheus::IntGaugeVec::new(
            Opts::new(name("app_info"), "1; the labels say what is running."),
            &["version", "commit"],
        )?;
        registry.register(Box::new(info.clone()))?;
        info.with_label_values(&[version, option_env!("GIT_COMMIT").unwrap_or("unknown")])
            .set(1);

        let endpoint = |method: &Method, label: &str, route: &'static str, statuses: &[u16]| {
            let statuses: BTreeSet<u16> = statuses.iter().copied().collect();
            let outcome = |status: u16| {
                let code = status.to_string();
                Outcome {
                    status,
                    requests: requests.with_label_values(&[label, route, &code]),
                    requests_by_status: requests_by_status.with_label_values(&[label, &code]),
                    duration: is_timed(label, route, status)
                        .then(|| durations.with_label_values(&[label, route, &code])),
                }
            };
            Arc::new(Endpoint {
                method: label.to_owned(),
                route,
                span_name: (route != UNMATCHED).then(|| format!("{method} {route}")),
                exceptions: exceptions.with_label_values(&[label, route]),
                outcomes: statuses.into_iter().map(outcome).collect(),
            })
        };

        let mut endpoints: HashMap<&'static str, Vec<(Method, Arc<Endpoint>)>> = HashMap::new();
        for Route {
            method,
            pattern,
            statuses,
        } in routes
        {
            let late: &[u16] = match statuses.contains(&413) {
                true => &[408],
                false => &[],
            };
            let statuses = [statuses, &[500][..], late].concat();
            let methods = endpoints.entry(pattern).or_default();
            methods.push((
                method.clone(),
                endpoint(method, method.as_str(), pattern, &statuses),
            ));
            if method == Method::GET {
                let head = endpoint(&Method::HEAD, OTHER, pattern, &statuses);
                methods.push((Method::HEAD, head));
            }
        }
        // Without a route the method is not part of a span's name.
        let unmatched_as = |label: &str| endpoint(&Method::GET, label, UNMATCHED, &[404, 405]);
        // Of the methods without a route, GET is what people and scanners send.
        let methods = routes
            .iter()
            .map(|route| &route.method)
            .chain([&Method::GET]);
        let unmatched = methods
            .map(|method| (method.clone(), unmatched_as(method.as_str())))
            .collect();
        let unmatched_other = unmatched_as(OTHER);

        Ok(Self(Arc::new(Metrics {
            requests,
            requests_by_status,
            durations,
            in_progress,
            connections,
            ambiguous: refused.with_label_values(&["ambiguous"]),
            too_large: refused.with_label_values(&["too_large"]),
            rate_limited: refused.with_label_values(&["rate_limited"]),
            endpoints,
            unmatched,
            unmatched_other,
        })))
    }

    /// The 5xx statuses that all routes of this pattern, or all routes, can answer with.
    pub(crate) fn failures(routes: &[Route], pattern: Option<&str>) -> BTreeSet<u16> {
        let of_pattern = |route: &&Route| pattern.is_none_or(|pattern| route.pattern == pattern);
        let all = |status: u16| {
            let mut routes = routes.iter().filter(of_pattern);
            status == 500 || routes.all(|route| route.statuses.contains(&status))
        };
        (500..600).filter(|status| all(*status)).collect()
    }

    /// Where a request belongs. `pattern` is the pattern its path matches, whatever its method.
    pub(crate) fn endpoint(&self, method: &Method, pattern: Option<&str>) -> &Arc<Endpoint> {
        pattern
            .and_then(|pattern| self.0.endpoints.get(pattern))
            .and_then(|methods| methods.iter().find(|(known, _)| known == method))
            .map(|(_, endpoint)| endpoint)
            .or_else(|| self.0.unmatched.get(method))
            .unwrap_or(&self.0.unmatched_other)
    }

    /// The methods a path of this pattern answers to, for the `Allow` header.
    pub(crate) fn allowed(&self, pattern: &str) -> Option<String> {
        let methods = self.0.endpoints.get(pattern)?;
        Some(
            methods
                .iter()
                .map(|(method, _)| method.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        )
    }

    /// Counts one answered request.
    pub(crate) fn answered(&self, endpoint: &Endpoint, status: StatusCode, seconds: f64) {
        let Metrics {
            requests,
            requests_by_status,
            durations,
            ..
        } = &*self.0;
        let method = endpoint.method.as_str();
        let outcome = endpoint
            .outcomes
            .iter()
            .find(|outcome| outcome.status == status.as_u16());
        if let Some(outcome) = outcome {
            outcome.requests.inc();
            outcome.requests_by_status.inc();
            if let Some(duration) = &outcome.duration {
                duration.observe(seconds);
            }
        } else {
            // The table lacks a status this route does answer with. A wrong count would hide it
            // from alerts, so it is counted as what it is, the slow way.
            requests
                .with_label_values(&[method, endpoint.route, status.as_str()])
                .inc();
            requests_by_status
                .with_label_values(&[method, status.as_str()])
                .inc();
            if is_timed(method, endpoint.route, status.as_u16()) {
                durations
                    .with_label_values(&[method, endpoint.route, status.as_str()])
                    .observe(seconds);
            }
        }
    }

    /// Counts a request that was refused before it was looked at.
    pub(crate) fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::Ambiguous => self.0.ambiguous.inc(),
            Refusal::TooLarge => self.0.too_large.inc(),
            Refusal::RateLimited => self.0.rate_limited.inc(),
        }
    }

    /// Counts an error of a handler, or a panic.
    pub(crate) fn exception(endpoint: &Endpoint) {
        endpoint.exceptions.inc();
    }

    /// A request in flight, until it is dropped: also when its client goes away.
    pub(crate) fn in_progress(&self) -> Held {
        Held::of(&self.0.in_progress)
    }

    /// An open connection, until it is dropped.
    pub(crate) fn connection(&self) -> Held {
        Held::of(&self.0.connections)
    }
}

/// One unit of a gauge.
pub(crate) struct Held(IntGauge);

impl Held {
    fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
