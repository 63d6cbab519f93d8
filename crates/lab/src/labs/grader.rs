//! What every lab's check works with: the stack that runs, the learner's folder, and questions to both.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, process::Stdio};

use ::console::jaeger::{self, Trace};
use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stack::{Installer, Layout, table};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    START,
    answers::{self, Answers},
};
/// What was seen of a step that is done, or why it is not.
pub(super) use crate::verify::Seen;
use crate::verify::{Endpoints, Probe};

/// So many seconds ago two queries are asked: a number that was right once is not enough.
pub(super) const AGO: [i64; 3] = [5, 35, 65];
/// Sums of many numbers may be added up in another order.
const EXACT: f64 = 1e-9;

/// A step of a lab, graded.
pub(super) struct Graded {
    pub(super) name: String,
    /// What to do when it is not done.
    pub(super) hint: &'static str,
    pub(super) seen: Seen,
}

pub(super) fn graded(name: &str, hint: &'static str, seen: Seen) -> Graded {
    Graded {
        name: name.into(),
        hint,
        seen,
    }
}

/// A value of a vector, by its labels without the metric's name.
pub(super) type Vector = BTreeMap<BTreeMap<String, String>, f64>;

pub(super) struct Grader<'a> {
    pub(super) probe: Probe,
    pub(super) endpoints: &'a Endpoints,
    pub(super) layout: &'a Layout,
    /// The lab's own folder.
    pub(super) folder: PathBuf,
    /// The learner's.
    work: PathBuf,
}

impl<'a> Grader<'a> {
    pub(super) fn new(
        endpoints: &'a Endpoints,
        layout: &'a Layout,
        folder: PathBuf,
        work: PathBuf,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            probe: Probe::new()?,
            endpoints,
            layout,
            folder,
            work,
        })
    }

    /// A file of the learner's.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// What the learner wrote.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<String> {
        let file = self.file(name);
        let begun = match self.folder.join(START).join(name).is_file() {
            true => "; `lab labs start` with this lab's number makes it",
            false => "",
        };
        std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read{begun}", file.display()))
    }

    pub(super) fn answers(&self) -> anyhow::Result<Answers> {
        Answers::parse(self.file(answers::FILE), &self.read(answers::FILE)?)
    }

    /// The answers of a query at a time, by their labels.
    pub(super) async fn vector(
        &self,
        prometheus: &str,
        expr: &str,
        at: Timestamp,
    ) -> anyhow::Result<Vector> {
        let url = format!("{prometheus}/api/v1/query");
        let at = at.as_millisecond().to_string();
        // Milliseconds, as Prometheus counts: a time between two of them would be another one.
        let (seconds, millis) = at.split_at(at.len() - 3);
        let time = format!("{seconds}.{millis}");
        let answer = self
            .probe
            .get(&url, &[("query", expr), ("time", &time)])
            .await?;
        vector(&answer["data"]).with_context(|| format!("`{expr}` gives no numbers at one time"))
    }

    /// Whether two queries give the same at several times up to now, and not nothing: how many series they give.
    pub(super) async fn same_answers(&self, given: &str, wanted: &str) -> anyhow::Result<usize> {
        self.endpoints.need(&["prometheus"])?;
        let prometheus = &self.endpoints.prometheus;
        let now = Timestamp::now();
        let mut series = 0;
        for ago in AGO {
            let at = now - SignedDuration::from_secs(ago);
            let wanted = self.vector(prometheus, wanted, at).await?;
            ensure!(
                !wanted.is_empty(),
                "Prometheus has nothing to answer it with yet, {ago} s ago; wait a minute"
            );
            let given = self.vector(prometheus, given, at).await?;
            same(&given, &wanted, EXACT).with_context(|| format!("{ago} s ago"))?;
            series = wanted.len();
        }
        Ok(series)
    }

    /// Has promtool, as the lab has it, look at something; its words when it does not like it.
    pub(super) async fn promtool(&self, args: &[&OsStr]) -> anyhow::Result<()> {
        self.promtool_reads(args, "").await
    }

    /// Has it read something from its standard input.
    pub(super) async fn promtool_reads(&self, args: &[&OsStr], text: &str) -> anyhow::Result<()> {
        let prometheus = table::find("prometheus")?;
        let installed = Installer::new(self.layout.clone()).find(prometheus)?;
        let installed =
            installed.context("there is no promtool; `lab install prometheus` gets it")?;
        let mut promtool = Command::new(installed.program.with_file_name("promtool"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("promtool cannot be started")?;
        let mut input = promtool.stdin.take().context("it was asked for")?;
        // Whether it reads to the end is its own affair: what it says counts.
        let _ = input.write_all(text.as_bytes()).await;
        drop(input);
        let output = promtool.wait_with_output().await?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "promtool: {}",
            String::from_utf8_lossy(&said).trim()
        );
        Ok(())
    }

    /// A trace of Jaeger's.
    pub(super) async fn trace(&self, id: &str) -> anyhow::Result<Trace> {
        let id = jaeger::trace_id(id).map_err(anyhow::Error::msg)?;
        self.endpoints.need(&["jaeger"])?;
        let url = format!("{}/api/traces/{id}", self.endpoints.jaeger);
        let answer = self.probe.get(&url, &[]).await;
        // It keeps them in memory: those of before the lab's start are gone.
        let answer = answer.with_context(|| format!("Jaeger shows no trace {id}"))?;
        let mut traces = jaeger::read(&answer).into_iter();
        let trace = traces.find(|trace| !trace.spans.is_empty());
        trace.with_context(|| format!("Jaeger shows no trace {id}"))
    }

    /// The services' lines that a query in the syntax of Lucene finds, the newest first.
    pub(super) async fn lines(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        self.endpoints.need(&["elasticsearch"])?;
        let body = json!({
            "size": 100,
            "sort": [{ "@timestamp": "desc" }],
            "query": { "query_string": { "query": query } },
        });
        let answer = self
            .probe
            .search(&self.endpoints.elasticsearch, body)
            .await?;
        let hits = answer["hits"]["hits"].as_array().into_iter().flatten();
        Ok(hits.map(|hit| hit["_source"].clone()).collect())
    }
}

/// Numbers of one time: a vector's, or the one of a scalar, which has no labels.
fn vector(data: &Value) -> Option<Vector> {
    let number = |pair: &Value| pair[1].as_str()?.parse().ok();
    match data["resultType"].as_str()? {
        "scalar" => Some(Vector::from([(BTreeMap::new(), number(&data["result"])?)])),
        "vector" => {
            let series = data["result"].as_array()?.iter();
            series
                .map(|series| {
                    let labels = series["metric"].as_object()?.iter();
                    let labels = labels.filter(|(name, _)| *name != "__name__");
                    let labels =
                        labels.map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
                    Some((labels.collect::<Option<_>>()?, number(&series["value"])?))
                })
                .collect()
        }
        _ => None,
    }
}

/// Whether two vectors have the same labels, and numbers that differ by no more than a part of them.
pub(super) fn same(given: &Vector, wanted: &Vector, part: f64) -> anyhow::Result<()> {
    let shown = |labels: &BTreeMap<String, String>| {
        let pairs: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    };
    for (labels, wanted) in wanted {
        let given = given.get(labels).with_context(|| {
            let others: Vec<_> = given.keys().take(3).map(shown).collect();
            let others = if others.is_empty() {
                "nothing".to_owned()
            } else {
                others.join(", ")
            };
            format!("there is no {}, but {others}", shown(labels))
        })?;
        let close = (given - wanted).abs() <= part * given.abs().max(wanted.abs());
        ensure!(
            close || (given.is_nan() && wanted.is_nan()),
            "{} is {given}, and should be {wanted}",
            shown(labels)
        );
    }
    if let Some(labels) = given.keys().find(|labels| !wanted.contains_key(*labels)) {
        anyhow::bail!("{} should not be there", shown(labels));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, f64)]) -> Vector {
        let series = pairs.iter().map(|(value, number)| {
            (
                BTreeMap::from([("route".to_owned(), (*value).to_owned())]),
                *number,
            )
        });
        series.collect()
    }

    #[test]
    fn vectors_are_compared_by_labels_and_numbers() {
        let wanted = of(&[("/a", 1.0), ("/b", 0.0)]);
        assert!(same(&wanted, &wanted, 0.0).is_ok());
        assert!(same(&of(&[("/a", 1.01), ("/b", 0.0)]), &wanted, 0.02).is_ok());
        for (given, why) in [
            (of(&[("/a", 1.1), ("/b", 0.0)]), "{route=\"/a\"} is 1.1"),
            (of(&[("/a", 1.0)]), "there is no {route=\"/b\"}"),
            (of(&[]), "but nothing"),
            (
                of(&[("/a", 1.0), ("/b", 0.0), ("/c", 1.0)]),
                "{route=\"/c\"} should not be there",
            ),
        ] {
            let error = same(&given, &wanted, 0.02).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn vectors_and_scalars_are_numbers_of_one_time_and_others_are_not() {
        let scalar = json!({ "resultType": "scalar", "result": [1.0, "2.5"] });
        assert_eq!(
            vector(&scalar).unwrap().into_values().collect::<Vec<_>>(),
            [2.5]
        );
        let labels = json!({ "__name__": "up", "job": "a" });
        let answer = json!({ "resultType": "vector", "result": [{ "metric": labels, "value": [1.0, "1"] }] });
        let key = BTreeMap::from([("job".to_owned(), "a".to_owned())]);
        assert_eq!(vector(&answer).unwrap(), Vector::from([(key, 1.0)]));
        assert!(vector(&json!({ "resultType": "matrix", "result": [] })).is_none());
    }
}
