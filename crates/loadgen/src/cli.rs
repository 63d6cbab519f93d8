//! The command line: what can be asked for, checked before anything starts.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use url::Url;

use crate::compare::{DRAWS, Incomparable, Question};
use crate::engine::{Plan, Traffic};
use crate::pace::{FORMS, Pace, PaceError, length};
use crate::pacing::{Rate, Schedule, Shard};
use crate::scenario::{self, Refused};
use crate::summary::Summary;
use crate::threshold::{self, Threshold};
use crate::traffic::Routes;
use crate::transport::{Connector, NoWay};

mod output;
mod wire;

pub use output::{Output, Outputs, ResultArgs};
pub use wire::WireArgs;

/// Sends HTTP requests at a given pace, whatever the server does, and reports what its customers waited.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests at a given pace and report the result
    #[command(after_help = format!("{EXAMPLES}\n\nForms of --pace, in requests per second:\n{FORMS}\n\nForms of --threshold:\n{}", threshold::FORMS))]
    Run(Box<RunArgs>),
    /// Add up results of generators that ran at the same time
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Say whether B is slower than A, and how sure that is
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Write and check scenarios: what customers do
    #[command(subcommand, after_help = SCENARIO_EXAMPLES)]
    Scenario(ScenarioCommand),
}

/// What to do with scenarios.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Print one that comes with loadgen: shop, browse, order or cancel; the names where none is given
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the JSON schema of scenarios, for editors and other programs
    Schema,
    /// Say whether a scenario can be run, and every mistake if not
    Check {
        /// The scenarios
        #[arg(value_name = "FILE", required = true)]
        files: Vec<String>,
    },
    /// Print a scenario to begin with, made from an OpenAPI 3 document in JSON or YAML
    FromOpenapi {
        /// The document; "-" is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

const SCENARIO_EXAMPLES: &str = "\
Examples:
  Begin with one of those that come along:
    loadgen scenario show shop > mine.yaml
    loadgen scenario check mine.yaml
    loadgen run http://127.0.0.1:5000 --scenario mine.yaml --rate 4 --for 1m

  Begin with what an API says of itself:
    curl -s http://127.0.0.1:5000/openapi.json | loadgen scenario from-openapi - > mine.yaml

  Let editors complete and check while you write (the first line of a scenario names the schema):
    loadgen scenario schema > scenario.schema.json

Exit status: 0; 2 when something given is wrong.";

const MERGE_EXAMPLES: &str = "\
Examples:
  Three generators that shared a plan, and whether all of it together was good enough:
    loadgen merge 0.json 1.json 2.json --json all.json --threshold 'p99 < 50ms'

  Look at one result again, on the terminal and in a browser:
    loadgen merge result.json --html result.html

Exit status: 0; 1 when a threshold fails; 2 when something given is wrong.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  Did this change make it slower? Two runs of the same plan, before and after it:
    loadgen compare before.json after.json

  As a gate that lets 5 % pass and is seldom wrong:
    loadgen compare before.json after.json --percentile p99 --margin 5% --confidence 0.99

The interval says what other runs like these two would show (bootstrap over the intervals of the timeline; all
verdicts together are right as often as --confidence says). It cannot know how much the machine differs from one
run to the next: repeat A against A once to see.

Exit status: 0 when B is not shown to be worse; 1 when it is slower or fails more; 2 when something given is wrong,
or too little to tell.";

const EXAMPLES: &str = "\
Examples:
  100 requests a second for half a minute:
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s

  The same with the result as JSON, in a file or on standard output:
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s --json result.json
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s --json - | jq .latency_ms

  Steady customers of the demo shop on two replicas until Ctrl-C, watched by Prometheus:
    loadgen run http://127.0.0.1:5000 http://127.0.0.1:5001 --scenario shop --rate 8 --metrics-listen 127.0.0.1:9849

  Each request the start of a trace in Jaeger:
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 loadgen run http://127.0.0.1:5000 --scenario shop --rate 2 --for 1m

  As a check, which fails when customers wait too long or in vain:
    loadgen run http://127.0.0.1:5000/api/products --rate 50 --for 1m --threshold 'p99 < 50ms' --threshold 'error_rate < 0.1%'

  Your own customers, from a file; over HTTP/2 and TLS with a CA of your own:
    loadgen scenario show shop > mine.yaml
    loadgen run https://shop.example:5443 --scenario mine.yaml --rate 4 --http 2 --ca ca.pem

  A morning in ten minutes, with arrivals as random as people's:
    loadgen run http://127.0.0.1:5000/api/products --pace poisson:ramp:5..100/10m

How to read the result:
  latency   from the intended start to the end: what a customer who came on time waited
  service   from the actual start to the end: what the server and the network took
  lateness  from the intended to the actual start: what the generator took; it should be tiny
  sent = received + failed + timed out; failed are broken connections and answers of 500 and above, or what a scenario
  does not expect.
  Latency and service cover answers of any status and time-outs, not broken connections.

Exit status: 0 with a result, also after Ctrl-C; 1 when a --threshold fails; 2 when something given is wrong.";

/// What to send, how fast, how long.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Where to send to: each URL in turn; with --scenario, the base URL of each replica
    #[arg(value_name = "URL", required = true, env = "LOADGEN_URLS", value_delimiter = ' ', value_parser = target)]
    pub urls: Vec<Url>,

    /// Requests per second, or journeys of a scenario, 0.000001 to 1000000
    #[arg(
        long,
        env = "LOADGEN_RATE",
        allow_negative_numbers = true,
        required_unless_present_any = ["pace", "scenario"]
    )]
    pub rate: Option<Rate>,

    /// A rate that changes, instead of --rate: ramp, steps, spike, sine, replay, and random arrivals (forms below)
    #[arg(long, env = "LOADGEN_PACE", conflicts_with = "rate", value_parser = pace, allow_negative_numbers = true)]
    pub pace: Option<Pace>,

    /// How long to send, such as 500ms, 30s, 2m or 1h30m [default: to the end of --pace, or until SIGINT or SIGTERM]
    #[arg(long = "for", value_name = "DURATION", env = "LOADGEN_FOR", value_parser = length)]
    pub length: Option<Duration>,

    /// Requests that may wait for an answer at once; a start beyond that is dropped, and counted
    #[arg(long, value_name = "N", default_value_t = 1000, env = "LOADGEN_MAX_IN_FLIGHT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: u32,

    /// What customers do there: a YAML file, or shop, browse, order or cancel for the demo API; the pace counts journeys then
    #[arg(long, alias = "journey", value_name = "FILE", env = "LOADGEN_SCENARIO")]
    pub scenario: Option<String>,

    /// Repeat the journeys and the random arrivals of an earlier run [default: the scenario's, or a new one each time]
    #[arg(long, value_name = "N", env = "LOADGEN_SEED")]
    pub seed: Option<u64>,

    /// Make one of N equal parts of the plan, such as 0/3, 1/3 and 2/3 on three machines; `merge` adds the results up
    ///
    /// Together the parts are the plan, start by start. Give all of them the same arguments, with --seed where something
    /// is random. The index of a Kubernetes Job's pod is the number: --shard $(JOB_COMPLETION_INDEX)/3.
    #[arg(
        long,
        value_name = "I/N",
        default_value_t,
        env = "LOADGEN_SHARD",
        allow_negative_numbers = true
    )]
    pub shard: Shard,

    /// Share of requests, 0 to 1, that carry a W3C traceparent
    ///
    /// With OTEL_EXPORTER_OTLP_ENDPOINT set each of them has a client span, sampled as OTEL_TRACES_SAMPLER and
    /// OTEL_TRACES_SAMPLER_ARG say. Without it the headers say "sampled", and no span is sent from here.
    #[arg(long, value_name = "RATIO", default_value_t = 1.0, env = "LOADGEN_TRACE_RATIO", value_parser = ratio,
          allow_negative_numbers = true)]
    pub trace_ratio: f64,

    /// Serve /metrics and /healthz here while running, such as 127.0.0.1:9849; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", env = "LOADGEN_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// Which log lines go to standard error, such as info or debug,h2=info
    #[arg(
        long,
        value_name = "DIRECTIVES",
        default_value = "warn",
        env = "LOADGEN_LOG"
    )]
    pub log: String,

    /// What and how to send.
    #[command(flatten)]
    pub wire: WireArgs,

    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// What to add up.
#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// Results, as --json writes them
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// What to do with the sum.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// What to compare, and how sure to be.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The result to compare with, as --json writes it
    #[arg(value_name = "A")]
    pub a: PathBuf,

    /// The result in question
    #[arg(value_name = "B")]
    pub b: PathBuf,

    /// Which percentiles of the latency; may be repeated
    #[arg(long = "percentile", value_name = "P", default_values = ["p50", "p90", "p99"], env = "LOADGEN_PERCENTILES",
          value_delimiter = ',', value_parser = percentile)]
    pub percentiles: Vec<(String, f64)>,

    /// How often all verdicts together are to be right
    #[arg(long, value_name = "SHARE", default_value = "0.95", env = "LOADGEN_CONFIDENCE", value_parser = confidence,
          allow_negative_numbers = true)]
    pub confidence: f64,

    /// A difference that does not matter, such as 5%
    #[arg(long, value_name = "PERCENT", default_value = "0%", env = "LOADGEN_MARGIN", value_parser = margin)]
    pub margin: f64,

    /// Decides what the bootstrap draws
    #[arg(long, value_name = "N", default_value_t = 1, env = "LOADGEN_SEED")]
    pub seed: u64,

    /// Write the answer as JSON to this file; "-" is standard output, and the table goes to standard error then
    #[arg(long, value_name = "FILE", env = "LOADGEN_JSON")]
    pub json: Option<PathBuf>,
}

impl RunArgs {
    /// The scenario asked for, if there is one.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn scenario(&self) -> Result<Option<scenario::Checked>, CannotStart> {
        Ok(self.scenario.as_deref().map(scenario::load).transpose()?)
    }

    /// The run that these arguments ask for, with what the result is to come up to; looks up names.
    ///
    /// # Errors
    /// When they contradict each other, or what they name is not there.
    pub fn plan(&self) -> Result<(Plan, Asked), CannotStart> {
        let scenario = self.scenario()?;
        let scenario = scenario.as_ref();
        let pace = self.pace(scenario)?;
        let random = scenario.is_some_and(scenario::Checked::is_random);
        let seed = self.seed.or(scenario.and_then(|scenario| scenario.seed));
        if self.shard.is_part() && seed.is_none() && (pace.is_random() || random) {
            return Err(CannotStart::ShardWithoutSeed);
        }
        let seed = seed.unwrap_or_else(rand::random);
        let manner = self.wire.manner()?;
        let fields = self.wire.fields()?;
        let connector = Connector::new(&self.urls, &self.wire.way())?;
        let mut routes = Routes::default();
        let traffic = match scenario {
            None => {
                Traffic::Requests(
                    self.wire
                        .shots(&self.urls, &fields, &connector, &mut routes)?,
                )
            }
            Some(scenario) => {
                if let Some(url) = self.urls.iter().find(|url| url.query().is_some()) {
                    return Err(CannotStart::BaseWithQuery { url: url.clone() });
                }
                routes = scenario.routes.clone();
                Traffic::Journeys(Rc::new(scenario.journeys(
                    &self.urls,
                    seed,
                    fields,
                    manner.keep_alive,
                )))
            }
        };
        let schedule = pace.schedule(self.length, seed).of_shard(self.shard);
        let asked = Asked {
            schedule: schedule.clone(),
            pace: pace.to_string(),
            journeys: scenario.is_some(),
            thresholds: scenario
                .iter()
                .flat_map(|scenario| &scenario.thresholds)
                .chain(&self.result.thresholds)
                .cloned()
                .collect(),
        };
        let plan = Plan {
            schedule,
            traffic,
            routes,
            connector,
            manner,
            max_in_flight: u64::from(self.max_in_flight),
            trace_ratio: self.trace_ratio,
            seed,
        };
        Ok((plan, asked))
    }

    fn pace(&self, scenario: Option<&scenario::Checked>) -> Result<Pace, CannotStart> {
        if let Some(pace) = &self.pace {
            return Ok(pace.clone());
        }
        if let Some(rate) = self.rate {
            return Ok(Pace::constant(rate));
        }
        scenario
            .and_then(|scenario| scenario.pace.clone())
            .ok_or(CannotStart::NoPace)
    }
}

/// What those who do not send need to know of a run.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When to send.
    pub schedule: Schedule,
    /// The same, as it was written.
    pub pace: String,
    /// Whether the pace is one of journeys.
    pub journeys: bool,
    /// What the result is to come up to.
    pub thresholds: Vec<Threshold>,
}

impl CompareArgs {
    /// The question that these arguments ask.
    pub fn question(&self) -> Question {
        Question {
            percentiles: self.percentiles.clone(),
            confidence: self.confidence,
            margin: self.margin,
            draws: DRAWS,
            seed: self.seed,
        }
    }
}

/// Reads a result that `--json` wrote.
///
/// # Errors
/// When it is none.
pub fn read_result(path: &Path) -> Result<Summary, CannotStart> {
    let unreadable = |why: String| CannotStart::Unreadable {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let summary: Summary = serde_json::from_slice(&text)
        .map_err(|error| unreadable(format!("{error}, so it is no result of this version")))?;
    if !summary.timeline.is_sound() {
        return Err(unreadable(
            "its timeline is none that loadgen writes".to_owned(),
        ));
    }
    Ok(summary)
}

/// Why a run did not start, or its result could not be delivered: the cause, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// A scenario makes its own paths and queries.
    #[error(
        "{url} has a query, and --scenario needs base URLs: leave it out, for example http://127.0.0.1:5000"
    )]
    BaseWithQuery {
        /// The URL.
        url: Url,
    },
    /// The parts of a plan must be parts of the same one.
    #[error(
        "--shard needs --seed here, the same for every shard: the parts of different random plans are not a plan"
    )]
    ShardWithoutSeed,
    /// A result cannot be read.
    #[error("cannot read {}: {why}; give a file that loadgen run --json or loadgen merge --json wrote", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Two results do not tell.
    #[error("cannot compare: {0}")]
    Incomparable(#[from] Incomparable),
    /// The file for the result cannot be written.
    #[error("cannot write {}: {source}; give {flag} a file in a folder that exists and that you may write to", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What names it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The address for metrics cannot be bound.
    #[error(
        "cannot listen on {address} for metrics: {source}; stop what listens there, or give --metrics-listen another address (port 0 takes a free one)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Logs and traces could not be set up.
    #[error("cannot set up logs and traces: {0}; check --log and the OTEL_ environment variables")]
    Telemetry(#[from] telemetry::Error),
    /// Metrics about telemetry could not be added.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Nobody says how fast.
    #[error(
        "this scenario has no phases, so --rate or --pace must say how fast: for example --rate 10"
    )]
    NoPace,
    /// Connections cannot be made.
    #[error("{0}")]
    Way(#[from] NoWay),
    /// A scenario cannot be run.
    #[error("{0}")]
    Scenario(#[from] Refused),
    /// A description of an API is none that can be used.
    #[error("{}: {why}", path.display())]
    OpenApi {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A flag's value is wrong, or contradicts another one.
    #[error("{0}")]
    Wrong(String),
    /// What to send cannot be read.
    #[error("cannot read {}: {why}; give {flag} a file that exists and that you may read", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What names it.
        flag: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The system refused threads, signals or standard output.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

fn target(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| {
        format!("{error}; write it out, for example http://127.0.0.1:5000/api/products")
    })?;
    match url.scheme() {
        "http" | "https" => {}
        other => {
            return Err(format!(
                "{other} is neither http nor https; write it out, for example http://127.0.0.1:5000/"
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials in a URL would end up in traces; leave them out".to_owned());
    }
    Ok(url)
}

fn pace(text: &str) -> Result<Pace, PaceError> {
    Pace::parse(text, |path| std::fs::read_to_string(path))
}

fn percentile(text: &str) -> Result<(String, f64), String> {
    match threshold::percentile(text.trim()) {
        Some(share) => Ok((text.trim().to_owned(), share)),
        None => Err("give a percentile such as p50, p99 or p99.9".to_owned()),
    }
}

fn confidence(text: &str) -> Result<f64, String> {
    match text.trim().parse() {
        Ok(share) if (0.5..=0.999).contains(&share) => Ok(share),
        _ => Err("give a share from 0.5 to 0.999, for example 0.95".to_owned()),
    }
}

fn margin(text: &str) -> Result<f64, String> {
    match text.trim().strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(percent)) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("give a percentage such as 5%".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.trim().parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("give a number from 0 (no request) to 1 (every request)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn targets() {
        for (text, said) in [
            ("http://127.0.0.1:5000/api", None),
            ("http://[::1]:5000", None),
            ("https://example.org/", None),
            ("ftp://example.org/", Some("neither http nor https")),
            ("localhost:5000", Some("neither http nor https")),
            ("127.0.0.1:5000", Some("write it out")),
            ("http://user:secret@example.org/", Some("credentials")),
            ("", Some("write it out")),
        ] {
            match (target(text), said) {
                (Ok(_), None) => {}
                (Err(message), Some(said)) => assert!(message.contains(said), "{text}: {message}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        for text in ["-0.1", "1.1", "NaN", "half"] {
            assert!(ratio(text).is_err(), "{text}");
        }
    }
}
