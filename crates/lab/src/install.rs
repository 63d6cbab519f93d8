//! `lab install`: gets the real components.

use std::process::ExitCode;

use futures::future::join_all;
use stack::{Component, Installer, Progress, Source, table};
use terminal::style;

use crate::{
    place::Place,
    view::{self, Steps},
};

/// Gets components into the user's cache: packages are downloaded, Jaeger and the Collector are
/// compiled. What is there already is checked against its recorded hash.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which ones [default: all that the lab starts and can get]; alertmanager-0.25, axe-core, chromium, etcd, kube-apiserver, kubectl and prometheus-3 are for tests
    #[arg(value_name = "COMPONENT")]
    components: Vec<String>,
}

pub(crate) fn install(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let wanted: Vec<&'static Component> = if args.components.is_empty() {
        table::COMPONENTS
            .iter()
            .filter(|component| component.launch.is_some() && !view::is_optional(component.name))
            .collect()
    } else {
        args.components
            .iter()
            .map(|name| table::find(name))
            .collect::<Result<_, _>>()?
    };
    let installer = Installer::new(layout);
    let steps = Steps::new();
    let wanted = wanted
        .into_iter()
        .filter(|component| !matches!(component.source, Source::Ours));
    let all = wanted.map(|component| {
        steps.add(component.name);
        install_one(&installer, component, &steps)
    });
    let faults: Vec<stack::Error> = crate::block_on(async {
        tokio::select! {
            results = join_all(all) => Ok(results.into_iter().flatten().collect()),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; `lab install` goes on where it was")),
        }
    })??;
    let code = faults
        .iter()
        .map(stack::Error::exit_code)
        .max()
        .unwrap_or(0);
    for fault in faults {
        eprintln!("{} {fault}", style("error:").red().bold().for_stderr());
    }
    Ok(ExitCode::from(code))
}

/// Returns what went wrong, if anything.
async fn install_one(
    installer: &Installer,
    component: &'static Component,
    steps: &Steps,
) -> Option<stack::Error> {
    let progress = |progress: Progress| steps.show(component.name, &progress.step, progress.part);
    let installed = installer.ensure(component, &progress).await;
    match installed.and_then(|installed| installer.verify(component).map(|()| installed)) {
        Ok(installed) => {
            steps.finish(
                component.name,
                &format!("{} {}", style("installed").green(), installed.version),
            );
            None
        }
        Err(fault) => {
            steps.finish(component.name, &style("not installed").red().to_string());
            Some(fault)
        }
    }
}
