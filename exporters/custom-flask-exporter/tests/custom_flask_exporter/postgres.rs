//! The shop on a real PostgreSQL server, in the tables that the demo API itself makes.

use std::time::Duration;

use flask_api::database::Database;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use test_postgres::Server;

use crate::{Running, WATCHDOG, weather};

/// Little in stock, and a user that may read and nothing else.
const SETUP: &str = "
    UPDATE products SET stock = 0;
    UPDATE products SET stock = 100 WHERE id = 1;
    UPDATE products SET stock = 7 WHERE id = 2;
    CREATE ROLE reader LOGIN PASSWORD 'secret';
    GRANT SELECT ON products, orders TO reader";

/// A server with the shop's tables, or none where there is no PostgreSQL. In CI there has to be.
async fn start() -> Option<(Server, PgConnection)> {
    let server = Server::start()?;
    let database: Database = server.owner_url().parse().unwrap();
    database.open(1).await.unwrap().close().await;
    let mut connection = server.connect("postgres").await;
    sql(&mut connection, SETUP).await;
    Some((server, connection))
}

fn url(server: &Server) -> String {
    server.url("reader:secret", "postgres")
}

async fn sql(connection: &mut PgConnection, statements: &'static str) {
    sqlx::raw_sql(statements).execute(connection).await.unwrap();
}

/// Places an order of 100 cents `seconds_ago`.
async fn place(connection: &mut PgConnection, status: &str, seconds_ago: u32) {
    let statement = format!(
        "INSERT INTO orders (status, failure, total_cents, created_at, updated_at)
         VALUES ('{status}', CASE '{status}' WHEN 'failed' THEN 'payment_declined' END, 100,
                 now() - interval '{seconds_ago} seconds', now())"
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_figures_are_those_of_the_server() {
    let Some((server, mut db)) = start().await else {
        return;
    };
    let exporter = Running::start_at(&url(&server), &[]);
    let empty = exporter.scrape().await;
    assert_eq!(empty.value("shop_up"), 1.0);
    assert_eq!(empty.value("shop_revenue_cents"), 0.0);
    assert_eq!(empty.value("shop_oldest_pending_order_age_seconds"), 0.0);
    assert_eq!(empty.orders("cancelled"), 0.0);

    let started = std::time::Instant::now();
    for (status, age) in [
        ("paid", 9000),
        ("paid", 1),
        ("failed", 1),
        ("pending", 600),
        ("pending", 5),
    ] {
        place(&mut db, status, age).await;
    }
    let scrape = exporter.scrape().await;
    assert_eq!(scrape.orders("paid"), 2.0);
    assert_eq!(scrape.orders("pending"), 2.0);
    assert_eq!(scrape.orders("failed"), 1.0);
    assert_eq!(scrape.value("shop_revenue_cents"), 200.0);
    assert_eq!(scrape.stock(1), 100.0);
    assert_eq!(scrape.stock(2), 7.0);
    assert!(scrape.value("shop_database_size_bytes") > 1e6);
    let age = scrape.value("shop_oldest_pending_order_age_seconds");
    // Whole milliseconds, rounded either way.
    let most = 600.01 + started.elapsed().as_secs_f64();
    assert!((599.99..most).contains(&age), "{age}");
}

#[tokio::test]
async fn ten_scrapes_at_once_each_see_one_moment() {
    let Some((server, mut db)) = start().await else {
        return;
    };
    let exporter = Running::start_at(&url(&server), &[]);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            sql(
                &mut db,
                "BEGIN; UPDATE products SET stock = stock + 1 WHERE id = 1;
                 INSERT INTO orders (status, total_cents, created_at, updated_at) VALUES ('paid', 100, now(), now()); COMMIT",
            )
            .await;
        }
    });
    let mut highest = 0.0;
    let mut moves = 0;
    while moves < 3 {
        for scrape in futures::future::join_all((0..10).map(|_| exporter.scrape())).await {
            assert_eq!(scrape.value("shop_up"), 1.0);
            let paid = scrape.orders("paid");
            assert_eq!(scrape.stock(1), 100.0 + paid);
            assert_eq!(scrape.value("shop_revenue_cents"), paid * 100.0);
            if paid > highest {
                (highest, moves) = (paid, moves + 1);
            }
        }
    }
    stop.send(()).unwrap();
    writer.await.unwrap();
}

#[tokio::test]
async fn a_collector_that_fails_or_waits_costs_the_others_nothing() {
    let Some((server, mut db)) = start().await else {
        return;
    };
    let exporter = Running::start_at(&url(&server), &["--scrape-timeout=10m"]);

    sql(&mut db, "REVOKE SELECT ON orders FROM reader").await;
    let refused = exporter.scrape().await;
    assert_eq!(refused.value("shop_up"), 1.0);
    assert_eq!(refused.success("orders"), 0.0);
    assert_eq!(refused.success("revenue"), 0.0);
    assert_eq!(refused.success("stock"), 1.0);
    assert_eq!(refused.success("database"), 1.0);

    sql(
        &mut db,
        "GRANT SELECT ON orders TO reader; BEGIN; LOCK TABLE orders",
    )
    .await;
    let locked = exporter.scrape_with("2").await;
    assert_eq!(locked.success("orders"), 0.0);
    assert_eq!(locked.success("revenue"), 0.0);
    assert_eq!(locked.success("stock"), 1.0);
    assert_eq!(locked.success("database"), 1.0);
    sql(&mut db, "COMMIT").await;

    // A query without end is abandoned by the server, not merely forgotten by us.
    sql(
        &mut db,
        "ALTER TABLE orders RENAME TO real_orders;
         CREATE VIEW orders AS SELECT pg_sleep(3600)::text AS status, 1::bigint AS id,
             1::bigint AS total_cents, now() AS created_at;
         GRANT SELECT ON orders TO reader",
    )
    .await;
    let endless = exporter.scrape_with("2").await;
    assert_eq!(endless.success("orders"), 0.0);
    assert_eq!(endless.success("stock"), 1.0);
    tokio::time::timeout(WATCHDOG, async {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'";
        while sqlx::query_scalar::<_, i64>(busy)
            .fetch_one(&mut db)
            .await
            .unwrap()
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the exporter's sessions to end");
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_is_down_and_one_that_is_back_is_up() {
    let Some((server, db)) = start().await else {
        return;
    };
    db.close().await.unwrap();
    let exporter = Running::start_at(&url(&server), &["--scrape-timeout=10m"]);
    assert_eq!(exporter.scrape().await.value("shop_up"), 1.0);

    // Frozen, its socket still takes connections, and nobody answers them.
    server.freeze();
    weather::assert_down(&exporter.scrape_with("1").await);
    server.thaw();
    assert_eq!(exporter.scrape().await.value("shop_up"), 1.0);

    drop(server);
    weather::assert_down(&exporter.scrape().await);
}
