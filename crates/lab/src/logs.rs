//! `lab logs`: the services' log lines, out of Elasticsearch.

use std::{
    collections::HashSet,
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use console::elasticsearch::{SEARCH, Wanted};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde_json::{Map, Value};
use stack::{HOST, State};
use terminal::{Style, style};

use crate::{
    place::{Place, Usage},
    view::say,
};

/// Between two looks of `--follow`: Elasticsearch shows new documents once a second.
const LOOK: Duration = Duration::from_secs(1);

/// Lines of one second arrive from several files, so what is a little older than the newest may still come.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// How long a new index may take to answer.
const START: Duration = Duration::from_secs(10);

/// Elasticsearch's own limit for one answer.
const MOST: u32 = 10_000;

/// Search the services' log lines, or follow them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab logs                                    the last lines of all services
  lab logs --follow --kind access             requests as they come in
  lab logs --service payments --level warn    warnings and errors of payments
  lab logs --trace 5e0c0d5c7a0b4e0f9a3f5d2b1c4e6f70
  lab logs --since 15m 'order failed'         words of the message
  lab logs --kind error --json | jq -r '.[\"error.message\"]'

The query is Elasticsearch's simple query string: words, \"a phrase\", -not, a | b, prefix*.")]
pub(crate) struct Args {
    /// Words to look for in message and error
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// Only this service: flask-api, payments, ...
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only this kind of line
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// This level or worse
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Level>,
    /// Only lines of this trace
    #[arg(long, value_name = "ID", value_parser = console::jaeger::trace_id)]
    trace: Option<String>,
    /// No older than: 30s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = span)]
    since: Option<SignedDuration>,
    /// No more than the newest N lines
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST)))]
    lines: u32,
    /// Go on with what comes in; Ctrl-C ends it
    #[arg(short, long)]
    follow: bool,
    /// Print the documents, one a line
    #[arg(long)]
    json: bool,
}

/// The three kinds of log.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// What the program says
    App,
    /// One line for each request
    Access,
    /// What went wrong
    Error,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Access => "access",
            Self::Error => "error",
        }
    }
}

/// In the order of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    const ALL: [Self; 5] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

fn span(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(span) if span.is_positive() => Ok(span),
        _ => Err("not a time; write 30s, 15m or 2h".into()),
    }
}

impl Args {
    fn wanted(&self, since: Option<Timestamp>, most: u32) -> Wanted {
        let is_asked_for = |it: &Level| self.level.is_some_and(|level| *it >= level);
        let levels = Level::ALL.into_iter().filter(is_asked_for);
        Wanted {
            service: self.service.clone().unwrap_or_default(),
            kind: self.kind.map_or("", Kind::name).into(),
            levels: levels.map(|it| it.name().into()).collect(),
            trace: self.trace.clone().unwrap_or_default(),
            words: self.query.join(" "),
            from: since.map(Timestamp::as_millisecond),
            most,
            ..Wanted::default()
        }
    }
}

pub(crate) fn logs(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let store = Store::of(place)?;
    let since = args.since.map(|span| Timestamp::now() - span);
    let mut lines = store.search(args, since, args.lines)?;
    lines.reverse();
    for line in &lines {
        args.print(line);
    }
    if !args.follow {
        if lines.is_empty() && !args.json {
            eprintln!("no line; a new one takes up to five seconds to get there");
        }
        return Ok(ExitCode::SUCCESS);
    }
    // What was there and was not asked for is not new.
    let mut newest = lines.last().map_or_else(Timestamp::now, |line| line.at());
    let there = store.search(args, Some(newest - LATE), MOST)?;
    let mut seen: HashSet<String> = there.into_iter().map(|line| line.id).collect();
    let mut silent_since = None::<Instant>;
    loop {
        std::thread::sleep(LOOK);
        let found = match store.search(args, Some(newest - LATE), MOST) {
            Ok(found) => found,
            // It may be on its way back: whoever follows looks at trouble.
            Err(error) => {
                if silent_since.is_none_or(|since| since.elapsed() > Duration::from_secs(10)) {
                    eprintln!("{error:#}; trying again");
                    silent_since = Some(Instant::now());
                }
                continue;
            }
        };
        silent_since = None;
        for line in found.iter().rev() {
            if seen.insert(line.id.clone()) && (line.at() > newest - LATE) {
                args.print(line);
            }
        }
        newest = found.first().map_or(newest, |line| line.at().max(newest));
        // What can no longer be found again need not be remembered.
        let still: HashSet<&str> = found.iter().map(|line| line.id.as_str()).collect();
        seen.retain(|id| still.contains(id.as_str()));
    }
}

/// One document.
struct Line {
    id: String,
    source: Map<String, Value>,
}

impl Line {
    fn text(&self, field: &str) -> &str {
        self.source.get(field).and_then(Value::as_str).unwrap_or("")
    }

    fn number(&self, field: &str) -> Option<f64> {
        self.source.get(field).and_then(Value::as_f64)
    }

    fn at(&self) -> Timestamp {
        self.text("@timestamp").parse().unwrap_or(Timestamp::MIN)
    }
}

impl Args {
    fn print(&self, line: &Line) {
        if self.json {
            let document = Value::Object(line.source.clone());
            say(&document.to_string());
            return;
        }
        let level = line.text("log.level");
        let colour = match level {
            "error" => Style::new().red().bold(),
            "warn" => Style::new().yellow(),
            "info" => Style::new(),
            _ => Style::new().dim(),
        };
        let mut text = format!(
            "{} {} {} {}",
            style(line.at().strftime("%H:%M:%S%.3f")).dim(),
            colour.apply_to(format!("{level:<5}")),
            style(format!("{:<17}", line.text("event.dataset"))).cyan(),
            shown(line.text("message")),
        );
        if let Some(nanoseconds) = line.number("event.duration") {
            let _ = write!(text, " {:.1} ms", nanoseconds / 1e6);
        }
        for field in ["error.type", "error.message"] {
            if !line.text(field).is_empty() {
                let _ = write!(text, " {}", style(shown(line.text(field))).red());
            }
        }
        let trace = line.text("trace.id");
        // Asked for one trace, it would stand on every line.
        if self.trace.is_none() && !trace.is_empty() {
            let _ = write!(text, " {}", style(shown(trace)).dim());
        }
        say(&text);
    }
}

/// What was logged may hold what a client sent: nothing of it reaches the terminal as a command.
fn shown(text: &str) -> String {
    let chars = text.chars().flat_map(|it| match it.is_control() {
        true => it.escape_default().collect::<Vec<_>>(),
        false => vec![it],
    });
    chars.collect()
}

/// The Elasticsearch of a running lab.
struct Store {
    url: String,
    http: reqwest::Client,
}

impl Store {
    fn of(place: &Place) -> anyhow::Result<Self> {
        let board = place.running()?;
        let Some(elasticsearch) = board.get("elasticsearch") else {
            return Err(Usage("the lab that runs here has no Elasticsearch; its log files are under logs/app of its data directory".into()).into());
        };
        if elasticsearch.state != State::Ready {
            bail!(
                "elasticsearch is {}; `lab status` tells why, and the files under logs/app of the data directory hold every line",
                elasticsearch.state
            );
        }
        let port = elasticsearch.ports["http"];
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            url: format!("http://{HOST}:{port}{SEARCH}"),
            http,
        })
    }

    /// Newest first.
    fn search(
        &self,
        args: &Args,
        since: Option<Timestamp>,
        lines: u32,
    ) -> anyhow::Result<Vec<Line>> {
        let query = args.wanted(since, lines).body();
        let started = Instant::now();
        loop {
            match self.ask(&query)? {
                // An index that was made a moment ago has no shard that answers yet.
                (StatusCode::SERVICE_UNAVAILABLE, _) if started.elapsed() < START => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                (status, body) if !status.is_success() => {
                    let reason = &body["error"]["root_cause"][0]["reason"];
                    let reason = reason.as_str().or(body["error"]["reason"].as_str());
                    bail!("Elasticsearch answers {status}: {}", reason.unwrap_or("?"));
                }
                (_, body) => return Ok(lines_of(&body)),
            }
        }
    }

    fn ask(&self, query: &Value) -> anyhow::Result<(StatusCode, Value)> {
        crate::block_on(async {
            let answer = self.http.post(&self.url).json(query).send().await;
            let answer = answer.context("Elasticsearch does not answer")?;
            let status = answer.status();
            let body = answer.json().await;
            Ok((status, body.context("Elasticsearch answers no JSON")?))
        })?
    }
}

fn lines_of(answer: &Value) -> Vec<Line> {
    let hits = answer["hits"]["hits"].as_array().into_iter().flatten();
    let line = |hit: &Value| {
        Some(Line {
            id: hit["_id"].as_str()?.to_owned(),
            source: hit["_source"].as_object()?.clone(),
        })
    };
    hits.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_logged_commands_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(shown("Ümläut"), "Ümläut");
    }
}
