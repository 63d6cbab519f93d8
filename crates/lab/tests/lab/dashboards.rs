//! What `lab verify` does not look at on the data of a running lab: whether the names in legends tell series apart, and whether the
//! ways that `grafana/datasources` sets between metrics, spans and log lines lead to something.

use std::collections::BTreeSet;

use dashboards::{
    Facts,
    model::{Dashboard, Query, Target},
    query::{self, Context, POINTS, Request},
    quiet,
};
use serde_json::{Value, json};

use crate::{
    running::{TestLab, eventually, project},
    viewer::{boards, named},
};

/// Labels that pods have: a legend that names them as well as control groups shows what there is.
const OF_PODS: [&str; 3] = ["namespace", "pod", "container"];

pub fn assert_legends_tell_series_apart(lab: &TestLab) {
    let asker = Asker::new(lab);
    let mut named_series = 0;
    for board in boards() {
        for panel in board.panels() {
            for target in &panel.targets {
                let Query::Prometheus(asked) = &target.query else {
                    continue;
                };
                let labels: Vec<&str> = labels_in(&asked.legend_format).collect();
                if labels.is_empty() {
                    continue;
                }
                let what = format!("{}, {} {}", board.uid, panel.title, target.ref_id);
                let may_be_empty = quiet::find(&board.uid, &panel.title, &target.ref_id).is_some();
                let mut series = Vec::new();
                eventually(&format!("{what} returns data"), || {
                    series = list(&asker.ask(target, &asker.opened(&board))["data"]["result"]);
                    may_be_empty || !series.is_empty()
                });
                let mut names = BTreeSet::new();
                for it in &series {
                    let it = &it["metric"];
                    for label in &labels {
                        let there = it[label].is_string() || OF_PODS.contains(label);
                        assert!(there, "{what}: no {label} in {it}");
                    }
                    let name = named(&asked.legend_format, it);
                    assert!(names.insert(name.clone()), "{what}: two are called {name}");
                }
                named_series += names.len();
            }
        }
    }
    assert!(named_series > 100, "only {named_series} series have names");
}

/// From a point of a graph to its trace, from each span to its lines and metrics, and from each line back; the same from a
/// trace in which something failed.
pub fn assert_ways_lead_to_each_other(lab: &TestLab, failed: &str) {
    let asker = Asker::new(lab);
    let trace = asker.trace_of_an_exemplar();
    for id in [&trace, failed] {
        let trace = asker.trace(id);
        let spans = list(&trace["spans"]);
        let mut walked = 0;
        for span in &spans {
            let span = Span::new(span, &trace["processes"][text(&span["processID"])]);
            asker.to_metrics(&span);
            // What serves a request says so in a line.
            if span.kind() == "server" {
                asker.to_lines_and_back(id, &span);
                walked += 1;
            }
        }
        assert!(walked > 0, "no span of {id} leads to a line: {spans:#?}");
    }
}

/// The labels that `{{...}}` in a legend names.
fn labels_in(format: &str) -> impl Iterator<Item = &str> {
    let parts = format.split("{{").skip(1);
    parts.map(|part| part.split_once("}}").expect("a legend is complete").0)
}

/// A span with what its process is.
struct Span<'a> {
    span: &'a Value,
    process: &'a Value,
}

impl<'a> Span<'a> {
    fn new(span: &'a Value, process: &'a Value) -> Self {
        Self { span, process }
    }

    fn tag(&self, key: &str) -> Option<String> {
        let mut tags = list(&self.span["tags"]);
        tags.extend(list(&self.process["tags"]));
        let tag = tags.into_iter().find(|it| it["key"] == key)?;
        Some(text(&tag["value"]).to_owned())
    }

    fn kind(&self) -> String {
        self.tag("span.kind").unwrap()
    }

    fn failed(&self) -> bool {
        self.tag("otel.status_code").as_deref() == Some("ERROR")
            || list(&self.span["tags"])
                .iter()
                .any(|it| it["key"] == "error" && it["value"] == true)
    }

    /// What Grafana puts in the place of `__tags`: those that the span has, under the names that the other source knows.
    fn tags(&self, way: &Value, written: impl Fn(&str, &str) -> String) -> Vec<String> {
        let tags = list(&way["tags"]).into_iter();
        tags.filter_map(|it| Some(written(text(&it["value"]), &self.tag(text(&it["key"]))?)))
            .collect()
    }

    /// Begin and end of what is looked at beside it, in milliseconds since 1970.
    fn around(&self, way: &Value) -> (i64, i64) {
        let start = self.span["startTime"].as_i64().unwrap() / 1000;
        let end = start + self.span["duration"].as_i64().unwrap() / 1000;
        let shift = |name: &str| {
            let shift = text(&way[name]);
            let length = query::duration(shift.trim_start_matches('-')).unwrap();
            let length = i64::try_from(length.as_millis()).unwrap();
            if shift.starts_with('-') {
                -length
            } else {
                length
            }
        };
        (
            start + shift("spanStartTimeShift"),
            end + shift("spanEndTimeShift"),
        )
    }
}

/// Whoever asks what Grafana would ask.
struct Asker<'a> {
    lab: &'a TestLab,
    facts: Facts,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Asker<'a> {
    fn new(lab: &'a TestLab) -> Self {
        Self {
            lab,
            facts: Facts::read(project()).unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// The JSON that a component answers; nothing while it answers none.
    fn get(
        &self,
        component: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Value {
        let url = format!(
            "http://127.0.0.1:{}{path}",
            self.lab.port(component, "http")
        );
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let answer = async { request.query(query).send().await?.json().await };
        self.runtime.block_on(answer).unwrap_or_default()
    }

    fn opened(&self, board: &Dashboard) -> Context {
        let now = jiff::Timestamp::now().as_millisecond();
        Context::opening(board, now, POINTS, self.facts.scrape_interval()).unwrap()
    }

    fn between(&self, (from, to): (i64, i64)) -> Context {
        Context::new(from, to, POINTS, self.facts.scrape_interval())
    }

    fn ask(&self, target: &Target, context: &Context) -> Value {
        match query::request(target, context).unwrap() {
            Request::PrometheusInstant { expr, at } => {
                let query = [("query", &*expr), ("time", &at.to_string())];
                self.get("prometheus", "/api/v1/query", &query, None)
            }
            Request::PrometheusRange {
                expr,
                start,
                end,
                step,
                ..
            } => {
                let [start, end, step] = [start, end, step].map(|it| it.to_string());
                let query = [
                    ("query", &*expr),
                    ("start", &start),
                    ("end", &end),
                    ("step", &step),
                ];
                self.get("prometheus", "/api/v1/query_range", &query, None)
            }
            Request::ElasticsearchSearch { body } => {
                let path = format!("/{}/_search", text(&source("elasticsearch")["index"]));
                self.get("elasticsearch", &path, &[], Some(&body))
            }
            Request::JaegerSearch { .. } => unreachable!("no way leads to a search of traces"),
        }
    }

    /// The trace that a point in one of our graphs leads to, by the label that the data source names.
    fn trace_of_an_exemplar(&self) -> String {
        let destination = &source("prometheus")["exemplarTraceIdDestinations"][0];
        assert_eq!(destination["datasourceUid"], "jaeger");
        let mut trace = None;
        eventually("a point leads to a trace", || {
            for board in boards() {
                let context = self.opened(&board);
                for target in board.panels().flat_map(|it| &it.targets) {
                    let request = query::request(target, &context).unwrap();
                    let Request::PrometheusRange {
                        expr,
                        start,
                        end,
                        exemplars: true,
                        ..
                    } = request
                    else {
                        continue;
                    };
                    let [start, end] = [start, end].map(|it| it.to_string());
                    let query = [("query", &*expr), ("start", &start), ("end", &end)];
                    let answer = self.get("prometheus", "/api/v1/query_exemplars", &query, None);
                    let series = list(&answer["data"]);
                    let mut exemplars = series.iter().flat_map(|it| list(&it["exemplars"]));
                    trace = exemplars.find_map(|it| {
                        let id = &it["labels"][text(&destination["name"])];
                        id.as_str().map(str::to_owned)
                    });
                }
            }
            trace.is_some()
        });
        trace.unwrap()
    }

    /// The trace, with the span that serves the request.
    fn trace(&self, id: &str) -> Value {
        let mut trace = Value::Null;
        eventually(&format!("Jaeger has {id}"), || {
            // Jaeger answers no `data` at all while it has no such trace; only reading past that is safe.
            let answer = self.get("jaeger", &format!("/api/traces/{id}"), &[], None);
            trace = answer["data"][0].clone();
            // Spans of one service may come in two batches.
            list(&trace["spans"]).iter().any(|span| {
                let span = Span::new(span, &trace["processes"][text(&span["processID"])]);
                span.process["serviceName"] == "flask-api"
                    && span.tag("span.kind").as_deref() == Some("server")
            })
        });
        trace
    }

    /// Rate, errors and duration of all spans that are like it: among them those of its own service and kind.
    fn to_metrics(&self, span: &Span<'_>) {
        let way = &source("jaeger")["tracesToMetrics"];
        assert_eq!(way["datasourceUid"], "prometheus");
        let tags = span.tags(way, |label, value| format!("{label}={}", json!(value)));
        let queries = list(&way["queries"]);
        assert!(!queries.is_empty());
        for query in queries {
            // Nothing like it need have failed when it has not.
            if query["name"] == "Errors" && !span.failed() {
                continue;
            }
            let expr = text(&query["query"])
                .replace("${__span.name}", text(&span.span["operationName"]))
                .replace("$__tags", &tags.join(", "));
            assert!(!expr.contains('$'), "{expr}");
            let target = target(
                &json!({ "expr": expr, "legendFormat": "", "range": true }),
                "prometheus",
            );
            eventually(&format!("{} of it: {expr}", query["name"]), || {
                let answer = self.ask(&target, &self.between(span.around(way)));
                let own = list(&answer["data"]["result"]).into_iter().find(|it| {
                    let kind = format!("SPAN_KIND_{}", span.kind().to_uppercase());
                    it["metric"]["service_name"] == span.process["serviceName"]
                        && it["metric"]["span_kind"] == *kind
                });
                let values = own.map(|it| list(&it["values"])).unwrap_or_default();
                let mut values = values.iter().map(|it| text(&it[1]).parse::<f64>().unwrap());
                // The first error of its kind has no rate yet; that there is one shows that it was found.
                values.any(|it| it > 0.0 || (it == 0.0 && query["name"] == "Errors"))
            });
        }
    }

    /// What the span's process said of the request; each line leads to the trace that it came from.
    fn to_lines_and_back(&self, trace: &str, span: &Span<'_>) {
        let way = &source("jaeger")["tracesToLogsV2"];
        assert_eq!(way["datasourceUid"], "elasticsearch");
        let tags = span.tags(way, |field, value| format!("{field}:{}", json!(value)));
        let query = text(&way["query"])
            .replace("${__trace.traceId}", trace)
            .replace("${__tags}", &tags.join(" AND "));
        assert!(!query.contains('$'), "{query}");
        let data = source("elasticsearch");
        let target = target(
            &json!({ "query": query, "timeField": data["timeField"], "metrics": [{ "id": "1", "type": "logs" }] }),
            "elasticsearch",
        );
        let mut lines = Vec::new();
        eventually(&format!("a line of {query}"), || {
            let answer = self.ask(&target, &self.between(span.around(way)));
            lines = list(&answer["hits"]["hits"]);
            !lines.is_empty()
        });
        let back = &data["dataLinks"][0];
        assert_eq!(back["datasourceUid"], "jaeger");
        for line in lines {
            let line = &line["_source"];
            assert_eq!(line["service.name"], span.process["serviceName"], "{query}");
            let id =
                text(&back["url"]).replace("${__value.raw}", text(&line[text(&back["field"])]));
            assert_eq!(id, trace, "{line:#}");
            // A line arrives when it is written, a span after it has ended.
            eventually(&format!("its trace has the span of {line:#}"), || {
                let answer = self.get("jaeger", &format!("/api/traces/{id}"), &[], None);
                let spans = list(&answer["data"][0]["spans"]);
                spans.iter().any(|it| it["spanID"] == line["span.id"])
            });
        }
    }
}

/// A query of a panel that is not in any file.
fn target(query: &Value, kind: &str) -> Target {
    let mut target = json!({ "refId": "A", "datasource": { "type": kind, "uid": kind } });
    let fields = query.as_object().unwrap().clone();
    target.as_object_mut().unwrap().extend(fields);
    serde_json::from_value(target).unwrap()
}

/// What a data source's file sets, as Grafana reads it: `$$` is a dollar.
fn source(uid: &str) -> Value {
    let file = project().join("grafana/datasources").join(uid);
    let content = std::fs::read_to_string(file.with_extension("yaml")).unwrap();
    let mut content: Value = serde_saphyr::from_str(&content.replace("$$", "$")).unwrap();
    content["datasources"][0]["jsonData"].take()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
