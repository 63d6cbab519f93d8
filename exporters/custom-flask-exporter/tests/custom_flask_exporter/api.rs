//! The API beside the database: up, ready, and how much it offers.

use std::time::Duration;

use serde_json::json;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::Running;
use crate::shop::Shop;

const UP: &str = "shop_api_up";
const PRODUCTS: &str = "shop_api_products";

async fn answers(api: &MockServer, at: &str, answer: ResponseTemplate) {
    Mock::given(method("GET"))
        .and(path(at))
        .respond_with(answer)
        .mount(api)
        .await;
}

fn ok() -> ResponseTemplate {
    ResponseTemplate::new(200)
}

#[tokio::test]
async fn an_api_that_is_ready_is_up_and_its_catalogue_is_counted_page_by_page() {
    let api = MockServer::start().await;
    answers(&api, "/readyz", ok()).await;
    for (cursor, items, next) in [("", 100, Some("p2")), ("p2", 3, None)] {
        Mock::given(path("/api/products"))
            .and(query_param("cursor", cursor))
            .respond_with(
                ok().set_body_json(json!({"items": vec![json!({}); items], "next_cursor": next})),
            )
            .mount(&api)
            .await;
    }
    let (shop, _db) = Shop::open().await;
    let scrape = Running::start(&shop, &["--api-url", &api.uri()])
        .scrape()
        .await;
    assert_eq!(scrape.value(UP), 1.0);
    assert_eq!(scrape.value(PRODUCTS), 103.0);
    assert_eq!(scrape.success("api"), 1.0);
    assert_eq!(scrape.success("orders"), 1.0);
}

#[tokio::test]
async fn an_api_that_is_away_or_not_ready_or_hangs_is_down_and_that_is_no_failure() {
    let unready = MockServer::start().await;
    answers(&unready, "/readyz", ResponseTemplate::new(503)).await;
    let moved = MockServer::start().await;
    answers(
        &moved,
        "/readyz",
        ResponseTemplate::new(302).insert_header("Location", "/elsewhere"),
    )
    .await;
    answers(&moved, "/elsewhere", ok()).await;
    let hanging = MockServer::start().await;
    answers(
        &hanging,
        "/readyz",
        ok().set_delay(Duration::from_secs(600)),
    )
    .await;
    // A port that was free a moment ago.
    let away = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();

    let (shop, _db) = Shop::open().await;
    for url in [
        unready.uri(),
        moved.uri(),
        hanging.uri(),
        format!("http://{away}"),
    ] {
        let exporter = Running::start(&shop, &["--scrape-timeout=10m", "--api-url", &url]);
        let scrape = exporter.scrape_with("1").await;
        assert_eq!(scrape.value(UP), 0.0, "{url}");
        assert_eq!(scrape.find(PRODUCTS), None);
        assert_eq!(scrape.success("api"), 1.0, "{url}");
        assert_eq!(
            scrape.success("orders"),
            1.0,
            "the database has its own time"
        );
    }
}

#[tokio::test]
async fn a_catalogue_that_cannot_be_read_fails_the_collector_and_nothing_else() {
    let api = MockServer::start().await;
    answers(&api, "/readyz", ok()).await;
    answers(&api, "/api/products", ok().set_body_string("<html>")).await;
    let exporter = Running::start(&Shop::absent(), &["--api-url", &api.uri()]);
    let scrape = exporter.scrape().await;
    assert_eq!(scrape.success("api"), 0.0);
    assert_eq!(
        scrape.find(UP),
        None,
        "a family is exported whole or not at all"
    );
    crate::weather::assert_down(&scrape);
}

#[tokio::test]
async fn without_its_url_there_is_no_word_about_an_api() {
    let (shop, _db) = Shop::open().await;
    let scrape = Running::start(&shop, &[]).scrape().await;
    assert!(!scrape.0.contains("api"), "{}", scrape.0);
}
