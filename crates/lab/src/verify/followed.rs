//! Rows 3 and 4: one request of verify's own, found again in metrics, logs and traces.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    probe::{SentRequest, eventually},
    rows::{Check, PATIENCE, Seen, array, text},
};

/// Where orders that were placed are counted.
const COUNTED: &str =
    r#"sum(flask_requests_total{method="POST", route="/api/orders", status="201"})"#;

/// The latency that Jaeger makes of spans, whose exemplars carry trace ids.
const LATENCY: &str = r#"traces_span_metrics_duration_seconds_bucket{service_name="flask-api", span_kind="SPAN_KIND_SERVER", http_route="/api/orders"}"#;

/// Fields of a line that are told on.
const FIELDS: [&str; 9] = [
    "@timestamp",
    "log.level",
    "event.dataset",
    "service.name",
    "message",
    "trace.id",
    "span.id",
    "http.response.status_code",
    "event.duration",
];

/// One request, as each pillar has it; what a pillar does not have is absent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Followed {
    #[serde(flatten)]
    request: SentRequest,
    metrics: Option<Counted>,
    /// Documents of Elasticsearch, oldest first, with the fields that say who wrote what.
    log_lines: Vec<Value>,
    spans: Vec<Span>,
}

/// The request in Prometheus.
#[derive(Debug, Clone, Serialize)]
struct Counted {
    query: &'static str,
    /// When it had not been sent, and when it had been scraped.
    before: f64,
    after: f64,
    /// The point of the latency histogram that names this very request.
    exemplar: Option<Value>,
}

#[derive(Debug, Clone, Serialize)]
struct Span {
    span_id: String,
    parent_id: Option<String>,
    service: String,
    name: String,
    start_us: u64,
    duration_us: u64,
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) logs: Seen,
    pub(super) traces: Seen,
    pub(super) request: Option<Followed>,
}

impl Check<'_> {
    /// Places an order and finds it again.
    pub(super) async fn follow(&self) -> Outcome {
        let before = self.counted().await;
        let request = match self.place_order().await {
            Ok(request) => request,
            Err(reason) => {
                let reason = format!("no order could be placed: {reason:#}");
                let failed = |needed: &[&str]| -> Seen {
                    self.endpoints.need(needed)?;
                    Err(anyhow::anyhow!(reason.clone()))
                };
                return Outcome {
                    logs: failed(&["elasticsearch", "otelcol"]),
                    traces: failed(&["jaeger"]),
                    request: None,
                };
            }
        };
        let (metrics, lines, spans) = tokio::join!(
            async { self.metrics(&request, before?).await },
            self.lines(&request),
            self.spans(&request),
        );
        let lines_seen = lines
            .as_ref()
            .map_err(|reason| anyhow::anyhow!("{reason:#}"));
        let logs = lines_seen.map(|lines| log_evidence(&request, lines));
        let traces = match (&spans, &lines) {
            (Err(reason), _) => Err(anyhow::anyhow!("{reason:#}")),
            (Ok(spans), lines) => {
                let lines = lines.as_deref().unwrap_or_default();
                let url = self.trace_url(&request);
                belong(&request, spans, lines).map(|()| trace_evidence(&url, spans, &metrics))
            }
        };
        Outcome {
            logs,
            traces,
            request: Some(Followed {
                request,
                metrics: metrics.ok(),
                log_lines: lines.unwrap_or_default(),
                spans: spans.unwrap_or_default(),
            }),
        }
    }

    async fn place_order(&self) -> anyhow::Result<SentRequest> {
        self.endpoints.need(&["flask-api-1", "payments"])?;
        let token = self.endpoints.chaos_token_file.as_ref();
        let token = token.and_then(|file| std::fs::read_to_string(file).ok());
        eventually(PATIENCE, async || {
            let api = &self.endpoints.flask_api[0];
            let token = token.as_deref().map(str::trim);
            self.probe.place_order(api, token).await
        })
        .await
    }

    /// How many orders Prometheus knows to have been placed.
    async fn counted(&self) -> anyhow::Result<f64> {
        self.endpoints.need(&["prometheus"])?;
        let url = format!("{}/api/v1/query", self.endpoints.prometheus);
        let answer = self.probe.get(&url, &[("query", COUNTED)]).await?;
        let value = text(&answer, "/data/result/0/value/1").parse();
        value.context("Prometheus has no count of orders yet")
    }

    async fn metrics(&self, request: &SentRequest, before: f64) -> anyhow::Result<Counted> {
        let sent = Timestamp::now().as_second();
        let after = eventually(PATIENCE, async || {
            let after = self.counted().await?;
            ensure!(after > before, "Prometheus has not counted the order");
            Ok(after)
        });
        let url = format!("{}/api/v1/query_exemplars", self.endpoints.prometheus);
        let exemplar = eventually(PATIENCE / 2, async || {
            let (start, end) = ((sent - 60).to_string(), (sent + 120).to_string());
            let query = [("query", LATENCY), ("start", &start), ("end", &end)];
            let answer = self.probe.get(&url, &query).await?;
            let exemplars = array(&answer["data"])
                .iter()
                .flat_map(|it| array(&it["exemplars"]));
            let own = exemplars
                .into_iter()
                .find(|it| it["labels"]["trace_id"] == request.trace_id.as_str());
            own.cloned().context("no exemplar of this request")
        });
        let (after, exemplar) = tokio::join!(after, exemplar);
        Ok(Counted {
            query: COUNTED,
            before,
            after: after?,
            exemplar: exemplar.ok(),
        })
    }

    /// Row 3: the lines that the request caused, found by its trace id.
    async fn lines(&self, request: &SentRequest) -> anyhow::Result<Vec<Value>> {
        self.endpoints.need(&["elasticsearch", "otelcol"])?;
        let query = json!({
            "size": 50, "sort": ["@timestamp"], "_source": FIELDS,
            "query": { "term": { "trace.id": request.trace_id } },
        });
        eventually(PATIENCE, async || {
            let elasticsearch = &self.endpoints.elasticsearch;
            let answer = self.probe.search(elasticsearch, query.clone()).await?;
            let hits = array(&answer["hits"]["hits"]).iter();
            let lines: Vec<Value> = hits.map(|hit| hit["_source"].clone()).collect();
            for wanted in ["flask-api.access", "flask-api.app", "payments.access"] {
                ensure!(
                    lines.iter().any(|line| line["event.dataset"] == wanted),
                    "Elasticsearch has no line of {wanted} with trace.id {} ({} lines in all)",
                    request.trace_id,
                    lines.len()
                );
            }
            Ok(lines)
        })
        .await
    }

    fn trace_url(&self, request: &SentRequest) -> String {
        format!("{}/api/traces/{}", self.endpoints.jaeger, request.trace_id)
    }

    /// Row 4: the request's trace, across processes and down to the database.
    async fn spans(&self, request: &SentRequest) -> anyhow::Result<Vec<Span>> {
        self.endpoints.need(&["jaeger"])?;
        let url = self.trace_url(request);
        eventually(PATIENCE, async || {
            let answer = self.probe.get(&url, &[]).await?;
            let trace = answer["data"].get(0).context("Jaeger has no such trace")?;
            let spans = array(&trace["spans"]);
            let read: Vec<Span> = spans.iter().map(|span| read(trace, span)).collect();
            for wanted in ["flask-api", "payments"] {
                ensure!(
                    read.iter().any(|span| span.service == wanted),
                    "trace {} has no span of {wanted} yet",
                    request.trace_id
                );
            }
            let is_database = |span: &Value| {
                array(&span["tags"])
                    .iter()
                    .any(|it| it["key"] == "db.system.name")
            };
            ensure!(
                spans.iter().any(is_database),
                "trace {} has no span of the database yet",
                request.trace_id
            );
            // The caller's, which was never reported: the root has been exported last.
            let ids: BTreeSet<&str> = read.iter().map(|span| span.span_id.as_str()).collect();
            let orphans = read.iter().filter(|span| {
                let parent = span.parent_id.as_deref();
                !parent.is_some_and(|parent| ids.contains(parent))
            });
            ensure!(
                orphans.count() == 1,
                "trace {} is not complete yet",
                request.trace_id
            );
            Ok(read)
        })
        .await
    }
}

fn read(trace: &Value, span: &Value) -> Span {
    let process = text(span, "/processID");
    let parent = array(&span["references"]).first();
    Span {
        span_id: text(span, "/spanID").into(),
        parent_id: parent.map(|parent| text(parent, "/spanID").into()),
        service: text(&trace["processes"][process], "/serviceName").into(),
        name: text(span, "/operationName").into(),
        start_us: span["startTime"].as_u64().unwrap_or_default(),
        duration_us: span["duration"].as_u64().unwrap_or_default(),
    }
}

/// Whether every line was written within a span of the trace.
fn belong(request: &SentRequest, spans: &[Span], lines: &[Value]) -> anyhow::Result<()> {
    for line in lines {
        let id = line["span.id"].as_str().unwrap_or_default();
        ensure!(
            spans.iter().any(|span| span.span_id == id),
            "the line \"{}\" names span {id:?}, which trace {} does not have",
            text(line, "/message"),
            request.trace_id
        );
    }
    Ok(())
}

fn log_evidence(request: &SentRequest, lines: &[Value]) -> Vec<String> {
    let field = |line: &Value, name: &str| line[name].as_str().unwrap_or("").to_owned();
    let mut evidence = vec![format!(
        "order {} ({}) was placed under trace.id {}",
        request.order_id, request.order_status, request.trace_id
    )];
    evidence.extend(lines.iter().map(|line| {
        format!(
            "{} {} {}: {}",
            field(line, "@timestamp"),
            field(line, "log.level"),
            field(line, "event.dataset"),
            field(line, "message")
        )
    }));
    evidence
}

fn trace_evidence(url: &str, spans: &[Span], metrics: &anyhow::Result<Counted>) -> Vec<String> {
    let mut evidence = vec![format!("the trace has {} spans: {url}", spans.len())];
    let mut by_service = BTreeMap::<&str, Vec<&str>>::new();
    for span in spans {
        by_service
            .entry(&span.service)
            .or_default()
            .push(&span.name);
    }
    let services = by_service.into_iter();
    evidence.extend(services.map(|(service, names)| format!("{service}: {}", names.join(", "))));
    evidence.push(match metrics {
        Ok(counted) => format!(
            "{}: {} before, {} after",
            counted.query, counted.before, counted.after
        ),
        Err(reason) => format!("not found in metrics: {reason:#}"),
    });
    if let Some(exemplar) = metrics.as_ref().ok().and_then(|it| it.exemplar.as_ref()) {
        let seconds = text(exemplar, "/value");
        evidence.push(format!(
            "the latency histogram has it as an exemplar: {seconds} s"
        ));
    }
    evidence
}
