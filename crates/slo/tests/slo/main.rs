//! Specifications in, rules out: golden files for what is rendered, and every refusal with its reason.
#![cfg(test)]

mod golden;
mod refusals;
