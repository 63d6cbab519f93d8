//! The load generator against real servers.

mod counts;
mod journey;
mod open_loop;
mod program;
mod signals;
mod target;
mod telling;
mod usage;
