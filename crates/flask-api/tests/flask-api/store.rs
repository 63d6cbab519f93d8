//! The store without HTTP: what holds on either database, also when several replicas work on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flask_api::database::{Database, OpenError};
use flask_api::order::{Cart, Failure, Order, OrderLine, OrderRequest, OrderStatus};
use flask_api::store::{PageRequest, Payment, Placed, Shortage, Store, StoreError};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixture::{Fixture, on_both_databases};
use crate::harness::{STOCK, eventually, patient_shop};

on_both_databases! {
    many_replicas_start_at_once_on_a_fresh_database
    no_unit_is_lost_or_sold_twice
    what_is_refused_reserves_nothing
    orders_are_found_as_they_were_placed
    an_order_moves_on_as_its_payment_says
    what_is_over_cannot_be_cancelled
    one_key_places_one_order_however_many_ask_at_once
    one_of_many_retries_pays
    pages_follow_each_other
    abandoned_orders_fail_and_give_their_stock_back_once
    an_order_whose_money_was_taken_before_the_database_was_lost_is_paid_in_the_end
    an_operation_that_is_dropped_is_done_completely_or_not_at_all
    a_closed_store_is_not_available
}

pub fn cart(lines: &[(i64, i64)]) -> Cart {
    let items = lines
        .iter()
        .map(|&(product_id, quantity)| OrderLine {
            product_id,
            quantity,
        })
        .collect();
    Cart::try_from(&OrderRequest { items }).unwrap()
}

async fn reserve(store: &dyn Store, cart: &Cart) -> Order {
    match store.place(cart, None).await.unwrap() {
        Placed::Reserved(order) => order,
        Placed::Known(order) => panic!("known without a key: {order:?}"),
    }
}

async fn stock(store: &dyn Store, product_id: i64) -> i64 {
    store.product(product_id).await.unwrap().unwrap().stock
}

async fn many_replicas_start_at_once_on_a_fresh_database(fixture: Fixture) {
    let database: Database = fixture.url().parse().unwrap();
    let starts = (0..8).map(|_| database.open(2));
    let stores: Vec<Arc<dyn Store>> = join_all(starts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for store in &stores {
        let page = PageRequest {
            limit: 100,
            after: None,
        };
        assert_eq!(store.products(page).await.unwrap().items.len(), 12);
        reserve(&**store, &cart(&[(1, 1)])).await;
    }
    assert_eq!(stock(&*stores[0], 1).await, STOCK - 8);
    for store in stores {
        store.close().await;
    }
    // What was sold stays sold: opening again seeds nothing anew.
    let store = fixture.store().await;
    assert_eq!(stock(&*store, 1).await, STOCK - 8);
    store.close().await;
}

async fn no_unit_is_lost_or_sold_twice(fixture: Fixture) {
    const UNITS: i64 = 120;
    let replicas = [fixture.store().await, fixture.store().await];
    let aside = fixture.aside().await;
    aside
        .execute("UPDATE products SET stock = CASE WHEN id <= 3 THEN 40 ELSE 0 END")
        .await;

    let done = Arc::new(AtomicBool::new(false));
    let auditor = tokio::spawn({
        let (aside, done) = (aside.clone(), Arc::clone(&done));
        async move {
            let mut audits = 0;
            while !done.load(Ordering::Acquire) {
                let (on_sale, held) = aside.units().await;
                assert_eq!(on_sale + held, UNITS, "{on_sale} on sale, {held} held");
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
                // Products in every order: who locked them in this order would meet another who
                // has the second and waits for the first.
                let n = customer + round;
                let (first, second) = (1 + n % 3, 1 + (n + 1 + n % 2) % 3);
                let wanted = cart(&[(first, 1 + n % 3), (second, 1)]);
                let placed = match replica.place(&wanted, None).await {
                    Ok(Placed::Reserved(order)) => order,
                    Err(StoreError::OutOfStock(_)) => {
                        refused += 1;
                        continue;
                    }
                    unexpected => panic!("{unexpected:?}"),
                };
                match n % 5 {
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
                // Sweeps take many orders and so many products; none of these is old enough.
                if n % 7 == 0 {
                    let hour = Duration::from_secs(3600);
                    let swept = other
                        .fail_abandoned(Timestamp::now() - hour, &[])
                        .await
                        .unwrap();
                    assert!(swept.is_empty(), "{swept:?}");
                }
            }
            refused
        })
    });
    let refused: i64 = join_all(customers)
        .await
        .into_iter()
        .map(|customer| customer.unwrap())
        .sum();
    done.store(true, Ordering::Release);
    assert!(auditor.await.unwrap() > 0);
    assert!(refused > 0, "demand was to exceed supply");
    // What came back is on sale, down to the last unit.
    for product in 1..=3 {
        while replicas[0]
            .place(&cart(&[(product, 1)]), None)
            .await
            .is_ok()
        {}
    }
    assert_eq!(aside.units().await, (0, UNITS));

    // The same products in sweeps of both replicas at once, next to new orders.
    let late = Timestamp::now() + Duration::from_secs(60);
    let work = (0..20).map(|n: usize| {
        let replica = Arc::clone(&replicas[n % 2]);
        tokio::spawn(async move {
            let product = i64::try_from(n % 3).unwrap() + 1;
            replica.fail_abandoned(late, &[]).await.unwrap();
            match replica
                .place(&cart(&[(product, 1), (4 - product, 1)]), None)
                .await
            {
                Ok(_) | Err(StoreError::OutOfStock(_)) => {}
                unexpected => panic!("{unexpected:?}"),
            }
        })
    });
    for worker in join_all(work).await {
        worker.unwrap();
    }
    let (on_sale, held) = aside.units().await;
    assert_eq!(on_sale + held, UNITS, "{on_sale} on sale, {held} held");
    assert!(on_sale > 0, "pending orders were swept");
}

async fn what_is_refused_reserves_nothing(fixture: Fixture) {
    let store = fixture.store().await;
    let aside = fixture.aside().await;
    aside
        .execute("UPDATE products SET stock = 5 WHERE id IN (2, 3)")
        .await;
    let before = aside.units().await;

    let unknown = store
        .place(&cart(&[(1, 1), (99, 1), (-7, 1), (2, 9)]), None)
        .await;
    assert!(
        matches!(&unknown, Err(StoreError::UnknownProducts(ids)) if ids == &[-7, 99]),
        "{unknown:?}"
    );
    let short = store
        .place(&cart(&[(1, 1), (2, 6), (3, 5), (4, 1)]), Some("k"))
        .await;
    let shortage = Shortage {
        product_id: 2,
        available: 5,
    };
    assert!(
        matches!(&short, Err(StoreError::OutOfStock(short)) if short == &[shortage]),
        "{short:?}"
    );
    assert_eq!(aside.units().await, before);
    // A key under which nothing was placed is free.
    let placed = store.place(&cart(&[(2, 5)]), Some("k")).await.unwrap();
    assert!(matches!(placed, Placed::Reserved(_)), "{placed:?}");
}

async fn orders_are_found_as_they_were_placed(fixture: Fixture) {
    let (store, replica) = (fixture.store().await, fixture.store().await);
    assert!(store.order(1).await.unwrap().is_none());
    let before = Timestamp::now() - Duration::from_millis(1);
    let placed = reserve(&*store, &cart(&[(2, 1), (1, 3)])).await;
    assert_eq!(placed.status, OrderStatus::Pending);
    assert_eq!(placed.total_cents, 2790 + 3 * 1290);
    let items: Vec<_> = placed
        .items
        .iter()
        .map(|item| (item.product_id, item.quantity, item.unit_price_cents))
        .collect();
    assert_eq!(items, [(1, 3, 1290), (2, 1, 2790)]);
    assert!(before <= placed.created_at && placed.created_at <= Timestamp::now());
    assert_eq!(placed.created_at, placed.updated_at);
    assert_eq!(replica.order(placed.id).await.unwrap().unwrap(), placed);
    // A price that changes later changes no order.
    let aside = fixture.aside().await;
    aside
        .execute("UPDATE products SET price_cents = 1 WHERE id = 1")
        .await;
    assert_eq!(replica.order(placed.id).await.unwrap().unwrap(), placed);
    assert!(reserve(&*store, &cart(&[(1, 1)])).await.id > placed.id);
}

async fn an_order_moves_on_as_its_payment_says(fixture: Fixture) {
    let store = fixture.store().await;
    for (payment, status, failure, left) in [
        (Payment::Approved, OrderStatus::Paid, None, STOCK - 2),
        (
            Payment::Declined,
            OrderStatus::Failed,
            Some(Failure::PaymentDeclined),
            STOCK,
        ),
        (
            Payment::Unavailable,
            OrderStatus::Failed,
            Some(Failure::PaymentUnavailable),
            STOCK,
        ),
    ] {
        let placed = reserve(&*store, &cart(&[(1, 2)])).await;
        let settled = store.settle(placed.id, payment).await.unwrap();
        assert_eq!((settled.status, settled.failure), (status, failure));
        assert!(settled.updated_at >= settled.created_at);
        assert_eq!(stock(&*store, 1).await, left);
        // Once settled it stays so, whatever else is said of it.
        for again in [Payment::Approved, Payment::Declined, Payment::Unavailable] {
            assert_eq!(store.settle(placed.id, again).await.unwrap(), settled);
        }
        assert_eq!(stock(&*store, 1).await, left);
        if status == OrderStatus::Paid {
            store.cancel(placed.id).await.unwrap();
        }
    }
    let unknown = store.settle(999_999, Payment::Approved).await;
    assert!(
        matches!(unknown, Err(StoreError::UnknownOrder)),
        "{unknown:?}"
    );
}

async fn what_is_over_cannot_be_cancelled(fixture: Fixture) {
    let store = fixture.store().await;
    let placed = reserve(&*store, &cart(&[(1, 2), (2, 1)])).await;
    let cancelled = store.cancel(placed.id).await.unwrap();
    assert_eq!(cancelled.status, OrderStatus::Cancelled);
    assert_eq!(
        (stock(&*store, 1).await, stock(&*store, 2).await),
        (STOCK, STOCK)
    );
    let again = store.cancel(placed.id).await;
    assert!(
        matches!(
            again,
            Err(StoreError::NotCancellable(OrderStatus::Cancelled))
        ),
        "{again:?}"
    );
    assert_eq!(stock(&*store, 1).await, STOCK);
    let unknown = store.cancel(999_999).await;
    assert!(
        matches!(unknown, Err(StoreError::UnknownOrder)),
        "{unknown:?}"
    );
}

async fn one_key_places_one_order_however_many_ask_at_once(fixture: Fixture) {
    let replicas = [fixture.store().await, fixture.store().await];
    for round in 0..10 {
        let key = format!("key {round}");
        let requests = (0..12).map(|n: usize| {
            let (replica, key) = (Arc::clone(&replicas[n % 2]), key.clone());
            tokio::spawn(async move { replica.place(&cart(&[(1, 1)]), Some(&key)).await })
        });
        let (mut reserved, mut ids) = (0, BTreeSet::new());
        for answer in join_all(requests).await {
            match answer.unwrap().unwrap() {
                Placed::Reserved(order) => {
                    reserved += 1;
                    ids.insert(order.id);
                }
                Placed::Known(order) => drop(ids.insert(order.id)),
            }
        }
        assert_eq!((reserved, ids.len()), (1, 1));
        let other = replicas[1].place(&cart(&[(1, 2)]), Some(&key)).await;
        assert!(matches!(other, Err(StoreError::KeyReused)), "{other:?}");
    }
    assert_eq!(stock(&*replicas[0], 1).await, STOCK - 10);
}

async fn one_of_many_retries_pays(fixture: Fixture) {
    let replicas = [fixture.store().await, fixture.store().await];
    let Placed::Reserved(order) = replicas[0]
        .place(&cart(&[(1, 1)]), Some("k"))
        .await
        .unwrap()
    else {
        panic!("a fresh key");
    };
    for _ in 0..5 {
        replicas[0]
            .settle(order.id, Payment::Unavailable)
            .await
            .unwrap();
        let retries = (0..8).map(|n: usize| {
            let replica = Arc::clone(&replicas[n % 2]);
            tokio::spawn(async move { replica.place(&cart(&[(1, 1)]), Some("k")).await })
        });
        let mut reserved = 0;
        for retry in join_all(retries).await {
            let (Placed::Reserved(again) | Placed::Known(again)) = match retry.unwrap().unwrap() {
                Placed::Reserved(order) => {
                    reserved += 1;
                    Placed::Reserved(order)
                }
                known => known,
            };
            assert_eq!(again.id, order.id);
            assert_eq!((again.status, again.failure), (OrderStatus::Pending, None));
        }
        assert_eq!(reserved, 1);
        assert_eq!(stock(&*replicas[0], 1).await, STOCK - 1);
    }
    replicas[1]
        .settle(order.id, Payment::Declined)
        .await
        .unwrap();
    let declined = replicas[0]
        .place(&cart(&[(1, 1)]), Some("k"))
        .await
        .unwrap();
    assert!(
        matches!(&declined, Placed::Known(order) if order.status == OrderStatus::Failed),
        "a no is final: {declined:?}"
    );
}

async fn pages_follow_each_other(fixture: Fixture) {
    let store = fixture.store().await;
    let page = |limit, after| PageRequest { limit, after };
    let products = store.products(page(5, None)).await.unwrap();
    assert_eq!(
        products.items.iter().map(|p| p.id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let products = store.products(page(5, Some(10))).await.unwrap();
    assert_eq!((products.items.len(), products.next), (2, None));
    let none = store.products(page(5, Some(i64::MAX))).await.unwrap();
    assert!(none.items.is_empty() && none.next.is_none());

    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(reserve(&*store, &cart(&[(1, 1)])).await.id);
    }
    for id in [placed[1], placed[4]] {
        store.settle(id, Payment::Approved).await.unwrap();
    }
    placed.reverse();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let orders = store.orders(None, page(3, after)).await.unwrap();
        seen.extend(orders.items.iter().map(|order| order.id));
        let Some(next) = orders.next else { break };
        after = Some(next);
    }
    assert_eq!(seen, placed);
    let paid = store
        .orders(Some(OrderStatus::Paid), page(1, None))
        .await
        .unwrap();
    assert_eq!((paid.items[0].id, paid.next), (placed[2], Some(placed[2])));
    let paid = store
        .orders(Some(OrderStatus::Paid), page(1, paid.next))
        .await
        .unwrap();
    assert_eq!((paid.items[0].id, paid.next), (placed[5], None));
}

async fn abandoned_orders_fail_and_give_their_stock_back_once(fixture: Fixture) {
    let store = fixture.store().await;
    let abandoned = [
        reserve(&*store, &cart(&[(1, 5), (2, 1)])).await.id,
        reserve(&*store, &cart(&[(2, 2), (1, 1)])).await.id,
    ];
    let paid = reserve(&*store, &cart(&[(1, 3)])).await.id;
    store.settle(paid, Payment::Approved).await.unwrap();

    let deadline = Timestamp::now() - Duration::from_secs(60);
    assert!(
        store
            .fail_abandoned(deadline, &[])
            .await
            .unwrap()
            .is_empty(),
        "too young"
    );
    assert!(store.abandoned(deadline).await.unwrap().is_empty());
    let deadline = Timestamp::now() + Duration::from_secs(60);
    let ids = |orders: Vec<Order>| orders.iter().map(|order| order.id).collect::<Vec<_>>();
    assert_eq!(ids(store.abandoned(deadline).await.unwrap()), abandoned);
    let failed = store.fail_abandoned(deadline, &abandoned).await.unwrap();
    assert!(failed.is_empty(), "kept");
    let failed = store.fail_abandoned(deadline, &[]).await.unwrap();
    assert_eq!(
        failed.iter().map(|order| order.id).collect::<Vec<_>>(),
        abandoned
    );
    for order in failed {
        assert_eq!(order.failure, Some(Failure::PaymentUnavailable));
    }
    assert!(
        store
            .fail_abandoned(deadline, &[])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        (stock(&*store, 1).await, stock(&*store, 2).await),
        (STOCK - 3, STOCK)
    );
    // Whoever was to settle it is not gone after all.
    let late = store.settle(abandoned[0], Payment::Approved).await.unwrap();
    assert_eq!(late.status, OrderStatus::Failed);
    assert_eq!(stock(&*store, 1).await, STOCK - 3);
}

/// What a lost database leaves: orders that are pending, whatever became of their money.
async fn an_order_whose_money_was_taken_before_the_database_was_lost_is_paid_in_the_end(
    fixture: Fixture,
) {
    let store = fixture.store().await;
    let [taken, not_taken] = [3, 4].map(|units| cart(&[(1, units)]));
    let taken = reserve(&*store, &taken).await.id;
    let not_taken = reserve(&*store, &not_taken).await.id;
    let server = MockServer::start().await;
    let shop = patient_shop(Arc::clone(&store), &server);
    let status = async |id| store.order(id).await.unwrap().unwrap().status;
    let answer = |id: i64, code: u16| {
        Mock::given(method("GET"))
            .and(path(format!("/api/payments/{id}")))
            .respond_with(
                ResponseTemplate::new(code).set_body_json(json!({"type": "/problems/not-paid"})),
            )
    };

    // Too young: somebody is at it.
    shop.settle_abandoned(Duration::from_secs(3600))
        .await
        .unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
    // Payments cannot tell: nothing is given up.
    for id in [taken, not_taken] {
        answer(id, 503).mount(&server).await;
    }
    shop.settle_abandoned(Duration::ZERO).await.unwrap();
    for id in [taken, not_taken] {
        assert_eq!(status(id).await, OrderStatus::Pending);
    }
    assert_eq!(stock(&*store, 1).await, STOCK - 7);
    // It can.
    server.reset().await;
    answer(taken, 200).mount(&server).await;
    answer(not_taken, 404).mount(&server).await;
    shop.settle_abandoned(Duration::ZERO).await.unwrap();
    assert_eq!(status(taken).await, OrderStatus::Paid);
    assert_eq!(status(not_taken).await, OrderStatus::Failed);
    assert_eq!(stock(&*store, 1).await, STOCK - 3);
    // Nothing is left to ask for.
    server.reset().await;
    shop.settle_abandoned(Duration::ZERO).await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), 0);

    // One of which it can never tell holds nobody else back.
    let stuck = reserve(&*store, &cart(&[(1, 1)])).await.id;
    answer(stuck, 500).mount(&server).await;
    for _ in 0..5 {
        let other = reserve(&*store, &cart(&[(1, 1)])).await.id;
        answer(other, 200).mount(&server).await;
        eventually("it is old enough, and paid", async || {
            shop.settle_abandoned(Duration::ZERO).await.unwrap();
            status(other).await == OrderStatus::Paid
        })
        .await;
    }
    assert_eq!(status(stuck).await, OrderStatus::Pending);
    // And when it answers nobody, it is not asked once more for each.
    server.reset().await;
    for _ in 0..9 {
        reserve(&*store, &cart(&[(1, 1)])).await;
    }
    shop.settle_abandoned(Duration::ZERO).await.unwrap();
    assert!(server.received_requests().await.unwrap().len() < 9);
}

async fn an_operation_that_is_dropped_is_done_completely_or_not_at_all(fixture: Fixture) {
    let store = fixture.store().await;
    let aside = fixture.aside().await;
    let (on_sale, held) = aside.units().await;
    // From before the first statement to after the last.
    for yields in 0..60 {
        let place = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.place(&cart(&[(1, 1), (2, 2)]), None).await }
        });
        for _ in 0..yields * 4 {
            tokio::task::yield_now().await;
        }
        place.abort();
        let _ = place.await;
    }
    // What was dropped may still be rolled back behind the scenes, which the next one waits for.
    reserve(&*store, &cart(&[(1, 1)])).await;
    eventually("all units are accounted for", async || {
        let (now_on_sale, now_held) = aside.units().await;
        now_on_sale + now_held == on_sale + held && now_held >= 1
    })
    .await;
    let (items, orders) = aside
        .pair(
            "SELECT (SELECT count(*) FROM order_items WHERE product_id = 2), \
             (SELECT count(*) FROM orders) - 1",
        )
        .await;
    assert_eq!(items, orders, "an order has all of its items");
}

async fn a_closed_store_is_not_available(fixture: Fixture) {
    let store = fixture.store().await;
    store.close().await;
    let answer = store.product(1).await;
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
}

async fn open(url: &str) -> String {
    match url.parse::<Database>() {
        Ok(database) => database.open(2).await.map(drop).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("sqlite://{}", directory.path().join(name).display());

    let missing = directory.path().join("missing");
    let text = open(&url("missing/shop.db")).await;
    assert!(
        text.contains(missing.to_str().unwrap()) && text.contains("mkdir -p"),
        "{text}"
    );
    assert!(!missing.exists());

    // A directory where a file should be: refused to every user, root too.
    let occupied = directory.path().join("occupied.db");
    std::fs::create_dir_all(directory.path().join("occupied.db.lock")).unwrap();
    let text = open(&url("occupied.db")).await;
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
    let text = open(&url("foreign.db")).await;
    assert!(text.contains(foreign.to_str().unwrap()), "{text}");
}

#[test]
fn a_url_that_names_no_database_is_refused_without_its_password() {
    for (wrong, advice) in [
        ("sqlite::memory:", "cannot be shared"),
        ("sqlite://", "names no file"),
        ("sqlite://x.db?mode=memory", "cannot be shared"),
        ("sqlite://x.db?x=y", "sqlite://shop.db"),
        ("shop.db", "neither sqlite:// nor postgres://"),
        ("", "neither sqlite:// nor postgres://"),
        (
            "mysql://shop:hunter2@db/shop",
            "mysql:// databases are not supported",
        ),
        ("postgres://shop:hunter2@db:many/shop", "invalid port"),
        (
            "postgres://shop:hunter2@db/shop?sslmode=sometimes",
            "ssl_mode",
        ),
        (
            "postgres://shop:hunter2@db/shop?sslmode=require",
            "speaks no TLS",
        ),
        (
            "postgresql://shop:hunter2@db/shop?sslmode=verify-full",
            "speaks no TLS",
        ),
    ] {
        let text = wrong.parse::<Database>().unwrap_err().to_string();
        assert!(text.contains(advice), "{wrong}: {text}");
        assert!(!text.contains("hunter2"), "{wrong}: {text}");
    }
    for url in [
        "postgres://shop:hunter2@db/shop",
        "postgresql://shop:hunter2@db/shop?sslmode=disable",
    ] {
        let database: Database = url.parse().unwrap();
        assert_eq!(database.to_string(), "shop at db:5432");
        assert!(!format!("{database:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!(
        "postgres://shop@localhost/shop?host={}",
        folder.path().display()
    );
    let text = open(&nobody).await;
    assert!(
        text.contains("cannot be reached") && text.contains(folder.path().to_str().unwrap()),
        "{text}"
    );
    let Some(database) = test_postgres::Database::create().await else {
        return;
    };
    let text = open(&database.url_for("stranger:hunter2")).await;
    assert!(
        text.contains("refuses this service") && text.contains("stranger"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    // A database that a newer version has migrated.
    let store = database.url().parse::<Database>().unwrap();
    store.open(2).await.unwrap().close().await;
    let mut connection = database.connect().await;
    sqlx::raw_sql("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = store.open(2).await.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Migrate { .. }), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
}
