//! The payments service; see `payments --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::settings::start(payments::run)
}
