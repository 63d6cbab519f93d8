//! The command line of Three Pillars: it ties the other crates together and owns no knowledge of
//! its own about components (see `stack`) or services.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this crate is a command line; printing is its work"
)]

mod chaos;
mod committed;
mod console;
mod dashboards;
mod doctor;
mod down;
mod drill;
mod inbox;
mod install;
mod k8s;
mod labs;
mod logs;
mod oncall;
mod place;
mod programs;
mod scraping;
mod slo;
mod status;
mod up;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::place::Place;

/// A complete observability stack around an instrumented Rust service, on this machine.
///
/// Real Prometheus, Alertmanager, Elasticsearch, Jaeger and OpenTelemetry Collector around two replicas
/// of a demo API, with steady traffic. Nothing is installed into the system, nothing stays behind.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    version,
    after_help = "Examples:
  lab                          bring everything up here and follow it; Ctrl-C ends everything
  lab up --detach              the same in the background
  lab verify                   prove that metrics, logs and traces arrive
  lab up --data-dir /tmp/b --port-offset 1000      a second stack beside the first
  lab chaos start errors       a tenth of the requests fails, for a minute
  lab drill HighErrorRate      provoke an alert, see who is told and when
  lab labs                     what there is to learn; `lab check 1` grades the first
  lab down                     end the lab that runs on .lab

Exit codes: 0 good, 1 the thing checked is not so, 2 wrong usage or configuration, 3 a component is missing"
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing, start everything, follow it; the default
    Up(up::Args),
    /// End the lab that runs on the data directory
    Down,
    /// Show what runs where
    Status(status::Args),
    /// Say what is missing on this machine, and how to get it
    Doctor(doctor::Args),
    /// Get the real components into the user's cache, with progress
    Install(install::Args),
    /// Prove the eight success metrics on the running lab, with evidence
    Verify(verify::Args),
    /// Break the services on purpose, for a while: list, start and stop faults
    #[command(subcommand)]
    Chaos(chaos::Args),
    /// Provoke alerts for real, and measure how long it takes until somebody is told
    Drill(drill::Args),
    /// Make Prometheus rules of service level objectives
    #[command(subcommand)]
    Slo(slo::Args),
    /// Make the dashboards that Grafana shows
    #[command(subcommand)]
    Dashboards(dashboards::Args),
    /// The same in a Kubernetes cluster
    #[command(subcommand)]
    K8s(k8s::Args),
    /// Who is on call, proof that always somebody is, and the same for Alertmanager and PagerDuty
    #[command(subcommand)]
    Oncall(oncall::Args),
    Inbox(inbox::Args),
    Console(console::Args),
    /// The labs of the workshop: list them, or prepare one
    Labs(labs::Args),
    /// Grade a lab of the workshop
    Check(labs::CheckArgs),
    /// Search the services' log lines, or follow them
    Logs(logs::Args),
    /// Run one of our own programs; the lab starts them so
    #[command(hide = true, subcommand)]
    Component(programs::Program),
}

/// Does what the command line asks and returns the exit code.
#[must_use]
pub fn start() -> ExitCode {
    programs::service(std::env::args_os()).unwrap_or_else(|| run(Cli::parse()))
}

fn run(cli: Cli) -> ExitCode {
    let place = &cli.place;
    if !matches!(
        cli.command,
        None | Some(Command::Up(_) | Command::Component(_))
    ) {
        end_with_the_reader();
    }
    let result = match cli
        .command
        .unwrap_or_else(|| Command::Up(up::Args::default()))
    {
        Command::Up(args) => up::up(place, &args),
        Command::Down => down::down(place),
        Command::Status(args) => status::status(place, &args),
        Command::Doctor(args) => doctor::doctor(place, &args),
        Command::Install(args) => install::install(place, &args),
        Command::Verify(args) => verify::verify(place, &args),
        Command::Chaos(args) => chaos::chaos(place, &args),
        Command::Drill(args) => drill::drill(place, &args),
        Command::Slo(args) => slo::slo(place, &args),
        Command::Dashboards(args) => dashboards::dashboards(place, &args),
        Command::K8s(args) => k8s::k8s(place, &args),
        Command::Oncall(args) => oncall::oncall(place, &args),
        Command::Labs(args) => labs::labs(place, &args),
        Command::Check(args) => labs::check(place, &args),
        Command::Logs(args) => logs::logs(place, &args),
        Command::Inbox(args) => inbox::inbox(place, &args),
        Command::Console(args) => console::console(place, &args),
        Command::Component(program) => return program.run(),
    };
    result.unwrap_or_else(|error| {
        // Errors of the stack say their cause themselves; printing it again would say it twice.
        let (text, code) = match error.downcast_ref::<stack::Error>() {
            Some(error) => (error.to_string(), error.exit_code()),
            None => (format!("{error:#}"), if is_usage(&error) { 2 } else { 1 }),
        };
        eprintln!(
            "{} {text}",
            terminal::style("error:").red().bold().for_stderr()
        );
        ExitCode::from(code)
    })
}

/// Whether the command line asked for something that makes no sense here.
fn is_usage(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<::console::chaos::Error>();
    error.is::<place::Usage>() || refused.is_some_and(::console::chaos::Error::is_usage)
}

/// Lets `lab status | head` end as other programs do when their reader has gone away, instead of
/// with a panic. A lab that runs must not end so.
#[expect(
    unsafe_code,
    reason = "setting a signal's disposition; no handler of ours runs"
)]
fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default disposition runs no code of this process.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Runs a future on the calling thread alone: children of the lab are tied to the thread that starts
/// them, and that has to be the main one.
fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    use anyhow::Context;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(future);
    // What still waits on another thread, for a lock of another lab say, is not waited for.
    runtime.shutdown_background();
    Ok(result)
}
