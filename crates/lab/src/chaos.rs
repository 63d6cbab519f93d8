//! `lab chaos`: starts and stops faults in the services of a running lab, over `/chaos` of their admin ports.

use std::{process::ExitCode, time::Duration};

use ::console::chaos::{Admin, SERVICES};
use anyhow::Context;
use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};
use service::{About, Fault, Kind};
use stack::{Board, HOST, State};

use crate::place::{Place, Usage};

/// Faults on purpose, always with an end.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Show every fault, and what is active where
    List(List),
    /// Start a fault
    #[command(
        subcommand_value_name = "FAULT",
        subcommand_help_heading = "Faults",
        after_help = "Examples:
  lab chaos start errors --probability 0.01 --for 5m      one request in a hundred fails
  lab chaos start errors --probability 1                  a total outage, for a minute
  lab chaos start latency --distribution pareto --delay 50ms --route /api/products
  lab chaos start latency --service payments --delay 3s   the dependency is slower than its caller waits
  lab chaos start unready --replica 2
  lab chaos start errors --help                           what can be set, and its caps"
    )]
    Start(Start),
    /// Stop a fault, or all of them
    Stop(Stop),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    #[command(subcommand)]
    chosen: Chosen,
    /// The service to break: flask-api (every replica of it) or payments
    #[arg(long, global = true, value_name = "SERVICE", value_parser = ["flask-api", "payments"], default_value = "flask-api")]
    service: String,
    /// Only this replica of it, by number
    #[arg(long, global = true, value_name = "N")]
    replica: Option<usize>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// The fault; without it every one
    #[arg(value_name = "FAULT", value_parser = clap::builder::PossibleValuesParser::new(Fault::ALL.map(|fault| fault.about().name)))]
    fault: Option<String>,
    /// Only in this service: flask-api or payments
    #[arg(long, value_name = "SERVICE", value_parser = ["flask-api", "payments"])]
    service: Option<String>,
    /// Only in this replica of the service, by number
    #[arg(long, value_name = "N", requires = "service")]
    replica: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A fault and its parameters, as given on the command line: a subcommand made of each row of the table.
#[derive(Debug)]
struct Chosen {
    fault: Fault,
    parameters: Map<String, Value>,
}

impl Subcommand for Chosen {
    fn augment_subcommands(command: Command) -> Command {
        command
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(Fault::ALL.map(|fault| subcommand(fault.about())))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Fault::find(name).is_some()
    }
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = matches
            .subcommand()
            .and_then(|(name, matches)| Some((Fault::find(name)?, matches)));
        let Some((fault, matches)) = chosen else {
            return Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand));
        };
        let given = fault.about().parameters.iter().filter_map(|parameter| {
            let text = matches.get_one::<String>(parameter.name)?;
            Some((parameter.name.to_owned(), Value::String(text.clone())))
        });
        Ok(Self {
            fault,
            parameters: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn subcommand(about: &'static About) -> Command {
    let options = about.parameters.iter().map(|parameter| {
        let default = match parameter.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let (placeholder, allowed) = match parameter.kind {
            Kind::Time { .. } => ("TIME", parameter.allowed()),
            Kind::Number { .. } | Kind::Count { .. } => ("N", parameter.allowed()),
            Kind::Choice { .. } => ("WORD", parameter.allowed()),
            Kind::Route => ("ROUTE", String::new()),
        };
        let allowed = match allowed.as_str() {
            "" => allowed,
            allowed => format!(" [{allowed}]"),
        };
        clap::Arg::new(parameter.name)
            .long(parameter.name)
            .help_heading("The fault")
            .value_name(placeholder)
            .allow_negative_numbers(true)
            .value_parser(move |text: &str| parameter.read(text).map(|_| text.to_owned()))
            .help(format!("{}{default}{allowed}", parameter.help))
    });
    Command::new(about.name)
        .about(about.summary)
        .after_help(format!(
            "Teaches: {}\nShows in: {}",
            about.teaches, about.shows
        ))
        .args(options)
}

pub(crate) fn chaos(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    match args {
        Args::List(args) => list(place, args),
        Args::Start(args) => start(place, args),
        Args::Stop(args) => stop(place, args),
    }
}

/// A fault that is active somewhere.
#[derive(Debug, Serialize)]
struct Activity {
    component: &'static str,
    fault: String,
    settings: Value,
    ends_at: Value,
    seconds_left: Value,
}

fn list(place: &Place, args: &List) -> anyhow::Result<ExitCode> {
    // What there is to start can be read without a lab.
    let (running, activities) = match place.running() {
        Ok(board) => {
            let admin = admin(place, &board)?;
            let replicas: Vec<_> = SERVICES
                .iter()
                .flat_map(|(_, replicas)| replicas.iter().copied())
                .filter(|replica| is_ready(&board, replica))
                .collect();
            (
                true,
                crate::block_on(async {
                    let mut activities = Vec::new();
                    for replica in replicas {
                        activities.extend(active(&admin, replica).await?);
                    }
                    anyhow::Ok(activities)
                })??,
            )
        }
        Err(_) => (false, Vec::new()),
    };
    if args.json {
        let faults: Vec<&About> = Fault::ALL.iter().map(|fault| fault.about()).collect();
        let report = json!({"running": running, "faults": faults, "active": activities});
        println!("{report:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["FAULT", "WHAT HAPPENS", "ACTIVE IN"]);
    for fault in Fault::ALL {
        let about = fault.about();
        let active: Vec<_> = activities
            .iter()
            .filter(|activity| activity.fault == about.name)
            .map(|activity| format!("{} ({} s left)", activity.component, activity.seconds_left))
            .collect();
        table.add_row([about.name, about.summary, &active.join("\n")]);
    }
    println!("{table}\n");
    match running {
        true => println!("`lab chaos start FAULT --help` says what can be set"),
        false => println!("no lab runs here; `cargo run` starts one"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn active(admin: &Admin, replica: &'static str) -> anyhow::Result<Vec<Activity>> {
    let report = admin.ask(replica, Method::GET, "/chaos", None).await?;
    let rows = report["faults"].as_array().cloned().unwrap_or_default();
    let activity = |row: Value| {
        let active = row["active"].as_object()?.clone();
        Some(Activity {
            component: replica,
            fault: row["name"].as_str()?.to_owned(),
            settings: active["settings"].clone(),
            ends_at: active["ends_at"].clone(),
            seconds_left: active["seconds_left"].clone(),
        })
    };
    Ok(rows.into_iter().filter_map(activity).collect())
}

fn start(place: &Place, args: &Start) -> anyhow::Result<ExitCode> {
    let replicas = replicas(Some(&args.service), args.replica)?;
    let admin = admin(place, &place.running()?)?;
    let Chosen { fault, parameters } = &args.chosen;
    let path = format!("/chaos/{}", fault.about().name);
    let started = crate::block_on(async {
        let mut started = Vec::new();
        for replica in replicas {
            let body = Some(Value::Object(parameters.clone()));
            let answer = admin.ask(replica, Method::POST, &path, body).await?;
            started.push((replica, answer["active"].clone()));
        }
        anyhow::Ok(started)
    })??;
    if args.json {
        let started: Vec<_> = started
            .iter()
            .map(|(component, active)| json!({"component": component, "active": active}))
            .collect();
        println!("{:#}", json!({"fault": fault, "started": started}));
        return Ok(ExitCode::SUCCESS);
    }
    for (replica, active) in started {
        println!(
            "{} started in {replica}, until {} ({})",
            fault.about().name,
            active["ends_at"].as_str().unwrap_or("?"),
            console::chaos::settings(&active["settings"]),
        );
    }
    println!("`lab chaos stop` ends it before");
    Ok(ExitCode::SUCCESS)
}

fn stop(place: &Place, args: &Stop) -> anyhow::Result<ExitCode> {
    let replicas = replicas(args.service.as_deref(), args.replica)?;
    let board = place.running()?;
    let admin = admin(place, &board)?;
    let fault = args.fault.as_deref().and_then(Fault::find);
    let stopped = crate::block_on(async {
        let mut stopped = Vec::new();
        // One that has crashed, say, has nothing left to stop.
        for replica in replicas
            .into_iter()
            .filter(|replica| is_ready(&board, replica))
        {
            for activity in active(&admin, replica).await? {
                let wanted = fault.is_none_or(|fault| fault.about().name == activity.fault);
                if wanted {
                    let path = format!("/chaos/{}", activity.fault);
                    admin.ask(replica, Method::DELETE, &path, None).await?;
                    stopped.push((replica, activity.fault));
                }
            }
        }
        anyhow::Ok(stopped)
    })??;
    if args.json {
        let stopped: Vec<_> = stopped
            .iter()
            .map(|(component, fault)| json!({"component": component, "fault": fault}))
            .collect();
        println!("{:#}", json!({ "stopped": stopped }));
        return Ok(ExitCode::SUCCESS);
    }
    for (replica, fault) in &stopped {
        println!("{fault} stopped in {replica}");
    }
    if stopped.is_empty() {
        println!("nothing to stop: no such fault is active");
    }
    Ok(ExitCode::SUCCESS)
}

/// The components that are meant.
fn replicas(service: Option<&str>, replica: Option<usize>) -> Result<Vec<&'static str>, Usage> {
    let meant = SERVICES
        .iter()
        .filter(|(name, _)| service.is_none_or(|service| service == *name));
    let all: Vec<_> = meant
        .flat_map(|(_, replicas)| replicas.iter().copied())
        .collect();
    match replica {
        None => Ok(all),
        Some(number) => match number.checked_sub(1).and_then(|index| all.get(index)) {
            Some(replica) => Ok(vec![replica]),
            None => Err(Usage(format!(
                "there is no replica {number} of {}; it has {}",
                service.unwrap_or("the services"),
                all.len()
            ))),
        },
    }
}

/// The admin ports of the lab that runs here, and the secret that opens them.
pub(crate) fn admin(place: &Place, board: &Board) -> anyhow::Result<Admin> {
    let replicas = SERVICES.iter().flat_map(|(_, replicas)| replicas.iter());
    let ports = replicas.filter_map(|replica| {
        let port = board.get(replica)?.ports.get("admin")?;
        Some(((*replica).to_owned(), format!("http://{HOST}:{port}")))
    });
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .context("cannot make an HTTP client")?;
    let token_file = place.layout()?.chaos_token_file();
    Ok(Admin::new(ports.collect(), &token_file, http)?)
}

fn is_ready(board: &Board, component: &str) -> bool {
    // One that the unready fault has made so counts as failed, and is still to be asked.
    board.get(component).is_some_and(|status| {
        status.pid.is_some() && matches!(status.state, State::Ready | State::Failed)
    })
}
