//! `lab up`: installs what is missing, starts everything, follows it, ends it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context;
use clap::ValueEnum;
use stack::{Board, Component, HOST, Lab, Layout, State, Supervisor, table};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    place::{Place, Usage},
    view::{self, say},
};

/// Installs what is missing, starts everything in order, follows it; Ctrl-C ends everything.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Return once everything runs; `lab down` ends it
    #[arg(long)]
    detach: bool,
    /// How fast the time of the service level objectives passes
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Leave a component out; may be given several times
    #[arg(long, value_name = "COMPONENT")]
    without: Vec<String>,
}

/// How fast the time of the service level objectives passes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// Sixty times faster: a month's error budget and its alerts play out within a lesson
    #[default]
    Lab,
    /// As it does everywhere else
    RealTime,
}

impl Profile {
    /// Rules in the place of the committed ones, which are those of real time.
    fn slo_rules(self, layout: &Layout) -> anyhow::Result<Option<String>> {
        match self {
            Self::Lab => crate::slo::rules(layout, LAB_CLOCK).map(Some),
            Self::RealTime => Ok(None),
        }
    }
}

/// At 60, an hour of an alert's window is a minute, and the month of a budget half a day.
const LAB_CLOCK: u32 = 60;

pub(crate) fn up(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let components = chosen(&args.without)?;
    let slo_rules = args.profile.slo_rules(&layout)?;
    if args.detach {
        return detach(place, args, &layout);
    }
    // Wrong ports and a busy directory are told before anything is started.
    let mut supervisor = Supervisor::open(layout, place.ports()?, components)?;
    if let Some(rules) = slo_rules {
        supervisor = supervisor.with_slo_rules(rules);
    }
    crate::block_on(async {
        let (stop, force) = end_signals()?;
        let board = supervisor.board();
        let viewer = tokio::spawn(follow(board, place.flags()));
        let stop = async move {
            stop.await;
            viewer.abort();
            eprintln!("ending everything; Ctrl-C again kills what is left");
        };
        let in_order = supervisor.run(stop, force).await;
        Ok(if in_order {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })?
}

fn chosen(without: &[String]) -> anyhow::Result<Vec<&'static Component>> {
    let left_out = without
        .iter()
        .map(|name| table::find(name))
        .collect::<Result<Vec<_>, _>>()?;
    let kept: Vec<_> = table::COMPONENTS
        .iter()
        .filter(|component| left_out.iter().all(|out| out.name != component.name))
        .collect();
    if kept.iter().all(|component| component.launch.is_none()) {
        return Err(Usage("--without leaves nothing to start".into()).into());
    }
    Ok(kept)
}

/// Two futures: the first request to end, and the second.
fn end_signals() -> anyhow::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let counted = watch::Sender::new(0_u8);
    let (first, second) = (counted.subscribe(), counted.subscribe());
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let counted = counted.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                counted.send_modify(|count| *count = count.saturating_add(1));
            }
        });
    }
    let reaches = |mut count: watch::Receiver<u8>, wanted: u8| async move {
        let _ = count.wait_for(|&count| count >= wanted).await;
    };
    Ok((reaches(first, 1), reaches(second, 2)))
}

/// Shows a lab from its start on, for as long as it runs.
async fn follow(mut board: watch::Receiver<Board>, flags: String) {
    view::follow_start(&mut board).await;
    let mut known = board.borrow_and_update().clone();
    known.measure();
    show_started(&known, &flags);
    let line = view::spinner(String::new());
    let Ok(http) = reqwest::Client::builder().no_proxy().build() else {
        return;
    };
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            changed = board.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = board.borrow_and_update().clone();
                for text in view::news(&known, &now) {
                    line.suspend(|| say(&text));
                }
                known = now;
            }
            _ = beat.tick(), if !line.is_hidden() => {
                known.measure();
                let message = pulse(&http, &known).await;
                line.set_message(message);
            }
        }
    }
}

fn show_started(board: &Board, flags: &str) {
    say(&format!("{}\n", view::table(board)));
    for trouble in view::troubles(board) {
        say(&format!("{trouble}\n"));
    }
    say(&format!(
        "{}\n\n  prove it with `lab verify{flags}` (cargo run -- verify{flags}); Ctrl-C ends everything\n",
        view::first_steps(board)
    ));
}

/// The service in one line: what Prometheus says of the last half minute.
async fn pulse(http: &reqwest::Client, board: &Board) -> String {
    let ready = board
        .components
        .iter()
        .filter(|status| status.state == State::Ready)
        .count();
    let started = board
        .components
        .iter()
        .filter(|status| !view::is_optional(&status.name) || status.state == State::Ready)
        .count();
    let base = format!("{ready}/{started} ready  {}", view::mib(board.total_rss()));
    let Some(port) = board
        .get("prometheus")
        .and_then(|prometheus| prometheus.ports.get("http"))
    else {
        return base;
    };
    let ask = async |query: &str| {
        let request = http
            .get(format!("http://{HOST}:{port}/api/v1/query"))
            .query(&[("query", query)])
            .timeout(Duration::from_secs(2));
        let answer: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
        answer["data"]["result"][0]["value"][1]
            .as_str()?
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
    };
    let rate = ask("sum(rate(flask_requests_total[30s]))").await;
    let errors = ask(r#"sum(rate(flask_requests_total{status=~"5.."}[30s]))"#).await;
    let p99 = ask("histogram_quantile(0.99, sum by (le) (rate(flask_http_request_duration_seconds_bucket[30s])))").await;
    let Some(rate) = rate else { return base };
    let mut text = format!(
        "{base}  {rate:.1} requests/s  {:.1} errors/s",
        errors.unwrap_or(0.0)
    );
    if let Some(p99) = p99 {
        text += &format!("  p99 {:.0} ms", p99 * 1000.0);
    }
    text
}

/// Starts the same lab as a process of its own and waits until it is up.
fn detach(place: &Place, args: &Args, layout: &Layout) -> anyhow::Result<ExitCode> {
    layout.prepare()?;
    let mut log = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(layout.lab_log())
        .with_context(|| format!("cannot write {}", layout.lab_log().display()))?;
    let log_start = log.seek(SeekFrom::End(0))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .arg("--project")
        .arg(layout.config(""))
        .arg("--data-dir")
        .arg(layout.data())
        .arg("--cache-dir")
        .arg(layout.cache())
        .arg("--port-offset")
        .arg(place.port_offset.to_string())
        .arg("up")
        .args(
            args.profile
                .to_possible_value()
                .iter()
                .flat_map(|profile| ["--profile", profile.get_name()]),
        )
        .args(args.without.iter().flat_map(|name| ["--without", name]))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        // Ctrl-C and the end of this terminal are not meant for it.
        .process_group(0);
    let child = command.spawn().context("cannot start the lab")?;
    let flags = place.flags();
    crate::block_on(async {
        tokio::select! {
            code = wait_until_up(child, layout, &mut log, log_start, &flags) => code,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("the lab goes on starting in the background; `lab down{flags}` ends it");
                Ok(ExitCode::FAILURE)
            }
        }
    })?
}

async fn wait_until_up(
    mut child: Child,
    layout: &Layout,
    log: &mut File,
    log_start: u64,
    flags: &str,
) -> anyhow::Result<ExitCode> {
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut news: Option<watch::Sender<Board>> = None;
    let mut viewer = None;
    let board = loop {
        beat.tick().await;
        if let Some(status) = child.try_wait()? {
            let mut said = String::new();
            log.seek(SeekFrom::Start(log_start))?;
            log.read_to_string(&mut said)?;
            eprint!("{said}");
            return Ok(ExitCode::from(
                status
                    .code()
                    .and_then(|code| u8::try_from(code).ok())
                    .unwrap_or(1),
            ));
        }
        let Lab::Running(board) = Lab::look(layout) else {
            continue;
        };
        if board.lab_pid != child.id() || board.components.is_empty() {
            continue;
        }
        let settled = board.is_settled();
        match &news {
            Some(news) => drop(news.send_replace(board.clone())),
            None => {
                let sender = watch::Sender::new(board.clone());
                let mut receiver = sender.subscribe();
                viewer = Some(tokio::spawn(async move {
                    view::follow_start(&mut receiver).await
                }));
                news = Some(sender);
            }
        }
        if settled {
            break board;
        }
    };
    if let Some(viewer) = viewer {
        viewer.await?;
    }
    println!("{}\n", view::table(&board));
    let troubles = view::troubles(&board);
    for trouble in &troubles {
        println!("{trouble}\n");
    }
    println!(
        "{}\n\n  it goes on in the background: `lab status{flags}`, `lab verify{flags}`, `lab down{flags}`",
        view::first_steps(&board)
    );
    let missing = |state| {
        board
            .components
            .iter()
            .any(|status| status.state == state && !view::is_optional(&status.name))
    };
    Ok(ExitCode::from(
        match (missing(State::Failed), missing(State::Absent)) {
            (true, _) => 1,
            (false, true) => 3,
            (false, false) => 0,
        },
    ))
}
