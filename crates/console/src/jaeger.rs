//! What Jaeger says.

use std::collections::BTreeSet;

use plots::Span;
use serde_json::Value;

use crate::backend::{Backend, Trouble};

/// A trace, by its spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its id, as Jaeger writes it.
    pub id: String,
    /// All of it that has arrived.
    pub spans: Vec<Span>,
}

/// 32 hexadecimal digits, not all of them 0 (W3C Trace Context, section 3.2.2.3).
///
/// # Errors
/// When it is not; the text says what one looks like.
pub fn trace_id(text: &str) -> Result<String, String> {
    let id = text.trim().to_ascii_lowercase();
    let hex = id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit());
    if hex && id.bytes().any(|it| it != b'0') {
        return Ok(id);
    }
    let shown: String = text.chars().take(60).collect();
    Err(format!(
        "{shown} is not a trace id: 32 hexadecimal digits, as in the trace_id of an error and the trace.id of a log line"
    ))
}

/// Where a trace is shown.
pub(crate) fn page(id: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("/explore/trace/{id}")
}

impl Trace {
    /// The span that is nobody's part, or the earliest.
    #[must_use]
    pub fn root(&self) -> Option<&Span> {
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by(|one, other| {
            let key = |it: &Span| it.parent.is_some();
            key(one)
                .cmp(&key(other))
                .then(one.start.total_cmp(&other.start))
        });
        spans.first().copied()
    }

    /// When it began, in seconds since 1970.
    pub(crate) fn start(&self) -> f64 {
        self.spans
            .iter()
            .map(|it| it.start)
            .fold(f64::INFINITY, f64::min)
    }

    /// Seconds from its beginning to its end.
    #[must_use]
    pub fn duration(&self) -> f64 {
        let end = self.spans.iter().map(|it| it.start + it.duration);
        (end.fold(f64::NEG_INFINITY, f64::max) - self.start()).max(0.0)
    }

    /// Who took part.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|it| it.service.as_str()).collect()
    }

    pub(crate) fn failed(&self) -> bool {
        self.spans.iter().any(|it| it.failed)
    }
}

/// One trace; `None` when Jaeger has none of that id.
pub(crate) async fn trace(jaeger: &Backend, id: &str) -> Result<Option<Trace>, Trouble> {
    match jaeger.get(&format!("/api/traces/{id}"), &[]).await {
        Ok(answer) => Ok(read(&answer).into_iter().find(|it| !it.spans.is_empty())),
        Err(Trouble::Refused { why, .. }) if why.contains("not found") => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// The traces that a search finds, the newest first.
pub(crate) async fn search(
    jaeger: &Backend,
    parameters: &[(&str, &str)],
) -> Result<Vec<Trace>, Trouble> {
    let mut traces = read(&jaeger.get("/api/traces", parameters).await?);
    traces.retain(|it| !it.spans.is_empty());
    traces.sort_by(|one, other| other.start().total_cmp(&one.start()));
    Ok(traces)
}

/// The traces of an answer of Jaeger's, [`/api/traces`](https://www.jaegertracing.io/docs/2.13/architecture/apis/).
#[must_use]
pub fn read(answer: &Value) -> Vec<Trace> {
    let traces = list(&answer["data"]).iter().map(|trace| Trace {
        id: text(&trace["traceID"]),
        spans: list(&trace["spans"])
            .iter()
            .map(|it| span(it, &trace["processes"]))
            .collect(),
    });
    traces.collect()
}

fn span(span: &Value, processes: &Value) -> Span {
    /// Jaeger counts microseconds.
    const MICRO: f64 = 1e6;
    let process = &processes[span["processID"].as_str().unwrap_or_default()];
    let tags = |of: &Value| -> Vec<(String, String)> {
        let tags = list(of)
            .iter()
            .map(|tag| (text(&tag["key"]), text(&tag["value"])));
        tags.collect()
    };
    let mut attributes = tags(&span["tags"]);
    attributes.sort();
    let failed = attributes
        .iter()
        .any(|(name, value)| name == "error" && value == "true");
    let resource = tags(&process["tags"]).into_iter();
    attributes.extend(resource.map(|(name, value)| (format!("resource {name}"), value)));
    let events = list(&span["logs"]).iter().map(|log| {
        let fields = tags(&log["fields"]).into_iter();
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (
            log["timestamp"].as_f64().unwrap_or(0.0) / MICRO,
            fields.join(" "),
        )
    });
    let parent = list(&span["references"])
        .iter()
        .find(|it| it["refType"] == "CHILD_OF");
    Span {
        id: text(&span["spanID"]),
        parent: parent.map(|it| text(&it["spanID"])),
        service: text(&process["serviceName"]),
        operation: text(&span["operationName"]),
        start: span["startTime"].as_f64().unwrap_or(0.0) / MICRO,
        duration: span["duration"].as_f64().unwrap_or(0.0) / MICRO,
        failed,
        attributes,
        events: events.collect(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_of_traces_are_told_from_others() {
        let id = "5e0c0d5c7a0b4e0f9a3f5d2b1c4e6f70";
        assert_eq!(trace_id(&format!(" {} ", id.to_uppercase())).unwrap(), id);
        for wrong in ["", "5e0c", &"0".repeat(32), &"g".repeat(32), "../../admin"] {
            assert!(trace_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trace_is_read_as_jaeger_writes_it() {
        let answer = json!({ "data": [{
            "traceID": "abc",
            "spans": [
                {
                    "spanID": "2", "processID": "p2", "operationName": "POST /pay", "startTime": 1_500_000, "duration": 250_000,
                    "references": [{"refType": "CHILD_OF", "spanID": "1"}],
                    "tags": [{"key": "error", "type": "bool", "value": true}],
                    "logs": [{"timestamp": 1_600_000, "fields": [{"key": "event", "value": "retry"}]}],
                },
                {
                    "spanID": "1", "processID": "p1", "operationName": "POST /api/orders", "startTime": 1_000_000, "duration": 2_000_000,
                    "references": [], "tags": [{"key": "http.route", "value": "/api/orders"}],
                },
            ],
            "processes": {"p1": {"serviceName": "flask-api"}, "p2": {"serviceName": "payments", "tags": [{"key": "host.name", "value": "h"}]}},
        }]});
        let traces = read(&answer);
        let [trace] = &traces[..] else {
            panic!("{traces:?}")
        };
        assert_eq!((trace.start(), trace.duration()), (1.0, 2.0));
        assert!(trace.failed());
        assert_eq!(trace.root().unwrap().operation, "POST /api/orders");
        assert_eq!(trace.spans[0].parent.as_deref(), Some("1"));
        assert_eq!(trace.spans[0].events, [(1.6, "event=retry".to_owned())]);
        let host = ("resource host.name".to_owned(), "h".to_owned());
        assert!(trace.spans[0].attributes.contains(&host));
    }

    #[test]
    fn an_answer_of_another_form_is_no_trace() {
        for answer in [
            json!({}),
            json!({"data": null}),
            json!([]),
            json!({"data": [{}]}),
        ] {
            assert!(read(&answer).iter().all(|it| it.spans.is_empty()));
        }
    }
}
