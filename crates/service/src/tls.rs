//! HTTPS beside HTTP, with a certificate that is read again when its file changes: renewing one
//! needs no restart.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

/// TLS 1.2 and 1.3.
pub static FROM_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// TLS 1.3 only.
pub static FROM_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// Not a PEM file, or one without what it should hold.
    #[error("{} holds no {what} in PEM form: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was wrong with it.
        reason: pem::Error,
    },
    /// A certificate and a key that do not belong together, or are of an unknown kind.
    #[error("the certificate in {} and the key in {} cannot be used: {reason}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        reason: rustls::Error,
    },
}

/// A certificate chain and its private key, two files in PEM form.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads both and checks that they belong together.
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = read_pem(&self.certificate, "certificate", |bytes| {
            let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()?;
            match chain.is_empty() {
                true => Err(pem::Error::NoItemsFound),
                false => Ok(chain),
            }
        })?;
        let key = read_pem(&self.key, "private key", PrivateKeyDer::from_pem_slice)?;
        CertifiedKey::from_der(chain, key, provider).map_err(|reason| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason,
        })
    }

    /// A server with this certificate and, once the files have changed, with what they hold then.
    /// What cannot be used then is said in the log, and the old one stays. `versions` is
    /// [`FROM_TLS12`] or [`FROM_TLS13`].
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn serve(
        self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ServerConfig, TlsError> {
        // Named, not taken from the process: no other part of it has to agree.
        let provider = Arc::new(ring::default_provider());
        let stamp = self.stamp();
        let current = Current {
            stamp,
            key: Arc::new(self.load(&provider)?),
        };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Renewing {
                files: self,
                provider,
                current: Mutex::new(current),
            }));
        Ok(config)
    }

    /// When both were last written, as far as can be told.
    fn stamp(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|path| std::fs::metadata(path).ok()?.modified().ok())
    }
}

#[derive(Debug)]
struct Renewing {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    stamp: [Option<SystemTime>; 2],
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Renewing {
    /// Looks at the files' times once a handshake, which costs far more than that.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if stamp != current.stamp {
            // Also when it cannot be used: one line for each change, not for each handshake.
            current.stamp = stamp;
            match self.files.load(&self.provider) {
                Ok(key) => {
                    current.key = Arc::new(key);
                    tracing::info!("the certificate was renewed");
                }
                Err(error) => {
                    tracing::warn!(error.message = %error, "the new certificate cannot be used, the old one stays");
                }
            }
        }
        Some(Arc::clone(&current.key))
    }
}

fn read_pem<T>(
    path: &Path,
    what: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, TlsError> {
    let bytes = std::fs::read(path).map_err(|reason| TlsError::Read {
        path: path.to_owned(),
        reason,
    })?;
    parse(&bytes).map_err(|reason| TlsError::Pem {
        path: path.to_owned(),
        what,
        reason,
    })
}
