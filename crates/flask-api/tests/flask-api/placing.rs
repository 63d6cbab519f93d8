//! POST /api/orders and GET /api/orders/{id}.

use std::sync::Arc;
use std::time::Duration;

use flask_api::order::{Cart, OrderRequest, OrderStatus};
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::{MockServer, ResponseTemplate};

use crate::fixture::Fixture;
use crate::harness::{
    Answer, STOCK, Shop, answer, approved, approved_later, broken, declined, eventually, look_up,
    one, patient_shop,
};

#[actix_web::test]
async fn an_order_is_paid_and_can_be_looked_up() {
    let shop = Shop::open().await;
    let placed = shop
        .place(
            &json!({"items": [{"product_id": 2, "quantity": 1}, {"product_id": 1, "quantity": 3}]}),
        )
        .await;
    assert_eq!(placed.status, 201, "{placed:?}");
    assert_eq!(
        placed.header("location"),
        format!("/api/orders/{}", placed.id())
    );
    assert_eq!(placed.body["status"], "paid");
    assert!(placed.body["failure"].is_null());
    assert_eq!(placed.body["total_cents"], 2790 + 3 * 1290);
    assert_eq!(
        placed.body["items"],
        json!([
            {"product_id": 1, "quantity": 3, "unit_price_cents": 1290},
            {"product_id": 2, "quantity": 1, "unit_price_cents": 2790},
        ])
    );
    let created: jiff::Timestamp = placed.body["created_at"].as_str().unwrap().parse().unwrap();
    assert!(created <= jiff::Timestamp::now());

    let found = shop.get(placed.header("location")).await;
    assert_eq!((found.status.as_u16(), &found.body), (200, &placed.body));
    assert_eq!(
        (shop.stock(1).await, shop.stock(2).await),
        (STOCK - 3, STOCK - 1)
    );

    let asked = &shop.payments.received_requests().await.unwrap()[0];
    let asked: Value = asked.body_json().unwrap();
    assert_eq!(
        asked,
        json!({"order_id": placed.id(), "amount_cents": 2790 + 3 * 1290})
    );
    shop.close().await;
}

#[actix_web::test]
async fn lines_of_one_product_are_merged() {
    let shop = Shop::open().await;
    let line = json!({"product_id": 4, "quantity": 2});
    let placed = shop.place(&json!({"items": [line, line]})).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    assert_eq!(placed.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(placed.body["items"][0]["quantity"], 4);
    assert_eq!(shop.stock(4).await, STOCK - 4);
    shop.close().await;
}

#[actix_web::test]
async fn an_invalid_order_names_its_fields() {
    let shop = Shop::open().await;
    let lines = |n: i64| {
        (0..n)
            .map(|_| json!({"product_id": 1, "quantity": 1}))
            .collect::<Vec<_>>()
    };
    let cases: [(Value, &[&str]); 7] = [
        (json!({"items": []}), &["items"]),
        (json!({"items": lines(51)}), &["items"]),
        (one(1, 0), &["items[0].quantity"]),
        (one(1, -3), &["items[0].quantity"]),
        (one(1, 1001), &["items[0].quantity"]),
        (one(99, 1), &["items[0].product_id"]),
        (
            json!({"items": [{"product_id": -7, "quantity": 1}, {"product_id": 1, "quantity": 1}, {"product_id": 13, "quantity": 1}]}),
            &["items[0].product_id", "items[2].product_id"],
        ),
    ];
    for (order, fields) in cases {
        let refused = shop.place(&order).await;
        refused.assert_problem(422, "/problems/invalid-order");
        assert_eq!(refused.fields(), fields, "{order}");
    }
    assert_eq!(shop.stock(1).await, STOCK);
    assert_eq!(shop.payments_asked().await, 0);
    shop.close().await;
}

#[actix_web::test]
async fn what_is_no_order_at_all_is_a_problem() {
    let shop = Shop::open().await;
    let send = async |content_type: &str, body: Vec<u8>| {
        let request = shop
            .request(Method::POST, "/api/orders")
            .header("content-type", content_type)
            .body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    for body in ["", "{", r#"{"items": [}"#, "\u{feff}{}"] {
        send("application/json", body.into())
            .await
            .assert_problem(400, "about:blank");
    }
    for (body, field, pointer) in [
        ("[]", "", "#"),
        ("{}", "", "#"),
        (r#"{"items": 1}"#, "items", "#/items"),
        (r#"{"items": [{"product_id": 1}]}"#, "items[0]", "#/items/0"),
        (
            r#"{"items": [{"product_id": 1, "quantity": 1}, {"product_id": "1", "quantity": 1}]}"#,
            "items[1].product_id",
            "#/items/1/product_id",
        ),
        (
            r#"{"items": [{"product_id": 1, "quantity": 99999999999999999999}]}"#,
            "items[0].quantity",
            "#/items/0/quantity",
        ),
        (
            r#"{"items": [{"product_id": 1, "quantity": 1.5}]}"#,
            "items[0].quantity",
            "#/items/0/quantity",
        ),
        (
            r#"{"items": [{"product_id": 1, "quantity": 1, "price/cents": 0}]}"#,
            "items[0].price/cents",
            "#/items/0/price~1cents",
        ),
    ] {
        let refused = send("application/json", body.into()).await;
        refused.assert_problem(400, "/problems/invalid-body");
        assert_eq!(refused.fields(), [field], "{body}");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
        let message = refused.body["errors"][0]["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && !message.contains("line"),
            "{message}"
        );
    }
    send("text/plain", one(1, 1).to_string().into())
        .await
        .assert_problem(415, "about:blank");
    send("application/json", vec![b' '; 300 * 1024])
        .await
        .assert_problem(413, "about:blank");
    shop.close().await;
}

#[actix_web::test]
async fn more_than_there_is_cannot_be_ordered() {
    let shop = Shop::open().await;
    shop.sql("UPDATE products SET stock = 5 WHERE id = 3").await;

    let order =
        json!({"items": [{"product_id": 1, "quantity": 1}, {"product_id": 3, "quantity": 6}]});
    let refused = shop.place(&order).await;
    refused.assert_problem(409, "/problems/out-of-stock");
    assert_eq!(
        refused.body["errors"],
        json!([{"field": "items[1].quantity", "pointer": "#/items/1/quantity", "message": "5 left"}])
    );
    assert_eq!(
        shop.stock(1).await,
        STOCK,
        "nothing of a refused order is reserved"
    );
    assert_eq!(shop.place(&one(3, 5)).await.status, 201);
    shop.place(&one(3, 1))
        .await
        .assert_problem(409, "/problems/out-of-stock");
    assert_eq!(shop.stock(3).await, 0);
    shop.close().await;
}

#[actix_web::test]
async fn a_declined_order_fails_and_gives_its_stock_back() {
    let shop = Shop::open().await;
    shop.payments_answer(declined()).await;
    let placed = shop.place(&one(1, 2)).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    assert_eq!(placed.body["status"], "failed");
    assert_eq!(placed.body["failure"], "payment_declined");
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}

#[actix_web::test]
async fn without_payments_an_order_fails_and_works_again_later() {
    let shop = Shop::open_with(&["--payments-timeout=1s"]).await;
    let never = approved().set_delay(Duration::from_secs(60));
    for response in [broken(), never] {
        shop.payments_answer(response).await;
        let refused = shop.place(&one(1, 2)).await;
        refused.assert_problem(503, "/problems/payment-unavailable");
        assert!(refused.header("retry-after").parse::<u32>().is_ok());
        assert_eq!(shop.stock(1).await, STOCK);
        let order = shop
            .get(&format!("/api/orders/{}", refused.body["order_id"]))
            .await;
        assert_eq!(
            (&order.body["status"], &order.body["failure"]),
            (&json!("failed"), &json!("payment_unavailable"))
        );
    }
    let ready = shop.admin("/readyz").await;
    assert!(
        ready.contains("true"),
        "without payments the shop is degraded, but ready: {ready}"
    );
    shop.payments_answer(approved()).await;
    assert_eq!(shop.place(&one(1, 2)).await.body["status"], "paid");
    assert_eq!(shop.stock(1).await, STOCK - 2);
    shop.close().await;
}

#[actix_web::test]
async fn an_order_whose_answer_was_lost_is_paid_all_the_same() {
    let shop = Shop::open_with(&["--payments-retries=0", "--payments-timeout=1s"]).await;
    let never = approved().set_delay(Duration::from_secs(60));
    for lost in [broken(), never] {
        shop.payments_answer(lost).await;
        let taken = ResponseTemplate::new(200).set_body_json(json!({"status": "approved"}));
        look_up(taken).with_priority(1).mount(&shop.payments).await;
        let before = shop.stock(1).await;
        let placed = shop.place(&one(1, 2)).await;
        assert_eq!(
            (placed.status.as_u16(), &placed.body["status"]),
            (201, &json!("paid"))
        );
        assert_eq!(shop.stock(1).await, before - 2);
    }
    shop.close().await;
}

#[actix_web::test]
async fn an_order_of_which_payments_cannot_tell_stays_pending() {
    let flags = [
        "--payments-retries=0",
        "--payments-timeout=1s",
        "--payments-breaker-failures=1000",
    ];
    let shop = Shop::open_with(&flags).await;
    // The last is somebody else's 404: a wrong address, a proxy.
    for cannot_tell in [
        broken(),
        approved().set_delay(Duration::from_secs(60)),
        ResponseTemplate::new(404),
    ] {
        shop.payments_answer(broken()).await;
        look_up(cannot_tell)
            .with_priority(1)
            .mount(&shop.payments)
            .await;
        let before = shop.stock(1).await;
        let key = format!("key-{before}");
        let unknown = shop.place_with_key(&one(1, 2), &key).await;
        unknown.assert_problem(503, "/problems/payment-unknown");
        assert!(unknown.header("retry-after").parse::<u32>().is_ok());
        assert_eq!(
            shop.stock(1).await,
            before - 2,
            "what may be paid is not sold again"
        );
        // A retry takes no second order, and no second payment.
        let again = shop.place_with_key(&one(1, 2), &key).await;
        assert_eq!(again.body["status"], "pending", "{again:?}");
        assert_eq!(again.body["id"], unknown.body["order_id"]);
        assert_eq!(shop.payments_asked().await, 1);
        assert_eq!(shop.stock(1).await, before - 2);
    }
    shop.close().await;
}

#[actix_web::test]
async fn without_anybody_at_the_address_of_payments_an_order_fails() {
    // Bound, so that nobody else can have the port, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let shop = Shop::open_with(&["--payments-url", &url]).await;
    shop.place(&one(1, 2))
        .await
        .assert_problem(503, "/problems/payment-unavailable");
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}

#[tokio::test]
async fn an_order_is_settled_though_nobody_waits_for_it() {
    let fixture = Fixture::sqlite();
    let store = fixture.store().await;
    let bank = MockServer::start().await;
    let (approved_later, _, decide) = approved_later();
    answer(&bank, approved_later).await;
    let shop = Arc::new(patient_shop(store.clone(), &bank));
    let status = async || Some(store.order(1).await.unwrap()?.status);

    let request: OrderRequest = serde_json::from_value(one(1, 2)).unwrap();
    let cart = Cart::try_from(&request).unwrap();
    let handler = tokio::spawn(async move { shop.place(cart, None).await });
    eventually("the order is pending", async || {
        status().await == Some(OrderStatus::Pending)
    })
    .await;
    handler.abort();
    assert!(handler.await.unwrap_err().is_cancelled());
    drop(decide);
    eventually("the order is paid", async || {
        status().await == Some(OrderStatus::Paid)
    })
    .await;
}
