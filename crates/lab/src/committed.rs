//! Files that are made from others and committed all the same, so that nothing has to be rendered
//! before it can be deployed.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use similar::TextDiff;

use crate::place::Usage;

/// One of them.
pub(crate) struct Committed<'a> {
    /// Where it stands.
    pub(crate) file: &'a Path,
    /// What it is made from, in words.
    pub(crate) sources: &'a str,
    /// What makes it.
    pub(crate) command: &'a str,
}

impl Committed<'_> {
    /// Says whether the file is what it would be made to, and shows the difference.
    pub(crate) fn check(&self, rendered: &str) -> ExitCode {
        // A file that is not there differs in every line.
        let old = std::fs::read_to_string(self.file).unwrap_or_default();
        let Self {
            file,
            sources,
            command,
        } = self;
        if old == rendered {
            println!("{} is what {sources} say", file.display());
            return ExitCode::SUCCESS;
        }
        let diff = TextDiff::from_lines(old.as_str(), rendered);
        print!("{}", diff.unified_diff().header("committed", "rendered"));
        eprintln!(
            "{} is not what {sources} say; run `{command}`",
            file.display()
        );
        ExitCode::from(1)
    }
}

/// Writes a rendered file and says so.
pub(crate) fn write(file: &Path, rendered: &str) -> anyhow::Result<()> {
    std::fs::write(file, rendered).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

/// Reads what something is made from.
pub(crate) fn read(file: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(file)
        .map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))
}
