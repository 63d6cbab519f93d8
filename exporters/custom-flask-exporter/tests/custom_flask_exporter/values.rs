//! What is exported is what SQL says, now.

use futures::future::join_all;

use crate::Running;
use crate::shop::{Shop, number, place, sql};

#[tokio::test]
async fn the_figures_are_those_of_the_database() {
    let (shop, mut db) = Shop::open().await;
    for status in ["paid", "paid", "paid", "failed", "pending", "pending"] {
        place(&mut db, status, 30).await;
    }
    sql(&mut db, "UPDATE products SET stock = 7 WHERE id = 1").await;

    let scrape = Running::start(&shop, &[]).scrape().await;

    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.orders("paid"), 3.0);
    assert_eq!(scrape.orders("failed"), 1.0);
    assert_eq!(scrape.orders("pending"), 2.0);
    assert_eq!(scrape.orders("cancelled"), 0.0);
    assert_eq!(scrape.stock(1), 7.0);
    assert_eq!(
        scrape.values("shop_product_stock").iter().sum::<f64>(),
        number(&mut db, "SELECT sum(stock) FROM products").await as f64
    );
    assert_eq!(
        scrape.value("shop_database_size_bytes"),
        (number(&mut db, "PRAGMA page_count").await * number(&mut db, "PRAGMA page_size").await)
            as f64
    );
    assert_eq!(
        scrape.value("shop_revenue_cents"),
        300.0,
        "of paid orders only"
    );
    for collector in ["orders", "revenue", "stock", "database"] {
        assert_eq!(scrape.success(collector), 1.0);
        let duration = format!("shop_collector_duration_seconds{{collector=\"{collector}\"}}");
        assert!(scrape.value(&duration) > 0.0);
    }
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_scrape() {
    let (shop, mut db) = Shop::open().await;
    let exporter = Running::start(&shop, &[]);

    let before = exporter.scrape().await;
    for status in ["pending", "paid", "failed", "cancelled"] {
        assert_eq!(
            before.orders(status),
            0.0,
            "{status} exists before its first order"
        );
    }

    place(&mut db, "pending", 1).await;
    sql(
        &mut db,
        "UPDATE products SET stock = stock - 1 WHERE id = 2",
    )
    .await;
    let after = exporter.scrape().await;
    assert_eq!(after.orders("pending"), 1.0);
    assert_eq!(after.stock(2), before.stock(2) - 1.0);

    sql(&mut db, "UPDATE orders SET status = 'paid'").await;
    let paid = exporter.scrape().await;
    assert_eq!(paid.orders("pending"), 0.0);
    assert_eq!(paid.orders("paid"), 1.0);
    assert_eq!(paid.value("shop_revenue_cents"), 100.0);

    sql(&mut db, "UPDATE orders SET status = 'cancelled'").await;
    let cancelled = exporter.scrape().await;
    assert_eq!(cancelled.value("shop_revenue_cents"), 0.0);

    sql(&mut db, "DELETE FROM products WHERE id = 3").await;
    let gone = exporter.scrape().await;
    assert_eq!(gone.find("shop_product_stock{product_id=\"3\"}"), None);
}

#[tokio::test]
async fn the_age_is_that_of_the_oldest_order_still_pending() {
    const AGE: &str = "shop_oldest_pending_order_age_seconds";
    let (shop, mut db) = Shop::open().await;
    let exporter = Running::start(&shop, &[]);

    place(&mut db, "paid", 9000).await;
    assert_eq!(exporter.scrape().await.value(AGE), 0.0, "none is pending");

    let started = std::time::Instant::now();
    place(&mut db, "pending", 600).await;
    place(&mut db, "pending", 60).await;
    let age = exporter.scrape().await.value(AGE);
    let at_most = 600.0 + started.elapsed().as_secs_f64();
    assert!(
        (600.0..=at_most).contains(&age),
        "{age} is not in 600..={at_most}"
    );

    sql(&mut db, "DELETE FROM orders").await;
    place(&mut db, "pending", -600).await;
    assert_eq!(
        exporter.scrape().await.value(AGE),
        0.0,
        "an order of the future, by a clock that is ahead, is new"
    );
}

#[tokio::test]
async fn concurrent_scrapes_each_see_one_moment() {
    let (shop, mut db) = Shop::open().await;
    sql(
        &mut db,
        "DELETE FROM products WHERE id > 1; UPDATE products SET stock = 100000",
    )
    .await;
    let exporter = Running::start(&shop, &[]);

    // Each order takes one unit and brings 100 cents in the same transaction, so that these go
    // together, except to a scrape that reads them at different moments.
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let orders = tokio::spawn(async move {
        let mut placed = 0;
        while stopped.try_recv().is_err() {
            sql(&mut db, "BEGIN IMMEDIATE").await;
            place(&mut db, "paid", 0).await;
            sql(&mut db, "UPDATE products SET stock = stock - 1; COMMIT").await;
            placed += 1;
        }
        placed
    });
    let mut seen_moving = false;
    let mut previous = 0.0;
    while !seen_moving {
        for scrape in join_all((0..10).map(|_| exporter.scrape())).await {
            assert_eq!(scrape.value("shop_up"), 1.0);
            let paid = scrape.orders("paid");
            assert_eq!(paid + scrape.stock(1), 100_000.0);
            assert_eq!(scrape.value("shop_revenue_cents"), paid * 100.0);
            seen_moving |= previous > 0.0 && paid > previous;
            previous = paid;
        }
    }
    stop.send(()).unwrap();
    assert_eq!(
        exporter_total(&exporter, orders.await.unwrap()).await,
        100_000.0
    );
}

/// Stock left plus `placed`, once nothing moves any more.
async fn exporter_total(exporter: &Running, placed: i32) -> f64 {
    let scrape = exporter.scrape().await;
    assert_eq!(scrape.orders("paid"), f64::from(placed));
    scrape.stock(1) + f64::from(placed)
}

#[tokio::test]
async fn only_the_collectors_asked_for_run() {
    let (shop, _db) = Shop::open().await;
    // Named twice counts once.
    let scrape = Running::start(&shop, &["--collectors=stock,stock"])
        .scrape()
        .await;
    assert_eq!(scrape.success("stock"), 1.0);
    assert_eq!(scrape.stock(1), 100_000.0);
    assert_eq!(scrape.values("shop_collector_success").len(), 1);
    assert_eq!(scrape.find("shop_database_size_bytes"), None);
}

#[tokio::test]
async fn an_empty_shop_has_figures_too() {
    let (shop, mut db) = Shop::open().await;
    sql(&mut db, "DELETE FROM products").await;
    let scrape = Running::start(&shop, &[]).scrape().await;
    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.success("stock"), 1.0);
    assert!(scrape.values("shop_product_stock").is_empty());
    assert_eq!(scrape.value("shop_revenue_cents"), 0.0);
}
