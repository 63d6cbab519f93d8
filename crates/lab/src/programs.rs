//! Our own programs, carried by this binary so that one `cargo run` builds and starts them all.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

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
        bound_own_log();
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
    bound_own_log();
    match name.to_str()? {
        "flask-api" | "flask-api-1" | "flask-api-2" => {
            Some(service::settings::start_with(arguments, flask_api::run))
        }
        "payments" => Some(service::settings::start_with(arguments, payments::run)),
        _ => None,
    }
}

/// Between two looks at the size of one's own log.
const LOOK: Duration = Duration::from_millis(500);

/// Has a service whose output is a log file of a lab begin the next file when this one is large. Nobody else can without losing lines:
/// a file that is renamed is still the one that is written to, and one that is cut may be cut behind a line that nobody has read.
fn bound_own_log() {
    let [file, bytes] = stack::OWN_LOG.map(std::env::var_os);
    let (Some(path), Some(limit)) = (
        file.map(PathBuf::from),
        bytes.and_then(|it| it.to_str()?.parse().ok()),
    ) else {
        return;
    };
    let watch = move || {
        loop {
            std::thread::sleep(LOOK);
            // A full disk, say: it goes on in the same file.
            let _ = begin_next(&path, limit);
        }
    };
    // Without it the file grows, which is no reason not to serve.
    let _ = std::thread::Builder::new()
        .name("log-file".into())
        .spawn(watch);
}

fn begin_next(path: &Path, limit: u64) -> io::Result<()> {
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()?;
    match std::fs::metadata(path) {
        // It was set aside, and the next could not be made then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(named) => {
            let is_ours = (output.dev(), output.ino()) == (named.dev(), named.ino());
            if !is_ours || named.len() <= limit {
                return Ok(());
            }
            stack::set_aside(path)?;
        }
    }
    let next = OpenOptions::new().create(true).append(true).open(path)?;
    // One step of the kernel each: a line goes to the one file or to the other.
    nix::unistd::dup2_stdout(&next)?;
    nix::unistd::dup2_stderr(&next)?;
    Ok(())
}
