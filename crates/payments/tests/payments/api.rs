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
    let payments = Program::start_with_token(&["--decline-over", "500"]).await;
    let before = series(&payments).await;
    for body in [
        json!({"order_id": 1, "amount_cents": 5}),
        json!({"order_id": 1, "amount_cents": 6}),
        json!({"order_id": 2, "amount_cents": 501}),
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
    for (change, status) in [
        (json!({"fail_share": 1}), 503),
        (json!({"fail_share": 0, "lose_share": 1}), 504),
    ] {
        assert_eq!(payments.patch(&change).await.status(), StatusCode::OK);
        let answer = payments
            .pay(json!({"order_id": 1, "amount_cents": 5}))
            .await;
        assert_eq!(answer.status().as_u16(), status);
    }
    for status in [201, 400, 402, 409, 413, 415, 422, 503, 504] {
        let labels = format!(r#"method="POST",route="/api/payments",status="{status}""#);
        let count = payments
            .metric(&format!("payments_requests_total{{{labels}}}"))
            .await;
        assert_eq!(count, 1.0, "{status}");
    }
}

#[tokio::test]
async fn what_was_taken_and_lost_is_not_taken_again() {
    let payments = Program::start_with_token(&["--lose-share", "1"]).await;
    let order = json!({"order_id": 7, "amount_cents": 1999});
    let lost = payments.pay(order.clone()).await;
    assert_eq!(lost.status(), StatusCode::GATEWAY_TIMEOUT);
    // Also when it would be declined by now.
    let change = json!({"lose_share": 0, "decline_share": 1, "decline_over_cents": 5});
    assert_eq!(payments.patch(&change).await.status(), StatusCode::OK);
    let again: Value = payments.pay(order.clone()).await.json().await.unwrap();
    assert_eq!(again["status"], "approved");
    let once_more: Value = payments.pay(order).await.json().await.unwrap();
    assert_eq!(once_more, again);
    let other = payments
        .pay(json!({"order_id": 8, "amount_cents": 1}))
        .await;
    assert_eq!(other.status(), StatusCode::PAYMENT_REQUIRED);
}

#[tokio::test]
async fn its_behaviour_can_be_changed_with_the_token_only() {
    let payments = Program::start(&[]).await;
    let change = json!({"latency": "400ms"});
    assert_eq!(
        payments.patch(&change).await.status(),
        StatusCode::NOT_FOUND
    );

    let payments = Program::start_with_token(&["--latency", "0", "--fail-share", "0.5"]).await;
    let url = payments.admin_url("/behaviour");
    for token in [None, Some("Bearer 0123456789abcdeX")] {
        let mut request = client().patch(&url).json(&change);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let expected = json!({
        "latency_seconds": 0.0, "decline_over_cents": 1_000_000,
        "decline_share": 0.0, "fail_share": 0.5, "lose_share": 0.0,
    });
    assert_eq!(payments.behaviour().await, expected);

    let wrong = json!({"latency": "soon", "decline_share": 0.6, "fail_share": 2});
    let refused = payments.patch(&wrong).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = refused.json().await.unwrap();
    let errors = problem["errors"].as_array().unwrap().iter();
    let fields: Vec<_> = errors
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["latency", "fail_share"]);
    for malformed in [json!([]), json!({"hang_share": 1}), json!({"latency": 5})] {
        assert_eq!(
            payments.patch(&malformed).await.status(),
            400,
            "{malformed}"
        );
    }
    assert_eq!(
        payments.behaviour().await,
        expected,
        "nothing of it was done"
    );

    let changed = payments
        .patch(&json!({"latency": "1ms", "fail_share": 0, "decline_share": 1.0}))
        .await;
    assert_eq!(changed.status(), StatusCode::OK);
    let now = payments.behaviour().await;
    assert_eq!(
        (&now["latency_seconds"], &now["decline_share"]),
        (&json!(0.001), &json!(1.0))
    );
    let declined = payments
        .pay(json!({"order_id": 1, "amount_cents": 1}))
        .await;
    assert_eq!(declined.status(), StatusCode::PAYMENT_REQUIRED);
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

#[tokio::test]
async fn whoever_lost_the_answer_can_ask_without_paying() {
    let payments = Program::start(&["--lose-share", "1"]).await;
    let lost = payments
        .pay(json!({"order_id": 7, "amount_cents": 1999}))
        .await;
    assert_eq!(lost.status(), StatusCode::GATEWAY_TIMEOUT);
    let get = async |order: &str| {
        let url = format!("http://{}/api/payments/{order}", payments.address);
        client().get(url).send().await.unwrap()
    };
    let found = get("7").await;
    assert_eq!(found.status(), StatusCode::OK);
    let found: Value = found.json().await.unwrap();
    assert_eq!(
        (&found["order_id"], &found["amount_cents"]),
        (&json!(7), &json!(1999))
    );
    for unknown in ["8", "seven", "-1", "99999999999999999999"] {
        let answer = get(unknown).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{unknown}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}
