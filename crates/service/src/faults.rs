//! Faults on purpose: off unless a token is given, each with an end, none touching probes or `/metrics`.
//!
//! [`table`] says what there is, [`Faults`] knows what is active, `pages` is `/chaos` on the admin port,
//! `request` does to a request what active faults, or its own `X-Fault` header, ask for, and `effects`
//! is what needs a thread.

mod effects;
mod engine;
mod latency;
mod pages;
mod request;
mod table;
mod token;

pub use engine::{Active, Faults};
pub use request::BrokenDependency;
pub use table::{About, Fault, Kind, Mistake, Parameter, Settings, Value};
pub use token::Token;

pub(crate) use pages::pages;
pub(crate) use request::Plan;
