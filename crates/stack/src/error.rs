//! What can go wrong, each with its cause and its cure.

use std::{fmt, io, path::PathBuf};

use crate::ports::BusyPort;

/// Why the stack cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration files are not where they were looked for.
    #[error(
        "{0} holds no prometheus/prometheus.yml, so it is not the project's root; \
         run inside a clone, or name it with --project"
    )]
    NotAProject(PathBuf),

    /// The data directory cannot be made or written.
    #[error("cannot write the data directory {path}: {source}; choose another with --data-dir")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Too little space for Elasticsearch and Prometheus to work.
    #[error(
        "only {free_mib} MiB are free under {path} and a lab needs {needed_mib} MiB; \
         free some space, or choose another place with --data-dir"
    )]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Free space.
        free_mib: u64,
        /// Space wanted.
        needed_mib: u64,
    },

    /// Another lab runs on the same data directory.
    #[error(
        "a lab already runs on {data_dir}{}; see it with `lab status`, end it with `lab down`, or start \
         a second one with --data-dir and --port-offset",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// Its data directory.
        data_dir: PathBuf,
        /// Its process, when it has written it down.
        pid: Option<u32>,
    },

    /// Ports in use.
    #[error("{}", busy_ports(.0))]
    PortsBusy(Vec<BusyPort>),

    /// The offset moves a port past 65535.
    #[error(
        "--port-offset {offset} moves {component}'s port {default} past 65535; the largest that works is {largest}"
    )]
    PortOffset {
        /// What was asked.
        offset: u16,
        /// Whose port.
        component: &'static str,
        /// Its port without offset.
        default: u16,
        /// The largest usable offset.
        largest: u16,
    },

    /// How long logs are kept is not said, or not understood.
    #[error(
        "{path} does not say how long logs are kept: {reason}; docs/logs.md says what it holds"
    )]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A release of Elasticsearch that is in no table.
    #[error(
        "{variable}={wanted} is no release of Elasticsearch that is known here; there are: {known}"
    )]
    UnknownRelease {
        /// The environment variable.
        variable: &'static str,
        /// What it says.
        wanted: String,
        /// All releases.
        known: String,
    },

    /// A name that is in no table.
    #[error("there is no component `{name}`; there are: {known}")]
    UnknownComponent {
        /// As typed.
        name: String,
        /// All names.
        known: String,
    },

    /// A component that could be got has not been.
    #[error("{component} is not installed; `lab install {component}` gets it")]
    NotInstalled {
        /// Its name.
        component: &'static str,
    },

    /// A program needed to get or run a component is not on this machine.
    #[error("{component} needs {tool}, which is not on this machine; {cure}")]
    MissingTool {
        /// What needs it.
        component: String,
        /// The program.
        tool: String,
        /// How to get it.
        cure: String,
    },

    /// The lab runs as root, the component refuses to, and the system allows no way around it.
    #[error(
        "{component} refuses to run as root, and this system allows no user namespace in which it would not be \
         ({source}); run the lab as an ordinary user"
    )]
    RootRefused {
        /// The component.
        component: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// A component has to be brought by the user.
    #[error("{component} is not on PATH; {cure}")]
    External {
        /// The component.
        component: &'static str,
        /// How to get it.
        cure: &'static str,
    },

    /// A step of an installation failed.
    #[error("`{command}` failed ({status}){}", quoted(.tail))]
    Command {
        /// The command line.
        command: String,
        /// Exit status, in words.
        status: String,
        /// The last lines it printed.
        tail: Vec<String>,
    },

    /// Something got is not what was expected.
    #[error(
        "{what} does not have the expected content (expected SHA-256 {expected}, got {actual}); delete it and run `lab install` again"
    )]
    Corrupt {
        /// The file.
        what: PathBuf,
        /// As pinned.
        expected: String,
        /// As found.
        actual: String,
    },

    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The verb.
        doing: &'static str,
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A component's own archive could not be unpacked.
    #[error("cannot unpack {path}: {source}")]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: zip::result::ZipError,
    },
}

impl Error {
    /// Exit code of a program that ends with this error: 2 wrong usage or configuration,
    /// 3 a needed component is missing, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::MissingTool { .. }
            | Self::External { .. }
            | Self::NotInstalled { .. }
            | Self::RootRefused { .. } => 3,
            Self::Command { .. } | Self::Corrupt { .. } | Self::Io { .. } | Self::Unpack { .. } => {
                1
            }
            Self::NotAProject(_)
            | Self::DataDir { .. }
            | Self::DiskFull { .. }
            | Self::AlreadyRunning { .. }
            | Self::PortsBusy(_)
            | Self::PortOffset { .. }
            | Self::Policy { .. }
            | Self::UnknownRelease { .. }
            | Self::UnknownComponent { .. } => 2,
        }
    }
}

fn busy_ports(busy: &[BusyPort]) -> String {
    let mut text = String::from(if busy.len() == 1 {
        "a port is in use:"
    } else {
        "ports are in use:"
    });
    for port in busy {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("\n  {port}"));
    }
    text.push_str("\nend what uses it, or move every port of the lab with --port-offset, for example --port-offset 1000");
    text
}

fn quoted(lines: &[String]) -> String {
    lines
        .iter()
        .fold(String::new(), |text, line| text + "\n  | " + line)
}
