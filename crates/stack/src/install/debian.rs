//! Packages of the Debian family, downloaded and unpacked by apt's and dpkg's own programs.
//!
//! apt checks signatures and hashes as always; only its lists, archives and locks are directed into
//! the cache, so neither root nor the system's own lists are needed.

use std::path::Path;

use super::Progress;
use crate::{Error, layout::make_dir, tool::Tool};

const NEEDS_APT: &str = "it belongs to Debian and its relatives; elsewhere run the stack from compose.yaml, or use --without";

/// Whether the programs it takes are here.
pub(super) fn tools(component: &str) -> Result<(), Error> {
    ["apt-get", "apt-cache", "dpkg-deb"]
        .into_iter()
        .try_for_each(|tool| Tool::new(tool, component, NEEDS_APT).present())
}

/// Downloads `package` and unpacks it below `target`; returns its version.
pub(super) async fn fetch(
    state: &Path,
    component: &str,
    package: &str,
    target: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<String, Error> {
    let archives = state.join("archives");
    for dir in ["lists/partial", "cache/archives/partial", "log", "archives"] {
        make_dir(&state.join(dir))?;
    }
    let apt = Apt { state, component };
    if !apt.knows(package).await? {
        progress(Progress::step("reading package lists"));
        apt.update().await?;
    }
    progress(Progress::step("downloading"));
    if apt.download(package, &archives).await.is_err() {
        // Lists that are older than the archive name files it no longer has.
        progress(Progress::step("reading package lists again"));
        apt.update().await?;
        progress(Progress::step("downloading"));
        apt.download(package, &archives).await?;
    }
    let archive = newest(&archives, package).ok_or_else(|| Error::Io {
        doing: "find the downloaded package in",
        path: archives.clone(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    progress(Progress::step("unpacking"));
    let dpkg = Tool::new("dpkg-deb", component, NEEDS_APT);
    dpkg.run(|dpkg| dpkg.arg("--extract").arg(&archive).arg(target))
        .await?;
    let version = dpkg
        .run(|dpkg| dpkg.arg("--field").arg(&archive).arg("Version"))
        .await?;
    // Unpacked, it is of no more use; a missing one is downloaded again.
    let _ = std::fs::remove_file(&archive);
    Ok(version.trim().to_owned())
}

struct Apt<'a> {
    state: &'a Path,
    component: &'a str,
}

impl Apt<'_> {
    fn tool(&self, program: &'static str) -> Tool {
        let at = |name: &str, dir: &str| format!("{name}={}", self.state.join(dir).display());
        Tool::new(program, self.component, NEEDS_APT)
            .leading("-o", at("Dir::State", ""))
            .leading("-o", at("Dir::State::Lists", "lists"))
            .leading("-o", at("Dir::Cache", "cache"))
            .leading("-o", at("Dir::Log", "log"))
            // apt running as root would drop to a user who cannot write a directory of root's.
            .leading("-o", "APT::Sandbox::User=")
    }

    async fn update(&self) -> Result<(), Error> {
        self.tool("apt-get")
            .run(|apt| apt.arg("update"))
            .await
            .map(drop)
    }

    async fn download(&self, package: &str, into: &Path) -> Result<(), Error> {
        self.tool("apt-get")
            .run(|apt| apt.arg("download").arg(package).current_dir(into))
            .await
            .map(drop)
    }

    /// Whether the private lists have been read and name the package.
    async fn knows(&self, package: &str) -> Result<bool, Error> {
        let shown = self
            .tool("apt-cache")
            .run(|apt| apt.arg("madison").arg(package))
            .await?;
        Ok(!shown.trim().is_empty())
    }
}

fn newest(archives: &Path, package: &str) -> Option<std::path::PathBuf> {
    let prefix = format!("{package}_");
    std::fs::read_dir(archives)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .max_by_key(|entry| entry.metadata().and_then(|file| file.modified()).ok())
        .map(|entry| entry.path())
}
