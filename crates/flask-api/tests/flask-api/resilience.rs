//! Payments in trouble: retries, the time they may take, and the circuit breaker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry::trace::{SpanKind, Status, TraceId};
use reqwest::StatusCode;
use serde_json::json;
use wiremock::{Request, Respond, ResponseTemplate};

use crate::harness::{STOCK, Shop, approved, broken, declined, eventually, one};
use crate::metrics::samples;
use crate::tracing_spans::{attribute, place_in_trace, trace};

/// Answers in turn, and the last one for ever.
struct InTurn(Vec<ResponseTemplate>, AtomicUsize);

impl InTurn {
    fn new(answers: Vec<ResponseTemplate>) -> Self {
        Self(answers, AtomicUsize::new(0))
    }
}

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let nth = self.1.fetch_add(1, Ordering::Relaxed);
        self.0[nth.min(self.0.len() - 1)].clone()
    }
}

fn status(code: u16) -> ResponseTemplate {
    ResponseTemplate::new(code)
}

/// The value of a metric of payments, by the end of its name and further labels.
async fn metric(shop: &Shop, name: &str, labels: &str) -> f64 {
    let page = shop.admin("/metrics").await;
    let series = format!(r#"flask_dependency_{name}{{dependency="payments"{labels}}}"#);
    samples(&page)[series.as_str()]
}

async fn state(shop: &Shop) -> String {
    let mut current = Vec::new();
    for state in ["closed", "open", "half_open"] {
        let labels = format!(r#",state="{state}""#);
        if metric(shop, "breaker_state", &labels).await == 1.0 {
            current.push(state);
        }
    }
    assert_eq!(current.len(), 1, "one state at a time: {current:?}");
    current[0].to_owned()
}

#[actix_web::test]
async fn what_may_pass_is_tried_again() {
    let shop = Shop::open_with(&["--payments-retries=2", "--payments-timeout=60s"]).await;
    let mut retries = 0.0;
    for failures in [
        vec![broken()],
        vec![status(503), status(504)],
        vec![status(429)],
        vec![status(408), status(502)],
    ] {
        retries += failures.len() as f64;
        let answers = [failures.clone(), vec![approved()]].concat();
        let asked = answers.len();
        shop.payments_answer(InTurn::new(answers)).await;
        let placed = shop.place(&one(1, 1)).await;
        assert_eq!(placed.body["status"], "paid", "{failures:?}: {placed:?}");
        assert_eq!(shop.payments_asked().await, asked);
        assert_eq!(metric(&shop, "retries_total", "").await, retries);
        let bodies = shop.payments.received_requests().await.unwrap();
        assert!(
            bodies.iter().all(|request| request.body == bodies[0].body),
            "payments knows a retry by its order"
        );
    }
    shop.close().await;
}

#[actix_web::test]
async fn what_will_not_pass_is_not_tried_again() {
    let shop = Shop::open_with(&["--payments-retries=2", "--payments-breaker-failures=1"]).await;
    for code in [400, 404, 409, 422] {
        shop.payments_answer(status(code)).await;
        shop.place(&one(1, 1))
            .await
            .assert_problem(503, "/problems/payment-unavailable");
        assert_eq!(shop.payments_asked().await, 1, "{code}");
    }
    shop.payments_answer(declined()).await;
    assert_eq!(shop.place(&one(1, 1)).await.body["status"], "failed");
    assert_eq!(shop.payments_asked().await, 1);
    assert_eq!(metric(&shop, "retries_total", "").await, 0.0);
    assert_eq!(state(&shop).await, "closed", "whoever refuses is well");
    shop.close().await;
}

#[actix_web::test]
async fn retries_are_bounded_in_number_and_in_time() {
    let shop = Shop::open_with(&["--payments-retries=3", "--payments-timeout=60s"]).await;
    shop.payments_answer(broken()).await;
    shop.place(&one(1, 1))
        .await
        .assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(shop.payments_asked().await, 4);
    // It wants to be left alone for longer than a customer waits: no second request.
    shop.payments_answer(status(503).insert_header("retry-after", "3600"))
        .await;
    let refused = shop.place(&one(1, 1)).await;
    refused.assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(refused.header("retry-after"), "3600");
    assert_eq!(shop.payments_asked().await, 1);
    shop.close().await;

    // One attempt that hangs leaves time for another, two leave none for a third.
    let shop = Shop::open_with(&[
        "--payments-retries=10",
        "--payments-attempt-timeout=600ms",
        "--payments-timeout=1s",
    ])
    .await;
    let never = approved().set_delay(Duration::from_secs(60));
    shop.payments_answer(InTurn::new(vec![never.clone(), approved()]))
        .await;
    assert_eq!(shop.place(&one(1, 1)).await.body["status"], "paid");
    shop.payments_answer(never).await;
    shop.place(&one(1, 1))
        .await
        .assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(
        metric(&shop, "requests_total", r#",outcome="timeout""#).await,
        3.0
    );
    assert_eq!(shop.stock(1).await, STOCK - 1);
    shop.close().await;
}

#[actix_web::test]
async fn each_attempt_is_a_span_that_says_which_it_is() {
    let shop = Shop::open_with(&["--payments-retries=2", "--payments-timeout=60s"]).await;
    shop.payments_answer(InTurn::new(vec![broken(), status(503), approved()]))
        .await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4721";
    assert_eq!(place_in_trace(&shop, id).await.status, 201);
    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    let attempts: Vec<_> = trace.iter().filter(|span| span.name == "POST").collect();
    let seen: Vec<_> = attempts
        .iter()
        .map(|span| {
            let number = |key| match attribute(span, key) {
                Some(Value::I64(number)) => Some(number),
                None => None,
                other => panic!("{key} is {other:?}"),
            };
            (
                number("http.request.resend_count"),
                number("http.response.status_code"),
                matches!(span.status, Status::Error { .. }),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (None, Some(500), true),
            (Some(1), Some(503), true),
            (Some(2), Some(201), false)
        ]
    );
    // Payments continues each attempt's own span.
    let parents: Vec<String> = shop
        .payments
        .received_requests()
        .await
        .unwrap()
        .iter()
        .map(|request| request.headers["traceparent"].to_str().unwrap()[36..52].to_owned())
        .collect();
    let spans: Vec<String> = attempts
        .iter()
        .map(|span| span.span_context.span_id().to_string())
        .collect();
    assert_eq!(parents, spans);
    // Why there was a retry is told where it was decided.
    let server = trace
        .iter()
        .find(|span| span.span_kind == SpanKind::Server)
        .unwrap();
    let retries = server
        .events
        .iter()
        .filter(|event| event.name.starts_with("payments is asked again"));
    assert_eq!(retries.count(), 2, "{:#?}", server.events);
    shop.close().await;
}

#[actix_web::test]
async fn a_payment_service_that_fails_is_left_alone_until_it_is_well() {
    let shop = Shop::open_with(&[
        "--payments-breaker-failures=3",
        "--payments-breaker-pause=1h",
    ])
    .await;
    shop.payments_answer(broken()).await;
    for _ in 0..3 {
        assert_eq!(state(&shop).await, "closed");
        shop.place(&one(1, 1))
            .await
            .assert_problem(503, "/problems/payment-unavailable");
    }
    assert_eq!(state(&shop).await, "open");
    assert_eq!(metric(&shop, "breaker_opened_total", "").await, 1.0);
    let id = "4bf92f3577b34da6a3ce929d0e0e4722";
    let refused = place_in_trace(&shop, id).await;
    refused.assert_problem(503, "/problems/payment-unavailable");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!(
        shop.payments_asked().await,
        3,
        "it was not asked a fourth time"
    );
    assert_eq!(metric(&shop, "rejected_total", "").await, 1.0);
    assert_eq!(
        metric(&shop, "requests_total", r#",outcome="error""#).await,
        3.0
    );
    assert_eq!(shop.stock(1).await, STOCK, "nothing stays reserved");

    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    assert!(trace.iter().all(|span| span.name != "POST"), "{trace:#?}");
    let server = trace
        .iter()
        .find(|span| span.span_kind == SpanKind::Server)
        .unwrap();
    assert_eq!(
        attribute(server, "error.type"),
        Some(Value::from("breaker_open"))
    );

    let readyz: serde_json::Value = serde_json::from_str(&shop.admin("/readyz").await).unwrap();
    assert_eq!(
        readyz,
        json!({"ready": true, "not_ready": [], "degraded": ["payments"]})
    );
    // Everything else works meanwhile.
    assert_eq!(shop.get("/api/products").await.status, StatusCode::OK);
    shop.close().await;
}

#[actix_web::test]
async fn after_its_pause_one_order_tries_and_the_rest_follows() {
    let shop = Shop::open_with(&[
        "--payments-breaker-failures=1",
        "--payments-breaker-pause=200ms",
    ])
    .await;
    shop.payments_answer(broken()).await;
    shop.place(&one(1, 1)).await;
    assert_eq!(state(&shop).await, "open");
    // The trial fails: open anew.
    eventually("a trial", async || {
        shop.place(&one(1, 1)).await;
        shop.payments_asked().await >= 2
    })
    .await;
    assert_eq!(state(&shop).await, "open");
    assert_eq!(metric(&shop, "breaker_opened_total", "").await, 2.0);
    // The trial succeeds: closed. While it tries, the others are turned away.
    shop.payments_answer(approved().set_delay(Duration::from_millis(300)))
        .await;
    eventually("an order is paid", async || {
        let body = one(1, 1);
        let both = futures::future::join_all((0..5).map(|_| shop.place(&body))).await;
        let paid = both.iter().filter(|answer| answer.status == 201).count();
        assert!(paid <= 1, "one tries for all: {both:?}");
        paid == 1
    })
    .await;
    assert_eq!(shop.payments_asked().await, 1);
    assert_eq!(state(&shop).await, "closed");
    assert!(!shop.admin("/readyz").await.contains("degraded"));
    let body = one(1, 1);
    let all = futures::future::join_all((0..5).map(|_| shop.place(&body))).await;
    assert!(all.iter().all(|answer| answer.status == 201), "{all:?}");
    shop.close().await;
}
