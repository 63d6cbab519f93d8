//! `lab drill`: breaks a running lab, one fault for each alert, and measures how long it takes until everybody knows.

mod act;
mod clock;
mod events;
mod journal;
mod measure;
mod report;
mod rules;
mod table;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    act::Scene,
    clock::Clock,
    events::Events,
    journal::Owner,
    measure::{Aftermath, Outcome, Rehearsal, Sight, Sought},
    report::Report,
    rules::{Routes, Rules, Theory},
    table::{DRILLS, Drill, Exercise, How, Lane},
};
use crate::{
    place::{Place, Usage},
    view::Steps,
};

/// Provoke alerts for real, and measure how long it takes until somebody is told, and told of the end.
///
/// The running lab is broken and mended, in a way that makes each alert fire. Meanwhile its rules run on a faster clock
/// (windows and `for` divided by 15, none shorter than four scrapes), and so does the time that Alertmanager gathers alerts;
/// `--real-time` leaves both as they are. Ctrl-C mends what is broken; what a killed drill has left, the next one mends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab drill                               all of them, with whatever can be done at the same time
  lab drill HighErrorRate                 one
  lab drill HighErrorRate --real-time     at its true five minutes
  lab drill --report drill.md --json      a report beside the figures
  lab drill --list                        what provokes which alert; why some cannot be provoked here

Exit code: 0 when every alert was seen firing, told, and ended; 1 otherwise.")]
pub(crate) struct Args {
    /// Alerts to provoke [default: every one that can be]
    #[arg(value_name = "ALERT")]
    alerts: Vec<String>,
    /// Leave windows and waiting times as they are committed
    #[arg(long)]
    real_time: bool,
    /// Write a report in Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Show what provokes which alert, and break nothing
    #[arg(long, conflicts_with_all = ["report", "real_time"])]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print each event as a line of JSON when it happens, and the figures in the last line
    #[arg(long, conflicts_with_all = ["list", "json"])]
    events: bool,
}

/// The clock of the service level objectives in a lab: their windows are hours and days.
const OBJECTIVES_CLOCK: u32 = 60;

pub(crate) fn drill(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&args.alerts)?;
    if args.list {
        report::list(&chosen, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Drill {
        alert,
        how: How::NotHere(why),
        ..
    }) = chosen.first()
        && chosen.iter().all(|drill| drill.exercise().is_none())
    {
        return Err(Usage(format!("{alert} cannot be provoked here: {why}")).into());
    }
    let scene = Scene::new(place)?;
    let clock = Clock::new(args.real_time);
    let report = crate::block_on(async {
        if !scene.journal.is_empty() {
            eprintln!("an earlier drill was killed; mending what it left");
            scene.mend().await?;
        }
        let interrupted = interrupted()?;
        let result = tokio::select! {
            result = run(&scene, clock, &chosen, args) => result,
            () = interrupted => Err(anyhow::anyhow!("interrupted; the lab is as it was")),
        };
        scene.mend().await?;
        result
    })??;
    if args.json {
        println!("{:#}", serde_json::to_value(&report)?);
    } else if args.events {
        println!("{}", serde_json::to_value(&report)?);
    } else {
        println!("{}", report.table());
    }
    if let Some(file) = &args.report {
        std::fs::write(file, report.markdown())
            .with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("wrote {}", file.display());
    }
    Ok(match report.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The rows that are meant.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Drill>> {
    for name in names {
        if DRILLS.iter().any(|drill| drill.alert == name) {
            continue;
        }
        let known: Vec<&str> = DRILLS.iter().map(|drill| drill.alert).collect();
        let near = similar::get_close_matches(name.as_str(), &known, 1, 0.5);
        let hint = near.first().map_or_else(
            || "`lab drill --list` shows all".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        return Err(Usage(format!("there is no alert {name}; {hint}")).into());
    }
    let meant = |drill: &&Drill| names.is_empty() || names.iter().any(|name| drill.alert == name);
    Ok(DRILLS.iter().filter(meant).collect())
}

async fn run(
    scene: &Scene,
    clock: Clock,
    chosen: &[&'static Drill],
    args: &Args,
) -> anyhow::Result<Report> {
    let started_at = Timestamp::now();
    let sight = Sight::new(scene)?;
    let (rules, routes) = set_clock(scene, clock, chosen).await?;
    let run = Run {
        scene,
        sight,
        exercises: exercises(chosen, &rules, &routes)?,
        steps: (!args.json && !args.events).then(Steps::new),
        events: args.events.then(Events::default),
    };
    let mut outcomes: Vec<Outcome> = join_all(Lane::TOGETHER.map(|lane| run.lane(lane)))
        .await
        .concat();
    outcomes.extend(run.lane(Lane::Alone).await);
    if let Some(steps) = &run.steps {
        steps.clear();
    }
    let row = |outcome: &Outcome| {
        DRILLS.iter().position(|drill| {
            drill.alert == outcome.alert && drill.severity.is_none_or(|it| it == outcome.severity)
        })
    };
    outcomes.sort_by_key(row);
    Ok(Report::new(clock, started_at, outcomes, chosen))
}

/// Exercises in the order of the table, each with the alerts that it is for.
fn exercises(
    chosen: &[&'static Drill],
    rules: &Rules,
    routes: &Routes,
) -> anyhow::Result<Vec<(&'static Exercise, Vec<Sought>)>> {
    let mut exercises: Vec<(&'static Exercise, Vec<Sought>)> = Vec::new();
    for &drill in chosen {
        let Some(exercise) = drill.exercise() else {
            continue;
        };
        let sought = sought(drill, rules, routes)?;
        match exercises
            .iter_mut()
            .find(|(other, _)| std::ptr::eq(*other, exercise))
        {
            Some((_, others)) => others.push(sought),
            None => exercises.push((exercise, vec![sought])),
        }
    }
    Ok(exercises)
}

/// A drill that is going on.
struct Run<'a> {
    scene: &'a Scene,
    sight: Sight,
    exercises: Vec<(&'static Exercise, Vec<Sought>)>,
    steps: Option<Steps>,
    events: Option<Events>,
}

impl Run<'_> {
    /// One exercise after the other. The aftermath of one is watched while the next is under way.
    async fn lane(&self, lane: Lane) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut aftermaths = FuturesUnordered::new();
        for (exercise, sought) in self.exercises.iter().filter(|(it, _)| it.lane == lane) {
            if let Some(steps) = &self.steps {
                steps.add(exercise.name);
            }
            let done = async {
                let sought = sought.clone();
                let rehearsal = self.rehearsal(exercise);
                if sought
                    .iter()
                    .any(|it| matches!(it.drill.how, How::Ended { .. }))
                {
                    let seen = rehearsal.run_watchdog(sought).await;
                    return (self.show(exercise, seen), None);
                }
                let aftermath = rehearsal.run(sought).await;
                match exercise.has_aftermath {
                    true => (Vec::new(), Some(aftermath)),
                    false => (self.finish(exercise, aftermath).await, None),
                }
            };
            let mut done = std::pin::pin!(done);
            let (seen, aftermath) = loop {
                tokio::select! {
                    done = &mut done => break done,
                    Some(seen) = aftermaths.next(), if !aftermaths.is_empty() => outcomes.extend(seen),
                }
            };
            outcomes.extend(seen);
            aftermaths.extend(aftermath.map(|it| self.finish(exercise, it)));
        }
        while let Some(seen) = aftermaths.next().await {
            outcomes.extend(seen);
        }
        outcomes
    }

    fn rehearsal(&self, exercise: &'static Exercise) -> Rehearsal<'_> {
        Rehearsal {
            scene: self.scene,
            sight: &self.sight,
            exercise,
            steps: self.steps.as_ref(),
            events: self.events.as_ref(),
        }
    }

    async fn finish(&self, exercise: &'static Exercise, aftermath: Aftermath) -> Vec<Outcome> {
        let seen = self.rehearsal(exercise).finish(aftermath).await;
        self.show(exercise, seen)
    }

    fn show(&self, exercise: &Exercise, seen: Vec<Outcome>) -> Vec<Outcome> {
        if let Some(steps) = &self.steps {
            steps.finish(exercise.name, &report::summary(&seen));
        }
        seen
    }
}

fn sought(drill: &'static Drill, rules: &Rules, routes: &Routes) -> anyhow::Result<Sought> {
    let alert = rules
        .of(drill)
        .with_context(|| format!("Prometheus has no rule {}", drill.name()))?;
    let theory = match drill.how {
        How::Ended { .. } => measure::watchdog_theory(),
        _ => Theory::of(drill, alert, routes)?,
    };
    Ok(Sought::new(drill, alert.clone(), theory))
}

/// Gives Prometheus and Alertmanager rules and routes of the clock, and says what they are.
async fn set_clock(
    scene: &Scene,
    clock: Clock,
    chosen: &[&Drill],
) -> anyhow::Result<(Rules, Routes)> {
    const ALERTS: &str = "alerts.yml";
    const OBJECTIVES: &str = "slo-rules.yml";
    const ROUTES: &str = "alertmanager.yml";
    let stage = scene.stage(Owner::Drill);
    let alerts = clock.rules(&scene.config_text("prometheus", ALERTS)?)?;
    let objectives = match clock.is_real() {
        true => scene.project_text(&format!("prometheus/{OBJECTIVES}"))?,
        false => scene.objectives(OBJECTIVES_CLOCK)?,
    };
    let mut parsed = Rules::parse(&alerts)?;
    let of_objectives = Rules::parse(&objectives)?;
    let needs_objectives = chosen.iter().any(|drill| of_objectives.of(drill).is_some());
    parsed.alerts.extend(of_objectives.alerts);
    let mut changed = false;
    for (file, text, needed) in [
        (ALERTS, &alerts, true),
        (OBJECTIVES, &objectives, needs_objectives),
    ] {
        if needed && scene.config_text("prometheus", file)? != *text {
            stage.replace_config("prometheus", file, text)?;
            changed = true;
        }
    }
    if changed {
        scene.reload("prometheus").await?;
    }
    let committed = scene.config_text("alertmanager", ROUTES)?;
    let routes = clock.alertmanager(&committed)?;
    if routes != committed {
        stage.replace_config("alertmanager", ROUTES, &routes)?;
        scene.reload("alertmanager").await?;
    }
    Ok((parsed, Routes::parse(&routes)?))
}

/// Somebody wants it to end.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = Vec::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        signals.push(signal(kind).context("cannot listen for signals")?);
    }
    Ok(async move {
        let any = signals
            .iter_mut()
            .map(|signal| Box::pin(signal.recv()))
            .collect::<Vec<_>>();
        let _ = futures::future::select_all(any).await;
    })
}
