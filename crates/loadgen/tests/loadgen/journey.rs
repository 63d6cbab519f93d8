//! The journey through a shop that keeps its orders in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::program::result;
use crate::target::{Answer, Seen, Target};

/// Answers like the demo shop; 422 for an order it would not understand.
fn shop() -> Target {
    let orders = Mutex::new(BTreeMap::new());
    Target::start(move |n, request| {
        let mut orders = orders.lock().expect("no panic");
        let segments: Vec<_> = request.path.split('/').skip(1).collect();
        let id = segments.get(2).and_then(|id| id.parse::<usize>().ok());
        let status = match (request.method.as_str(), segments.as_slice(), id) {
            ("GET", ["api", "products"], None) | ("GET", ["api", "orders"], None) => 200,
            ("GET", ["api", "products", _], Some(id)) => {
                if (1..=12).contains(&id) {
                    200
                } else {
                    404
                }
            }
            ("GET", ["api", "orders", _], Some(id)) => {
                if orders.contains_key(&id) {
                    200
                } else {
                    404
                }
            }
            ("POST", ["api", "orders"], None) if understood(request) => {
                orders.insert(n, "paid");
                return Answer::Now(201, json!({"id": n, "status": "paid"}).to_string());
            }
            ("POST", ["api", "orders", _, "cancel"], Some(id)) => {
                match orders.insert(id, "cancelled") {
                    Some("paid") => 200,
                    Some(_) => 409,
                    None => 404,
                }
            }
            _ => 422,
        };
        Answer::status(status)
    })
}

fn understood(request: &Seen) -> bool {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let items = body["items"].as_array().expect("items");
    request
        .idempotency_key
        .as_ref()
        .is_some_and(|key| key.len() == 36)
        && (1..=3).contains(&items.len())
        && items.iter().all(|item| {
            (1..=12).contains(&item["product_id"].as_u64().expect("a number"))
                && item["quantity"].as_u64() > Some(0)
        })
}

/// Method and route, with numbers left out.
fn route(request: &Seen) -> String {
    let path: Vec<_> = request
        .path
        .split('/')
        .map(|s| if s.parse::<u64>().is_ok() { "{id}" } else { s })
        .collect();
    format!("{} {}", request.method, path.join("/"))
}

#[test]
fn customers_use_every_route_of_both_replicas_and_cancel_orders() {
    let (one, two) = (shop(), shop());
    // The seed decides the mix, so whether the rare unknown product comes up is no matter of luck.
    let summary = result(&[
        &one.url,
        &two.url,
        "--journey",
        "shop",
        "--seed",
        "1",
        "--rate",
        "500",
        "--for",
        "2s",
    ]);
    assert_eq!((summary.sent, summary.received), (1000, 1000));
    assert_eq!(
        (one.seen().len(), two.seen().len()),
        (500, 500),
        "replicas take turns"
    );
    for replica in [&one, &two] {
        let routes: BTreeSet<_> = replica.seen().iter().map(route).collect();
        let expected = [
            "GET /api/orders",
            "GET /api/orders/{id}",
            "GET /api/products",
            "GET /api/products/{id}",
            "POST /api/orders",
            "POST /api/orders/{id}/cancel",
        ];
        assert_eq!(routes, expected.map(str::to_owned).into());
    }
    // Orders were looked up and cancelled where they had been placed, and only once: else there were 404 and 409 ...
    let unknown = |target: &Target| {
        target
            .seen()
            .iter()
            .filter(|seen| seen.path.ends_with("/999999"))
            .count() as u64
    };
    assert_eq!(summary.status["4xx"], unknown(&one) + unknown(&two));
    // ... of which the mix wants a few.
    assert!((1..50).contains(&summary.status["4xx"]), "{summary:?}");
    let keys: Vec<_> = [one.seen(), two.seen()]
        .concat()
        .into_iter()
        .filter_map(|seen| seen.idempotency_key)
        .collect();
    assert_eq!(
        keys.iter().collect::<BTreeSet<_>>().len(),
        keys.len(),
        "a key is used once"
    );
    // Routes, not paths, name the slow requests.
    assert!(
        summary
            .slowest
            .iter()
            .all(|slow| !slow.request.contains(|c: char| c.is_ascii_digit())),
        "{summary:?}"
    );
}
