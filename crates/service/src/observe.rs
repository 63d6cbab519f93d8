//! What happens around every request: metrics, root span, access log, panics, problem responses.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::{BodySize, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
};
use futures::FutureExt as _;
use opentelemetry::propagation::Extractor;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{
    faults::Plan,
    problem::{self, Cause, Problem},
    red::{Endpoint, Held, Red},
};

/// Longest method, user agent and path (bytes) that logs and spans take from a client.
const METHOD_LIMIT: usize = 32;
const USER_AGENT_LIMIT: usize = 256;
const PATH_LIMIT: usize = 2048;

/// The middleware, for `actix_web::middleware::from_fn`.
pub(crate) async fn observe<B: MessageBody + 'static>(
    red: Red,
    plan: Option<Plan>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let pattern = request.match_pattern();
    let mut observed = Observed::begin(red, &request, pattern.as_deref());
    let span = observed.root_span(&request, plan.as_ref());
    async move {
        // A panic unwinds through this request only: the handler's state is the request's own.
        let answer = async move {
            let Some(mut plan) = plan else {
                return next.call(request).await;
            };
            plan.before().await?;
            let mut response = next.call(request).await?;
            plan.after(response.headers_mut());
            Ok(response)
        };
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => {
                let response = observed.with_problem(response, pattern.as_deref());
                observed.answered(response.response());
                Ok(response)
            }
            Ok(Err(error)) => {
                let response = error.error_response();
                let response = problem_for(&response, Some(&error), None).unwrap_or(response);
                observed.answered(&response);
                Err(InternalError::from_response(error, response).into())
            }
            Err(payload) => {
                let problem = Problem::panic(payload.as_ref());
                // Rendered here, within the span, so that it carries the trace id.
                let response = problem.error_response();
                observed.answered(&response);
                Err(InternalError::from_response(problem, response).into())
            }
        }
    }
    .instrument(span)
    .await
}

/// Answers HEAD as GET (RFC 9110, 9.3.2), inside of [`observe`], which is told the truth. The body is
/// left out further down, where responses are written.
pub(crate) async fn head_as_get<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}

/// A request from its head to its response's head.
struct Observed {
    red: Red,
    endpoint: Arc<Endpoint>,
    started: Instant,
    method: String,
    path: String,
    client: Option<String>,
    version: &'static str,
    user_agent: Option<String>,
    answered: bool,
    _in_progress: Held,
}

impl Observed {
    fn begin(red: Red, request: &ServiceRequest, pattern: Option<&str>) -> Self {
        let started = Instant::now();
        let endpoint = Arc::clone(red.endpoint(request.method(), pattern));
        let user_agent = request.headers().get(header::USER_AGENT);
        let user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        Self {
            _in_progress: red.in_progress(),
            started,
            method: cut(request.method().as_str(), METHOD_LIMIT).to_owned(),
            path: cut(request.path(), PATH_LIMIT).to_owned(),
            client: request.peer_addr().map(|peer| peer.ip().to_string()),
            version: match request.version() {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
            user_agent: user_agent.map(|agent| cut(&agent, USER_AGENT_LIMIT).to_owned()),
            answered: false,
            endpoint,
            red,
        }
    }

    /// The server span, by OpenTelemetry's stable conventions for HTTP.
    fn root_span(&self, request: &ServiceRequest, plan: Option<&Plan>) -> Span {
        let known = is_well_known(request.method());
        let name = match &self.endpoint.span_name {
            Some(name) => name,
            None if known => self.method.as_str(),
            None => "HTTP",
        };
        let server = request.app_config().local_addr();
        let span = tracing::info_span!(
            "request",
            otel.name = name,
            otel.kind = "server",
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
            http.request.method = if known { self.method.as_str() } else { "_OTHER" },
            http.request.method_original = (!known).then_some(self.method.as_str()),
            http.route = self.endpoint.span_name.is_some().then_some(self.endpoint.route),
            http.response.status_code = field::Empty,
            url.path = self.path,
            url.scheme = "http",
            client.address = self.client,
            network.protocol.version = self.version,
            server.address = %server.ip(),
            server.port = i64::from(server.port()),
            user_agent.original = self.user_agent,
            error.type = field::Empty,
        );
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&Headers(request.headers()))
        });
        let parent = match plan {
            Some(plan) => plan.parent(parent),
            None => parent,
        };
        if plan.is_some_and(Plan::loses_span) {
            span.set_attribute(telemetry::SPAN_TO_LOSE, true);
        }
        // Before the span is first entered: its trace id is settled there. It is refused for a span
        // that the log filter switched off, which has no parent to lose.
        if let Err(error) = span.set_parent(parent)
            && !span.is_disabled()
        {
            tracing::debug!(error.message = %error, "the caller's trace is not continued");
        }
        span
    }

    /// Gives an error response without a body, or with actix's own text, a problem for a body.
    fn with_problem<B: MessageBody>(
        &self,
        response: ServiceResponse<B>,
        pattern: Option<&str>,
    ) -> ServiceResponse<EitherBody<B>> {
        let allow = match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => pattern.and_then(|pattern| self.red.allowed(pattern)),
            _ => None,
        };
        let detail = match &allow {
            Some(methods) => Some(format!("this path answers to {methods}")),
            None if pattern.is_none() && response.status() == StatusCode::NOT_FOUND => {
                Some("nothing is served under this path".to_owned())
            }
            None => None,
        };
        let error = response.response().error();
        let Some(mut problem) = problem_for(response.response(), error, detail) else {
            return response.map_into_left_body();
        };
        for (name, value) in response.headers() {
            if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
                problem.headers_mut().append(name.clone(), value.clone());
            }
        }
        // Last, and in place of one that actix has set.
        if let Some(Ok(methods)) = allow.map(HeaderValue::try_from) {
            problem.headers_mut().insert(header::ALLOW, methods);
        }
        response.into_response(problem).map_into_right_body()
    }

    fn answered<B>(&mut self, response: &HttpResponse<B>) {
        self.answered = true;
        let status = response.status();
        let elapsed = self.started.elapsed();
        self.red
            .answered(&self.endpoint, status, elapsed.as_secs_f64());
        let span = Span::current();
        // As i64: tracing-opentelemetry writes unsigned numbers as text.
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            let cause = response.extensions().get::<Cause>().cloned();
            let kind = cause
                .as_ref()
                .map_or(Cow::Borrowed(status.as_str()), |c| c.kind.clone());
            span.record("otel.status_code", "ERROR");
            span.record("error.type", &*kind);
            let message = cause.map(|cause| cause.message);
            let message = message.or_else(|| response.error().map(ToString::to_string));
            if let Some(message) = message {
                span.record("otel.status_description", &message);
                Red::exception(&self.endpoint);
                tracing::error!(
                    error.type = &*kind,
                    error.message = message,
                    http.request.method = self.method,
                    http.route = self.endpoint.route,
                    "request failed"
                );
            }
        }
        self.log(Some(status.as_u16().into()), None);
    }

    fn log(&self, status: Option<i64>, error: Option<&str>) {
        let nanoseconds = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        tracing::info!(
            target: "access",
            {
                http.request.method = self.method,
                http.route = self.endpoint.route,
                http.response.status_code = status,
                http.version = self.version,
                url.path = self.path,
                event.duration = nanoseconds,
                client.address = self.client,
                user_agent.original = self.user_agent,
                error.type = error,
            },
            "{} {} {}",
            self.method,
            self.endpoint.route,
            Outcome(status)
        );
    }
}

/// How a request ended, for the message of its access line.
struct Outcome(Option<i64>);

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(status) => write!(f, "{status}"),
            None => f.write_str("aborted"),
        }
    }
}

impl Drop for Observed {
    /// A request whose client went away, or that a forced stop cut off, has no status to count, but
    /// a line in the log.
    fn drop(&mut self) {
        if !self.answered {
            self.log(None, Some("aborted"));
        }
    }
}

/// The problem to send in place of an error response that says nothing useful to a program.
fn problem_for<B: MessageBody>(
    response: &HttpResponse<B>,
    error: Option<&Error>,
    detail: Option<String>,
) -> Option<HttpResponse> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_problem =
        content_type.is_some_and(|value| value.as_bytes() == problem::CONTENT_TYPE.as_bytes());
    let bodiless = matches!(response.body().size(), BodySize::None | BodySize::Sized(0));
    if is_problem || (error.is_none() && !bodiless) {
        return None;
    }
    let problem = Problem::new(status);
    let problem = match (error, detail) {
        (Some(error), _) if status.is_server_error() => problem.cause(
            status.as_str().to_owned(),
            anyhow::Error::msg(error.to_string()),
        ),
        (Some(error), _) => problem.detail(error.to_string()),
        (None, Some(detail)) => problem.detail(detail),
        (None, None) => problem,
    };
    Some(problem.error_response())
}

/// Trace context out of request headers.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(header::HeaderName::as_str).collect()
    }
}

/// Whether OpenTelemetry names this method; all others are `_OTHER` to it.
fn is_well_known(method: &Method) -> bool {
    use Method as M;
    [
        M::GET,
        M::HEAD,
        M::POST,
        M::PUT,
        M::PATCH,
        M::DELETE,
        M::OPTIONS,
        M::CONNECT,
        M::TRACE,
    ]
    .contains(method)
}

/// At most `limit` bytes of `text`, whole characters only.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
