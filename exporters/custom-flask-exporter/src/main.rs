//! `custom-flask-exporter`: the shop's database as Prometheus metrics.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    custom_flask_exporter::run(custom_flask_exporter::Args::parse())
}
