//! Service level objectives: a specification in Sloth's `prometheus/v1` format in, Prometheus rules out.
//!
//! - [`Specification::parse`] reads a file strictly: what it does not know it refuses, with the place and the cure.
//! - [`Clock`] says how long a window is: as the specification means it, or compressed for a lesson.
//! - [`render`] writes the recordings of the indicator, its metadata and the multi-window, multi-burn-rate
//!   alerts of the SRE workbook, chapter 5, under the names that Sloth gives them.
//!
//! `docs/slo.md` explains the mathematics and every difference to Sloth.

mod clock;
mod error;
mod query;
mod rules;
mod spec;

pub use clock::{BurnRate, Clock, burn_rates, period};
pub use error::{Error, Problem};
pub use rules::render;
pub use spec::{Objective, Specification};
