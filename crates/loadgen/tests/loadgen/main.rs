//! The load generator against real servers.

#![cfg(test)]

mod counts;
mod endings;
mod journey;
mod open_loop;
mod program;
mod protocols;
mod results;
mod scenario;
mod shop;
mod signals;
mod target;
mod telling;
mod usage;
