//! The on-call rotation: who is on call at an instant, proof that always somebody is, and the same said to
//! Alertmanager and to PagerDuty.
//!
//! - [`Roster::parse`] reads `alertmanager/oncall.yaml` strictly and names every mistake with place and cure.
//! - [`Roster::who`] answers for one instant, [`Roster::segments`] for a stretch of time, by its boundaries.
//! - [`Roster::coverage`] proves that each role has exactly one person throughout.
//! - [`alertmanager::splice`] writes time intervals and routes into a configuration of Alertmanager.
//! - [`pagerduty::schedule`] and [`pagerduty::overrides`] are bodies of PagerDuty's REST API.
//!
//! Nothing here reads a clock or a file. `docs/oncall.md` explains the rules.

pub mod alertmanager;
mod coverage;
mod error;
pub mod pagerduty;
mod read;
mod roster;

pub use coverage::{ClockChange, Coverage, Finding, Kind, Load};
pub use error::{Error, Mistake};
pub use roster::{Claim, OnCall, Role, Roster, Segment};
