//! The demo service as a program of its own.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    flask_api::run(flask_api::Args::parse())
}
