//! Maven: the system's, or Debian's packages of it, unpacked into the cache.

use std::path::Path;

use super::{Progress, debian, debian::Apt, on_path, partial};
use crate::{Error, tool::Tool};

const NEEDED_BY: &str = "elasticsearch";
const CURE: &str = "install Maven (Debian: apt install maven), then try again";

/// Whether it is here or can be got.
pub(super) fn obtainable() -> Result<(), Error> {
    match on_path("mvn") {
        Some(_) => Ok(()),
        None => debian::tools(NEEDED_BY).map_err(|_| Error::MissingTool {
            component: NEEDED_BY.into(),
            tool: "mvn".into(),
            cure: CURE.into(),
        }),
    }
}

/// The `mvn` on PATH; without one, that of the cache, got first if need be.
pub(super) async fn find_or_get(
    cache: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Tool, Error> {
    if on_path("mvn").is_some() {
        return Ok(Tool::new("mvn", NEEDED_BY, CURE));
    }
    obtainable()?;
    let home = cache.join("maven");
    if !home.is_dir() {
        progress(Progress::step("getting Maven first"));
        let partial = partial(&home)?;
        let apt = Apt::open(cache, NEEDED_BY, "maven", progress).await?;
        // Its jars without a Java runtime: there is a JDK already.
        let is_jar =
            |name: &str| name == "maven" || (name.starts_with("lib") && name.ends_with("-java"));
        let packages = apt.closure("maven", is_jar).await?;
        apt.unpack(&packages, &partial).await?;
        // The two absolute links that matter, pointed into the tree.
        for (link, target) in [
            ("usr/share/maven/conf", "../../../etc/maven"),
            ("usr/share/maven/bin/m2.conf", "../conf/m2.conf"),
        ] {
            let link = partial.join(link);
            let fault = |source| Error::Io {
                doing: "link",
                path: link.clone(),
                source,
            };
            if link.symlink_metadata().is_ok() {
                std::fs::remove_file(&link).map_err(fault)?;
            }
            std::os::unix::fs::symlink(target, &link).map_err(fault)?;
        }
        std::fs::rename(&partial, &home).map_err(|source| Error::Io {
            doing: "rename to",
            path: home.clone(),
            source,
        })?;
    }
    Ok(Tool::new(
        home.join("usr/share/maven/bin/mvn"),
        NEEDED_BY,
        CURE,
    ))
}
