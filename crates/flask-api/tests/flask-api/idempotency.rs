//! `Idempotency-Key`.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, STOCK, Shop, approved, broken, declined, one};

#[actix_web::test]
async fn a_retry_is_answered_with_the_same_order() {
    let shop = Shop::open().await;
    let first = shop.place_with_key(&one(1, 2), "k").await;
    // The same order, written differently.
    let same =
        json!({"items": [{"quantity": 1, "product_id": 1}, {"quantity": 1, "product_id": 1}]});
    for body in [one(1, 2), same] {
        let retry = shop.place_with_key(&body, "k").await;
        assert_eq!((retry.status.as_u16(), &retry.body), (201, &first.body));
        assert_eq!(retry.header("location"), first.header("location"));
        assert_eq!(retry.header("idempotency-replayed"), "true");
    }
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(
        (shop.stock(1).await, shop.payments_asked().await),
        (STOCK - 2, 1)
    );
    assert_ne!(shop.place_with_key(&one(1, 2), "K").await.id(), first.id());
    shop.close().await;
}

#[actix_web::test]
async fn a_key_belongs_to_one_order() {
    let shop = Shop::open().await;
    assert_eq!(shop.place_with_key(&one(1, 2), "k").await.status, 201);
    for other in [
        one(1, 3),
        one(2, 2),
        json!({"items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]}),
    ] {
        shop.place_with_key(&other, "k")
            .await
            .assert_problem(422, "/problems/idempotency-key-reused");
    }
    assert_eq!(
        (shop.stock(1).await, shop.stock(2).await),
        (STOCK - 2, STOCK)
    );
    shop.close().await;
}

#[actix_web::test]
async fn requests_with_one_key_at_the_same_time_place_one_order() {
    let shop = Shop::open_with(&["--workers=4"]).await;
    shop.payments_answer(approved().set_delay(Duration::from_millis(200)))
        .await;
    let body = one(1, 2);
    let answers = futures::future::join_all((0..20).map(|_| shop.place_with_key(&body, "k"))).await;
    for answer in &answers {
        assert_eq!(
            (answer.status.as_u16(), answer.body["status"].as_str()),
            (201, Some("paid")),
            "{answer:?}"
        );
    }
    assert_eq!(
        answers.iter().map(Answer::id).collect::<HashSet<_>>().len(),
        1
    );
    assert_eq!(
        (shop.stock(1).await, shop.payments_asked().await),
        (STOCK - 2, 1)
    );
    shop.close().await;
}

#[actix_web::test]
async fn a_declined_order_stays_declined() {
    let shop = Shop::open().await;
    shop.payments_answer(declined()).await;
    let first = shop.place_with_key(&one(1, 2), "k").await;
    shop.payments_answer(approved()).await;
    let retry = shop.place_with_key(&one(1, 2), "k").await;
    assert_eq!((retry.status.as_u16(), &retry.body), (201, &first.body));
    assert_eq!(shop.payments_asked().await, 0);
    shop.close().await;
}

#[actix_web::test]
async fn a_retry_pays_for_the_same_order_once_payments_is_back() {
    let shop = Shop::open().await;
    shop.payments_answer(broken()).await;
    let first = shop.place_with_key(&one(1, 2), "k").await;
    first.assert_problem(503, "/problems/payment-unavailable");
    let second = shop.place_with_key(&one(1, 2), "k").await;
    second.assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(shop.stock(1).await, STOCK);
    shop.place_with_key(&one(1, 3), "k")
        .await
        .assert_problem(422, "/problems/idempotency-key-reused");

    shop.payments_answer(approved()).await;
    let body = one(1, 2);
    let answers = futures::future::join_all((0..5).map(|_| shop.place_with_key(&body, "k"))).await;
    for answer in answers {
        assert_eq!(
            (answer.status.as_u16(), answer.body["status"].as_str()),
            (201, Some("paid")),
            "{answer:?}"
        );
        assert_eq!(answer.body["id"], first.body["order_id"]);
        assert!(answer.body["failure"].is_null());
    }
    assert_eq!(
        (shop.stock(1).await, shop.payments_asked().await),
        (STOCK - 2, 1)
    );
    shop.close().await;
}

#[actix_web::test]
async fn a_key_that_is_none_is_a_problem() {
    let shop = Shop::open().await;
    let order = || shop.request(Method::POST, "/api/orders").json(&one(1, 2));
    let long = "k".repeat(256);
    for request in [
        order().header("Idempotency-Key", ""),
        order().header("Idempotency-Key", &long),
        order().header("Idempotency-Key", "two words"),
        order().header("Idempotency-Key", [0xff_u8].as_slice()),
        order()
            .header("Idempotency-Key", "a")
            .header("Idempotency-Key", "b"),
    ] {
        let refused = Answer::of(request.send().await.unwrap()).await;
        refused.assert_problem(400, "/problems/invalid-idempotency-key");
        assert_eq!(refused.fields(), ["Idempotency-Key"]);
    }
    assert_eq!(
        shop.place_with_key(&one(1, 2), &long[1..]).await.status,
        201
    );
    shop.close().await;
}
