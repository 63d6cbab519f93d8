//! The program under load and under attack: its end, a blocked output, hostile input, credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::collector::{Answer, Collector};
use crate::faults::TOKEN;
use crate::harness::eventually;
use crate::metrics::samples;

/// A service whose output this test reads when it pleases.
struct Process {
    child: Child,
    output: Option<PipeReader>,
    address: String,
    admin: String,
    _directory: TempDir,
}

impl Process {
    async fn start(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        let [address, admin] = [free_address(), free_address()];
        let (output, stdout) = std::io::pipe().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let child = Command::new(env!("CARGO_BIN_EXE_flask-api"))
            .env_clear()
            .env("PATH", path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .envs(environment.iter().copied())
            .arg(format!("--listen={address}"))
            .arg(format!("--admin-listen={admin}"))
            .arg(format!(
                "--database-url=sqlite://{}",
                directory.path().join("shop.db").display()
            ))
            .arg(format!("--chaos-token-file={}", token.display()))
            .arg("--payments-url=http://127.0.0.1:1")
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self {
            child,
            output: Some(output),
            address,
            admin,
            _directory: directory,
        };
        eventually("it is ready", async || {
            let ready = reqwest::get(format!("http://{}/readyz", process.admin)).await;
            ready.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        process
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn metrics(&self) -> String {
        let page = reqwest::get(format!("http://{}/metrics", self.admin)).await;
        page.unwrap().text().await.unwrap()
    }

    async fn metric(&self, series: &str) -> f64 {
        samples(&self.metrics().await)[series]
    }

    fn terminate(&self) {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
    }

    /// Reads everything it has written and writes until its end, on a thread of its own.
    fn read_output(&mut self) -> std::thread::JoinHandle<Vec<u8>> {
        let mut output = self.output.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody else may take it until it is used; then the service does not start and the test fails.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Every line, which has to be a JSON object.
fn lines(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).expect("the log is UTF-8");
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines()
        .map(|line| {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(value.is_object(), "{line}");
            value
        })
        .collect()
}

/// One request on a connection of its own; `None` when it never got as far as an answer.
async fn ask(address: &str, path: &str) -> Option<u16> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let whole = connection.read_to_end(&mut answer).await;
    if answer.is_empty() {
        return None;
    }
    whole.expect("an answer that has begun is sent to its end");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(
        length.map(|length| length.parse().unwrap()),
        Some(body.len()),
        "a whole body"
    );
    head.split(' ').nth(1)?.parse().ok()
}

/// Sends 500 requests a second, ends the service in the middle of it, and compares what clients, log and
/// collector have seen.
async fn end_under_load(answer: Answer) {
    let collector = Collector::start(answer);
    let endpoint = collector.endpoint();
    let mut process = Process::start(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "20000"),
    ])
    .await;
    let output = process.read_output();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut sent = 0;
    let mut signalled = false;
    // Until the service has been gone for a while: its port is closed at some point in between.
    let mut refused = 0;
    while refused < 50 {
        ticks.tick().await;
        sent += 1;
        if sent == 1000 {
            process.terminate();
            signalled = true;
        }
        let (address, counter) = (process.address.clone(), Arc::clone(&answered));
        clients.spawn(async move {
            let status = ask(&address, "/api/products").await;
            if let Some(status) = status {
                assert_eq!(status, 200);
                counter.fetch_add(1, Ordering::Relaxed);
            }
            status
        });
        while let Some(done) = clients.try_join_next() {
            let done = done.unwrap();
            assert!(
                done.is_some() || signalled,
                "refused before it was told to stop"
            );
            refused += usize::from(done.is_none());
        }
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    let code = process.child.wait().unwrap().code();
    assert_eq!(code, Some(0));

    let lines = lines(&output.join().unwrap());
    let access: Vec<_> = lines
        .iter()
        .filter(|line| line["event.dataset"] == "flask-api.access")
        .collect();
    let served: BTreeSet<&str> = access
        .iter()
        .map(|line| {
            assert_eq!(line["http.response.status_code"], 200, "{line}");
            line["trace.id"].as_str().unwrap()
        })
        .collect();
    assert_eq!(served.len(), access.len(), "a trace for each");
    assert_eq!(
        access.len(),
        answered.load(Ordering::Relaxed),
        "what was accepted was answered, and logged"
    );
    let last = lines.last().unwrap();
    match answer {
        Answer::Accept => {
            let spans = collector.spans();
            let roots: BTreeSet<&str> = spans
                .iter()
                .filter(|(name, ..)| name == "GET /api/products")
                .map(|(_, trace, _)| trace.as_str())
                .collect();
            assert_eq!(roots, served, "every root span is stored");
        }
        _ => assert!(
            last["message"]
                .as_str()
                .unwrap()
                .contains("never reached the collector"),
            "{last}"
        ),
    }
}

#[tokio::test]
async fn the_end_under_load_loses_no_request_no_line_and_no_span() {
    end_under_load(Answer::Accept).await;
}

#[tokio::test]
async fn the_end_under_load_loses_no_request_and_no_line_when_the_collector_hangs() {
    end_under_load(Answer::Silence).await;
}

#[tokio::test]
async fn a_blocked_output_costs_lines_that_are_counted_and_told_and_no_request() {
    let mut process = Process::start(&[]).await;
    let chaos = |method: reqwest::Method, path: &str| {
        let request =
            reqwest::Client::new().request(method, format!("http://{}{path}", process.admin));
        request.bearer_auth(TOKEN)
    };
    let flood = chaos(reqwest::Method::POST, "/chaos/log-flood").json(&json!({"rate": 20_000}));
    assert_eq!(flood.send().await.unwrap().status(), 201);
    let dropped = "telemetry_log_lines_dropped_total";
    eventually("lines are dropped", async || {
        process.metric(dropped).await > 100.0
    })
    .await;
    for _ in 0..100 {
        let answer = reqwest::get(process.url("/api/products")).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let stop = chaos(reqwest::Method::DELETE, "/chaos/log-flood");
    assert_eq!(stop.send().await.unwrap().status(), 200);

    let output = process.read_output();
    // The line behind those that were dropped, for them to be told of.
    eventually("it is written again", async || {
        let before = process.metric(dropped).await;
        reqwest::get(process.url("/api/products")).await.unwrap();
        process.metric(dropped).await == before
    })
    .await;
    let counted = process.metric(dropped).await;
    process.terminate();
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let lines = lines(&output.join().unwrap());
    let notices: Vec<_> = lines
        .iter()
        .filter_map(|line| line["labels.log_lines_dropped"].as_u64())
        .collect();
    assert!(!notices.is_empty());
    assert_eq!(notices.iter().sum::<u64>() as f64, counted, "{notices:?}");
}

#[tokio::test]
async fn no_input_splits_or_forges_a_line() {
    let mut process = Process::start(&[]).await;
    let output = process.read_output();
    let forged = r#"{"@timestamp":"2026-01-01T00:00:00Z","message":"forged"}"#;
    let mut sent = 0;
    for evil in [
        "%0a",
        "%0d%0a",
        "%1b[31m",
        "%e2%80%a8",
        "%e2%80%a9",
        "%c2%85",
        "%00",
        "%ff%fe",
        "%22%7d",
        "\\n",
        "\"}",
        "../../x",
    ] {
        let path = format!("/{evil}{forged}").replace(' ', "%20");
        sent += usize::from(ask(&process.address, &path).await.is_some());
    }
    for evil in [
        &b"\xff\xfe\x80"[..],
        "\u{2028}\u{2029}\u{85}".as_bytes(),
        b"\t\t",
        b"\x9b31m C1",
        forged.as_bytes(),
        &[b'x'; 12_000],
    ] {
        let mut connection = TcpStream::connect(&process.address).await.unwrap();
        let mut request =
            b"GET /api/products HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: ".to_vec();
        request.extend_from_slice(evil);
        request.extend_from_slice(b"\r\n\r\n");
        connection.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        sent += 1;
    }
    process.terminate();
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let output = output.join().unwrap();
    let text = std::str::from_utf8(&output).unwrap();
    let odd = text
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || ['\u{2028}', '\u{2029}'].contains(c));
    assert_eq!(odd, None, "nothing a terminal or another reader acts on");
    let lines = lines(&output);
    assert!(lines.iter().all(|line| line["message"] != "forged"));
    let access = lines
        .iter()
        .filter(|line| line["event.dataset"] == "flask-api.access");
    // What the HTTP library refuses has no line.
    assert!(sent > 10, "{sent}");
    assert!(access.count() <= sent && text.lines().count() == lines.len());
}

#[tokio::test]
async fn ten_thousand_paths_a_thousand_methods_and_headers_are_no_series() {
    let mut process = Process::start(&[]).await;
    // Read, or it would block; what it says is the business of other tests.
    let _output = process.read_output();
    let names = async || -> BTreeSet<String> {
        samples(&process.metrics().await)
            .into_keys()
            .map(str::to_owned)
            .collect()
    };
    let before = names().await;
    assert!(before.len() < 400, "{} series", before.len());
    let requests = (0..10_000)
        .map(|n| {
            format!(
                "GET /{:016x}/{n}?{n:x}={n} HTTP/1.1\r\nHost: a\r\n",
                rand_of(n)
            )
        })
        .chain((0..1_000).map(|n| format!("M{:X} /api/orders HTTP/1.1\r\nHost: a\r\n", rand_of(n))))
        .chain((0..1_000).map(|n| {
            let value = rand_of(n);
            let headers = [
                "host",
                "user-agent",
                "content-type",
                "accept",
                "authorization",
                "cookie",
                "traceparent",
                "tracestate",
                "baggage",
                "idempotency-key",
                "x-fault",
                "x-fault-token",
                "x-forwarded-for",
                "origin",
                "range",
                "expect",
            ];
            let name = headers[n as usize % headers.len()];
            let host = if name == "host" {
                String::new()
            } else {
                "Host: a\r\n".to_owned()
            };
            format!("GET /api/products HTTP/1.1\r\n{host}{name}: {value:x}-{n}\r\n")
        }));
    let mut connection = TcpStream::connect(&process.address).await.unwrap();
    let mut statuses = BTreeMap::<u16, usize>::new();
    for request in requests {
        connection
            .write_all(format!("{request}\r\n").as_bytes())
            .await
            .unwrap();
        *statuses
            .entry(read_status(&mut connection).await)
            .or_default() += 1;
    }
    assert_eq!(statuses.values().sum::<usize>(), 12_000);
    assert_eq!(statuses.get(&404), Some(&10_000), "{statuses:?}");
    assert_eq!(statuses.get(&405), Some(&1_000), "{statuses:?}");
    let after = names().await;
    assert_eq!(
        after.difference(&before).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

/// Different for every number, and the same in every run.
fn rand_of(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The status of the next answer on a connection, whose body is read.
async fn read_status(connection: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    connection.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
