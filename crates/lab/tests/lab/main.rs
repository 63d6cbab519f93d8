//! `lab` from outside, on the real components.
//!
//! Where a component is not installed, the tests that need it say so and pass, except in CI (`CI`
//! is set), where that is a failure.
#![cfg(test)]

mod alerting;
mod canary;
mod chaos;
mod cluster;
mod compose;
mod conformance;
mod console;
mod dashboards;
mod dead_letters;
mod drill;
mod golden;
mod jaeger;
mod kibana;
mod labs;
mod linked;
mod logstash;
mod oncall;
mod playbook;
mod pods;
mod refusals;
mod retention;
mod rules;
mod running;
mod screenshots;
mod setup_script;
mod shippers;
mod slo;
mod viewer;
mod whole_stack;
