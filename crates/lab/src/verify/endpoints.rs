//! Where the parts of the stack are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::bail;
use serde::Deserialize;
use stack::{Board, HOST, Layout, State, table};

use crate::place::{Place, Usage};

/// Which stack is looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Looked {
    /// YAML or JSON file with the addresses of a stack that runs elsewhere
    #[arg(long, value_name = "FILE")]
    endpoints: Option<PathBuf>,
}

impl Looked {
    /// Whether it is the lab's own, and none that runs elsewhere.
    pub(crate) fn is_here(&self) -> bool {
        self.endpoints.is_none()
    }

    /// Where its parts are.
    pub(crate) fn endpoints(&self, place: &Place, layout: &Layout) -> anyhow::Result<Endpoints> {
        match &self.endpoints {
            Some(file) => Endpoints::read(file),
            None => Endpoints::of(&place.running()?, layout),
        }
    }
}

/// Base URLs of a stack, without a slash at the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoints {
    pub(crate) prometheus: String,
    pub(crate) alertmanager: String,
    pub(crate) jaeger: String,
    pub(crate) elasticsearch: String,
    pub(crate) exporter: String,
    /// Every replica.
    pub(crate) flask_api: Vec<String>,
    /// Shows the dashboards, where it runs.
    #[serde(default)]
    pub(crate) grafana: Option<String>,
    /// The stand-ins that alerts are sent to.
    #[serde(default)]
    pub(crate) inbox: Option<String>,
    /// Where a fault is set, and the secret for it.
    #[serde(default)]
    pub(crate) payments_admin: Option<String>,
    #[serde(default)]
    pub(crate) chaos_token_file: Option<PathBuf>,
    /// Scrape targets that must be up: job and instance. Read off the lab's own table; elsewhere
    /// whatever Prometheus has found counts.
    #[serde(skip)]
    pub(crate) expected_targets: Vec<(String, String)>,
    /// Components of the lab that will not answer, and why.
    #[serde(skip)]
    out_of_order: BTreeMap<String, String>,
}

const LEFT_OUT: &str = "this lab was started without it";

fn out_of_order(board: &Board) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for component in table::COMPONENTS {
        let reason = match board.get(component.name) {
            None => LEFT_OUT.to_owned(),
            Some(status) if matches!(status.state, State::Starting | State::Ready) => continue,
            Some(status) => {
                format!(
                    "{} {}",
                    status.state,
                    status.detail.as_deref().unwrap_or_default()
                )
            }
        };
        reasons.insert(component.name.to_owned(), reason);
    }
    reasons
}

impl Endpoints {
    /// Those of a running lab.
    fn of(board: &Board, layout: &Layout) -> anyhow::Result<Self> {
        let url_of = |name: &str, port: &str| {
            let port = board.get(name).and_then(|status| status.ports.get(port));
            port.map(|port| format!("http://{HOST}:{port}"))
        };
        let url = |name: &str| url_of(name, "http").unwrap_or_default();
        let mut expected_targets = Vec::new();
        let has_blackbox = board
            .get("blackbox_exporter")
            .is_some_and(|status| status.state != State::Absent);
        for status in board
            .components
            .iter()
            .filter(|status| status.state != State::Absent)
        {
            let component = table::find(&status.name)?;
            for probe in component.probes.iter().filter(|_| has_blackbox) {
                if let Some(port) = status.ports.get(probe.port) {
                    expected_targets.push((
                        probe.job().to_owned(),
                        probe.target(&format!("{HOST}:{port}")),
                    ));
                }
            }
            for scrape in component.scrape {
                if let Some(port) = status.ports.get(scrape.port) {
                    expected_targets.push((scrape.job.to_owned(), format!("{HOST}:{port}")));
                }
            }
        }
        Ok(Self {
            prometheus: url("prometheus"),
            alertmanager: url("alertmanager"),
            jaeger: url("jaeger"),
            elasticsearch: url("elasticsearch"),
            exporter: url("custom-flask-exporter"),
            flask_api: vec![url("flask-api-1"), url("flask-api-2")],
            grafana: url_of("grafana", "http").filter(|_| {
                board
                    .get("grafana")
                    .is_some_and(|status| status.state == State::Ready)
            }),
            inbox: url_of("console", "http"),
            payments_admin: url_of("payments", "admin"),
            chaos_token_file: Some(layout.chaos_token_file()),
            expected_targets,
            out_of_order: out_of_order(board),
        })
    }

    /// Whether these components can answer at all; there is no use in waiting for one that has died.
    pub(crate) fn need(&self, components: &[&str]) -> anyhow::Result<()> {
        match components
            .iter()
            .find_map(|name| Some((name, self.out_of_order.get(*name)?)))
        {
            Some((name, reason)) => bail!("{name} does not run: {reason}"),
            None => Ok(()),
        }
    }

    /// Whether every component that has a scrape target can answer, but for those left out on purpose.
    pub(crate) fn need_all_scraped(&self) -> anyhow::Result<()> {
        let scraped = table::COMPONENTS
            .iter()
            .filter(|component| !component.scrape.is_empty());
        let names: Vec<&str> = scraped
            .map(|component| component.name)
            .filter(|name| {
                self.out_of_order
                    .get(*name)
                    .is_some_and(|reason| reason != LEFT_OUT)
            })
            .collect();
        self.need(&names)
    }

    /// Whether this is a lab's own stack, which has what its table says and no more.
    pub(crate) fn of_a_lab(&self) -> bool {
        !self.expected_targets.is_empty()
    }

    /// Those that a file names.
    fn read(file: &Path) -> anyhow::Result<Self> {
        let usage = |reason: String| Usage(format!("{}: {reason}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| usage(error.to_string()))?;
        let mut endpoints: Self =
            serde_saphyr::from_str(&text).map_err(|error| usage(error.to_string()))?;
        if endpoints.flask_api.is_empty() {
            return Err(usage("flask_api names no replica".into()).into());
        }
        let Self {
            prometheus,
            alertmanager,
            jaeger,
            elasticsearch,
            exporter,
            flask_api,
            grafana,
            inbox,
            payments_admin,
            ..
        } = &mut endpoints;
        for url in [prometheus, alertmanager, jaeger, elasticsearch, exporter]
            .into_iter()
            .chain(flask_api)
            .chain(grafana)
            .chain(inbox)
            .chain(payments_admin)
        {
            if !url.starts_with("http://") {
                return Err(usage(format!("`{url}` is no http:// URL")).into());
            }
            url.truncate(url.trim_end_matches('/').len());
        }
        Ok(endpoints)
    }
}
