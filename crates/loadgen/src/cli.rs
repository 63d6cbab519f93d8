//! The command line: what can be asked for, checked before anything starts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use reqwest::Url;

use crate::engine::Plan;
use crate::journey::Shop;
use crate::pacing::{LONGEST, Rate, Schedule};
use crate::traffic::Traffic;

/// Sends HTTP requests at a constant rate, whatever the server does, and reports what its customers waited.
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
    /// Send requests at a constant rate and report the result
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
}

const EXAMPLES: &str = "\
Examples:
  100 requests a second for half a minute:
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s

  The same with the result as JSON, in a file or on standard output:
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s --json result.json
    loadgen run http://127.0.0.1:5000/api/products --rate 100 --for 30s --json - | jq .latency_ms

  Steady customers of the demo shop on two replicas until Ctrl-C, watched by Prometheus:
    loadgen run http://127.0.0.1:5000 http://127.0.0.1:5001 --journey shop --rate 20 --metrics-listen 127.0.0.1:9849

  Each request the start of a trace in Jaeger:
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 loadgen run http://127.0.0.1:5000 --journey shop --rate 5 --for 1m

How to read the result:
  latency   from the intended start to the end: what a customer who came on time waited
  service   from the actual start to the end: what the server and the network took
  lateness  from the intended to the actual start: what the generator took; it should be tiny
  sent = received + failed + timed out; failed are broken connections and answers of 500 and above.
  Latency and service cover answers of any status and time-outs, not broken connections.

Exit status: 0 with a result, also after Ctrl-C; 2 when something given is wrong.";

/// What to send, how fast, how long.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Where to send to: GET each URL in turn; with --journey, the base URL of each replica
    #[arg(value_name = "URL", required = true, env = "LOADGEN_URLS", value_delimiter = ' ', value_parser = target)]
    pub urls: Vec<Url>,

    /// Requests per second, 0.000001 to 1000000
    #[arg(long, env = "LOADGEN_RATE", allow_negative_numbers = true)]
    pub rate: Rate,

    /// How long to send, such as 500ms, 30s, 2m or 1h30m [default: until SIGINT or SIGTERM]
    #[arg(long = "for", value_name = "DURATION", env = "LOADGEN_FOR", value_parser = length)]
    pub length: Option<Duration>,

    /// Write the result as JSON to this file; "-" is standard output, and the table goes to standard error then
    #[arg(long, value_name = "FILE", env = "LOADGEN_JSON")]
    pub json: Option<PathBuf>,

    /// How long a request may take, from its actual start to the end of its answer
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "LOADGEN_TIMEOUT", value_parser = length)]
    pub timeout: Duration,

    /// Requests that may wait for an answer at once; a start beyond that is dropped, and counted
    #[arg(long, value_name = "N", default_value_t = 1000, env = "LOADGEN_MAX_IN_FLIGHT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: u32,

    /// Send a mix of requests that hang together, instead of the plain URLs
    #[arg(long, env = "LOADGEN_JOURNEY")]
    pub journey: Option<Journey>,

    /// Repeat the mix of an earlier run [default: a new one each time]
    #[arg(long, value_name = "N", env = "LOADGEN_SEED")]
    pub seed: Option<u64>,

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

    /// Which log lines go to standard error, such as info or debug,hyper_util=info
    #[arg(
        long,
        value_name = "DIRECTIVES",
        default_value = "warn",
        env = "LOADGEN_LOG"
    )]
    pub log: String,
}

/// Built-in mixes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Journey {
    /// Customers of the demo shop: they browse, order, look their orders up and cancel about half of them
    Shop,
}

impl RunArgs {
    /// The run that these arguments ask for.
    pub fn plan(&self) -> Result<Plan, CannotStart> {
        let seed = self.seed.unwrap_or_else(rand::random);
        let traffic = match self.journey {
            None => Traffic::Urls(self.urls.clone()),
            Some(Journey::Shop) => {
                if let Some(url) = self.urls.iter().find(|url| url.query().is_some()) {
                    return Err(CannotStart::BaseWithQuery { url: url.clone() });
                }
                Traffic::Shop(Box::new(Shop::new(self.urls.clone(), seed)))
            }
        };
        Ok(Plan {
            schedule: Schedule::constant(self.rate, self.length),
            traffic,
            timeout: self.timeout,
            max_in_flight: self.max_in_flight as usize,
            trace_ratio: self.trace_ratio,
            seed,
        })
    }
}

/// Why a run did not start, or its result could not be delivered: the cause, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// A journey makes its own paths and queries.
    #[error(
        "{url} has a query, and --journey needs base URLs: leave it out, for example http://127.0.0.1:5000"
    )]
    BaseWithQuery {
        /// The URL.
        url: Url,
    },
    /// The file for the result cannot be written.
    #[error("cannot write {}: {source}; give --json a file in a folder that exists and that you may write to", path.display())]
    Json {
        /// The file.
        path: PathBuf,
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
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The system refused threads, signals or standard output.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// Where the JSON goes, proven writable before the run: nobody wants to learn of it after an hour of load.
#[derive(Debug)]
pub enum JsonOutput {
    /// Standard output.
    Stdout,
    /// A file, open.
    File(PathBuf, File),
}

impl JsonOutput {
    /// Opens `path` and leaves its content alone until there is a result.
    pub fn open(path: &Path) -> Result<Self, CannotStart> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        match OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
        {
            Ok(file) => Ok(Self::File(path.to_owned(), file)),
            Err(source) => Err(CannotStart::Json {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Writes the result.
    pub fn write(self, json: &str) -> Result<(), CannotStart> {
        match self {
            Self::Stdout => Ok(writeln!(io::stdout(), "{json}")?),
            Self::File(path, mut file) => {
                // A pipe or a device cannot be cut, and need not be.
                let _ = file.set_len(0);
                writeln!(file, "{json}").map_err(|source| CannotStart::Json { path, source })
            }
        }
    }
}

fn target(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| {
        format!("{error}; write it out, for example http://127.0.0.1:5000/api/products")
    })?;
    match url.scheme() {
        "http" => {}
        "https" => {
            return Err(
                "this build speaks plain http only; send to the server's http port".to_owned(),
            );
        }
        other => {
            return Err(format!(
                "{other} is not http; write it out, for example http://127.0.0.1:5000/"
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials in a URL would end up in traces; leave them out".to_owned());
    }
    Ok(url)
}

fn length(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .trim()
        .parse()
        .map_err(|_| "not a duration; give for example 500ms, 30s, 2m or 1h30m".to_owned())?;
    match Duration::try_from(parsed) {
        Ok(length) if !length.is_zero() && length <= LONGEST => Ok(length),
        _ => Err("out of range; give more than nothing and at most a year (8760h)".to_owned()),
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
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("2m", Some(Duration::from_mins(2))),
            ("1h30m", Some(Duration::from_mins(90))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("8760h", Some(LONGEST)),
            ("8761h", None),
            ("0s", None),
            ("-1s", None),
            ("30", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(length(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn targets() {
        for (text, said) in [
            ("http://127.0.0.1:5000/api", None),
            ("http://[::1]:5000", None),
            ("https://example.org/", Some("plain http only")),
            ("ftp://example.org/", Some("not http")),
            ("localhost:5000", Some("not http")),
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
