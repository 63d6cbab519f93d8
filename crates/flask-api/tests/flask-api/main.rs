//! The service as its users meet it: a real server, a real SQLite file or PostgreSQL server, payments over HTTP.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod cancelling;
mod catalogue;
#[path = "../../../telemetry/tests/telemetry/collector.rs"]
#[allow(dead_code, reason = "the tests of telemetry use the rest of it")]
mod collector;
mod database_trouble;
mod faults;
mod fixture;
mod harness;
mod idempotency;
mod listing;
mod metrics;
mod model;
mod openapi;
mod placing;
mod postgres;
mod pressure;
mod program;
mod resilience;
mod store;
mod tracing_spans;
