//! Building a component from a Go module of ours.

use std::path::PathBuf;

use tokio::process::Command;

use super::Progress;
use crate::{Error, tool::Tool};

/// The Go command.
pub(super) fn tool(component: &str) -> Tool {
    Tool::new(
        "go",
        component,
        "install Go 1.25 or newer (https://go.dev/doc/install), then try again",
    )
}

/// One `go build`.
pub(super) struct Build {
    pub(super) component: &'static str,
    /// Directory of the module.
    pub(super) module: PathBuf,
    /// Package to build.
    pub(super) package: &'static str,
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
        let go = tool(self.component);
        progress(Progress::step("downloading its modules"));
        let packages = go
            .run(|go| {
                self.environment(go).args([
                    "list",
                    "-mod=readonly",
                    "-deps",
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
