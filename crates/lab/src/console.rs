//! `lab console`: where the pages are that people look at.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use stack::{HOST, State};

use crate::place::{Place, Usage};

/// Tell the address of the console, the pages people look at first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Open it in a browser
    #[arg(long)]
    open: bool,
}

pub(crate) fn console(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let board = place.running()?;
    let Some(console) = board.get("console") else {
        return Err(Usage(
            "the lab that runs here has no console; start it without `--without console`".into(),
        )
        .into());
    };
    if console.state != State::Ready {
        bail!("the console is {}; `lab status` tells why", console.state);
    }
    let address = format!("http://{HOST}:{}/", console.ports["http"]);
    println!("{address}");
    if args.open {
        // What it says is for those who start it by hand.
        let mut opener = Command::new("xdg-open");
        opener
            .arg(&address)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let ended = opener
            .status()
            .context("cannot open a browser: xdg-open is missing; open the address by hand")?;
        if !ended.success() {
            bail!("xdg-open found no browser; open the address by hand");
        }
    }
    Ok(ExitCode::SUCCESS)
}
