//! Which process listens where, and who is in the way.

use std::{collections::BTreeMap, fmt, io, net::TcpListener};

use crate::{Component, Error};

/// All listeners are on the loopback interface.
pub const HOST: &str = "127.0.0.1";

/// Every port of a lab: the table's defaults, moved by one offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    offset: u16,
}

impl Ports {
    /// Ports moved by `offset`.
    ///
    /// # Errors
    /// When a port of `components` would pass 65535.
    pub fn new(offset: u16, components: &[&'static Component]) -> Result<Self, Error> {
        let highest = components
            .iter()
            .flat_map(|component| {
                component
                    .ports
                    .iter()
                    .map(move |port| (port.default, component.name))
            })
            .max();
        match highest {
            Some((default, component)) if default.checked_add(offset).is_none() => {
                Err(Error::PortOffset {
                    offset,
                    component,
                    default,
                    largest: u16::MAX - default,
                })
            }
            _ => Ok(Self { offset }),
        }
    }

    /// The offset itself.
    pub fn offset(self) -> u16 {
        self.offset
    }

    /// One port of a component.
    ///
    /// # Panics
    /// When the table has no such port: a mistake in the table, caught by its test.
    pub fn port(self, component: &Component, name: &str) -> u16 {
        let port = component
            .ports
            .iter()
            .find(|port| port.name == name)
            .unwrap_or_else(|| panic!("{} has no port named {name}", component.name));
        port.default + self.offset
    }

    /// `127.0.0.1:port`.
    pub fn address(self, component: &Component, name: &str) -> String {
        format!("{HOST}:{}", self.port(component, name))
    }

    /// `http://127.0.0.1:port`.
    pub fn url(self, component: &Component, name: &str) -> String {
        format!("http://{}", self.address(component, name))
    }

    /// All ports of a component by name.
    pub fn of(self, component: &Component) -> BTreeMap<String, u16> {
        component
            .ports
            .iter()
            .map(|port| (port.name.to_owned(), port.default + self.offset))
            .collect()
    }

    /// The ports of `components` that something else listens on.
    pub fn busy(self, components: &[&'static Component]) -> Vec<BusyPort> {
        components
            .iter()
            .flat_map(|component| {
                component
                    .ports
                    .iter()
                    .map(move |port| (component.name, port))
            })
            .filter_map(|(component, port)| {
                let number = port.default + self.offset;
                let taken = TcpListener::bind((HOST, number)).err()?;
                Some(BusyPort {
                    component,
                    port: number,
                    holder: holder(number),
                    reason: (taken.kind() != io::ErrorKind::AddrInUse).then(|| taken.to_string()),
                })
            })
            .collect()
    }
}

/// A port that the lab wants and cannot have.
#[derive(Debug, Clone)]
pub struct BusyPort {
    /// Who wants it.
    pub component: &'static str,
    /// The port.
    pub port: u16,
    /// Who has it, as far as this user may see.
    pub holder: Option<Holder>,
    /// What the system said, when the port is refused for another reason than being in use.
    pub reason: Option<String>,
}

/// A process that listens.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its id.
    pub pid: i32,
    /// Its command name.
    pub command: String,
}

impl fmt::Display for BusyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HOST}:{}, which {} wants, ", self.port, self.component)?;
        match (&self.reason, &self.holder) {
            (Some(reason), _) => write!(f, "cannot be bound: {reason}"),
            (None, Some(holder)) => {
                write!(f, "is held by {} (process {})", holder.command, holder.pid)
            }
            (None, None) => write!(
                f,
                "is held by a process that cannot be seen from here (of another user, or just ended)"
            ),
        }
    }
}

/// The process that listens on a port, when /proc tells.
fn holder(port: u16) -> Option<Holder> {
    let inode = procfs::net::tcp()
        .into_iter()
        .chain(procfs::net::tcp6())
        .flatten()
        .find(|entry| {
            entry.state == procfs::net::TcpState::Listen && entry.local_address.port() == port
        })?
        .inode;
    procfs::process::all_processes()
        .ok()?
        .flatten()
        .find_map(|process| {
            let holds = process.fd().ok()?.flatten().any(|fd| {
            matches!(fd.target, procfs::process::FDTarget::Socket(socket) if socket == inode)
        });
            holds.then(|| Holder {
                pid: process.pid,
                command: process.stat().map_or_else(|_| "?".into(), |stat| stat.comm),
            })
        })
}
