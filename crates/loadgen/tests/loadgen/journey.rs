//! Scenarios against a shop that keeps its orders in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::program::{Running, output, result, summary};
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
        && (1..=2).contains(&items.len())
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
    // The seed decides who goes where, so whether the rare dead link comes up is no matter of luck.
    let summary = result(&[
        &one.url,
        &two.url,
        "--scenario",
        "shop",
        "--seed",
        "1",
        "--rate",
        "400",
        "--for",
        "1s",
    ]);
    let counts: BTreeMap<_, _> = summary
        .journeys
        .iter()
        .map(|(name, journey)| (name.as_str(), journey.begun))
        .collect();
    let of = |name| counts[name];
    assert_eq!(counts.values().sum::<u64>(), 400);
    assert!(
        summary
            .journeys
            .values()
            .all(|journey| journey.completed == journey.begun),
        "{summary:?}"
    );
    let requests =
        2 * of("browse") + 4 * of("order") + 3 * of("cancel") + of("look-up") + of("dead-link");
    assert_eq!((summary.sent, summary.received), (requests, requests));
    // Half a thousand requests more or less, of two and a half a journey.
    assert!((900..1100).contains(&requests), "{counts:?}");
    assert_eq!(summary.wanted_rate, 400.0, "the pace is that of journeys");

    let seen = [one.seen(), two.seen()];
    for seen in &seen {
        let routes: BTreeSet<_> = seen.iter().map(route).collect();
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
    assert_eq!(summary.status["4xx"], of("dead-link"));
    // ... of which the scenario wants a few.
    assert!(of("dead-link") > 0);
    let keys: Vec<_> = seen
        .concat()
        .into_iter()
        .filter_map(|seen| seen.idempotency_key)
        .collect();
    assert_eq!(keys.len() as u64, of("order") + of("cancel"));
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
    assert_eq!(
        summary.routes["POST /api/orders"].sent,
        of("order") + of("cancel")
    );
}

#[test]
fn each_built_in_scenario_goes_through() {
    for (name, journeys, requests) in [("browse", 20, 40), ("order", 20, 60), ("cancel", 20, 60)] {
        let shop = shop();
        let summary = result(&[
            &shop.url,
            "--scenario",
            name,
            "--rate",
            "100",
            "--for",
            "200ms",
        ]);
        assert_eq!(
            (summary.sent, summary.received),
            (requests, requests),
            "{name}"
        );
        assert_eq!(summary.journeys[name].completed, journeys, "{name}");
        assert_eq!(summary.status["2xx"], requests, "{name}: {summary:?}");
    }
}

fn scenario(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.yaml");
    std::fs::write(&file, text).expect("it is writable");
    (folder, file)
}

#[test]
fn variables_are_drawn_taken_and_sent() {
    let target = Target::start(|_, seen| match seen.path.as_str() {
        "/shop/start" => Answer::Now(200, r#"{"list": [{"id": "a b/c"}], "n": 7}"#.to_owned()),
        _ => Answer::Now(201, "no JSON".to_owned()),
    });
    let (_folder, file) = scenario(
        r#"
        variables:
          colour: {one_of: [red]}
          count: {value: 3}
        phases:
          - {pace: 100, for: 50ms}
          - {pace: "steps:0/50ms,100/50ms"}
        thresholds: ["error_rate <= 0%", "dropped <= 0"]
        journeys:
          only:
            steps:
              - request: GET /start?c={colour}
                take: {id: {json: /list/*/id}, n: {json: /n}}
              - request: PUT /things/{id}
                expect: [201]
                headers: {idempotency-key: "{colour}-{n}"}
                json: {n: "{n}", text: "n is {n}", "braces": "{{}}", count: "{count}"}
        "#,
    );
    let base = format!("{}/shop/", target.url);
    let file = file.to_str().expect("UTF-8");
    let output = output(&[&base, "--scenario", file, "--json", "-"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary = summary(&output.stdout);
    assert_eq!((summary.sent, summary.received), (20, 20), "{summary:?}");
    assert_eq!(summary.thresholds.len(), 2);
    let routes: Vec<_> = summary.routes.keys().collect();
    assert_eq!(routes, ["GET /start", "PUT /things/{id}"]);
    for seen in target.seen() {
        if seen.method == "GET" {
            assert_eq!(
                (seen.path.as_str(), seen.query.as_str()),
                ("/shop/start", "c=red")
            );
            continue;
        }
        assert_eq!(seen.path, "/shop/things/a%20b%2Fc");
        assert_eq!(seen.idempotency_key.as_deref(), Some("red-7"));
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(
            body,
            json!({"n": 7, "text": "n is 7", "braces": "{}", "count": 3})
        );
    }
}

#[test]
fn a_journey_that_cannot_go_on_says_why() {
    let target = Target::start(|n, seen| match seen.path.as_str() {
        "/a" => Answer::Now(if n < 5 { 200 } else { 500 }, "{}".to_owned()),
        _ => Answer::status(404),
    });
    let (_folder, file) = scenario(
        r"
        journeys:
          refused: {steps: [{request: GET /a}, {request: GET /b, expect: [200]}, {request: GET /c}]}
        ",
    );
    let file = file.to_str().expect("UTF-8");
    let summary = result(&[
        &target.url,
        "--scenario",
        file,
        "--rate",
        "100",
        "--for",
        "100ms",
    ]);
    let journey = &summary.journeys["refused"];
    assert_eq!((journey.begun, journey.completed), (10, 0));
    let total: u64 = journey.broken_off.values().sum();
    assert_eq!(total, 10, "{journey:?}");
    let unexpected = journey.broken_off["GET /b answered 404"];
    assert_eq!(journey.broken_off["GET /a answered 500"], 10 - unexpected);
    // Nobody came as far as the last step, and what was not expected has failed.
    assert_eq!((summary.sent, summary.failed), (10 + unexpected, 10));

    let (_folder, file) = scenario(
        r"
        journeys:
          looking: {steps: [{request: GET /c, take: {id: {json: /id}}}, {request: 'GET /{id}'}]}
        ",
    );
    let file = file.to_str().expect("UTF-8");
    let summary = result(&[
        &target.url,
        "--scenario",
        file,
        "--rate",
        "100",
        "--for",
        "100ms",
    ]);
    let reasons: Vec<_> = summary.journeys["looking"].broken_off.keys().collect();
    assert_eq!(reasons, ["id: no /id in the answer of GET /c"]);
    assert_eq!((summary.sent, summary.received), (10, 10));
}

#[test]
fn a_stop_ends_journeys_while_customers_think() {
    let target = Target::start(|_, _| Answer::status(200));
    let (_folder, file) = scenario(
        r"
        journeys:
          slow: {steps: [{request: GET /a}, {request: GET /b, think: 1h}]}
        ",
    );
    let file = file.to_str().expect("UTF-8");
    let running = Running::start(&[&target.url, "--scenario", file, "--rate", "100"]);
    target.wait_for(5);
    running.signal(Signal::SIGINT);
    let summary = running.result();
    assert!(summary.interrupted && summary.received >= 5, "{summary:?}");
    assert_eq!(summary.received, summary.sent);
    let journey = &summary.journeys["slow"];
    assert_eq!(
        journey.broken_off,
        BTreeMap::from([("stopped".to_owned(), journey.begun)])
    );
}
