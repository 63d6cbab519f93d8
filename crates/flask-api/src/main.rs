//! The demo service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::settings::start(flask_api::run)
}
