//! The payment service, as seen from here.
//!
//! Payments takes the money of an order once, however often it is asked. So every failure that says
//! nothing about the order is safe to retry: no connection, no answer in time, 408, 429, 5xx. Retries are
//! few, spread at random (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>),
//! within the time that the whole may take, and none is sent while the circuit breaker is open.

pub mod breaker;
mod metrics;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_http::HeaderInjector;
use prometheus::Registry;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use service::{BrokenDependency, Condition, Faults};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use self::breaker::{Breaker, Limits, Phase, Rejected};
use self::metrics::Metrics;

/// Before the first retry at most; twice as long before each further one.
const BACKOFF: Duration = Duration::from_millis(50);

/// With less time left than this, an answer is not to be expected any more.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);

/// How long to wait for payments, and how often to ask.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// For an answer, retries included.
    pub timeout: Duration,
    /// For one of the requests.
    pub attempt_timeout: Duration,
    /// Most retries.
    pub retries: u32,
    /// When to stop asking.
    pub breaker: Limits,
}

/// Asks the payment service for money.
#[derive(Debug)]
pub struct Payments {
    http: reqwest::Client,
    endpoint: Endpoint,
    faults: Faults,
    policy: Policy,
    breaker: Arc<Breaker>,
    metrics: Metrics,
    healthy: Option<Condition>,
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
    #[error("payments answered {status}")]
    Unexpected {
        /// What it answered.
        status: StatusCode,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It was not asked, for it has been failing.
    #[error("payments has been failing and is left alone for another {:.1} s", retry_in.as_secs_f64())]
    BreakerOpen {
        /// When it may be asked again.
        retry_in: Duration,
    },
}

impl PaymentError {
    /// Low-cardinality name for `error.type`; of an unexpected answer its status, as the conventions
    /// of OpenTelemetry have it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "connection",
            Self::Unexpected { status, .. } => status.as_str(),
            Self::BreakerOpen { .. } => "breaker_open",
        }
    }

    /// The failure says nothing about the order and may pass: it is worth a retry, and a sign that
    /// payments is not well.
    fn is_transient(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) => true,
            Self::Unexpected { status, .. } => {
                status.is_server_error()
                    || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            Self::BreakerOpen { .. } => false,
        }
    }

    /// When asking again may help, where payments or the circuit breaker says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unexpected { retry_after, .. } => *retry_after,
            Self::BreakerOpen { retry_in } => Some(*retry_in),
            Self::Timeout(_) | Self::Unreachable(_) => None,
        }
    }
}

/// A charge that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unanswered {
    /// What happened last.
    #[source]
    pub error: PaymentError,
    /// Payments may have had the request, and so have taken the money.
    pub may_be_taken: bool,
}

impl Unanswered {
    /// Nothing left this process.
    fn not_sent(error: PaymentError) -> Self {
        Self {
            error,
            may_be_taken: false,
        }
    }

    /// Who knows what became of it.
    fn sent(error: PaymentError) -> Self {
        Self {
            error,
            may_be_taken: true,
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No HTTP client on this system.
    #[error("no HTTP client can be set up")]
    Http(#[source] reqwest::Error),
    /// A metric exists already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Where payments is: a URL that was understood, and holds no password.
#[derive(Debug, Clone)]
pub struct Endpoint {
    url: Url,
    address: String,
    port: u16,
}

/// Not `http://HOST[:PORT]`. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "it is not valid; use http://HOST:PORT without credentials, for example http://127.0.0.1:5010"
)]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let mut url = Url::parse(text).map_err(|_| EndpointError)?;
        // Neither TLS, which this build does without, nor credentials, which would end up in spans.
        if url.scheme() != "http" || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError);
        }
        url.path_segments_mut()
            .map_err(|()| EndpointError)?
            .pop_if_empty()
            .extend(["api", "payments"]);
        Ok(Self {
            address: url.host_str().ok_or(EndpointError)?.to_owned(),
            port: url.port_or_known_default().ok_or(EndpointError)?,
            url,
        })
    }
}

/// How payments says that it knows of no payment.
const NOT_PAID: &str = "/problems/not-paid";

#[derive(Deserialize)]
struct Problem {
    r#type: String,
}

#[derive(Serialize)]
struct Charge {
    order_id: i64,
    amount_cents: i64,
}

impl Payments {
    /// A client of the service at `endpoint`. Adds `flask_dependency_*` to `registry`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(
        endpoint: &Endpoint,
        policy: Policy,
        registry: &Registry,
    ) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            // The environment's proxy is for the way out, not for a neighbour.
            .no_proxy()
            .build()
            .map_err(ClientError::Http)?;
        let breaker = Arc::new(Breaker::new(policy.breaker));
        let metrics = Metrics::new(registry, Arc::clone(&breaker))?;
        Ok(Self {
            http,
            endpoint: endpoint.clone(),
            faults: Faults::off(),
            policy,
            breaker,
            metrics,
            healthy: None,
        })
    }

    /// Sees the service as these faults have it.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Keeps `condition` true to the circuit breaker: it holds while that is closed.
    #[must_use]
    pub fn reporting_to(mut self, condition: Condition) -> Self {
        condition.set(true);
        self.healthy = Some(condition);
        self
    }

    /// How long an answer may take, retries included.
    pub fn timeout(&self) -> Duration {
        self.policy.timeout
    }

    /// Asks for the money of an order, more than once if need be.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn charge(&self, order_id: i64, amount_cents: i64) -> Result<Answer, Unanswered> {
        let charge = Charge {
            order_id,
            amount_cents,
        };
        let deadline = Instant::now() + self.policy.timeout;
        let mut error = None;
        let mut may_be_taken = false;
        for resend in 0..=self.policy.retries {
            if let Some(error) = &error {
                let pause = pause_before(resend, error);
                if Instant::now() + pause + SHORTEST_ATTEMPT > deadline {
                    break;
                }
                tracing::info!(
                    {
                        order.id = order_id,
                        error.type = error.kind(),
                        http.request.resend_count = i64::from(resend),
                    },
                    "payments is asked again in {pause:.0?}"
                );
                tokio::time::sleep(pause).await;
            }
            let permit = match self.breaker.admit(Instant::now()) {
                Ok(permit) => permit,
                Err(Rejected { retry_in }) => {
                    self.metrics.rejected.inc();
                    // After an attempt its own failure says more.
                    error.get_or_insert(PaymentError::BreakerOpen { retry_in });
                    break;
                }
            };
            if resend > 0 {
                self.metrics.retries.inc();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let result = self
                .attempt(&charge, resend, left.min(self.policy.attempt_timeout))
                .await;
            let healthy = !matches!(&result, Err(failed) if failed.error.is_transient());
            self.announce(permit.report(healthy, Instant::now()));
            match result {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    may_be_taken |= failed.may_be_taken;
                    let last = !failed.error.is_transient();
                    error = Some(failed.error);
                    if last {
                        break;
                    }
                }
            }
        }
        Err(Unanswered {
            error: error.expect("there is at least one attempt, and it failed"),
            may_be_taken,
        })
    }

    /// Whether the money of an order was taken, asked once and without moving any. For whoever has lost the answer to
    /// [`Payments::charge`]. It has no span, and the circuit breaker no say: it is asked rarely, and an answer
    /// says nothing of how charges fare.
    ///
    /// # Errors
    /// See [`PaymentError`]: then it is not known.
    pub async fn paid(&self, order_id: i64) -> Result<bool, PaymentError> {
        let timeout = self.policy.attempt_timeout.min(self.policy.timeout);
        let mut url = self.endpoint_with_faults(timeout, &Span::none()).await?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(&order_id.to_string());
        }
        let response = self.http.get(url).timeout(timeout).send().await;
        let response = response.map_err(|error| failed(error, timeout))?;
        let status = response.status();
        let retry_after = seconds(response.headers());
        // Not any 404: one of a wrong address, or of something in between, says nothing about the money.
        let answer = match status {
            StatusCode::OK => Some(true),
            StatusCode::NOT_FOUND => {
                let problem = response.json::<Problem>().await.ok();
                problem.filter(|it| it.r#type == NOT_PAID).map(|_| false)
            }
            _ => None,
        };
        answer.ok_or(PaymentError::Unexpected {
            status,
            retry_after,
        })
    }

    /// Tells of a change of the circuit breaker.
    fn announce(&self, change: Option<Phase>) {
        if let (Some(healthy), Some(phase)) = (&self.healthy, change) {
            healthy.set(phase == Phase::Closed);
        }
        match change {
            None => {}
            Some(Phase::Open) => {
                self.metrics.opened.inc();
                tracing::warn!(
                    circuit_breaker.state = Phase::Open.as_str(),
                    "payments fails and is left alone for {:?}",
                    self.policy.breaker.pause
                );
            }
            Some(phase) => tracing::info!(
                circuit_breaker.state = phase.as_str(),
                "payments answers again"
            ),
        }
    }

    /// One request in a span of its own.
    async fn attempt(
        &self,
        charge: &Charge,
        resend: u32,
        timeout: Duration,
    ) -> Result<Answer, Unanswered> {
        let span = tracing::info_span!(
            "payments",
            otel.name = "POST",
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty,
            error.type = tracing::field::Empty,
            http.request.method = "POST",
            http.request.resend_count = (resend > 0).then_some(i64::from(resend)),
            http.response.status_code = tracing::field::Empty,
            server.address = self.endpoint.address,
            // As i64: tracing-opentelemetry writes unsigned numbers as text.
            server.port = i64::from(self.endpoint.port),
            url.full = self.endpoint.url.as_str(),
        );
        let started = Instant::now();
        let result = self
            .send(charge, timeout, &span)
            .instrument(span.clone())
            .await;
        self.metrics
            .duration
            .observe(started.elapsed().as_secs_f64());
        let outcome = match result.as_ref().map_err(|failed| &failed.error) {
            Ok(Answer::Approved) => &self.metrics.ok,
            Ok(Answer::Declined) => &self.metrics.declined,
            Err(PaymentError::Timeout(_)) => &self.metrics.timeout,
            Err(_) => &self.metrics.error,
        };
        outcome.inc();
        if let Err(Unanswered { error, .. }) = &result {
            // A bad status is recorded already.
            if !matches!(error, PaymentError::Unexpected { .. }) {
                span.record("error.type", error.kind());
            }
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", tracing::field::display(error));
        }
        result
    }

    /// Where to send to, once a fault has had its way.
    async fn endpoint_with_faults(
        &self,
        timeout: Duration,
        span: &Span,
    ) -> Result<Url, PaymentError> {
        let mut endpoint = self.endpoint.url.clone();
        match self.faults.dependency() {
            None => {}
            Some(BrokenDependency::Slow(delay)) => {
                tokio::time::sleep(delay.min(timeout)).await;
                if delay >= timeout {
                    return Err(PaymentError::Timeout(timeout));
                }
            }
            Some(BrokenDependency::Failing) => {
                span.record("http.response.status_code", 500_i64);
                span.record("error.type", "500");
                return Err(PaymentError::Unexpected {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    retry_after: None,
                });
            }
            // Nothing has listened on tcpmux for decades: a refusal as real as any.
            Some(BrokenDependency::Down) => {
                let _ = endpoint.set_host(Some("127.0.0.1"));
                let _ = endpoint.set_port(Some(1));
            }
        }
        Ok(endpoint)
    }

    async fn send(
        &self,
        charge: &Charge,
        timeout: Duration,
        span: &Span,
    ) -> Result<Answer, Unanswered> {
        let mut headers = HeaderMap::new();
        // From the client span itself, so that the span of payments becomes its child.
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&span.context(), &mut HeaderInjector(&mut headers));
        });
        let endpoint = self.endpoint_with_faults(timeout, span).await;
        let endpoint = endpoint.map_err(Unanswered::not_sent)?;
        let response = self
            .http
            .post(endpoint)
            .headers(headers)
            .timeout(timeout)
            .json(charge)
            .send()
            .await
            .map_err(|error| match error.is_connect() {
                true => Unanswered::not_sent(failed(error, timeout)),
                false => Unanswered::sent(failed(error, timeout)),
            })?;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_client_error() || status.is_server_error() {
            span.record("error.type", status.as_str());
            span.record("otel.status_code", "ERROR");
        }
        let retry_after = seconds(response.headers());
        // The status says it all, but a connection is used again only when its body has been read.
        response
            .bytes()
            .await
            .map_err(|error| Unanswered::sent(failed(error, timeout)))?;
        match status {
            StatusCode::PAYMENT_REQUIRED => Ok(Answer::Declined),
            status if status.is_success() => Ok(Answer::Approved),
            status => {
                let error = PaymentError::Unexpected {
                    status,
                    retry_after,
                };
                // Whoever finds fault with a request has not acted on it.
                Err(match error.is_transient() {
                    true => Unanswered::sent(error),
                    false => Unanswered::not_sent(error),
                })
            }
        }
    }
}

/// How long to wait before a retry, the first being number 1: what payments asks for, or else at random
/// from nothing to a limit that doubles each time.
fn pause_before(retry: u32, error: &PaymentError) -> Duration {
    let limit = BACKOFF.saturating_mul(1 << (retry - 1).min(10));
    let pause = limit.mul_f64(rand::random_range(0.0..=1.0));
    error
        .retry_after()
        .map_or(pause, |wanted| wanted.max(pause))
}

fn failed(error: reqwest::Error, timeout: Duration) -> PaymentError {
    if error.is_timeout() {
        PaymentError::Timeout(timeout)
    } else {
        PaymentError::Unreachable(error)
    }
}

/// `Retry-After` where it is a number of seconds; as a date it would need two clocks that agree.
fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
