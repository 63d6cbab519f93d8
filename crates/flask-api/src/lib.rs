//! The demo service: a shop that takes orders, reserves stock for them and has them paid.
//!
//! [`http`] -> [`shop`] -> [`store`] (on [`sqlite`] or [`postgres`], as the URL says that [`database`]
//! reads) and [`payments`]. Everything a web service needs that is not about a shop is in the
//! `service` crate.

pub mod database;
pub mod http;
mod lock;
pub mod operation;
pub mod order;
pub mod payments;
mod pool;
pub mod postgres;
mod rows;
pub mod shop;
pub mod sqlite;
pub mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus::Registry;
use service::{
    Condition, Fault, Faults, Program, Readiness, Red, Server, ServerArgs, Service, Stopped,
};
use telemetry::{LogOutput, Telemetry};

use crate::database::{Database, OpenError, UrlError};
use crate::payments::breaker::Limits;
use crate::payments::{Endpoint, Payments, Policy};
use crate::shop::Shop;
use crate::store::StoreError;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often the database is asked whether it is there, for `/readyz`.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How often orders are looked for that nobody will settle any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Beyond the payment time-out, after which a pending order counts as abandoned: time for a busy
/// database to take the outcome.
const SETTLE_GRACE: Duration = Duration::from_secs(60);

/// The shop: products and orders over HTTP
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  flask-api
      orders in ./shop.db, API on 127.0.0.1:5000, metrics on 127.0.0.1:5100
  flask-api --listen 127.0.0.1:5001 --admin-listen 127.0.0.1:5101
      a second replica on the same database
  flask-api --database-url postgres://shop@db.internal/shop
      orders on PostgreSQL; it creates its tables in the database, which has to exist
  curl -s 127.0.0.1:5000/api/products       the API is described at /openapi.json and /docs/
  curl -s 127.0.0.1:5000/api/orders --json '{\"items\": [{\"product_id\": 1, \"quantity\": 2}]}'

Ready (/readyz) means that the database answers; while it does not, requests get 503 at once. With payments failing the shop is
degraded (/readyz says so) but ready: products and orders can be read and cancelled, and placing an
order answers 503 until payments is back."
)]
pub struct Args {
    /// What every service of the lab understands.
    #[command(flatten)]
    pub server: ServerArgs<FlaskApi>,

    /// Where orders are kept: sqlite://FILE, created if missing, shared by replicas on one machine; or
    /// postgres://USER:PASSWORD@HOST/DATABASE, shared by any
    // Never repeated in an error: it may hold a password.
    #[arg(
        long,
        value_name = "URL",
        env = "DATABASE_URL",
        default_value = "sqlite://shop.db",
        hide_env_values = true,
        conflicts_with = "database_url_file"
    )]
    pub database_url: Database,

    /// A file with that URL, for one with a password: a process's flags and environment are no secret
    #[arg(long, value_name = "FILE", env = "DATABASE_URL_FILE", value_parser = read_database_url)]
    pub database_url_file: Option<Database>,

    /// Most database connections of this replica (on SQLite: those that read, beside the one that writes)
    #[arg(
        long,
        value_name = "N",
        env = "DATABASE_CONNECTIONS",
        default_value_t = 8
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,

    /// The payment service
    // Never repeated in an error either.
    #[arg(
        long,
        value_name = "URL",
        env = "PAYMENTS_URL",
        default_value = "http://127.0.0.1:5010",
        hide_env_values = true
    )]
    pub payments_url: Endpoint,

    /// How long to wait for the payment service, retries included; asking what became of a lost answer may take one attempt more
    #[arg(long, value_name = "TIME", env = "PAYMENTS_TIMEOUT", default_value = "2s", value_parser = service::parse_duration)]
    pub payments_timeout: Duration,

    /// How long one request to the payment service may take of that
    #[arg(long, value_name = "TIME", env = "PAYMENTS_ATTEMPT_TIMEOUT", default_value = "1s", value_parser = service::parse_duration)]
    pub payments_attempt_timeout: Duration,

    /// How often to ask the payment service again after a failure that may pass
    #[arg(long, value_name = "N", env = "PAYMENTS_RETRIES", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10))]
    pub payments_retries: u32,

    /// Failures in a row after which the payment service is left alone for a while
    #[arg(
        long,
        value_name = "N",
        env = "PAYMENTS_BREAKER_FAILURES",
        default_value_t = 5
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub payments_breaker_failures: u32,

    /// How long it is left alone before one order may try
    #[arg(long, value_name = "TIME", env = "PAYMENTS_BREAKER_PAUSE", default_value = "5s", value_parser = service::parse_duration)]
    pub payments_breaker_pause: Duration,
}

/// The first line of a file as a database URL.
fn read_database_url(file: &str) -> Result<Database, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let url = text.lines().next().unwrap_or_default().trim();
    url.parse()
        .map_err(|error: UrlError| format!("in {file} {error}"))
}

impl Args {
    fn database(&self) -> &Database {
        self.database_url_file
            .as_ref()
            .unwrap_or(&self.database_url)
    }

    fn payments_policy(&self) -> Policy {
        Policy {
            timeout: self.payments_timeout,
            attempt_timeout: self.payments_attempt_timeout,
            retries: self.payments_retries,
            breaker: Limits {
                failures: self.payments_breaker_failures,
                pause: self.payments_breaker_pause,
            },
        }
    }
}

/// Names and defaults of the flags that all services share.
#[derive(Debug, Clone)]
pub struct FlaskApi;

impl Program for FlaskApi {
    const LISTEN: &'static str = "127.0.0.1:5000";
    const LISTEN_ENV: &'static str = "FLASK_API_LISTEN";
    const TLS_LISTEN_ENV: &'static str = "FLASK_API_TLS_LISTEN";
    const TLS_CERTIFICATE_ENV: &'static str = "FLASK_API_TLS_CERTIFICATE";
    const TLS_KEY_ENV: &'static str = "FLASK_API_TLS_KEY";
    const ADMIN_LISTEN: &'static str = "127.0.0.1:5100";
    const ADMIN_LISTEN_ENV: &'static str = "FLASK_API_ADMIN_LISTEN";
    const WORKERS: &'static str = "2";
    const WORKERS_ENV: &'static str = "FLASK_API_WORKERS";
    const DRAIN_DELAY_ENV: &'static str = "FLASK_API_DRAIN_DELAY";
    const SHUTDOWN_TIMEOUT_ENV: &'static str = "FLASK_API_SHUTDOWN_TIMEOUT";
}

/// Runs the service until it is told to stop.
pub fn run(args: Args) -> ExitCode {
    let options = telemetry::Options {
        service_name: "flask-api",
        service_version: VERSION,
        log_filter: args.server.log_level.clone(),
        log_output: LogOutput::Stdout,
    };
    service::run(options, args.server.shutdown_timeout, async |telemetry| {
        let registry = Registry::new();
        telemetry.register(&registry)?;
        App::build(&args, registry, Some(telemetry))
            .await?
            .run()
            .await
    })
}

/// The service with its database open and its ports bound.
pub struct App {
    server: Server,
    shop: Arc<Shop>,
    database_reachable: Condition,
    abandoned_after: Duration,
    /// The fault database-lock.
    lock: tokio::task::JoinHandle<()>,
}

impl App {
    /// Opens the database, creates or updates its tables, and binds the ports.
    ///
    /// # Errors
    /// When the configuration cannot be used or a port is taken; the message says what to do.
    pub async fn build(
        args: &Args,
        registry: Registry,
        telemetry: Option<&Telemetry>,
    ) -> anyhow::Result<Self> {
        let faults = Faults::new(
            args.server.chaos_token()?,
            telemetry.map(Telemetry::sabotage).unwrap_or_default(),
            &registry,
            "flask",
            http::ROUTES,
            &[Fault::Dependency, Fault::DatabaseLock],
        )?;
        let readiness = Readiness::new();
        let payments = Payments::new(&args.payments_url, args.payments_policy(), &registry)?
            .with_faults(faults.clone())
            .reporting_to(readiness.wish("payments"));
        let database = args.database().clone();
        let store =
            database
                .open(args.database_connections)
                .await
                .map_err(|error| match error {
                    OpenError::Unreachable { .. } => service::Error::Missing(error.to_string()),
                    error => service::Error::Usage(error.to_string()),
                })?;
        store.register(&registry)?;
        let shop = Arc::new(Shop::new(store, payments));

        let red = Red::new(&registry, "flask", VERSION, http::ROUTES)?;
        let database_reachable = readiness.condition("database");
        database_reachable.set(true);
        let mut service = Service::new(args.server.config(), registry, red)
            .documentation(http::openapi::pages)
            .readiness(readiness)
            .faults(faults.clone());
        if let Some(telemetry) = telemetry {
            service = service.log_level(telemetry.log_level());
        }
        let server = service.bind(http::routes(Arc::clone(&shop)))?;
        let abandoned_after = args.payments_timeout + SETTLE_GRACE;
        Ok(Self {
            server,
            shop,
            database_reachable,
            abandoned_after,
            lock: tokio::spawn(lock::hold_when_told(database, faults)),
        })
    }

    /// Addresses, and the way to stop it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When serving fails.
    pub async fn run(self) -> anyhow::Result<Stopped> {
        let store = Arc::clone(&self.shop);
        let watch = tokio::spawn(watch(Arc::clone(&self.shop), self.database_reachable));
        let sweep = tokio::spawn(sweep(self.shop, self.abandoned_after));
        let stopped = self.server.run().await;
        watch.abort();
        sweep.abort();
        self.lock.abort();
        store.store().close().await;
        Ok(stopped?)
    }
}

/// Keeps readiness true to the database. A busy one counts as reachable: taking every replica out
/// of service at the same time would turn load into an outage.
async fn watch(shop: Arc<Shop>, reachable: Condition) {
    let mut was_reachable = true;
    let mut ticks = tokio::time::interval(PING_INTERVAL);
    loop {
        ticks.tick().await;
        let answer = shop.store().ping().await;
        let is_reachable = !matches!(
            answer,
            Err(StoreError::Database(_) | StoreError::Unavailable(_))
        );
        reachable.set(is_reachable);
        match answer {
            Err(error) if was_reachable && !is_reachable => {
                tracing::error!(error.message = %error, "database lost, not ready");
            }
            Ok(()) if !was_reachable => tracing::info!("database back, ready"),
            _ => {}
        }
        was_reachable = is_reachable;
    }
}

/// Settles what a killed replica, the last run, or a lost database has left pending.
async fn sweep(shop: Arc<Shop>, abandoned_after: Duration) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = shop.settle_abandoned(abandoned_after).await {
            tracing::warn!(error.message = %error, "abandoned orders cannot be settled");
        }
    }
}
