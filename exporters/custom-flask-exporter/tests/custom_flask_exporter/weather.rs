//! What the exporter says when its database is missing, replaced, foreign, locked or slow: always
//! an answer, always in time.

use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};

use crate::shop::{self, Shop, place, sql};
use crate::{Running, Scrape, WATCHDOG};

/// A configured limit beyond the watchdog: only Prometheus' header can make these answers arrive.
const PATIENT: &[&str] = &["--scrape-timeout=10m"];

#[track_caller]
pub fn assert_down(scrape: &Scrape) {
    assert_eq!(scrape.value("shop_up"), 0.0);
    for collector in ["orders", "revenue", "stock", "database"] {
        assert_eq!(scrape.success(collector), 0.0);
    }
    assert!(
        scrape.values("shop_orders").is_empty(),
        "no figures without a database"
    );
    assert!(scrape.values("shop_exporter_build_info").len() == 1);
}

#[tokio::test]
async fn a_database_that_appears_is_picked_up_and_one_that_is_replaced_too() {
    let shop = Shop::absent();
    let exporter = Running::start(&shop, &[]);
    assert_down(&exporter.scrape().await);

    let mut db = shop.create(SqliteJournalMode::Delete).await;
    place(&mut db, "paid", 0).await;
    db.close().await.unwrap();
    let scrape = exporter.scrape().await;
    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.orders("paid"), 1.0);

    let backup = shop.path().with_extension("backup");
    let mut other = shop::create(&backup, SqliteJournalMode::Delete).await;
    place(&mut other, "failed", 0).await;
    other.close().await.unwrap();
    std::fs::rename(&backup, shop.path()).unwrap();
    let scrape = exporter.scrape().await;
    assert_eq!(scrape.orders("paid"), 0.0);
    assert_eq!(scrape.orders("failed"), 1.0);

    std::fs::remove_file(shop.path()).unwrap();
    assert_down(&exporter.scrape().await);
}

#[tokio::test]
async fn reading_never_creates_a_database() {
    let shop = Shop::absent();
    let url = format!("{}?mode=rwc", shop.url());
    let scrape = Running::start_at(&url, &[]).scrape().await;
    assert_down(&scrape);
    assert!(!shop.path().exists());
}

#[tokio::test]
async fn a_write_ahead_log_without_its_writer_is_read() {
    let (shop, mut db) = Shop::open().await;
    place(&mut db, "paid", 0).await;
    db.close().await.unwrap();
    let scrape = Running::start(&shop, &[]).scrape().await;
    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.orders("paid"), 1.0);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_down() {
    let shop = Shop::absent();
    std::fs::write(shop.path(), "certainly not SQLite. ".repeat(100)).unwrap();
    assert_down(&Running::start(&shop, &[]).scrape().await);
}

#[tokio::test]
async fn a_database_without_the_shops_tables_fails_only_the_collectors_that_need_them() {
    let shop = Shop::absent();
    let options = SqliteConnectOptions::new()
        .filename(shop.path())
        .create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    sql(
        &mut db,
        "CREATE TABLE products (id INTEGER, stock INTEGER); INSERT INTO products VALUES (5, 2)",
    )
    .await;

    let scrape = Running::start(&shop, &[]).scrape().await;
    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.success("orders"), 0.0);
    assert_eq!(scrape.success("revenue"), 0.0);
    assert_eq!(scrape.success("stock"), 1.0);
    assert_eq!(scrape.stock(5), 2.0);
    assert_eq!(scrape.success("database"), 1.0);
}

#[tokio::test]
async fn a_date_that_is_none_fails_its_collector_whole() {
    let (shop, mut db) = Shop::open().await;
    place(&mut db, "pending", 0).await;
    sql(&mut db, "UPDATE orders SET created_at = 'yesterday'").await;
    let scrape = Running::start(&shop, &[]).scrape().await;
    assert_eq!(scrape.success("orders"), 0.0);
    assert!(scrape.values("shop_orders").is_empty());
    assert_eq!(scrape.success("stock"), 1.0);
}

#[tokio::test]
async fn a_locked_database_is_answered_for_in_the_time_prometheus_gives() {
    // The two ways to keep readers out, by kind of journal.
    for lock in [
        "BEGIN EXCLUSIVE",
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; UPDATE products SET stock = 1",
    ] {
        let shop = Shop::absent();
        let mut db = shop.create(SqliteJournalMode::Delete).await;
        let exporter = Running::start(&shop, PATIENT);
        sql(&mut db, lock).await;

        assert_down(&exporter.scrape_with("1").await);

        db.close().await.unwrap();
        let scrape = exporter.scrape().await;
        assert_eq!(scrape.value("shop_up"), 1.0, "after {lock}");
        assert_eq!(scrape.success("orders"), 1.0);
    }
}

#[tokio::test]
async fn a_lock_shorter_than_the_scrape_is_waited_for() {
    let shop = Shop::absent();
    let mut db = shop.create(SqliteJournalMode::Delete).await;
    let exporter = Running::start(&shop, PATIENT);
    sql(&mut db, "BEGIN EXCLUSIVE").await;

    let unlock = async {
        // The exporter runs in this process: its open file shows that the scrape has come as far
        // as the lock.
        while times_open(&shop.path()) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sql(&mut db, "COMMIT").await;
    };
    let (scrape, ()) = tokio::join!(exporter.scrape(), unlock);
    assert_eq!(scrape.value("shop_up"), 1.0);
}

/// How often this process has a file open.
fn times_open(path: &Path) -> usize {
    let path = path.canonicalize().unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|open| *open == path)
        .count()
}

#[tokio::test]
async fn a_query_without_end_is_abandoned_and_costs_the_other_collectors_nothing() {
    let shop = Shop::absent();
    let mut db = shop.create(SqliteJournalMode::Delete).await;
    sql(
        &mut db,
        "PRAGMA foreign_keys = OFF;
         ALTER TABLE orders RENAME TO real_orders;
         CREATE VIEW orders (id, status, created_at) AS
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
             SELECT i, 'pending', 'never' FROM n",
    )
    .await;
    let exporter = Running::start(&shop, PATIENT);

    let scrape = exporter.scrape_with("2").await;
    assert_eq!(scrape.value("shop_up"), 1.0);
    assert_eq!(scrape.success("orders"), 0.0);
    assert_eq!(scrape.success("stock"), 1.0);
    assert_eq!(scrape.success("database"), 1.0);

    // A statement still running would hold its read lock, and this would wait for ever.
    tokio::time::timeout(WATCHDOG, async {
        sql(&mut db, "PRAGMA busy_timeout = 50000; BEGIN EXCLUSIVE").await;
    })
    .await
    .expect("the endless query to be abandoned");
}
