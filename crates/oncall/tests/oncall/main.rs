//! The rotation from outside: what it says, what it refuses, and whether Alertmanager understands the same.
#![cfg(test)]

mod coverage;
mod evaluator;
mod pagerduty;
mod reading;
mod rendering;
mod rosters;
mod who;
