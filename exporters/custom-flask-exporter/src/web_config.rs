//! `--web.config.file`: TLS and passwords for the exporter's own pages, in the form the Prometheus
//! programs share.
//!
//! A subset of [exporter-toolkit's file][toolkit]; what is not in it is refused rather than ignored,
//! so that nobody believes to be protected by a setting that does nothing.
//!
//! ```yaml
//! tls_server_config:
//!   cert_file: exporter.crt   # PEM, the chain; relative to this file
//!   key_file: exporter.key    # PEM
//!   min_version: TLS12        # or TLS13; TLS12 when left out
//! basic_auth_users:
//!   prometheus: $2y$10$...    # bcrypt, as `htpasswd -nBC 10 ""` makes it
//! ```
//!
//! The file is read at the start; certificate and key are read again when they have changed.
//!
//! [toolkit]: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustls::ServerConfig;
use serde::Deserialize;
use service::{CertificateFiles, FROM_TLS12, FROM_TLS13, TlsError};

use crate::auth::{BadHash, Users};

/// What the file asks for.
#[derive(Debug, Default)]
pub struct WebConfig {
    /// Serve HTTPS with this, and no HTTP.
    pub tls: Option<ServerConfig>,
    /// Let in only these.
    pub users: Option<Users>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebConfigError {
    /// It, or a file it names, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not YAML, or a key that is not of the subset.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        source: Box<serde_saphyr::Error>,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// A password that is not hashed as asked.
    #[error("{}: basic_auth_users, {user}: {source}", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// Whose password.
        user: String,
        /// What is wrong with it.
        source: BadHash,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    min_version: MinVersion,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

impl WebConfig {
    /// Reads the file and everything it names.
    pub fn read(path: &Path) -> Result<Self, WebConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| WebConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        // An empty file asks for nothing, and is as good as none; to the parser it is no map.
        let file: Option<File> =
            serde_saphyr::from_str(&text).map_err(|source| WebConfigError::Parse {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        let file = file.unwrap_or_default();

        let folder = path.parent().unwrap_or(Path::new(""));
        let tls = file
            .tls_server_config
            .map(|tls| tls.load(folder))
            .transpose()?;
        let users = match file.basic_auth_users {
            none if none.is_empty() => None,
            users => {
                let users = Users::new(users).map_err(|(user, source)| WebConfigError::Hash {
                    path: path.to_owned(),
                    user,
                    source,
                })?;
                Some(users)
            }
        };
        Ok(Self { tls, users })
    }
}

impl Tls {
    fn load(&self, folder: &Path) -> Result<ServerConfig, TlsError> {
        let files = CertificateFiles {
            certificate: folder.join(&self.cert_file),
            key: folder.join(&self.key_file),
        };
        files.serve(match self.min_version {
            MinVersion::Tls12 => FROM_TLS12,
            MinVersion::Tls13 => FROM_TLS13,
        })
    }
}
