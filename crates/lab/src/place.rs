//! Where this lab lives: project, data directory, ports.

use std::path::{Path, PathBuf};

use stack::{Board, Component, Lab, Layout, Ports};

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Directory of everything this lab writes [default: .lab in the project]
    #[arg(long, global = true, env = "LAB_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Add N to every port, so that several labs fit on one machine
    #[arg(
        long,
        global = true,
        env = "LAB_PORT_OFFSET",
        value_name = "N",
        default_value_t = 0
    )]
    pub(crate) port_offset: u16,
    /// The clone whose configuration is run [default: the one around the current directory]
    #[arg(long, global = true, env = "LAB_PROJECT", value_name = "DIR")]
    project: Option<PathBuf>,
    /// Directory of installed components, shared by all labs [default: three-pillars in the user's cache]
    #[arg(long, global = true, env = "LAB_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

/// The command line asks for something that makes no sense here.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Place {
    /// The directories.
    pub(crate) fn layout(&self) -> anyhow::Result<Layout> {
        let project = match &self.project {
            Some(project) => project.clone(),
            None => find_project().ok_or_else(|| {
                Usage("there is no prometheus/prometheus.yml here or above; run inside a clone, or name it with --project".into())
            })?,
        };
        let data = self
            .data_dir
            .clone()
            .unwrap_or_else(|| project.join(".lab"));
        let cache = match self.cache_dir.clone().or_else(user_cache) {
            Some(cache) => cache,
            None => {
                return Err(Usage(
                    "neither XDG_CACHE_HOME nor HOME is set; name a directory with --cache-dir"
                        .into(),
                )
                .into());
            }
        };
        Ok(Layout::new(&project, &data, &cache)?)
    }

    /// The ports.
    pub(crate) fn ports(&self) -> anyhow::Result<Ports> {
        let all: Vec<&'static Component> = stack::table::COMPONENTS.iter().collect();
        Ok(Ports::new(self.port_offset, &all)?)
    }

    /// What has to stand behind `lab status` and the like to mean this lab.
    pub(crate) fn flags(&self) -> String {
        let named = |flag: &str, path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| format!(" --{flag} {}", path.display()))
                .unwrap_or_default()
        };
        named("data-dir", &self.data_dir) + &named("project", &self.project)
    }

    /// The board of the lab that runs here.
    pub(crate) fn running(&self) -> anyhow::Result<Board> {
        let layout = self.layout()?;
        match Lab::look(&layout) {
            Lab::Running(board) => Ok(board),
            Lab::Ended(_) | Lab::Never => Err(Usage(format!(
                "no lab runs on {}; start one with `cargo run`, or name its --data-dir",
                layout.data().display()
            ))
            .into()),
        }
    }
}

/// The clone around the current directory.
fn find_project() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors()
        .find(|dir| dir.join("prometheus/prometheus.yml").is_file())
        .map(Path::to_owned)
}

fn user_cache() -> Option<PathBuf> {
    let named = |variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("XDG_CACHE_HOME")
        .or_else(|| Some(named("HOME")?.join(".cache")))
        .map(|cache| cache.join("three-pillars"))
}
