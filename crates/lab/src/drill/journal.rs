//! What has been done to a lab and is to be undone: on disk before it is done, so that the next drill mends what a killed
//! one left.

use std::{
    cell::RefCell,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stack::Layout;

use super::act::Scene;
use crate::place::Usage;

/// How one act is undone. Doing it twice, or when nothing was done, is no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// DELETE at the admin port of a component.
    StopFault { component: String, fault: String },
    /// SIGCONT.
    Continue(String),
    /// A file that lies aside.
    PutBack { file: PathBuf, aside: PathBuf },
    /// A file or a directory.
    Remove(PathBuf),
    /// POST /-/reload at this address.
    Reload(String),
    /// Any other request.
    Request {
        url: String,
        method: String,
        body: Option<Value>,
    },
}

/// Whose acts an entry belongs to: an exercise, or the drill as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Drill,
    Exercise(&'static str),
}

#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    owner: Owner,
    undo: Undo,
}

/// The list, oldest first.
#[derive(Debug)]
pub(super) struct Journal {
    /// Locked: one drill at a time. The lock belongs to the system, and ends with the process.
    _lock: File,
    file: PathBuf,
    entries: RefCell<Vec<Entry>>,
}

impl Journal {
    /// The list of a lab, with what an earlier drill left in it.
    ///
    /// # Errors
    /// When another drill is running there.
    pub(super) fn open(layout: &Layout) -> anyhow::Result<Self> {
        let lock = layout.data().join("drill.lock");
        let lock =
            File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Usage(
                    "another drill is running on this lab; wait for it, or end it with Ctrl-C"
                        .into(),
                )
                .into());
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the drill"),
        }
        let file = layout.data().join("drill.json");
        let left: Vec<Undo> = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let entries = (0..).zip(left).map(|(number, undo)| Entry {
            number,
            owner: Owner::Drill,
            undo,
        });
        Ok(Self {
            _lock: lock,
            file,
            entries: RefCell::new(entries.collect()),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Writes down how something is undone that is about to be done.
    pub(super) fn note(&self, owner: Owner, undo: Undo) -> anyhow::Result<()> {
        {
            let mut entries = self.entries.borrow_mut();
            let number = entries.last().map_or(0, |last| last.number + 1);
            entries.push(Entry {
                number,
                owner,
                undo,
            });
        }
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let entries = self.entries.borrow();
        let saved = if entries.is_empty() {
            match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let undo: Vec<&Undo> = entries.iter().map(|entry| &entry.undo).collect();
            let partial = self.file.with_extension("partial");
            std::fs::write(&partial, serde_json::to_vec(&undo)?)
                .and_then(|()| std::fs::rename(&partial, &self.file))
        };
        saved.with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Undoes what one owner did, or everything, the last first. Goes on past what fails, and says so at the end.
    pub(super) async fn undo(&self, owner: Option<Owner>, scene: &Scene) -> anyhow::Result<()> {
        let mut faults = Vec::new();
        loop {
            let next = {
                let entries = self.entries.borrow();
                let mut mine = entries.iter().rev();
                mine.find(|entry| owner.is_none_or(|owner| owner == entry.owner))
                    .cloned()
            };
            let Some(entry) = next else { break };
            if let Err(error) = scene.undo(&entry.undo).await {
                faults.push(format!("{error:#}"));
            }
            // Only now: whoever is interrupted before does it again.
            self.entries
                .borrow_mut()
                .retain(|other| other.number != entry.number);
            self.save()?;
        }
        match faults.is_empty() {
            true => Ok(()),
            false => bail!("could not be undone: {}", faults.join("; ")),
        }
    }
}

/// A name under which a file can lie while another is in its place.
pub(super) fn aside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default();
    let mut number = 1;
    loop {
        let mut aside = name.to_owned();
        aside.push(format!(".before-drill-{number}"));
        let aside = file.with_file_name(aside);
        if aside.symlink_metadata().is_err() {
            return aside;
        }
        number += 1;
    }
}
