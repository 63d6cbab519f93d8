//! Credentials sent everywhere, and looked for everywhere: logs, metrics, Jaeger, Elasticsearch, Prometheus.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use serde_json::Value;

use crate::running::{TestLab, eventually, everything_is_installed, text};

/// In every credential, and nowhere else.
const CANARY: &str = "hunter2-canary";

/// Requests that carry it wherever people put credentials; each belongs to the trace of its number.
fn requests(token: &str) -> Vec<String> {
    let order = r#"{"items":[{"product_id":1,"quantity":1}],"password":"hunter2-canary-body","card":"hunter2-canary-card"}"#;
    let heads = [
        "GET /api/products?access_token=hunter2-canary-query&q=%68unter2-canary HTTP/1.1".to_owned(),
        "GET /api/orders?status=hunter2-canary-query&limit=hunter2-canary&cursor=hunter2-canary HTTP/1.1".to_owned(),
        "GET /api/orders/1?hunter2-canary HTTP/1.1".to_owned(),
        "GET http://maria:hunter2-canary-userinfo@a/api/products HTTP/1.1".to_owned(),
        "GET /nowhere?password=hunter2-canary HTTP/1.1".to_owned(),
        "POST /api/orders?token=hunter2-canary HTTP/1.1".to_owned(),
        "POST /api/payments?token=hunter2-canary HTTP/1.1".to_owned(),
    ];
    let bodies = [
        order.to_owned(),
        r#"{"items":"hunter2-canary-body"}"#.to_owned(),
        r#"{"hunter2-canary-body""#.to_owned(),
        "hunter2-canary-body".to_owned(),
    ];
    let mut requests = Vec::new();
    for head in &heads {
        let bodies = match head.starts_with("POST") {
            true => &bodies[..],
            false => &[String::new()],
        };
        for body in bodies {
            for fault in [
                "X-Fault: hunter2-canary-fault\r\nX-Fault-Token: hunter2-canary-wrong".to_owned(),
                // With the right one, for the fault's own paths to be tried.
                format!("X-Fault: errors\r\nX-Fault-Token: {token}"),
            ] {
                let trace = requests.len() + 1;
                requests.push(format!(
                    "{head}\r\nHost: a\r\nConnection: close\r\ntraceparent: {}\r\n\
                     Authorization: Bearer hunter2-canary-bearer\r\n\
                     Proxy-Authorization: Basic bWFyaWE6aHVudGVyMi1jYW5hcnk=\r\n\
                     Cookie: session=hunter2-canary-cookie\r\nX-Api-Key: hunter2-canary-key\r\n\
                     Idempotency-Key: hunter2-canary-{trace}\r\nReferer: http://a/?hunter2-canary\r\n\
                     baggage: token=hunter2-canary\r\nX-Forwarded-For: hunter2-canary\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n{fault}\r\n\r\n{body}",
                    traceparent(trace),
                    body.len(),
                ));
            }
        }
    }
    requests
}

fn trace_id(number: usize) -> String {
    format!("ca{number:030x}")
}

fn traceparent(number: usize) -> String {
    format!("00-{}-00000000000000ca-01", trace_id(number))
}

fn send(port: u16, request: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A refused request may cut the connection behind its answer.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Where the canary is, of everything below a directory.
fn files_with_it(dir: &Path, secret: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with_it(&path, secret));
        } else {
            let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.extend(lines_with_it(&path.display().to_string(), &content, secret));
        }
    }
    found
}

fn lines_with_it(place: &str, content: &str, secrets: &[&str]) -> Vec<String> {
    content
        .lines()
        .filter(|line| secrets.iter().any(|secret| line.contains(secret)))
        .map(|line| format!("{place}: {}", line.chars().take(500).collect::<String>()))
        .collect()
}

#[test]
fn credentials_are_in_no_log_no_span_no_metric_and_no_store() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let token = std::fs::read_to_string(lab.data.path().join("chaos-token")).unwrap();
    let token = token.trim();
    let secrets = [CANARY, token, "bWFyaWE6aHVudGVyMi1jYW5hcnk"];

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let get = |component: &str, port: &str, path: &str| -> String {
        let url = format!("http://127.0.0.1:{}{path}", lab.port(component, port));
        runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
    };

    let requests = requests(token);
    let mut expected = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        for (component, port) in [("flask-api-1", "http"), ("payments", "http")] {
            let answer = send(lab.port(component, port), request);
            // What is refused before it is looked at has no trace.
            if !answer.is_empty() && !answer.contains("content-length: 0\r\n") {
                expected.push(trace_id(index + 1));
            }
        }
        let admin = request.replacen("/api/orders", "/chaos/errors", 1);
        send(lab.port("flask-api-1", "admin"), &admin);
    }
    expected.dedup();
    assert!(
        expected.len() > 20,
        "{} of {}",
        expected.len(),
        requests.len()
    );

    // A store that has the last ones has had the others.
    let hits = |trace: &str| -> Value {
        let path = format!("/flask-logs-*/_search?size=1000&q=trace.id:{trace}");
        serde_json::from_str(&get("elasticsearch", "http", &path)).unwrap_or_default()
    };
    let spans = |trace: &str| get("jaeger", "http", &format!("/api/traces/{trace}"));
    for trace in &expected {
        eventually("its lines are in Elasticsearch", || {
            hits(trace)["hits"]["total"]["value"].as_u64().unwrap_or(0) > 0
        });
        eventually("its spans are in Jaeger", || {
            spans(trace).contains("\"spanID\"")
        });
    }

    let mut found = Vec::new();
    for trace in &expected {
        found.extend(lines_with_it(
            "elasticsearch",
            &hits(trace).to_string(),
            &secrets,
        ));
        found.extend(lines_with_it("jaeger", &spans(trace), &secrets));
    }
    for word in ["hunter2", "canary"] {
        let path = format!("/flask-logs-*/_count?q=*{word}*");
        let count: Value = serde_json::from_str(&get("elasticsearch", "http", &path)).unwrap();
        assert_eq!(count["count"], 0, "{word} in Elasticsearch: {count}");
    }
    for (component, port) in [
        ("flask-api-1", "admin"),
        ("flask-api-2", "admin"),
        ("payments", "admin"),
        ("custom-flask-exporter", "http"),
        ("loadgen", "metrics"),
        ("jaeger", "spanmetrics"),
    ] {
        let page = get(component, port, "/metrics");
        assert!(page.contains("# TYPE"), "{component}: {page}");
        found.extend(lines_with_it(component, &page, &secrets));
    }
    let series = get(
        "prometheus",
        "http",
        "/api/v1/series?match[]={__name__!=%22%22}",
    );
    assert!(series.contains("flask_requests_total"), "{series}");
    found.extend(lines_with_it("prometheus", &series, &secrets));
    found.extend(files_with_it(&lab.data.path().join("logs"), &secrets));
    assert!(found.is_empty(), "{found:#?}");
}
