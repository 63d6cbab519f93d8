//! `traceparent` and `tracestate` as a stranger sends them: a valid context comes out as it went in.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use opentelemetry::{Context, propagation::TextMapPropagator as _, trace::TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

fuzz_target!(|text: &str| {
    let propagator = TraceContextPropagator::new();
    let (parent, state) = text.split_once('\n').unwrap_or((text, ""));
    let headers = HashMap::from([
        ("traceparent".to_owned(), parent.to_owned()),
        ("tracestate".to_owned(), state.to_owned()),
    ]);
    let context = propagator.extract_with_context(&Context::new(), &headers);
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return;
    }
    let mut sent = HashMap::new();
    propagator.inject_context(&context, &mut sent);
    let again = propagator.extract_with_context(&Context::new(), &sent);
    let again = again.span().span_context().clone();
    assert_eq!(again.trace_id(), span.trace_id());
    assert_eq!(again.span_id(), span.span_id());
    assert_eq!(again.is_sampled(), span.is_sampled());
});
