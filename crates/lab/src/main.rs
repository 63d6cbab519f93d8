//! `lab`: brings the stack up, proves it, takes it down.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lab::run(lab::Cli::parse())
}
