//! The `loadgen` program: see `loadgen --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    loadgen::run(loadgen::Args::parse())
}
