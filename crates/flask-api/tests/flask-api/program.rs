//! The program itself: processes, flags, exit codes, log lines, and payments as it really is.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::faults::TOKEN;
use crate::fixture::{Fixture, on_both_databases};
use crate::harness::{Answer, one};
use crate::metrics::samples;

/// Set for the child that is to be the payment service, see [`payments_program`].
const BE_PAYMENTS: &str = "FLASK_API_TEST_BE_PAYMENTS";

const ANYWHERE: [&str; 3] = [
    "--listen=127.0.0.1:0",
    "--admin-listen=127.0.0.1:0",
    "--drain-delay=0s",
];

/// A running service, and every line it has logged so far.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    http: Client,
}

impl Program {
    fn start(mut command: Command) -> Self {
        // Settings of whoever runs the tests are not part of them. No collector is needed either.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let kept: Vec<_> = command
            .get_envs()
            .filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())))
            .collect();
        command
            .env_clear()
            .env("PATH", path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .envs(kept);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(entry) = serde_json::from_slice(&line) {
                    sink.lock().unwrap().push(entry);
                }
            }
        });
        Self {
            child,
            log,
            http: Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn flask_api(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flask-api"));
        command.args(ANYWHERE).args(flags);
        Self::start(command)
    }

    fn payments() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "program::payments_program",
                "--ignored",
                "--nocapture",
            ])
            .env(BE_PAYMENTS, "1");
        Self::start(command)
    }

    /// The first log line that meets the condition, now or later.
    async fn line(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(line) = self.log.lock().unwrap().iter().find(|line| condition(line)) {
                return line.clone();
            }
            assert!(
                Instant::now() < deadline,
                "{what} was never logged: {:#?}",
                self.log.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The URL of one of its two ports, from the line that announces it.
    async fn url(&self, announcement: &str) -> String {
        let line = self
            .line(announcement, |line| line["message"] == announcement)
            .await;
        format!("http://127.0.0.1:{}", line["server.port"])
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self
            .http
            .request(method, self.url("listening").await + path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    async fn metrics(&self) -> String {
        let url = self.url("admin listening").await + "/metrics";
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    /// SIGTERM, and the exit code.
    fn stop(mut self) -> Option<i32> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: [`Program::payments`] runs this binary again to have the payment service in a
/// process of its own, for cargo builds no programs of other packages for a test.
#[test]
#[ignore = "the payment service for the other tests"]
fn payments_program() {
    if std::env::var_os(BE_PAYMENTS).is_some() {
        let args = payments::Args::parse_from(["payments"].into_iter().chain(ANYWHERE));
        let _ = payments::run(args);
    }
}

on_both_databases! {
    two_replicas_and_payments_make_one_shop
    no_customer_is_promised_what_another_got
}

async fn two_replicas_and_payments_make_one_shop(fixture: Fixture) {
    let database_url = format!("--database-url={}", fixture.url());
    let payments = Program::payments();
    let payments_url = format!("--payments-url={}", payments.url("listening").await);
    // Both at once, on a database that neither has made yet.
    let replicas = [0, 1].map(|_| Program::flask_api(&[&database_url, &payments_url]));
    let [first, second] = &replicas;

    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4703";
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    let placed = first
        .request(
            Method::POST,
            "/api/orders",
            Some(one(1, 2)),
            &[("traceparent", &traceparent)],
        )
        .await;
    assert_eq!(
        (placed.status.as_u16(), placed.body["status"].as_str()),
        (201, Some("paid")),
        "{placed:?}"
    );
    let found = second
        .request(Method::GET, placed.header("location"), None, &[])
        .await;
    assert_eq!(found.body, placed.body, "both replicas see one shop");

    let with_key = |replica: usize| {
        replicas[replica].request(
            Method::POST,
            "/api/orders",
            Some(one(2, 1)),
            &[("idempotency-key", "k")],
        )
    };
    let answers = futures::future::join_all((0..10).map(|n| with_key(n % 2))).await;
    for answer in &answers {
        assert_eq!(
            (answer.status.as_u16(), answer.body["status"].as_str()),
            (201, Some("paid")),
            "{answer:?}"
        );
        assert_eq!(answer.id(), answers[0].id());
    }
    let product = first
        .request(Method::GET, "/api/products/2", None, &[])
        .await;
    assert_eq!(product.body["stock"], 100_000 - 1);

    for (message, status) in [("order placed", "pending"), ("order paid", "paid")] {
        let line = first
            .line(message, |line| {
                line["message"] == message && line["order.id"] == placed.id()
            })
            .await;
        assert_eq!(line["order.status"], status);
        assert_eq!(line["order.total_cents"], 2580);
        assert_eq!(line["log.level"], "info");
        assert_eq!(line["event.dataset"], "flask-api.app");
        assert_eq!(line["trace.id"], trace_id);
    }
    payments
        .line("its part of the trace", |line| line["trace.id"] == trace_id)
        .await;
    let log = first.log.lock().unwrap().clone();
    let logged = log.iter().filter(|line| {
        line["log.logger"]
            .as_str()
            .is_some_and(|logger| logger.starts_with("sqlx"))
    });
    assert_eq!(
        logged.collect::<Vec<_>>(),
        [&Value::Null; 0],
        "statements are not logged at info"
    );

    for replica in replicas {
        assert_eq!(replica.stop(), Some(0));
    }
    assert_eq!(payments.stop(), Some(0));
}

/// A file with a token, and the flag that names it.
fn chaos_token(directory: &std::path::Path) -> String {
    let file = directory.join("token");
    std::fs::write(&file, TOKEN).unwrap();
    format!("--chaos-token-file={}", file.display())
}

#[tokio::test]
async fn telemetry_is_spoilt_on_purpose_and_whole_again() {
    let directory = tempfile::tempdir().unwrap();
    let database_url = format!(
        "--database-url=sqlite://{}",
        directory.path().join("shop.db").display()
    );
    let payments = Program::payments();
    let payments_url = format!("--payments-url={}", payments.url("listening").await);
    let shop = Program::flask_api(&[&database_url, &payments_url, &chaos_token(directory.path())]);

    // Trace contexts of which one breaks at each side.
    let order = async |digit: char, fault: &str| {
        let trace_id = String::from(digit).repeat(32);
        let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
        let headers = [
            ("traceparent", traceparent.as_str()),
            ("x-fault-token", TOKEN),
            ("x-fault", fault),
        ];
        let placed = shop
            .request(Method::POST, "/api/orders", Some(one(1, 1)), &headers)
            .await;
        assert_eq!(placed.status, 201, "{placed:?}");
        (trace_id, placed.id())
    };
    let line_of = async |id: i64| {
        shop.line("the order", |line| {
            line["message"] == "order paid" && line["order.id"] == id
        })
        .await
    };
    let (whole, id) = order('a', "latency;delay=0s").await;
    assert_eq!(line_of(id).await["trace.id"], whole);
    payments
        .line("one trace", |line| line["trace.id"] == whole)
        .await;
    let (cut_before, id) = order('b', "trace-break;direction=in").await;
    let own = line_of(id).await["trace.id"].as_str().unwrap().to_owned();
    assert_ne!(own, cut_before);
    payments
        .line("one trace from here on", |line| line["trace.id"] == own)
        .await;
    let (cut_after, id) = order('c', "trace-break;direction=out").await;
    assert_eq!(line_of(id).await["trace.id"], cut_after);
    let known = [whole.as_str(), own.as_str(), cut_after.as_str()];
    let stranger = payments
        .line("a trace of its own", |line| {
            line["http.route"] == "/api/payments"
                && !known.contains(&line["trace.id"].as_str().unwrap_or_default())
        })
        .await;
    assert_eq!(stranger["http.response.status_code"], 201);

    // Nonsense in the log, between lines that are whole.
    let admin = shop.url("admin listening").await;
    let start = shop.http.post(format!("{admin}/chaos/log-malformed"));
    let started = start
        .bearer_auth(TOKEN)
        .json(&json!({"rate": 100}))
        .send()
        .await;
    assert_eq!(started.unwrap().status(), 201);
    shop.line("a line with the wrong types", |line| {
        line["@timestamp"] == "yesterday"
    })
    .await;
    let stop = shop
        .http
        .delete(format!("{admin}/chaos"))
        .bearer_auth(TOKEN);
    assert_eq!(stop.send().await.unwrap().status(), 200);
    shop.line("its end", |line| {
        line["message"] == "fault ended" && line["chaos.fault"] == "log-malformed"
    })
    .await;
    assert_eq!(shop.stop(), Some(0));
    assert_eq!(payments.stop(), Some(0));
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let flag = format!("--chaos-token-file={}", file.display());
    for (content, cause) in [
        (None, "cannot be read"),
        (Some(""), "16"),
        (Some("short"), "16"),
        (Some("a secret of several words"), "without spaces"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let output = refused(&[&flag]);
        let text =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [cause, "--chaos-token-file", "CHAOS_TOKEN_FILE"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(
            !text.contains("secret"),
            "the content is not repeated: {text}"
        );
    }
}

/// Many customers, few units, two replicas, over HTTP: what was answered is what is stored.
async fn no_customer_is_promised_what_another_got(fixture: Fixture) {
    const UNITS: i64 = 60;
    let database_url = format!("--database-url={}", fixture.url());
    let payments = Program::payments();
    let payments_url = format!("--payments-url={}", payments.url("listening").await);
    let flags = [database_url.as_str(), payments_url.as_str()];
    let replicas = [0, 1].map(|_| Program::flask_api(&flags));
    for replica in &replicas {
        replica.url("listening").await;
    }
    let aside = fixture.aside().await;
    aside
        .execute("UPDATE products SET stock = CASE WHEN id <= 2 THEN 30 ELSE 0 END")
        .await;
    let request = async |replica: usize, path: &str, body: Value, key: &str| {
        let headers = [("idempotency-key", key)];
        replicas[replica]
            .request(Method::POST, path, Some(body), &headers)
            .await
    };
    let customers = (0..40_usize).map(|customer| async move {
        let (mut held, mut refused) = (0, 0);
        for round in 0..6_usize {
            let (replica, other) = (customer % 2, (customer + 1) % 2);
            let key = format!("{customer}/{round}");
            let quantity = i64::try_from(1 + (customer + round) % 2).unwrap();
            let product = i64::try_from(1 + customer % 2).unwrap();
            let order = json!({"items": [
                {"product_id": product, "quantity": quantity},
                {"product_id": 3 - product, "quantity": 1},
            ]});
            // The same request to both replicas at once, as an impatient client might send it.
            let (first, second) = futures::future::join(
                request(replica, "/api/orders", order.clone(), &key),
                request(other, "/api/orders", order, &key),
            )
            .await;
            match (first.status.as_u16(), second.status.as_u16()) {
                (201, 201) => {
                    assert_eq!(first.body["id"], second.body["id"]);
                    // The later of the two waits for the earlier one's payment, but not for ever.
                    for answer in [&first, &second] {
                        let status = answer.body["status"].as_str().unwrap();
                        assert!(["paid", "pending"].contains(&status), "{answer:?}");
                    }
                    held += quantity + 1;
                }
                // One came too late, and the other may have come later still.
                (201, 409) | (409, 201) => held += quantity + 1,
                (409, 409) => refused += 1,
                unexpected => panic!("{unexpected:?}: {first:?} {second:?}"),
            }
            let placed = if first.status == 201 { &first } else { &second };
            if placed.status == 201 && round % 2 == 0 {
                let path = format!("/api/orders/{}/cancel", placed.id());
                let cancelled = request(other, &path, json!({}), "").await;
                assert_eq!(cancelled.status, 200, "{cancelled:?}");
                held -= quantity + 1;
            }
        }
        (held, refused)
    });
    let customers = futures::future::join_all(customers).await;
    let held: i64 = customers.iter().map(|(held, _)| held).sum();
    let refused: i64 = customers.iter().map(|(_, refused)| refused).sum();
    assert!(refused > 0, "demand was to exceed supply");
    assert_eq!(
        aside.units().await,
        (UNITS - held, held),
        "what customers were told is what the database holds"
    );
    for replica in replicas {
        assert_eq!(replica.stop(), Some(0));
    }
}

#[tokio::test]
async fn a_replica_stays_under_400_series() {
    let directory = tempfile::tempdir().unwrap();
    let database_url = format!(
        "--database-url=sqlite://{}",
        directory.path().join("shop.db").display()
    );
    let payments = Program::payments();
    let payments_url = format!("--payments-url={}", payments.url("listening").await);
    let shop = Program::flask_api(&[&database_url, &payments_url, &chaos_token(directory.path())]);

    let names = async || -> Vec<String> {
        let page = shop.metrics().await;
        samples(&page).keys().map(ToString::to_string).collect()
    };
    let at_start = names().await;
    assert!(at_start.len() < 400, "{} series", at_start.len());

    let post =
        async |path: &str, body: Value| shop.request(Method::POST, path, Some(body), &[]).await;
    let get = async |path: &str| shop.request(Method::GET, path, None, &[]).await;
    // What a load generator does, and then some.
    let id = post("/api/orders", one(1, 1)).await.id();
    post("/api/orders", one(8, 1000)).await;
    assert_eq!(
        post(&format!("/api/orders/{id}/cancel"), json!({}))
            .await
            .status,
        200
    );
    assert_eq!(
        post(&format!("/api/orders/{id}/cancel"), json!({}))
            .await
            .status,
        409
    );
    assert_eq!(post("/api/orders", one(99, 1)).await.status, 422);
    assert_eq!(post("/api/orders", json!([])).await.status, 400);
    for (path, status) in [
        ("/api/products", 200),
        ("/api/products/1", 200),
        ("/api/products/99", 404),
        ("/api/orders", 200),
        ("/api/orders?limit=0", 400),
        ("/api/orders/1", 200),
        ("/api/orders/99", 404),
        ("/favicon.ico", 404),
    ] {
        assert_eq!(get(path).await.status, status, "{path}");
    }
    // What anybody can send: no route, method, parameter, body or header of theirs is a series.
    let url = shop.url("listening").await;
    for method in ["GET", "HEAD", "POST", "DELETE", "BREW"] {
        for path in [
            "/api/products",
            "/api/products/x",
            "/api/products/99999999999999999999",
            "/api/orders",
            "/api/orders?limit=1&limit=2",
            "/api/orders?status=x",
            "/api/orders/x",
            "/api/orders/x/cancel",
            "/api/orders/99/cancel",
            "/%ff",
        ] {
            for (content_type, encoding, body) in [
                ("application/json", "identity", "{".to_owned()),
                ("application/json", "gzip", "not gzip".to_owned()),
                ("application/json", "identity", " ".repeat(300_000)),
                ("text/plain", "identity", "x".to_owned()),
            ] {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let request = shop.http.request(method, format!("{url}{path}"));
                let request = request
                    .header("content-type", content_type)
                    .header("content-encoding", encoding)
                    .body(body);
                // A connection may be closed before all of a refused body is sent.
                let _ = request.send().await;
            }
        }
    }
    assert_eq!(names().await, at_start, "after use and misuse");
    let page = shop.metrics().await;
    let orders = |status: u16| {
        let labels = format!(r#"method="POST",route="/api/orders",status="{status}""#);
        samples(&page)[format!("flask_requests_total{{{labels}}}").as_str()]
    };
    for status in [400, 415] {
        assert!(orders(status) > 0.0, "none of the misuse was a {status}");
    }
    assert_eq!(orders(500), 0.0, "misuse is not our failure");

    assert_eq!(payments.stop(), Some(0));
    assert_eq!(post("/api/orders", one(1, 1)).await.status, 503);
    assert_eq!(names().await, at_start, "after payments went down");

    // One failure, one name: of the dependency that failed, and of the request that failed for it.
    let warning = shop
        .line("the warning", |line| {
            line["message"] == "payments gave no answer"
        })
        .await;
    let error = shop
        .line("the error", |line| line["message"] == "request failed")
        .await;
    assert_eq!(warning["error.type"], "connection");
    assert_eq!(error["error.type"], "connection");
    assert_eq!(warning["trace.id"], error["trace.id"]);

    // Or Elasticsearch makes a double of it, and an id beyond 2^53 another id.
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../elk/index-template.json");
    let template: Value = serde_json::from_slice(&std::fs::read(template).unwrap()).unwrap();
    let properties = &template["template"]["mappings"]["properties"];
    for line in shop.log.lock().unwrap().iter() {
        for (field, value) in line.as_object().unwrap() {
            if value.is_i64() {
                assert_eq!(properties[field]["type"], "long", "{field} in {line}");
            }
        }
    }
    assert_eq!(shop.stop(), Some(0));
}

#[tokio::test]
async fn what_is_not_http_is_no_error_of_ours() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let directory = tempfile::tempdir().unwrap();
    let database_url = format!(
        "--database-url=sqlite://{}",
        directory.path().join("shop.db").display()
    );
    let shop = Program::flask_api(&[&database_url]);
    let url = shop.url("listening").await;
    let address = url.strip_prefix("http://").unwrap();
    let mut stranger = tokio::net::TcpStream::connect(address).await.unwrap();
    stranger
        .write_all(b"\x16\x03\x01 no http\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let log = Arc::clone(&shop.log);
    assert_eq!(shop.stop(), Some(0));
    let log = log.lock().unwrap();
    let errors: Vec<_> = log
        .iter()
        .filter(|line| {
            line["log.level"]
                .as_str()
                .is_some_and(|l| l.eq_ignore_ascii_case("error"))
        })
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn all_wrong_settings_are_told_at_once_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    std::fs::write(&file, "postgres://shop:hunter2@db:many/shop\n").unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let output = refused(&[
        &format!("--database-url-file={}", file.display()),
        "--payments-url=https://maria:hunter2@payments",
        "--payments-retries=99",
        "--payments-timeout=soon",
        "--workers=0",
        "--listen=here",
        "--colour=red",
        &format!("--chaos-token-file={}", token.display()),
        "--tls-key=/nowhere/key.pem",
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: 9 settings are wrong:\n"), "{text}");
    for part in [
        "--database-url-file (or DATABASE_URL_FILE)",
        "invalid port number",
        "--payments-url (or PAYMENTS_URL): it is not valid; use http://HOST:PORT without credentials",
        r#"--payments-retries (or PAYMENTS_RETRIES) is "99": 99 is not in 0..=10"#,
        r#"--payments-timeout (or PAYMENTS_TIMEOUT) is "soon""#,
        r#"--workers (or FLASK_API_WORKERS) is "0": at least one thread is needed"#,
        r#"--listen (or FLASK_API_LISTEN) is "here""#,
        "--colour",
        "--chaos-token-file (or CHAOS_TOKEN_FILE)",
        "--tls-key (or FLASK_API_TLS_KEY) is \"/nowhere/key.pem\": cannot be read: No such file",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn the_database_url_can_be_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    let database = directory.path().join("shop.db");
    std::fs::write(&file, format!("sqlite://{}\n", database.display())).unwrap();
    let shop = Program::flask_api(&[&format!("--database-url-file={}", file.display())]);
    let products = shop.request(Method::GET, "/api/products", None, &[]).await;
    assert_eq!(products.status, 200);
    assert!(database.exists());
    assert_eq!(shop.stop(), Some(0));

    let both = refused(&[
        &format!("--database-url-file={}", file.display()),
        "--database-url=sqlite://other.db",
    ]);
    let text = String::from_utf8_lossy(&both.stderr);
    assert_eq!(both.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot be used with"), "{text}");
    let absent = refused(&["--database-url-file=/nowhere/url"]);
    let text = String::from_utf8_lossy(&absent.stderr);
    assert!(text.contains("/nowhere/url: No such file"), "{text}");
}

#[test]
fn credentials_for_payments_are_refused_and_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let database_url = format!(
        "--database-url=sqlite://{}",
        directory.path().join("shop.db").display()
    );
    for url in [
        "http://maria:hunter2@127.0.0.1:5010",
        "https://maria:hunter2@127.0.0.1:5010",
        "http://maria:hunter2@:5010",
    ] {
        let output = refused(&[&database_url, &format!("--payments-url={url}")]);
        let text =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{url}: {text}");
        assert!(text.contains("without credentials"), "{url}: {text}");
        for secret in ["maria", "hunter2"] {
            assert!(!text.contains(secret), "{url}: {text}");
        }
    }
}

fn refused(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flask-api"))
        .args(flags)
        .env("FLASK_API_LISTEN", "127.0.0.1:0")
        .env("FLASK_API_ADMIN_LISTEN", "127.0.0.1:0")
        .output()
        .unwrap()
}

#[test]
fn what_cannot_work_ends_with_exit_code_2_and_advice() {
    let directory = tempfile::tempdir().unwrap();
    let database_url = format!(
        "--database-url=sqlite://{}",
        directory.path().join("shop.db").display()
    );
    let nowhere = format!(
        "--database-url=sqlite://{}",
        directory.path().join("missing/shop.db").display()
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = format!("--admin-listen={}", taken.local_addr().unwrap());
    let cases: [(&[&str], &str); 6] = [
        (&["--database-url=mysql://localhost/shop"], "not supported"),
        (&[&nowhere], "mkdir -p"),
        (
            &[&database_url, "--payments-url=ftp://localhost"],
            "http://127.0.0.1:5010",
        ),
        (
            &[&database_url, "--payments-url=payments:5010"],
            "http://127.0.0.1:5010",
        ),
        (&[&database_url, "--payments-timeout=soon"], "250ms"),
        (&[&database_url, &taken_port], "cannot listen on"),
    ];
    for (flags, advice) in cases {
        let output = refused(flags);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(advice), "{flags:?}: {text}");
    }
}
