//! Lab 1: one order of the learner's own, in all three pillars.

use std::collections::BTreeSet;

use ::console::jaeger;
use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::grader::{Graded, Grader, Seen, graded};

/// What the load generator calls itself; its orders are not the learner's.
const NOT_OURS: &str = "loadgen";

/// Questions about what each pillar is for, with the one that answers them.
const WHICH: [(&str, &str); 3] = [
    ("how_many_requests_fail_per_second", "metrics"),
    ("what_went_wrong_in_this_one_request", "logs"),
    ("which_service_made_this_request_slow", "traces"),
];

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "Logs tell of an order that you placed",
            "place one with curl, look for its number with `lab logs`, and write the trace.id of its lines down as `trace_id`",
            it.logged().await,
        ),
        graded(
            "Its trace shows who took part, and where the time went",
            "open the trace in the console's Explore: which services have spans, and which span below the first takes longest?",
            it.traced().await,
        ),
        graded(
            "A metric counted it",
            "in the console's Explore ask for flask_requests_total; name the series of placed orders with {method=..., route=..., status=...}",
            it.counted().await,
        ),
        graded(
            "Each pillar is there for another question",
            "metrics are cheap sums over everybody, logs say what happened, traces how the time of one request was spent",
            it.told_apart(),
        ),
    ]
}

impl Grader<'_> {
    async fn logged(&self) -> Seen {
        let id = self.answers()?.text("trace_id")?;
        let id = jaeger::trace_id(&id).map_err(anyhow::Error::msg)?;
        let lines = self.lines(&format!("trace.id:{id}")).await?;
        ensure!(
            !lines.is_empty(),
            "Elasticsearch has no line with trace.id {id}"
        );
        let placed = lines.iter().find(|line| {
            line["event.dataset"] == "flask-api.access"
                && line["http.request.method"] == "POST"
                && line["http.route"] == "/api/orders"
        });
        let placed =
            placed.context("no line of it says that an order was placed: POST /api/orders")?;
        let by = placed["user_agent.original"].as_str().unwrap_or("nobody");
        ensure!(
            !by.starts_with(NOT_OURS),
            "that order was placed by {by}; place one of your own"
        );
        let status = placed["http.response.status_code"]
            .as_f64()
            .unwrap_or_default();
        ensure!(
            (status - 201.0).abs() < 0.5,
            "that order was answered with {status}, not 201"
        );
        Ok(vec![
            format!("{} by {by} at {}", placed["message"], placed["@timestamp"]),
            format!("{} lines have trace.id {id}", lines.len()),
        ])
    }

    async fn traced(&self) -> Seen {
        let answers = self.answers()?;
        let trace = self.trace(&answers.text("trace_id")?).await?;
        let there = trace.services();
        let given = answers.list("services")?;
        let given: BTreeSet<&str> = given.iter().map(String::as_str).collect();
        ensure!(
            given == there,
            "`services`: not exactly those that have spans in the trace"
        );
        let root = trace.root().context("a trace has a first span")?;
        let others = trace.spans.iter().filter(|span| span.id != root.id);
        let longest = others.max_by(|one, other| one.duration.total_cmp(&other.duration));
        let longest = longest.context("nothing is below its first span")?;
        let given = answers.text("longest_span")?;
        ensure!(
            given == longest.operation,
            "`longest_span`: {given} is not the one that takes longest below the first"
        );
        Ok(vec![format!(
            "{} took {:.1} ms, {} of it {:.1} ms, in {}",
            root.operation,
            root.duration * 1e3,
            longest.operation,
            longest.duration * 1e3,
            there.into_iter().collect::<Vec<_>>().join(" and "),
        )])
    }

    async fn counted(&self) -> Seen {
        let selector = self.answers()?.text("counted_by")?;
        self.endpoints.need(&["prometheus"])?;
        ensure!(
            selector.starts_with("flask_requests_total{") && selector.ends_with('}'),
            "`counted_by`: {selector} is not flask_requests_total{{...}}"
        );
        let vector = self
            .vector(&self.endpoints.prometheus, &selector, Timestamp::now())
            .await?;
        ensure!(!vector.is_empty(), "Prometheus has no {selector}");
        for (label, value) in [
            ("method", "POST"),
            ("route", "/api/orders"),
            ("status", "201"),
        ] {
            let wrong = vector
                .keys()
                .filter_map(|it| it.get(label))
                .find(|it| *it != value);
            if let Some(wrong) = wrong {
                anyhow::bail!("{selector} counts others as well: {label} {wrong}");
            }
        }
        let sum: f64 = vector.values().sum();
        ensure!(sum > 0.0, "{selector} has counted nothing yet");
        Ok(vec![format!(
            "{selector} has counted {sum} in {} series: one order among many",
            vector.len()
        )])
    }

    fn told_apart(&self) -> Seen {
        let answers = self.answers()?;
        for (question, pillar) in WHICH {
            let given = answers.text(question)?;
            ensure!(
                given == pillar,
                "`{question}`: {given} is not the pillar to ask first"
            );
        }
        Ok(WHICH
            .map(|(question, pillar)| format!("{question}: {pillar}"))
            .into())
    }
}
