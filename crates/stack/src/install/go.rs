//! Building a component from a Go module of ours.

use std::path::PathBuf;

use tokio::process::Command;

use super::Progress;
use crate::{Error, tool::Tool};

/// The first release that gets a newer one by itself when a `go.mod` asks for it.
const OLDEST: u32 = 21;
const CURE: &str =
    "install a current Go (https://go.dev/doc/install; Debian 12's own is too old), then try again";

/// The Go command, if it is there and not too old.
pub(super) fn tool(component: &str) -> Result<Tool, Error> {
    let tool = Tool::new("go", component, CURE);
    tool.present()?;
    let version = std::process::Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output();
    let version = version
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    if minor(&version).is_some_and(|minor| minor < OLDEST) {
        return Err(Error::MissingTool {
            component: component.into(),
            tool: format!("Go 1.{OLDEST} or newer (there is {version})"),
            cure: CURE.into(),
        });
    }
    Ok(tool)
}

/// The second number of `go1.26.8`.
fn minor(version: &str) -> Option<u32> {
    version
        .strip_prefix("go1.")?
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// One `go build`.
pub(super) struct Build {
    pub(super) component: &'static str,
    /// Directory of the module.
    pub(super) module: PathBuf,
    /// Package to build.
    pub(super) package: &'static str,
    /// Build tags, separated by commas.
    pub(super) tags: &'static str,
    /// `variable=value` for the linker.
    pub(super) stamp: String,
    /// The program to write.
    pub(super) output: PathBuf,
}

impl Build {
    /// Builds, counting the packages compiled. What is in Go's own cache is not compiled again, so an
    /// interrupted build goes on where it was.
    pub(super) async fn run(
        &self,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), Error> {
        let go = tool(self.component)?;
        // Without its directory `go` could not be started, which would look like a missing `go`.
        std::fs::read_dir(&self.module).map_err(|source| Error::Io {
            doing: "read",
            path: self.module.clone(),
            source,
        })?;
        progress(Progress::step("downloading its modules"));
        let packages = go
            .run(|go| {
                self.environment(go).args([
                    "list",
                    "-mod=readonly",
                    "-deps",
                    "-tags",
                    self.tags,
                    "-f",
                    "{{.ImportPath}}",
                    self.package,
                ])
            })
            .await?;
        let total = packages.lines().count() as u64;
        let mut compiled = 0;
        go.follow(
            |go| {
                self.environment(go)
                    .args([
                        "build",
                        "-v",
                        "-mod=readonly",
                        "-buildvcs=false",
                        "-trimpath",
                        "-tags",
                        self.tags,
                        "-ldflags",
                    ])
                    .arg(format!("-s -w -X {}", self.stamp))
                    .arg("-o")
                    .arg(&self.output)
                    .arg(self.package)
            },
            |line| {
                if !line.contains(' ') {
                    compiled += 1;
                    progress(Progress {
                        step: "compiling".into(),
                        part: Some((compiled, total)),
                    });
                }
            },
        )
        .await
        .map(drop)
    }

    /// The user's own flags could change what is built; without cgo no C compiler is needed.
    fn environment<'a>(&self, go: &'a mut Command) -> &'a mut Command {
        go.current_dir(&self.module)
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
    }
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn reads_go_versions() {
        for (version, expected) in [
            ("go1.26.8", Some(26)),
            ("go1.19", Some(19)),
            ("go1.27rc1", Some(27)),
            ("devel go1.28-abc", None),
            ("", None),
        ] {
            assert_eq!(minor(version), expected, "{version:?}");
        }
    }
}
