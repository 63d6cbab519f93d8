//! The ways from files to Elasticsearch, each with the configuration that `elk/` has for it. The Collector is the one that the lab runs and
//! installs; Fluent Bit, Filebeat and Logstash take part where they are on PATH.

use std::{
    fs::OpenOptions,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use stack::table::COMPONENTS;

use crate::running::{TestLab, free_port, program, project, text};

/// A way from files to Elasticsearch.
pub struct Route {
    pub name: &'static str,
    program: PathBuf,
    /// Its command line, with what it keeps between two starts in a directory of its own.
    command: fn(&Path, &Place) -> Command,
    /// It has to be told Elasticsearch's version before it sends anything, and the slim distribution does not.
    asks_for_the_version: bool,
    /// It knows where in its file a line stood.
    pub knows_places: bool,
    /// Fields that its documents have and those of the other routes have not.
    pub adds: &'static [&'static str],
}

/// What a route is told.
pub struct Place {
    /// Files to read.
    pub files: String,
    /// Base URL.
    pub elasticsearch: String,
    /// What it remembers.
    pub state: PathBuf,
}

/// Every route whose program is here, or the one that `LOG_ROUTE` names.
pub fn routes() -> Vec<Route> {
    let route = |name, program, command| Route {
        name,
        program,
        command,
        asks_for_the_version: false,
        knows_places: true,
        adds: &[],
    };
    let collector = program("otelcol").map(|program| route("otelcol", program, collector));
    let fluent_bit = on_path("fluent-bit").map(|program| Route {
        adds: &["event.id"],
        ..route("fluent-bit", program, |program, place| {
            fluent_bit(program, place, "fluent-bit.yaml")
        })
    });
    let filebeat = on_path("filebeat").map(|program| Route {
        asks_for_the_version: true,
        ..route("filebeat", program, filebeat)
    });
    let logstash = on_path("logstash").map(|program| Route {
        asks_for_the_version: true,
        knows_places: false,
        ..route("logstash", program, logstash)
    });
    let wanted = std::env::var("LOG_ROUTE").ok();
    let routes: Vec<Route> = [collector, fluent_bit, filebeat, logstash]
        .into_iter()
        .flatten()
        .filter(|route| wanted.as_ref().is_none_or(|wanted| wanted == route.name))
        .collect();
    if let Some(wanted) = wanted {
        assert!(
            !routes.is_empty(),
            "LOG_ROUTE is {wanted}, whose program is not here"
        );
    }
    routes
}

pub fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

fn collector(program: &Path, place: &Place) -> Command {
    let mut command = Command::new(program);
    let address = || format!("127.0.0.1:{}", free_port());
    command
        .arg("--config")
        .arg(project().join("elk/otel-collector.yaml"))
        .args(["--feature-gates", "stanza.synchronousLogEmitter"])
        .env("APP_LOG_GLOB", &place.files)
        .env("OTELCOL_STORAGE", &place.state)
        .env("ELASTICSEARCH_URL", &place.elasticsearch)
        .env("OTELCOL_HEALTH", address())
        .env("OTELCOL_HOP", address())
        .env("OTELCOL_ELASTICSEARCH_METRICS", address())
        .env("OTELCOL_METRICS_HOST", "127.0.0.1")
        .env("OTELCOL_METRICS_PORT", free_port().to_string());
    command
}

/// By one of its configurations.
pub fn fluent_bit(program: &Path, place: &Place, configuration: &str) -> Command {
    let port = place.elasticsearch.rsplit(':').next().unwrap();
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(project().join("elk").join(configuration))
        .env("APP_LOG_GLOB", &place.files)
        .env("FLUENT_BIT_STORAGE", &place.state)
        .env("FLUENT_BIT_HTTP", "127.0.0.1")
        .env("FLUENT_BIT_PORT", free_port().to_string())
        .env("ELASTICSEARCH_HOST", "127.0.0.1")
        .env("ELASTICSEARCH_PORT", port);
    command
}

fn filebeat(program: &Path, place: &Place) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-e", "--strict.perms=false", "-c"])
        .arg(project().join("elk/filebeat.yml"))
        .arg("--path.config")
        .arg(project().join("elk"))
        .arg("--path.data")
        .arg(&place.state)
        .env("APP_LOG_GLOB", &place.files)
        .env("ELASTICSEARCH_URL", &place.elasticsearch)
        .env("FILEBEAT_PORT", free_port().to_string());
    command
}

fn logstash(program: &Path, place: &Place) -> Command {
    let mut command = Command::new(program);
    let elk = project().join("elk");
    command
        .arg("--path.settings")
        .arg(elk.join("logstash"))
        .env("LOGSTASH_CONFIG", &elk)
        .env("LOGSTASH_DATA", &place.state)
        .env("LOGSTASH_PORT", free_port().to_string())
        .env("APP_LOG_GLOB", &place.files)
        .env("ELASTICSEARCH_URL", &place.elasticsearch);
    command
}

impl Route {
    /// Where this route sends to: Elasticsearch itself, or what stands before it.
    pub fn way_to(&self, elasticsearch: &str) -> String {
        if self.asks_for_the_version {
            with_a_version(elasticsearch.into())
        } else {
            elasticsearch.into()
        }
    }
}

/// Answers `GET /` as the full distribution does, and passes everything else on.
fn with_a_version(elasticsearch: String) -> String {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        let app = move || {
            App::new()
                .app_data(web::Data::new(elasticsearch.clone()))
                .app_data(web::Data::new(reqwest::Client::new()))
                .app_data(web::PayloadConfig::new(256 << 20))
                .default_service(web::to(pass_on))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .listen(listener)
            .unwrap();
        actix_web::rt::System::new().block_on(server.run())
    });
    format!("http://127.0.0.1:{port}")
}

async fn pass_on(
    request: HttpRequest,
    body: web::Bytes,
    elasticsearch: web::Data<String>,
    client: web::Data<reqwest::Client>,
) -> HttpResponse {
    if request.path() == "/" {
        return HttpResponse::Ok()
            .insert_header(("x-elastic-product", "Elasticsearch"))
            .json(json!({ "name": "elasticsearch", "cluster_name": "three-pillars", "version": { "number": "9.2.0", "build_flavor": "default" } }));
    }
    let method = request.method().as_str().parse().unwrap();
    let mut forwarded = client.request(method, format!("{}{}", **elasticsearch, request.uri()));
    for name in ["content-type", "content-encoding"] {
        if let Some(value) = request.headers().get(name) {
            forwarded = forwarded.header(name, value.to_str().unwrap());
        }
    }
    let Ok(answer) = forwarded.body(body).send().await else {
        return HttpResponse::BadGateway().finish();
    };
    let status = actix_web::http::StatusCode::from_u16(answer.status().as_u16()).unwrap();
    let content_type = answer
        .headers()
        .get("content-type")
        .map(|it| it.to_str().unwrap().to_owned());
    let Ok(bytes) = answer.bytes().await else {
        return HttpResponse::BadGateway().finish();
    };
    HttpResponse::build(status)
        .insert_header(("x-elastic-product", "Elasticsearch"))
        .content_type(content_type.unwrap_or_default())
        .body(bytes)
}

/// A shipper that runs; killed at once when it is dropped.
pub struct Shipper {
    process: Child,
    log: PathBuf,
}

impl Shipper {
    pub fn start(route: &Route, place: &Place) -> Self {
        Self::run((route.command)(&route.program, place), place)
    }

    pub fn run(mut command: Command, place: &Place) -> Self {
        let log = place.state.with_extension("log");
        let open = || OpenOptions::new().create(true).append(true).open(&log);
        let process = command
            .stdout(Stdio::from(open().unwrap()))
            .stderr(Stdio::from(open().unwrap()))
            .spawn()
            .unwrap();
        Self { process, log }
    }

    pub fn kill(mut self) {
        self.assert_alive();
    }

    /// It runs on until it is killed; what it said otherwise says why.
    pub fn assert_alive(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "the shipper has ended: {}", self.said());
    }

    /// What it wrote so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // SIGKILL: it can put nothing in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Elasticsearch and nothing else; its base URL.
pub fn elasticsearch(lab: &mut TestLab) -> String {
    let others = COMPONENTS
        .iter()
        .map(|it| it.name)
        .filter(|name| *name != "elasticsearch");
    let without: Vec<&str> = others.flat_map(|name| ["--without", name]).collect();
    let up = lab.up(&without);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    format!("http://127.0.0.1:{}", lab.port("elasticsearch", "http"))
}

/// The hits of a search; none while Elasticsearch does not answer it.
pub fn search(elasticsearch: &str, index: &str, query: &Value) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let url =
        format!("{elasticsearch}/{index}/_search?ignore_unavailable=true&allow_no_indices=true");
    let answer = runtime.block_on(async {
        let request = reqwest::Client::new().post(url).json(query);
        request
            .send()
            .await?
            .error_for_status()?
            .json::<Value>()
            .await
    });
    let mut answer = answer.unwrap_or_default();
    match answer["hits"]["hits"].take() {
        Value::Array(hits) => hits,
        _ => Vec::new(),
    }
}
