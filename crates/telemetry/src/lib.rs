//! Logs, traces and self-metrics: set up once, shut down in order; used by every program here.
//!
//! [`init`] sends `tracing` events to the log, as one JSON object a line, and `tracing` spans to an
//! OpenTelemetry collector, as OTLP over HTTP. Neither ever makes the program wait: lines and spans go through
//! bounded queues, and what does not fit is dropped and counted ([`Telemetry::register`]).
//!
//! ```no_run
//! # use std::time::Duration;
//! let telemetry = telemetry::init(telemetry::Options {
//!     service_name: "shop",
//!     service_version: env!("CARGO_PKG_VERSION"),
//!     log_filter: "info".to_owned(),
//!     log_output: telemetry::LogOutput::Stdout,
//! })?;
//! let span = tracing::info_span!("checkout");
//! span.in_scope(|| tracing::info!(http.route = "/orders", event.duration = 1_200_000, "order placed"));
//! drop(span);
//! let report = telemetry.shutdown(Duration::from_secs(5));
//! assert!(report.spans_flushed);
//! # Ok::<(), telemetry::Error>(())
//! ```
//!
//! Traces are set up from the standard `OTEL_*` variables, listed in `settings.rs`. Log fields are described in
//! `log_format.rs`, the metrics in `metrics.rs`.

mod log_format;
mod log_level;
mod log_writer;
mod metrics;
mod sabotage;
mod settings;
mod shutdown;
mod span_accounting;
mod trace_pipeline;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

pub use log_level::LogLevel;
pub use sabotage::{BrokenContext, SPAN_TO_LOSE, Sabotage};
pub use shutdown::ShutdownReport;

use log_format::{JsonLines, NoSpanFields};
use log_writer::LogWriter;
use metrics::TelemetryCollector;
use sabotage::Breakable;
use settings::Settings;
use span_accounting::SpanAccounting;

/// What a program tells about itself when it starts its telemetry.
#[derive(Debug, Clone)]
pub struct Options {
    /// `service.name`; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over it.
    pub service_name: &'static str,
    /// `service.version`; `OTEL_RESOURCE_ATTRIBUTES` wins over it.
    pub service_version: &'static str,
    /// Directives in `tracing_subscriber::EnvFilter` syntax, for example `info` or `info,sqlx=debug`.
    pub log_filter: String,
    /// Where JSON log lines go.
    pub log_output: LogOutput,
}

/// Where JSON log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// Services: one JSON object a line on standard output.
    Stdout,
    /// Programs whose standard output is their result.
    Stderr,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Options::log_filter`] is not a list of directives.
    #[error("log filter: {0}")]
    LogFilter(String),
    /// The log's output cannot be used.
    #[error("cannot open the log output")]
    LogOutput(#[source] io::Error),
    /// The exporter could not be built; invalid `OTEL_*` values are warnings instead.
    #[error("cannot build the span exporter")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Telemetry, or another logger, is already set up in this process.
    #[error("logs and traces are already set up in this process")]
    AlreadySet,
}

/// Keeps logs and traces flowing; ends them in [`Telemetry::shutdown`].
///
/// Dropped without that, it flushes for two seconds at most, so that an early return loses no log line.
#[must_use = "dropping it ends logs and traces"]
#[derive(Debug)]
pub struct Telemetry {
    /// Taken by the shutdown.
    pipelines: Option<Pipelines>,
    spans: Arc<SpanAccounting>,
    log: LogWriter,
    log_level: LogLevel,
    sabotage: Sabotage,
}

/// What has to be flushed.
#[derive(Debug)]
struct Pipelines {
    provider: Option<SdkTracerProvider>,
    spans: Arc<SpanAccounting>,
    log: LogWriter,
}

/// Sets the process-wide subscriber, tracer provider and propagator. Call it once, from `main`.
///
/// # Errors
/// If the options are unusable or it was called before. Invalid `OTEL_*` values are no error: each is ignored
/// and a warning in the log.
pub fn init(options: Options) -> Result<Telemetry, Error> {
    let settings = Settings::from_env();
    let resource = trace_pipeline::resource(&options, &settings);

    let filter = log_level::parse(&options.log_filter).map_err(Error::LogFilter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = JsonLines::new(&resource);
    let worded = lines.clone();
    let notice = Box::new(move |missing| worded.notice_of_missing(missing));
    let log = LogWriter::open(options.log_output, notice).map_err(Error::LogOutput)?;
    let log_layer = fmt::layer()
        .event_format(lines)
        .fmt_fields(NoSpanFields)
        .with_ansi(false)
        .with_writer(log.clone())
        .log_internal_errors(false)
        .with_filter(filter);

    let spans = SpanAccounting::new(settings.queue_size);
    let sabotage = Sabotage::new(log.clone());
    let provider = trace_pipeline::provider(&settings, resource, &spans, &sabotage)?;
    let trace_layer = provider
        .as_ref()
        .map(|provider| trace_pipeline::layer(provider, &options));

    Registry::default()
        .with(log_layer)
        .with(trace_layer)
        .try_init()
        .map_err(|_| Error::AlreadySet)?;
    let propagator = trace_pipeline::propagator(&settings.propagators);
    global::set_text_map_propagator(Breakable(propagator));
    if let Some(provider) = &provider {
        // The SDK greets in the log, which is the program's and should start with the program's words.
        tracing::subscriber::with_default(NoSubscriber::new(), || {
            global::set_tracer_provider(provider.clone())
        });
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let pipelines = Pipelines {
        provider,
        spans: spans.clone(),
        log: log.clone(),
    };
    Ok(Telemetry {
        pipelines: Some(pipelines),
        spans,
        log,
        log_level: LogLevel::new(handle),
        sabotage,
    })
}

/// What is wrong with the `OTEL_*` variables that `lookup` finds; [`init`] logs the same of the environment.
pub fn environment_warnings(lookup: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    Settings::read(lookup).warnings
}

/// Whether [`Options::log_filter`] may be this.
///
/// # Errors
/// A sentence for whoever wrote it.
pub fn check_log_filter(directives: &str) -> Result<(), String> {
    log_level::parse(directives).map(drop)
}

impl Telemetry {
    /// Adds `telemetry_*` and `process_*` to a registry.
    ///
    /// # Errors
    /// If the registry already has metrics of these names. Several registries are fine.
    pub fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(TelemetryCollector::new(
            self.spans.clone(),
            self.log.clone(),
        )?))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(())
    }

    /// A handle for the `/log-level` page.
    pub fn log_level(&self) -> LogLevel {
        self.log_level.clone()
    }

    /// Spoils logs and traces on purpose, for faults that are asked for.
    pub fn sabotage(&self) -> Sabotage {
        self.sabotage.clone()
    }

    /// Flushes spans, then logs; never takes longer than `deadline`, whatever the collector does.
    ///
    /// It blocks the calling thread. In an async program call it after the runtime has ended or on a thread
    /// for blocking work; on a runtime thread it holds up that thread's tasks, but returns in time as well.
    pub fn shutdown(mut self, deadline: Duration) -> ShutdownReport {
        let pipelines = self
            .pipelines
            .take()
            .expect("only this and drop take them, and both end the value");
        shutdown::run(pipelines, deadline)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(pipelines) = self.pipelines.take() {
            shutdown::run(pipelines, Duration::from_secs(2));
        }
    }
}
