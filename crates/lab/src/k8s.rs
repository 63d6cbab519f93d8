//! `lab k8s`: what a cluster needs beside the files that a laptop runs.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use clap::Subcommand;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use stack::{Addresses, Layout};

use crate::{
    committed::{self, Committed},
    place::{Place, Usage},
};

const LAPTOP: &str = "prometheus/prometheus.yml";
const DISCOVERY: &str = "k8s/service-discovery.yml";
const CLUSTER: &str = "k8s/prometheus.yml";
/// Who is told of alerts, with the stand-ins where a cluster has them.
const TELLING: &str = "alertmanager/alertmanager.yml";
const CLUSTER_TELLING: &str = "k8s/alerting/alertmanager.yml";
/// Jaeger with its configuration in it, so that it can be applied alone.
const JAEGER: &str = "jaeger/jaeger-all-in-one.yaml";
const JAEGER_FILES: [&str; 2] = ["jaeger/config.yaml", "jaeger/sampling-strategies.json"];
const CONSOLE: &str = "console.monitoring";
const COMMAND: &str = "lab k8s render";

/// The same in a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Put service discovery by Kubernetes, and a cluster's addresses, into the configuration that a laptop runs
    #[command(after_help = "Examples:
  lab k8s render             write k8s/prometheus.yml, k8s/alerting/alertmanager.yml, and Jaeger's files into its manifest
  lab k8s render --check     are they what their sources say? exit 1 and a diff if not")]
    Render(Render),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    /// Compare with the committed file instead of writing it
    #[arg(long)]
    check: bool,
}

pub(crate) fn k8s(place: &Place, Args::Render(args): &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let telling = Addresses {
        console: format!("{CONSOLE}:8000"),
        smtp: format!("{CONSOLE}:1025"),
        // By a port-forward; only the templates name it, which a cluster has as they are.
        dashboards: "localhost:3000".into(),
    }
    .addressed(&committed::read(&layout.config(TELLING))?);
    let files = [
        (
            CLUSTER,
            format!("{LAPTOP} and {DISCOVERY}"),
            render(&layout)?,
        ),
        (
            CLUSTER_TELLING,
            TELLING.to_owned(),
            format!("# Made by `{COMMAND}` of {TELLING}: edit that.\n{telling}"),
        ),
        (JAEGER, JAEGER_FILES.join(" and "), jaeger(&layout)?),
    ];
    let mut worst = ExitCode::SUCCESS;
    for (file, sources, rendered) in files {
        let file = layout.config(file);
        if args.check {
            let committed = Committed {
                file: &file,
                sources: &sources,
                command: COMMAND,
            };
            let found = committed.check(&rendered);
            if found != ExitCode::SUCCESS {
                worst = found;
            }
        } else {
            committed::write(&file, &rendered)?;
        }
    }
    Ok(worst)
}

/// A configuration of Prometheus, as far as discovery is concerned.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Prometheus {
    global: Value,
    rule_files: Value,
    alerting: Alerting,
    scrape_configs: Vec<Job>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Alerting {
    alert_relabel_configs: Value,
    alertmanagers: Value,
}

#[derive(Deserialize, Serialize)]
struct Job {
    job_name: String,
    #[serde(flatten)]
    settings: Settings,
}

type Settings = BTreeMap<String, Value>;

/// What stands in for the files of targets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discovery {
    alertmanagers: Value,
    jobs: BTreeMap<String, Settings>,
}

fn render(layout: &Layout) -> anyhow::Result<String> {
    let mut config: Prometheus = parse(&layout.config(LAPTOP))?;
    let Discovery {
        alertmanagers,
        mut jobs,
    } = parse(&layout.config(DISCOVERY))?;
    config.alerting.alertmanagers = alertmanagers;
    for job in &mut config.scrape_configs {
        let discovery = jobs.remove(&job.job_name).ok_or_else(|| {
            Usage(format!(
                "{DISCOVERY} does not say how job {} of {LAPTOP} finds its targets in a cluster",
                job.job_name
            ))
        })?;
        job.settings.remove("file_sd_configs");
        for (key, mut value) in discovery {
            if key == "relabel_configs"
                && let (Some(first), Some(Value::Array(then))) =
                    (value.as_array_mut(), job.settings.remove(&key))
            {
                first.extend(then);
            }
            job.settings.insert(key, value);
        }
    }
    // What only a cluster has.
    for (job_name, settings) in jobs {
        config.scrape_configs.push(Job { job_name, settings });
    }
    let yaml = serde_saphyr::to_string(&config)?;
    Ok(format!(
        "# Made by `{COMMAND}` of {LAPTOP} and {DISCOVERY}, which explain it; edit those.\n{yaml}"
    ))
}

/// The manifest with Jaeger's files between its marks.
fn jaeger(layout: &Layout) -> anyhow::Result<String> {
    let manifest = committed::read(&layout.config(JAEGER))?;
    let (begin, end) = (
        format!(
            "  # begin generated by {COMMAND}: {}\n",
            JAEGER_FILES.join(" and ")
        ),
        format!("  # end generated by {COMMAND}\n"),
    );
    let marks = manifest.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = marks.ok_or_else(|| {
        Usage(format!(
            "{JAEGER} has no place for Jaeger's files; it needs the lines\n{begin}{end}"
        ))
    })?;
    let mut data = String::new();
    for file in JAEGER_FILES {
        let name = file.rsplit('/').next().unwrap_or(file);
        data.push_str(&format!("  {name}: |\n"));
        for line in committed::read(&layout.config(file))?.lines() {
            let line = format!("    {line}");
            data.push_str(line.trim_end());
            data.push('\n');
        }
    }
    Ok(format!("{before}{begin}{data}{end}{after}"))
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, Usage> {
    serde_saphyr::from_str(&committed::read(file)?)
        .map_err(|error| Usage(format!("{}: {error}", file.display())))
}
