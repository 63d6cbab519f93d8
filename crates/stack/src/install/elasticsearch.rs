//! Elasticsearch's slim distribution, an ordinary artifact of Maven's central repository.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    Progress, expect_sha256,
    jdk::{self, Jdk},
    maven,
};
use crate::{Error, layout::make_dir};

/// A release and the oldest Java it runs on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) version: &'static str,
    oldest_java: u32,
    sha256: &'static str,
}

/// Newest first.
const RELEASES: &[Release] = &[
    Release {
        version: "9.2.0",
        oldest_java: 21,
        sha256: "bf44938a0490ba2a303d39c9cb64b38963dd08c812ce93e10816e878585bcb6b",
    },
    Release {
        version: "8.19.5",
        oldest_java: 17,
        sha256: "5d3a8f63f66d828a24d29f88819bf2c6e695d124c470da3ab92a5d6cc1397785",
    },
];

/// Names the release to take, or the beginning of its number: a lab on Elasticsearch 8 where 9 would run.
const WANTED: &str = "LAB_ELASTICSEARCH";

/// The newest release that the newest installed Java can run, of those the user's environment allows.
pub(super) fn choice() -> Result<(&'static Release, Jdk), Error> {
    let wanted = std::env::var(WANTED).unwrap_or_default();
    choose(&jdk::find_all(), &wanted)
}

fn choose(jdks: &[Jdk], wanted: &str) -> Result<(&'static Release, Jdk), Error> {
    let known = RELEASES
        .iter()
        .filter(|release| release.version.starts_with(wanted));
    if known.clone().next().is_none() {
        let known: Vec<_> = RELEASES.iter().map(|release| release.version).collect();
        return Err(Error::UnknownRelease {
            variable: WANTED,
            wanted: wanted.into(),
            known: known.join(", "),
        });
    }
    let newest = jdks.iter().max_by_key(|jdk| jdk.release);
    let choice = newest.and_then(|jdk| {
        Some((
            known
                .clone()
                .find(|release| release.oldest_java <= jdk.release)?,
            jdk,
        ))
    });
    choice.map(|(release, jdk)| (release, jdk.clone())).ok_or_else(|| Error::MissingTool {
        component: "elasticsearch".into(),
        tool: "a JDK of release 17 or newer".into(),
        cure: match newest {
            Some(jdk) => format!(
                "the newest found is {} in {}; install one (Debian: apt install openjdk-17-jdk-headless) or set JAVA_HOME",
                jdk.release,
                jdk.home.display()
            ),
            None => "install one (Debian: apt install openjdk-17-jdk-headless) or set JAVA_HOME".into(),
        },
    })
}

/// Downloads `release` by Maven and unpacks it into `target`.
pub(super) async fn fetch(
    release: &Release,
    cache: &Path,
    target: &Path,
    jdk: &Jdk,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Error> {
    let archives = cache.join("archives");
    make_dir(&archives)?;
    let archive = archives.join(format!("elasticsearch-{}.zip", release.version));
    if expect_sha256(&archive, release.sha256).is_err() {
        let maven = maven::find_or_get(cache, progress).await?;
        progress(Progress::step("downloading 95 MB"));
        let artifact = format!(
            "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{}:zip",
            release.version
        );
        maven
            .run(|mvn| {
                mvn.args([
                    "--batch-mode",
                    "--quiet",
                    "dependency:copy",
                    "-Dmdep.overWriteReleases=true",
                ])
                .arg(format!("-Dartifact={artifact}"))
                .arg(format!("-DoutputDirectory={}", archives.display()))
                .env("JAVA_HOME", &jdk.home)
                // A pom.xml in the user's directory is none of ours.
                .current_dir(&archives)
            })
            .await?;
        expect_sha256(&archive, release.sha256)?;
    }
    progress(Progress::step("unpacking"));
    let target = target.to_owned();
    // Maven keeps its own copy; this one has done its work once it is unpacked.
    let unpack = move || unpack(&archive, &target).map(|()| drop(std::fs::remove_file(&archive)));
    tokio::task::spawn_blocking(unpack)
        .await
        .map_err(|source| Error::Io {
            doing: "unpack",
            path: cache.into(),
            source: source.into(),
        })?
}

/// Unpacks without the archive's own top folder.
fn unpack(archive: &PathBuf, target: &Path) -> Result<(), Error> {
    let file = File::open(archive).map_err(|source| Error::Io {
        doing: "open",
        path: archive.clone(),
        source,
    })?;
    zip::ZipArchive::new(file)
        .and_then(|mut zip| {
            zip.extract_unwrapped_root_dir(target, zip::read::root_dir_common_filter)
        })
        .map_err(|source| Error::Unpack {
            path: archive.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jdks(releases: &[u32]) -> Vec<Jdk> {
        releases
            .iter()
            .map(|&release| Jdk {
                release,
                home: format!("/jdk-{release}").into(),
            })
            .collect()
    }

    #[test]
    fn takes_the_newest_release_its_java_allows() {
        for (installed, wanted, version, java) in [
            (&[17, 25][..], "", "9.2.0", 25),
            (&[21], "", "9.2.0", 21),
            (&[17], "", "8.19.5", 17),
            (&[20, 11], "", "8.19.5", 20),
            (&[17, 25], "8", "8.19.5", 25),
            (&[17, 25], "9.2.0", "9.2.0", 25),
        ] {
            let (release, jdk) = choose(&jdks(installed), wanted).unwrap();
            assert_eq!(
                (release.version, jdk.release),
                (version, java),
                "{installed:?}"
            );
        }
    }

    #[test]
    fn says_which_java_is_too_old() {
        let message = choose(&jdks(&[11]), "").unwrap_err().to_string();
        assert!(message.contains("11 in /jdk-11"), "{message}");
        assert_eq!(choose(&[], "").unwrap_err().exit_code(), 3);
        assert_eq!(choose(&jdks(&[17]), "9").unwrap_err().exit_code(), 3);
        let unknown = choose(&jdks(&[25]), "7").unwrap_err();
        assert_eq!(unknown.exit_code(), 2);
        assert!(unknown.to_string().contains("9.2.0, 8.19.5"), "{unknown}");
    }
}
