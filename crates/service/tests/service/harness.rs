//! A small service, a scraper of its metrics, and a place where its logs and spans end up.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, http::Method, rt::task::JoinHandle, web};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use prometheus::Registry;
use reqwest::StatusCode;
use serde::Deserialize;
use service::{
    Error, Faults, Problem, Readiness, Red, Route, ServerConfig, Service, Shutdown, Stopped, Token,
};
use telemetry::Sabotage;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

/// Far longer than anything here takes: only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const ROUTES: [Route; 7] = [
    Route::new(Method::GET, "/items/{id}", &[200, 400, 404]),
    Route::new(Method::GET, "/items", &[200, 400]),
    Route::new(Method::POST, "/items", &[201, 400, 413, 415]),
    Route::new(Method::GET, "/slow", &[200]),
    Route::new(Method::GET, "/panic", &[]),
    Route::new(Method::GET, "/fail", &[]),
    Route::new(Method::GET, "/text", &[502]),
];

/// A test's own service.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) readiness: Readiness,
    /// Requests to `/slow` wait here.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) ended: JoinHandle<Result<Stopped, Error>>,
}

pub(crate) fn start() -> Running {
    start_with(ServerConfig::ephemeral()).expect("free ports can be bound")
}

/// What [`start_with_faults`] takes.
pub(crate) const TOKEN: &str = "0123456789abcdef-token";

/// One in which faults can be started.
pub(crate) fn start_with_faults() -> Running {
    start_all(ServerConfig::ephemeral(), Some(Token::new(TOKEN))).expect("free ports can be bound")
}

pub(crate) fn start_with(config: ServerConfig) -> Result<Running, Error> {
    start_all(config, None)
}

fn start_all(config: ServerConfig, token: Option<Token>) -> Result<Running, Error> {
    capture();
    let registry = Registry::new();
    let red = Red::new(&registry, "test", "1.2.3", &ROUTES).unwrap();
    let faults = Faults::new(token, Sabotage::default(), &registry, "test", &ROUTES, &[]).unwrap();
    let readiness = Readiness::new();
    let gate = Arc::new(Semaphore::new(0));
    let data = web::Data::from(Arc::clone(&gate));
    let server = Service::new(config, registry, red)
        .readiness(readiness.clone())
        .faults(faults)
        .admin(|pages| {
            pages.route("/extra", web::get().to(async || "extra"));
        })
        .bind(move |routes| {
            routes.app_data(data.clone()).configure(handlers);
        })?;
    Ok(Running {
        address: server.address(),
        tls: server.tls_address(),
        admin: server.admin_address(),
        shutdown: server.shutdown(),
        readiness,
        gate,
        ended: actix_web::rt::spawn(server.run()),
    })
}

fn handlers(routes: &mut web::ServiceConfig) {
    #[derive(Deserialize)]
    struct Item {
        name: String,
    }
    #[derive(Deserialize)]
    struct Page {
        limit: Option<u8>,
    }
    #[derive(Debug)]
    struct TextError;
    impl std::fmt::Display for TextError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the upstream said no")
        }
    }
    impl actix_web::ResponseError for TextError {
        fn status_code(&self) -> actix_web::http::StatusCode {
            actix_web::http::StatusCode::BAD_GATEWAY
        }
    }

    async fn item(id: web::Path<u32>) -> Result<String, Problem> {
        match *id {
            404 => Err(Problem::new(actix_web::http::StatusCode::NOT_FOUND)
                .kind("no-such-item")
                .with("id", 404)),
            id => Ok(id.to_string()),
        }
    }
    async fn items(page: web::Query<Page>) -> HttpResponse {
        match page.limit {
            // No status of the table: a mistake of ours that counts must survive.
            Some(42) => HttpResponse::ImATeapot().finish(),
            _ => HttpResponse::Ok().finish(),
        }
    }
    async fn create(item: web::Json<Item>) -> HttpResponse {
        HttpResponse::Created().body(item.into_inner().name)
    }
    async fn slow(gate: web::Data<Semaphore>) -> &'static str {
        gate.acquire().await.expect("never closed").forget();
        "done"
    }
    async fn panics() -> HttpResponse {
        panic!("the handler panicked")
    }
    async fn fails() -> Result<HttpResponse, Problem> {
        Err(Problem::internal(
            "storage",
            io::Error::other("disk on fire"),
        ))
    }
    async fn text() -> Result<HttpResponse, TextError> {
        Err(TextError)
    }
    routes
        .service(web::resource("/items/{id}").get(item))
        .service(web::resource("/items").get(items).post(create))
        .service(web::resource("/slow").get(slow))
        .service(web::resource("/panic").get(panics))
        .service(web::resource("/fail").get(fails))
        .service(web::resource("/text").get(text));
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        client().get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn admin_get(&self, path: &str) -> reqwest::Response {
        client().get(self.admin_url(path)).send().await.unwrap()
    }

    /// Every series and its value, by the text that names it.
    pub(crate) async fn scrape(&self) -> BTreeMap<String, f64> {
        let response = self.admin_get("/metrics").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; version=0.0.4"
        );
        let text = response.text().await.unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
            .collect()
    }

    pub(crate) async fn metric(&self, series: &str) -> f64 {
        *self
            .scrape()
            .await
            .get(series)
            .unwrap_or_else(|| panic!("no series {series}"))
    }

    /// Sends a request's head and leaves the connection to the test.
    pub(crate) async fn send_raw(&self, request_line: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{request_line} HTTP/1.1\r\nhost: test\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        connection
    }
}

/// The status of the next response on a connection.
pub(crate) async fn read_status(connection: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let byte = connection.read_u8().await.expect("a whole head");
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    connection.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A client of its own connections, so that tests see them close.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A log line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) target: &'static str,
    pub(crate) level: tracing::Level,
    pub(crate) trace_id: String,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

#[derive(Clone, Default)]
struct Capture {
    lines: Arc<Mutex<Vec<Line>>>,
    spans: InMemorySpanExporter,
}

/// Log lines of one trace.
pub(crate) fn lines_of(trace_id: &str) -> Vec<Line> {
    let lines = capture().lines.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.trace_id == trace_id)
        .cloned()
        .collect()
}

/// Ended spans of one trace.
pub(crate) fn spans_of(trace_id: &str) -> Vec<SpanData> {
    let spans = capture().spans.get_finished_spans().unwrap();
    spans
        .into_iter()
        .filter(|span| span.span_context.trace_id().to_string() == trace_id)
        .collect()
}

/// All tests of this process share one subscriber; they tell their own lines by the trace id.
fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let capture = Capture::default();
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(capture.spans.clone())
            .build();
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::filter::LevelFilter::INFO)
            .with(traces)
            .with(capture.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        capture
    })
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Fields(BTreeMap<&'static str, String>);
        impl Visit for Fields {
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name(), value.to_owned());
            }
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.insert(field.name(), format!("{value:?}"));
            }
        }
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let context = opentelemetry::Context::current();
        self.lines.lock().unwrap().push(Line {
            target: event.metadata().target(),
            level: *event.metadata().level(),
            trace_id: context.span().span_context().trace_id().to_string(),
            fields: fields.0,
        });
    }
}
