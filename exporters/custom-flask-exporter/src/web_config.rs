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
//! The files are read once, at the start: restart the exporter after a renewal.
//!
//! [toolkit]: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;

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
    /// Not a PEM file, or one without what it should hold.
    #[error("{} holds no {what} in PEM form: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was wrong with it.
        source: pem::Error,
    },
    /// A certificate and a key that do not belong together, or are of an unknown kind.
    #[error("the certificate in {} and the key in {} cannot be used: {source}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
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

static FROM_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static FROM_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

impl MinVersion {
    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => FROM_TLS12,
            Self::Tls13 => FROM_TLS13,
        }
    }
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
    fn load(&self, folder: &Path) -> Result<ServerConfig, WebConfigError> {
        let cert = folder.join(&self.cert_file);
        let key = folder.join(&self.key_file);
        let chain = read_pem(&cert, "certificate", |bytes| {
            let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()?;
            match chain.is_empty() {
                true => Err(pem::Error::NoItemsFound),
                false => Ok(chain),
            }
        })?;
        let private = read_pem(&key, "private key", PrivateKeyDer::from_pem_slice)?;
        // Named, not taken from the process: no other part of it has to agree.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.min_version.versions())
            .map(|config| config.with_no_client_auth())
            .and_then(|config| config.with_single_cert(chain, private))
            .map_err(|source| WebConfigError::Pair { cert, key, source })
    }
}

fn read_pem<T>(
    path: &Path,
    what: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, WebConfigError> {
    let bytes = std::fs::read(path).map_err(|source| WebConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes).map_err(|source| WebConfigError::Pem {
        path: path.to_owned(),
        what,
        source,
    })
}
