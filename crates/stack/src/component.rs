//! What one row of the component table says.

use std::{ffi::OsString, path::PathBuf};

use crate::{Error, Installed, Layout, Ports, install::on_path};

/// One process of the stack: how to get it, how to start it, how to tell that it works.
#[derive(Debug)]
pub struct Component {
    /// Unique; used on the command line, in file names and in `lab status`.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub role: &'static str,
    /// How to get it.
    pub source: Source,
    /// Everything it listens on, loopback only.
    pub ports: &'static [Port],
    /// Where it says that it is ready.
    pub health: Option<Health>,
    /// Files sent to it once it is healthy; it is ready after the last.
    pub setup: &'static [Setup],
    /// What Prometheus scrapes of it.
    pub scrape: &'static [Scrape],
    /// What the Blackbox Exporter looks at from outside.
    pub probes: &'static [Probe],
    /// Components that are tried first. One that is missing or has failed holds nobody up.
    pub after: &'static [&'static str],
    /// Order of the end: the highest tier stops first, so that nothing outlives what it sends to.
    pub tier: u8,
    /// Prepares its run directory and gives its command line; `None` for what the lab does not start.
    pub launch: Option<Prepare>,
}

impl Component {
    /// Whether a lab on this machine starts it: it has a command line, and what the user has to bring is there.
    pub fn starts(&self) -> bool {
        self.launch.is_some()
            && match self.source {
                Source::External { program, .. } => on_path(program).is_some(),
                _ => true,
            }
    }
}

/// Makes what a component needs to find and says how to start it.
pub type Prepare = fn(&Launching<'_>) -> Result<Launch, Error>;

/// A listener.
#[derive(Debug)]
pub struct Port {
    /// Its name in the table and in `lab status --json`.
    pub name: &'static str,
    /// Without `--port-offset`.
    pub default: u16,
}

/// A page that answers 2xx exactly when the component is ready.
#[derive(Debug)]
pub struct Health {
    /// Name of the port.
    pub port: &'static str,
    /// Path and query.
    pub path: &'static str,
}

/// A project file that is `PUT` to a component as JSON.
#[derive(Debug)]
pub struct Setup {
    /// Name of the port.
    pub port: &'static str,
    /// Path to put it at.
    pub path: &'static str,
    /// File below the project's root.
    pub file: &'static str,
    /// A page that is there once this has been done; for what cannot be done twice.
    pub unless: Option<&'static str>,
}

/// One scrape target.
#[derive(Debug)]
pub struct Scrape {
    /// The job of `prometheus.yml` that reads `targets/<job>.json`.
    pub job: &'static str,
    /// Name of the port.
    pub port: &'static str,
    /// Value of the `service` label.
    pub service: &'static str,
}

/// One page or port probed from outside.
#[derive(Debug)]
pub struct Probe {
    /// Name of the port.
    pub port: &'static str,
    /// What it has to do.
    pub of: Probed,
    /// Value of the `service` label.
    pub service: &'static str,
}

/// What a probe asks for.
#[derive(Debug, Clone, Copy)]
pub enum Probed {
    /// This page answers 2xx.
    Page(&'static str),
    /// The port accepts a connection.
    Port,
    /// It speaks TLS; until when its certificate is valid becomes a metric.
    Tls,
}

impl Probe {
    /// The job of `prometheus.yml` that has it probed.
    #[must_use]
    pub fn job(&self) -> &'static str {
        match self.of {
            Probed::Page(_) => "blackbox-http",
            Probed::Port => "blackbox-tcp",
            Probed::Tls => "blackbox-tls",
        }
    }

    /// What the prober is told to look at, with the `host:port` of its port.
    #[must_use]
    pub fn target(&self, address: &str) -> String {
        match self.of {
            Probed::Page(path) => format!("http://{address}{path}"),
            Probed::Port | Probed::Tls => address.into(),
        }
    }
}

/// How a component comes to this machine.
#[derive(Debug)]
pub enum Source {
    /// A program of this workspace, part of the `lab` binary.
    Ours,
    /// A package of the Debian family's archive, unpacked into the cache: no root, no system state.
    Debian {
        /// Package name.
        package: &'static str,
        /// The program inside it.
        program: &'static str,
    },
    /// Packages of the Debian family's archive unpacked together with the libraries that they need, for a program that brings
    /// many of them.
    DebianTree {
        /// Package names.
        packages: &'static [&'static str],
        /// The program inside one of them.
        program: &'static str,
    },
    /// A package of npm's registry, unpacked into the cache; nothing in it is run to install it.
    Npm {
        /// Package name.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// SHA-512 of its archive, in Base64, as the registry writes it.
        integrity: &'static str,
        /// The file inside it that is wanted.
        program: &'static str,
    },
    /// Built from source by a Go module of ours, whose `go.sum` pins every dependency.
    Go {
        /// Directory of the module below the project's root.
        module: &'static str,
        /// Package to build.
        package: &'static str,
        /// Build tags, separated by commas; empty for none.
        tags: &'static str,
        /// Go variable that takes the version.
        version_variable: &'static str,
        /// What is pinned in `go.mod`.
        version: &'static str,
    },
    /// Elasticsearch's slim distribution from Maven's central repository; the newest release that
    /// an installed JDK can run.
    Elasticsearch,
    /// Not to be had through a package registry: the user brings it.
    External {
        /// Program looked for on PATH.
        program: &'static str,
        /// How to get it.
        cure: &'static str,
    },
}

/// What a [`Component::launch`] function works with.
#[derive(Debug)]
pub struct Launching<'a> {
    /// Directories.
    pub layout: &'a Layout,
    /// Ports of this lab.
    pub ports: Ports,
    /// The program that was installed.
    pub installed: &'a Installed,
    /// Its row.
    pub component: &'static Component,
    /// Components that this lab runs.
    pub others: &'a [&'static Component],
    /// Stands in for `prometheus/slo-rules.yml`.
    pub slo_rules: Option<&'a str>,
}

/// A command line.
#[derive(Debug, Default)]
pub struct Launch {
    /// Arguments behind the program.
    pub args: Vec<OsString>,
    /// Environment on top of the lab's own.
    pub env: Vec<(&'static str, OsString)>,
    /// It refuses to run as root: give it a user namespace in which it is somebody else.
    pub refuses_root: bool,
    /// A directory that it finds merged into `/usr/share`, for pages that it looks for there.
    pub usr_share: Option<PathBuf>,
    /// Its output is shipped as application logs, in files of a bounded size.
    pub application_log: bool,
}

impl Launch {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds `name=value` as one argument.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        let mut arg = OsString::from(name);
        arg.push("=");
        arg.push(value.into());
        self.args.push(arg);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }
}

impl Launching<'_> {
    /// `127.0.0.1:port` of a port of this component.
    pub fn address(&self, port: &str) -> String {
        self.ports.address(self.component, port)
    }

    /// Base URL of a port of another component.
    pub fn url_of(&self, component: &str, port: &str) -> String {
        self.ports.url(crate::table::find_known(component), port)
    }

    /// The component's run directory, made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn run_dir(&self) -> Result<PathBuf, Error> {
        let dir = self.layout.run_dir(self.component.name);
        crate::layout::make_dir(&dir)?;
        Ok(dir)
    }

    /// The component's state directory, made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn state_dir(&self) -> Result<PathBuf, Error> {
        let dir = self.layout.state_dir(self.component.name);
        crate::layout::make_dir(&dir)?;
        Ok(dir)
    }
}
