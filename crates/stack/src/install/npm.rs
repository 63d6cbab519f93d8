//! Packages of npm's registry, by npm's own program.

use std::path::Path;

use super::Progress;
use crate::{Error, layout::remove_dir, tool::Tool};

const NEEDS_NPM: &str = "install Node.js with npm (Debian: apt install npm), then try again";
const NEEDS_TAR: &str = "install tar (Debian: apt install tar), then try again";

/// Whether the programs it takes are here.
pub(super) fn tools(component: &str) -> Result<(), Error> {
    Tool::new("npm", component, NEEDS_NPM).present()?;
    Tool::new("tar", component, NEEDS_TAR).present()
}

/// A package that is pinned by its hash.
pub(super) struct Archive<'a> {
    pub(super) component: &'a str,
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) integrity: &'a str,
}

impl Archive<'_> {
    /// Downloads it and unpacks it below `target`.
    pub(super) async fn unpack(
        &self,
        target: &Path,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), Error> {
        tools(self.component)?;
        progress(Progress::step("downloading"));
        let archives = target.join("archives");
        crate::layout::make_dir(&archives)?;
        let answer = Tool::new("npm", self.component, NEEDS_NPM)
            .run(|npm| {
                npm.args(["pack", "--json", "--ignore-scripts"])
                    .arg(format!("{}@{}", self.package, self.version))
                    .arg("--pack-destination")
                    .arg(&archives)
            })
            .await?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let (name, integrity) = (&answer[0]["filename"], &answer[0]["integrity"]);
        // npm has compared the archive with what the registry says; this compares that with the pin.
        if integrity.as_str() != Some(self.integrity) {
            return Err(Error::Corrupt {
                what: format!("{}@{}", self.package, self.version).into(),
                expected: self.integrity.into(),
                actual: integrity.as_str().unwrap_or("nothing").into(),
            });
        }
        progress(Progress::step("unpacking"));
        let archive = archives.join(name.as_str().unwrap_or_default());
        Tool::new("tar", self.component, NEEDS_TAR)
            .run(|tar| tar.arg("-xzf").arg(&archive).arg("-C").arg(target))
            .await?;
        remove_dir(&archives)
    }
}
