//! The eight success metrics, one function each.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use stack::Layout;

use super::{
    Endpoints, Row,
    probe::{Probe, eventually, samples},
};
use crate::oncall::Rotation;

/// Long enough for the slowest way: a log line through the Collector, with its first flush.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen of a row that holds, or why it does not.
pub(crate) type Seen = anyhow::Result<Vec<String>>;

pub(super) async fn check(endpoints: &Endpoints, layout: &Layout) -> Vec<Row> {
    let check = match Probe::new() {
        Ok(probe) => Check {
            probe,
            endpoints,
            layout,
        },
        Err(fault) => return vec![row(0, "an HTTP client", Err(fault), "")],
    };
    let (targets, dashboards, followed, alerts, slo, exporter, oncall) = tokio::join!(
        check.targets(),
        check.dashboards(),
        check.follow(),
        check.alerts(),
        check.slo(),
        check.exporter(),
        check.oncall(),
    );
    let mut rows = vec![
        row(
            1,
            "Prometheus scraping all targets",
            targets,
            "`lab status` shows which component is not ready, and its log",
        ),
        row(
            2,
            "Grafana dashboards showing real-time data",
            dashboards,
            "the queries named are those of grafana/dashboards; `lab status` shows which component does not answer, `lab dashboards render --check` whether the files are whole",
        ),
        row(
            3,
            "Logs aggregated in Elasticsearch",
            followed.logs,
            "look at the logs of otelcol and elasticsearch (`lab status --json` names them)",
        ),
        row(
            4,
            "Distributed traces visible in Jaeger",
            followed.traces,
            "look at the log of jaeger, and at telemetry_spans_failed_total of flask-api",
        ),
        row(
            5,
            "Alerts firing and routing correctly",
            alerts,
            "`lab inbox` shows what was received and refused, the log of alertmanager what could not be sent",
        ),
        row(
            6,
            "SLO dashboard tracking 99.9% uptime",
            slo,
            "`lab slo render --check` shows whether the rules are those of prometheus/slos, Prometheus' page /rules whether they are evaluated",
        ),
        row(
            7,
            "Custom exporters working",
            exporter,
            "look at the log of custom-flask-exporter",
        ),
        row(
            8,
            "On-call rotation configured",
            oncall,
            "`lab oncall check` and `lab oncall render --check` show what is wrong; Alertmanager reads a new file when it is started",
        ),
    ];
    for row in &mut rows {
        if [3, 4].contains(&row.n) {
            row.followed.clone_from(&followed.request);
        }
    }
    rows
}

fn row(n: u8, name: &'static str, seen: Seen, hint: &str) -> Row {
    match seen {
        Ok(evidence) => Row {
            n,
            name,
            ok: true,
            evidence,
            followed: None,
            hint: None,
        },
        Err(reason) => Row {
            n,
            name,
            ok: false,
            evidence: vec![format!("{reason:#}")],
            followed: None,
            hint: Some(hint.into()),
        },
    }
}

pub(super) struct Check<'a> {
    pub(super) probe: Probe,
    pub(super) endpoints: &'a Endpoints,
    pub(super) layout: &'a Layout,
}

pub(super) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

impl Check<'_> {
    /// Row 1: every expected target is there and up, by name.
    async fn targets(&self) -> Seen {
        self.endpoints.need(&["prometheus"])?;
        self.endpoints.need_all_scraped()?;
        eventually(PATIENCE, async || {
            let url = format!("{}/api/v1/targets", self.endpoints.prometheus);
            let answer = self.probe.get(&url, &[("state", "active")]).await?;
            let targets = array(&answer["data"]["activeTargets"]);
            let key = |target: &Value| {
                (
                    text(target, "/labels/job").to_owned(),
                    text(target, "/labels/instance").to_owned(),
                )
            };
            let known: Vec<_> = targets.iter().map(key).collect();
            ensure!(
                known.iter().any(|(job, _)| job == "flask-api"),
                "Prometheus has no target of job flask-api"
            );
            for (job, instance) in &self.endpoints.expected_targets {
                ensure!(
                    known
                        .iter()
                        .any(|target| target == &(job.clone(), instance.clone())),
                    "{job} {instance} is not among Prometheus' targets"
                );
            }
            let mut up: Vec<String> = Vec::new();
            for (target, (job, instance)) in targets.iter().zip(known) {
                match text(target, "/health") {
                    "up" => up.push(format!("{job} {instance} up")),
                    health => bail!(
                        "{job} {instance} is {health}: {}",
                        text(target, "/lastError")
                    ),
                }
            }
            up.sort();
            Ok(up)
        })
        .await
    }

    /// Row 7: the exporter's stock is the API's stock. Orders go on meanwhile, so the API is asked
    /// before and after: what did not change in between must be what the exporter said.
    async fn exporter(&self) -> Seen {
        self.endpoints
            .need(&["custom-flask-exporter", "prometheus"])?;
        let page_url = format!("{}/metrics", self.endpoints.exporter);
        eventually(PATIENCE, async || {
            let before = self.stock().await?;
            let page = self.probe.text(&page_url).await?;
            let after = self.stock().await?;
            ensure!(
                samples(&page, "shop_up").get("") == Some(&1.0),
                "the exporter says shop_up 0: it cannot read the shop's database"
            );
            let exported = samples(&page, "shop_product_stock");
            let mut evidence = Vec::new();
            for (product, stock) in before
                .iter()
                .filter(|(product, stock)| after.get(product) == Some(stock))
            {
                let label = format!("{{product_id=\"{product}\"}}");
                let value = exported
                    .get(label.as_str())
                    .with_context(|| format!("the exporter has no shop_product_stock{label}"))?;
                #[expect(clippy::cast_precision_loss, reason = "stocks are far below 2^53")]
                let same = (*value - *stock as f64).abs() < 0.5;
                ensure!(
                    same,
                    "shop_product_stock{label} is {value}, the API says {stock}"
                );
                evidence.push(format!(
                    "shop_product_stock{label} {value} = GET /api/products/{product} stock {stock}"
                ));
            }
            ensure!(
                !evidence.is_empty(),
                "every product was ordered during the comparison"
            );
            let url = format!("{}/api/v1/query", self.endpoints.prometheus);
            let answer = self
                .probe
                .get(&url, &[("query", "sum by (status) (shop_orders)")])
                .await?;
            let orders = array(&answer["data"]["result"]);
            ensure!(!orders.is_empty(), "Prometheus has no shop_orders");
            evidence.extend(orders.iter().map(|series| {
                format!(
                    "Prometheus has shop_orders{{status=\"{}\"}} {}",
                    text(series, "/metric/status"),
                    text(series, "/value/1")
                )
            }));
            Ok(evidence)
        })
        .await
    }

    async fn stock(&self) -> anyhow::Result<BTreeMap<i64, i64>> {
        let url = format!("{}/api/products", self.endpoints.flask_api[0]);
        let answer = self.probe.get(&url, &[("limit", "100")]).await?;
        array(&answer["items"])
            .iter()
            .map(|product| Some((product["id"].as_i64()?, product["stock"].as_i64()?)))
            .collect::<Option<_>>()
            .context("a product without id or stock")
    }

    /// Row 8: somebody is on call, for 26 weeks on, and the Alertmanager that runs knows it.
    async fn oncall(&self) -> Seen {
        let rotation = Rotation::read(self.layout)?;
        let now = Timestamp::now();
        let mut evidence = rotation.holds(now)?;
        self.endpoints.need(&["alertmanager"])?;
        let url = format!("{}/api/v2/status", self.endpoints.alertmanager);
        let status = self.probe.get(&url, &[]).await?;
        let running = rotation.loaded_in(text(&status, "/config/original"))?;
        evidence.push(running);
        Ok(evidence)
    }
}
