//! What is made of answers: of data sources that say what a test wants, and of a Grafana that nobody has here.

use std::path::Path;

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{any, method, path, path_regex},
};

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// How old everything is that a data source returns; `None`: it returns nothing.
#[derive(Clone, Copy)]
struct Says(Option<i64>);

impl Respond for Says {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let at = self.0.map(|age| now() - age);
        let seconds = at.map(|at| at as f64 / 1000.0);
        let (vector, matrix, points) = match seconds {
            Some(at) => (
                json!([{ "metric": {}, "value": [at, "1"] }]),
                json!([{ "metric": {}, "values": [[at, "1"]] }]),
                json!([{ "exemplars": [{ "labels": { "trace_id": "5e0c" } }] }]),
            ),
            None => (json!([]), json!([]), json!([])),
        };
        let answer = match request.url.path() {
            "/api/v1/query" => json!({ "data": { "resultType": "vector", "result": vector } }),
            "/api/v1/query_range" => {
                json!({ "data": { "resultType": "matrix", "result": matrix } })
            }
            "/api/v1/query_exemplars" => json!({ "data": points }),
            "/api/traces" => {
                json!({ "data": at.map_or(json!([]), |at| json!([{ "spans": [{ "startTime": at * 1000 }] }])) })
            }
            _ => {
                let line = at.map(|at| {
                    json!({ "_source": { "@timestamp": Timestamp::from_millisecond(at).unwrap() } })
                });
                json!({ "hits": { "hits": line.map_or(json!([]), |line| json!([line])) } })
            }
        };
        ResponseTemplate::new(200).set_body_json(answer)
    }
}

struct World {
    _server: MockServer,
    probe: Probe,
    endpoints: Endpoints,
}

impl World {
    /// Every data source says the same.
    async fn new(says: Says) -> Self {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(says).mount(&server).await;
        let url = server.uri();
        let endpoints = json!({
            "prometheus": url, "alertmanager": url, "jaeger": url, "elasticsearch": url, "exporter": url, "flask_api": [url],
        });
        Self {
            endpoints: serde_json::from_value(endpoints).unwrap(),
            _server: server,
            probe: Probe::new().unwrap(),
        }
    }

    /// The same as a lab's own stack.
    fn of_a_lab(mut self) -> Self {
        self.endpoints
            .expected_targets
            .push(("node".into(), "n".into()));
        self
    }

    fn shown(&self) -> Shown<'_> {
        let mut shown = Shown::read(&self.probe, &self.endpoints, root()).unwrap();
        shown.patience = Duration::ZERO;
        shown
    }
}

fn words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[tokio::test]
async fn a_cluster_may_say_more_than_a_lab() {
    let cluster = World::new(Says(Some(1000))).await;
    let evidence = cluster
        .shown()
        .verify(&Way::Direct, |_| true)
        .await
        .unwrap();
    assert_eq!(evidence.len(), 4, "{evidence:#?}");
    for line in evidence {
        assert!(line.contains("return data of now"), "{line}");
        assert!(!line.contains("need a Kubernetes cluster"), "{line}");
    }
    // In a lab the list of what is quiet would be wrong.
    let lab = World::new(Says(Some(1000))).await.of_a_lab();
    let error = words(
        lab.shown()
            .verify(&Way::Direct, |_| true)
            .await
            .unwrap_err(),
    );
    assert!(
        error.contains("kubernetes `Pods by phase` A: it returns data, although it is on the list of those that need a Kubernetes cluster"),
        "{error}"
    );
    // Trouble may be there, or not.
    assert!(!error.contains("Does not answer"), "{error}");
}

#[tokio::test]
async fn what_returns_nothing_is_named_unless_it_may() {
    let lab = World::new(Says(None)).await.of_a_lab();
    let error = words(
        lab.shown()
            .verify(&Way::Direct, |_| true)
            .await
            .unwrap_err(),
    );
    assert!(
        error.contains("overview `Requests` A: nothing came back"),
        "{error}"
    );
    assert!(
        error.contains("overview `Latest lines` A: nothing came back"),
        "{error}"
    );
    assert!(
        error.contains("overview `Latest traces` A: nothing came back"),
        "{error}"
    );
    assert!(error.contains("no point of it leads to a trace"), "{error}");
    assert!(!error.contains("Pods by phase"), "{error}");
    assert!(!error.contains("Burn-rate alerts"), "{error}");
    let error = words(lab.shown().scrapes_are_fresh().await.unwrap_err());
    assert_eq!(error, "Prometheus has scraped nothing");
}

#[tokio::test]
async fn old_data_is_not_real_time() {
    let lab = World::new(Says(Some(605_000))).await;
    let error = words(
        lab.shown()
            .verify(&Way::Direct, |_| true)
            .await
            .unwrap_err(),
    );
    for panel in [
        "overview `Latency` A",
        "overview `Latest lines` A",
        "overview `Latest traces` A",
    ] {
        assert!(
            error.contains(&format!("{panel}: the newest of it is 60")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_data_source_that_refuses_is_quoted() {
    let mut lab = World::new(Says(Some(0))).await;
    let broken = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(400).set_body_string("parse error: unexpected )"))
        .mount(&broken)
        .await;
    lab.endpoints.prometheus = broken.uri();
    let error = words(
        lab.shown()
            .verify(&Way::Direct, |_| true)
            .await
            .unwrap_err(),
    );
    // Quiet or not: a query has to be valid.
    for panel in [
        "overview `Requests` A",
        "kubernetes `Pods by phase` A",
        "slo-dashboard `Burn-rate alerts` A",
    ] {
        assert!(error.contains(panel), "{error}");
    }
    assert!(error.contains("parse error: unexpected )"), "{error}");
}

// --- Grafana: not executed here, so its answers are those of its documentation ---------------------

/// A Grafana that shows these dashboards and answers every query so.
async fn grafana(results: Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path("/api/health"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({ "database": "ok", "version": "13.2.3" })),
        )
        .mount(&server)
        .await;
    Mock::given(path_regex("^/api/dashboards/uid/"))
        .respond_with(|request: &Request| {
            let uid = request.url.path().rsplit('/').next().unwrap();
            let file = root()
                .join(dashboards::DIRECTORY)
                .join(uid)
                .with_extension("json");
            let mut dashboard: Value =
                serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            // What Grafana adds of its own.
            dashboard["id"] = 7.into();
            dashboard["version"] = 1.into();
            ResponseTemplate::new(200)
                .set_body_json(json!({ "meta": { "provisioned": true }, "dashboard": dashboard }))
        })
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/api/ds/query"))
        .respond_with(move |request: &Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let query = &body["queries"][0];
            ResponseTemplate::new(200)
                .set_body_json(json!({ "results": { query["refId"].as_str().unwrap(): results } }))
        })
        .mount(&server)
        .await;
    server
}

fn frame(times: &[i64]) -> Value {
    let values = vec![1; times.len()];
    json!({ "status": 200, "frames": [{
        "schema": { "fields": [{ "name": "Time", "type": "time" }, { "name": "Value", "type": "number" }] },
        "data": { "values": [times, values] },
    }] })
}

#[tokio::test]
async fn where_grafana_runs_it_is_asked() {
    let mut lab = World::new(Says(None)).await;
    let server = grafana(frame(&[now() - 5000, now()])).await;
    lab.endpoints.grafana = Some(server.uri());
    let shown = lab.shown();
    let way = shown.way().await.unwrap();
    assert_eq!(
        way.in_words(),
        format!("asked through Grafana at {}", server.uri())
    );
    shown.verify(&way, |_| true).await.unwrap();
    let mut kinds = BTreeSet::new();
    for request in server.received_requests().await.unwrap() {
        if request.url.path() != "/api/ds/query" {
            continue;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let query = &body["queries"][0];
        // Everything is put in: Grafana's server knows no variables.
        for key in ["expr", "query", "service"] {
            assert!(!query[key].as_str().unwrap_or("").contains('$'), "{query}");
        }
        assert_eq!(query["datasource"]["uid"], query["datasource"]["type"]);
        assert!(query["intervalMs"].as_u64() >= Some(5000), "{query}");
        let time = |key: &str| body[key].as_str().unwrap().parse::<i64>().unwrap();
        assert!(time("to") > time("from"));
        kinds.insert(query["datasource"]["uid"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["elasticsearch", "jaeger", "prometheus"]
    );
}

#[tokio::test]
async fn grafana_without_data_or_with_old_or_with_an_error_fails() {
    for (results, wanted) in [
        (frame(&[]), "overview `Requests` A: nothing came back"),
        (
            frame(&[now() - 605_000]),
            "overview `Requests` A: the newest of it is 60",
        ),
        (
            json!({ "status": 502, "error": "connection refused" }),
            "Grafana says connection refused",
        ),
        (json!({ "status": 200, "frames": [] }), "nothing came back"),
    ] {
        let mut lab = World::new(Says(Some(0))).await;
        let server = grafana(results).await;
        lab.endpoints.grafana = Some(server.uri());
        let shown = lab.shown();
        let way = shown.way().await.unwrap();
        let error = words(
            shown
                .verify(&way, |uid| uid == "overview")
                .await
                .unwrap_err(),
        );
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn grafana_with_other_dashboards_is_told_apart() {
    let mut lab = World::new(Says(Some(0))).await;
    let server = MockServer::start().await;
    Mock::given(path("/api/health"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "database": "ok" })))
        .mount(&server)
        .await;
    lab.endpoints.grafana = Some(server.uri());
    let error = words(lab.shown().way().await.unwrap_err());
    assert!(
        error.starts_with("Grafana has no dashboard overview"),
        "{error}"
    );
    Mock::given(path_regex("^/api/dashboards/uid/"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({ "dashboard": { "panels": [] } })),
        )
        .mount(&server)
        .await;
    let error = words(lab.shown().way().await.unwrap_err());
    assert!(
        error.starts_with("Grafana shows another overview"),
        "{error}"
    );
    // What is no Grafana is not asked.
    let other = MockServer::start().await;
    lab.endpoints.grafana = Some(other.uri());
    let way = lab.shown().way().await.unwrap();
    assert_eq!(
        way.in_words(),
        "queries verified; Grafana itself not running"
    );
}

// --- reading answers ---------------------------------------------------------------------------------

#[test]
fn the_newest_bucket_with_a_line_counts() {
    let histogram = |counts: &[(i64, u64)]| {
        let buckets: Vec<_> = counts
            .iter()
            .map(|(key, count)| json!({ "key": key, "doc_count": count }))
            .collect();
        json!({ "buckets": buckets })
    };
    let answer = json!({ "hits": { "hits": [] }, "aggregations": { "2": { "buckets": [
        { "key": "info", "doc_count": 3, "3": histogram(&[(1000, 3), (2000, 0)]) },
        { "key": "warn", "doc_count": 1, "3": histogram(&[(1000, 0), (2000, 1), (3000, 0)]) },
    ] } } });
    assert_eq!(newest_line(&answer), Some(2000));
    assert_eq!(newest_line(&json!({ "hits": { "hits": [] } })), None);
}

#[test]
fn a_frame_without_times_is_of_the_end() {
    let frames = |values: Value| {
        vec![
            json!({ "schema": { "fields": [{ "type": "string" }] }, "data": { "values": values } }),
        ]
    };
    assert_eq!(newest_in_frames(&frames(json!([["a"]])), 9), Some(9));
    assert_eq!(newest_in_frames(&frames(json!([[]])), 9), None);
    assert_eq!(newest_in_frames(&[], 9), None);
}

#[test]
fn no_number_is_no_value() {
    let answer = |value: &str| json!({ "data": { "resultType": "vector", "result": [{ "value": [1, value] }] } });
    let finite = |value: &str| {
        samples(&answer(value))
            .iter()
            .any(|(_, value)| value.is_finite())
    };
    assert!(finite("0"));
    assert!(!finite("NaN") && !finite("+Inf"));
}

#[test]
fn a_counter_that_starts_anew_is_counted_on() {
    assert!(close(increase(&[5.0, 7.0, 7.0, 10.0]), 5.0, 0.0));
    assert!(close(increase(&[5.0, 7.0, 1.0, 3.0]), 5.0, 0.0));
    assert!(close(increase(&[5.0]), 0.0, 0.0));
}
