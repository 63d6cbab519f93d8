//! The service on PostgreSQL: its spans, its metrics, and what happens while the server is away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flask_api::order::{Cart, OrderRequest, OrderStatus};
use flask_api::shop::PlaceError;
use opentelemetry::trace::{SpanKind, TraceId};
use serde_json::json;
use test_postgres::{Database, Server};
use wiremock::{MockServer, ResponseTemplate};

use crate::harness::{Shop, answer, approved_later, eventually, look_up, one, patient_shop};
use crate::metrics::samples;
use crate::tracing_spans::{assert_attributes, attribute, place_in_trace, trace};

/// Seconds that the server is away in [`an_outage_is_told_and_survived`]: 1 unless told otherwise.
const OUTAGE_SECONDS: &str = "FLASK_API_TEST_OUTAGE_SECONDS";

#[actix_web::test]
async fn its_spans_name_the_database_and_its_pool_is_measured() {
    let Some(database) = Database::create().await else {
        return;
    };
    let url = database.url();
    let shop = Shop::open_on(&url, &["--database-connections=3"]).await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4711";
    assert_eq!(place_in_trace(&shop, id).await.status, 201);
    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    let (folder, name) = {
        let name = url.split(['/', '?']).nth(3).unwrap();
        (url.split_once("host=").unwrap().1, name)
    };
    let spans: Vec<_> = trace
        .iter()
        .filter(|span| span.span_kind == SpanKind::Client && span.name != "POST")
        .collect();
    assert_eq!(spans.len(), 2, "{trace:#?}");
    for (span, operation) in spans.into_iter().zip(["INSERT", "UPDATE"]) {
        assert_eq!(span.name, format!("{operation} orders"));
        assert_attributes(
            span,
            &[
                ("db.system.name", "postgresql"),
                ("db.namespace", name),
                ("db.operation.name", operation),
                ("db.collection.name", "orders"),
                ("server.address", folder),
            ],
        );
        assert!(attribute(span, "db.query.summary").is_some());
        assert_eq!(attribute(span, "db.response.status_code"), None);
    }

    let page = shop.admin("/metrics").await;
    let series = samples(&page);
    assert_eq!(
        series[r#"flask_db_pool_connections_max{pool="shared"}"#],
        3.0
    );
    let count = |state| {
        series[format!(r#"flask_db_pool_connections{{pool="shared",state="{state}"}}"#).as_str()]
    };
    assert!(count("idle") + count("in_use") >= 1.0);
    assert!(series[r#"flask_db_pool_wait_seconds_count{pool="shared"}"#] >= 2.0);
    assert!(series.len() < 400, "{} series", series.len());
    shop.close().await;
}

#[actix_web::test]
async fn a_refusal_of_the_database_is_named_by_its_code() {
    let Some(database) = Database::create().await else {
        return;
    };
    let shop = Shop::open_on(&database.url(), &[]).await;
    let mut aside = database.connect().await;
    sqlx::raw_sql("ALTER TABLE order_items RENAME TO gone")
        .execute(&mut aside)
        .await
        .unwrap();
    let id = "4bf92f3577b34da6a3ce929d0e0e4712";
    let refused = place_in_trace(&shop, id).await;
    refused.assert_problem(500, "about:blank");
    assert!(
        !refused.body.to_string().contains("order_items"),
        "{refused:?}"
    );
    let trace = trace(TraceId::from_hex(id).unwrap()).await;
    for kind in [SpanKind::Client, SpanKind::Server] {
        let span = trace.iter().find(|span| span.span_kind == kind).unwrap();
        // "undefined_table" in PostgreSQL's own words.
        assert_attributes(span, &[("error.type", "42P01")]);
    }
    assert!(shop.admin("/readyz").await.contains("true"));
    shop.close().await;
}

/// Asks for this and that until told to stop; says when a customer was first refused, and returns the statuses seen, and how long the slowest took.
async fn traffic(shop: &Shop, stop: &AtomicBool, told: &AtomicBool) -> (BTreeSet<u16>, Duration) {
    let mut seen = BTreeSet::new();
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Acquire) {
        let started = Instant::now();
        let both = futures::future::join(shop.get("/api/products"), async {
            shop.place(&one(1, 1)).await
        });
        let (read, placed) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("no request hangs");
        slowest = slowest.max(started.elapsed());
        for answer in [read, placed] {
            if answer.status == 503 {
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                told.store(true, Ordering::Release);
            }
            seen.insert(answer.status.as_u16());
        }
    }
    (seen, slowest)
}

/// Works on the server without holding up this thread, on which requests go on.
async fn aside(mut server: Server, work: fn(&mut Server)) -> Server {
    let work = move || {
        work(&mut server);
        server
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[expect(
    clippy::print_stdout,
    reason = "figures for whoever asks for a long outage"
)]
async fn outage(
    server: Server,
    shop: Arc<Shop>,
    away: fn(&mut Server),
    back: fn(&mut Server),
) -> Server {
    let length = std::env::var(OUTAGE_SECONDS).map_or(1, |seconds| seconds.parse().unwrap());
    let [stop, told] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let customers = actix_web::rt::spawn({
        let (shop, stop, told) = (Arc::clone(&shop), Arc::clone(&stop), Arc::clone(&told));
        async move { traffic(&shop, &stop, &told).await }
    });
    let ready = async || shop.admin_status("/readyz").await == 200;
    eventually("ready", ready).await;

    let server = aside(server, away).await;
    let began = Instant::now();
    eventually("not ready", async || !ready().await).await;
    let noticed = began.elapsed();
    let report = shop.admin("/readyz").await;
    assert!(report.contains("database"), "{report}");
    // At least until a customer who was waiting when it began has been told, which takes its time.
    let length = Duration::from_secs(length);
    while began.elapsed() < length || !told.load(Ordering::Acquire) {
        assert!(
            began.elapsed() < length + Duration::from_secs(60),
            "no customer was told"
        );
        assert_eq!(shop.admin_status("/healthz").await, 200);
        assert_eq!(shop.admin_status("/readyz").await, 503);
        // Known to be away, it is not waited for.
        shop.get("/api/products")
            .await
            .assert_problem(503, "/problems/database-unavailable");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let server = aside(server, back).await;
    let began = Instant::now();
    eventually("ready again", ready).await;
    let recovered = began.elapsed();
    assert_eq!(shop.get("/api/products").await.status, 200);
    assert_eq!(shop.place(&one(1, 1)).await.body["status"], "paid");
    stop.store(true, Ordering::Release);
    let (seen, slowest) = customers.await.unwrap();
    println!(
        "away {length:?}: not ready after {noticed:?}, ready again after {recovered:?}, \
         slowest pair of requests {slowest:?}, statuses {seen:?}"
    );
    assert!(seen.contains(&503), "{seen:?}");
    assert!(
        seen.is_subset(&BTreeSet::from([200, 201, 503])),
        "an outage is no error of ours: {seen:?}"
    );
    server
}

#[actix_web::test]
async fn an_outage_is_told_and_survived() {
    let Some(server) = Server::start() else {
        return;
    };
    let shop = Arc::new(Shop::open_on(&server.owner_url(), &[]).await);
    let server = outage(server, Arc::clone(&shop), Server::stop, Server::resume).await;
    // Frozen, it still takes connections and requests, and nobody answers them.
    outage(
        server,
        Arc::clone(&shop),
        |server| server.freeze(),
        |server| server.thaw(),
    )
    .await;
    Arc::into_inner(shop).unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_is_paid_though_the_database_stops_between_charge_and_settlement() {
    let Some(server) = Server::start() else {
        return;
    };
    let database: flask_api::database::Database = server.owner_url().parse().unwrap();
    let store = database.open(2).await.unwrap();
    let bank = MockServer::start().await;
    let (approved_later, asked, decide) = approved_later();
    answer(&bank, approved_later).await;
    let shop = Arc::new(patient_shop(store.clone(), &bank));
    let request: OrderRequest = serde_json::from_value(one(1, 2)).unwrap();
    let cart = Cart::try_from(&request).unwrap();
    let placing = tokio::spawn({
        let shop = Arc::clone(&shop);
        async move { shop.place(cart, None).await }
    });
    eventually("payments is asked", async || asked.try_recv().is_ok()).await;
    let status = async || store.order(1).await.unwrap().unwrap().status;
    assert_eq!(status().await, OrderStatus::Pending);

    let server = aside(server, Server::stop).await;
    drop(decide);
    let lost = placing.await.unwrap();
    assert!(matches!(lost, Err(PlaceError::Store(_))), "{lost:?}");
    let server = aside(server, Server::resume).await;
    eventually("the database answers", async || store.ping().await.is_ok()).await;
    assert_eq!(status().await, OrderStatus::Pending);

    bank.reset().await;
    let taken = ResponseTemplate::new(200).set_body_json(json!({"status": "approved"}));
    look_up(taken).mount(&bank).await;
    shop.settle_abandoned(Duration::ZERO).await.unwrap();
    assert_eq!(status().await, OrderStatus::Paid);
    store.close().await;
    drop(server);
}
