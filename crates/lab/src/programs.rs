//! Our own programs, carried by this binary so that one `cargo run` builds and starts them all.

use std::{ffi::OsString, process::ExitCode};

/// One of our programs with its own command line.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Program {
    /// Demo API
    #[command(name = "flask-api-1", alias = "flask-api-2", alias = "flask-api")]
    FlaskApi(Box<flask_api::Args>),
    /// The service the API depends on
    Payments(Box<payments::Args>),
    /// Business metrics of the shop
    CustomFlaskExporter(Box<custom_flask_exporter::Args>),
    /// The pages people look at, and stand-ins for Slack, PagerDuty and a mail server
    Console(Box<::console::Args>),
    /// Load generator
    Loadgen(Box<loadgen::Args>),
}

impl Program {
    /// Runs it to its end.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::FlaskApi(args) => flask_api::run(*args),
            Self::Payments(args) => payments::run(*args),
            Self::CustomFlaskExporter(args) => custom_flask_exporter::run(*args),
            Self::Console(args) => ::console::run(*args),
            Self::Loadgen(args) => loadgen::run(*args),
        }
    }
}

/// Runs one of our services the way it runs as a program of its own, which tells every mistake of its settings at once;
/// `None` when the command line asks for something else.
pub(crate) fn service(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != "component" {
        return None;
    }
    let name = arguments.next()?;
    let arguments = std::iter::once(name.clone()).chain(arguments);
    match name.to_str()? {
        "flask-api" | "flask-api-1" | "flask-api-2" => {
            Some(service::settings::start_with(arguments, flask_api::run))
        }
        "payments" => Some(service::settings::start_with(arguments, payments::run)),
        _ => None,
    }
}
