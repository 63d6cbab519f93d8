//! Prometheus exporter of the shop's business figures.
//!
//! The demo API counts what it does; this exporter reports what is true in its database: how many
//! orders stand in each status, how long the oldest one has waited, what was earned, what is left
//! in stock. It follows "Writing exporters" of the Prometheus documentation:
//!
//! * every scrape reads the database anew: nothing is cached, nothing runs between scrapes;
//! * a database that is missing, locked or slow is a *measurement* (`shop_up 0`,
//!   `shop_collector_success 0`), answered with status 200 before Prometheus gives up;
//! * one figure that cannot be read takes no other figure down with it.
//!
//! A new family of figures is a [`collectors::Collector`] and a line in
//! [`collectors::CollectorName`]; `docs/write-your-own-exporter.md` tells how this came about.

pub mod api;
pub mod auth;
pub mod collectors;
pub mod database;
pub mod probe;
pub mod scrape;
pub mod server;
pub mod web_config;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};

use collectors::CollectorName;
use server::{Setup, StartError};

/// How long the last log lines may take to leave the process.
const TELEMETRY_SHUTDOWN: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  Export the shop in ./shop.db on the default port:
      custom-flask-exporter
  Another database, any free port, only two families of figures:
      custom-flask-exporter --database-url sqlite:///var/lib/shop/shop.db --listen 127.0.0.1:0 --collectors orders,stock
  The shop on PostgreSQL, its API beside it, and synthetic orders against one replica:
      custom-flask-exporter --database-url postgres://reader:secret@db/shop --api-url http://127.0.0.1:5000 \\
          --probe.allow http://127.0.0.1:5000
      curl 'http://127.0.0.1:9848/probe?target=http://127.0.0.1:5000'
  HTTPS and passwords, checked without a start:
      custom-flask-exporter --web.config.file web.yml --config.check
  Look at what Prometheus will see, as if it allowed one second:
      curl -H 'X-Prometheus-Scrape-Timeout-Seconds: 1' http://127.0.0.1:9848/metrics

Exit codes: 0 stopped by SIGTERM or SIGINT, or checked and found good; 2 wrong usage or configuration (a port in use, for one).";

/// What the exporter is told on the command line or through the environment.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "custom-flask-exporter", version, about = "Exports the shop's business figures to Prometheus", after_help = EXAMPLES)]
pub struct Args {
    /// Address to serve /metrics on; port 0 takes any free port and logs it.
    #[arg(
        long,
        env = "EXPORTER_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:9848"
    )]
    pub listen: SocketAddr,

    /// The shop's database, sqlite:// or postgres://, read-only at each scrape; it need not exist yet.
    // A string until the exporter starts: clap repeats a wrong value in its error, and a database
    // URL may carry a password.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite://shop.db"
    )]
    pub database_url: String,

    /// Longest a scrape may take; a shorter X-Prometheus-Scrape-Timeout-Seconds shortens it.
    #[arg(
        long,
        env = "EXPORTER_SCRAPE_TIMEOUT",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = scrape::parse_timeout
    )]
    pub scrape_timeout: Duration,

    /// Families of figures to export, separated by commas.
    #[arg(
        long,
        env = "EXPORTER_COLLECTORS",
        value_name = "NAMES",
        value_enum,
        value_delimiter = ',',
        default_value = "orders,revenue,stock,database"
    )]
    pub collectors: Vec<CollectorName>,

    /// The shop's API, `http://HOST:PORT`; given, the collector `api` asks it at each scrape.
    // Text for the same reason as the database URL, here and below.
    #[arg(
        long,
        env = "EXPORTER_API_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub api_url: Option<String>,

    /// An API that /probe?target= may place synthetic orders at; repeat it, or separate by commas.
    #[arg(
        long = "probe.allow",
        env = "EXPORTER_PROBE_ALLOW",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    pub probe_allow: Vec<String>,

    /// Longest a probe may take; a shorter X-Prometheus-Scrape-Timeout-Seconds shortens it.
    #[arg(
        long = "probe.timeout",
        env = "EXPORTER_PROBE_TIMEOUT",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = scrape::parse_timeout
    )]
    pub probe_timeout: Duration,

    /// The product a probe orders one unit of.
    #[arg(
        long = "probe.product-id",
        env = "EXPORTER_PROBE_PRODUCT_ID",
        value_name = "ID",
        default_value_t = 1
    )]
    pub probe_product_id: i64,

    /// TLS and basic authentication, in (a subset of) the form of Prometheus' exporter-toolkit.
    #[arg(
        long = "web.config.file",
        env = "EXPORTER_WEB_CONFIG_FILE",
        value_name = "FILE"
    )]
    pub web_config_file: Option<PathBuf>,

    /// Check the configuration and the files it names, take no port, and end: 0 good, 2 not.
    #[arg(long = "config.check", env = "EXPORTER_CONFIG_CHECK")]
    pub config_check: bool,

    /// What to log, in EnvFilter syntax: `info`, `warn,custom_flask_exporter=debug`.
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "DIRECTIVES",
        default_value = "info"
    )]
    pub log_level: String,
}

/// Serves until SIGTERM or SIGINT, then answers what is in flight and returns.
///
/// Exit code 2 means that it could not start as configured; standard error then says why and what
/// to do about it.
pub fn run(args: Args) -> ExitCode {
    let telemetry = match telemetry::init(telemetry::Options {
        service_name: "custom-flask-exporter",
        service_version: env!("CARGO_PKG_VERSION"),
        log_filter: args.log_level.clone(),
        log_output: telemetry::LogOutput::Stdout,
    }) {
        Ok(telemetry) => telemetry,
        Err(error) => return refuse(&format!("{error} (--log-level, RUST_LOG)")),
    };
    let code = match serve(&args, &telemetry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    };
    telemetry.shutdown(TELEMETRY_SHUTDOWN);
    code
}

fn serve(args: &Args, telemetry: &telemetry::Telemetry) -> Result<(), StartError> {
    let own_metrics = Registry::new();
    telemetry.register(&own_metrics)?;
    let setup = Setup::check(args, own_metrics)?;
    if args.config_check {
        // As a line of the log, like all else this program has to say on standard output.
        tracing::info!("the configuration is good");
        return Ok(());
    }
    let exporter = setup.bind()?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Listened for before anybody can learn that the exporter is up: a signal sent on the
        // strength of the log line below must not kill it.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tracing::info!(
            "serving {}://{}/metrics",
            exporter.scheme(),
            exporter.address()
        );
        exporter
            .serve_until(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })?
            .await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Says on standard error what is wrong; the exit code of wrong configuration.
fn refuse(problem: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(2)
}
