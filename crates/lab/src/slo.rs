//! `lab slo`: Prometheus rules from the objectives in `prometheus/slos`.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde::Deserialize;
use slo::{Clock, Specification};
use stack::Layout;

use crate::{
    committed::{self, Committed},
    place::{Place, Usage},
};

/// The rules on the real clock, committed so that a deployment needs no renderer.
const RULES: &str = "prometheus/slo-rules.yml";
const SPECIFICATIONS: &str = "prometheus/slos";

/// Service level objectives.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Make Prometheus rules of prometheus/slos: indicators, metadata, burn-rate alerts
    #[command(after_help = "Examples:
  lab slo render                       write prometheus/slo-rules.yml
  lab slo render --check               is it what prometheus/slos say? exit 1 and a diff if not
  lab slo render --clock 60            print the rules of the lab, in which a month passes in 12 hours
  lab slo render my-service.yaml       print the rules of another specification")]
    Render(Render),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    /// Compare with the committed file instead of writing it
    #[arg(long, conflicts_with_all = ["clock", "output", "specification"])]
    check: bool,
    /// Let time pass N times faster: every window and the period are N times shorter
    #[arg(long, value_name = "N")]
    clock: Option<u32>,
    /// Write the rules to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Specifications to render instead of those in prometheus/slos
    #[arg(value_name = "SPECIFICATION")]
    specification: Vec<PathBuf>,
}

pub(crate) fn slo(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let Args::Render(args) = args;
    let layout = place.layout()?;
    let files = if args.specification.is_empty() {
        specifications(&layout)?
    } else {
        args.specification.clone()
    };
    let rules = render(&layout, &files, args.clock.unwrap_or(1))?;
    let committed = layout.config(RULES);
    if args.check {
        let committed = Committed {
            file: &committed,
            sources: SPECIFICATIONS,
            command: "lab slo render",
        };
        return Ok(committed.check(&rules));
    }
    let output = match &args.output {
        Some(file) => Some(file),
        None if args.clock.is_none() && args.specification.is_empty() => Some(&committed),
        None => None,
    };
    match output {
        Some(file) => committed::write(file, &rules)?,
        None => print!("{rules}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules of the project's objectives on a clock.
pub(crate) fn rules(layout: &Layout, clock: u32) -> anyhow::Result<String> {
    render(layout, &specifications(layout)?, clock)
}

/// The project's specifications, in the order of their names.
fn specifications(layout: &Layout) -> anyhow::Result<Vec<PathBuf>> {
    let dir = layout.config(SPECIFICATIONS);
    let unreadable =
        |error: std::io::Error| Usage(format!("cannot read {}: {error}", dir.display()));
    let mut files = std::fs::read_dir(&dir)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    Ok(files)
}

fn render(layout: &Layout, files: &[PathBuf], clock: u32) -> anyhow::Result<String> {
    let usage = |error: slo::Error| Usage(error.to_string());
    let clock = Clock::new(clock, scrape_interval(layout)?).map_err(usage)?;
    let mut specifications = Vec::new();
    for file in files {
        let shown = file.strip_prefix(layout.config("")).unwrap_or(file);
        let text = committed::read(file)?;
        let specification = Specification::parse(shown, &text).map_err(usage)?;
        specification.check_thresholds(bounds).map_err(usage)?;
        specifications.push(specification);
    }
    Ok(slo::render(&specifications, &clock).map_err(usage)?)
}

/// The buckets of our own services; those of others are not known here.
fn bounds(metric: &str) -> Option<&'static [f64]> {
    metric
        .ends_with("_http_request_duration_seconds_bucket")
        .then_some(&service::DURATION_BUCKETS)
}

/// Seconds between two scrapes, as prometheus.yml has it.
pub(crate) fn scrape_interval(layout: &Layout) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Config {
        global: Global,
    }
    #[derive(Deserialize)]
    struct Global {
        scrape_interval: String,
    }
    let file = layout.config("prometheus/prometheus.yml");
    let config: Config = serde_saphyr::from_str(&committed::read(&file)?)
        .map_err(|error| Usage(format!("{}: {error}", file.display())))?;
    let interval = &config.global.scrape_interval;
    let seconds = match (interval.strip_suffix('s'), interval.strip_suffix('m')) {
        (Some(seconds), _) => seconds.parse().ok(),
        (_, Some(minutes)) => minutes.parse::<u64>().ok().map(|minutes| minutes * 60),
        _ => None,
    };
    Ok(seconds.ok_or_else(|| {
        Usage(format!(
            "{}: global.scrape_interval is {interval}; the SLO windows need it in whole seconds or minutes, as 15s",
            file.display()
        ))
    })?)
}
