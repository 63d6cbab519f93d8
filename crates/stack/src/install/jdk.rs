//! The Java runtimes on this machine.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// An installed Java.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Jdk {
    /// Feature release, for example 21.
    pub(super) release: u32,
    /// Its `JAVA_HOME`.
    pub(super) home: PathBuf,
}

/// Every Java that `JAVA_HOME`, PATH or the usual directories lead to.
pub(super) fn find_all() -> Vec<Jdk> {
    let named = ["ES_JAVA_HOME", "JAVA_HOME"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from);
    let on_path = super::on_path("java")
        .and_then(|java| java.canonicalize().ok())
        .and_then(|java| Some(java.parent()?.parent()?.to_owned()));
    let usual = ["/usr/lib/jvm", "/opt", "/usr/java"]
        .into_iter()
        .flat_map(|dir| {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
        });
    let homes: BTreeSet<PathBuf> = named
        .chain(on_path)
        .chain(usual)
        .filter_map(|home| home.canonicalize().ok())
        .collect();
    homes
        .iter()
        .filter(|home| super::is_executable(&home.join("bin/java")))
        .filter_map(|home| read(home))
        .collect()
}

/// The `release` file that every JDK since 9 carries; asking it is 100 times quicker than starting a JVM.
fn read(home: &Path) -> Option<Jdk> {
    let text = std::fs::read_to_string(home.join("release")).ok()?;
    Some(Jdk {
        release: parse(&text)?,
        home: home.to_owned(),
    })
}

fn parse(release_file: &str) -> Option<u32> {
    let version = release_file
        .lines()
        .find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    version
        .trim_matches('"')
        .split(['.', '+', '-', '_'])
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_the_feature_release() {
        for (text, release) in [
            (
                "IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\n",
                Some(17),
            ),
            ("JAVA_VERSION=\"25\"\n", Some(25)),
            ("JAVA_VERSION=\"21-ea\"\n", Some(21)),
            ("JAVA_VERSION=\"1.8.0_402\"\n", Some(1)),
            ("OS_NAME=\"Linux\"\n", None),
            ("JAVA_VERSION=\"none\"\n", None),
        ] {
            assert_eq!(parse(text), release, "{text:?}");
        }
    }
}
