//! Lab 2: a Prometheus of the learner's own, which scrapes what the lab's does.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::grader::{Graded, Grader, Seen, graded, same};
use crate::verify::eventually;

/// Seconds between two scrapes, at most: the rates of this workshop look at one minute.
const INTERVAL: f64 = 15.0;
/// The recording that the lab asks for, and what it is to record.
const RECORD: &str = "job:flask_requests:rate1m";
const RECORDED: &str = "sum by (job) (rate(flask_requests_total[1m]))";
/// A sample that was scraped before the rule ran may be stored after it.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "A Prometheus of your own runs",
            "start ./prometheus on another port than the lab's, and write its address down as `prometheus`",
            it.runs().await,
        ),
        graded(
            "It scrapes both replicas of the service",
            "a job named flask-api, with both admin ports as targets; its page /targets says why one is down",
            it.scrapes("flask-api").await,
        ),
        graded(
            "It scrapes the machine",
            "a job named node, with the port of node_exporter (`lab status` names it)",
            it.scrapes("node").await,
        ),
        graded(
            "It counts what customers do",
            "rate() needs two scrapes within its window: set scrape_interval to 15s or less, and wait a minute",
            it.counts().await,
        ),
        graded(
            "It records a rate",
            "a file of rules, named under rule_files; `./promtool check rules rules.yml` says what is wrong with it",
            it.records().await,
        ),
    ]
}

impl Grader<'_> {
    /// The address of the learner's.
    pub(super) async fn own_prometheus(&self) -> anyhow::Result<String> {
        self.endpoints.need(&["prometheus"])?;
        let url = self.answers()?.text("prometheus")?;
        let url = url.trim_end_matches('/').to_owned();
        ensure!(
            url.starts_with("http://"),
            "`prometheus`: {url} is no http:// address"
        );
        let since = async |url: &str| -> anyhow::Result<Value> {
            let answer = self
                .probe
                .get(&format!("{url}/api/v1/status/runtimeinfo"), &[])
                .await?;
            Ok(answer["data"]["startTime"].clone())
        };
        let own = since(&url).await?;
        ensure!(own.is_string(), "{url} is no Prometheus");
        if own == since(&self.endpoints.prometheus).await? {
            bail!("{url} is the lab's own Prometheus; start another one");
        }
        Ok(url)
    }

    async fn runs(&self) -> Seen {
        let url = self.own_prometheus().await?;
        let answer = self
            .probe
            .get(&format!("{url}/api/v1/status/buildinfo"), &[])
            .await?;
        Ok(vec![format!(
            "{url} is Prometheus {}",
            answer["data"]["version"]
        )])
    }

    /// The targets of a job are those of the lab's Prometheus, and up.
    async fn scrapes(&self, job: &str) -> Seen {
        let url = self.own_prometheus().await?;
        let own = self.targets(&url, job).await?;
        let theirs = self.targets(&self.endpoints.prometheus, job).await?;
        let own_instances: BTreeSet<_> = own.iter().map(|it| &it.instance).collect();
        for target in &theirs {
            ensure!(
                own_instances.contains(&target.instance),
                "its job {job} has no target {}",
                target.instance
            );
        }
        for target in &own {
            ensure!(
                target.health == "up",
                "{job} {} is {}: {}",
                target.instance,
                target.health,
                target.error
            );
        }
        Ok(own
            .iter()
            .map(|it| format!("{job} {} up", it.instance))
            .collect())
    }

    async fn targets(&self, prometheus: &str, job: &str) -> anyhow::Result<Vec<Target>> {
        let url = format!("{prometheus}/api/v1/targets");
        let answer = self.probe.get(&url, &[("state", "active")]).await?;
        let targets = answer["data"]["activeTargets"]
            .as_array()
            .into_iter()
            .flatten();
        let of_job = targets.filter(|target| target["labels"]["job"] == job);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let targets: Vec<_> = of_job
            .map(|target| Target {
                instance: text(&target["labels"]["instance"]),
                health: text(&target["health"]),
                error: text(&target["lastError"]),
                interval: text(&target["scrapeInterval"]),
            })
            .collect();
        ensure!(!targets.is_empty(), "{prometheus} has no job {job}");
        Ok(targets)
    }

    async fn counts(&self) -> Seen {
        let url = self.own_prometheus().await?;
        for target in self.targets(&url, "flask-api").await? {
            let interval = dashboards::query::duration(&target.interval)
                .with_context(|| format!("{} is no duration", target.interval))?;
            ensure!(
                interval.as_secs_f64() <= INTERVAL,
                "{} is scraped every {} only",
                target.instance,
                target.interval
            );
        }
        let vector = self.vector(&url, RECORDED, Timestamp::now()).await?;
        let rate: f64 = vector.values().sum();
        ensure!(rate > 0.0, "{RECORDED} gives {rate}");
        Ok(vec![format!("{rate:.2} requests per second: {RECORDED}")])
    }

    async fn records(&self) -> Seen {
        let url = self.own_prometheus().await?;
        eventually(PATIENCE, async || {
            let answer = self
                .probe
                .get(&format!("{url}/api/v1/rules"), &[("type", "record")])
                .await?;
            let groups = answer["data"]["groups"].as_array().into_iter().flatten();
            let mut rules =
                groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
            let rule = rules.find(|rule| rule["name"] == RECORD);
            let rule = rule.with_context(|| format!("{url} has no rule that records {RECORD}"))?;
            ensure!(
                rule["health"] == "ok",
                "{RECORD} is {}: {}",
                rule["health"],
                rule["lastError"]
            );
            // Both at the time of the newest recording: later it would be older than what it records.
            let newest = format!("timestamp({RECORD})");
            let newest = self.vector(&url, &newest, Timestamp::now()).await?;
            let newest = newest.values().copied().fold(f64::NAN, f64::max);
            ensure!(newest.is_finite(), "{RECORD} has recorded nothing yet");
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
            let at = Timestamp::from_millisecond((newest * 1000.0).round() as i64)?;
            let recorded = self.vector(&url, RECORD, at).await?;
            same(&recorded, &self.vector(&url, RECORDED, at).await?, 0.01)
                .with_context(|| format!("{RECORD} does not record {RECORDED}"))?;
            Ok(vec![format!("{RECORD} is {RECORDED}")])
        })
        .await
    }
}

/// What is scraped.
struct Target {
    instance: String,
    health: String,
    error: String,
    interval: String,
}
