//! What watching costs: samples and series of each scrape target, and the time that rules take.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use stack::{Board, HOST, State};

use crate::verify::Probe;

/// How long Prometheus remembers for [`RuleGroup::seconds`].
const RULES_OVER: &str = "5m";

/// As Prometheus itself tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Scraping {
    targets: Vec<Target>,
    /// Series of all targets, rules and Prometheus' own in memory.
    head_series: f64,
    rules: Rules,
}

/// The last scrape of a target.
#[derive(Debug, Default, Serialize)]
struct Target {
    job: String,
    instance: String,
    service: String,
    up: bool,
    /// Samples it showed.
    samples: f64,
    /// Series that were kept of them.
    series: f64,
    /// Samples past which the whole scrape is refused; 0 is none.
    sample_limit: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Rules {
    /// The largest share of its interval that a group takes.
    largest_share: f64,
    /// Shares of all groups: of one CPU, what evaluating takes.
    total_share: f64,
    groups: Vec<RuleGroup>,
}

#[derive(Debug, Serialize)]
struct RuleGroup {
    name: String,
    rules: f64,
    interval_seconds: f64,
    /// An evaluation, on average.
    seconds: f64,
    share: f64,
}

impl Scraping {
    /// Asks the Prometheus of a running lab.
    ///
    /// # Errors
    /// When it does not run or answer.
    pub(crate) async fn of(board: &Board) -> anyhow::Result<Self> {
        let port = board
            .get("prometheus")
            .filter(|status| status.state == State::Ready)
            .and_then(|status| status.ports.get("http"))
            .ok_or_else(|| anyhow::anyhow!("prometheus does not run"))?;
        let ask = Ask {
            probe: Probe::new()?,
            url: format!("http://{HOST}:{port}/api/v1/query"),
        };
        let (targets, head, rules) = tokio::try_join!(
            ask.targets(),
            ask.series("sum(prometheus_tsdb_head_series)"),
            ask.rules()
        )?;
        Ok(Self {
            targets,
            head_series: head.iter().map(|(_, value)| value).sum(),
            rules,
        })
    }
}

impl std::fmt::Display for Scraping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let samples: f64 = self.targets.iter().map(|target| target.samples).sum();
        write!(
            f,
            "{} scrape targets with {samples} samples a scrape, {} series in memory; evaluating rules takes {:.2} % of a CPU, no group more than {:.2} % of its interval",
            self.targets.len(),
            self.head_series,
            self.rules.total_share * 100.0,
            self.rules.largest_share * 100.0,
        )
    }
}

/// Labels of a series.
type Labels = BTreeMap<String, String>;

struct Ask {
    probe: Probe,
    url: String,
}

impl Ask {
    async fn series(&self, query: &str) -> anyhow::Result<Vec<(Labels, f64)>> {
        let answer = self.probe.get(&self.url, &[("query", query)]).await?;
        let series = answer["data"]["result"].as_array();
        Ok(series
            .into_iter()
            .flatten()
            .filter_map(|series: &Value| {
                let labels = serde_json::from_value(series["metric"].clone()).ok()?;
                let value = series["value"][1].as_str()?.parse().ok()?;
                Some((labels, value))
            })
            .collect())
    }

    async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let query = r#"{__name__=~"up|scrape_duration_seconds|scrape_sample_limit|scrape_samples_scraped|scrape_samples_post_metric_relabeling"}"#;
        let mut targets = BTreeMap::<[String; 3], Target>::new();
        for (mut labels, value) in self.series(query).await? {
            let mut label = |name: &str| labels.remove(name).unwrap_or_default();
            let key = ["job", "instance", "service"].map(&mut label);
            let metric = label("__name__");
            let [job, instance, service] = key.clone();
            let target = targets.entry(key).or_insert_with(|| Target {
                job,
                instance,
                service,
                ..Target::default()
            });
            match metric.as_str() {
                "up" => target.up = value > 0.0,
                "scrape_duration_seconds" => target.seconds = value,
                "scrape_sample_limit" => target.sample_limit = value,
                "scrape_samples_scraped" => target.samples = value,
                _ => target.series = value,
            }
        }
        Ok(targets.into_values().collect())
    }

    async fn rules(&self) -> anyhow::Result<Rules> {
        let seconds =
            format!("avg_over_time(prometheus_rule_group_last_duration_seconds[{RULES_OVER}])");
        let (seconds, intervals, rules) = tokio::try_join!(
            self.series(&seconds),
            self.series("prometheus_rule_group_interval_seconds"),
            self.series("prometheus_rule_group_rules")
        )?;
        let by_group = |series: Vec<(Labels, f64)>| -> BTreeMap<String, f64> {
            series
                .into_iter()
                .filter_map(|(mut labels, value)| Some((labels.remove("rule_group")?, value)))
                .collect()
        };
        let (intervals, rules) = (by_group(intervals), by_group(rules));
        let groups: Vec<RuleGroup> = by_group(seconds)
            .into_iter()
            .filter_map(|(group, seconds)| {
                let interval_seconds = *intervals.get(&group)?;
                Some(RuleGroup {
                    rules: *rules.get(&group)?,
                    interval_seconds,
                    seconds,
                    share: seconds / interval_seconds,
                    // Of `/a/path/alerts.yml;service` what a reader knows.
                    name: group.rsplit('/').next().unwrap_or(&group).to_owned(),
                })
            })
            .collect();
        Ok(Rules {
            largest_share: groups.iter().map(|group| group.share).fold(0.0, f64::max),
            total_share: groups.iter().map(|group| group.share).sum(),
            groups,
        })
    }
}
