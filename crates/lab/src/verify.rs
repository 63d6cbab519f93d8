//! `lab verify`: proves the eight success metrics on what runs, each with evidence.

mod dashboards;
mod endpoints;
mod followed;
mod notified;
mod probe;
mod rows;

use std::process::ExitCode;

use serde::Serialize;
use terminal::style;

pub(crate) use dashboards::every_query_answers;
pub(crate) use endpoints::{Endpoints, Looked};
use followed::Followed;
pub(crate) use probe::{Probe, eventually, samples};
pub(crate) use rows::Seen;

use crate::{place::Place, view};

/// Proves the eight success metrics on the running lab: what Prometheus, Elasticsearch and Jaeger
/// themselves say, and a request of its own followed through all three.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab verify
  lab verify --json | jq '.rows[] | select(.ok | not)'
  lab verify --endpoints cluster.yaml      a stack that this lab did not start

The file names base URLs:
  prometheus: http://127.0.0.1:9090
  alertmanager: http://127.0.0.1:9093
  jaeger: http://127.0.0.1:16686
  elasticsearch: http://127.0.0.1:9200
  exporter: http://127.0.0.1:9848
  flask_api: [http://127.0.0.1:5000]
  grafana: http://127.0.0.1:3000                when it runs: rows 2 and 6 go through it
  inbox: http://127.0.0.1:8000                  for row 5, with what sets a fault:
  payments_admin: http://127.0.0.1:5110
  chaos_token_file: .lab/chaos-token

Exit code: 0 when all rows pass, 1 when one fails.")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    looked: Looked,
}

/// What was found, in the form that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    rows: Vec<Row>,
}

/// One success metric.
#[derive(Debug, Serialize)]
struct Row {
    /// Its number in the list of success metrics.
    n: u8,
    name: &'static str,
    ok: bool,
    /// What was seen.
    evidence: Vec<String>,
    /// Of rows 3 and 4: one request in metrics, logs and trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<Followed>,
    /// What to do when it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(crate) fn verify(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let endpoints = args.looked.endpoints(place, &layout)?;
    let spinner = view::spinner("following a request through metrics, logs and traces, and an alert to its receivers (about a minute)".into());
    let rows = crate::block_on(rows::check(&endpoints, &layout))?;
    spinner.finish_and_clear();
    let report = Report {
        ok: rows.iter().all(|row| row.ok),
        rows,
    };
    if args.looked.is_here() {
        // The console shows it, with when that was.
        let json = serde_json::json!({ "at": jiff::Timestamp::now(), "report": &report });
        stack::write_atomically(&layout.verified_file(), json.to_string().as_bytes())?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report) {
    for row in &report.rows {
        let mark = if row.ok {
            style("pass").green()
        } else {
            style("FAIL").red().bold()
        };
        println!("{mark}  {}. {}", row.n, style(row.name).bold());
        for line in &row.evidence {
            println!("        {line}");
        }
        if let Some(hint) = row.hint.as_ref().filter(|_| !row.ok) {
            println!("        {} {hint}", style("->").yellow());
        }
    }
    let passed = report.rows.iter().filter(|row| row.ok).count();
    println!("\n{passed} of {} success metrics hold", report.rows.len());
}
