//! An open-loop load generator.
//!
//! Work arrives at its own pace whether or not the server keeps up, as customers do. A
//! request's latency counts from the moment the schedule *wanted* it sent, so a stall shows in every
//! request that it held up (Gil Tene's "coordinated omission" has nothing to omit).
//!
//! The parts, in the order a request meets them: [`pace`] and [`pacing`] say when, [`traffic`] and [`journey`] what,
//! [`engine`] sends, [`client_span`] traces, [`outcome`] is what became of it, [`metrics`] and
//! [`summary`] count it, [`threshold`] judges it and [`compare`] compares it.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use telemetry::{LogOutput, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub mod cli;
pub mod client_span;
pub mod compare;
pub mod curve;
pub mod engine;
pub mod html;
pub mod journey;
pub mod metrics;
pub mod outcome;
pub mod pace;
pub mod pacing;
mod progress;
pub mod report;
pub mod summary;
pub mod threshold;
pub mod timeline;
pub mod times;
pub mod traffic;

pub use cli::Args;
use cli::{CannotStart, Command, CompareArgs, MergeArgs, Output, RunArgs, read_result};
use metrics::{Endpoint, Metrics};
use progress::{Progress, note};
use summary::Summary;
use threshold::Threshold;

/// How long spans may take to leave at the end.
const FLUSH: Duration = Duration::from_secs(3);
/// Descriptors beside the connections in flight: listeners, the runtime's own, connections kept for reuse.
const SPARE_DESCRIPTORS: u64 = 64;

/// Does what the command line asks for; 0 when all is well, 1 when a threshold fails or B is worse than A, 2 when
/// something given is wrong.
pub fn run(args: Args) -> ExitCode {
    let good = match &args.command {
        Command::Run(args) => run_load(args),
        Command::Merge(args) => merge(args),
        Command::Compare(args) => compare_results(args),
    };
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            note(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn merge(args: &MergeArgs) -> Result<bool, CannotStart> {
    let parts = args
        .files
        .iter()
        .map(|file| read_result(file))
        .collect::<Result<Vec<_>, _>>()?;
    let json = args.json.as_deref().map(Output::json).transpose()?;
    let html = args.html.as_deref().map(Output::html).transpose()?;
    let mut sum = Summary::merged(parts).expect("one file at least is required");
    judge(&mut sum, &args.thresholds);
    deliver_page(&sum, html)?;
    deliver(&sum, &report::text(&sum), json)?;
    Ok(sum.is_good())
}

fn compare_results(args: &CompareArgs) -> Result<bool, CannotStart> {
    let (a, b) = (read_result(&args.a)?, read_result(&args.b)?);
    let json = args.json.as_deref().map(Output::json).transpose()?;
    let names = [&args.a, &args.b].map(|path| path.display().to_string());
    let answer = compare::compare((&names[0], &a), (&names[1], &b), &args.question())?;
    for (name, summary) in names.iter().zip([&a, &b]) {
        if let Some(because) = &summary.limited_because {
            note(&format!("{name} is no measure of the server: {because}"));
        }
    }
    deliver(&answer, &compare::text(&answer), json)?;
    Ok(!answer.worse)
}

fn judge(summary: &mut Summary, thresholds: &[Threshold]) {
    summary.thresholds = thresholds
        .iter()
        .map(|threshold| threshold.check(summary))
        .collect();
}

fn run_load(args: &RunArgs) -> Result<bool, CannotStart> {
    let plan = args.plan()?;
    let json = args.json.as_deref().map(Output::json).transpose()?;
    let html = args.html.as_deref().map(Output::html).transpose()?;
    let endpoint = args
        .metrics_listen
        .map(|address| {
            Endpoint::bind(address).map_err(|source| CannotStart::Listen { address, source })
        })
        .transpose()?;
    allow_descriptors(u64::from(args.max_in_flight));

    let telemetry = telemetry::init(Options {
        service_name: "loadgen",
        service_version: env!("CARGO_PKG_VERSION"),
        log_filter: args.log.clone(),
        log_output: LogOutput::Stderr,
    })?;
    let metrics = Arc::new(Metrics::new(plan.schedule.rate_at(Duration::ZERO)));
    telemetry.register(metrics.registry())?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(load(args, plan, &metrics, endpoint));
    // Requests given up by a second signal may still be waiting.
    runtime.shutdown_background();
    // It warns of spans that could not be delivered; the result stands without them.
    telemetry.shutdown(FLUSH);
    let mut summary = result?;
    judge(&mut summary, &args.thresholds);
    deliver_page(&summary, html)?;
    deliver(&summary, &report::text(&summary), json)?;
    Ok(summary.is_good())
}

async fn load(
    args: &RunArgs,
    plan: engine::Plan,
    metrics: &Arc<Metrics>,
    endpoint: Option<Endpoint>,
) -> Result<Summary, CannotStart> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    announce(args, &plan, endpoint.as_ref())?;
    if let Some(endpoint) = endpoint {
        endpoint.serve(metrics.registry().clone())?;
    }

    let progress = Progress::new(plan.schedule.expected());
    let mut ticks = tokio::time::interval(progress.interval());
    ticks.tick().await;
    let (stop, stops) = mpsc::unbounded_channel();
    let mut load = std::pin::pin!(engine::drive(plan, Arc::clone(metrics), stops));
    let summary = loop {
        tokio::select! {
            summary = &mut load => break summary,
            _ = ticks.tick() => progress.show(metrics),
            _ = interrupt.recv() => stop_once_more(&stop, metrics),
            _ = terminate.recv() => stop_once_more(&stop, metrics),
        }
    };
    progress.finish();
    Ok(summary?)
}

fn stop_once_more(stop: &mpsc::UnboundedSender<()>, metrics: &Metrics) {
    note(&format!(
        "stopping; waiting for {} requests in flight (once more: do not wait)",
        metrics.in_flight.get()
    ));
    // The run may have ended in this very moment.
    let _ = stop.send(());
}

fn announce(
    args: &RunArgs,
    plan: &engine::Plan,
    endpoint: Option<&Endpoint>,
) -> Result<(), CannotStart> {
    let urls: Vec<_> = args.urls.iter().map(|url| url.as_str()).collect();
    let length = plan.schedule.length().map_or_else(
        || "until stopped".to_owned(),
        |length| format!("for {length:?}"),
    );
    let pace = args.pace();
    let shard = if args.shard.is_part() {
        format!(", shard {}", args.shard)
    } else {
        String::new()
    };
    note(&format!(
        "{pace} requests per second to {} {length}{shard}",
        urls.join(" ")
    ));
    if let Some(endpoint) = endpoint {
        note(&format!(
            "metrics on http://{}/metrics",
            endpoint.address()?
        ));
    }
    tracing::info!(
        pace = pace.to_string(),
        targets = urls.join(" "),
        "load starts"
    );
    Ok(())
}

/// Raises the limit on open files as far as it may, and says so when that is not enough for the connections.
fn allow_descriptors(connections: u64) {
    let wanted = connections + SPARE_DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft >= wanted {
        return;
    }
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() || hard < wanted {
        note(&format!(
            "{hard} open files are allowed and {connections} requests in flight may need more; \
             connections beyond that fail here, not at the server: raise `ulimit -n` or lower --max-in-flight"
        ));
    }
}

fn deliver_page(summary: &Summary, html: Option<Output>) -> Result<(), CannotStart> {
    html.map_or(Ok(()), |html| html.write(&html::page(summary)))
}

/// Writes a result for programs, if they want it, and for people.
fn deliver(result: &impl Serialize, text: &str, json: Option<Output>) -> Result<(), CannotStart> {
    let mut people: Box<dyn io::Write> = if matches!(json, Some(Output::Stdout)) {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    // The file first: it must not be lost because the reader of standard output has gone.
    if let Some(json) = json {
        json.write(&serde_json::to_string_pretty(result).map_err(io::Error::from)?)?;
    }
    Ok(people.write_all(text.as_bytes())?)
}
