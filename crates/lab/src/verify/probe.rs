//! Asking the real back ends, and waiting until they agree.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use reqwest::{Method, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};

/// So slow that hardly another request shares its bucket of the latency histogram, whose exemplar it becomes.
const SLOW: &str = "latency;delay=700ms";

/// A client for their APIs.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    http: reqwest::Client,
}

/// The request that verify sends and then looks for everywhere.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SentRequest {
    pub(super) trace_id: String,
    pub(super) order_id: i64,
    pub(super) order_status: String,
}

impl Probe {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http })
    }

    /// A JSON answer.
    pub(crate) async fn get(&self, url: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        json_of(url, self.http.get(url).query(query)).await
    }

    /// A JSON answer to JSON.
    pub(super) async fn post(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        json_of(url, self.http.post(url).json(body)).await
    }

    /// A text answer.
    pub(crate) async fn text(&self, url: &str) -> anyhow::Result<String> {
        Ok(self.page(url).await?.1)
    }

    /// What kind of text an answer is, as it says itself, and the text.
    pub(crate) async fn page(&self, url: &str) -> anyhow::Result<(String, String)> {
        let answer = self
            .http
            .get(url)
            .send()
            .await
            .with_context(|| format!("{url} does not answer"))?;
        ensure!(
            answer.status().is_success(),
            "{url} answers {}",
            answer.status()
        );
        let kind = answer.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let kind = kind.to_owned();
        let text = answer.text().await;
        let text = text.with_context(|| format!("{url} breaks off"))?;
        Ok((kind, text))
    }

    /// Sends JSON; the answer does not matter as long as it is a good one.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<()> {
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{url} does not answer"))?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "{url} answers {status}: {}",
            answer.text().await.unwrap_or_default().trim()
        );
        Ok(())
    }

    /// A search in Elasticsearch.
    pub(crate) async fn search(&self, elasticsearch: &str, query: Value) -> anyhow::Result<Value> {
        // `ignore_unavailable`: before the first document there is no index, which is not an error here.
        let url = format!(
            "{elasticsearch}/flask-logs-*/_search?ignore_unavailable=true&allow_no_indices=true"
        );
        json_of(&url, self.http.post(&url).json(&query)).await
    }

    /// Places an order under a trace context of its own; with the token of faults it takes long.
    pub(super) async fn place_order(
        &self,
        api: &str,
        token: Option<&str>,
    ) -> anyhow::Result<SentRequest> {
        let mut random = rand::rng();
        // The specification forbids all-zero ids; `| 1` keeps to it.
        let trace_id = format!("{:032x}", random.random::<u128>() | 1);
        let span_id = format!("{:016x}", random.random::<u64>() | 1);
        let url = format!("{api}/api/orders");
        let mut request = self
            .http
            .post(&url)
            .header("traceparent", format!("00-{trace_id}-{span_id}-01"))
            .header("idempotency-key", &trace_id)
            .json(&json!({ "items": [{ "product_id": 1, "quantity": 1 }] }));
        if let Some(token) = token {
            request = request
                .header("x-fault-token", token)
                .header("x-fault", SLOW);
        }
        let order = json_of(&url, request).await?;
        let (Some(order_id), Some(order_status)) = (order["id"].as_i64(), order["status"].as_str())
        else {
            bail!("{url} answers without id and status: {order}");
        };
        Ok(SentRequest {
            trace_id,
            order_id,
            order_status: order_status.into(),
        })
    }
}

async fn json_of(url: &str, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let text = answer
        .text()
        .await
        .with_context(|| format!("{url} breaks off"))?;
    ensure!(
        status.is_success(),
        "{url} answers {status}: {}",
        text.chars().take(300).collect::<String>()
    );
    serde_json::from_str(&text).with_context(|| format!("{url} answers no JSON"))
}

/// Tries until it succeeds or `within` is over; then the last reason stands.
pub(crate) async fn eventually<T>(
    within: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(reason) if started.elapsed() >= within => return Err(reason),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

/// Samples of one metric in the text format: label set to value.
pub(crate) fn samples<'a>(page: &'a str, metric: &str) -> BTreeMap<&'a str, f64> {
    let of_metric = |line: &'a str| {
        let rest = line.strip_prefix(metric)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then_some(())?;
        Some((labels, value.parse().ok()?))
    };
    page.lines().filter_map(of_metric).collect()
}

#[cfg(test)]
mod tests {
    use super::samples;

    #[test]
    fn reads_the_samples_of_one_metric_only() {
        let page = "# HELP shop_up x\n# TYPE shop_up gauge\nshop_up 1\nshop_upper 2\nshop_orders{status=\"paid\"} 3\nshop_orders{status=\"failed\"} 0\n";
        assert_eq!(
            samples(page, "shop_up").into_iter().collect::<Vec<_>>(),
            [("", 1.0)]
        );
        assert_eq!(
            samples(page, "shop_orders").into_iter().collect::<Vec<_>>(),
            [("{status=\"failed\"}", 0.0), ("{status=\"paid\"}", 3.0)]
        );
        assert!(samples(page, "shop").is_empty());
    }
}
