//! `lab down`: ends a lab from outside.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stack::Lab;

use crate::place::Place;

/// The lab itself kills what has not ended by then.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn down(place: &Place) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let Some(pid) = Lab::process(&layout) else {
        println!("no lab runs on {}", layout.data().display());
        return Ok(ExitCode::SUCCESS);
    };
    let process = Pid::from_raw(i32::try_from(pid).context("the lock file names no process")?);
    // One that has ended in the meantime is what was wanted.
    match kill(process, Signal::SIGTERM) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
    .with_context(|| format!("cannot end the lab, process {pid}"))?;
    let spinner = crate::view::spinner(format!("ending the lab on {}", layout.data().display()));
    let asked = Instant::now();
    while Lab::process(&layout) == Some(pid) {
        if asked.elapsed() > PATIENCE {
            bail!(
                "the lab, process {pid}, has not ended within {} s; see {}",
                PATIENCE.as_secs(),
                layout.lab_log().display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    spinner.finish_and_clear();
    println!("the lab on {} has ended", layout.data().display());
    Ok(ExitCode::SUCCESS)
}
