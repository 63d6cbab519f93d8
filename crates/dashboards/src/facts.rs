//! What the dashboards show that is decided elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use promql_parser::{
    parser::{self, Expr, VectorSelector, token},
    util::{ExprVisitor, walk_expr},
};
use serde::Deserialize;
use slo::{Objective, Specification};

use crate::{
    Error,
    model::{Dashboard, Query},
    query::{Context, duration},
};

const RECORDINGS: &str = "prometheus/recording-rules.yml";
const ALERTS: &str = "prometheus/alerts.yml";
const OBJECTIVES: &str = "prometheus/slos";
const SCRAPING: &str = "prometheus/prometheus.yml";

/// Objectives, thresholds and names, read from the files that own them.
#[derive(Debug, Clone)]
pub struct Facts {
    objectives: Vec<Objective>,
    thresholds: BTreeMap<String, f64>,
    recordings: BTreeSet<String>,
    scrape_interval: Duration,
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
}

#[derive(Deserialize)]
struct Scraping {
    global: Global,
}

#[derive(Deserialize)]
struct Global {
    scrape_interval: String,
}

impl Facts {
    /// Reads them from a project's root.
    ///
    /// # Errors
    /// When a file is missing or not what it should be.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let recordings = rules(root, RECORDINGS)?
            .into_iter()
            .filter_map(|rule| rule.record)
            .collect();
        let thresholds = rules(root, ALERTS)?
            .into_iter()
            .filter_map(|rule| Some((rule.alert?, threshold(&rule.expr)?)))
            .collect();
        let mut objectives = Vec::new();
        for file in yaml_files(root, OBJECTIVES)? {
            let specification =
                Specification::parse(&file, &read(root, &file)?).map_err(|error| {
                    Error::Source {
                        file: file.clone(),
                        reason: error.to_string(),
                    }
                })?;
            objectives.extend(specification.objectives());
        }
        Ok(Self {
            objectives,
            thresholds,
            recordings,
            scrape_interval: scrape_interval(root)?,
        })
    }

    /// Time between two scrapes, as `prometheus.yml` has it.
    #[must_use]
    pub fn scrape_interval(&self) -> Duration {
        self.scrape_interval
    }

    /// Every objective.
    #[must_use]
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// An objective by its name.
    pub(crate) fn objective(&self, name: &str) -> Result<&Objective, Error> {
        self.objectives
            .iter()
            .find(|objective| objective.name == name)
            .ok_or_else(|| Error::Source {
                file: OBJECTIVES.into(),
                reason: format!("no objective is called {name}, and the SLO dashboard shows it"),
            })
    }

    /// The number that an alert compares with.
    pub(crate) fn threshold(&self, alert: &str) -> Result<f64, Error> {
        self.thresholds
            .get(alert)
            .copied()
            .ok_or_else(|| Error::Threshold(alert.into()))
    }

    /// What is in use when an alert looks at what is left.
    pub(crate) fn complement(&self, alert: &str) -> Result<f64, Error> {
        Ok(rounded(1.0 - self.threshold(alert)?))
    }

    /// Seconds from which on an answer is late for an objective.
    pub(crate) fn latency_bound(&self, name: &str) -> Result<f64, Error> {
        let bounds = &self.objective(name)?.latency_bounds;
        bounds.first().copied().ok_or_else(|| Error::Source {
            file: OBJECTIVES.into(),
            reason: format!("objective {name} names no bucket, and panels show its threshold"),
        })
    }

    /// Whether everything that looks like a recorded series is recorded by somebody.
    pub(crate) fn check_recordings(&self, dashboard: &Dashboard) -> Result<(), Error> {
        let context = Context::new(0, 0, 1, Duration::from_secs(1)).opened(dashboard);
        for panel in dashboard.panels() {
            for target in &panel.targets {
                let Query::Prometheus(query) = &target.query else {
                    continue;
                };
                let expr = crate::query::promql_text(&query.expr, &context)?;
                for series in series(&expr) {
                    // `slo:` is named by the crate that renders it; those that are, tests compare.
                    let own = series.contains(':') && !series.starts_with("slo:");
                    if own && !self.recordings.contains(&series) {
                        return Err(Error::Recording {
                            dashboard: dashboard.uid.clone(),
                            panel: panel.title.clone(),
                            series,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Time between two scrapes, as `5s`, of the project at `root`: for those who need no other fact.
///
/// # Errors
/// When the file is missing or not what it should be.
pub fn scrape_interval(root: &Path) -> Result<Duration, Error> {
    let scraping: Scraping = parse(root, SCRAPING)?;
    let interval = &scraping.global.scrape_interval;
    duration(interval).ok_or_else(|| Error::Source {
        file: SCRAPING.into(),
        reason: format!(
            "global.scrape_interval is {interval}; dashboards need one unit, as 15s or 1m"
        ),
    })
}

/// The share of requests that may be bad: 0.001 at 99.9 %.
pub(crate) fn budget(objective: &Objective) -> f64 {
    rounded(1.0 - objective.ratio)
}

/// The share of bad requests that wakes somebody at once.
pub(crate) fn page_at(objective: &Objective) -> f64 {
    rounded(slo::burn_rates()[0].factor * budget(objective))
}

/// Without the digits that binary arithmetic adds behind the twelfth.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e12).round() / 1e12
}

fn rules(root: &Path, file: &str) -> Result<Vec<Rule>, Error> {
    let rules: Rules = parse(root, file)?;
    Ok(rules
        .groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect())
}

fn parse<T: for<'de> Deserialize<'de>>(root: &Path, file: &str) -> Result<T, Error> {
    serde_saphyr::from_str(&read(root, Path::new(file))?).map_err(|error| Error::Source {
        file: file.into(),
        reason: error.to_string(),
    })
}

fn read(root: &Path, file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(root.join(file)).map_err(|error| Error::Source {
        file: file.into(),
        reason: error.to_string(),
    })
}

fn yaml_files(root: &Path, dir: &str) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error: std::io::Error| Error::Source {
        file: dir.into(),
        reason: error.to_string(),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join(dir)).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        if name
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(Path::new(dir).join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// The number on the right of an alert's comparison.
fn threshold(expr: &str) -> Option<f64> {
    let Expr::Binary(binary) = parser::parse(expr).ok()? else {
        return None;
    };
    let compares = [
        token::T_GTR,
        token::T_GTE,
        token::T_LSS,
        token::T_LTE,
        token::T_EQLC,
    ]
    .contains(&binary.op.id());
    match binary.rhs.as_ref() {
        Expr::NumberLiteral(number) if compares => Some(number.val),
        _ => None,
    }
}

/// Names of the series that an expression reads.
fn series(expr: &str) -> Vec<String> {
    struct Names(Vec<String>);
    impl ExprVisitor for Names {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            if let Expr::VectorSelector(VectorSelector {
                name: Some(name), ..
            }) = expr
            {
                self.0.push(name.clone());
            }
            if let Expr::MatrixSelector(selector) = expr
                && let Some(name) = &selector.vs.name
            {
                self.0.push(name.clone());
            }
            Ok(true)
        }
    }
    let mut names = Names(Vec::new());
    if let Ok(expr) = parser::parse(expr) {
        let Ok(_) = walk_expr(&mut names, &expr);
    }
    names.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_what_the_whole_alert_compares_with() {
        assert_eq!(threshold("rate(x[5m]) > 0.05"), Some(0.05));
        assert_eq!(threshold("0.03 < x / y < 0.1"), Some(0.1));
        assert_eq!(threshold("x > 1 or y > 2"), None);
        assert_eq!(threshold("vector(1)"), None);
        assert_eq!(threshold("a > b"), None);
    }

    #[test]
    fn every_series_of_an_expression_is_named() {
        assert_eq!(
            series("sum(rate(a:b:c[5m])) / (d > 0) or e offset 1m"),
            ["a:b:c", "d", "e"]
        );
    }
}
