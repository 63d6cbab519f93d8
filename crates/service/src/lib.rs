//! What every HTTP service here shares: flags, RED metrics, request spans and access log, problem
//! responses, the admin port, and the order in which a service starts and stops.
//!
//! A service is a table of [`Route`]s, a function that registers its handlers, and a call of [`run`].

mod admin;
mod args;
mod faults;
mod fields;
mod limits;
mod observe;
mod problem;
mod program;
mod readiness;
mod red;
mod server;
pub mod settings;
mod tls;

pub use args::{Listen, Program, ServerArgs, ServerConfig, Tls, parse_duration};
pub use faults::{
    About, Active, BrokenDependency, Fault, Faults, Kind, Mistake, Parameter, Settings, Token,
    Value,
};
pub use fields::{FieldError, read_json};
pub use limits::Limits;
pub use problem::{Problem, json_config};
pub use program::run;
pub use readiness::{Condition, Readiness};
pub use red::{DURATION_BUCKETS, Red, Route};
pub use server::{Error, Server, Service, Shutdown, Stopped};
pub use tls::{CertificateFiles, FROM_TLS12, FROM_TLS13, TlsError};
