//! The payment service, as seen from here.

use std::time::{Duration, Instant};

use opentelemetry_http::HeaderInjector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Serialize;
use service::{BrokenDependency, Faults};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The `dependency` label.
const DEPENDENCY: &str = "payments";

/// Seconds; the default time-out is 2.
const BUCKETS: [f64; 6] = [0.01, 0.05, 0.1, 0.25, 1.0, 2.5];

/// Asks the payment service for money.
#[derive(Debug)]
pub struct Payments {
    http: reqwest::Client,
    endpoint: Url,
    server_address: String,
    server_port: u16,
    timeout: Duration,
    faults: Faults,
    metrics: Metrics,
}

/// What the payment service answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The money is there.
    Approved,
    /// No.
    Declined,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// Not in time.
    #[error("payments did not answer within {0:?}")]
    Timeout(Duration),
    /// No connection, or one that broke.
    #[error("payments cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// An answer that is neither yes nor no.
    #[error("payments answered {0}")]
    Unexpected(StatusCode),
}

impl PaymentError {
    /// Low-cardinality name for `error.type`; of an unexpected answer its status, as the conventions
    /// of OpenTelemetry have it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "connection",
            Self::Unexpected(status) => status.as_str(),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Not `http://HOST[:PORT]`. It is not repeated: it may hold a password.
    #[error(
        "--payments-url (PAYMENTS_URL) is not valid; use http://HOST:PORT without credentials, for example http://127.0.0.1:5010"
    )]
    Url,
    /// No HTTP client on this system.
    #[error("no HTTP client can be set up")]
    Http(#[source] reqwest::Error),
    /// A metric exists already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

#[derive(Serialize)]
struct Charge {
    order_id: i64,
    amount_cents: i64,
}

impl Payments {
    /// A client of the service at `base_url` that waits for an answer no longer than `timeout`.
    /// Adds `flask_dependency_*` to `registry`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(
        base_url: &str,
        timeout: Duration,
        registry: &Registry,
    ) -> Result<Self, ClientError> {
        let invalid = || ClientError::Url;
        let mut endpoint = Url::parse(base_url).map_err(|_| invalid())?;
        // Neither TLS, which this build does without, nor credentials, which would end up in spans.
        if endpoint.scheme() != "http"
            || !endpoint.username().is_empty()
            || endpoint.password().is_some()
        {
            return Err(invalid());
        }
        endpoint
            .path_segments_mut()
            .map_err(|()| invalid())?
            .pop_if_empty()
            .extend(["api", "payments"]);
        let server_address = endpoint.host_str().ok_or_else(invalid)?.to_owned();
        let server_port = endpoint.port_or_known_default().ok_or_else(invalid)?;
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // The environment's proxy is for the way out, not for a neighbour.
            .no_proxy()
            .build()
            .map_err(ClientError::Http)?;
        let metrics = Metrics::new(registry)?;
        Ok(Self {
            http,
            endpoint,
            server_address,
            server_port,
            timeout,
            faults: Faults::off(),
            metrics,
        })
    }

    /// Sees the service as these faults have it.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks for the money of an order.
    ///
    /// # Errors
    /// See [`PaymentError`]. With [`PaymentError::Timeout`] the money may have been taken.
    pub async fn charge(&self, order_id: i64, amount_cents: i64) -> Result<Answer, PaymentError> {
        let span = tracing::info_span!(
            "payments",
            otel.name = "POST",
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty,
            error.type = tracing::field::Empty,
            http.request.method = "POST",
            http.response.status_code = tracing::field::Empty,
            server.address = self.server_address,
            // As i64: tracing-opentelemetry writes unsigned numbers as text.
            server.port = i64::from(self.server_port),
            url.full = self.endpoint.as_str(),
        );
        let started = Instant::now();
        let result = self
            .send(
                &Charge {
                    order_id,
                    amount_cents,
                },
                &span,
            )
            .instrument(span.clone())
            .await;
        let outcome = match &result {
            Ok(Answer::Approved) => &self.metrics.ok,
            Ok(Answer::Declined) => &self.metrics.declined,
            Err(PaymentError::Timeout(_)) => &self.metrics.timeout,
            Err(_) => &self.metrics.error,
        };
        outcome.observe(started.elapsed());
        if let Err(error) = &result {
            // A bad status is recorded already.
            if !matches!(error, PaymentError::Unexpected(_)) {
                span.record("error.type", error.kind());
            }
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", tracing::field::display(error));
        }
        result
    }

    /// Where to send to, once a fault has had its way.
    async fn endpoint_with_faults(&self, span: &Span) -> Result<Url, PaymentError> {
        let mut endpoint = self.endpoint.clone();
        match self.faults.dependency() {
            None => {}
            Some(BrokenDependency::Slow(delay)) => {
                tokio::time::sleep(delay.min(self.timeout)).await;
                if delay >= self.timeout {
                    return Err(PaymentError::Timeout(self.timeout));
                }
            }
            Some(BrokenDependency::Failing) => {
                span.record("http.response.status_code", 500_i64);
                span.record("error.type", "500");
                return Err(PaymentError::Unexpected(StatusCode::INTERNAL_SERVER_ERROR));
            }
            // Nothing has listened on tcpmux for decades: a refusal as real as any.
            Some(BrokenDependency::Down) => {
                let _ = endpoint.set_host(Some("127.0.0.1"));
                let _ = endpoint.set_port(Some(1));
            }
        }
        Ok(endpoint)
    }

    async fn send(&self, charge: &Charge, span: &Span) -> Result<Answer, PaymentError> {
        let mut headers = HeaderMap::new();
        // From the client span itself, so that the span of payments becomes its child.
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&span.context(), &mut HeaderInjector(&mut headers));
        });
        let failed = |error: reqwest::Error| {
            if error.is_timeout() {
                PaymentError::Timeout(self.timeout)
            } else {
                PaymentError::Unreachable(error)
            }
        };
        let endpoint = self.endpoint_with_faults(span).await?;
        let response = self
            .http
            .post(endpoint)
            .headers(headers)
            .json(charge)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_client_error() || status.is_server_error() {
            span.record("error.type", status.as_str());
            span.record("otel.status_code", "ERROR");
        }
        // The status says it all, but a connection is used again only when its body has been read.
        response.bytes().await.map_err(failed)?;
        match status {
            StatusCode::PAYMENT_REQUIRED => Ok(Answer::Declined),
            status if status.is_success() => Ok(Answer::Approved),
            status => Err(PaymentError::Unexpected(status)),
        }
    }
}

/// One child of each outcome, so that all exist from the first scrape.
#[derive(Debug)]
struct Metrics {
    ok: Outcome,
    declined: Outcome,
    timeout: Outcome,
    error: Outcome,
}

#[derive(Debug)]
struct Outcome {
    requests: IntCounter,
    duration: Histogram,
}

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["dependency", "outcome"];
        let requests = IntCounterVec::new(
            Opts::new(
                "flask_dependency_requests_total",
                "Requests to another service, by what came of them.",
            ),
            &labels,
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "flask_dependency_duration_seconds",
                "Time until another service answered, or until it was given up.",
            )
            .buckets(BUCKETS.to_vec()),
            &labels,
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        let outcome = |outcome| Outcome {
            requests: requests.with_label_values(&[DEPENDENCY, outcome]),
            duration: durations.with_label_values(&[DEPENDENCY, outcome]),
        };
        Ok(Self {
            ok: outcome("ok"),
            declined: outcome("declined"),
            timeout: outcome("timeout"),
            error: outcome("error"),
        })
    }
}

impl Outcome {
    fn observe(&self, time: Duration) {
        self.requests.inc();
        self.duration.observe(time.as_secs_f64());
    }
}
