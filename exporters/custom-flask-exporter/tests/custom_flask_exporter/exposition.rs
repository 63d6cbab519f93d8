//! The pages, and the format and names of what is exposed.

use std::collections::HashSet;

use crate::Running;
use crate::shop::{Shop, place};

#[tokio::test]
async fn every_metric_is_described_and_named_as_prometheus_asks() {
    let (shop, mut db) = Shop::open().await;
    place(&mut db, "pending", 10).await;
    let text = Running::start(&shop, &[]).scrape().await.0;

    let described: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .map(|rest| rest.split_once(' ').expect("help is not empty").0)
        .collect();
    let mut typed = HashSet::new();
    let mut series = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(typed.insert(name), "{name} is typed twice");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}: counters, and only they, end in _total"
            );
            assert!(name.starts_with("shop_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
        } else if !line.starts_with('#') {
            let (id, value) = line.rsplit_once(' ').unwrap();
            let name = id.split('{').next().unwrap();
            assert!(described.contains(name), "{name} has no HELP");
            assert!(typed.contains(name), "{name} has no TYPE");
            assert!(series.insert(id), "{id} is there twice");
            // Also refuses a timestamp: what would be left of `1 1700000000000` is no series.
            assert!(!id.contains(' ') || id.ends_with('}'), "{line}");
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
        }
    }
    for name in [
        "shop_up",
        "shop_orders",
        "shop_oldest_pending_order_age_seconds",
        "shop_product_stock",
        "shop_database_size_bytes",
        "shop_collector_success",
        "shop_collector_duration_seconds",
        "shop_exporter_build_info",
    ] {
        assert!(typed.contains(name), "{name} is missing from\n{text}");
    }
}

#[tokio::test]
async fn pages() {
    let exporter = Running::start(&Shop::absent(), &[]);

    let metrics = exporter.get("/metrics").await;
    assert_eq!(
        metrics.headers()["content-type"],
        "text/plain; version=0.0.4"
    );

    let healthz = exporter.get("/healthz").await;
    assert_eq!(healthz.status(), 200, "alive without a database");

    let landing = exporter.get("/").await;
    assert_eq!(
        landing.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    assert!(landing.text().await.unwrap().contains("href=\"/metrics\""));

    assert_eq!(exporter.get("/nowhere").await.status(), 404);
}
