//! `--web.config.file`: TLS, passwords, and the files that are refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use custom_flask_exporter::Args;
use custom_flask_exporter::server::Setup;
use prometheus::Registry;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Running;
use crate::golden::{promtool, run};
use crate::shop::Shop;

const TLS: &str = "tls_server_config: {cert_file: exporter.crt, key_file: exporter.key}\n";

/// A folder with a certificate, its key, and web configurations that name them.
struct Folder {
    folder: TempDir,
    certificate: rcgen::Certificate,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = Self {
            folder,
            certificate: pair.cert,
        };
        files.write("exporter.crt", &files.certificate.pem());
        files.write("exporter.key", &pair.signing_key.serialize_pem());
        files
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn start(&self, config: &str) -> Running {
        let file = self.write("web.yml", config);
        Running::start(
            &Shop::absent(),
            &["--web.config.file", file.to_str().unwrap()],
        )
    }

    /// Why a file is refused, without the folder it lies in.
    fn refusal(&self, config: &str) -> String {
        let file = self.write("web.yml", config);
        let args = Args::try_parse_from([
            "custom-flask-exporter",
            "--web.config.file",
            file.to_str().unwrap(),
        ])
        .unwrap();
        let error = Setup::check(&args, Registry::new()).err().expect(config);
        let folder = format!("{}/", self.folder.path().display());
        error.to_string().replace(&folder, "")
    }

    /// GET over TLS, from a client that trusts the certificate and speaks these versions.
    async fn get(
        &self,
        exporter: &Running,
        path: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(exporter.address).await?;
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
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        Ok(String::from_utf8(answer).unwrap())
    }
}

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

#[tokio::test]
async fn with_a_certificate_it_speaks_https_and_only_that() {
    let folder = Folder::new();
    let exporter = folder.start(TLS);
    for versions in [TLS12, TLS13] {
        let answer = folder.get(&exporter, "/metrics", versions).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\nshop_up 0\n"), "{answer}");
    }
    assert!(
        exporter.request("/metrics").send().await.is_err(),
        "plain HTTP"
    );
}

#[tokio::test]
async fn an_older_tls_than_asked_for_is_refused() {
    let folder = Folder::new();
    let exporter = folder.start(&TLS.replace('}', ", min_version: TLS13}"));
    assert!(folder.get(&exporter, "/healthz", TLS13).await.is_ok());
    assert!(folder.get(&exporter, "/healthz", TLS12).await.is_err());
}

#[tokio::test]
async fn every_page_but_health_asks_for_the_password() {
    let config = format!(
        "basic_auth_users:\n  anna: {}\n  bert: {}\n",
        hash("an:na"),
        hash("b")
    );
    let exporter = Folder::new().start(&config);
    for path in ["/", "/metrics", "/probe", "/nowhere"] {
        let challenged = exporter.get(path).await;
        assert_eq!(challenged.status(), 401, "{path}");
        assert_eq!(
            challenged.headers()["www-authenticate"],
            "Basic realm=\"custom-flask-exporter\", charset=\"UTF-8\""
        );
        assert!(!challenged.text().await.unwrap().contains("shop"), "{path}");
    }
    assert_eq!(exporter.get("/healthz").await.status(), 200);

    for (user, password, status) in [
        ("anna", "wrong", 401),
        ("anna", "b", 401),
        ("carl", "an:na", 401),
        ("", "", 401),
        ("anna", "an:na", 200),
        ("anna", "an:na", 200),
        ("anna", "wrong", 401),
        ("bert", "b", 200),
    ] {
        let request = exporter
            .request("/metrics")
            .basic_auth(user, Some(password));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{user} {password}");
    }
}

#[tokio::test]
async fn an_empty_file_asks_for_nothing() {
    for nothing in ["", "# nothing yet\n", "{}\n", "basic_auth_users: {}\n"] {
        let exporter = Folder::new().start(nothing);
        assert_eq!(exporter.get("/metrics").await.status(), 200, "{nothing:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_reason() {
    let folder = Folder::new();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    folder.write("other.key", &other.signing_key.serialize_pem());
    let tls = |change: (&str, &str)| TLS.replace(change.0, change.1);
    for (config, parts) in [
        ("tls_server_config: [".to_owned(), vec!["web.yml: "]),
        // Valid for exporter-toolkit, and not supported here.
        (
            "http_server_config: {http2: false}\n".to_owned(),
            vec!["web.yml: ", "unknown field `http_server_config`"],
        ),
        (
            tls(("{", "{client_ca_file: ca.crt, ")),
            vec!["web.yml: ", "unknown field `client_ca_file`"],
        ),
        (
            tls(("}", ", min_version: TLS11}")),
            vec!["web.yml: ", "TLS11"],
        ),
        (
            "tls_server_config: {cert_file: exporter.crt}\n".to_owned(),
            vec!["missing field `key_file`"],
        ),
        (
            tls(("exporter.crt", "absent.crt")),
            vec!["cannot read absent.crt: No such file"],
        ),
        (
            tls(("exporter.crt", "exporter.key")),
            vec!["exporter.key holds no certificate in PEM form"],
        ),
        (
            tls(("exporter.key", "exporter.crt")),
            vec!["exporter.crt holds no private key in PEM form"],
        ),
        (
            tls(("exporter.key", "other.key")),
            vec!["the certificate in exporter.crt and the key in other.key cannot be used"],
        ),
        (
            "basic_auth_users: {anna: secret}\n".to_owned(),
            vec!["web.yml: basic_auth_users, anna: not a bcrypt hash"],
        ),
        (
            format!(
                "basic_auth_users: {{anna: '{}'}}\n",
                hash("x").replace("$04$", "$20$")
            ),
            vec!["web.yml: basic_auth_users, anna: the hash has cost 20"],
        ),
    ] {
        let message = folder.refusal(&config);
        for part in parts {
            assert!(message.contains(part), "{config}{message}");
        }
        assert!(message.contains("--web.config.file"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

/// What is accepted here means the same to the Prometheus programs.
#[test]
fn the_file_is_one_of_exporter_toolkit() {
    let Some(promtool) = promtool() else { return };
    let folder = Folder::new();
    let accepted = |config: &str| {
        let file = folder.write("web.yml", config);
        let (good, said) = run(&promtool, &["check", "web-config", path(&file)], "");
        assert!(good, "{config}{said}");
    };
    accepted(TLS);
    accepted(&TLS.replace('}', ", min_version: TLS13}"));
    accepted(&format!("{TLS}basic_auth_users:\n  anna: {}\n", hash("a")));
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}
