//! What every component is doing: kept by the supervisor, written down for other processes.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Component, Error, Layout, Ports, layout::write_atomically, process::rss_by_group};

/// State of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Being installed, waiting for others, or not ready yet.
    Starting,
    /// Its health page answers.
    Ready,
    /// Not on this machine.
    Absent,
    /// Did not start, or died.
    Failed,
    /// Ended with the lab.
    Stopped,
}

impl State {
    /// Whether it stays so unless something happens to it.
    pub fn is_settled(self) -> bool {
        self != Self::Starting
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// One component of a lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name in the table.
    pub name: String,
    /// What it is for.
    pub role: String,
    /// What it is doing.
    pub state: State,
    /// What exactly: the step of an installation, the reason of a failure, how to get it.
    pub detail: Option<String>,
    /// Last lines of its log, when it has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// Done and total of an installation step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u64, u64)>,
    /// Leader of its process group.
    pub pid: Option<u32>,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Resident memory of all its processes now.
    pub rss_bytes: u64,
    /// Its version.
    pub version: Option<String>,
    /// Its output.
    pub log: Option<PathBuf>,
    /// From being started to being ready, in milliseconds.
    pub ready_after_ms: Option<u64>,
}

/// All components of a lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// The supervising process.
    pub lab_pid: u32,
    /// Seconds since the epoch at which it started.
    pub started_at: u64,
    /// As given with `--port-offset`.
    pub port_offset: u16,
    /// The project whose configuration it runs.
    pub project: PathBuf,
    /// One each.
    pub components: Vec<Status>,
}

impl Board {
    pub(crate) fn new(layout: &Layout, ports: Ports, components: &[&'static Component]) -> Self {
        let status = |component: &&'static Component| Status {
            name: component.name.into(),
            role: component.role.into(),
            state: State::Starting,
            detail: None,
            last_lines: Vec::new(),
            part: None,
            pid: None,
            ports: ports.of(component),
            rss_bytes: 0,
            version: None,
            log: None,
            ready_after_ms: None,
        };
        Self {
            lab_pid: std::process::id(),
            started_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            port_offset: ports.offset(),
            project: layout.config(""),
            components: components.iter().map(status).collect(),
        }
    }

    /// Of a lab that runs and has not said anything yet.
    fn unknown(layout: &Layout, lab_pid: u32) -> Self {
        Self {
            lab_pid,
            started_at: 0,
            port_offset: 0,
            project: layout.config(""),
            components: Vec::new(),
        }
    }

    /// A component by name.
    pub fn get(&self, name: &str) -> Option<&Status> {
        self.components.iter().find(|status| status.name == name)
    }

    /// Whether every component has got as far as it will by itself.
    pub fn is_settled(&self) -> bool {
        self.components
            .iter()
            .all(|status| status.state.is_settled())
    }

    /// Reads the memory of every component now.
    pub fn measure(&mut self) {
        let groups = rss_by_group();
        for status in &mut self.components {
            status.rss_bytes = status
                .pid
                .and_then(|pid| groups.get(&pid).copied())
                .unwrap_or(0);
        }
    }

    /// Resident memory of all components and of the lab itself, as last measured.
    pub fn total_rss(&self) -> u64 {
        let own = procfs::process::Process::new(self.lab_pid.cast_signed())
            .and_then(|process| process.stat());
        let own = own.map_or(0, |stat| stat.rss * procfs::page_size());
        self.components
            .iter()
            .map(|status| status.rss_bytes)
            .sum::<u64>()
            + own
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let json =
            serde_json::to_vec_pretty(self).expect("a board of strings and numbers is always JSON");
        write_atomically(path, &json)
    }
}

/// What is known of the lab on a data directory.
#[derive(Debug)]
pub enum Lab {
    /// None has ever run there.
    Never,
    /// It has ended; whatever it left on its board is history.
    Ended(Board),
    /// It runs.
    Running(Board),
}

impl Lab {
    /// The process of the lab that runs on the layout's data directory, if one does.
    pub fn process(layout: &Layout) -> Option<u32> {
        lock_holder(&layout.lock_file())
    }

    /// Looks at the lab on the layout's data directory. Whether it runs is told by its lock, which the
    /// system takes back however the lab ends.
    pub fn look(layout: &Layout) -> Self {
        let board = std::fs::read(layout.state_file())
            .ok()
            .and_then(|json| serde_json::from_slice::<Board>(&json).ok());
        let holder = lock_holder(&layout.lock_file());
        let mut board = match (board, holder) {
            // A board of an earlier lab lies there for the moment between a new lab's lock and its
            // first word; a damaged one is written anew with the next change.
            (Some(mut board), Some(pid)) if board.lab_pid == pid => {
                board.measure();
                return Self::Running(board);
            }
            (_, Some(pid)) => return Self::Running(Board::unknown(layout, pid)),
            (Some(board), None) => board,
            (None, None) => return Self::Never,
        };
        for status in &mut board.components {
            if status.state != State::Absent {
                status.state = State::Stopped;
            }
            status.pid = None;
        }
        Self::Ended(board)
    }
}

/// The process that holds the lock of a data directory.
pub(crate) fn lock_holder(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut file, &mut text).ok()?;
            text.trim().parse().ok()
        }
        _ => None,
    }
}
