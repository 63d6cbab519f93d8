//! /metrics: names, labels, and that all of them exist before anything happens.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;

use crate::harness::{Shop, approved, broken, declined, one};

/// Sample lines by series, as Prometheus sees them.
pub fn samples(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

#[actix_web::test]
async fn outcomes_of_payments_are_counted_from_zero() {
    let shop = Shop::open_with(&["--payments-timeout=1s"]).await;
    let page = shop.admin("/metrics").await;
    let series = samples(&page);
    for outcome in ["ok", "declined", "timeout", "error"] {
        let labels = format!(r#"{{dependency="payments",outcome="{outcome}"}}"#);
        assert_eq!(
            series[format!("flask_dependency_requests_total{labels}").as_str()],
            0.0
        );
    }
    let asked = r#"flask_dependency_duration_seconds_count{dependency="payments"}"#;
    assert_eq!(series[asked], 0.0);
    for (n, response) in [
        (3, approved()),
        (2, declined()),
        (1, approved().set_delay(Duration::from_secs(60))),
        (4, broken()),
    ] {
        shop.payments_answer(response).await;
        for _ in 0..n {
            shop.place(&one(1, 1)).await;
        }
    }
    let page = shop.admin("/metrics").await;
    let series = samples(&page);
    for (outcome, n) in [
        ("ok", 3.0),
        ("declined", 2.0),
        ("timeout", 1.0),
        ("error", 4.0),
    ] {
        let labels = format!(r#"{{dependency="payments",outcome="{outcome}"}}"#);
        assert_eq!(
            series[format!("flask_dependency_requests_total{labels}").as_str()],
            n,
            "{outcome}"
        );
    }
    assert_eq!(series[asked], 10.0);
    assert_eq!(
        series[r#"flask_requests_total{method="POST",route="/api/orders",status="201"}"#],
        5.0
    );
    assert_eq!(
        series[r#"flask_requests_total{method="POST",route="/api/orders",status="503"}"#],
        5.0
    );
    shop.close().await;
}

#[actix_web::test]
async fn pools_show_their_connections_and_waiting_times() {
    let shop = Shop::open().await;
    shop.get("/api/products").await;
    shop.place(&one(1, 1)).await;
    let page = shop.admin("/metrics").await;
    let series = samples(&page);
    for pool in ["writer", "reader"] {
        let count = |state| {
            series
                [format!(r#"flask_db_pool_connections{{pool="{pool}",state="{state}"}}"#).as_str()]
        };
        assert!(count("idle") + count("in_use") >= 1.0, "{pool}");
        let waited =
            series[format!(r#"flask_db_pool_wait_seconds_count{{pool="{pool}"}}"#).as_str()];
        assert!(waited >= 1.0, "{pool}");
    }
    shop.close().await;
}

#[actix_web::test]
async fn hostile_input_adds_no_series() {
    let shop = Shop::open().await;
    let visit = async || {
        shop.get("/api/products/9999999").await;
        shop.get("/api/products/x").await;
        shop.get("/nowhere").await;
        shop.get("/api/orders?cursor=x").await;
        shop.request(Method::DELETE, "/api/orders")
            .send()
            .await
            .unwrap();
        shop.request(Method::from_bytes(b"FOO").unwrap(), "/api/orders")
            .send()
            .await
            .unwrap();
        for (content_type, body) in [
            ("application/json", "{"),
            ("application/json", r#"{"items":[]}"#),
            (
                "application/json",
                r#"{"items":[{"product_id":9999,"quantity":1}]}"#,
            ),
            ("text/plain", "x"),
        ] {
            let order = shop.request(Method::POST, "/api/orders");
            let order = order.header("content-type", content_type).body(body);
            order.send().await.unwrap();
        }
        let large = shop
            .request(Method::POST, "/api/orders")
            .body(" ".repeat(1 << 20));
        // The connection may be cut before all of it is sent.
        let _ = large
            .header("content-type", "application/json")
            .send()
            .await;
        shop.request(Method::POST, "/api/orders/9999999/cancel")
            .send()
            .await
            .unwrap();
    };
    let before: Vec<String> = samples(&shop.admin("/metrics").await)
        .keys()
        .map(ToString::to_string)
        .collect();
    for n in 0..50 {
        visit().await;
        shop.get(&format!("/api/products/x{n}")).await;
        shop.get(&format!("/nowhere/{n}?{n}={n}")).await;
        shop.get(&format!("/api/orders?status=x{n}")).await;
        let method = Method::from_bytes(format!("FOO{n}").as_bytes()).unwrap();
        shop.request(method, "/api/orders").send().await.unwrap();
    }
    let after: Vec<String> = samples(&shop.admin("/metrics").await)
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(before, after);
    assert!(before.len() < 400, "{} series", before.len());
    shop.close().await;
}
