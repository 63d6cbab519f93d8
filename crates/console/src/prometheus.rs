//! What Prometheus says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::backend::{Backend, Trouble};

/// Prometheus of this stack.
#[derive(Debug, Clone)]
pub(crate) struct Prometheus(pub(crate) Backend);

/// Labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// A series and its value at one time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// A series over a stretch of time: seconds since the epoch, and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) points: Vec<(f64, f64)>,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) firing: bool,
    /// When its expression began to hold, RFC 3339.
    pub(crate) active_at: String,
    pub(crate) value: String,
}

impl Alert {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Prometheus {
    pub(crate) fn new(http: &reqwest::Client, base: Option<&str>) -> Self {
        Self(Backend::new("Prometheus", http, base))
    }

    /// An instant query, evaluated now or at a time in seconds since the epoch. A scalar is one series without labels.
    pub(crate) async fn instant(
        &self,
        query: &str,
        at: Option<f64>,
    ) -> Result<Vec<Sample>, Trouble> {
        let at = at.map(|at| at.to_string());
        let mut parameters = vec![("query", query)];
        parameters.extend(at.as_deref().map(|at| ("time", at)));
        let answer = self.0.get("/api/v1/query", &parameters).await?;
        let data = &answer["data"];
        if data["resultType"] == "scalar" {
            let value = number(&data["result"][1]);
            let sample = value.map(|value| Sample {
                labels: Labels::new(),
                value,
            });
            return Ok(sample.into_iter().collect());
        }
        let series = list(&data["result"]).iter().filter_map(|series| {
            Some(Sample {
                labels: labels(&series["metric"]),
                value: number(&series["value"][1])?,
            })
        });
        Ok(series.collect())
    }

    /// A range query; times are seconds since the epoch.
    pub(crate) async fn range(
        &self,
        query: &str,
        start: f64,
        end: f64,
        step: f64,
    ) -> Result<Vec<Series>, Trouble> {
        let [start, end, step] = [start, end, step].map(|it| it.to_string());
        let parameters = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", &step),
        ];
        let answer = self.0.get("/api/v1/query_range", &parameters).await?;
        let series = list(&answer["data"]["result"]).iter().map(|series| Series {
            labels: labels(&series["metric"]),
            points: list(&series["values"])
                .iter()
                .filter_map(|point| Some((point[0].as_f64()?, number(&point[1])?)))
                .collect(),
        });
        Ok(series.collect())
    }

    /// Alerts that are pending or firing.
    pub(crate) async fn alerts(&self) -> Result<Vec<Alert>, Trouble> {
        let answer = self.0.get("/api/v1/alerts", &[]).await?;
        let alerts = list(&answer["data"]["alerts"]).iter().map(|alert| Alert {
            labels: labels(&alert["labels"]),
            annotations: labels(&alert["annotations"]),
            firing: alert["state"] == "firing",
            active_at: alert["activeAt"].as_str().unwrap_or_default().to_owned(),
            value: alert["value"].as_str().unwrap_or_default().to_owned(),
        });
        Ok(alerts.collect())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Prometheus writes numbers as text, so that there can be `NaN` and `+Inf`, which Rust reads too.
fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

fn labels(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap_or_default()
}
