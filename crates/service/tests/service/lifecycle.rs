//! From bound to drained.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use service::{Error, ServerConfig};

use crate::harness::{eventually, read_status, start, start_with};

#[actix_web::test]
async fn readiness_names_what_is_missing() {
    let service = start();
    let database = service.readiness.condition("database");
    for url in [service.url("/readyz"), service.admin_url("/readyz")] {
        let response = crate::harness::client().get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body, json!({"ready": false, "not_ready": ["database"]}));
    }
    assert_eq!(service.admin_get("/healthz").await.status(), StatusCode::OK);
    database.set(true);
    assert_eq!(service.get("/readyz").await.status(), StatusCode::OK);
}

#[actix_web::test]
async fn stopping_lets_requests_in_flight_end_and_keeps_the_admin_port_to_the_end() {
    let service = start();
    let mut in_flight = service.send_raw("GET /slow").await;
    let mut idle = service.send_raw("GET /items").await;
    assert_eq!(read_status(&mut idle).await, 200);
    eventually("in progress", || async {
        service.metric("test_http_requests_in_progress").await == 1.0
    })
    .await;

    service.shutdown.trigger();
    eventually("not ready", || async {
        service.admin_get("/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let body: Value = service.admin_get("/readyz").await.json().await.unwrap();
    assert_eq!(body["not_ready"], json!(["draining"]));
    eventually("no new connections", || async {
        tokio::net::TcpStream::connect(service.address)
            .await
            .is_err()
    })
    .await;
    assert!(!service.ended.is_finished(), "a request is in flight");
    assert_eq!(service.admin_get("/healthz").await.status(), StatusCode::OK);

    service.gate.add_permits(1);
    assert_eq!(read_status(&mut in_flight).await, 200);
    // The idle connection must not hold it up: nothing is in flight on it.
    let stopped = service.ended.await.unwrap().expect("stopped in order");
    assert!(!stopped.forced());
    let admin = format!("http://{}/healthz", service.admin);
    let alive = crate::harness::client().get(&admin).send().await.unwrap();
    assert_eq!(
        alive.status(),
        StatusCode::OK,
        "alive until the program ends"
    );
    drop(stopped);
    eventually("the admin port closes", || async {
        tokio::net::TcpStream::connect(service.admin).await.is_err()
    })
    .await;
}

#[actix_web::test]
async fn the_service_goes_on_serving_during_the_drain_delay() {
    let config = ServerConfig {
        drain_delay: Duration::from_secs(3600),
        ..ServerConfig::ephemeral()
    };
    let service = start_with(config).unwrap();
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    service.shutdown.trigger();
    eventually("not ready", || async {
        service.get("/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);

    service.shutdown.trigger();
    let stopped = service.ended.await.unwrap().expect("stopped");
    assert!(stopped.forced(), "a second request to stop does not wait");
}

#[actix_web::test]
async fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let config = ServerConfig {
        shutdown_timeout: Duration::ZERO,
        ..ServerConfig::ephemeral()
    };
    let service = start_with(config).unwrap();
    let _in_flight = service.send_raw("GET /slow").await;
    eventually("in progress", || async {
        service.metric("test_http_requests_in_progress").await == 1.0
    })
    .await;
    service.shutdown.trigger();
    let stopped = service.ended.await.unwrap().expect("stopped");
    assert!(!stopped.forced(), "the bound is part of the order");
}

#[actix_web::test]
async fn a_port_in_use_is_named_with_its_cure() {
    let first = start();
    for admin in [false, true] {
        let mut config = ServerConfig::ephemeral();
        let (listen, flag) = match admin {
            true => (&mut config.admin_listen, "--admin-listen or ADMIN_LISTEN"),
            false => (&mut config.listen, "--listen or LISTEN"),
        };
        listen.address = first.address;
        let error = start_with(config).err().expect("the port is taken");
        assert!(matches!(error, Error::Bind { .. }));
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains(&first.address.to_string()) && text.contains(flag),
            "{text}"
        );
    }
}
