//! The payments service; see `payments --help`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    payments::run(payments::Args::parse())
}
