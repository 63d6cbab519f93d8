//! Lab 3: a dashboard of the learner's own: rate, errors and duration of the service, drawn from live data.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use dashboards::model::{Dashboard, DataSourceKind, Panel, PanelKind, Query, VariableKind};

use super::grader::{Graded, Grader, Seen, graded};
use crate::verify;

/// The learner's; the console draws what lies in the folder of the work.
const FILE: &str = "dashboard.json";
/// Long enough for one more scrape.
const PATIENCE: Duration = Duration::from_secs(10);
/// What each of the three questions is answered from: what a query has to contain, and what it is about.
const RED: [(&str, &[&str]); 3] = [
    ("rate", &["rate(", "flask_requests_total"]),
    ("errors", &["rate(", "flask_requests_total", "5.."]),
    (
        "duration",
        &[
            "histogram_quantile(",
            "flask_http_request_duration_seconds_bucket",
        ],
    ),
];

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "It is a dashboard of your own",
            "dashboard.json needs a uid and a title that no other dashboard has; the console says under /dashboards what is wrong with the file",
            it.is_a_dashboard(),
        ),
        graded(
            "It shows rate, errors and duration",
            "a panel each: rate() of flask_requests_total, the same of status=~\"5..\", and histogram_quantile() of the buckets; three panels of type timeseries",
            it.shows_red(),
        ),
        graded(
            "It works on another machine, at another scale",
            "its panels ask ${datasource}, a variable of type datasource, and their rates look back $__rate_interval",
            it.is_portable(),
        ),
        graded(
            "People understand it",
            "every panel has a title, a description and a unit: reqps, s, percentunit",
            it.is_explained(),
        ),
        graded(
            "Every query returns data of now",
            "look at the panel in the console: it shows the query and what Prometheus says to it",
            it.is_alive().await,
        ),
    ]
}

/// The query of each target in Prometheus.
fn queries(panel: &Panel) -> impl Iterator<Item = &str> {
    panel
        .targets
        .iter()
        .filter_map(|target| match &target.query {
            Query::Prometheus(asked) => Some(asked.expr.as_str()),
            _ => None,
        })
}

impl Grader<'_> {
    fn dashboard(&self) -> anyhow::Result<Dashboard> {
        let dashboard = Dashboard::parse(&self.read(FILE)?)
            .with_context(|| format!("{} is no dashboard", self.file(FILE).display()))?;
        ensure!(dashboard.panels().next().is_some(), "it has no panel yet");
        Ok(dashboard)
    }

    fn is_a_dashboard(&self) -> Seen {
        let dashboard = self.dashboard()?;
        let ours = [
            dashboards::OVERVIEW,
            dashboards::FLASK_API,
            dashboards::KUBERNETES,
            dashboards::SLO_DASHBOARD,
        ];
        ensure!(
            !dashboard.uid.is_empty() && !ours.contains(&dashboard.uid.as_str()),
            "its uid is `{}`, which belongs to another one",
            dashboard.uid
        );
        ensure!(!dashboard.title.trim().is_empty(), "it has no title");
        Ok(vec![format!(
            "{}, with {} panels, at /dashboards/{} in the console",
            dashboard.title,
            dashboard.panels().count(),
            dashboard.uid
        )])
    }

    fn shows_red(&self) -> Seen {
        let dashboard = self.dashboard()?;
        let series: Vec<_> = dashboard
            .panels()
            .filter(|panel| panel.kind == PanelKind::Timeseries)
            .collect();
        let mut seen = Vec::new();
        for (what, parts) in RED {
            let shows = |panel: &&&Panel| {
                queries(panel).any(|expr| parts.iter().all(|part| expr.contains(part)))
            };
            let panel = series.iter().find(shows);
            let panel = panel.with_context(|| {
                format!(
                    "no panel of type timeseries shows {what}: a query with {}",
                    parts.join(" and ")
                )
            })?;
            seen.push(format!("{what}: {}", panel.title));
        }
        Ok(seen)
    }

    fn is_portable(&self) -> Seen {
        let dashboard = self.dashboard()?;
        let variables = &dashboard.templating.list;
        let sources: Vec<_> = variables
            .iter()
            .filter(|it| it.kind == VariableKind::Datasource)
            .map(|it| format!("${{{}}}", it.name))
            .collect();
        for panel in dashboard.panels() {
            for target in &panel.targets {
                let source = &target.datasource;
                ensure!(
                    source.kind != DataSourceKind::Prometheus || sources.contains(&source.uid),
                    "{} {} asks the data source `{}`, which another Grafana does not have",
                    panel.title,
                    target.ref_id,
                    source.uid
                );
            }
            for expr in queries(panel).filter(|expr| expr.contains("rate(")) {
                ensure!(
                    expr.contains("$__rate_interval"),
                    "{} looks back a fixed time, and shows gaps or lies when it is zoomed: {expr}",
                    panel.title
                );
            }
        }
        Ok(vec![format!("every query asks {}", sources.join(" or "))])
    }

    fn is_explained(&self) -> Seen {
        let dashboard = self.dashboard()?;
        let panels: Vec<_> = dashboard.panels().collect();
        for panel in &panels {
            ensure!(!panel.title.trim().is_empty(), "a panel has no title");
            ensure!(
                panel.description.trim().len() > 10,
                "{} does not say what it shows",
                panel.title
            );
            let config = panel.field_config.as_ref();
            let unit = config.and_then(|config| config.defaults.unit.as_deref());
            ensure!(
                panel.targets.is_empty() || unit.is_some_and(|unit| !unit.is_empty()),
                "{} has no unit",
                panel.title
            );
        }
        Ok(panels
            .iter()
            .map(|panel| format!("{}: {}", panel.title, panel.description))
            .collect())
    }

    async fn is_alive(&self) -> Seen {
        let dashboard = self.dashboard()?;
        let asks = dashboard.panels().any(|panel| !panel.targets.is_empty());
        ensure!(asks, "no panel asks anything");
        let root = self.layout.config("");
        verify::every_query_answers(&self.probe, self.endpoints, &root, dashboard, PATIENCE).await
    }
}
