//! An open-loop load generator.
//!
//! Work arrives at its own pace whether or not the server keeps up, as customers do. A
//! request's latency counts from the moment the schedule *wanted* it sent, so a stall shows in every
//! request that it held up (Gil Tene's "coordinated omission" has nothing to omit).
//!
//! The parts, in the order a request meets them: [`pace`] and [`pacing`] say when, [`traffic`], [`scenario`] and
//! [`journey`] what, [`engine`] makes the starts, [`client`] sends over [`transport`] in [`http1`] or HTTP/2,
//! [`client_span`] traces, [`outcome`] is what became of it, [`ledger`], [`metrics`] and [`summary`] count it,
//! [`threshold`] judges it and [`compare`] compares it.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use telemetry::{LogOutput, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub mod alarm;
pub mod cli;
pub mod client;
pub mod client_span;
pub mod compare;
pub mod curve;
pub mod engine;
pub mod html;
pub mod http1;
mod http2;
pub mod journey;
pub mod ledger;
pub mod metrics;
pub mod openapi;
pub mod outcome;
pub mod pace;
pub mod pacing;
pub mod processor;
mod progress;
pub mod pulse;
pub mod report;
pub mod scenario;
pub mod summary;
pub mod template;
pub mod threshold;
pub mod timeline;
pub mod times;
pub mod traffic;
pub mod transport;

pub use cli::Args;
use cli::{
    Asked, CannotStart, Command, CompareArgs, MergeArgs, Output, Outputs, RunArgs, ScenarioCommand,
    read_result,
};
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
        Command::Scenario(command) => scenarios(command),
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
    let outputs = args.result.open()?;
    let sum = Summary::merged(parts).expect("one file at least is required");
    conclude(sum, &args.result.thresholds, outputs)
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

fn scenarios(command: &ScenarioCommand) -> Result<bool, CannotStart> {
    let text = match command {
        ScenarioCommand::Show { name: None } => scenario::list(),
        ScenarioCommand::Show { name: Some(name) } => scenario::built_in(name)
            .ok_or_else(|| {
                CannotStart::Wrong(format!(
                    "there is no scenario {name:?} here; there are\n{}",
                    scenario::list()
                ))
            })?
            .to_owned(),
        ScenarioCommand::Schema => scenario::schema(),
        ScenarioCommand::Check { files } => {
            let mut said = String::new();
            for file in files {
                let checked = scenario::load(file)?;
                said += &format!("{file}: {checked}\n");
            }
            said
        }
        ScenarioCommand::FromOpenapi { file } => openapi::skeleton_of(file)?,
    };
    Ok(io::stdout().write_all(text.as_bytes()).map(|()| true)?)
}

/// Judges a result and tells it to everybody; whether it is good.
fn conclude(
    mut summary: Summary,
    thresholds: &[Threshold],
    outputs: Outputs,
) -> Result<bool, CannotStart> {
    summary.thresholds = thresholds
        .iter()
        .map(|threshold| threshold.check(&summary))
        .collect();
    if let Some(html) = outputs.html {
        html.write(&html::page(&summary))?;
    }
    deliver(&summary, &report::text(&summary), outputs.json)?;
    Ok(summary.is_good())
}

fn run_load(args: &RunArgs) -> Result<bool, CannotStart> {
    // On the thread that is to send: what it holds is for one thread only.
    let (ready, plans) = std::sync::mpsc::sync_channel(0);
    let (go, goes) = oneshot::channel::<(Arc<Metrics>, mpsc::UnboundedReceiver<()>)>();
    let (done, result) = oneshot::channel();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("load".to_owned())
            .spawn_scoped(scope, move || {
                let plan = match args.plan() {
                    Ok((plan, asked)) => ready.send(Ok(asked)).map(|()| plan),
                    Err(error) => return drop(ready.send(Err(error))),
                };
                // Without an order to go there was something else wrong, and it has been told.
                if let (Ok(plan), Ok((metrics, stops))) = (plan, goes.blocking_recv()) {
                    let _ = done.send(send_all(plan, metrics, stops));
                }
            })?;
        let asked = plans.recv().map_err(io::Error::other)??;
        supervise(args, &asked, go, result)
    })
}

/// Sends, on this thread, until the end.
fn send_all(
    plan: engine::Plan,
    metrics: Arc<Metrics>,
    stops: mpsc::UnboundedReceiver<()>,
) -> io::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let summary = runtime.block_on(engine::drive(plan, metrics, stops));
    // Names may still be looked up.
    runtime.shutdown_background();
    summary
}

fn supervise(
    args: &RunArgs,
    asked: &Asked,
    go: oneshot::Sender<(Arc<Metrics>, mpsc::UnboundedReceiver<()>)>,
    result: oneshot::Receiver<io::Result<Summary>>,
) -> Result<bool, CannotStart> {
    let outputs = args.result.open()?;
    let endpoint = args
        .metrics_listen
        .map(|address| {
            Endpoint::bind(address).map_err(|source| CannotStart::Listen { address, source })
        })
        .transpose()?;
    let connections = args.wire.connections.unwrap_or(0).max(args.max_in_flight);
    allow_descriptors(u64::from(connections));

    let telemetry = telemetry::init(Options {
        service_name: "loadgen",
        service_version: env!("CARGO_PKG_VERSION"),
        log_filter: args.log.clone(),
        log_output: LogOutput::Stderr,
    })?;
    let metrics = Arc::new(Metrics::new(asked.schedule.rate_at(Duration::ZERO)));
    telemetry.register(metrics.registry())?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let summary = runtime.block_on(watch(args, asked, &metrics, endpoint, go, result));
    runtime.shutdown_background();
    // It warns of spans that could not be delivered; the result stands without them.
    telemetry.shutdown(FLUSH);
    conclude(summary?, &asked.thresholds, outputs)
}

/// Starts the run, shows how it goes, and passes signals on to it.
async fn watch(
    args: &RunArgs,
    asked: &Asked,
    metrics: &Arc<Metrics>,
    endpoint: Option<Endpoint>,
    go: oneshot::Sender<(Arc<Metrics>, mpsc::UnboundedReceiver<()>)>,
    mut result: oneshot::Receiver<io::Result<Summary>>,
) -> Result<Summary, CannotStart> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    announce(args, asked, endpoint.as_ref())?;
    if let Some(endpoint) = endpoint {
        endpoint.serve(metrics.registry().clone())?;
    }

    let mut progress = Progress::new(asked.schedule.expected());
    let mut ticks = tokio::time::interval(progress.interval());
    ticks.tick().await;
    let (stop, stops) = mpsc::unbounded_channel();
    // It is gone only when the thread has ended, and then the result says so.
    let _ = go.send((Arc::clone(metrics), stops));
    let summary = loop {
        tokio::select! {
            summary = &mut result => break summary,
            _ = ticks.tick() => progress.show(metrics),
            _ = interrupt.recv() => stop_once_more(&stop, metrics, &progress),
            _ = terminate.recv() => stop_once_more(&stop, metrics, &progress),
        }
    };
    progress.finish();
    Ok(summary.map_err(io::Error::other)??)
}

fn stop_once_more(stop: &mpsc::UnboundedSender<()>, metrics: &Metrics, progress: &Progress) {
    progress.note(&format!(
        "stopping; waiting for {} requests in flight (once more: do not wait)",
        metrics.in_flight.get()
    ));
    // The run may have ended in this very moment.
    let _ = stop.send(());
}

fn announce(args: &RunArgs, asked: &Asked, endpoint: Option<&Endpoint>) -> Result<(), CannotStart> {
    let urls: Vec<_> = args.urls.iter().map(|url| url.as_str()).collect();
    let length = asked.schedule.length().map_or_else(
        || "until stopped".to_owned(),
        |length| format!("for {length:?}"),
    );
    let pace = &asked.pace;
    let shard = if args.shard.is_part() {
        format!(", shard {}", args.shard)
    } else {
        String::new()
    };
    note(&format!(
        "{pace} {} per second to {} {length}{shard}",
        if asked.journeys {
            "journeys"
        } else {
            "requests"
        },
        urls.join(" ")
    ));
    if let Some(endpoint) = endpoint {
        note(&format!(
            "metrics on http://{}/metrics",
            endpoint.address()?
        ));
    }
    tracing::info!(pace, targets = urls.join(" "), "load starts");
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
