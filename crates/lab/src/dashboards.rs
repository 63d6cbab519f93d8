//! `lab dashboards`: what Grafana shows, written once in Rust.

use std::process::ExitCode;

use clap::Subcommand;
use dashboards::Facts;

use crate::{
    committed::{self, Committed},
    place::{Place, Usage},
};

const COMMAND: &str = "lab dashboards render";

/// What Grafana shows.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Write the dashboards in grafana/dashboards
    #[command(after_help = "Examples:
  lab dashboards render             write grafana/dashboards/*.json
  lab dashboards render --check     are they what crates/dashboards says? exit 1 and a diff if not")]
    Render(Render),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    /// Compare with the committed files instead of writing them
    #[arg(long)]
    check: bool,
}

pub(crate) fn dashboards(place: &Place, Args::Render(args): &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let usage = |error: dashboards::Error| Usage(error.to_string());
    let facts = Facts::read(&layout.config("")).map_err(usage)?;
    let mut worst = ExitCode::SUCCESS;
    for (name, rendered) in dashboards::render(&facts).map_err(usage)? {
        let file = layout.config(dashboards::DIRECTORY).join(name);
        if args.check {
            let committed = Committed {
                file: &file,
                sources: "crates/dashboards and the files it reads",
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
