//! `lab oncall`: the rotation of `alertmanager/oncall.yaml`, for people, Alertmanager and PagerDuty.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use jiff::{Timestamp, civil::Date};
use oncall::{
    Coverage, Error, Role, Roster,
    alertmanager::{Loaded, Window, splice, window},
    pagerduty,
};
use serde_json::{Value, json};
use stack::Layout;
use terminal::style;

use crate::{
    committed::{self, Committed},
    place::{Place, Usage},
};

pub(crate) const ROTATION: &str = "alertmanager/oncall.yaml";
const CONFIG: &str = "alertmanager/alertmanager.yml";
const COMMAND: &str = "lab oncall render";

/// As far ahead as anybody plans.
const WEEKS: u32 = 26;

/// The on-call rotation.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Say who is on call, now or at another time
    #[command(after_help = "Examples:
  lab oncall who
  lab oncall who --at 2026-12-24T18:00          by the clock of the rotation's time zone
  lab oncall who --at 2026-12-24T17:00:00Z --json

Exit code: 0 when each role has exactly one person, 1 otherwise.")]
    Who(Who),
    /// Prove that every minute has exactly one primary and one secondary, changes of the clock included
    #[command(after_help = "Examples:
  lab oncall check                              the next 26 weeks
  lab oncall check --from 2027-01-01T00:00 --weeks 52
  lab oncall check --file my-team.yaml          another rotation than alertmanager/oncall.yaml
  lab oncall check --json | jq '.findings[]'

Exit code: 0 when it is so, 1 when there is a gap, an overlap or one person in both roles.")]
    Check(Check),
    /// Write the coming 26 weeks into alertmanager/alertmanager.yml, or print them for PagerDuty
    #[command(after_help = "Examples:
  lab oncall render                             from the last hand-over on
  lab oncall render --from 2026-11-23           from the hand-over of that day on
  lab oncall render --check                     is the file what oncall.yaml says? exit 1 and a diff if not
  lab oncall render --pagerduty                 body of POST /schedules for the primary
  lab oncall render --pagerduty secondary
  lab oncall render --pagerduty primary-overrides      body of POST /schedules/{id}/overrides")]
    Render(Render),
}

#[derive(Debug, clap::Args)]
struct Source {
    /// Another rotation than that of the project
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Who {
    #[command(flatten)]
    source: Source,
    /// Instant (RFC 3339) or time in the rotation's time zone [default: now]
    #[arg(long, value_name = "T")]
    at: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
    /// First instant: RFC 3339, or a time in the rotation's time zone [default: now]
    #[arg(long, value_name = "T")]
    from: Option<String>,
    /// How far ahead
    #[arg(long, value_name = "N", default_value_t = WEEKS, value_parser = clap::value_parser!(u32).range(1..=520))]
    weeks: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    /// Compare with the committed file, for the weeks that it names, instead of writing it
    #[arg(long, conflicts_with_all = ["from", "pagerduty"])]
    check: bool,
    /// The weeks begin with the hand-over time of this day [default: the last hand-over]
    #[arg(long, value_name = "DATE")]
    from: Option<Date>,
    /// Print what PagerDuty's REST API takes instead
    #[arg(long, value_name = "BODY", num_args = 0..=1, default_missing_value = "primary")]
    pagerduty: Option<Body>,
}

/// What to send to PagerDuty.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Body {
    Primary,
    Secondary,
    PrimaryOverrides,
    SecondaryOverrides,
}

pub(crate) fn oncall(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    match args {
        Args::Who(args) => who(&args.source.roster(&layout)?, args),
        Args::Check(args) => check(&args.source.roster(&layout)?, args),
        Args::Render(args) => render(&layout, args),
    }
}

/// The project's rotation.
fn roster(layout: &Layout) -> anyhow::Result<Roster> {
    let text = committed::read(&layout.config(ROTATION))?;
    Roster::parse(ROTATION.as_ref(), &text).map_err(told)
}

impl Source {
    fn roster(&self, layout: &Layout) -> anyhow::Result<Roster> {
        match &self.file {
            Some(file) => Roster::parse(file, &committed::read(file)?).map_err(told),
            None => roster(layout),
        }
    }
}

/// A rotation with a gap is not so; everything else is a mistake in a file.
fn told(error: Error) -> anyhow::Error {
    match error {
        Error::NotCovered(_) => error.into(),
        Error::Region(problems) => {
            let lines = problems
                .iter()
                .map(|problem| format!("{CONFIG}: {problem}"));
            Usage(lines.collect::<Vec<_>>().join("\n")).into()
        }
        error => Usage(error.to_string()).into(),
    }
}

fn instant(roster: &Roster, text: Option<&str>) -> anyhow::Result<Timestamp> {
    match text {
        Some(text) => Ok(roster.parse_instant(text).map_err(Usage)?),
        None => Ok(Timestamp::now()),
    }
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn who(roster: &Roster, args: &Who) -> anyhow::Result<ExitCode> {
    let at = instant(roster, args.at.as_deref())?;
    let on_call = roster.who(at);
    if args.json {
        let mut json = json!({
            "at": at,
            "time_zone": roster.zone(),
            "business_hours": on_call.business_hours,
        });
        for role in Role::ALL {
            let (since, until) = roster.turn_of(role, at);
            json[role.name()] = json!({
                "handle": on_call.one(role),
                "claims": on_call.claims(role),
                "since": since,
                "until": until,
            });
        }
        println!("{json:#}");
    } else {
        let hours = if on_call.business_hours {
            "within"
        } else {
            "outside"
        };
        println!("{}, {hours} business hours", roster.show(at));
        let mut table = table();
        for role in Role::ALL {
            let claims = on_call.claims(role).iter();
            let by: Vec<&str> = claims.map(|claim| claim.by.as_str()).collect();
            let handles = match on_call.handles(role)[..] {
                [] => "nobody".to_owned(),
                ref handles => handles.join(" and "),
            };
            let until = roster.turn_of(role, at).1;
            let until = until.map_or(String::new(), |until| {
                format!("until {}", roster.show(until))
            });
            table.add_row([role.name().to_owned(), handles, until, by.join(", ")]);
        }
        println!("{table}");
    }
    Ok(exit(
        Role::ALL.iter().all(|role| on_call.one(*role).is_some()),
    ))
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn check(roster: &Roster, args: &Check) -> anyhow::Result<ExitCode> {
    let coverage = roster.coverage(instant(roster, args.from.as_deref())?, args.weeks);
    let ok = coverage.findings.is_empty();
    if args.json {
        println!("{:#}", to_json(roster, &coverage, args.weeks)?);
        return Ok(exit(ok));
    }
    println!("{}", proven(roster, &coverage, args.weeks));
    let mut table = table();
    table.set_header(["", "hours as primary", "as secondary"]);
    for load in &coverage.load {
        let hours = |hours: f64| format!("{hours:.1}");
        table.add_row([
            load.handle.clone(),
            hours(load.primary_hours),
            hours(load.secondary_hours),
        ]);
    }
    println!("{table}");
    for finding in &coverage.findings {
        println!("{} {finding}", style("FAIL").red().bold());
    }
    Ok(exit(ok))
}

fn to_json(roster: &Roster, coverage: &Coverage, weeks: u32) -> anyhow::Result<Value> {
    let findings = coverage.findings.iter().map(|finding| {
        let mut json = serde_json::to_value(finding)?;
        json["text"] = finding.to_string().into();
        Ok(json)
    });
    Ok(json!({
        "ok": coverage.findings.is_empty(),
        "time_zone": roster.zone(),
        "from": coverage.from,
        "until": coverage.until,
        "weeks": weeks,
        "clock_changes": coverage.clock_changes,
        "findings": findings.collect::<anyhow::Result<Vec<_>>>()?,
        "people": coverage.load,
    }))
}

/// What was looked at, and how it is.
fn proven(roster: &Roster, coverage: &Coverage, weeks: u32) -> String {
    let mut text = format!(
        "{weeks} weeks, {} to {}: ",
        roster.show(coverage.from),
        roster.show(coverage.until)
    );
    match coverage.findings.len() {
        0 => text.push_str("every minute has exactly one primary and one secondary"),
        n => {
            let _ = write!(text, "{n} stretches are not covered as they should be");
        }
    }
    for change in &coverage.clock_changes {
        let _ = write!(
            text,
            "; the clock moves by {:+} min on {}",
            change.minutes,
            roster.show(change.at)
        );
    }
    text
}

fn render(layout: &Layout, args: &Render) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    if args.check {
        let rotation = Rotation::read(layout)?;
        let window = rotation.window()?;
        let rendered = splice(&rotation.roster, window, &rotation.config).map_err(told)?;
        let committed = Committed {
            file: &rotation.file,
            sources: &format!("the layers and overrides of {ROTATION}"),
            command: COMMAND,
        };
        let (_, until) = window.bounds(&rotation.roster);
        if until < now {
            eprintln!(
                "the rendered weeks ended on {}; run `{COMMAND}`",
                rotation.roster.show(until)
            );
        }
        return Ok(committed.check(&rendered));
    }
    let roster = roster(layout)?;
    let window = match args.from {
        Some(from) => Window { from, weeks: WEEKS },
        None => Window::around(&roster, now, WEEKS),
    };
    if let Some(body) = args.pagerduty {
        let overrides = |role| pagerduty::overrides(&roster, role, window.bounds(&roster).0, WEEKS);
        let body = match body {
            Body::Primary => pagerduty::schedule(&roster, Role::Primary),
            Body::Secondary => pagerduty::schedule(&roster, Role::Secondary),
            Body::PrimaryOverrides => overrides(Role::Primary),
            Body::SecondaryOverrides => overrides(Role::Secondary),
        };
        println!("{:#}", body.map_err(told)?);
        return Ok(ExitCode::SUCCESS);
    }
    let file = layout.config(CONFIG);
    let config = committed::read(&file)?;
    let rendered = splice(&roster, window, &config).map_err(told)?;
    committed::write(&file, &rendered)?;
    Ok(ExitCode::SUCCESS)
}

/// The rotation and the configuration that has to say the same.
pub(crate) struct Rotation {
    roster: Roster,
    file: PathBuf,
    config: String,
}

impl Rotation {
    pub(crate) fn read(layout: &Layout) -> anyhow::Result<Self> {
        let file = layout.config(CONFIG);
        Ok(Self {
            roster: roster(layout)?,
            config: committed::read(&file)?,
            file,
        })
    }

    fn window(&self) -> anyhow::Result<Window> {
        Ok(window(&self.config).ok_or_else(|| {
            Usage(format!(
                "{CONFIG} does not say for which weeks it was rendered; run `{COMMAND}`"
            ))
        })?)
    }

    /// What shows that it covers 26 weeks and is rendered for now.
    pub(crate) fn holds(&self, now: Timestamp) -> anyhow::Result<Vec<String>> {
        let Self { roster, config, .. } = self;
        let coverage = roster.coverage(now, WEEKS);
        if let Some(finding) = coverage.findings.first() {
            bail!("{ROTATION}: {finding}");
        }
        let who = roster.who(now);
        let on_call = Role::ALL.map(|role| {
            let until = roster.turn_of(role, now).1;
            let until = until.map_or(String::new(), |until| {
                format!(" until {}", roster.show(until))
            });
            format!("{role}: {}{until}", who.one(role).unwrap_or("nobody"))
        });
        let window = self.window()?;
        let (from, until) = window.bounds(roster);
        ensure!(
            from <= now && now < until,
            "{CONFIG} is rendered for {} to {}, which is not now; run `{COMMAND}`",
            roster.show(from),
            roster.show(until)
        );
        let rendered = splice(roster, window, config).map_err(told)?;
        ensure!(
            rendered == *config,
            "{CONFIG} is not what {ROTATION} says; run `{COMMAND}`"
        );
        let mut evidence = vec![proven(roster, &coverage, WEEKS)];
        evidence.extend(on_call);
        evidence.push(format!(
            "{CONFIG} says the same until {}",
            roster.show(until)
        ));
        Ok(evidence)
    }

    /// The receiver of whoever is primary.
    pub(crate) fn receiver(&self, now: Timestamp) -> anyhow::Result<String> {
        let who = self.roster.who(now);
        let handle = who.one(Role::Primary).context("nobody is on call")?;
        Ok(format!("oncall-{handle}"))
    }

    /// What shows that an Alertmanager has loaded it, by the configuration that it shows.
    pub(crate) fn loaded_in(&self, running: &str) -> anyhow::Result<String> {
        let [ours, running] = [self.config.as_str(), running].map(Loaded::read);
        let ours = ours.map_err(|error| Usage(format!("{CONFIG}: {error}")))?;
        let running = running.map_err(anyhow::Error::msg)?;
        ensure!(
            ours == running,
            "the Alertmanager that runs has loaded another rotation than {CONFIG} has; it reads the file when it is started"
        );
        Ok(format!(
            "Alertmanager runs with its {} time intervals and their routes",
            running.intervals()
        ))
    }
}
