//! Errors as clients see them: RFC 9457 `application/problem+json` with the trace to look up.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    error::{JsonPayloadError, PathError, PayloadError, QueryPayloadError},
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
    web,
};
use opentelemetry::trace::TraceContextExt as _;
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// An error response. Only what [`Problem::detail`] and [`Problem::with`] are given reaches the
/// client; the [`Problem::cause`] goes to the log and the span.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: Option<&'static str>,
    title: Option<&'static str>,
    detail: Option<String>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Boxed, for a `Result` of every handler to stay small.
    cause: Option<Box<Cause>>,
}

/// Why a request failed, for the operator. Travels in the extensions of the response.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    /// What sort of failure, as `error.type`.
    pub(crate) kind: Cow<'static, str>,
    /// The error and its sources, as `error.message`.
    pub(crate) message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl Problem {
    /// A problem that says no more than its status.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            kind: None,
            title: None,
            detail: None,
            members: Map::new(),
            headers: Vec::new(),
            cause: None,
        }
    }

    /// 500 with its reason for the operator and none for the client.
    /// `kind` as for [`Problem::cause`].
    pub fn internal(kind: impl Into<Cow<'static, str>>, error: impl Into<anyhow::Error>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).cause(kind, error)
    }

    /// What sort of problem this is, for programs: `type` becomes `/problems/{slug}`.
    pub fn kind(mut self, slug: &'static str) -> Self {
        self.kind = Some(slug);
        self
    }

    /// A summary of this sort of problem, the same each time it occurs.
    pub fn title(mut self, title: &'static str) -> Self {
        self.title = Some(title);
        self
    }

    /// What went wrong this time, in words that help the client.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member to the JSON object, under a name that RFC 9457 and `trace_id` leave free; what
    /// cannot be written as JSON is left out.
    pub fn with(mut self, key: &'static str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.members.insert(key.to_owned(), value);
        }
        self
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The error behind it: logged and put on the span when the status is 5xx, never sent.
    ///
    /// `kind` is its `error.type`, one of few, and the same wherever this failure is logged or traced.
    pub fn cause(
        mut self,
        kind: impl Into<Cow<'static, str>>,
        error: impl Into<anyhow::Error>,
    ) -> Self {
        self.cause = Some(Box::new(Cause {
            kind: kind.into(),
            message: format!("{:#}", error.into()),
        }));
        self
    }

    /// The panic behind a 500.
    pub(crate) fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let mut problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR);
        problem.cause = Some(Box::new(Cause {
            kind: "panic".into(),
            message: text.unwrap_or("panic without a text").to_owned(),
        }));
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", cause.message)?;
        }
        Ok(())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let title = self.title.or(self.status.canonical_reason());
        let body = Body {
            r#type: self
                .kind
                .map_or_else(|| "about:blank".to_owned(), |k| format!("/problems/{k}")),
            title: title.unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail.as_deref(),
            trace_id: current_trace_id(),
            members: &self.members,
        };
        let mut response = HttpResponse::build(self.status);
        response.content_type(CONTENT_TYPE);
        for header in &self.headers {
            response.append_header(header.clone());
        }
        let mut response =
            response.body(serde_json::to_string(&body).expect("strings and JSON values serialise"));
        if let Some(cause) = &self.cause {
            response.extensions_mut().insert(Cause::clone(cause));
        }
        response
    }
}

/// The trace of the span this code runs in.
fn current_trace_id() -> Option<String> {
    opentelemetry::Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

/// Whether it is the fault of [`crate::limits`], which a body that does not arrive in time runs into.
fn is_late(error: &JsonPayloadError) -> bool {
    match error {
        JsonPayloadError::Payload(PayloadError::Io(error)) => {
            error.kind() == std::io::ErrorKind::TimedOut
        }
        _ => false,
    }
}

/// JSON bodies of up to `limit_bytes`, refused with a problem: 413 when larger, 415 for another
/// content type, 400 for what does not parse.
pub fn json_config(limit_bytes: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit_bytes)
        .error_handler(|error, _| {
            let status = match error {
                JsonPayloadError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ref error if is_late(error) => StatusCode::REQUEST_TIMEOUT,
                ref error => error.status_code(),
            };
            let detail = match &error {
                JsonPayloadError::ContentType => "the body has to be application/json".to_owned(),
                JsonPayloadError::Deserialize(reason) => reason.to_string(),
                JsonPayloadError::Overflow { limit }
                | JsonPayloadError::OverflowKnownLength { limit, .. } => {
                    format!("the body is larger than the limit of {limit} bytes")
                }
                error if is_late(error) => "the body did not arrive in time".to_owned(),
                _ => "the body cannot be read".to_owned(),
            };
            Problem::new(status).detail(detail).into()
        })
}

/// Path parameters that do not parse are a 400, not the 404 actix would send.
pub(crate) fn path_config() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_: PathError, _: &HttpRequest| {
        Problem::new(StatusCode::BAD_REQUEST)
            .detail("a parameter in the path is not of the kind expected there")
            .into()
    })
}

pub(crate) fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error: QueryPayloadError, _: &HttpRequest| {
        let detail = match error {
            QueryPayloadError::Deserialize(reason) => {
                format!("the parameters after ? cannot be read: {reason}")
            }
            _ => "the parameters after ? cannot be read".to_owned(),
        };
        Problem::new(StatusCode::BAD_REQUEST).detail(detail).into()
    })
}
