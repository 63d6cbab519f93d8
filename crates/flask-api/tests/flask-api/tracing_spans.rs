//! The trace of an order: server span, database spans, and the call to payments.

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use reqwest::Method;

use crate::harness::{Answer, Shop, broken, eventually, one, spans};

/// All spans of a trace, once its server span is over.
pub async fn trace(id: TraceId) -> Vec<SpanData> {
    let mut found = Vec::new();
    eventually("the trace is complete", async || {
        found = spans().get_finished_spans().unwrap();
        found.retain(|span| span.span_context.trace_id() == id);
        found.iter().any(|span| span.span_kind == SpanKind::Server)
    })
    .await;
    found
}

pub fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    let attribute = span
        .attributes
        .iter()
        .find(|KeyValue { key: name, .. }| name.as_str() == key)?;
    Some(attribute.value.clone())
}

#[track_caller]
pub fn assert_attributes(span: &SpanData, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let actual = attribute(span, key).map(|value| value.to_string());
        assert_eq!(actual.as_deref(), Some(*value), "{key} of {span:?}");
    }
}

/// Places an order as part of the caller's trace `id`.
pub async fn place_in_trace(shop: &Shop, id: &str) -> Answer {
    let traceparent = format!("00-{id}-00f067aa0ba902b7-01");
    let request = shop
        .request(Method::POST, "/api/orders")
        .json(&one(1, 1))
        .header("traceparent", traceparent);
    Answer::of(request.send().await.unwrap()).await
}

#[actix_web::test]
async fn an_order_is_one_trace_from_the_caller_to_payments() {
    let shop = Shop::open().await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4701";
    assert_eq!(place_in_trace(&shop, id).await.status, 201);

    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    let server = trace
        .iter()
        .find(|span| span.span_kind == SpanKind::Server)
        .unwrap();
    assert_eq!(server.name, "POST /api/orders");
    assert_eq!(
        server.parent_span_id,
        SpanId::from_hex("00f067aa0ba902b7").unwrap()
    );

    let clients: Vec<&SpanData> = trace
        .iter()
        .filter(|span| span.span_kind == SpanKind::Client)
        .collect();
    assert_eq!(
        clients
            .iter()
            .map(|span| span.name.as_ref())
            .collect::<Vec<_>>(),
        ["INSERT orders", "POST", "UPDATE orders"]
    );
    for span in &clients {
        assert_eq!(
            span.parent_span_id,
            server.span_context.span_id(),
            "{span:?}"
        );
        assert_eq!(span.status, Status::Unset, "{span:?}");
    }
    assert_attributes(
        clients[0],
        &[
            ("db.system.name", "sqlite"),
            ("db.operation.name", "INSERT"),
            ("db.collection.name", "orders"),
            (
                "db.query.summary",
                "SELECT products UPDATE products INSERT orders INSERT order_items",
            ),
        ],
    );
    let address = shop.payments.address();
    assert_attributes(
        clients[1],
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "201"),
            ("server.address", &address.ip().to_string()),
            ("server.port", &address.port().to_string()),
            ("url.full", &format!("http://{address}/api/payments")),
        ],
    );
    // As numbers: what looks the same in a text is not found by a query for a number.
    for (key, number) in [
        ("http.response.status_code", 201),
        ("server.port", address.port().into()),
    ] {
        assert_eq!(
            attribute(clients[1], key),
            Some(Value::I64(number)),
            "{key}"
        );
    }

    let asked = &shop.payments.received_requests().await.unwrap()[0];
    let expected = format!("00-{id}-{}-01", clients[1].span_context.span_id());
    assert_eq!(
        asked.headers["traceparent"].to_str().unwrap(),
        expected,
        "payments continues the client span"
    );
    shop.close().await;
}

#[actix_web::test]
async fn a_failing_dependency_shows_in_the_trace_the_client_is_told() {
    let shop = Shop::open().await;
    shop.payments_answer(broken()).await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4702";
    let refused = place_in_trace(&shop, id).await;
    refused.assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(refused.body["trace_id"], id);

    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    let call = trace.iter().find(|span| span.name == "POST").unwrap();
    assert!(matches!(call.status, Status::Error { .. }), "{call:?}");
    assert_attributes(
        call,
        &[("http.response.status_code", "500"), ("error.type", "500")],
    );
    let server = trace.iter().find(|s| s.span_kind == SpanKind::Server);
    assert_attributes(server.unwrap(), &[("error.type", "500")]);
    shop.close().await;
}
