//! Trace context of requests: which of them carry one, and the client span behind it.
//!
//! With an OTLP endpoint configured, each traced request has a client span of our own and the
//! sampler decides what its `traceparent` says. Without one there is nobody to send spans to: the
//! header is made here, and sampled, so that the servers' side of it can be looked up by its id.

use std::borrow::Cow;
use std::fmt;

use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute as semconv;

use crate::outcome::{End, Failure};
use crate::traffic::Shot;
use crate::transport::Target;

/// Starts client spans.
pub struct ClientSpans {
    tracer: Option<BoxedTracer>,
}

impl fmt::Debug for ClientSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSpans")
            .field("recorded", &self.tracer.is_some())
            .finish()
    }
}

impl ClientSpans {
    /// Spans through the process-wide tracer provider, if the environment names a place to send them.
    pub fn from_environment() -> Self {
        let configured = [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_TRACES_EXPORTER",
        ]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        Self {
            tracer: configured.then(|| global::tracer("loadgen")),
        }
    }

    /// The span of a request that is about to be sent: a root, because nothing caused it but the schedule.
    pub fn start(&self, shot: &Shot, target: &Target) -> ClientSpan {
        let span = self.tracer.as_ref().map(|tracer| {
            let span = tracer
                .span_builder(name(shot))
                .with_kind(SpanKind::Client)
                .with_attributes(attributes(shot, target))
                .start_with_context(tracer, &Context::new());
            (span.span_context().clone(), span)
        });
        match span {
            Some((context, span)) if context.is_valid() => ClientSpan {
                context,
                span: Some(span),
            },
            // No endpoint, or telemetry was told not to trace.
            _ => ClientSpan {
                context: made_up(),
                span: None,
            },
        }
    }
}

fn made_up() -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(rand::random()),
        SpanId::from_bytes(rand::random()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

fn name(shot: &Shot) -> Cow<'static, str> {
    match &shot.template {
        Some(template) => format!("{} {template}", shot.method).into(),
        None => shot.method.to_string().into(),
    }
}

fn attributes(shot: &Shot, target: &Target) -> Vec<KeyValue> {
    let url = format!("{}://{}{}", target.scheme, target.authority, shot.path);
    let mut attributes = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, shot.method.to_string()),
        KeyValue::new(semconv::SERVER_ADDRESS, target.host.clone()),
        KeyValue::new(semconv::SERVER_PORT, i64::from(target.port)),
        KeyValue::new(semconv::URL_FULL, url),
    ];
    attributes.extend(
        shot.template
            .as_ref()
            .map(|template| KeyValue::new(semconv::URL_TEMPLATE, template.to_string())),
    );
    attributes
}

/// The span of one request, from just before it is sent to [`ClientSpan::end`].
#[derive(Debug)]
pub struct ClientSpan {
    context: SpanContext,
    span: Option<BoxedSpan>,
}

impl ClientSpan {
    /// The W3C header, <https://www.w3.org/TR/trace-context/>.
    pub fn traceparent(&self) -> String {
        let context = &self.context;
        format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags()
        )
    }

    /// The trace, when it is sampled and so can be looked up.
    pub fn recorded_trace(&self) -> Option<TraceId> {
        self.context.is_sampled().then(|| self.context.trace_id())
    }

    /// Ends the span with what became of the request.
    pub fn end(self, end: &End) {
        let Some(mut span) = self.span else { return };
        let error = match end {
            End::Answered { status, .. } => {
                span.set_attribute(KeyValue::new(
                    semconv::HTTP_RESPONSE_STATUS_CODE,
                    i64::from(status.as_u16()),
                ));
                // To a client both mean that it did not get what it asked for.
                (status.is_client_error() || status.is_server_error())
                    .then(|| (Cow::from(status.as_u16().to_string()), String::new()))
            }
            End::TimedOut => Some(("timeout".into(), "no whole answer in time".to_owned())),
            End::Failed(failure, message) => {
                Some((Failure::name(*failure).into(), message.clone()))
            }
        };
        if let Some((kind, description)) = error {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, kind.into_owned()));
            span.set_status(Status::error(description));
        }
        span.end();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{HeaderMap, Method, StatusCode};
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};

    use super::*;
    use crate::traffic::Draft;
    use crate::transport::{Connector, Way};

    fn connector() -> Connector {
        let url = "http://127.0.0.1:5000".parse().expect("a URL");
        Connector::new(&[url], &Way::default()).expect("an address needs no look-up")
    }

    /// The span of a request that is about to be sent.
    fn start(spans: &ClientSpans, template: Option<&str>) -> ClientSpan {
        let connector = connector();
        let draft = Draft {
            target: 0,
            method: Method::GET,
            path: "/api/products/3?x=1".to_owned(),
            template: template.map(Into::into),
            route: 0,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            keep: false,
            expect: None,
        };
        let target = &connector.targets()[0];
        spans.start(&draft.finish(target, true), target)
    }

    fn answered(status: StatusCode) -> End {
        End::Answered { status, good: true }
    }

    fn through_the_sdk(sampler: Sampler) -> (ClientSpans, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(sampler)
            .build();
        (
            ClientSpans {
                tracer: Some(BoxedTracer::new(Box::new(provider.tracer("loadgen")))),
            },
            exporter,
        )
    }

    fn attributes_of(span: &SpanData) -> BTreeMap<String, String> {
        span.attributes
            .iter()
            .map(|pair| (pair.key.to_string(), pair.value.to_string()))
            .collect()
    }

    fn only(exporter: &InMemorySpanExporter) -> SpanData {
        let spans = exporter
            .get_finished_spans()
            .expect("an exporter in memory");
        assert_eq!(spans.len(), 1);
        spans[0].clone()
    }

    #[test]
    fn a_recorded_request_has_a_client_span_that_the_header_names() {
        let (spans, exporter) = through_the_sdk(Sampler::AlwaysOn);
        let span = start(&spans, Some("/api/products/{id}"));
        let header = span.traceparent();
        let trace = span.recorded_trace().expect("it is sampled");
        span.end(&answered(StatusCode::OK));

        let span = only(&exporter);
        assert_eq!(span.name, "GET /api/products/{id}");
        assert_eq!(span.span_kind, SpanKind::Client);
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_eq!(
            header,
            format!("00-{trace}-{}-01", span.span_context.span_id())
        );
        assert_eq!(span.status, Status::Unset);
        let expected = [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", "5000"),
            ("url.full", "http://127.0.0.1:5000/api/products/3?x=1"),
            ("url.template", "/api/products/{id}"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(attributes_of(&span), BTreeMap::from(expected));
    }

    #[test]
    fn what_went_wrong_is_on_the_span() {
        for (end, kind) in [
            (answered(StatusCode::NOT_FOUND), "404"),
            (answered(StatusCode::INTERNAL_SERVER_ERROR), "500"),
            (End::TimedOut, "timeout"),
            (
                End::Failed(Failure::Connect, "refused".to_owned()),
                "connect",
            ),
        ] {
            let (spans, exporter) = through_the_sdk(Sampler::AlwaysOn);
            start(&spans, None).end(&end);
            let span = only(&exporter);
            assert_eq!(span.name, "GET");
            assert_eq!(attributes_of(&span)["error.type"], kind);
            assert!(matches!(span.status, Status::Error { .. }), "{end:?}");
        }
    }

    #[test]
    fn the_samplers_decision_is_in_the_header() {
        let (spans, exporter) = through_the_sdk(Sampler::AlwaysOff);
        let span = start(&spans, None);
        assert!(
            span.traceparent().ends_with("-00"),
            "{}",
            span.traceparent()
        );
        assert_eq!(span.recorded_trace(), None);
        span.end(&End::TimedOut);
        assert!(
            exporter
                .get_finished_spans()
                .expect("an exporter in memory")
                .is_empty()
        );
    }

    #[test]
    fn without_an_exporter_the_header_is_made_up_anew_and_sampled() {
        let spans = ClientSpans { tracer: None };
        let (first, second) = (start(&spans, None), start(&spans, None));
        assert_ne!(first.traceparent(), second.traceparent());
        let parts: Vec<_> = first.traceparent().split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
        assert!(first.traceparent().ends_with("-01"));
        assert!(first.recorded_trace().is_some());
    }
}
