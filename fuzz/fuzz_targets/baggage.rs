//! `baggage` as a stranger sends it: bounded, and what comes out can be read again.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use opentelemetry::{Context, baggage::BaggageExt as _, propagation::TextMapPropagator as _};
use opentelemetry_sdk::propagation::BaggagePropagator;

fuzz_target!(|text: &str| {
    let propagator = BaggagePropagator::new();
    let headers = HashMap::from([("baggage".to_owned(), text.to_owned())]);
    let context = propagator.extract_with_context(&Context::new(), &headers);
    let entries = context.baggage().len();
    // W3C Baggage, 3.3.2: what everybody has to carry, and this library's limit.
    assert!(entries <= 180);
    let mut sent = HashMap::new();
    propagator.inject_context(&context, &mut sent);
    let _ = propagator.extract_with_context(&Context::new(), &sent);
});
