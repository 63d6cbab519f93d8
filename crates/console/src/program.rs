//! The program that carries out what takes longer than a page: `lab`, called for the lab that the console is a part of.

use std::{ffi::OsString, path::PathBuf};

use stack::Layout;
use tokio::process::Command;

/// Where it lies, and where it works.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    file: PathBuf,
    place: Vec<OsString>,
}

impl Program {
    /// The one named, or this one.
    pub(crate) fn new(lab: &Layout, file: Option<PathBuf>) -> Option<Self> {
        let file = file.or_else(|| std::env::current_exe().ok())?;
        let place = [
            ("--project", lab.config("")),
            ("--data-dir", lab.data().to_owned()),
            ("--cache-dir", lab.cache().to_owned()),
        ];
        let place = place.into_iter();
        Some(Self {
            file,
            place: place
                .flat_map(|(option, path)| [option.into(), path.into()])
                .collect(),
        })
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.args(&self.place);
        command
    }
}
