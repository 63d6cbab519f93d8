//! Packages of the Debian family, downloaded and unpacked by apt's and dpkg's own programs.
//!
//! apt checks signatures and hashes as always; only its lists, archives and locks are directed into
//! the cache, so neither root nor the system's own lists are needed.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{Progress, take_turn};
use crate::{
    Error,
    layout::{make_dir, remove_dir},
    tool::Tool,
};

const NEEDS_APT: &str =
    "it belongs to Debian and its relatives; elsewhere leave this component out with --without";

/// Whether the programs it takes are here.
pub(super) fn tools(component: &str) -> Result<(), Error> {
    ["apt-get", "apt-cache", "dpkg-deb"]
        .into_iter()
        .try_for_each(|tool| Tool::new(tool, component, NEEDS_APT).present())
}

/// Libraries, and the data that they look for. Not the C library and what else every machine has of its own, nor drivers of
/// graphics cards with the compiler that they bring.
pub(super) fn is_library(package: &str) -> bool {
    const NOT: [&str; 4] = ["libc6", "libpam", "libllvm", "libgl1-mesa-dri"];
    let named = |begins: &[&str]| begins.iter().any(|begin| package.starts_with(begin));
    named(&["lib", "fonts-", "fontconfig", "zlib1g", "chromium-"])
        && !named(&NOT)
        && !package.ends_with("-perl")
        && !package.starts_with("libperl")
}

/// apt with a state of its own, held by one user at a time.
pub(super) struct Apt<'a> {
    state: PathBuf,
    component: &'a str,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
    _turn: File,
}

impl<'a> Apt<'a> {
    /// Waits for its turn and reads the package lists if they do not name `package` yet.
    pub(super) async fn open(
        cache: &Path,
        component: &'a str,
        package: &str,
        progress: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Result<Self, Error> {
        tools(component)?;
        let state = cache.join("apt");
        for dir in ["lists/partial", "cache/archives/partial", "log"] {
            make_dir(&state.join(dir))?;
        }
        let turn = take_turn(state.join("turn")).await?;
        let apt = Self {
            state,
            component,
            progress,
            _turn: turn,
        };
        let known = apt
            .run("apt-cache", |apt| apt.arg("madison").arg(package))
            .await?;
        if known.trim().is_empty() {
            apt.update().await?;
        }
        Ok(apt)
    }

    /// The packages that `package` needs, itself among them, as far as `wanted` says.
    pub(super) async fn closure(
        &self,
        package: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Error> {
        const FLAGS: [&str; 7] = [
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
        ];
        let listing = self
            .run("apt-cache", |apt| {
                apt.arg("depends").args(FLAGS).arg(package)
            })
            .await?;
        let mut names: Vec<String> = listing
            .lines()
            .filter(|name| wanted(name))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// What apt would install on a machine that has nothing for `packages`, as far as `wanted` says; in apt's order, with
    /// `packages` first.
    pub(super) async fn tree(
        &self,
        packages: &[&str],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Error> {
        let nothing = self.state.join("nothing-installed");
        crate::layout::write_atomically(&nothing, b"")?;
        let plan = self
            .run("apt-get", |apt| {
                apt.arg("-o")
                    .arg(format!("Dir::State::status={}", nothing.display()))
                    .args(["install", "--simulate", "--no-install-recommends"])
                    .args(packages)
            })
            .await?;
        let needed = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
            .filter(|name| wanted(name) && !packages.contains(name));
        Ok(packages
            .iter()
            .copied()
            .chain(needed)
            .map(str::to_owned)
            .collect())
    }

    /// Downloads packages and unpacks them below `target`; returns the version of the first.
    pub(super) async fn unpack(&self, packages: &[String], target: &Path) -> Result<String, Error> {
        let archives = self.state.join("archives");
        remove_dir(&archives)?;
        make_dir(&archives)?;
        if self.download(packages, &archives).await.is_err() {
            // Lists that are older than the archive name files it no longer has.
            self.update().await?;
            self.download(packages, &archives).await?;
        }
        (self.progress)(Progress::step("unpacking"));
        let dpkg = Tool::new("dpkg-deb", self.component, NEEDS_APT);
        let mut version = String::new();
        for archive in std::fs::read_dir(&archives)
            .map_err(|source| Error::Io {
                doing: "read",
                path: archives.clone(),
                source,
            })?
            .flatten()
            .map(|entry| entry.path())
        {
            dpkg.run(|dpkg| dpkg.arg("--extract").arg(&archive).arg(target))
                .await?;
            let fields = dpkg
                .run(|dpkg| {
                    dpkg.args(["--show", "--showformat", "${Package} ${Version}"])
                        .arg(&archive)
                })
                .await?;
            if let Some((name, its_version)) = fields.trim().split_once(' ')
                && packages.first().is_some_and(|first| first == name)
            {
                its_version.clone_into(&mut version);
            }
        }
        remove_dir(&archives)?;
        Ok(version)
    }

    async fn update(&self) -> Result<(), Error> {
        (self.progress)(Progress::step("reading package lists"));
        self.run("apt-get", |apt| apt.arg("update")).await.map(drop)
    }

    async fn download(&self, packages: &[String], into: &Path) -> Result<(), Error> {
        (self.progress)(Progress::step("downloading"));
        self.run("apt-get", |apt| {
            apt.arg("download").args(packages).current_dir(into)
        })
        .await
        .map(drop)
    }

    async fn run(
        &self,
        program: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<String, Error> {
        let at = |name: &str, dir: &str| format!("{name}={}", self.state.join(dir).display());
        Tool::new(program, self.component, NEEDS_APT)
            .leading("-o", at("Dir::State", ""))
            .leading("-o", at("Dir::State::Lists", "lists"))
            .leading("-o", at("Dir::Cache", "cache"))
            .leading("-o", at("Dir::Log", "log"))
            // apt running as root would drop to a user who cannot write a directory of root's.
            .leading("-o", "APT::Sandbox::User=")
            .run(arguments)
            .await
    }
}
