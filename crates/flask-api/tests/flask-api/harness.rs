//! One service of its own for each test, with payments that do as they are told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use flask_api::payments::breaker::Limits;
use flask_api::payments::{Payments, Policy};
use flask_api::store::Store;
use flask_api::{App, Args};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use prometheus::Registry;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service::{Shutdown, Stopped};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tracing_subscriber::layer::SubscriberExt;
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const STOCK: i64 = 100_000;

/// Every finished span of this process; tests find theirs by trace id.
pub fn spans() -> &'static InMemorySpanExporter {
    static SPANS: OnceLock<InMemorySpanExporter> = OnceLock::new();
    SPANS.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
        let filter = tracing_subscriber::filter::LevelFilter::INFO;
        tracing::subscriber::set_global_default(
            tracing_subscriber::registry().with(filter).with(layer),
        )
        .unwrap();
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        exporter
    })
}

/// A running service.
pub struct Shop {
    pub http: reqwest::Client,
    pub payments: MockServer,
    url: String,
    admin_url: String,
    database: PathBuf,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<anyhow::Result<Stopped>>,
    _directory: TempDir,
}

impl Shop {
    /// A new shop whose payments approve everything.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// The same, with further flags.
    pub async fn open_with(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("shop.db");
        let url = format!("sqlite://{}", database.display());
        Self::start(&url, flags, database, directory).await
    }

    /// The same, on another database; [`Shop::sql`] is not for it.
    pub async fn open_on(database_url: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start(database_url, flags, PathBuf::new(), directory).await
    }

    async fn start(
        database_url: &str,
        flags: &[&str],
        database: PathBuf,
        directory: TempDir,
    ) -> Self {
        spans();
        let payments = MockServer::start().await;
        answer(&payments, approved()).await;
        let payments_url = payments.uri();
        let mut line = vec![
            "flask-api",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--drain-delay=0s",
        ];
        line.extend(["--database-url", database_url]);
        if !flags.contains(&"--payments-url") {
            line.extend(["--payments-url", &payments_url]);
        }
        // Each test that is not about them counts on one request an order.
        for calm in [
            "--payments-retries=0",
            "--payments-breaker-failures=1000000",
        ] {
            let (flag, _) = calm.split_once('=').unwrap();
            if !flags.iter().any(|given| given.starts_with(flag)) {
                line.push(calm);
            }
        }
        line.extend(flags);
        let args = Args::try_parse_from(line).unwrap();
        let app = App::build(&args, Registry::new(), None).await.unwrap();
        let server = app.server();
        let url = format!("http://{}", server.address());
        let admin_url = format!("http://{}", server.admin_address());
        let shutdown = server.shutdown();
        let running = actix_web::rt::spawn(app.run());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            payments,
            url,
            admin_url,
            database,
            shutdown,
            running,
            _directory: directory,
        }
    }

    /// Stops in order, and fails the test if that is not possible.
    pub async fn close(self) {
        self.shutdown.trigger();
        let stopped = self.running.await.unwrap().unwrap();
        assert!(!stopped.forced());
    }

    /// A connection that has nothing to do with the service's own.
    pub async fn database(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", self.database.display()))
            .await
            .unwrap()
    }

    /// Does something behind the service's back.
    pub async fn sql(&self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&mut self.database().await)
            .await
            .unwrap();
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn place(&self, body: &Value) -> Answer {
        Answer::of(
            self.request(Method::POST, "/api/orders")
                .json(body)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    pub async fn place_with_key(&self, body: &Value, key: &str) -> Answer {
        let request = self
            .request(Method::POST, "/api/orders")
            .json(body)
            .header("Idempotency-Key", key);
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn cancel(&self, id: i64) -> Answer {
        let path = format!("/api/orders/{id}/cancel");
        Answer::of(self.request(Method::POST, &path).send().await.unwrap()).await
    }

    /// Where a page of the admin port is.
    pub fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin_url)
    }

    /// The status of a page of the admin port.
    pub async fn admin_status(&self, path: &str) -> u16 {
        let url = format!("{}{path}", self.admin_url);
        self.http.get(url).send().await.unwrap().status().as_u16()
    }

    /// A page of the admin port.
    pub async fn admin(&self, path: &str) -> String {
        self.http
            .get(format!("{}{path}", self.admin_url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    pub async fn stock(&self, product_id: i64) -> i64 {
        self.get(&format!("/api/products/{product_id}")).await.body["stock"]
            .as_i64()
            .unwrap()
    }

    /// From now on payments answers like this.
    pub async fn payments_answer(&self, response: impl Respond + 'static) {
        self.payments.reset().await;
        answer(&self.payments, response).await;
    }

    /// How often payments was asked since it last changed its mind.
    pub async fn payments_asked(&self) -> usize {
        let requests = self.payments.received_requests().await.unwrap();
        let charges = requests.iter().filter(|it| it.method == Method::POST);
        charges.count()
    }
}

/// Makes payments answer like this.
pub async fn answer(payments: &MockServer, response: impl Respond + 'static) {
    Mock::given(method("POST"))
        .and(path("/api/payments"))
        .respond_with(response)
        .mount(payments)
        .await;
    // What did not answer took nothing.
    look_up(not_paid()).mount(payments).await;
}

/// Payments that answers like this when it is asked what it took.
pub fn look_up(response: impl Respond + 'static) -> Mock {
    Mock::given(method("GET"))
        .and(path_regex("^/api/payments/[0-9]+$"))
        .respond_with(response)
}

pub fn not_paid() -> ResponseTemplate {
    ResponseTemplate::new(404).set_body_json(json!({"type": "/problems/not-paid"}))
}

pub fn approved() -> ResponseTemplate {
    ResponseTemplate::new(201).set_body_json(json!({"status": "approved"}))
}

pub fn declined() -> ResponseTemplate {
    ResponseTemplate::new(402)
}

pub fn broken() -> ResponseTemplate {
    ResponseTemplate::new(500)
}

/// A shop without HTTP, on `store`, that waits for `bank` as long as it takes.
pub fn patient_shop(store: Arc<dyn Store>, bank: &MockServer) -> flask_api::shop::Shop {
    let policy = Policy {
        timeout: Duration::from_secs(60),
        attempt_timeout: Duration::from_secs(60),
        retries: 0,
        breaker: Limits {
            failures: 1000,
            pause: Duration::ZERO,
        },
    };
    let payments = Payments::new(&bank.uri().parse().unwrap(), policy, &Registry::new()).unwrap();
    flask_api::shop::Shop::new(store, payments)
}

/// Payments that think until the last is dropped, and then approve; the one between hears when they are asked.
pub fn approved_later() -> (impl Respond, mpsc::Receiver<()>, mpsc::Sender<()>) {
    struct Later {
        asked: mpsc::Sender<()>,
        decision: Mutex<mpsc::Receiver<()>>,
    }
    impl Respond for Later {
        fn respond(&self, _: &Request) -> ResponseTemplate {
            let _ = self.asked.send(());
            // Blocks the mock's own thread and nobody else's.
            let _ = self.decision.lock().unwrap().recv();
            approved()
        }
    }
    let (asked, hears) = mpsc::channel();
    let (decide, decision) = mpsc::channel();
    let decision = Mutex::new(decision);
    (Later { asked, decision }, hears, decide)
}

/// An order of one line.
pub fn one(product_id: i64, quantity: i64) -> Value {
    json!({"items": [{"product_id": product_id, "quantity": quantity}]})
}

/// A response, read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self {
            status,
            headers,
            body,
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_str()
            .unwrap()
    }

    pub fn id(&self) -> i64 {
        self.body["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no id in {self:?}"))
    }

    /// Checks the shape all problems share, and this one's status and type.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], kind, "{self:?}");
        assert!(
            self.body["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{self:?}"
        );
        assert_eq!(
            self.body["trace_id"].as_str().map(str::len),
            Some(32),
            "{self:?}"
        );
    }

    /// The fields that a problem names.
    pub fn fields(&self) -> Vec<&str> {
        self.body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect()
    }
}

/// Asks until the answer is yes; the generous limit is only for a test that fails.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
