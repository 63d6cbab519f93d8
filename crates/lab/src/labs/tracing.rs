//! Lab 5: which part of a slow request is slow.

use std::collections::BTreeMap;

use ::console::jaeger::Trace;
use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::grader::{Graded, Grader, Seen, graded};

/// Longer than any order takes that nothing slows down, in seconds.
const SLOW: f64 = 0.7;
/// How far a share may be off, in percent of the whole.
const OFF_BY: f64 = 5.0;

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "A slow order is found",
            "start the fault, then search Jaeger for traces of flask-api that took more than 700 ms",
            it.slow().await,
        ),
        graded(
            "The service that made it slow is named",
            "a span that waits for another is not slow itself: look for the span whose own time, without its children, is longest",
            it.culprit().await,
        ),
        graded(
            "Who calls whom",
            "Jaeger's page of dependencies is made of all traces; /api/dependencies says the same in JSON",
            it.dependencies().await,
        ),
    ]
}

/// Seconds that each service spent itself: what its spans take without the spans below them.
fn own_time(trace: &Trace) -> BTreeMap<&str, f64> {
    let mut times = BTreeMap::new();
    for span in &trace.spans {
        let below = trace
            .spans
            .iter()
            .filter(|it| it.parent.as_deref() == Some(&span.id));
        let below: f64 = below.map(|it| it.duration).sum();
        *times.entry(span.service.as_str()).or_insert(0.0) += (span.duration - below).max(0.0);
    }
    times
}

/// An arrow from one service to another, however it is spaced; one from a service to itself says nothing.
fn arrow(text: &str) -> Option<String> {
    let ends: Vec<_> = text.split("->").map(str::trim).collect();
    (ends.first() != ends.last()).then(|| ends.join(" -> "))
}

impl Grader<'_> {
    async fn slow_trace(&self) -> anyhow::Result<Trace> {
        let trace = self.trace(&self.answers()?.text("trace_id")?).await?;
        let root = trace.root().context("a trace has a first span")?;
        let placed = trace
            .spans
            .iter()
            .any(|span| span.service == "flask-api" && span.operation == "POST /api/orders");
        ensure!(placed, "{} is no order that was placed", root.operation);
        let took = trace.duration();
        ensure!(
            took > SLOW,
            "that one took {:.0} ms; a slow one takes more than {:.0}",
            took * 1e3,
            SLOW * 1e3
        );
        Ok(trace)
    }

    async fn slow(&self) -> Seen {
        let trace = self.slow_trace().await?;
        Ok(vec![format!(
            "trace {} took {:.0} ms, with {} spans",
            trace.id,
            trace.duration() * 1e3,
            trace.spans.len()
        )])
    }

    async fn culprit(&self) -> Seen {
        let trace = self.slow_trace().await?;
        let answers = self.answers()?;
        let times = own_time(&trace);
        let (slowest, time) = times
            .iter()
            .max_by(|one, other| one.1.total_cmp(other.1))
            .context("a trace has spans")?;
        let given = answers.text("culprit")?;
        ensure!(
            given == *slowest,
            "`culprit`: {given} spent less time itself than another service"
        );
        let share = 100.0 * time / trace.duration();
        let given = answers.number("share_percent")?;
        ensure!(
            (given - share).abs() <= OFF_BY,
            "`share_percent`: {given} is more than {OFF_BY} off"
        );
        Ok(vec![format!(
            "{slowest} spent {:.0} ms itself, {share:.0} % of the whole",
            time * 1e3
        )])
    }

    async fn dependencies(&self) -> Seen {
        let given = self.answers()?.list("calls")?;
        self.endpoints.need(&["jaeger"])?;
        let url = format!("{}/api/dependencies", self.endpoints.jaeger);
        let now = Timestamp::now().as_millisecond().to_string();
        let answer = self
            .probe
            .get(&url, &[("endTs", &now), ("lookback", "3600000")])
            .await?;
        let edges = answer["data"].as_array().into_iter().flatten();
        let edges = edges.filter_map(|edge| {
            let (parent, child) = (edge["parent"].as_str()?, edge["child"].as_str()?);
            // A service that calls itself, as some clients show it, is no dependency.
            (parent != child).then(|| (format!("{parent} -> {child}"), edge["callCount"].clone()))
        });
        let edges: BTreeMap<_, _> = edges.collect();
        ensure!(!edges.is_empty(), "Jaeger has seen nobody call anybody yet");
        let given: Vec<_> = given.iter().filter_map(|it| arrow(it)).collect();
        for edge in &given {
            ensure!(
                edges.contains_key(edge),
                "`calls`: Jaeger has not seen {edge}"
            );
        }
        ensure!(
            edges.keys().all(|edge| given.contains(edge)),
            "`calls`: there are {} in Jaeger's graph, not {}",
            edges.len(),
            given.len()
        );
        let seen = edges
            .iter()
            .map(|(edge, count)| format!("{edge}, {count} times"));
        Ok(seen.collect())
    }
}

#[cfg(test)]
mod tests {
    use ::console::jaeger;
    use serde_json::json;

    use super::*;

    #[test]
    fn arrows_lead_from_one_service_to_another() {
        assert_eq!(arrow("a->b").as_deref(), Some("a -> b"));
        assert_eq!(arrow(" a -> b ").as_deref(), Some("a -> b"));
        assert_eq!(arrow("a -> a"), None);
    }

    #[test]
    fn a_span_that_waits_has_no_time_of_its_own() {
        let span = |id: &str, parent: &str, process: &str, duration: u64| {
            json!({
                "spanID": id, "processID": process, "operationName": "x", "startTime": 0, "duration": duration,
                "references": [{ "refType": "CHILD_OF", "spanID": parent }],
            })
        };
        let answer = json!({ "data": [{
            "traceID": "t",
            "spans": [span("1", "", "a", 1_000_000), span("2", "1", "a", 900_000), span("3", "2", "b", 800_000)],
            "processes": { "a": { "serviceName": "flask-api" }, "b": { "serviceName": "payments" } },
        }]});
        let traces = jaeger::read(&answer);
        let times = own_time(&traces[0]);
        assert!((times["payments"] - 0.8).abs() < 1e-9 && (times["flask-api"] - 0.2).abs() < 1e-9);
    }
}
