//! One span and one access log line for each request, in the caller's trace.

use std::collections::BTreeMap;

use opentelemetry::{
    Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;
use tracing::Level;

use crate::harness::{Running, client, eventually, lines_of, spans_of, start};

const CALLER: &str = "00f067aa0ba902b7";

/// Sends a request within a trace and returns its span; the trace id is the caller's choice.
async fn traced(service: &Running, trace_id: &str, path: &str) -> SpanData {
    let response = client()
        .get(service.url(path))
        .header("traceparent", format!("00-{trace_id}-{CALLER}-01"))
        .header("user-agent", "probe/1.0")
        .header("authorization", "Bearer secret-token")
        .header("cookie", "session=secret-cookie")
        .send()
        .await
        .unwrap();
    if response.status().is_client_error() || response.status().is_server_error() {
        assert!(
            response.text().await.unwrap().contains(trace_id),
            "the problem names the trace"
        );
    }
    // The span ends once the response is on its way.
    eventually("the span ends", || async { !spans_of(trace_id).is_empty() }).await;
    let [span] = <[_; 1]>::try_from(spans_of(trace_id)).expect("one span");
    span
}

fn attributes(span: &SpanData) -> BTreeMap<&str, &Value> {
    span.attributes
        .iter()
        .map(|pair| (pair.key.as_str(), &pair.value))
        .collect()
}

#[actix_web::test]
async fn the_span_follows_the_conventions_and_continues_the_callers_trace() {
    let service = start();
    let span = traced(
        &service,
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "/items/7?token=secret",
    )
    .await;
    assert_eq!(span.parent_span_id.to_string(), CALLER);
    assert!(span.parent_span_is_remote);
    assert_eq!(span.name, "GET /items/{id}");
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(
        span.status,
        Status::Unset,
        "only a 5xx is an error of the server"
    );
    let attributes = attributes(&span);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/items/{id}"),
        ("url.path", "/items/7"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("server.address", "127.0.0.1"),
        ("user_agent.original", "probe/1.0"),
    ] {
        assert_eq!(attributes[key].as_str(), value, "{key}");
    }
    assert_eq!(attributes["http.response.status_code"], &Value::I64(200));
    assert_eq!(
        attributes["server.port"],
        &Value::I64(service.address.port().into())
    );
    assert!(!attributes.contains_key("error.type"));
    assert!(!format!("{span:?}").contains("secret"), "{span:?}");
}

#[actix_web::test]
async fn the_access_log_has_one_line_in_the_same_trace() {
    let service = start();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4737";
    traced(&service, trace_id, "/items/7?token=secret").await;
    let [line] = <[_; 1]>::try_from(lines_of(trace_id)).expect("one line");
    assert_eq!((line.target, line.level), ("access", Level::INFO));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/items/{id}"),
        ("http.response.status_code", "200"),
        ("http.version", "1.1"),
        ("url.path", "/items/7"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "probe/1.0"),
    ] {
        assert_eq!(line.fields[key], value, "{key}");
    }
    assert!(line.fields["event.duration"].parse::<u64>().unwrap() > 0);
    assert!(!format!("{line:?}").contains("secret"), "{line:?}");
}

#[actix_web::test]
async fn a_failure_is_told_to_the_operator() {
    let service = start();
    for (n, path, kind, message, status) in [
        (1, "/fail", "storage", "disk on fire", 500),
        (2, "/panic", "panic", "the handler panicked", 500),
        (3, "/text", "502", "the upstream said no", 502),
    ] {
        let trace_id = format!("4bf92f3577b34da6a3ce929d0e0e474{n}");
        let span = traced(&service, &trace_id, path).await;
        assert_eq!(span.status, Status::error(message), "{path}");
        let attributes = attributes(&span);
        assert_eq!(attributes["error.type"].as_str(), kind);
        assert_eq!(attributes["http.response.status_code"], &Value::I64(status));
        let lines = lines_of(&trace_id);
        let [error, access] = lines.as_slice() else {
            panic!("two lines: {lines:?}")
        };
        assert_eq!(error.level, Level::ERROR);
        assert_eq!(error.fields["error.type"], kind);
        assert_eq!(error.fields["error.message"], message);
        assert_eq!(error.fields["http.route"], path);
        assert_eq!(access.target, "access");
        assert_eq!(
            access.fields["http.response.status_code"],
            status.to_string()
        );
    }
}

#[actix_web::test]
async fn a_refusal_is_no_error_of_the_server() {
    let service = start();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4751";
    let span = traced(&service, trace_id, "/items/404").await;
    assert_eq!(span.status, Status::Unset);
    assert!(!attributes(&span).contains_key("error.type"));
    assert_eq!(lines_of(trace_id).len(), 1);
}

#[actix_web::test]
async fn the_path_of_an_unmatched_request_is_not_in_the_spans_name() {
    let service = start();
    let span = traced(&service, "4bf92f3577b34da6a3ce929d0e0e4761", "/wp-admin/17").await;
    assert_eq!(span.name, "GET");
    assert!(!attributes(&span).contains_key("http.route"));

    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4762";
    let traceparent = format!("00-{trace_id}-{CALLER}-01");
    let method = reqwest::Method::from_bytes(b"BREW").unwrap();
    let request = client()
        .request(method, service.url("/items"))
        .header("traceparent", traceparent);
    request.send().await.unwrap();
    eventually("the span ends", || async { !spans_of(trace_id).is_empty() }).await;
    let span = spans_of(trace_id).remove(0);
    assert_eq!(span.name, "HTTP");
    assert_eq!(attributes(&span)["http.request.method"].as_str(), "_OTHER");
    assert_eq!(
        attributes(&span)["http.request.method_original"].as_str(),
        "BREW"
    );
}

#[actix_web::test]
async fn a_client_that_leaves_leaves_a_line() {
    use tokio::io::AsyncWriteExt as _;
    let service = start();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4771";
    let mut connection = tokio::net::TcpStream::connect(service.address)
        .await
        .unwrap();
    let head =
        format!("GET /slow HTTP/1.1\r\nhost: h\r\ntraceparent: 00-{trace_id}-{CALLER}-01\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    eventually("in progress", || async {
        service.metric("test_http_requests_in_progress").await == 1.0
    })
    .await;
    connection.set_zero_linger().unwrap();
    drop(connection);
    eventually("the span ends", || async { !spans_of(trace_id).is_empty() }).await;
    let [line] = <[_; 1]>::try_from(lines_of(trace_id)).expect("one line");
    assert_eq!(line.fields["error.type"], "aborted");
    assert!(!line.fields.contains_key("http.response.status_code"));
}

#[actix_web::test]
async fn what_a_client_sends_is_bounded() {
    let service = start();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4781";
    let response = client()
        .get(service.url(&format!("/{}", "x".repeat(8_000))))
        .header("traceparent", format!("00-{trace_id}-{CALLER}-01"))
        .header("user-agent", "é".repeat(5_000))
        .send();
    response.await.unwrap();
    eventually("the span ends", || async { !spans_of(trace_id).is_empty() }).await;
    let [line] = <[_; 1]>::try_from(lines_of(trace_id)).expect("one line");
    assert_eq!(line.fields["url.path"].len(), 2048);
    assert_eq!(line.fields["user_agent.original"], "é".repeat(128));
}
