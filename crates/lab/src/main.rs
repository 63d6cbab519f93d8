//! `lab`: brings the stack up, proves it, takes it down.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::start()
}
