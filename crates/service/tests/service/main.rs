//! A real service on free ports, seen by its clients, its scraper and its collector.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails where the trouble is"
)]

mod faults;
mod harness;
mod lifecycle;
mod limits;
mod metrics;
mod problems;
mod smuggling;
mod tls;
mod traces;
