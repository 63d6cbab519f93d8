//! The real components of the stack: one table of what they are, and how each is got, started,
//! watched and ended.
//!
//! - [`table`] is the only place that knows a port, a version or a command line.
//! - [`Installer`] gets components into the user's cache.
//! - [`Supervisor`] runs them; none outlives it, whatever ends it.
//! - [`Lab::look`] tells any other process what a lab is doing.

mod board;
mod certificate;
mod component;
mod error;
mod install;
mod layout;
mod notification;
mod ports;
mod process;
mod retention;
mod supervisor;
pub mod table;
mod tool;

pub use board::{Board, Lab, State, Status};
pub use certificate::make as make_certificate;
pub use component::{
    Component, Health, Launch, Launching, Port, Prepare, Probe, Probed, Scrape, Setup, Source,
};
pub use error::Error;
pub use install::{Installed, Installer, Progress};
pub use layout::{Layout, set_aside, write_atomically};
pub use notification::Addresses;
pub use ports::{BusyPort, HOST, Holder, Ports};
pub use process::{Group, Guise, Identity};
pub use supervisor::{OWN_LOG, Supervisor};
