//! Connections: to a name or an address, through a Unix socket, with or without TLS.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::{Host, Url};

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time on a connection
    #[default]
    #[value(name = "1.1")]
    Http1,
    /// HTTP/2: many requests at a time on a connection; without TLS, the server must know beforehand
    #[value(name = "2")]
    Http2,
}

/// When names are looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Lookup {
    /// Before the run; connections take turns through all addresses found
    #[default]
    Once,
    /// For every connection anew, as part of its request's time; the first address found is taken
    Connection,
}

/// An address to use for a host and port instead of asking the resolver, as curl's `--resolve` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
}

impl FromStr for Resolved {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not of the form HOST:PORT:ADDRESS[,ADDRESS...], for example shop.example:443:127.0.0.1"
            )
        };
        let (host, rest) = text.trim().split_once(':').ok_or_else(wrong)?;
        let (port, addresses) = rest.split_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let addresses = addresses
            .split(',')
            .map(|address| {
                let address = address.trim().trim_start_matches('[').trim_end_matches(']');
                Ok(SocketAddr::new(address.parse().map_err(|_| wrong())?, port))
            })
            .collect::<Result<Vec<_>, String>>()?;
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            addresses,
        })
    }
}

/// How connections are made.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// What is spoken.
    pub protocol: Protocol,
    /// Certificates of the authorities to trust, in PEM; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// Connect to this socket, whatever the URL's host is.
    pub unix_socket: Option<PathBuf>,
    /// When names are looked up.
    pub lookup: Lookup,
    /// What needs no look-up.
    pub resolved: Vec<Resolved>,
}

/// Why connections cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// The certificates cannot be read.
    #[error("cannot read certificates from {}: {why}; give --ca a file with certificates in PEM", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has none.
    #[error(
        "this system has no certificates of authorities to trust{0}; install some (the package ca-certificates), or give --ca a file"
    )]
    NoCa(String),
    /// A name cannot be used for TLS.
    #[error("{0} cannot be the name on a certificate")]
    ServerName(String),
    /// A name leads nowhere.
    #[error("cannot look up {name}: {source}; check the name, or say with --resolve where it is")]
    Lookup {
        /// The name.
        name: String,
        /// What the resolver said.
        source: io::Error,
    },
}

/// Where connections go: the scheme, host and port of a URL.
#[derive(Debug)]
pub struct Target {
    /// What the `Host` field says.
    pub authority: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// For spans.
    pub host: String,
    /// For spans and look-ups.
    pub port: u16,
    addresses: Vec<SocketAddr>,
    turn: Cell<usize>,
    server_name: Option<ServerName<'static>>,
}

/// Makes connections.
pub struct Connector {
    targets: Vec<Target>,
    unix_socket: Option<PathBuf>,
    tls: Option<TlsConnector>,
    protocol: Protocol,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("targets", &self.targets)
            .field("unix_socket", &self.unix_socket)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// For the hosts of `urls`, in their order; looks up their names unless that is to be done later.
    ///
    /// # Errors
    /// When a name leads nowhere, or certificates cannot be had.
    pub fn new(urls: &[Url], way: &Way) -> Result<Self, NoWay> {
        let targets = urls
            .iter()
            .map(|url| Target::new(url, way))
            .collect::<Result<Vec<_>, _>>()?;
        let tls = targets
            .iter()
            .any(|target| target.server_name.is_some())
            .then(|| tls(way))
            .transpose()?;
        Ok(Self {
            targets,
            unix_socket: way.unix_socket.clone(),
            tls,
            protocol: way.protocol,
        })
    }

    /// Where connections go.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A new connection to the target of this number.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn connect(&self, target: usize) -> io::Result<Stream> {
        let target = &self.targets[target];
        let plain = match &self.unix_socket {
            Some(path) => Plain::Right(UnixStream::connect(path).await?),
            None => {
                let stream = match target.next_address() {
                    Some(address) => TcpStream::connect(address).await?,
                    None => TcpStream::connect((target.host.as_str(), target.port)).await?,
                };
                stream.set_nodelay(true)?;
                Plain::Left(stream)
            }
        };
        let (Some(tls), Some(name)) = (&self.tls, &target.server_name) else {
            return Ok(Stream::Left(plain));
        };
        let stream = tls.connect(name.clone(), plain).await?;
        if self.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(
                "the server does not speak HTTP/2 (it did not choose h2 in the TLS handshake)",
            ));
        }
        Ok(Stream::Right(Box::new(stream)))
    }
}

impl Target {
    fn new(url: &Url, way: &Way) -> Result<Self, NoWay> {
        let secure = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or_default();
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let authority = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let server_name = secure
            .then(|| {
                ServerName::try_from(host.clone()).map_err(|_| NoWay::ServerName(host.clone()))
            })
            .transpose()?;
        let told = way
            .resolved
            .iter()
            .find(|told| told.host == host && told.port == port);
        let addresses = match (told, way.lookup) {
            _ if way.unix_socket.is_some() => Vec::new(),
            (Some(told), _) => told.addresses.clone(),
            (None, Lookup::Once) => (host.as_str(), port)
                .to_socket_addrs()
                .map_err(|source| NoWay::Lookup {
                    name: host.clone(),
                    source,
                })?
                .collect(),
            (None, Lookup::Connection) => Vec::new(),
        };
        Ok(Self {
            authority,
            scheme: if secure { "https" } else { "http" },
            host,
            port,
            addresses,
            turn: Cell::new(0),
            server_name,
        })
    }

    fn next_address(&self) -> Option<SocketAddr> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let count = self.addresses.len();
        (count > 0).then(|| self.addresses[turn % count])
    }
}

fn tls(way: &Way) -> Result<TlsConnector, NoWay> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots(way.ca.as_deref())?)
        .with_no_client_auth();
    config.alpn_protocols = match way.protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, NoWay> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first();
            return Err(NoWay::NoCa(
                why.map(|error| format!(" ({error})")).unwrap_or_default(),
            ));
        }
        return Ok(roots);
    };
    let wrong = |why: String| NoWay::Ca {
        path: path.to_owned(),
        why,
    };
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is none in it".to_owned()));
    }
    Ok(roots)
}

/// Bytes as they go over the wire, of TCP or a Unix socket.
type Plain = Either<TcpStream, UnixStream>;

/// A connection, as it is or with TLS.
pub type Stream = Either<Plain, Box<TlsStream<Plain>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    #[test]
    fn told_addresses() {
        let told: Resolved = "Shop.example:443:127.0.0.1,[::1]"
            .parse()
            .expect("it is one");
        assert_eq!(told.host, "shop.example");
        let addresses =
            ["127.0.0.1:443", "[::1]:443"].map(|text| text.parse().expect("an address"));
        assert_eq!(told.addresses, addresses);
        for text in [
            "",
            "shop",
            "shop:443",
            "shop:x:127.0.0.1",
            "shop:443:there",
            ":443:127.0.0.1",
            "a:1:127.0.0.1,",
        ] {
            let error = text.parse::<Resolved>().expect_err(text);
            assert!(error.contains("for example"), "{error}");
        }
    }

    #[test]
    fn what_is_told_needs_no_look_up_and_takes_turns() {
        let way = Way {
            resolved: vec![
                "shop.invalid:5000:127.0.0.1,127.0.0.2"
                    .parse()
                    .expect("it is one"),
            ],
            ..Way::default()
        };
        let target = Target::new(&url("http://shop.invalid:5000/x"), &way).expect("no look-up");
        let turns = [0; 3].map(|_| target.next_address().expect("there is one").to_string());
        assert_eq!(
            turns,
            ["127.0.0.1:5000", "127.0.0.2:5000", "127.0.0.1:5000"]
        );
        assert_eq!(target.authority, "shop.invalid:5000");
    }

    #[test]
    fn authorities() {
        for (text, authority, host, port) in [
            ("http://127.0.0.1/", "127.0.0.1", "127.0.0.1", 80),
            ("http://[::1]:5000/", "[::1]:5000", "::1", 5000),
            ("https://localhost", "localhost", "localhost", 443),
        ] {
            let target = Target::new(&url(text), &Way::default()).expect(text);
            assert_eq!(
                (target.authority.as_str(), target.host.as_str(), target.port),
                (authority, host, port)
            );
        }
    }
}
