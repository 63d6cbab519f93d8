//! Getting the real components onto this machine, without root and without touching system state.
//!
//! Everything goes below one cache directory shared by all labs of the user. A component appears
//! there by one rename of a finished directory, so what is there is whole, and an interruption
//! costs only the step it hit: archives and build caches of the package managers are kept.

mod debian;
mod elasticsearch;
mod go;
mod jdk;
mod maven;
mod npm;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use self::debian::Apt;

use crate::{
    Component, Error, Layout, Source,
    layout::{files_in, make_dir, remove_dir, write_atomically},
};

/// A component that is ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The program to run.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
    /// Directory it was unpacked into; that of the program where there is no such thing.
    pub home: PathBuf,
    /// The Java that runs it.
    pub java_home: Option<PathBuf>,
}

/// What an installation is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// In a few words: `compiling`, `downloading`.
    pub step: String,
    /// Done and total, where they are known.
    pub part: Option<(u64, u64)>,
}

impl Progress {
    pub(crate) fn step(step: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            part: None,
        }
    }
}

/// Written into the directory of an installed component, last.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: String,
    /// Relative to the directory.
    program: PathBuf,
    size: u64,
    /// When the content was last compared with its hash; a file changed since is compared again.
    #[serde(default)]
    modified: Option<SystemTime>,
    sha256: String,
}

const RECORD: &str = "installed.json";

/// Installs components, one heavy step at a time.
#[derive(Debug)]
pub struct Installer {
    layout: Layout,
    /// Two builds at once would only take turns on the processors.
    builds: Mutex<()>,
}

impl Installer {
    /// Installs below the layout's cache directory.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            builds: Mutex::default(),
        }
    }

    /// The component, when it is installed and its program has the size it was recorded with.
    ///
    /// # Errors
    /// When it cannot be run here at all: its Java is missing, or the user has to bring it.
    pub fn find(&self, component: &'static Component) -> Result<Option<Installed>, Error> {
        match &component.source {
            Source::Ours => ours().map(Some),
            Source::External { program, cure } => match on_path(program) {
                Some(program) => Ok(Some(Installed {
                    home: program.parent().unwrap_or(Path::new("/")).to_owned(),
                    program,
                    version: "unknown".into(),
                    java_home: None,
                })),
                None => Err(Error::External {
                    component: component.name,
                    cure,
                }),
            },
            Source::Debian { .. } | Source::DebianTree { .. } => {
                Ok(recorded(&self.debian_dir(component), None))
            }
            Source::Npm { version, .. } => {
                Ok(recorded(&self.versioned_dir(component, version), None))
            }
            Source::Go { .. } => Ok(recorded(&self.go_dir(component)?, None)),
            Source::Elasticsearch => {
                let (release, jdk) = elasticsearch::choice()?;
                Ok(recorded(
                    &self.versioned_dir(component, release.version),
                    Some(jdk.home),
                ))
            }
        }
    }

    /// Finds the component or gets it, telling how far it is.
    ///
    /// # Errors
    /// When a needed tool is missing or a step fails; what was got so far is kept for the next try.
    pub async fn ensure(
        &self,
        component: &'static Component,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Installed, Error> {
        if let Some(installed) = self.find(component)? {
            return Ok(installed);
        }
        progress(Progress::step("waiting for its turn"));
        let _turn = match component.source {
            Source::Go { .. } => Some(self.builds.lock().await),
            _ => None,
        };
        let _lock = self.lock(component).await?;
        // Another lab may have finished it while this one waited.
        if let Some(installed) = self.find(component)? {
            return Ok(installed);
        }
        match &component.source {
            Source::Debian { package, program } => {
                let dir = self.debian_dir(component);
                let partial = partial(&dir)?;
                let apt = Apt::open(self.layout.cache(), component.name, package, progress).await?;
                let version = apt.unpack(&[(*package).to_owned()], &partial).await?;
                finish(&partial, &dir, &version, Path::new(program))?;
            }
            Source::DebianTree { packages, program } => {
                let dir = self.debian_dir(component);
                let partial = partial(&dir)?;
                let first = packages.first().copied().unwrap_or_default();
                let apt = Apt::open(self.layout.cache(), component.name, first, progress).await?;
                let packages = apt.tree(packages, debian::is_library).await?;
                let version = apt.unpack(&packages, &partial).await?;
                finish(&partial, &dir, &version, Path::new(program))?;
            }
            Source::Npm {
                package,
                version,
                integrity,
                program,
            } => {
                let dir = self.versioned_dir(component, version);
                let partial = partial(&dir)?;
                let archive = npm::Archive {
                    component: component.name,
                    package,
                    version,
                    integrity,
                };
                archive.unpack(&partial, progress).await?;
                finish(&partial, &dir, version, Path::new(program))?;
            }
            Source::Go {
                module,
                package,
                tags,
                version_variable,
                version,
            } => {
                let dir = self.go_dir(component)?;
                let partial = partial(&dir)?;
                let build = go::Build {
                    component: component.name,
                    module: self.layout.config(module),
                    package,
                    tags,
                    stamp: format!("{version_variable}={version}"),
                    output: partial.join(component.name),
                };
                build.run(progress).await?;
                finish(&partial, &dir, version, Path::new(component.name))?;
            }
            Source::Elasticsearch => {
                let (release, jdk) = elasticsearch::choice()?;
                let dir = self.versioned_dir(component, release.version);
                let partial = partial(&dir)?;
                elasticsearch::fetch(release, self.layout.cache(), &partial, &jdk, progress)
                    .await?;
                finish(
                    &partial,
                    &dir,
                    release.version,
                    Path::new("bin/elasticsearch"),
                )?;
            }
            Source::Ours | Source::External { .. } => {}
        }
        self.find(component)?.ok_or_else(|| Error::Io {
            doing: "find what was just installed in",
            path: self.layout.cache().into(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// How a component that is not installed would be got, in words.
    ///
    /// # Errors
    /// When a tool for that is missing.
    pub fn obtainable(&self, component: &'static Component) -> Result<String, Error> {
        match &component.source {
            Source::Ours | Source::External { .. } => Ok("nothing has to be got".into()),
            Source::Debian { package, .. } => {
                debian::tools(component.name)?;
                Ok(format!("package {package}, by apt-get, without root"))
            }
            Source::DebianTree { packages, .. } => {
                debian::tools(component.name)?;
                Ok(format!(
                    "packages {} and their libraries, by apt-get, without root",
                    packages.join(", ")
                ))
            }
            Source::Npm { package, .. } => {
                npm::tools(component.name)?;
                Ok(format!("package {package}, by npm"))
            }
            Source::Go { module, .. } => {
                go::tool(component.name)?;
                Ok(format!("compiled from {module}, by go, in some minutes"))
            }
            Source::Elasticsearch => {
                let (release, jdk) = elasticsearch::choice()?;
                maven::obtainable()?;
                Ok(format!(
                    "{}, by mvn, for the JDK {} in {}",
                    release.version,
                    jdk.release,
                    jdk.home.display()
                ))
            }
        }
    }

    /// Compares an installed program with the hash recorded when it was installed.
    ///
    /// # Errors
    /// When the content has changed since.
    pub fn verify(&self, component: &'static Component) -> Result<(), Error> {
        let Some(installed) = self.find(component)? else {
            return Ok(());
        };
        match read_record(&installed.home) {
            Some(record) => expect_sha256(&installed.program, &record.sha256),
            None => Ok(()),
        }
    }

    fn debian_dir(&self, component: &Component) -> PathBuf {
        self.layout.cache().join(component.name)
    }

    /// A new pin in the module makes a new directory, so that an old build is never taken for it.
    fn go_dir(&self, component: &Component) -> Result<PathBuf, Error> {
        let Source::Go {
            module, version, ..
        } = &component.source
        else {
            return Ok(self.debian_dir(component));
        };
        let module = self.layout.config(module);
        let mut sources = vec![module.join("go.mod"), module.join("go.sum")];
        let mut programs = files_in(&module, "go")?;
        programs.sort();
        sources.append(&mut programs);
        let mut hash = Sha256::new();
        for path in sources {
            match std::fs::read(&path) {
                Ok(content) => hash.update(content),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Error::Io {
                        doing: "read",
                        path,
                        source,
                    });
                }
            }
        }
        let pin = &hex(&hash.finalize())[..8];
        Ok(self
            .layout
            .cache()
            .join(format!("{}-{version}-{pin}", component.name)))
    }

    fn versioned_dir(&self, component: &Component, version: &str) -> PathBuf {
        self.layout
            .cache()
            .join(format!("{}-{version}", component.name))
    }

    /// Keeps two labs from installing the same component at once.
    async fn lock(&self, component: &Component) -> Result<File, Error> {
        let dir = self.layout.cache().join("locks");
        make_dir(&dir)?;
        take_turn(dir.join(component.name)).await
    }
}

/// Waits until nobody else holds the lock at `path`. The system takes it back from its holder,
/// however that ends.
async fn take_turn(path: PathBuf) -> Result<File, Error> {
    let open = {
        let path = path.clone();
        move || -> std::io::Result<File> {
            let file = File::create(&path)?;
            file.lock()?;
            Ok(file)
        }
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|source| Error::Io {
            doing: "lock",
            path,
            source,
        })
}

/// A program of this workspace: the running binary under another name.
fn ours() -> Result<Installed, Error> {
    let program = std::env::current_exe().map_err(|source| Error::Io {
        doing: "find",
        path: "the running program".into(),
        source,
    })?;
    Ok(Installed {
        home: program.parent().unwrap_or(Path::new("/")).to_owned(),
        program,
        version: env!("CARGO_PKG_VERSION").into(),
        java_home: None,
    })
}

fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(dir.join(RECORD)).ok()?).ok()
}

/// What is installed in a directory, unless its program is not what was installed there.
fn recorded(dir: &Path, java_home: Option<PathBuf>) -> Option<Installed> {
    let mut record = read_record(dir)?;
    let program = dir.join(&record.program);
    let file = std::fs::metadata(&program).ok()?;
    if file.len() != record.size {
        return None;
    }
    let modified = file.modified().ok();
    if modified.is_none() || modified != record.modified {
        expect_sha256(&program, &record.sha256).ok()?;
        record.modified = modified;
        // Where that cannot be noted it is compared again next time.
        let _ = write_record(dir, &record);
    }
    Some(Installed {
        program,
        version: record.version,
        home: dir.to_owned(),
        java_home,
    })
}

fn write_record(dir: &Path, record: &Record) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(record).expect("a record of plain values is always JSON");
    write_atomically(&dir.join(RECORD), &json)
}

/// An empty directory beside the final one, for building up what will be renamed to it.
fn partial(dir: &Path) -> Result<PathBuf, Error> {
    // Not `with_extension`, which would cut a version at its last dot.
    let mut partial = dir.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    remove_dir(&partial)?;
    make_dir(&partial)?;
    Ok(partial)
}

fn finish(partial: &Path, dir: &Path, version: &str, program: &Path) -> Result<(), Error> {
    let path = partial.join(program);
    let file = std::fs::metadata(&path).map_err(|source| Error::Io {
        doing: "find",
        path: path.clone(),
        source,
    })?;
    let record = Record {
        version: version.into(),
        program: program.into(),
        size: file.len(),
        modified: file.modified().ok(),
        sha256: sha256(&path)?,
    };
    write_record(partial, &record)?;
    remove_dir(dir)?;
    std::fs::rename(partial, dir).map_err(|source| Error::Io {
        doing: "rename to",
        path: dir.into(),
        source,
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(path: &Path) -> Result<String, Error> {
    let fault = |source| Error::Io {
        doing: "read",
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(fault)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(fault)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn expect_sha256(path: &Path, expected: &str) -> Result<(), Error> {
    let actual = sha256(path)?;
    if actual == expected {
        Ok(())
    } else {
        Err(Error::Corrupt {
            what: path.into(),
            expected: expected.into(),
            actual,
        })
    }
}

/// A program on PATH.
pub(crate) fn on_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program.as_ref()))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_what_was_installed() {
        let cache = tempfile::tempdir().unwrap();
        let dir = cache.path().join("thing-1.2");
        let partial = partial(&dir).unwrap();
        std::fs::write(partial.join("thing"), b"right").unwrap();
        assert!(
            recorded(&dir, None).is_none(),
            "nothing is there before the rename"
        );
        finish(&partial, &dir, "1.2", Path::new("thing")).unwrap();
        assert_eq!(recorded(&dir, None).unwrap().version, "1.2");
        // The same size, another content.
        std::fs::write(dir.join("thing"), b"wrong").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        File::options()
            .write(true)
            .open(dir.join("thing"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert!(recorded(&dir, None).is_none());
        // The right content again, at another time.
        std::fs::write(dir.join("thing"), b"right").unwrap();
        assert!(recorded(&dir, None).is_some());
    }
}
