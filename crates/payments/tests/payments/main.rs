//! The program as others meet it: a process with two ports, a log and an exit code.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails where the trouble is"
)]

mod api;
mod process;
mod program;
