//! What flask-api relies on.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::program::{Program, client};

#[tokio::test]
async fn an_order_is_paid_once_however_often_it_is_sent() {
    let payments = Program::start(&[]).await;
    let order = json!({"order_id": 7, "amount_cents": 1999});
    let first = payments.pay(order.clone()).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let first: Value = first.json().await.unwrap();
    assert!(first["id"].is_i64());
    assert_eq!(first["order_id"], 7);
    assert_eq!(first["amount_cents"], 1999);
    assert_eq!(first["status"], "approved");

    let again = payments.pay(order).await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let other_amount = payments
        .pay(json!({"order_id": 7, "amount_cents": 1}))
        .await;
    assert_eq!(other_amount.status(), StatusCode::CONFLICT);
    let other: Value = payments
        .pay(json!({"order_id": 8, "amount_cents": 1999}))
        .await
        .json()
        .await
        .unwrap();
    assert_ne!(other["id"], first["id"]);
}

#[tokio::test]
async fn amounts_over_the_limit_are_declined_and_can_be_tried_again() {
    let payments = Program::start(&["--decline-over", "500"]).await;
    let declined = payments
        .pay(json!({"order_id": 1, "amount_cents": 501}))
        .await;
    assert_eq!(declined.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(
        declined.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = declined.json().await.unwrap();
    assert!(
        problem["type"]
            .as_str()
            .unwrap()
            .ends_with("/payment-declined"),
        "{problem}"
    );
    assert_eq!(problem["trace_id"].as_str().unwrap().len(), 32);
    let approved = payments
        .pay(json!({"order_id": 1, "amount_cents": 500}))
        .await;
    assert_eq!(approved.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_no_payment_is_refused() {
    let payments = Program::start(&[]).await;
    for (body, status, reason) in [
        (json!({"order_id": 1}), 400, "amount_cents"),
        (
            json!({"order_id": "1", "amount_cents": 5}),
            400,
            "expected i64",
        ),
        (json!({"order_id": 0, "amount_cents": 5}), 422, "order_id"),
        (
            json!({"order_id": 1, "amount_cents": 0}),
            422,
            "amount_cents",
        ),
    ] {
        let response = payments.pay(body.clone()).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let problem: Value = response.json().await.unwrap();
        assert!(
            problem["detail"].as_str().unwrap().contains(reason),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn every_answer_it_can_give_is_in_the_table() {
    let payments = Program::start(&["--decline-over", "500"]).await;
    let before = series(&payments).await;
    for body in [
        json!({"order_id": 1, "amount_cents": 5}),
        json!({"order_id": 1, "amount_cents": 6}),
        json!({"order_id": 1, "amount_cents": 501}),
        json!({"order_id": 1, "amount_cents": -1}),
        json!({}),
        json!({"order_id": 1, "amount_cents": 5, "note": "x".repeat(300_000)}),
    ] {
        payments.pay(body).await;
    }
    let text = client()
        .post(payments.url())
        .body("1")
        .send()
        .await
        .unwrap();
    assert_eq!(text.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(series(&payments).await, before);
    for status in [201, 400, 402, 409, 413, 415, 422] {
        let labels = format!(r#"method="POST",route="/api/payments",status="{status}""#);
        let count = payments
            .metric(&format!("payments_requests_total{{{labels}}}"))
            .await;
        assert_eq!(count, 1.0, "{status}");
    }
}

/// Names of all counters of requests.
async fn series(payments: &Program) -> Vec<String> {
    let text = client()
        .get(payments.admin_url("/metrics"))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    text.lines()
        .filter(|line| line.starts_with("payments_requests_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}
