//! The HTTP side: `/metrics`, `/probe`, `/healthz` and a page that links to them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, Html, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, get};
use prometheus::{Registry, TEXT_FORMAT};
use serde::Deserialize;

use crate::Args;
use crate::api::{self, BaseUrl, BaseUrlError};
use crate::auth;
use crate::database::UrlError;
use crate::probe::{Prober, Refusal};
use crate::scrape::Scraper;
use crate::web_config::{WebConfig, WebConfigError};

const TIMEOUT_HEADER: &str = "X-Prometheus-Scrape-Timeout-Seconds";

/// Connections served at a time. Each scrape costs a thread while it reads, so this bounds them;
/// Prometheus and a few curious people need less.
const MAX_CONNECTIONS: usize = 40;

/// Why the exporter cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Not a database this exporter can read.
    #[error("{0} (--database-url, DATABASE_URL)")]
    Database(#[from] UrlError),
    /// Not an API this exporter can ask.
    #[error("the API's URL {0} (--api-url, EXPORTER_API_URL)")]
    Api(#[source] BaseUrlError),
    /// Not an API this exporter can probe.
    #[error("a URL that may be probed {0} (--probe.allow, EXPORTER_PROBE_ALLOW)")]
    Probe(#[source] BaseUrlError),
    /// Certificates or passwords that cannot be used.
    #[error("{0} (--web.config.file, EXPORTER_WEB_CONFIG_FILE)")]
    Web(#[from] WebConfigError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}. {}", cure(source))]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Two of the exporter's own metrics share a name.
    #[error("cannot register the exporter's own metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused threads, signals or sockets.
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
}

/// What to do when an address cannot be had.
fn cure(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "Another process, perhaps a second exporter, has it: stop that one, or choose another \
             address with --listen or EXPORTER_LISTEN (port 0 takes any free port)"
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 are for privileged processes: choose a higher one with --listen or \
             EXPORTER_LISTEN"
        }
        _ => "Choose another address with --listen or EXPORTER_LISTEN",
    }
}

/// Everything the arguments ask for, found to be in order; no port is taken yet.
pub struct Setup {
    scraper: Scraper,
    prober: Prober,
    web: WebConfig,
    listen: SocketAddr,
    longest_answer: Duration,
}

impl Setup {
    /// Checks the configuration and the files it names. `own_metrics` are those of the process, to
    /// be shown beside the shop's.
    pub fn check(args: &Args, own_metrics: Registry) -> Result<Self, StartError> {
        let database = args.database_url.parse()?;
        let client = api::client()?;
        let api = args.api_url.as_deref().map(str::parse).transpose();
        let api = api.map_err(StartError::Api)?;
        let allowed: Result<Vec<BaseUrl>, _> =
            args.probe_allow.iter().map(|url| url.parse()).collect();
        let allowed = allowed.map_err(StartError::Probe)?;
        let web = match &args.web_config_file {
            Some(path) => WebConfig::read(path)?,
            None => WebConfig::default(),
        };
        Ok(Self {
            scraper: Scraper::new(
                database,
                args.collectors.clone(),
                api.map(|base| (client.clone(), base)),
                args.scrape_timeout,
                own_metrics,
            )?,
            prober: Prober::new(client, allowed, args.probe_product_id, args.probe_timeout),
            web,
            listen: args.listen,
            longest_answer: args.scrape_timeout.max(args.probe_timeout),
        })
    }

    /// Takes the port.
    pub fn bind(self) -> Result<Exporter, StartError> {
        let (listener, address) = TcpListener::bind(self.listen)
            .and_then(|listener| {
                let address = listener.local_addr()?;
                Ok((listener, address))
            })
            .map_err(|source| StartError::Listen {
                address: self.listen,
                source,
            })?;
        Ok(Exporter {
            setup: self,
            listener,
            address,
        })
    }
}

/// An exporter that holds its port and is ready to serve.
pub struct Exporter {
    setup: Setup,
    listener: TcpListener,
    address: SocketAddr,
}

impl Exporter {
    /// The address in use: tells the port when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        match self.setup.web.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Starts to serve; the server ends once `stop` has resolved and the scrapes in flight are
    /// answered. Call it within a tokio runtime.
    pub fn serve_until(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Server> {
        let Setup {
            scraper,
            prober,
            web: WebConfig { tls, users },
            longest_answer,
            ..
        } = self.setup;
        let landing_page = Data::new(LandingPage::new(&prober));
        let scraper = Data::new(scraper);
        let prober = Data::new(prober);
        let users = Data::new(users);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(landing_page.clone())
                .app_data(scraper.clone())
                .app_data(prober.clone())
                .app_data(users.clone())
                .wrap(from_fn(auth::guard))
                .service(landing)
                .service(healthz)
                .service(metrics)
                .service(probe)
        })
        // Scrapes wait for the database on threads of its driver; one is plenty for the rest.
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .shutdown_signal(stop)
        // No answer in flight can take longer.
        .shutdown_timeout(longest_answer.as_secs() + 1);
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(self.listener, tls)?,
            None => server.listen(self.listener)?,
        };
        Ok(server.run())
    }
}

/// What `/` shows.
struct LandingPage(String);

impl LandingPage {
    fn new(prober: &Prober) -> Self {
        let mut probes = String::new();
        for target in prober.allowed() {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("target", &target.to_string())
                .finish();
            probes.push_str(&format!(
                "<li><a href=\"/probe?{query}\">Probe {target} with an order</a></li>\n"
            ));
        }
        let page = include_str!("landing.html")
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{probes}", &probes);
        Self(page)
    }
}

#[get("/")]
async fn landing(page: Data<LandingPage>) -> Html {
    Html::new(page.0.clone())
}

/// Alive, whatever the database does: that is what `shop_up` is for.
#[get("/healthz")]
async fn healthz() -> impl Responder {
    "ok\n"
}

#[get("/metrics")]
async fn metrics(request: HttpRequest, scraper: Data<Scraper>) -> HttpResponse {
    exposition(scraper.scrape(timeout_header(&request)).await)
}

#[derive(Deserialize)]
struct ProbeQuery {
    #[serde(default)]
    target: String,
}

#[get("/probe")]
async fn probe(
    request: HttpRequest,
    query: Query<ProbeQuery>,
    prober: Data<Prober>,
) -> HttpResponse {
    let admitted = match prober.into_inner().admit(&query.target) {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(&refusal),
    };
    let timeout = timeout_header(&request).map(str::to_owned);
    // A task of its own: an order once placed is called off, even when whoever asked has gone.
    match actix_web::rt::spawn(admitted.run(timeout)).await {
        Ok(text) => exposition(text),
        Err(error) => {
            tracing::error!(error.message = %error, "the probe ended by itself");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let status = match refusal {
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((RETRY_AFTER, "1"));
    }
    response
        .content_type(ContentType::plaintext())
        .body(format!("{refusal}\n"))
}

fn timeout_header(request: &HttpRequest) -> Option<&str> {
    request.headers().get(TIMEOUT_HEADER)?.to_str().ok()
}

fn exposition(text: Result<String, prometheus::Error>) -> HttpResponse {
    match text {
        Ok(text) => HttpResponse::Ok().content_type(TEXT_FORMAT).body(text),
        Err(error) => {
            tracing::error!(error.message = %error, "cannot encode metrics");
            HttpResponse::InternalServerError()
                .content_type(ContentType::plaintext())
                .body(format!("cannot encode metrics: {error}\n"))
        }
    }
}
