//! Where a lab keeps its things on disk.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::Error;

/// Bytes that must be free under the data directory before a lab starts: Elasticsearch and
/// Prometheus write about this much in the first hours.
const NEEDED_FREE_BYTES: u64 = 512 * 1024 * 1024;

/// The directories of one lab: configuration it reads, data it owns, components it shares.
#[derive(Debug, Clone)]
pub struct Layout {
    config: PathBuf,
    data: PathBuf,
    cache: PathBuf,
}

impl Layout {
    /// `config` is the project's root (it holds `prometheus/`, `jaeger/`, `elk/`), `data` is this
    /// lab's own directory, `cache` is shared by every lab of the user.
    ///
    /// # Errors
    /// When `config` is not the project's root or a path cannot be made absolute.
    pub fn new(config: &Path, data: &Path, cache: &Path) -> Result<Self, Error> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| Error::Io {
                doing: "resolve",
                path: path.into(),
                source,
            })
        };
        let config = absolute(config)?;
        if !config.join("prometheus/prometheus.yml").is_file() {
            return Err(Error::NotAProject(config));
        }
        Ok(Self {
            config,
            data: absolute(data)?,
            cache: absolute(cache)?,
        })
    }

    /// A file of the project, for example `jaeger/config.yaml`.
    pub fn config(&self, file: &str) -> PathBuf {
        self.config.join(file)
    }

    /// This lab's own directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Installed third-party components, shared by every lab of the user.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// What `lab status` reads.
    pub fn state_file(&self) -> PathBuf {
        self.data.join("state.json")
    }

    /// Held locked by the running lab.
    pub fn lock_file(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// The secret with which faults are started; services read it, and `lab chaos` does.
    pub fn chaos_token_file(&self) -> PathBuf {
        self.data.join("chaos-token")
    }

    /// What the last `lab verify` found.
    pub fn verified_file(&self) -> PathBuf {
        self.data.join("verified.json")
    }

    /// What the last `lab check` of a lab found.
    pub fn checked_file(&self, lab: u8) -> PathBuf {
        self.data.join(format!("checked-{lab}.json"))
    }

    /// What lets Alertmanager in at Slack and PagerDuty, one file each.
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    /// Output of a detached lab itself.
    pub fn lab_log(&self) -> PathBuf {
        self.data.join("lab.log")
    }

    /// Logs of our own services, which the Collector ships; nothing else lies here.
    pub fn app_logs(&self) -> PathBuf {
        self.data.join("logs/app")
    }

    /// Output of the third-party components.
    pub fn component_logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// Configuration as one component sees it: links to the project's files and generated fragments.
    pub fn run_dir(&self, component: &str) -> PathBuf {
        self.data.join("run").join(component)
    }

    /// What one component stores.
    pub fn state_dir(&self, component: &str) -> PathBuf {
        self.data.join("state").join(component)
    }

    /// The shop's SQLite file, which both replicas and the exporter open.
    pub fn shop_database(&self) -> PathBuf {
        self.state_dir("shop").join("shop.db")
    }

    /// The certificate that the replicas of the API share, and its key.
    pub fn certificates(&self) -> PathBuf {
        self.data.join("state/tls")
    }

    /// Whether [`Layout::prepare`] is likely to succeed; changes nothing.
    ///
    /// # Errors
    /// When the nearest directory that exists cannot be written, or too little space is free.
    pub fn examine(&self) -> Result<(), Error> {
        let existing = self
            .data
            .ancestors()
            .find(|dir| dir.exists())
            .unwrap_or(&self.data);
        nix::unistd::access(
            existing,
            nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK,
        )
        .map_err(|errno| Error::DataDir {
            path: self.data.clone(),
            source: errno.into(),
        })?;
        self.check_space(existing)
    }

    fn check_space(&self, dir: &Path) -> Result<(), Error> {
        let fault = |errno: nix::errno::Errno| Error::DataDir {
            path: self.data.clone(),
            source: errno.into(),
        };
        let stat = nix::sys::statvfs::statvfs(dir).map_err(fault)?;
        let free = stat.blocks_available() * stat.fragment_size();
        if free < NEEDED_FREE_BYTES {
            return Err(Error::DiskFull {
                path: self.data.clone(),
                free_mib: free / (1024 * 1024),
                needed_mib: NEEDED_FREE_BYTES / (1024 * 1024),
            });
        }
        Ok(())
    }

    /// Makes the directories and proves that they can be written.
    ///
    /// # Errors
    /// When one cannot be made or written, or too little space is free.
    pub fn prepare(&self) -> Result<(), Error> {
        for dir in [
            self.data.clone(),
            self.app_logs(),
            self.state_dir("shop"),
            self.data.join("run"),
        ] {
            make_dir(&dir)?;
        }
        make_token(&self.chaos_token_file())?;
        let probe = self.data.join(".write-probe");
        std::fs::write(&probe, b"probe")
            .and_then(|()| std::fs::remove_file(&probe))
            .map_err(|source| Error::DataDir {
                path: self.data.clone(),
                source,
            })?;
        self.check_space(&self.data)
    }
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::DataDir {
        path: path.into(),
        source,
    })
}

/// Makes a secret for this user alone, unless there is one.
fn make_token(path: &Path) -> Result<(), Error> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let token = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    write_secret(path, &format!("{}{}", token[0].simple(), token[1].simple()))
}

/// Writes a secret that only this user can read, in one step.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    let fault = |source| Error::DataDir {
        path: path.into(),
        source,
    };
    let partial = path.with_extension("partial");
    remove_file(&partial).map_err(fault)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .map_err(fault)?;
    writeln!(file, "{secret}").map_err(fault)?;
    std::fs::rename(&partial, path).map_err(fault)
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory with all in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io {
            doing: "remove",
            path: dir.into(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Writes a file in one step: a reader sees the old content or the new, never half of it.
///
/// # Errors
/// When it cannot be written.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Error> {
    let fault = |source| Error::Io {
        doing: "write",
        path: path.into(),
        source,
    };
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).map_err(fault)?;
    std::fs::rename(&partial, path).map_err(fault)
}

/// The files of a directory with this ending, in any order.
pub(crate) fn files_in(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, Error> {
    let fault = |source| Error::Io {
        doing: "read",
        path: dir.into(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        if file
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            files.push(file);
        }
    }
    Ok(files)
}

/// Gives a log file another name, `payments.log.7`, so that the next can be begun; those set aside before stay.
///
/// # Errors
/// When it cannot be renamed.
pub fn set_aside(log: &Path) -> std::io::Result<()> {
    let dir = log.parent().unwrap_or(Path::new("."));
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let last = set_aside_files(dir)
        .iter()
        .filter_map(|file| {
            let other = file.path.file_name()?.to_str()?;
            other.strip_prefix(&*name)?.strip_prefix('.')?.parse().ok()
        })
        .max()
        .unwrap_or(0_u64);
    std::fs::rename(log, dir.join(format!("{name}.{}", last + 1)))
}

/// A log file that was set aside.
pub(crate) struct SetAside {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
    pub(crate) bytes: u64,
}

/// Whether it is called as [`set_aside`] calls them.
pub(crate) fn is_set_aside(path: &Path) -> bool {
    let number = path.extension().and_then(|it| it.to_str()).unwrap_or("");
    !number.is_empty()
        && number.bytes().all(|it| it.is_ascii_digit())
        && path
            .file_stem()
            .is_some_and(|stem| Path::new(stem).extension().is_some_and(|it| it == "log"))
}

/// All of a directory, the oldest first.
pub(crate) fn set_aside_files(dir: &Path) -> Vec<SetAside> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<SetAside> = entries
        .filter(|entry| is_set_aside(&entry.path()))
        .filter_map(|entry| {
            let file = entry.metadata().ok()?;
            Some(SetAside {
                path: entry.path(),
                modified: file.modified().ok()?,
                bytes: file.len(),
            })
        })
        .collect();
    files.sort_by_key(|file| file.modified);
    files
}

/// Makes `link` point at `file`, replacing what an earlier run left.
pub(crate) fn link(file: &Path, link: &Path) -> Result<(), Error> {
    let fault = |source| Error::Io {
        doing: "link",
        path: link.into(),
        source,
    };
    remove_file(link).map_err(fault)?;
    std::os::unix::fs::symlink(file, link).map_err(fault)
}
