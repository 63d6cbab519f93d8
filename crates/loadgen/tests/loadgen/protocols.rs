//! HTTP/1.1 and HTTP/2, TLS, Unix sockets, names, connections: against servers of a few lines that count.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::program::{command, output, result};
use crate::target::eventually;

/// What a server has seen.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    /// Heads in HTTP/1.1, or method and URI in HTTP/2, each with its body.
    requests: Mutex<Vec<String>>,
}

impl Seen {
    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    fn note(&self, request: String) {
        self.requests.lock().expect("no panic").push(request);
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http1,
    Http2,
}

async fn serve(stream: impl Connection, speaks: Speaks, seen: Arc<Seen>) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_open.fetch_max(open, Ordering::SeqCst);
    match speaks {
        Speaks::Http1 => http1(stream, &seen).await,
        Speaks::Http2 => http2(stream, &seen).await,
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

async fn http1(mut stream: impl Connection, seen: &Seen) {
    let mut bytes = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                seen.note(whole.clone());
                bytes.clear();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                if head.contains("connection: close") {
                    return;
                }
                continue;
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

async fn http2(stream: impl Connection, seen: &Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let seen = Arc::clone(seen);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
                bytes.extend_from_slice(&chunk);
            }
            let traced = head.headers.contains_key("traceparent");
            seen.note(format!(
                "{} {} {:?} {traced} {}",
                head.method,
                head.uri,
                head.headers.get("x-a"),
                String::from_utf8_lossy(&bytes)
            ));
            if let Ok(mut send) = respond.send_response(http::Response::new(()), false) {
                let _ = send.send_data(Bytes::from_static(b"ok"), true);
            }
        });
    }
}

/// Runs on a thread of its own for as long as the test process does.
fn start<F: Future<Output = ()> + 'static>(server: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(server());
    });
}

/// A server on a free port; returns its port.
fn tcp(speaks: Speaks, tls: Option<TlsAcceptor>, seen: &Arc<Seen>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::clone(seen);
    start(move || async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (tls, seen) = (tls.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, speaks, seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, speaks, seen).await;
                        }
                    }
                }
            });
        }
    });
    port
}

/// A certificate for `localhost`, and the file with that of the authority behind it.
fn certificates(folder: &Path, alpn: &[&[u8]]) -> (TlsAcceptor, PathBuf) {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let file = folder.join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("it is writable");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate with its key");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), file)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

const PACE: [&str; 4] = ["--rate", "100", "--for", "100ms"];

fn args<'a>(first: &[&'a str]) -> Vec<&'a str> {
    [first, &PACE].concat()
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, ca) = certificates(folder.path(), &[b"http/1.1"]);
    let seen = Arc::default();
    let port = tcp(Speaks::Http1, Some(tls), &seen);
    let url = format!("https://localhost:{port}/a");
    let summary = result(&args(&[&url, "--ca", text(&ca)]));
    assert_eq!((summary.sent, summary.received), (10, 10));
    assert!(
        seen.requests()[0].contains(&format!("host: localhost:{port}\r\n")),
        "{:?}",
        seen.requests()
    );

    // Another authority does not vouch for it.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (_, stranger) = certificates(elsewhere.path(), &[]);
    let summary = result(&args(&[&url, "--ca", text(&stranger)]));
    assert_eq!((summary.failed, summary.errors["connect"].count), (10, 10));
    assert!(
        summary.errors["connect"].example.contains("certificate"),
        "{summary:?}"
    );
}

#[test]
fn http2_shares_a_connection_with_and_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, ca) = certificates(folder.path(), &[b"h2"]);
    for (tls, scheme) in [(Some(tls), "https"), (None, "http")] {
        let seen = Arc::default();
        let port = tcp(Speaks::Http2, tls, &seen);
        let url = format!("{scheme}://localhost:{port}/a?b=c");
        let summary = result(&args(&[
            &url,
            "--http",
            "2",
            "--ca",
            text(&ca),
            "--header",
            "x-a: 1",
            "--body",
            "some",
            "--method",
            "PUT",
        ]));
        assert_eq!((summary.sent, summary.received), (10, 10), "{summary:?}");
        assert_eq!((seen.connections(), summary.generator.connections), (1, 1));
        for request in seen.requests() {
            assert_eq!(request, format!("PUT {url} Some(\"1\") true some"));
        }
    }
}

#[test]
fn http2_takes_several_connections_and_finds_new_ones() {
    let seen = Arc::default();
    let port = tcp(Speaks::Http2, None, &seen);
    let url = format!("http://127.0.0.1:{port}/");
    let summary = result(&args(&[&url, "--http", "2", "--connections", "3"]));
    assert_eq!((summary.received, seen.connections()), (10, 3));

    // A server of HTTP/1.1 answers a client of HTTP/2 with nonsense, and not for ever.
    let port = tcp(Speaks::Http1, None, &Arc::default());
    let url = format!("http://127.0.0.1:{port}/");
    let summary = result(&args(&[&url, "--http", "2", "--timeout", "5s"]));
    assert_eq!(summary.failed + summary.timed_out, 10, "{summary:?}");
}

#[test]
fn a_server_that_does_not_choose_http2_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, ca) = certificates(folder.path(), &[]);
    let port = tcp(Speaks::Http1, Some(tls), &Arc::default());
    let url = format!("https://localhost:{port}/");
    let summary = result(&args(&[&url, "--http", "2", "--ca", text(&ca)]));
    assert_eq!(summary.failed, 10);
    assert!(
        summary.errors["connect"]
            .example
            .contains("does not speak HTTP/2"),
        "{summary:?}"
    );
}

#[test]
fn a_unix_socket_takes_the_place_of_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("a socket");
    let seen: Arc<Seen> = Arc::default();
    let server = Arc::clone(&seen);
    start(move || async move {
        let listener = UnixListener::from_std(listener).expect("a listener");
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Speaks::Http1, Arc::clone(&server)));
            }
        }
    });
    let summary = result(&args(&[
        "http://nowhere.invalid/a",
        "--unix-socket",
        text(&path),
    ]));
    assert_eq!(summary.received, 10);
    assert!(
        seen.requests()[0].starts_with("GET /a HTTP/1.1\r\nhost: nowhere.invalid\r\n"),
        "{:?}",
        seen.requests()
    );

    let gone = folder.path().join("gone");
    let summary = result(&args(&[
        "http://nowhere.invalid/a",
        "--unix-socket",
        text(&gone),
    ]));
    assert_eq!(summary.errors["connect"].count, 10);
}

#[test]
fn names_are_looked_up_as_told() {
    let seen = Arc::default();
    let port = tcp(Speaks::Http1, None, &seen);
    let url = format!("http://shop.invalid:{port}/");
    let told = format!("shop.invalid:{port}:127.0.0.1");
    for dns in ["once", "connection"] {
        let summary = result(&args(&[&url, "--resolve", &told, "--dns", dns]));
        assert_eq!(summary.received, 10, "{dns}");
    }
    assert!(seen.requests()[0].contains(&format!("host: shop.invalid:{port}\r\n")));

    // Nobody knows it: before the run, or in each request.
    let refused = output(&args(&[&url]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot look up shop.invalid") && said.contains("--resolve"),
        "{said}"
    );
    let summary = result(&args(&[&url, "--dns", "connection"]));
    assert_eq!(summary.errors["connect"].count, 10, "{summary:?}");
    let local = format!("http://localhost:{port}/");
    assert_eq!(result(&args(&[&local, "--dns", "connection"])).received, 10);
}

#[test]
fn connections_are_kept_or_not() {
    let seen: Arc<Seen> = Arc::default();
    let port = tcp(Speaks::Http1, None, &seen);
    let url = format!("http://127.0.0.1:{port}/");
    let summary = result(&args(&[&url, "--no-keep-alive"]));
    assert_eq!(
        (
            summary.received,
            seen.connections(),
            summary.generator.connections
        ),
        (10, 10, 10)
    );
    assert!(
        seen.requests()
            .iter()
            .all(|request| request.contains("\r\nconnection: close\r\n"))
    );

    // As many as are to be held, all of them used.
    let seen: Arc<Seen> = Arc::default();
    let port = tcp(Speaks::Http1, None, &seen);
    let url = format!("http://127.0.0.1:{port}/");
    let summary = result(&args(&[&url, "--connections", "20"]));
    assert_eq!((summary.received, seen.connections()), (10, 20));
    assert_eq!(seen.most_open.load(Ordering::SeqCst), 20);
    assert_eq!(
        (
            summary.generator.connections,
            summary.generator.max_connections
        ),
        (20, 20)
    );
}

#[test]
fn a_held_connection_that_is_closed_is_opened_anew() {
    // Every answer ends its connection.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let accepted: Arc<AtomicU64> = Arc::default();
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.expect("a connection"), Arc::clone(&count));
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                count.fetch_add(1, Ordering::SeqCst);
                let length = stream.read(&mut [0; 1024]).unwrap_or(0);
                if length > 0 {
                    let _ = stream.write_all(
                        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    );
                }
            });
        }
    });
    let summary = result(&[&url, "--rate", "20", "--for", "1s", "--connections", "5"]);
    assert_eq!((summary.sent, summary.received), (20, 20), "{summary:?}");
    let made = summary.generator.connections;
    // One for each request, and those that are held for nothing at the end.
    assert!((20..=30).contains(&made), "{made}");
    eventually("all are accepted", || {
        (accepted.load(Ordering::SeqCst) == made).then_some(())
    });
}

#[test]
fn fields_and_bodies_come_from_the_command_line_and_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (fields, body) = (folder.path().join("fields"), folder.path().join("body"));
    std::fs::write(&fields, "x-secret: s3cret\n\naccept: text/html\n").expect("it is writable");
    std::fs::write(&body, "{\"a\": 1}").expect("it is writable");
    let (from_fields, from_body) = (format!("@{}", text(&fields)), format!("@{}", text(&body)));
    let seen = Arc::default();
    let port = tcp(Speaks::Http1, None, &seen);
    let url = format!("http://127.0.0.1:{port}/a");
    let all = [
        &url,
        "--header",
        &from_fields,
        "--header",
        "x-b: 2",
        "--body",
        &from_body,
        "--trace-ratio",
        "0",
    ];
    assert_eq!(result(&args(&all)).received, 10);
    for request in seen.requests() {
        let mut lines: Vec<_> = request.lines().collect();
        lines.sort_unstable();
        let host = format!("host: 127.0.0.1:{port}");
        let agent = concat!("user-agent: loadgen/", env!("CARGO_PKG_VERSION"));
        let mut expected = [
            "POST /a HTTP/1.1",
            &host,
            agent,
            "accept: text/html",
            "x-b: 2",
            "x-secret: s3cret",
            "content-length: 8",
            "",
            "{\"a\": 1}",
        ];
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    std::fs::write(&fields, "no field, but s3cret\n").expect("it is writable");
    let refused = output(&args(&[&url, "--header", &from_fields]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("line 1") && !said.contains("s3cret"),
        "{said}"
    );
    let body = command(&args(&[&url]))
        .env("LOADGEN_METHOD", "HEAD")
        .env("LOADGEN_BODY", "@/no/such/file")
        .output();
    let said = String::from_utf8_lossy(&body.expect("the program runs").stderr).into_owned();
    assert!(said.contains("give --body a file"), "{said}");
}
