//! Synthetic orders: placed and called off at the real API, and at ones that misbehave.

use std::time::Duration;

use clap::Parser;
use flask_api::{App, Args};
use prometheus::Registry;
use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::golden::{check_metrics, promtool};
use crate::shop::{Shop, number, sql};
use crate::{Running, Scrape, WATCHDOG};

/// A limit beyond the watchdog: only the header can make answers arrive.
const PATIENT: &str = "--probe.timeout=10m";

const PLACED: &str = "probe_http_status_code{step=\"place\"}";
const CANCELLED: &str = "probe_http_status_code{step=\"cancel\"}";

/// The demo API itself, on `shop`, with payments that answer like this.
async fn api(shop: &Shop, payments: ResponseTemplate) -> (String, MockServer) {
    let service = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(payments)
        .mount(&service)
        .await;
    // What did not answer took nothing.
    let not_paid = json!({"type": "/problems/not-paid"});
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(404).set_body_json(not_paid))
        .mount(&service)
        .await;
    let args = Args::try_parse_from([
        "flask-api",
        "--listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--database-url",
        &shop.url(),
        "--payments-url",
        &service.uri(),
    ])
    .unwrap();
    let app = App::build(&args, Registry::new(), None).await.unwrap();
    let url = format!("http://{}", app.server().address());
    actix_web::rt::spawn(app.run());
    (url, service)
}

fn approved() -> ResponseTemplate {
    ResponseTemplate::new(201).set_body_json(json!({
        "id": 1, "order_id": 1, "amount_cents": 1290, "status": "approved",
    }))
}

async fn get(exporter: &Running, target: &str, timeout: &str) -> reqwest::Response {
    exporter
        .request("/probe")
        .query(&[("target", target)])
        .header("X-Prometheus-Scrape-Timeout-Seconds", timeout)
        .send()
        .await
        .expect("an answer long before the watchdog")
}

async fn probe(exporter: &Running, target: &str, timeout: &str) -> Scrape {
    let response = get(exporter, target, timeout).await;
    assert_eq!(response.status(), 200);
    Scrape(response.text().await.unwrap())
}

fn allowing(target: &str) -> Running {
    Running::start(&Shop::absent(), &[PATIENT, "--probe.allow", target])
}

#[actix_web::test]
async fn an_order_is_placed_and_called_off() {
    let (shop, mut db) = Shop::open().await;
    let (url, _payments) = api(&shop, approved()).await;
    let exporter = Running::start(
        &shop,
        &[
            "--probe.allow=http://elsewhere",
            "--probe.allow",
            &url,
            "--probe.product-id=3",
        ],
    );
    sql(&mut db, "UPDATE products SET stock = 0 WHERE id <> 3").await;

    // Written differently, it is the same target.
    let found = probe(&exporter, &format!("{url}/"), "30").await;
    assert_eq!(found.value("probe_success"), 1.0, "{}", found.0);
    assert_eq!(found.value(PLACED), 201.0);
    assert_eq!(found.value(CANCELLED), 200.0);
    let took = found.value("probe_duration_seconds");
    let steps: f64 = found.values("probe_step_duration_seconds").iter().sum();
    assert!(0.0 < steps && steps <= took, "{}", found.0);
    if let Some(promtool) = promtool() {
        check_metrics(&promtool, &found.0);
    }

    assert_eq!(
        number(
            &mut db,
            "SELECT count(*) FROM orders WHERE status = 'cancelled' AND idempotency_key LIKE 'probe-%'",
        )
        .await,
        1
    );
    assert_eq!(number(&mut db, "SELECT count(*) FROM orders").await, 1);
    assert_eq!(
        number(&mut db, "SELECT stock FROM products WHERE id = 3").await,
        100_000,
        "the probe takes nothing away"
    );
    assert_eq!(exporter.scrape().await.value("shop_revenue_cents"), 0.0);
}

#[actix_web::test]
async fn an_order_that_is_not_paid_is_a_failure_with_nothing_to_call_off() {
    for (payments, status) in [
        (ResponseTemplate::new(500), 503.0),
        (
            ResponseTemplate::new(402)
                .set_body_json(json!({"type": "about:blank", "status": 402, "title": "declined"})),
            201.0,
        ),
    ] {
        let (shop, mut db) = Shop::open().await;
        let (url, _payments) = api(&shop, payments).await;
        let found = probe(&allowing(&url), &url, "30").await;
        assert_eq!(found.value("probe_success"), 0.0);
        assert_eq!(found.value(PLACED), status);
        assert_eq!(found.value(CANCELLED), 0.0);
        assert_eq!(
            number(&mut db, "SELECT stock FROM products WHERE id = 1").await,
            100_000
        );
    }
}

#[tokio::test]
async fn only_the_targets_named_at_the_start_are_talked_to() {
    let stranger = MockServer::start().await;
    let exporter = allowing("http://127.0.0.1:1");
    for (target, status) in [
        (stranger.uri().as_str(), 403),
        ("http://127.0.0.1:2", 403),
        ("http://localhost:1", 403),
        ("http://127.0.0.1:1@evil", 400),
        ("http://127.0.0.1:1/api", 400),
        ("https://127.0.0.1:1", 400),
        ("file:///etc/passwd", 400),
        ("", 400),
    ] {
        let response = get(&exporter, target, "1").await;
        assert_eq!(response.status(), status, "{target}");
        assert!(!response.text().await.unwrap().contains("probe_success"));
    }
    assert_eq!(exporter.get("/probe").await.status(), 400);

    let closed = Running::start(&Shop::absent(), &[]);
    assert_eq!(get(&closed, &stranger.uri(), "1").await.status(), 403);
    assert!(stranger.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_target_cannot_send_the_probe_elsewhere() {
    let stranger = MockServer::start().await;
    let target = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(307).insert_header("Location", stranger.uri()))
        .mount(&target)
        .await;
    let found = probe(&allowing(&target.uri()), &target.uri(), "30").await;
    assert_eq!(found.value("probe_success"), 0.0);
    assert_eq!(found.value(PLACED), 307.0);
    assert!(stranger.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_api_that_is_away_or_hangs_is_answered_for_in_time() {
    let hanging = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(201).set_delay(Duration::from_secs(600)))
        .mount(&hanging)
        .await;
    let away = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for target in [hanging.uri(), format!("http://{away}")] {
        let found = probe(&allowing(&target), &target, "1").await;
        assert_eq!(found.value("probe_success"), 0.0);
        assert_eq!(found.value(PLACED), 0.0);
        assert_eq!(found.value(CANCELLED), 0.0);
    }
}

/// Swallows the first request for each key, as a network does, and answers the retry.
struct AnswersTheSecondTime;

impl Respond for AnswersTheSecondTime {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
        let key = request.headers["Idempotency-Key"]
            .to_str()
            .unwrap()
            .to_owned();
        let placed = ResponseTemplate::new(201).set_body_json(json!({"id": 77, "status": "paid"}));
        let mut seen = SEEN.lock().unwrap();
        if seen.contains(&key) {
            return placed;
        }
        seen.push(key);
        placed.set_delay(Duration::from_secs(600))
    }
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_called_off_all_the_same() {
    let target = MockServer::start().await;
    Mock::given(path("/api/orders"))
        .respond_with(AnswersTheSecondTime)
        .expect(2)
        .mount(&target)
        .await;
    Mock::given(path("/api/orders/77/cancel"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({"id": 77, "status": "cancelled"})),
        )
        .expect(1)
        .mount(&target)
        .await;
    let found = probe(&allowing(&target.uri()), &target.uri(), "3").await;
    assert_eq!(
        found.value("probe_success"),
        0.0,
        "a customer saw no answer"
    );
    assert_eq!(found.value(CANCELLED), 200.0);
    target.verify().await;
}

#[tokio::test]
async fn more_than_two_at_a_time_are_refused() {
    let target = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(201).set_delay(Duration::from_secs(600)))
        .mount(&target)
        .await;
    let exporter = allowing(&target.uri());
    for _ in 0..2 {
        let request = exporter
            .request("/probe")
            .query(&[("target", target.uri())]);
        tokio::spawn(request.send());
    }
    tokio::time::timeout(WATCHDOG, async {
        while target.received_requests().await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("two probes under way");

    let third = get(&exporter, &target.uri(), "1").await;
    assert_eq!(third.status(), 503);
    assert_eq!(third.headers()["retry-after"], "1");
    assert_eq!(
        exporter.scrape().await.value("shop_up"),
        0.0,
        "scrapes go on"
    );
}
