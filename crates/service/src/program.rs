//! From `main` to the exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use telemetry::Telemetry;

use crate::{Error, Stopped};

/// Runs a whole program: telemetry, runtime, `program`, and at the end what telemetry still holds.
///
/// Ends with 0 after an orderly stop, 1 when forced or failed, 2 for wrong settings and a port in
/// use, 3 when something needed is missing ([`Error::exit_code`]).
pub fn run(
    options: telemetry::Options,
    shutdown_timeout: Duration,
    program: impl AsyncFnOnce(&Telemetry) -> anyhow::Result<Stopped>,
) -> ExitCode {
    let telemetry = match telemetry::init(options) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let system = actix_web::rt::System::new();
    let outcome = system.block_on(program(&telemetry));
    let code = match &outcome {
        Ok(stopped) => u8::from(stopped.forced()),
        Err(error) => {
            let text = format!("{error:#}");
            tracing::error!(error.message = text, "cannot go on");
            complain(&text);
            error
                .chain()
                .find_map(|e| e.downcast_ref::<Error>())
                .map_or(1, Error::exit_code)
        }
    };
    // Outside the runtime, whose shutdown the exporter would otherwise wait for, and while the
    // admin port that `outcome` keeps open still answers.
    telemetry.shutdown(shutdown_timeout);
    drop(outcome);
    ExitCode::from(code)
}

/// Tells a person at a terminal; the log has it for everyone else.
pub(crate) fn complain(reason: &dyn std::fmt::Display) {
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "error: {reason}");
}
