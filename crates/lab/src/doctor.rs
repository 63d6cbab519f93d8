//! `lab doctor`: what is missing, and how to get it.

use std::process::ExitCode;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use stack::{Component, Installer, Lab, Source, table};

use crate::{place::Place, view};

/// Looks at every component, the tools that get them, the data directory and the ports; changes
/// nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 when the lab can run whole, 2 when its place is unfit, 3 when something is missing."
)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    /// `installed`, `obtainable`, `missing`, `unfit`.
    state: &'static str,
    detail: String,
    /// The lab runs whole without it.
    optional: bool,
}

pub(crate) fn doctor(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let installer = Installer::new(layout.clone());
    let mut findings: Vec<Finding> = table::COMPONENTS
        .iter()
        .filter(|component| !matches!(component.source, Source::Ours))
        .map(|component| look(&installer, component))
        .collect();
    if Lab::process(&layout).is_none() {
        let started: Vec<_> = table::COMPONENTS
            .iter()
            .filter(|component| component.launch.is_some())
            .collect();
        let busy = place.ports()?.busy(&started);
        findings.extend(
            layout
                .examine()
                .err()
                .map(|fault| unfit("data directory", fault.to_string())),
        );
        findings.extend(
            busy.iter()
                .map(|busy| unfit("port", format!("{busy}; move all ports with --port-offset"))),
        );
    }
    let bad = |state| {
        findings
            .iter()
            .any(|finding| finding.state == state && !finding.optional)
    };
    let code = match (bad("unfit"), bad("missing")) {
        (true, _) => 2,
        (false, true) => 3,
        (false, false) => 0,
    };
    if args.json {
        println!(
            "{:#}",
            serde_json::json!({ "ok": code == 0, "findings": findings })
        );
        return Ok(ExitCode::from(code));
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
        .set_header(["", "state", ""].map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for finding in &findings {
        let colour = match (finding.state, finding.optional) {
            ("installed", _) => Color::Green,
            ("obtainable", _) => Color::Yellow,
            (_, true) => Color::DarkGrey,
            _ => Color::Red,
        };
        table.add_row([
            Cell::new(&finding.name),
            Cell::new(finding.state).fg(colour),
            Cell::new(&finding.detail),
        ]);
    }
    println!("{table}\n");
    println!(
        "{}",
        match code {
            0 => "the lab can run whole; what is obtainable is got by `lab up` or `lab install`",
            2 => "the lab cannot start here; see the rows marked unfit",
            _ => "the lab runs, but not whole; see the rows marked missing",
        }
    );
    Ok(ExitCode::from(code))
}

fn unfit(name: &str, detail: String) -> Finding {
    Finding {
        name: name.into(),
        state: "unfit",
        detail,
        optional: false,
    }
}

fn look(installer: &Installer, component: &'static Component) -> Finding {
    let optional = view::is_optional(component.name);
    let (state, detail) = match installer.find(component) {
        Ok(Some(installed)) => match installer.verify(component) {
            Ok(()) if component.launch.is_none() => (
                "installed",
                format!(
                    "{}; the lab does not start it yet",
                    installed.program.display()
                ),
            ),
            Ok(()) => (
                "installed",
                format!("{} in {}", installed.version, installed.home.display()),
            ),
            Err(fault) => ("missing", fault.to_string()),
        },
        Ok(None) => match installer.obtainable(component) {
            Ok(how) => ("obtainable", how),
            Err(fault) => ("missing", fault.to_string()),
        },
        Err(fault) => ("missing", fault.to_string()),
    };
    Finding {
        name: component.name.into(),
        state,
        detail,
        optional,
    }
}
