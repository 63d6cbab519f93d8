//! Telemetry spoilt on purpose, to learn what is left of it: spans that vanish, a trace context that does not
//! arrive, lines that are no JSON. Whoever may start such a fault decides elsewhere; here it is done.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::trace::SpanData;

use crate::log_writer::LogWriter;

/// Attribute of a span that is to vanish, whatever the share.
pub const SPAN_TO_LOSE: &str = "chaos.span_to_lose";

/// In a [`Context`], as a value of it: what this context is injected into gets no usable trace context.
#[derive(Debug, Clone, Copy)]
pub struct BrokenContext;

/// What arrives in place of a trace context.
const NOT_A_TRACEPARENT: &str = "00-not-a-trace-01";

/// Spoils the telemetry of this process; clones are one. It does nothing until told to.
#[derive(Debug, Clone, Default)]
pub struct Sabotage(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether any span may be one to lose.
    armed: AtomicBool,
    /// The share of spans to lose, as the bits of an `f64`.
    lost_share: AtomicU64,
    log: OnceLock<LogWriter>,
}

impl Sabotage {
    pub(crate) fn new(log: LogWriter) -> Self {
        let sabotage = Self::default();
        let _ = sabotage.0.log.set(log);
        sabotage
    }

    /// From now on spans with the attribute [`SPAN_TO_LOSE`] vanish.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::Relaxed);
    }

    /// Loses this share of the spans that end from now on, each by itself. They count as sampled and dropped.
    pub fn lose_spans(&self, share: f64) {
        self.0.lost_share.store(share.to_bits(), Ordering::Relaxed);
        self.arm();
    }

    /// Puts bytes into the log as they are, in the order of the lines around them.
    pub fn write_to_log(&self, bytes: &[u8]) {
        use std::io::Write as _;
        if let Some(log) = self.0.log.get() {
            // The queue never fails.
            let _ = log.clone().write(bytes);
        }
    }

    pub(crate) fn loses(&self, span: &SpanData) -> bool {
        if !self.0.armed.load(Ordering::Relaxed) {
            return false;
        }
        let share = f64::from_bits(self.0.lost_share.load(Ordering::Relaxed));
        // The last digits of a span's id are as random as any, and the decision can be made again from them.
        let id = u64::from_be_bytes(span.span_context.span_id().to_bytes());
        (id as f64) < share * u64::MAX as f64
            || span
                .attributes
                .iter()
                .any(|attribute| attribute.key.as_str() == SPAN_TO_LOSE)
    }
}

/// A propagator that sends nonsense where a [`BrokenContext`] asks for it.
#[derive(Debug)]
pub(crate) struct Breakable<P>(pub(crate) P);

impl<P: TextMapPropagator> TextMapPropagator for Breakable<P> {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        match context.get::<BrokenContext>() {
            Some(BrokenContext) => injector.set("traceparent", NOT_A_TRACEPARENT.to_owned()),
            None => self.0.inject_context(context, injector),
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        self.0.extract_with_context(context, extractor)
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    };
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    use super::*;

    #[test]
    fn a_broken_context_is_sent_as_one_and_taken_for_none() {
        let propagator = Breakable(TraceContextPropagator::new());
        let context = Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(1),
            SpanId::from(2),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        ));
        let arrives = |context: &Context| {
            let mut headers = HashMap::new();
            propagator.inject_context(context, &mut headers);
            assert!(headers.contains_key("traceparent"));
            let received = propagator.extract_with_context(&Context::new(), &headers);
            received.span().span_context().trace_id()
        };
        assert_eq!(arrives(&context), TraceId::from(1));
        let broken = context.with_value(BrokenContext);
        assert_eq!(arrives(&broken), TraceId::INVALID);
    }
}
