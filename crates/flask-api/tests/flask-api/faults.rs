//! Faults that only this service has: of the service it depends on, and of its database.

use std::io::Write as _;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tempfile::NamedTempFile;

use crate::harness::{Shop, eventually, one};
use crate::metrics::samples;

/// What a fault takes to be started here.
pub const TOKEN: &str = "0123456789abcdef-token";

/// A shop in which faults can be started.
struct Breakable {
    shop: Shop,
    _token: NamedTempFile,
}

impl Breakable {
    async fn open() -> Self {
        Self::with(async |flags| Shop::open_with(flags).await).await
    }

    async fn with(open: impl AsyncFnOnce(&[&str]) -> Shop) -> Self {
        let mut token = NamedTempFile::new().unwrap();
        writeln!(token, "{TOKEN}").unwrap();
        let flag = format!("--chaos-token-file={}", token.path().display());
        Self {
            shop: open(&[&flag, "--payments-timeout=300ms"]).await,
            _token: token,
        }
    }

    async fn start(&self, fault: &str, parameters: Value) {
        let url = self.shop.admin_url(&format!("/chaos/{fault}"));
        let request = self.shop.http.post(url).bearer_auth(TOKEN);
        let answer = request.json(&parameters).send().await.unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::CREATED,
            "{:?}",
            answer.text().await
        );
    }

    async fn stop(&self) {
        let request = self.shop.http.delete(self.shop.admin_url("/chaos"));
        let answer = request.bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    fn order(&self) -> RequestBuilder {
        self.shop
            .request(Method::POST, "/api/orders")
            .json(&one(1, 1))
    }

    async fn outcomes(&self) -> [f64; 3] {
        let page = self.shop.admin("/metrics").await;
        let series = samples(&page);
        ["ok", "timeout", "error"].map(|outcome| {
            let labels = format!(r#"{{dependency="payments",outcome="{outcome}"}}"#);
            series[format!("flask_dependency_requests_total{labels}").as_str()]
        })
    }
}

#[actix_web::test]
async fn the_dependency_is_slow_fails_or_is_down() {
    let breakable = Breakable::open().await;
    let shop = &breakable.shop;
    assert_eq!(shop.place(&one(1, 1)).await.status, 201);
    assert_eq!(breakable.outcomes().await, [1.0, 0.0, 0.0]);
    let asked = shop.payments_asked().await;

    let failed = async |parameters: Value| {
        breakable.start("dependency", parameters).await;
        shop.place(&one(1, 1))
            .await
            .assert_problem(503, "/problems/payment-unavailable");
    };
    failed(json!({"mode": "failing"})).await;
    failed(json!({"mode": "down"})).await;
    failed(json!({"mode": "slow", "delay": "30s"})).await;
    let [ok, timeouts, errors] = breakable.outcomes().await;
    assert_eq!(ok, 1.0);
    assert!(timeouts >= 1.0 && errors >= 2.0, "{timeouts} {errors}");
    assert_eq!(
        shop.payments_asked().await,
        asked,
        "none of these calls was made"
    );

    breakable
        .start("dependency", json!({"mode": "slow", "delay": "1ms"}))
        .await;
    assert_eq!(shop.place(&one(1, 1)).await.status, 201);
    breakable.stop().await;
    assert_eq!(shop.place(&one(1, 1)).await.status, 201);
    assert_eq!(
        shop.stock(1).await,
        crate::harness::STOCK - 3,
        "what failed gave its stock back"
    );
}

#[actix_web::test]
async fn the_dependency_of_one_request_breaks_and_of_no_other() {
    let breakable = Breakable::open().await;
    let with_fault = breakable
        .order()
        .header("x-fault-token", TOKEN)
        .header("x-fault", "dependency;mode=down");
    let (broken, whole) = futures::join!(with_fault.send(), breakable.order().send());
    assert_eq!(broken.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(whole.unwrap().status(), StatusCode::CREATED);
    assert_eq!(breakable.outcomes().await, [1.0, 0.0, 1.0]);
}

#[actix_web::test]
async fn with_the_database_locked_orders_wait_and_reads_do_not() {
    let breakable = Breakable::open().await;
    let shop = &breakable.shop;
    breakable.start("database-lock", json!({})).await;
    // Seen from a third connection, for the request that finds it so waits for seconds.
    eventually("it is locked", async || {
        let mut other = shop.database().await;
        sqlx::query("PRAGMA busy_timeout = 0")
            .execute(&mut other)
            .await
            .unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut other)
            .await
            .is_err()
    })
    .await;
    orders_wait_and_reads_do_not(&breakable).await;
}

#[actix_web::test]
async fn with_postgresql_locked_orders_wait_and_reads_do_not() {
    let Some(database) = test_postgres::Database::create().await else {
        return;
    };
    let url = database.url();
    let breakable = Breakable::with(async |flags| Shop::open_on(&url, flags).await).await;
    breakable.start("database-lock", json!({})).await;
    eventually("it is locked", async || {
        let mut other = PgConnection::connect(&url).await.unwrap();
        let mut transaction = other.begin().await.unwrap();
        sqlx::query("LOCK TABLE products IN ROW EXCLUSIVE MODE NOWAIT")
            .execute(&mut *transaction)
            .await
            .is_err()
    })
    .await;
    orders_wait_and_reads_do_not(&breakable).await;
}

/// While the lock is held, and until it is given back.
async fn orders_wait_and_reads_do_not(breakable: &Breakable) {
    let shop = &breakable.shop;
    let order = actix_web::rt::spawn(breakable.order().send());
    eventually("it waits", async || {
        let page = shop.admin("/metrics").await;
        samples(&page)["flask_http_requests_in_progress"] == 1.0
    })
    .await;
    assert_eq!(shop.get("/api/products").await.status, 200);
    assert!(!order.is_finished());
    breakable.stop().await;
    assert_eq!(order.await.unwrap().unwrap().status(), StatusCode::CREATED);
}
