//! The published rules of Grafana's dashboard linter (github.com/grafana/dashboard-linter, docs/rules), stated again and
//! more strictly where that costs nothing: of all kinds of panels, and of all data sources.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use dashboards::{
    model::{Dashboard, DataSourceKind, LinkKind, Panel, PanelKind, Query, VariableKind},
    query::{Context, annotation, label_values, promql_text, request},
};
use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

use crate::project::{committed, files, read, root};

/// Units that Grafana has and we use; the list of all is in its valueFormats/categories.ts.
const UNITS: &[&str] = &[
    "none",
    "string",
    "short",
    "percent",
    "percentunit",
    "bytes",
    "Bps",
    "cps",
    "pps",
    "reqps",
    "s",
    "d",
    "currencyEUR",
];

/// Such that `$__rate_interval` is a duration that nobody writes.
fn context(dashboard: &Dashboard) -> Context {
    let mut context = Context::new(0, 3_600_000, 500, Duration::from_secs(17)).opened(dashboard);
    context.step = Duration::from_secs(19);
    context
}

const RATE_INTERVAL: Duration = Duration::from_secs(68);

/// What is wrong with a dashboard.
fn findings(dashboard: &Dashboard) -> Vec<String> {
    let mut found = Findings {
        dashboard,
        all: Vec::new(),
    };
    found.dashboard();
    found.variables();
    found.grid();
    for panel in dashboard.panels() {
        found.panel(panel);
    }
    found.all
}

struct Findings<'a> {
    dashboard: &'a Dashboard,
    all: Vec<String>,
}

impl Findings<'_> {
    fn need(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.all.push(what());
        }
    }

    fn dashboard(&mut self) {
        let it = self.dashboard;
        self.need(!it.editable, || "is editable".into());
        self.need(!it.title.is_empty() && !it.description.is_empty(), || {
            "has no title or description".into()
        });
        self.need(it.tags.iter().any(|tag| tag == dashboards::TAG), || {
            "has not the tag that the others link to".into()
        });
        self.need(
            it.links.iter().any(|link| {
                link.kind == LinkKind::Dashboards
                    && link.tags == [dashboards::TAG]
                    && link.keep_time
            }),
            || "has no link to the others".into(),
        );
        let marks: Vec<_> = it
            .annotations
            .list
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        self.need(
            ["Alerts", "Deployments"]
                .iter()
                .all(|name| marks.contains(name)),
            || format!("marks {marks:?}"),
        );
        for mark in &it.annotations.list {
            let asked = annotation(&mark.target, &context(it));
            self.need(asked.is_ok(), || format!("{}: {asked:?}", mark.name));
            self.need(mark.datasource.uid == "${prometheus_datasource}", || {
                format!("{} asks a data source that cannot be chosen", mark.name)
            });
        }
    }

    fn variables(&mut self) {
        let list = &self.dashboard.templating.list;
        // template-datasource-rule
        let sources: Vec<_> = list
            .iter()
            .filter(|variable| variable.kind == VariableKind::Datasource)
            .collect();
        self.need(!sources.is_empty(), || {
            "lets nobody choose a data source".into()
        });
        for source in sources {
            let kind = source.query();
            self.need(source.name == format!("{kind}_datasource"), || {
                format!("data source variable {} of {kind}", source.name)
            });
            self.need(
                source.label.to_lowercase() == format!("{kind} data source"),
                || format!("data source label {}", source.label),
            );
        }
        for variable in list.iter().filter(|it| it.kind == VariableKind::Query) {
            let name = &variable.name;
            // template-on-time-change-reload-rule, template-label-promql-rule
            self.need(variable.refresh == Some(2), || {
                format!("${name} is not asked again")
            });
            let asked = label_values(variable, &context(self.dashboard));
            self.need(
                asked
                    .as_ref()
                    .is_ok_and(|(selector, _)| parser::parse(selector).is_ok()),
                || format!("${name}: {asked:?}"),
            );
            // template-job-rule, template-instance-rule
            self.need(
                variable.multi
                    && variable.include_all
                    && variable
                        .all_value
                        .as_deref()
                        .is_some_and(|it| it == ".+" || it == ".*")
                    && variable
                        .datasource
                        .as_ref()
                        .is_some_and(|it| it.uid == "${prometheus_datasource}"),
                || format!("${name} is not one of many, or has no value for all"),
            );
            if name == "job" || name == "instance" {
                self.need(variable.all_value.as_deref() == Some(".+"), || {
                    format!("all of ${name} is not .+")
                });
            }
            let used = self.dashboard.panels().flat_map(|panel| &panel.targets).any(|target| {
                matches!(&target.query, Query::Prometheus(query) if query.expr.contains(&format!("${name}")))
            });
            self.need(used, || format!("nothing uses ${name}"));
        }
    }

    fn grid(&mut self) {
        let mut ids = HashSet::new();
        let mut taken = HashSet::new();
        for panel in &self.dashboard.panels {
            self.need(ids.insert(panel.id), || {
                format!("two panels have id {}", panel.id)
            });
            let place = panel.grid_pos;
            self.need(
                place.w > 0 && place.h > 0 && place.x + place.w <= 24,
                || format!("{} is off the grid", panel.title),
            );
            let overlaps = (place.x..place.x + place.w)
                .flat_map(|x| (place.y..place.y + place.h).map(move |y| (x, y)))
                .filter(|cell| !taken.insert(*cell))
                .count();
            self.need(overlaps == 0, || format!("{} lies on another", panel.title));
        }
        let titles: Vec<_> = self.dashboard.panels().map(|panel| &panel.title).collect();
        let unique: BTreeSet<_> = titles.iter().collect();
        self.need(unique.len() == titles.len(), || {
            "two panels have one title".into()
        });
    }

    fn panel(&mut self, panel: &Panel) {
        let title = &panel.title;
        // panel-title-description-rule
        self.need(
            !title.is_empty() && panel.description.ends_with('.'),
            || {
                format!(
                    "panel {} `{title}` has no title or no sentence of description",
                    panel.id
                )
            },
        );
        if panel.kind == PanelKind::Text {
            let content = panel.options.get("content").and_then(|it| it.as_str());
            self.need(content.is_some_and(|it| !it.is_empty()), || {
                format!("{title} says nothing")
            });
            return;
        }
        // panel-no-targets-rule
        self.need(!panel.targets.is_empty(), || {
            format!("{title} asks nothing")
        });
        // panel-units-rule
        let field = panel.field();
        self.need(
            panel.kind == PanelKind::Logs
                || field
                    .unit
                    .as_deref()
                    .is_some_and(|unit| UNITS.contains(&unit)),
            || format!("{title} has unit {:?}", field.unit),
        );
        let by_value = matches!(
            panel.kind,
            PanelKind::Stat | PanelKind::Gauge | PanelKind::Bargauge
        );
        self.need(!by_value || field.thresholds.is_some(), || {
            format!("{title} has no thresholds")
        });
        if let Some(thresholds) = &field.thresholds {
            let values: Vec<_> = thresholds.steps.iter().map(|step| step.value).collect();
            self.need(
                values[0].is_none() && values[1..].windows(2).all(|pair| pair[0] < pair[1]),
                || format!("{title}: thresholds {values:?} do not ascend"),
            );
        }
        let mut names = HashSet::new();
        for target in &panel.targets {
            self.need(names.insert(&target.ref_id), || {
                format!("{title} has two {}", target.ref_id)
            });
            // panel-datasource-rule
            let kind = match &target.query {
                Query::Prometheus(_) => DataSourceKind::Prometheus,
                Query::Elasticsearch(_) => DataSourceKind::Elasticsearch,
                Query::Jaeger(_) => DataSourceKind::Jaeger,
            };
            let variable = serde_json::to_value(kind).unwrap();
            let uid = format!("${{{}_datasource}}", variable.as_str().unwrap());
            let chosen = self
                .dashboard
                .templating
                .list
                .iter()
                .any(|it| format!("${{{}}}", it.name) == uid);
            self.need(
                chosen && target.datasource.uid == uid && target.datasource.kind == kind,
                || format!("{title} asks {:?}, not {uid}", target.datasource),
            );
            self.need(
                panel.datasource.as_ref() == Some(&target.datasource),
                || format!("{title} and its query {} ask different ones", target.ref_id),
            );
            let asked = request(target, &context(self.dashboard));
            self.need(asked.is_ok(), || format!("{title}: {asked:?}"));
            if let Query::Prometheus(query) = &target.query {
                self.promql(title, &query.expr);
                let shown = panel.kind != PanelKind::Table;
                self.need(!shown || !query.legend_format.is_empty(), || {
                    format!("{title} {} has no legend", target.ref_id)
                });
                self.need(query.instant != query.range, || {
                    format!("{title} {} asks for both or neither", target.ref_id)
                });
            }
        }
    }

    fn promql(&mut self, title: &str, text: &str) {
        let Ok(text) = promql_text(text, &context(self.dashboard)) else {
            return;
        };
        // target-promql-rule
        let expr = match parser::parse(&text) {
            Ok(expr) => expr,
            Err(error) => return self.all.push(format!("{title}: {error}: {text}")),
        };
        let mut visitor = Selectors::default();
        let Ok(_) = walk_expr(&mut visitor, &expr);
        // target-rate-interval-rule
        self.need(
            visitor
                .windows
                .iter()
                .all(|window| *window == RATE_INTERVAL),
            || format!("{title}: a rate over something else than $__rate_interval: {text}"),
        );
        // target-counter-agg-rule
        let bare: Vec<_> = visitor
            .bare
            .iter()
            .filter(|name| name.ends_with("_total"))
            .collect();
        self.need(bare.is_empty(), || {
            format!("{title}: {bare:?} without rate or increase")
        });
        // target-job-rule, target-instance-rule: of what the dashboard's variables choose.
        let chooses = |name: &str| {
            self.dashboard
                .templating
                .list
                .iter()
                .any(|it| it.name == name)
        };
        let own: &[&str] = match self.dashboard.uid.as_str() {
            dashboards::FLASK_API => &["flask_", "telemetry_", "process_"],
            dashboards::KUBERNETES => &["node_", "container_"],
            _ => &[],
        };
        let mut missing = Vec::new();
        for (name, labels) in &visitor.selectors {
            if own.iter().any(|prefix| name.starts_with(prefix)) {
                for label in ["job", "instance"] {
                    if (chooses(label) || label == "job") && !labels.contains(label) {
                        missing.push(format!("{name} without {label}"));
                    }
                }
            }
        }
        self.need(missing.is_empty(), || format!("{title}: {missing:?}"));
    }
}

/// What an expression selects.
#[derive(Default)]
struct Selectors {
    /// Windows of rate(), irate() and increase().
    windows: Vec<Duration>,
    /// Series that are not inside one of those.
    bare: Vec<String>,
    /// Names, and the labels that are matched.
    selectors: Vec<(String, BTreeSet<String>)>,
    inside: usize,
}

impl Selectors {
    fn select(&mut self, selector: &VectorSelector) {
        let name = selector.name.clone().unwrap_or_default();
        let labels = selector.matchers.matchers.iter().map(|it| it.name.clone());
        self.selectors.push((name.clone(), labels.collect()));
        if self.inside == 0 {
            self.bare.push(name);
        }
    }
}

impl ExprVisitor for Selectors {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::Call(call) if ["rate", "irate", "increase"].contains(&call.func.name) => {
                self.inside += 1;
                for argument in &call.args.args {
                    if let Expr::MatrixSelector(selector) = argument.as_ref() {
                        self.windows.push(selector.range);
                    }
                }
            }
            Expr::VectorSelector(selector) => self.select(selector),
            Expr::MatrixSelector(selector) => self.select(&selector.vs),
            _ => {}
        }
        Ok(true)
    }

    fn post_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::Call(call) = expr
            && ["rate", "irate", "increase"].contains(&call.func.name)
        {
            self.inside -= 1;
        }
        Ok(true)
    }
}

#[test]
fn every_dashboard_keeps_the_rules() {
    for dashboard in committed() {
        assert_eq!(findings(&dashboard), [] as [&str; 0], "{}", dashboard.uid);
    }
}

/// A rule that nothing can break holds nothing.
#[test]
fn every_rule_can_be_broken() {
    let good = committed()
        .into_iter()
        .find(|dashboard| dashboard.uid == dashboards::FLASK_API)
        .unwrap();
    let stat = good
        .panels
        .iter()
        .position(|panel| panel.kind == PanelKind::Stat)
        .unwrap();
    let expr = |dashboard: &mut Dashboard, change: fn(&str) -> String| {
        let Query::Prometheus(query) = &mut dashboard.panels[stat].targets[0].query else {
            panic!("no PromQL")
        };
        query.expr = change(&query.expr);
    };
    type Break<'a> = Box<dyn Fn(&mut Dashboard) + 'a>;
    let cases: Vec<(&str, Break<'_>)> = vec![
        ("is editable", Box::new(|it| it.editable = true)),
        ("description", Box::new(|it| it.description.clear())),
        ("tag that the others", Box::new(|it| it.tags.clear())),
        ("no link to the others", Box::new(|it| it.links.clear())),
        ("marks", Box::new(|it| it.annotations.list.truncate(1))),
        (
            "data source variable",
            Box::new(|it| it.templating.list[0].name = "source".into()),
        ),
        (
            "data source label",
            Box::new(|it| it.templating.list[0].label = "Source".into()),
        ),
        (
            "is not asked again",
            Box::new(|it| it.templating.list[3].refresh = Some(1)),
        ),
        (
            "not one of many",
            Box::new(|it| it.templating.list[3].multi = false),
        ),
        (
            "is not .+",
            Box::new(|it| it.templating.list[3].all_value = Some(".*".into())),
        ),
        (
            "two panels have id",
            Box::new(|it| it.panels[2].id = it.panels[1].id),
        ),
        (
            "lies on another",
            Box::new(|it| it.panels[2].grid_pos = it.panels[1].grid_pos),
        ),
        ("off the grid", Box::new(|it| it.panels[2].grid_pos.x = 22)),
        (
            "one title",
            Box::new(|it| it.panels[2].title = it.panels[1].title.clone()),
        ),
        (
            "no sentence",
            Box::new(|it| it.panels[stat].description.clear()),
        ),
        (
            "asks nothing",
            Box::new(|it| it.panels[stat].targets.clear()),
        ),
        (
            "has unit",
            Box::new(|it| {
                it.panels[stat].field_config.as_mut().unwrap().defaults.unit = Some("req".into())
            }),
        ),
        (
            "has no thresholds",
            Box::new(|it| {
                it.panels[stat]
                    .field_config
                    .as_mut()
                    .unwrap()
                    .defaults
                    .thresholds = None
            }),
        ),
        (
            "ask different ones",
            Box::new(|it| it.panels[stat].targets[0].datasource.uid = "prometheus".into()),
        ),
        (
            "not ${prometheus_datasource}",
            Box::new(|it| it.panels[stat].targets[0].datasource.uid = "prometheus".into()),
        ),
        (
            "UnknownVariable",
            Box::new(|it| expr(it, |old| old.replace("$job", "$jobs"))),
        ),
        (
            "without [\"job\"]",
            Box::new(|it| expr(it, |old| old.replace(r#"job=~"$job", "#, ""))),
        ),
        (
            "something else than $__rate_interval",
            Box::new(|it| expr(it, |old| old.replace("$__rate_interval", "1m"))),
        ),
        (
            "without rate or increase",
            Box::new(|it| {
                expr(it, |_| {
                    r#"sum(flask_requests_total{job=~"$job", instance=~"$instance"})"#.into()
                })
            }),
        ),
        (
            "unexpected",
            Box::new(|it| expr(it, |old| format!("{old})"))),
        ),
        (
            "has no legend",
            Box::new(|it| {
                if let Query::Prometheus(query) = &mut it.panels[stat].targets[0].query {
                    query.legend_format.clear();
                }
            }),
        ),
    ];
    for (wanted, spoil) in cases {
        let mut dashboard = good.clone();
        spoil(&mut dashboard);
        let found = findings(&dashboard);
        let wanted = wanted.replace("without [\"job\"]", "without job");
        assert!(
            found.iter().any(|it| it.contains(&wanted)),
            "`{wanted}` is not among {found:?}"
        );
    }
}

#[test]
fn links_lead_to_dashboards_that_there_are() {
    let dashboards = committed();
    let known: BTreeSet<_> = dashboards.iter().map(|it| it.uid.as_str()).collect();
    assert_eq!(
        known,
        BTreeSet::from([
            dashboards::OVERVIEW,
            dashboards::FLASK_API,
            dashboards::KUBERNETES,
            dashboards::SLO_DASHBOARD
        ])
    );
    let mut followed = 0;
    let mut follow = |text: &str, from: &str| {
        for address in text.split("/d/").skip(1) {
            let uid = address.split(['?', '/', '"', '\\', ' ', ')']).next();
            assert!(known.contains(uid.unwrap()), "{from} leads to {text}");
            followed += 1;
        }
    };
    for dashboard in &dashboards {
        // Wherever in it an address stands: a value, a column, a text.
        for line in dashboards::text(dashboard).lines() {
            follow(line, &dashboard.uid);
        }
        for link in &dashboard.links {
            let leads = |other: &Dashboard| {
                other.uid != dashboard.uid && link.tags.iter().all(|tag| other.tags.contains(tag))
            };
            assert!(
                dashboards.iter().any(leads),
                "{}: {}",
                dashboard.uid,
                link.title
            );
        }
    }
    // Where alerts say to look first.
    let mut texts: Vec<_> = ["prometheus/slos"]
        .iter()
        .flat_map(|dir| files(dir, "yaml"))
        .collect();
    texts.extend(files("prometheus", "yml"));
    for file in texts {
        for line in std::fs::read_to_string(root().join(&file)).unwrap().lines() {
            if line.contains("dashboard_url: http://localhost:3000") {
                follow(line, &file.display().to_string());
            }
        }
    }
    assert!(followed > 30, "{followed}");
    assert!(read("prometheus/alerts.yml").contains("localhost:3000/d/kubernetes"));
}

#[test]
fn what_is_said_to_be_quiet_is_there() {
    let dashboards = committed();
    for quiet in dashboards::quiet::QUIET {
        let panel = dashboards
            .iter()
            .filter(|dashboard| dashboard.uid == quiet.dashboard)
            .flat_map(Dashboard::panels)
            .find(|panel| panel.title == quiet.panel)
            .unwrap_or_else(|| panic!("no panel for {quiet:?}"));
        for query in quiet.queries.chars() {
            let asked = |target: &dashboards::model::Target| target.ref_id == query.to_string();
            assert!(
                panel.targets.iter().any(asked),
                "no query {query} for {quiet:?}"
            );
        }
        // What is shown instead of nothing.
        let words = panel.field().no_value;
        assert!(
            words.is_some() || quiet.may_speak || panel.kind == PanelKind::Timeseries,
            "{quiet:?}"
        );
    }
}
