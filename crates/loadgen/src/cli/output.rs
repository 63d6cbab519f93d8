//! Where results go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::CannotStart;
use crate::threshold::Threshold;

/// What to do with a result.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Result")]
pub struct ResultArgs {
    /// Write the result as JSON to this file; "-" is standard output, and the table goes to standard error then
    #[arg(long, value_name = "FILE", env = "LOADGEN_JSON")]
    pub json: Option<PathBuf>,

    /// Write the result as a page for browsers to this file, with plots; it needs no other file
    #[arg(long, value_name = "FILE", env = "LOADGEN_HTML")]
    pub html: Option<PathBuf>,

    /// Fail (exit status 1) when the result does not come up to this, such as 'p99 < 50ms'; may be repeated (forms below)
    #[arg(
        long = "threshold",
        value_name = "BOUND",
        env = "LOADGEN_THRESHOLDS",
        value_delimiter = ','
    )]
    pub thresholds: Vec<Threshold>,
}

impl ResultArgs {
    /// Opens what is to be written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(&self) -> Result<Outputs, CannotStart> {
        Ok(Outputs {
            json: self.json.as_deref().map(Output::json).transpose()?,
            html: self.html.as_deref().map(Output::html).transpose()?,
        })
    }
}

/// Where one result goes, beside the terminal.
#[derive(Debug)]
pub struct Outputs {
    /// For programs.
    pub json: Option<Output>,
    /// For browsers.
    pub html: Option<Output>,
}

/// Where a result goes, proven writable before the run: nobody wants to learn of it after an hour of load.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file, open, and the flag that named it.
    File(PathBuf, File, &'static str),
}

impl Output {
    /// The file of `--json`, or standard output for "-".
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(path: &Path) -> Result<Self, CannotStart> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        Self::file(path, "--json")
    }

    /// The file of `--html`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn html(path: &Path) -> Result<Self, CannotStart> {
        Self::file(path, "--html")
    }

    /// Opens `path` and leaves its content alone until there is a result.
    fn file(path: &Path, flag: &'static str) -> Result<Self, CannotStart> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| CannotStart::Output {
                path: path.to_owned(),
                flag,
                source,
            })?;
        Ok(Self::File(path.to_owned(), file, flag))
    }

    /// Writes the result.
    ///
    /// # Errors
    /// When it cannot be written after all.
    pub fn write(self, text: &str) -> Result<(), CannotStart> {
        match self {
            Self::Stdout => Ok(writeln!(io::stdout(), "{text}")?),
            Self::File(path, mut file, flag) => {
                // A pipe or a device cannot be cut, and need not be.
                let _ = file.set_len(0);
                writeln!(file, "{text}").map_err(|source| CannotStart::Output {
                    path,
                    flag,
                    source,
                })
            }
        }
    }
}
