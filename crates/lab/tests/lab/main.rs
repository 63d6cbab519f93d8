//! `lab` from outside, on the real components.
//!
//! Where a component is not installed, the tests that need it say so and pass, except in CI (`CI`
//! is set), where that is a failure.
#![cfg(test)]

mod alerting;
mod canary;
mod chaos;
mod cluster;
mod conformance;
mod console;
mod dashboards;
mod dead_letters;
mod drill;
mod jaeger;
mod linked;
mod oncall;
mod playbook;
mod refusals;
mod retention;
mod rules;
mod running;
mod screenshots;
mod slo;
mod viewer;
mod whole_stack;
