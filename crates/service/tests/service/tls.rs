//! HTTPS: the same service, and a certificate that is renewed while it runs.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use service::{CertificateFiles, Error, Listen, ServerConfig, Tls};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::harness::{Running, start_with};

/// A self-signed certificate and its key, in files.
struct Issued {
    certificate: rcgen::Certificate,
    key: String,
}

impl Issued {
    fn new() -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            key: pair.signing_key.serialize_pem(),
            certificate: pair.cert,
        }
    }

    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("server.key"), &self.key).unwrap();
        std::fs::write(dir.join("server.crt"), self.certificate.pem()).unwrap();
    }

    /// GET from a client that trusts this certificate and no other.
    async fn get(&self, service: &Running, path: &str) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(service.tls.unwrap()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // Not everybody closes TLS as one should.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        Ok(String::from_utf8(answer).unwrap())
    }
}

fn config(dir: &Path) -> ServerConfig {
    ServerConfig {
        tls: Some(Tls {
            listen: Listen {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                flag: "--tls-listen",
                env: "TLS_LISTEN",
            },
            files: CertificateFiles {
                certificate: dir.join("server.crt"),
                key: dir.join("server.key"),
            },
        }),
        ..ServerConfig::ephemeral()
    }
}

#[actix_web::test]
async fn both_ports_are_one_service() {
    let dir = TempDir::new().unwrap();
    let issued = Issued::new();
    issued.write(dir.path());
    let service = start_with(config(dir.path())).unwrap();
    let answer = issued.get(&service, "/items/7").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(service.get("/items/7").await.text().await.unwrap(), "7");
    let counted = r#"test_requests_total{method="GET",route="/items/{id}",status="200"}"#;
    assert_eq!(service.metric(counted).await, 2.0);
}

#[actix_web::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let dir = TempDir::new().unwrap();
    let [first, second] = [Issued::new(), Issued::new()];
    first.write(dir.path());
    let service = start_with(config(dir.path())).unwrap();
    assert!(first.get(&service, "/items/7").await.is_ok());
    assert!(second.get(&service, "/items/7").await.is_err());

    second.write(dir.path());
    assert!(second.get(&service, "/items/7").await.is_ok());
    assert!(first.get(&service, "/items/7").await.is_err());

    std::fs::write(dir.path().join("server.key"), &first.key).unwrap();
    assert!(
        second.get(&service, "/items/7").await.is_ok(),
        "the key does not belong to the certificate, so the old pair stays"
    );
}

#[actix_web::test]
async fn a_certificate_that_cannot_be_used_is_refused_at_the_start() {
    let dir = TempDir::new().unwrap();
    let refusal = |expected: &str| {
        let error = start_with(config(dir.path())).err().expect(expected);
        assert_eq!(error.exit_code(), 2);
        assert!(matches!(error, Error::Tls(_)));
        let text = error.to_string();
        // A program prints the chain of causes: nothing in it is said twice.
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), text);
        assert!(
            text.contains(expected) && text.contains("--tls-certificate"),
            "{text}"
        );
    };
    refusal("cannot read");
    Issued::new().write(dir.path());
    std::fs::write(dir.path().join("server.key"), Issued::new().key).unwrap();
    refusal("cannot be used");
    std::fs::write(dir.path().join("server.crt"), "nothing").unwrap();
    refusal("holds no certificate");
}
