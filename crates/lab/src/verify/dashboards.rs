//! Rows 2 and 6: every query of every dashboard, asked as Grafana asks it, through Grafana where it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use dashboards::{
    Facts,
    model::{Dashboard, DataSourceKind, Panel, PanelKind, Query, Target, VariableKind},
    query::{self, Context, POINTS, Request},
    quiet::{self, Reason},
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Endpoints,
    probe::{Probe, eventually},
    rows::{Check, PATIENCE, Seen, array, text},
};
use crate::committed;

/// Older than this is not real time, whatever the page says.
const FRESH: Duration = Duration::from_secs(60);
/// Queries under way at once.
const AT_ONCE: usize = 6;

impl Check<'_> {
    /// Row 2: every query of every dashboard returns data of now.
    pub(super) async fn dashboards(&self) -> Seen {
        self.endpoints
            .need(&["prometheus", "elasticsearch", "jaeger"])?;
        let shown = Shown::read(&self.probe, self.endpoints, &self.layout.config(""))?;
        eventually(PATIENCE, async || shown.scrapes_are_fresh().await).await?;
        let way = shown.way().await?;
        let mut evidence = shown.verify(&way, |_| true).await?;
        evidence.push(shown.variables_and_marks().await?);
        evidence.push(way.in_words());
        Ok(evidence)
    }

    /// Row 6: the SLO dashboard shows the objective, and a share that the counters bear out.
    pub(super) async fn slo(&self) -> Seen {
        self.endpoints.need(&["prometheus"])?;
        let shown = Shown::read(&self.probe, self.endpoints, &self.layout.config(""))?;
        let way = shown.way().await?;
        let mut evidence = shown
            .verify(&way, |uid| uid == dashboards::SLO_DASHBOARD)
            .await?;
        evidence.extend(eventually(PATIENCE, async || shown.objective_is_tracked().await).await?);
        evidence.push(way.in_words());
        Ok(evidence)
    }
}

/// Whether every query of a dashboard returns data of now; what does not is asked again for as long as `patience` lasts.
pub(crate) async fn every_query_answers(
    probe: &Probe,
    endpoints: &Endpoints,
    root: &Path,
    dashboard: Dashboard,
    patience: Duration,
) -> Seen {
    endpoints.need(&["prometheus"])?;
    let shown = Shown {
        probe,
        endpoints,
        facts: Facts::read(root)?,
        dashboards: vec![dashboard],
        patience,
    };
    shown.verify(&Way::Direct, |_| true).await
}

/// The dashboards, and whom they ask.
struct Shown<'a> {
    probe: &'a Probe,
    endpoints: &'a Endpoints,
    facts: Facts,
    dashboards: Vec<Dashboard>,
    /// How long what does not answer as it should is asked again.
    patience: Duration,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// The data sources themselves.
    Direct,
    /// Grafana, at this address.
    Grafana(String),
}

impl Way {
    fn in_words(&self) -> String {
        match self {
            Self::Direct => "queries verified; Grafana itself not running".into(),
            Self::Grafana(url) => format!("asked through Grafana at {url}"),
        }
    }
}

/// One query of a panel.
#[derive(Clone, Copy)]
struct Asked<'a> {
    dashboard: &'a Dashboard,
    panel: &'a Panel,
    target: &'a Target,
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} `{}` {}",
            self.dashboard.uid, self.panel.title, self.target.ref_id
        )
    }
}

/// What came back: the time of the newest of it, in milliseconds since 1970; `None` when nothing did.
type Newest = Option<i64>;

/// What became of a query.
enum Outcome {
    /// It returned data so old.
    Data(Duration),
    /// It returned nothing, and may.
    Quiet(Reason),
}

impl<'a> Shown<'a> {
    fn read(probe: &'a Probe, endpoints: &'a Endpoints, root: &Path) -> anyhow::Result<Self> {
        let facts = Facts::read(root)?;
        let dir = root.join(dashboards::DIRECTORY);
        let mut dashboards = Vec::new();
        for uid in [
            dashboards::OVERVIEW,
            dashboards::FLASK_API,
            dashboards::KUBERNETES,
            dashboards::SLO_DASHBOARD,
        ] {
            let file = dir.join(uid).with_extension("json");
            let dashboard = Dashboard::parse(&committed::read(&file)?)
                .with_context(|| format!("{} is no dashboard", file.display()))?;
            dashboards.push(dashboard);
        }
        Ok(Self {
            probe,
            endpoints,
            facts,
            dashboards,
            patience: PATIENCE,
        })
    }

    /// Through Grafana when it answers, otherwise directly.
    async fn way(&self) -> anyhow::Result<Way> {
        let Some(url) = &self.endpoints.grafana else {
            return Ok(Way::Direct);
        };
        // Somebody else's page on that port is no Grafana.
        let health = self.probe.get(&format!("{url}/api/health"), &[]).await;
        if !health.is_ok_and(|health| health["database"] == "ok") {
            return Ok(Way::Direct);
        }
        for dashboard in &self.dashboards {
            self.is_shown_by_grafana(url, dashboard).await?;
        }
        Ok(Way::Grafana(url.clone()))
    }

    /// Whether Grafana's dashboard asks what the file asks.
    async fn is_shown_by_grafana(&self, url: &str, ours: &Dashboard) -> anyhow::Result<()> {
        let uid = &ours.uid;
        let answer = self
            .probe
            .get(&format!("{url}/api/dashboards/uid/{uid}"), &[])
            .await
            .with_context(|| format!("Grafana has no dashboard {uid}"))?;
        let theirs = &answer["dashboard"];
        let asks = |panels: &Value| -> Vec<(Value, Vec<Value>)> {
            array(panels)
                .iter()
                .map(|panel| {
                    let queries = array(&panel["targets"])
                        .iter()
                        .map(|target| json!([target["refId"], target["expr"], target["query"]]));
                    (panel["title"].clone(), queries.collect())
                })
                .collect()
        };
        ensure!(
            asks(&theirs["panels"]) == asks(&serde_json::to_value(&ours.panels)?),
            "Grafana shows another {uid} than grafana/dashboards/{uid}.json; does it read those files?"
        );
        Ok(())
    }

    fn asked(&self, of: impl Fn(&str) -> bool) -> Vec<Asked<'_>> {
        self.dashboards
            .iter()
            .filter(|dashboard| of(&dashboard.uid))
            .flat_map(|dashboard| {
                dashboard.panels().flat_map(move |panel| {
                    panel.targets.iter().map(move |target| Asked {
                        dashboard,
                        panel,
                        target,
                    })
                })
            })
            .collect()
    }

    /// Asks everything, and again what has not answered as it should, until it does.
    async fn verify(&self, way: &Way, of: impl Fn(&str) -> bool) -> Seen {
        let all = self.asked(of);
        let mut outcomes = BTreeMap::<usize, Outcome>::new();
        let started = Instant::now();
        loop {
            let open = (0..all.len()).filter(|index| !outcomes.contains_key(index));
            let answers: Vec<_> = stream::iter(open.collect::<Vec<_>>())
                .map(|index| {
                    let asked = all[index];
                    async move { (index, self.outcome(way, asked).await) }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let mut faults = BTreeMap::new();
            for (index, answer) in answers {
                match answer {
                    Ok(outcome) => drop(outcomes.insert(index, outcome)),
                    Err(fault) => drop(faults.insert(index, fault)),
                }
            }
            if faults.is_empty() {
                return Ok(evidence(&all, &outcomes));
            }
            if started.elapsed() >= self.patience {
                let faults: Vec<_> = faults
                    .iter()
                    .map(|(index, fault)| format!("{}: {fault:#}", all[*index]))
                    .collect();
                bail!(
                    "{} of {} queries do not return what they should: {}",
                    faults.len(),
                    all.len(),
                    faults.join("; ")
                );
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Asks one query and judges what comes back.
    async fn outcome(&self, way: &Way, asked: Asked<'_>) -> anyhow::Result<Outcome> {
        let now = Timestamp::now().as_millisecond();
        let context = self.context(asked.dashboard, now)?;
        let newest = match way {
            Way::Direct => self.ask(&query::request(asked.target, &context)?).await?,
            Way::Grafana(url) => self.ask_grafana(url, asked.target, &context).await?,
        };
        let Asked {
            dashboard,
            panel,
            target,
        } = asked;
        let quiet = quiet::find(&dashboard.uid, &panel.title, &target.ref_id);
        let Some(newest) = newest else {
            let quiet = quiet.context("nothing came back")?;
            return Ok(Outcome::Quiet(quiet.reason));
        };
        // A cluster has more than a lab; in a lab the list of what is quiet has to be right.
        if let Some(quiet) = quiet.filter(|quiet| !quiet.may_speak && self.endpoints.of_a_lab()) {
            bail!(
                "it returns data, although it is on the list of those that {}",
                quiet.reason
            );
        }
        let age = Duration::from_millis(u64::try_from(now - newest).unwrap_or(0));
        ensure!(
            age <= FRESH + context.step || quiet.is_some(),
            "the newest of it is {} s old",
            age.as_secs()
        );
        Ok(Outcome::Data(age))
    }

    fn context(&self, dashboard: &Dashboard, now: i64) -> anyhow::Result<Context> {
        Ok(Context::opening(
            dashboard,
            now,
            POINTS,
            self.facts.scrape_interval(),
        )?)
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<Newest> {
        match request {
            Request::PrometheusInstant { expr, at } => {
                let answer = self.promql(expr, *at).await?;
                let has_value = samples(&answer).iter().any(|(_, value)| value.is_finite());
                Ok(has_value.then_some(milliseconds(*at)))
            }
            Request::PrometheusRange {
                expr,
                start,
                end,
                step,
                exemplars,
            } => {
                let [start, end, step] = [start, end, step].map(f64::to_string);
                let range = [("start", start.as_str()), ("end", end.as_str())];
                let url = format!("{}/api/v1/query_range", self.endpoints.prometheus);
                let asked = [&range[..], &[("query", expr), ("step", &step)]].concat();
                let answer = self.probe.get(&url, &asked).await?;
                if *exemplars {
                    let url = format!("{}/api/v1/query_exemplars", self.endpoints.prometheus);
                    let asked = [&range[..], &[("query", expr)]].concat();
                    let answer = self.probe.get(&url, &asked).await?;
                    let leads_to_a_trace = array(&answer["data"])
                        .iter()
                        .flat_map(|series| array(&series["exemplars"]))
                        .any(|exemplar| !text(exemplar, "/labels/trace_id").is_empty());
                    ensure!(leads_to_a_trace, "no point of it leads to a trace");
                }
                let newest = array(&answer["data"]["result"])
                    .iter()
                    .flat_map(|series| array(&series["values"]))
                    .filter_map(sample)
                    .filter(|(_, value)| value.is_finite())
                    .map(|(at, _)| milliseconds(at))
                    .max();
                Ok(newest)
            }
            Request::ElasticsearchSearch { body } => {
                let answer = self
                    .probe
                    .search(&self.endpoints.elasticsearch, body.clone())
                    .await?;
                Ok(newest_line(&answer))
            }
            Request::JaegerSearch { parameters } => {
                let parameters: Vec<_> = parameters
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                let url = format!("{}/api/traces", self.endpoints.jaeger);
                let answer = self.probe.get(&url, &parameters).await?;
                let spans = array(&answer["data"])
                    .iter()
                    .flat_map(|trace| array(&trace["spans"]));
                Ok(spans
                    .filter_map(|span| span["startTime"].as_i64())
                    .map(|microseconds| microseconds / 1000)
                    .max())
            }
        }
    }

    /// The same through Grafana, which is given the query with everything put in, as its pages do.
    async fn ask_grafana(
        &self,
        url: &str,
        target: &Target,
        context: &Context,
    ) -> anyhow::Result<Newest> {
        let mut query = serde_json::to_value(target)?;
        let put_in = match &target.query {
            Query::Prometheus(it) => vec![("expr", query::promql_text(&it.expr, context)?)],
            Query::Elasticsearch(it) => vec![("query", query::lucene_text(&it.query, context)?)],
            Query::Jaeger(it) => vec![("service", query::plain_text(&it.service, context)?)],
        };
        for (key, value) in put_in {
            query[key] = value.into();
        }
        // The uids that grafana/datasources gives are the kinds.
        let kind = serde_json::to_value(target.datasource.kind)?;
        query["datasource"] = json!({ "type": kind, "uid": kind });
        query["intervalMs"] = json!(u64::try_from(context.step.as_millis())?);
        query["maxDataPoints"] = json!(POINTS);
        let body = json!({
            "from": context.from_ms.to_string(),
            "to": context.to_ms.to_string(),
            "queries": [query],
        });
        let answer = self
            .probe
            .post(&format!("{url}/api/ds/query"), &body)
            .await?;
        let result = &answer["results"][&target.ref_id];
        if let Some(error) = result["error"].as_str() {
            bail!("Grafana says {error}");
        }
        Ok(newest_in_frames(array(&result["frames"]), context.to_ms))
    }

    async fn promql(&self, expr: &str, at: f64) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/query", self.endpoints.prometheus);
        let at = at.to_string();
        self.probe
            .get(&url, &[("query", expr), ("time", &at)])
            .await
    }

    /// Prometheus would answer out of its store for minutes after it has stopped scraping.
    async fn scrapes_are_fresh(&self) -> anyhow::Result<()> {
        let now = Timestamp::now().as_millisecond();
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds are far below 2^53"
        )]
        let at = now as f64 / 1000.0;
        let answer = self.promql("max(timestamp(up))", at).await?;
        let (_, newest) = *samples(&answer)
            .first()
            .context("Prometheus has scraped nothing")?;
        ensure!(
            at - newest <= FRESH.as_secs_f64(),
            "Prometheus has scraped nothing for {:.0} s",
            at - newest
        );
        Ok(())
    }

    /// What is chosen from has values, and what is marked can be asked.
    async fn variables_and_marks(&self) -> Result<String, anyhow::Error> {
        let now = Timestamp::now().as_millisecond();
        let (mut variables, mut marks) = (0, 0);
        for dashboard in &self.dashboards {
            let context = self.context(dashboard, now)?;
            for variable in &dashboard.templating.list {
                if variable.kind != VariableKind::Query {
                    continue;
                }
                let (selector, label) = query::label_values(variable, &context)?;
                let url = format!("{}/api/v1/label/{label}/values", self.endpoints.prometheus);
                let answer = self.probe.get(&url, &[("match[]", &selector)]).await?;
                // What can be empty stands for all that there is, and nothing.
                let may_be_empty = variable.all_value.as_deref() == Some(".*");
                ensure!(
                    may_be_empty || !array(&answer["data"]).is_empty(),
                    "{}: there is nothing to choose from in ${}",
                    dashboard.uid,
                    variable.name
                );
                variables += 1;
            }
            for mark in &dashboard.annotations.list {
                self.ask(&query::annotation(&mark.target, &context)?)
                    .await
                    .with_context(|| format!("{}: marks of {}", dashboard.uid, mark.name))?;
                marks += 1;
            }
        }
        Ok(format!(
            "{variables} variables have values, {marks} annotations can be asked"
        ))
    }

    /// The objective that the dashboard shows is the one that was promised; the share of good requests that it shows is
    /// what the counters of every replica, read raw and added up here, come to.
    async fn objective_is_tracked(&self) -> Seen {
        let objective = self
            .facts
            .objectives()
            .iter()
            .find(|objective| objective.name == "availability")
            .context("prometheus/slos has no objective called availability")?;
        let dashboard = self
            .dashboards
            .iter()
            .find(|dashboard| dashboard.uid == dashboards::SLO_DASHBOARD)
            .context("there is no SLO dashboard")?;
        let context = self.context(dashboard, Timestamp::now().as_millisecond())?;
        let of = |series: &Value| {
            text(series, "/metric/sloth_service") == objective.service
                && text(series, "/metric/sloth_slo") == objective.name
        };
        // The objective, by the panel's own query.
        let panel = find_panel(dashboard, "Objective", PanelKind::Stat)?;
        let shown = self
            .promql(&panel_expr(panel, "", &context)?, at(&context))
            .await?;
        let shown = series_value(&shown, of).context("panel `Objective` does not show it")?;
        ensure!(
            close(shown, objective.ratio, 1e-9),
            "panel `Objective` shows {shown}, prometheus/slos says {}",
            objective.ratio
        );
        // The share over the long window of the most urgent alert, at the moment it was last recorded.
        let window = &slo::burn_rates()[0];
        let panel = find_panel(dashboard, "Availability over time", PanelKind::Timeseries)?;
        let expr = panel_expr(panel, &window.long, &context)?;
        let recorded = format!(
            r#"slo:sli_error:ratio_rate{}{{sloth_slo="{}"}}"#,
            window.long, objective.name
        );
        let when = self
            .promql(&format!("timestamp({recorded})"), at(&context))
            .await?;
        let when =
            series_value(&when, |_| true).context("the share of good requests is not recorded")?;
        let good = self.promql(&expr, when).await?;
        let good = series_value(&good, of)
            .context("panel `Availability over time` does not show the objective")?;
        let seconds = self
            .real_seconds(objective, window.long_seconds, when)
            .await?;
        let counted = self.counted(&objective.service, seconds, when).await?;
        let share = counted.good_share();
        // A rate extends what it saw to the ends of its window, each replica by itself: about one scrape of several,
        // and one request more or less.
        let tolerance = 0.2 * (1.0 - share).max(1.0 - good) + 1.5 / counted.total.max(1.0);
        ensure!(
            close(good, share, tolerance),
            "panel `Availability over time` shows {good} over {} s, the counters say {share} ({} of {} failed)",
            seconds,
            counted.errors,
            counted.total
        );
        Ok(vec![
            format!(
                "the objective is {:.1} %, by panel and by prometheus/slos",
                shown * 100.0
            ),
            format!(
                "availability over {} ({seconds} s on this clock): {:.3} % by panel, {:.3} % by the counters of all replicas ({} of {} requests failed)",
                window.long,
                good * 100.0,
                share * 100.0,
                counted.errors,
                counted.total
            ),
        ])
    }

    /// How long a window is on the clock that the objectives run on.
    async fn real_seconds(
        &self,
        objective: &slo::Objective,
        meant: u64,
        when: f64,
    ) -> anyhow::Result<u64> {
        let days = format!(
            r#"slo:time_period:days{{sloth_service="{}", sloth_slo="{}"}}"#,
            objective.service, objective.name
        );
        let days = self.promql(&days, when).await?;
        let days = series_value(&days, |_| true).context("the period is not recorded")?;
        let period = query::duration(&slo::period()).context("the period is a number of days")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "seconds of a period"
        )]
        let seconds = (meant as f64 * days * 86_400.0 / period.as_secs_f64()).round() as u64;
        ensure!(seconds > 0, "the period is {days} days");
        Ok(seconds)
    }

    /// Adds up the raw samples of every counter; no function of Prometheus' has a hand in it.
    async fn counted(&self, service: &str, seconds: u64, when: f64) -> anyhow::Result<Counted> {
        let raw = format!(
            r#"flask_requests_total{{service="{service}", route!="unmatched"}}[{seconds}s]"#
        );
        let answer = self.promql(&raw, when).await?;
        let mut counted = Counted::default();
        for series in array(&answer["data"]["result"]) {
            let values: Vec<f64> = array(&series["values"])
                .iter()
                .filter_map(sample)
                .map(|(_, value)| value)
                .collect();
            let increase = increase(&values);
            counted.total += increase;
            if text(series, "/metric/status").starts_with('5') {
                counted.errors += increase;
            }
        }
        ensure!(
            counted.total > 0.0,
            "no request was counted in {seconds} s, so there is no share to compare"
        );
        Ok(counted)
    }
}

/// What the counters say.
#[derive(Debug, Default)]
struct Counted {
    errors: f64,
    total: f64,
}

impl Counted {
    fn good_share(&self) -> f64 {
        1.0 - self.errors / self.total
    }
}

/// By how much a counter went up, starting from 0 again where it went down.
fn increase(values: &[f64]) -> f64 {
    values
        .windows(2)
        .map(|pair| {
            if pair[1] >= pair[0] {
                pair[1] - pair[0]
            } else {
                pair[1]
            }
        })
        .sum()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are far below 2^53"
)]
fn at(context: &Context) -> f64 {
    context.to_ms as f64 / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "milliseconds since 1970 fit"
)]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn find_panel<'a>(
    dashboard: &'a Dashboard,
    title: &str,
    kind: PanelKind,
) -> anyhow::Result<&'a Panel> {
    dashboard
        .panels()
        .find(|panel| panel.title == title && panel.kind == kind)
        .with_context(|| format!("{} has no panel `{title}`", dashboard.uid))
}

/// The panel's first query whose legend ends so.
fn panel_expr(panel: &Panel, legend: &str, context: &Context) -> anyhow::Result<String> {
    let expr = panel.targets.iter().find_map(|target| match &target.query {
        Query::Prometheus(query) if query.legend_format.ends_with(legend) => Some(&query.expr),
        _ => None,
    });
    let expr = expr.with_context(|| format!("panel `{}` has no query {legend}", panel.title))?;
    Ok(query::promql_text(expr, context)?)
}

/// `[time, "value"]`.
fn sample(pair: &Value) -> Option<(f64, f64)> {
    Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?))
}

/// The samples of an instant query.
fn samples(answer: &Value) -> Vec<(f64, f64)> {
    let data = &answer["data"];
    if data["resultType"] == "scalar" {
        return sample(&data["result"]).into_iter().collect();
    }
    array(&data["result"])
        .iter()
        .filter_map(|series| sample(&series["value"]))
        .collect()
}

/// The value of the first series that is the one.
fn series_value(answer: &Value, of: impl Fn(&Value) -> bool) -> Option<f64> {
    array(&answer["data"]["result"])
        .iter()
        .find(|series| of(series))
        .and_then(|series| sample(&series["value"]))
        .map(|(_, value)| value)
}

/// When the newest line was written, or the newest bucket that holds one ends.
fn newest_line(answer: &Value) -> Newest {
    let lines = array(&answer["hits"]["hits"])
        .iter()
        .filter_map(|hit| text(hit, "/_source/@timestamp").parse::<Timestamp>().ok())
        .map(Timestamp::as_millisecond);
    lines.chain(newest_bucket(&answer["aggregations"])).max()
}

fn newest_bucket(aggregations: &Value) -> Newest {
    let buckets = aggregations
        .as_object()
        .into_iter()
        .flat_map(|all| all.values())
        .flat_map(|aggregation| array(&aggregation["buckets"]));
    buckets
        .filter_map(|bucket| {
            let inner = newest_bucket(bucket);
            let own = bucket["key"]
                .as_i64()
                .filter(|_| bucket["doc_count"].as_u64() > Some(0));
            inner.or(own)
        })
        .max()
}

/// The newest time in Grafana's frames; frames without a time are of the end of the range.
fn newest_in_frames(frames: &[Value], end: i64) -> Newest {
    frames
        .iter()
        .filter_map(|frame| {
            let columns = array(&frame["data"]["values"]);
            let rows = columns.iter().map(|column| array(column).len()).max()?;
            if rows == 0 {
                return None;
            }
            let times = array(&frame["schema"]["fields"])
                .iter()
                .zip(columns)
                .filter(|(field, _)| field["type"] == "time")
                .flat_map(|(_, column)| array(column))
                .filter_map(Value::as_i64)
                .max();
            Some(times.unwrap_or(end))
        })
        .max()
}

/// A line for each dashboard.
fn evidence(all: &[Asked<'_>], outcomes: &BTreeMap<usize, Outcome>) -> Vec<String> {
    let mut lines = Vec::new();
    let uids: BTreeSet<_> = all
        .iter()
        .map(|asked| asked.dashboard.uid.as_str())
        .collect();
    for uid in uids {
        let (mut panels, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        let (mut data, mut oldest) = (0, Duration::ZERO);
        let mut quiet = BTreeMap::<Reason, usize>::new();
        for (index, asked) in all.iter().enumerate() {
            if asked.dashboard.uid != uid {
                continue;
            }
            match outcomes.get(&index) {
                Some(Outcome::Data(age)) => {
                    data += 1;
                    panels.insert(asked.panel.id);
                    kinds.insert(asked.target.datasource.kind);
                    oldest = oldest.max(*age);
                }
                Some(Outcome::Quiet(reason)) => *quiet.entry(*reason).or_default() += 1,
                None => {}
            }
        }
        let kinds: Vec<_> = kinds.into_iter().map(name_of).collect();
        let mut line = format!(
            "{uid}: {data} queries of {} panels return data of now ({}; at most {:.1} s old)",
            panels.len(),
            kinds.join(", "),
            oldest.as_secs_f64()
        );
        for (reason, count) in quiet {
            line += &format!("; {count} {reason}");
        }
        lines.push(line);
    }
    lines
}

fn name_of(kind: DataSourceKind) -> &'static str {
    match kind {
        DataSourceKind::Prometheus => "Prometheus",
        DataSourceKind::Elasticsearch => "Elasticsearch",
        DataSourceKind::Jaeger => "Jaeger",
    }
}

#[cfg(test)]
mod tests;
