//! The HTTP side: `/metrics`, `/healthz` and a page that links to them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::web::{Data, Html};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, get};
use prometheus::{Registry, TEXT_FORMAT};

use crate::Args;
use crate::database::UrlError;
use crate::scrape::Scraper;

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

/// An exporter that holds its port and is ready to serve.
pub struct Exporter {
    listener: TcpListener,
    address: SocketAddr,
    scraper: Scraper,
    scrape_timeout: Duration,
}

impl Exporter {
    /// Checks the configuration, then takes the port. `own_metrics` are those of the process, to
    /// be shown beside the shop's.
    pub fn bind(args: &Args, own_metrics: Registry) -> Result<Self, StartError> {
        let database = args.database_url.parse()?;
        let scraper = Scraper::new(
            database,
            args.collectors.clone(),
            args.scrape_timeout,
            own_metrics,
        )?;
        let (listener, address) = TcpListener::bind(args.listen)
            .and_then(|listener| {
                let address = listener.local_addr()?;
                Ok((listener, address))
            })
            .map_err(|source| StartError::Listen {
                address: args.listen,
                source,
            })?;
        Ok(Self {
            listener,
            address,
            scraper,
            scrape_timeout: args.scrape_timeout,
        })
    }

    /// The address in use: tells the port when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to serve; the server ends once `stop` has resolved and the scrapes in flight are
    /// answered. Call it within a tokio runtime.
    pub fn serve_until(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Server> {
        let scraper = Data::new(self.scraper);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(scraper.clone())
                .service(landing)
                .service(healthz)
                .service(metrics)
        })
        // Scrapes wait for the database on threads of its driver; one is plenty for the rest.
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .shutdown_signal(stop)
        // No scrape in flight can take longer.
        .shutdown_timeout(self.scrape_timeout.as_secs() + 1)
        .listen(self.listener)?;
        Ok(server.run())
    }
}

#[get("/")]
async fn landing() -> Html {
    Html::new(include_str!("landing.html"))
}

/// Alive, whatever the database does: that is what `shop_up` is for.
#[get("/healthz")]
async fn healthz() -> impl Responder {
    "ok\n"
}

#[get("/metrics")]
async fn metrics(request: HttpRequest, scraper: Data<Scraper>) -> HttpResponse {
    let header = request
        .headers()
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok());
    match scraper.scrape(header).await {
        Ok(text) => HttpResponse::Ok().content_type(TEXT_FORMAT).body(text),
        Err(error) => {
            tracing::error!(error.message = %error, "cannot encode metrics");
            HttpResponse::InternalServerError()
                .content_type(ContentType::plaintext())
                .body(format!("cannot encode metrics: {error}\n"))
        }
    }
}
