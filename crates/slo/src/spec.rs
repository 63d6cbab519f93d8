//! The specification: Sloth's `prometheus/v1` format, read strictly.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use crate::{
    Error, Problem,
    clock::{PAGE, Severity, TICKET},
    query::Query,
};

/// Labels or annotations by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// The objectives of one service.
#[derive(Debug)]
pub struct Specification {
    pub(crate) file: PathBuf,
    pub(crate) slos: Vec<Slo>,
}

/// One objective, checked.
#[derive(Debug)]
pub(crate) struct Slo {
    /// `{service}-{name}`.
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) name: String,
    /// Per cent.
    pub(crate) objective: f64,
    pub(crate) labels: Labels,
    pub(crate) sli: Sli,
    pub(crate) alerts: Vec<Alert>,
}

#[derive(Debug)]
pub(crate) enum Sli {
    /// Bad events among all.
    Events {
        error: Placed<Query>,
        total: Placed<Query>,
    },
    /// A ratio that is already one.
    Raw(Placed<Query>),
}

#[derive(Debug)]
pub(crate) struct Alert {
    pub(crate) severity: &'static Severity,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
}

/// Something, and the line and column where it was written.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    line: u64,
    column: u64,
}

impl Slo {
    /// The share of events that may be good for nothing: 0.001 at 99.9 %.
    pub(crate) fn budget(&self) -> f64 {
        ratio(100.0 - self.objective)
    }

    /// The share of events that have to be good: 0.999 at 99.9 %.
    pub(crate) fn target(&self) -> f64 {
        ratio(self.objective)
    }

    fn queries(&self) -> Vec<&Placed<Query>> {
        match &self.sli {
            Sli::Events { error, total } => vec![error, total],
            Sli::Raw(query) => vec![query],
        }
    }
}

/// Per cent as a ratio, without the digits that binary arithmetic adds behind the twelfth.
fn ratio(percent: f64) -> f64 {
    round(percent / 100.0, 12)
}

fn round(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

/// What others show of an objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// `sloth_service` of its series.
    pub service: String,
    /// `sloth_slo` of its series.
    pub name: String,
    /// The share of events that have to be good: 0.999 at 99.9 %.
    pub ratio: f64,
    /// Bounds of buckets that its queries name: 0.25 for "within 250 ms".
    pub latency_bounds: Vec<f64>,
}

impl Specification {
    /// Every objective in it.
    pub fn objectives(&self) -> Vec<Objective> {
        let of = |slo: &Slo| Objective {
            service: slo.service.clone(),
            name: slo.name.clone(),
            ratio: slo.target(),
            latency_bounds: slo
                .queries()
                .iter()
                .flat_map(|query| query.value.thresholds())
                .filter_map(|threshold| threshold.value.ok()?.parse().ok())
                .collect(),
        };
        self.slos.iter().map(of).collect()
    }

    /// Reads a specification; `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not in the format, or says something that cannot be rendered.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let written: written::Specification =
            serde_saphyr::from_str(text).map_err(|error| Error::Yaml {
                file: file.into(),
                reason: match error.without_snippet() {
                    serde_saphyr::Error::MultipleDocuments { .. } => {
                        "several documents in one file; give each service a file of its own"
                            .to_owned()
                    }
                    error => error.to_string(),
                },
            })?;
        Reader { file }.specification(written)
    }

    /// Compares every latency threshold with the buckets there are. `bounds` knows the upper bounds of a
    /// histogram by the name of its `_bucket` series; a threshold of one that it does not know passes.
    ///
    /// # Errors
    /// When a threshold is not the bound of a bucket: its query would find nothing, for ever.
    pub fn check_thresholds<'a>(
        &self,
        bounds: impl Fn(&str) -> Option<&'a [f64]>,
    ) -> Result<(), Error> {
        for query in self.slos.iter().flat_map(Slo::queries) {
            for threshold in query.value.thresholds() {
                let Some(bounds) = bounds(&threshold.metric) else {
                    continue;
                };
                // As text, because Prometheus compares labels as text: 1.0 is not 1.
                let bounds: Vec<_> = bounds
                    .iter()
                    .map(f64::to_string)
                    .chain(["+Inf".to_owned()])
                    .collect();
                let metric = threshold.metric;
                let problem = match threshold.value {
                    Ok(value) if bounds.contains(&value) => continue,
                    Ok(value) => Problem::NoBucket {
                        metric,
                        value,
                        bounds,
                    },
                    Err(matcher) => Problem::LooseThreshold {
                        metric,
                        matcher,
                        bounds,
                    },
                };
                return Err(Reader { file: &self.file }.fault(query.line, query.column, problem));
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    file: &'a Path,
}

impl Reader<'_> {
    fn fault(&self, line: u64, column: u64, problem: Problem) -> Error {
        Error::Invalid {
            file: self.file.into(),
            line,
            column,
            problem,
        }
    }

    fn at<T>(&self, place: &Spanned<T>, problem: Problem) -> Error {
        self.fault(place.referenced.line(), place.referenced.column(), problem)
    }

    fn no_plugin(&self, plugin: Option<&Spanned<IgnoredAny>>) -> Result<(), Error> {
        plugin.map_or(Ok(()), |plugin| Err(self.at(plugin, Problem::Plugin)))
    }

    fn specification(&self, written: written::Specification) -> Result<Specification, Error> {
        if written.version.value != "prometheus/v1" {
            return Err(self.at(
                &written.version,
                Problem::Version(written.version.value.clone()),
            ));
        }
        self.no_plugin(written.slo_plugins.as_ref())?;
        let service = self.name(&written.service)?;
        let labels = self.labels(written.labels.as_ref())?;
        if written.slos.value.is_empty() {
            return Err(self.at(&written.slos, Problem::NoSlo));
        }
        let mut names = HashSet::new();
        let mut slos = Vec::new();
        for slo in written.slos.value {
            if !names.insert(slo.name.value.clone()) {
                return Err(self.at(&slo.name, Problem::Twice(slo.name.value.clone())));
            }
            slos.push(self.slo(&service, &labels, slo)?);
        }
        Ok(Specification {
            file: self.file.into(),
            slos,
        })
    }

    fn slo(&self, service: &str, labels: &Labels, written: written::Slo) -> Result<Slo, Error> {
        self.no_plugin(written.plugins.as_ref())?;
        let name = self.name(&written.name)?;
        let objective = written.objective.value;
        // At 100 nothing may fail, and a budget of less than the twelfth digit is rounded to that.
        if !(objective > 0.0 && objective < 100.0 && ratio(100.0 - objective) > 0.0) {
            return Err(self.at(&written.objective, Problem::Objective(objective)));
        }
        let slo = Slo {
            id: format!("{service}-{name}"),
            service: service.to_owned(),
            objective,
            labels: merge(labels, self.labels(written.labels.as_ref())?),
            sli: self.sli(&written.sli)?,
            alerts: self.alerts(&written)?,
            name,
        };
        for alert in &slo.alerts {
            let factor = alert.severity.quick.factor.max(alert.severity.slow.factor);
            // A ratio is at most 1, and an alert fires above its threshold.
            if round(factor * slo.budget(), 9) >= 1.0 {
                let percent = |ratio: f64| round(ratio * 100.0, 9);
                let problem = Problem::CannotFire {
                    objective,
                    budget: percent(slo.budget()),
                    factor,
                    ratio: percent(factor * slo.budget()),
                    severity: alert.severity.name,
                    least: (10_000.0 * (1.0 - 1.0 / factor)).ceil() / 100.0,
                };
                return Err(self.at(&written.objective, problem));
            }
        }
        Ok(slo)
    }

    fn name(&self, name: &Spanned<String>) -> Result<String, Error> {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let text = &name.value;
        if text.chars().all(inside) && end(text.chars().next()) && end(text.chars().next_back()) {
            Ok(text.clone())
        } else {
            Err(self.at(name, Problem::Name(text.clone())))
        }
    }

    fn labels(&self, labels: Option<&Spanned<Labels>>) -> Result<Labels, Error> {
        let Some(labels) = labels else {
            return Ok(Labels::new());
        };
        let is_label = |name: &str| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
                && !name.starts_with("__")
                && !name.starts_with("sloth_")
        };
        match labels.value.keys().find(|name| !is_label(name)) {
            Some(name) => Err(self.at(labels, Problem::Label(name.clone()))),
            None => Ok(labels.value.clone()),
        }
    }

    fn sli(&self, written: &Spanned<written::Sli>) -> Result<Sli, Error> {
        self.no_plugin(written.value.plugin.as_ref())?;
        match (&written.value.events, &written.value.raw) {
            (Some(events), None) => {
                let error = self.query(&events.error_query)?;
                let total = self.query(&events.total_query)?;
                if events.error_query.value.trim() == events.total_query.value.trim() {
                    return Err(self.at(&events.error_query, Problem::SameQueries));
                }
                Ok(Sli::Events { error, total })
            }
            (None, Some(raw)) => Ok(Sli::Raw(self.query(&raw.error_ratio_query)?)),
            _ => Err(self.at(written, Problem::OneSli)),
        }
    }

    fn query(&self, written: &Spanned<String>) -> Result<Placed<Query>, Error> {
        Ok(Placed {
            value: Query::new(&written.value).map_err(|problem| self.at(written, problem))?,
            line: written.referenced.line(),
            column: written.referenced.column(),
        })
    }

    fn alerts(&self, slo: &written::Slo) -> Result<Vec<Alert>, Error> {
        let nothing = written::Alerting::default();
        let alerting = slo.alerting.as_ref().unwrap_or(&nothing);
        let mut alerts = Vec::new();
        for (severity, alert) in [
            (&PAGE, &alerting.page_alert),
            (&TICKET, &alerting.ticket_alert),
        ] {
            if alert.disable {
                continue;
            }
            let Some(name) = alerting.name.clone().filter(|name| !name.is_empty()) else {
                return Err(self.at(&slo.name, Problem::NoAlertName));
            };
            let labels = merge(
                &self.labels(alerting.labels.as_ref())?,
                self.labels(alert.labels.as_ref())?,
            );
            let annotations = merge(
                &self.labels(alerting.annotations.as_ref())?,
                self.labels(alert.annotations.as_ref())?,
            );
            alerts.push(Alert {
                severity,
                name,
                labels,
                annotations,
            });
        }
        Ok(alerts)
    }
}

/// `more` on top of `labels`.
pub(crate) fn merge(labels: &Labels, more: Labels) -> Labels {
    let mut merged = labels.clone();
    merged.extend(more);
    merged
}

/// The file as it is written. Keys that Sloth has and this program does not are named here, so that they are
/// refused with their own reason.
mod written {
    use serde::{Deserialize, de::IgnoredAny};
    use serde_saphyr::Spanned;

    use super::Labels;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Specification {
        pub(super) version: Spanned<String>,
        pub(super) service: Spanned<String>,
        pub(super) labels: Option<Spanned<Labels>>,
        pub(super) slo_plugins: Option<Spanned<IgnoredAny>>,
        pub(super) slos: Spanned<Vec<Slo>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Slo {
        pub(super) name: Spanned<String>,
        pub(super) objective: Spanned<f64>,
        /// For people; Sloth does not render it either.
        #[serde(rename = "description")]
        pub(super) _description: Option<String>,
        pub(super) plugins: Option<Spanned<IgnoredAny>>,
        pub(super) labels: Option<Spanned<Labels>>,
        pub(super) sli: Spanned<Sli>,
        pub(super) alerting: Option<Alerting>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Sli {
        pub(super) events: Option<Events>,
        pub(super) raw: Option<Raw>,
        pub(super) plugin: Option<Spanned<IgnoredAny>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Events {
        pub(super) error_query: Spanned<String>,
        pub(super) total_query: Spanned<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Raw {
        pub(super) error_ratio_query: Spanned<String>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Alerting {
        pub(super) name: Option<String>,
        pub(super) labels: Option<Spanned<Labels>>,
        pub(super) annotations: Option<Spanned<Labels>>,
        #[serde(default)]
        pub(super) page_alert: Alert,
        #[serde(default)]
        pub(super) ticket_alert: Alert,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Alert {
        #[serde(default)]
        pub(super) disable: bool,
        pub(super) labels: Option<Spanned<Labels>>,
        pub(super) annotations: Option<Spanned<Labels>>,
    }
}
