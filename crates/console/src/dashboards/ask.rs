//! Asking for what a panel shows: all of its queries, and as many panels at a time as the back ends like.

use std::collections::BTreeMap;

use dashboards::{
    model::{Annotation, DataSourceKind, Query, Target, Variable, VariableKind},
    query::{self, Context, Request},
};
use serde_json::Value;

use crate::{
    Console,
    backend::Trouble,
    elasticsearch::{self, Found},
    jaeger::{self, Trace},
    prometheus::{Labels, Sample, Series},
};

/// Values of a variable that are offered.
const MOST_VALUES: usize = 300;

/// Links to traces in one picture.
const MOST_EXEMPLARS: usize = 80;

/// A query as it was sent, and what came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// As in the panel: A, B, C.
    pub(crate) ref_id: String,
    /// Whom.
    pub(crate) kind: DataSourceKind,
    /// What, for people.
    pub(crate) text: String,
    pub(crate) answer: Result<Answer, String>,
}

/// What a data source said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Courses, and measured requests among them.
    Series(Vec<Series>, Vec<Exemplar>),
    /// Values at the end of the range.
    Samples(Vec<Sample>),
    Lines(Found),
    /// Log lines by value, without times.
    Counted(Vec<Sample>),
    Traces(Vec<Trace>),
}

/// A request that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) at: f64,
    pub(crate) value: f64,
    pub(crate) trace: String,
}

/// Something that went on for a while.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) labels: Labels,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Console {
    /// Asks for one target of a panel.
    pub(crate) async fn asked(&self, target: &Target, context: &Context) -> Asked {
        let request = query::request(target, context).map_err(|error| error.to_string());
        let text = match &request {
            Ok(request) => shown(request),
            Err(_) => String::new(),
        };
        let answer = match request {
            Ok(request) => {
                let answer = self.answer(&request, target).await;
                answer.map_err(|trouble| trouble.to_string())
            }
            Err(why) => Err(why),
        };
        Asked {
            ref_id: target.ref_id.clone(),
            kind: target.datasource.kind,
            text,
            answer,
        }
    }

    async fn answer(&self, request: &Request, target: &Target) -> Result<Answer, Trouble> {
        Ok(match request {
            Request::PrometheusInstant { expr, at } => {
                Answer::Samples(self.prometheus.instant(expr, Some(*at)).await?)
            }
            Request::PrometheusRange {
                expr,
                start,
                end,
                step,
                exemplars,
            } => {
                let series = self.prometheus.range(expr, *start, *end, *step);
                let found = async {
                    match exemplars {
                        true => self.exemplars(expr, *start, *end).await,
                        false => Ok(Vec::new()),
                    }
                };
                let (series, exemplars) = futures::join!(series, found);
                // What can be clicked on is an extra: without it there is still the picture.
                Answer::Series(series?, exemplars.unwrap_or_default())
            }
            Request::ElasticsearchSearch { body } => {
                let answer = elasticsearch::ask(&self.elasticsearch, body).await?;
                match answer.get("aggregations") {
                    None => Answer::Lines(elasticsearch::lines(&answer)),
                    Some(buckets) => counted(buckets, target),
                }
            }
            Request::JaegerSearch { parameters } => {
                let parameters: Vec<(&str, &str)> = parameters
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                Answer::Traces(jaeger::search(&self.jaeger, &parameters).await?)
            }
        })
    }

    async fn exemplars(&self, expr: &str, start: f64, end: f64) -> Result<Vec<Exemplar>, Trouble> {
        let [start, end] = [start, end].map(|it| it.to_string());
        let parameters = [
            ("query", expr),
            ("start", start.as_str()),
            ("end", end.as_str()),
        ];
        let answer = self
            .prometheus
            .0
            .get("/api/v1/query_exemplars", &parameters)
            .await?;
        Ok(exemplars(&answer["data"]))
    }

    /// What an annotation marks.
    pub(crate) async fn events(
        &self,
        annotation: &Annotation,
        context: &Context,
    ) -> Result<Vec<Event>, String> {
        let request =
            query::annotation(&annotation.target, context).map_err(|it| it.to_string())?;
        let Request::PrometheusRange {
            expr,
            start,
            end,
            step,
            ..
        } = request
        else {
            return Ok(Vec::new());
        };
        let series = self.prometheus.range(&expr, start, end, step).await;
        Ok(events(&series.map_err(|it| it.to_string())?, step))
    }

    /// The values that can be chosen of a variable, and what is chosen.
    pub(crate) async fn values(
        &self,
        variable: &Variable,
        context: &Context,
    ) -> Result<Vec<String>, String> {
        if variable.kind == VariableKind::Datasource {
            return Ok(vec![variable.query().to_owned()]);
        }
        let (selector, label) =
            query::label_values(variable, context).map_err(|error| error.to_string())?;
        let [start, end] = [context.from_ms, context.to_ms].map(|it| (it / 1000).to_string());
        let parameters = [
            ("match[]", selector.as_str()),
            ("start", &start),
            ("end", &end),
        ];
        let path = format!("/api/v1/label/{label}/values");
        let answer = self.prometheus.0.get(&path, &parameters).await;
        let answer = answer.map_err(|trouble| trouble.to_string())?;
        let values = answer["data"].as_array().into_iter().flatten();
        let values = values.filter_map(Value::as_str).filter(|it| !it.is_empty());
        let mut values: Vec<String> = values.take(MOST_VALUES).map(str::to_owned).collect();
        values.sort();
        Ok(values)
    }
}

fn shown(request: &Request) -> String {
    match request {
        Request::PrometheusInstant { expr, .. } | Request::PrometheusRange { expr, .. } => {
            expr.clone()
        }
        Request::ElasticsearchSearch { body } => {
            serde_json::to_string_pretty(body).unwrap_or_else(|_| body.to_string())
        }
        Request::JaegerSearch { parameters } => {
            let words = parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            words.collect::<Vec<_>>().join("\n")
        }
    }
}

/// The newest of each series first, so that no busy one hides the others.
fn exemplars(data: &Value) -> Vec<Exemplar> {
    let one = |it: &Value| {
        let labels = &it["labels"];
        let trace = ["trace_id", "traceID", "trace.id"]
            .iter()
            .find_map(|name| labels[*name].as_str());
        Some(Exemplar {
            at: it["timestamp"].as_f64()?,
            value: it["value"].as_str()?.parse().ok()?,
            trace: trace?.to_owned(),
        })
    };
    let series = data.as_array().into_iter().flatten();
    let mut ranked: Vec<(usize, Exemplar)> = series
        .flat_map(|series| {
            let list = series["exemplars"].as_array().into_iter().flatten();
            let mut list: Vec<Exemplar> = list.filter_map(one).collect();
            list.sort_by(|one, other| other.at.total_cmp(&one.at));
            list.into_iter().enumerate().collect::<Vec<_>>()
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.dedup_by(|one, other| one.1.trace == other.1.trace && one.1.at == other.1.at);
    ranked
        .into_iter()
        .map(|(_, it)| it)
        .take(MOST_EXEMPLARS)
        .collect()
}

/// Stretches of time without a hole.
fn events(series: &[Series], step: f64) -> Vec<Event> {
    let mut events = Vec::new();
    for series in series {
        let mut open: Option<Event> = None;
        for &(at, _) in &series.points {
            match &mut open {
                Some(event) if at - event.to <= step * 1.5 => event.to = at,
                _ => events.extend(open.replace(Event {
                    labels: series.labels.clone(),
                    from: at,
                    to: at,
                })),
            }
        }
        events.extend(open);
    }
    events.sort_by(|one, other| one.from.total_cmp(&other.from));
    events
}

/// Log lines by value, and by time within each.
fn counted(aggregations: &Value, target: &Target) -> Answer {
    let Query::Elasticsearch(query) = &target.query else {
        return Answer::Counted(Vec::new());
    };
    let mut leaves = Vec::new();
    let fields: Vec<(&str, &str)> = query
        .bucket_aggs
        .iter()
        .map(|it| (it.id.as_str(), it.field.as_str()))
        .collect();
    walk(aggregations, &fields, &Labels::new(), &mut leaves);
    if !leaves.iter().any(|(_, at, _)| at.is_some()) {
        let samples = leaves
            .into_iter()
            .map(|(labels, _, value)| Sample { labels, value });
        return Answer::Counted(samples.collect());
    }
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, at, value) in leaves {
        series
            .entry(labels)
            .or_default()
            .extend(at.map(|at| (at, value)));
    }
    let series = series
        .into_iter()
        .map(|(labels, points)| Series { labels, points });
    Answer::Series(series.collect(), Vec::new())
}

/// A count with the values it is of, and its time where it has one.
type Leaf = (Labels, Option<f64>, f64);

fn walk(level: &Value, fields: &[(&str, &str)], labels: &Labels, leaves: &mut Vec<Leaf>) {
    let Some(((id, field), rest)) = fields.split_first() else {
        return;
    };
    for bucket in level[*id]["buckets"].as_array().into_iter().flatten() {
        let count = bucket["doc_count"].as_f64().unwrap_or(0.0);
        let mut labels = labels.clone();
        // Only a bucket of time has a number for its key and the same in `key_as_string`.
        let time = bucket["key"].as_f64().filter(|_| *field == "@timestamp");
        if let Some(time) = time {
            leaves.push((labels, Some(time / 1000.0), count));
            continue;
        }
        let key = &bucket["key"];
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        labels.insert((*field).to_owned(), key);
        if rest.is_empty() {
            leaves.push((labels, None, count));
        } else {
            walk(bucket, rest, &labels, leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn what_follows_closely_is_one_event() {
        let series = [Series {
            labels: labels(&[("alertname", "A")]),
            points: [10.0, 15.0, 20.0, 60.0].map(|at| (at, 1.0)).into(),
        }];
        let found: Vec<(f64, f64)> = events(&series, 5.0)
            .iter()
            .map(|it| (it.from, it.to))
            .collect();
        assert_eq!(found, [(10.0, 20.0), (60.0, 60.0)]);
        assert!(events(&[], 5.0).is_empty());
    }

    #[test]
    fn log_lines_are_counted_by_value_and_time() {
        let target: Target = serde_json::from_value(json!({
            "refId": "A", "datasource": {"type": "elasticsearch", "uid": "x"}, "query": "", "timeField": "@timestamp",
            "metrics": [{"id": "1", "type": "count"}],
            "bucketAggs": [
                {"id": "2", "type": "terms", "field": "log.level"},
                {"id": "3", "type": "date_histogram", "field": "@timestamp"},
            ],
        }))
        .unwrap();
        let by_time = json!({"2": {"buckets": [{"key": "info", "doc_count": 3, "3": {"buckets": [
            {"key": 1000, "key_as_string": "1000", "doc_count": 1}, {"key": 2000, "key_as_string": "2000", "doc_count": 2},
        ]}}]}});
        let Answer::Series(series, _) = counted(&by_time, &target) else {
            panic!()
        };
        assert_eq!(series[0].labels, labels(&[("log.level", "info")]));
        assert_eq!(series[0].points, [(1.0, 1.0), (2.0, 2.0)]);
        let Answer::Counted(none) = counted(&json!({}), &target) else {
            panic!()
        };
        assert!(none.is_empty());
    }

    #[test]
    fn exemplars_are_bounded_and_no_series_hides_another() {
        let of = |n: i32| -> Vec<Value> {
            (0..n).map(|at| json!({"labels": {"trace_id": format!("{n}-{at}")}, "value": "0.1", "timestamp": at})).collect()
        };
        let data = json!([{"exemplars": of(500)}, {"exemplars": of(2)}, {"exemplars": [{"labels": {}, "value": "1", "timestamp": 1}]}]);
        let found = exemplars(&data);
        assert_eq!(found.len(), MOST_EXEMPLARS);
        assert!(
            found.iter().any(|it| it.trace == "2-1")
                && found.iter().any(|it| it.trace == "500-499")
        );
        assert!(exemplars(&json!(null)).is_empty());
    }
}
