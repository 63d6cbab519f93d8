//! The store without HTTP: what holds when two replicas work on one file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flask_api::order::{Cart, Failure, OrderLine, OrderRequest, OrderStatus};
use flask_api::sqlite::{OpenError, SqliteStore};
use flask_api::store::{PageRequest, Payment, Placed, Store, StoreError};
use jiff::Timestamp;
use sqlx::sqlite::SqlitePool;

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

fn cart(product_id: i64, quantity: i64) -> Cart {
    Cart::try_from(&OrderRequest {
        items: vec![OrderLine {
            product_id,
            quantity,
        }],
    })
    .unwrap()
}

async fn place(store: &SqliteStore, cart: &Cart) -> i64 {
    match store.place(cart, None).await.unwrap() {
        Placed::Reserved(order) => order.id,
        Placed::Known(order) => panic!("known without a key: {order:?}"),
    }
}

async fn stock(store: &SqliteStore, product_id: i64) -> i64 {
    store.product(product_id).await.unwrap().unwrap().stock
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_replicas_start_at_once_on_a_fresh_file() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(&directory.path().join("shop.db"));
    let starts = (0..8).map(|_| {
        tokio::spawn({
            let url = url.clone();
            async move { SqliteStore::open(&url).await }
        })
    });
    let stores: Vec<SqliteStore> = futures::future::join_all(starts)
        .await
        .into_iter()
        .map(|start| start.unwrap().unwrap())
        .collect();
    for store in &stores {
        let page = PageRequest {
            limit: 100,
            after: None,
        };
        assert_eq!(store.products(page).await.unwrap().items.len(), 12);
        place(store, &cart(1, 1)).await;
    }
    assert_eq!(stock(&stores[0], 1).await, 100_000 - 8);
    for store in stores {
        store.close().await;
    }
    // What was sold stays sold: opening again seeds nothing anew.
    let store = SqliteStore::open(&url).await.unwrap();
    assert_eq!(stock(&store, 1).await, 100_000 - 8);
    store.close().await;
}

/// Units of product 1 on sale and in orders that hold stock, at one instant.
async fn units(database: &SqlitePool) -> (i64, i64) {
    sqlx::query_as(
        "SELECT stock, (SELECT coalesce(sum(quantity), 0) FROM order_items JOIN orders ON orders.id = order_id \
         WHERE product_id = 1 AND status IN ('pending', 'paid')) FROM products WHERE id = 1",
    )
    .fetch_one(database)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_unit_is_lost_or_sold_twice() {
    const UNITS: i64 = 50;
    let directory = tempfile::tempdir().unwrap();
    let url = url(&directory.path().join("shop.db"));
    let replicas = [0, 1].map(|_| SqliteStore::open(&url));
    let replicas: Vec<Arc<SqliteStore>> = futures::future::join_all(replicas)
        .await
        .into_iter()
        .map(|store| Arc::new(store.unwrap()))
        .collect();
    let database = SqlitePool::connect(&url).await.unwrap();
    sqlx::query("UPDATE products SET stock = ?1 WHERE id = 1")
        .bind(UNITS)
        .execute(&database)
        .await
        .unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let auditor = tokio::spawn({
        let (database, done) = (database.clone(), Arc::clone(&done));
        async move {
            let mut audits = 0;
            while !done.load(Ordering::Acquire) {
                let (on_sale, held) = units(&database).await;
                assert!(
                    on_sale >= 0 && on_sale + held == UNITS,
                    "{on_sale} on sale, {held} held"
                );
                audits += 1;
            }
            audits
        }
    });

    let customers = (0..30_i64).map(|customer| {
        let replica = Arc::clone(&replicas[(customer % 2) as usize]);
        let other = Arc::clone(&replicas[((customer + 1) % 2) as usize]);
        tokio::spawn(async move {
            let mut refused = 0;
            for round in 0..10 {
                let placed = match replica
                    .place(&cart(1, 1 + (customer + round) % 4), None)
                    .await
                {
                    Ok(Placed::Reserved(order)) => order,
                    Err(StoreError::OutOfStock(_)) => {
                        refused += 1;
                        continue;
                    }
                    unexpected => panic!("{unexpected:?}"),
                };
                match (customer + round) % 5 {
                    0 => drop(replica.settle(placed.id, Payment::Declined).await.unwrap()),
                    1 => drop(other.settle(placed.id, Payment::Unavailable).await.unwrap()),
                    // Both replicas at once: either may win, stock comes back once.
                    2 => {
                        let both = futures::future::join(
                            other.cancel(placed.id),
                            replica.settle(placed.id, Payment::Declined),
                        );
                        let (cancelled, settled) = both.await;
                        let settled = settled.unwrap().status;
                        match cancelled {
                            Ok(_) => assert_eq!(settled, OrderStatus::Cancelled),
                            Err(StoreError::NotCancellable(status)) => assert_eq!(
                                (status, settled),
                                (OrderStatus::Failed, OrderStatus::Failed)
                            ),
                            unexpected => panic!("{unexpected:?}"),
                        }
                    }
                    // Even an order that is paid is now and then called off.
                    3 => {
                        replica.settle(placed.id, Payment::Approved).await.unwrap();
                        other.cancel(placed.id).await.unwrap();
                    }
                    _ => drop(replica.settle(placed.id, Payment::Approved).await.unwrap()),
                }
            }
            refused
        })
    });
    let refused: i64 = futures::future::join_all(customers)
        .await
        .into_iter()
        .map(|customer| customer.unwrap())
        .sum();
    done.store(true, Ordering::Release);
    assert!(auditor.await.unwrap() > 0);
    assert!(refused > 0, "demand was to exceed supply");
    // What came back is on sale, down to the last unit.
    let mut replicas = replicas.iter().cycle();
    while replicas
        .next()
        .unwrap()
        .place(&cart(1, 1), None)
        .await
        .is_ok()
    {}
    assert_eq!(units(&database).await, (0, UNITS));
}

#[tokio::test]
async fn abandoned_orders_fail_and_give_their_stock_back_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&url(&directory.path().join("shop.db")))
        .await
        .unwrap();
    let abandoned = place(&store, &cart(1, 5)).await;
    let paid = place(&store, &cart(1, 3)).await;
    store.settle(paid, Payment::Approved).await.unwrap();

    let deadline = Timestamp::now() - Duration::from_secs(60);
    assert!(
        store.fail_abandoned(deadline).await.unwrap().is_empty(),
        "too young"
    );
    let deadline = Timestamp::now() + Duration::from_secs(60);
    let failed = store.fail_abandoned(deadline).await.unwrap();
    assert_eq!(
        failed.iter().map(|order| order.id).collect::<Vec<_>>(),
        [abandoned]
    );
    assert_eq!(failed[0].failure, Some(Failure::PaymentUnavailable));
    assert!(store.fail_abandoned(deadline).await.unwrap().is_empty());
    assert_eq!(stock(&store, 1).await, 100_000 - 3);
    // Whoever was to settle it is not gone after all.
    assert_eq!(
        store
            .settle(abandoned, Payment::Approved)
            .await
            .unwrap()
            .status,
        OrderStatus::Failed
    );
    assert_eq!(stock(&store, 1).await, 100_000 - 3);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let message = async |url: &str| SqliteStore::open(url).await.unwrap_err().to_string();

    let missing = directory.path().join("missing");
    let text = message(&url(&missing.join("shop.db"))).await;
    assert!(
        text.contains(missing.to_str().unwrap()) && text.contains("mkdir -p"),
        "{text}"
    );
    assert!(!missing.exists());

    // A directory where a file should be: refused to every user, root too.
    let occupied = directory.path().join("occupied.db");
    std::fs::create_dir_all(directory.path().join("occupied.db.lock")).unwrap();
    let text = message(&url(&occupied)).await;
    assert!(
        text.contains("cannot be written") && text.contains(occupied.to_str().unwrap()),
        "{text}"
    );

    let foreign = directory.path().join("foreign.db");
    std::fs::write(
        &foreign,
        "this is no database, and long enough to be read as a header".repeat(10),
    )
    .unwrap();
    let text = message(&url(&foreign)).await;
    assert!(text.contains(foreign.to_str().unwrap()), "{text}");

    let text = message("postgres://shop:secret@db/shop").await;
    assert!(
        text.contains("not supported yet by this build") && !text.contains("secret"),
        "{text}"
    );
    for wrong in [
        "sqlite::memory:",
        "sqlite://",
        "sqlite://x.db?mode=memory",
        "sqlite://x.db?x=y",
        "shop.db",
        "",
    ] {
        let error = SqliteStore::open(wrong).await.unwrap_err();
        assert!(matches!(error, OpenError::Url(_)), "{wrong}: {error}");
    }
}
