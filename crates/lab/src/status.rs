//! `lab status`: what runs where.

use std::process::ExitCode;

use stack::{Lab, State};

use crate::{place::Place, scraping::Scraping, view};

/// Shows every component with its state, address, version, memory and log, and what scraping costs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 when every component that the lab starts is ready, 1 otherwise."
)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn status(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let (board, running) = match Lab::look(&layout) {
        Lab::Running(board) => (board, true),
        Lab::Ended(board) => (board, false),
        Lab::Never if args.json => {
            println!(
                "{}",
                serde_json::json!({ "running": false, "components": [] })
            );
            return Ok(ExitCode::FAILURE);
        }
        Lab::Never => {
            println!(
                "no lab has run on {}; start one with `cargo run`",
                layout.data().display()
            );
            return Ok(ExitCode::FAILURE);
        }
    };
    let scraping = match running {
        true => crate::block_on(Scraping::of(&board))?.ok(),
        false => None,
    };
    if args.json {
        let mut json = serde_json::to_value(&board)?;
        json["running"] = running.into();
        json["scraping"] = serde_json::to_value(&scraping)?;
        println!("{json:#}");
    } else {
        if !running {
            println!("the lab on {} has ended", layout.data().display());
        }
        println!("{}", view::table(&board));
        if let Some(scraping) = &scraping {
            println!("{scraping}");
        }
        for trouble in view::troubles(&board) {
            println!("\n{trouble}");
        }
    }
    let ready = running
        && board
            .components
            .iter()
            .all(|status| status.state == State::Ready || view::is_optional(&status.name));
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
