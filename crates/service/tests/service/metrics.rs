//! The metrics contract.

use std::collections::BTreeSet;

use reqwest::StatusCode;

use crate::harness::{client, eventually, read_status, start};

#[actix_web::test]
async fn every_known_series_is_zero_before_the_first_request() {
    let service = start();
    let series = service.scrape().await;
    for name in [
        r#"test_requests_total{method="GET",route="/items/{id}",status="200"}"#,
        r#"test_requests_total{method="GET",route="/items/{id}",status="500"}"#,
        r#"test_requests_total{method="POST",route="/items",status="413"}"#,
        r#"test_requests_total{method="GET",route="unmatched",status="404"}"#,
        r#"test_requests_total{method="other",route="unmatched",status="405"}"#,
        r#"test_http_request_total{method="GET",status="500"}"#,
        r#"test_http_request_exceptions_total{method="GET",route="/panic"}"#,
        "test_http_requests_in_progress",
    ] {
        assert_eq!(series.get(name), Some(&0.0), "{name}");
    }
    let commit = option_env!("GIT_COMMIT").unwrap_or("unknown");
    let info = format!(r#"test_app_info{{commit="{commit}",version="1.2.3"}}"#);
    assert_eq!(series.get(&info), Some(&1.0), "{info}");
    let timed = |route: &str, status: u16| {
        let labels = format!(r#"method="GET",route="{route}",status="{status}""#);
        series
            .get(&format!(
                "test_http_request_duration_seconds_count{{{labels}}}"
            ))
            .copied()
    };
    assert_eq!(timed("/items/{id}", 200), Some(0.0));
    assert_eq!(timed("/items/{id}", 500), Some(0.0));
    assert_eq!(timed("/items/{id}", 404), None, "a refusal is not timed");
    assert_eq!(timed("unmatched", 404), None);
}

#[actix_web::test]
async fn requests_are_counted_by_pattern_in_all_three_metrics() {
    let service = start();
    for id in 0..5 {
        assert_eq!(
            service.get(&format!("/items/{id}?q=1")).await.status(),
            StatusCode::OK
        );
    }
    assert_eq!(
        service.get("/items/404").await.status(),
        StatusCode::NOT_FOUND
    );
    let series = service.scrape().await;
    let labels = |status| format!(r#"method="GET",route="/items/{{id}}",status="{status}""#);
    for (status, count) in [(200, 5.0), (404, 1.0)] {
        let labels = labels(status);
        assert_eq!(series[&format!("test_requests_total{{{labels}}}")], count);
        let flask = format!(r#"test_http_request_total{{method="GET",status="{status}"}}"#);
        assert_eq!(series[&flask], count);
    }
    let answered = labels(200);
    let timed = format!("test_http_request_duration_seconds_count{{{answered}}}");
    assert_eq!(series[&timed], 5.0);
    let slo = format!(r#"test_http_request_duration_seconds_bucket{{{answered},le="0.25"}}"#);
    assert!(
        series.contains_key(&slo),
        "the threshold of the latency SLO is a bound"
    );
}

#[actix_web::test]
async fn hostile_paths_methods_and_agents_add_no_series() {
    let service = start();
    let before: BTreeSet<String> = service.scrape().await.into_keys().collect();
    let mut connection = service.send_raw("GET /nothing").await;
    assert_eq!(read_status(&mut connection).await, 404);
    for n in 0..250 {
        use tokio::io::AsyncWriteExt as _;
        for line in [
            format!("GET /x{n}/{n}"),
            format!("BREW{n} /items"),
            format!("PUT /{n}"),
        ] {
            let head = format!("{line} HTTP/1.1\r\nhost: h{n}\r\nuser-agent: a{n}\r\n\r\n");
            connection.write_all(head.as_bytes()).await.unwrap();
            assert!([404, 405].contains(&read_status(&mut connection).await));
        }
    }
    let series = service.scrape().await;
    let after: BTreeSet<String> = series.keys().cloned().collect();
    assert_eq!(before, after);
    for (labels, count) in [
        (r#"method="GET",route="unmatched",status="404""#, 251.0),
        (r#"method="other",route="unmatched",status="404""#, 250.0),
        (r#"method="other",route="unmatched",status="405""#, 250.0),
    ] {
        assert_eq!(series[&format!("test_requests_total{{{labels}}}")], count);
    }
}

#[actix_web::test]
async fn a_status_missing_in_the_table_is_counted_as_what_it_is() {
    let service = start();
    for _ in 0..2 {
        assert_eq!(
            service.get("/items?limit=42").await.status(),
            StatusCode::IM_A_TEAPOT
        );
    }
    let series = service.scrape().await;
    let labels = r#"method="GET",route="/items",status="418""#;
    assert_eq!(series[&format!("test_requests_total{{{labels}}}")], 2.0);
    let timed = format!("test_http_request_duration_seconds_count{{{labels}}}");
    assert!(!series.contains_key(&timed), "a refusal is not timed");
}

#[actix_web::test]
async fn a_panic_is_a_500_that_is_counted_and_the_server_goes_on() {
    let service = start();
    let client = client();
    for _ in 0..3 {
        let response = client.get(service.url("/panic")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let text = response.text().await.unwrap();
        assert!(!text.contains("panicked"), "the reason is ours: {text}");
    }
    assert_eq!(
        client
            .get(service.url("/items"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let series = service.scrape().await;
    for name in [
        r#"test_http_request_exceptions_total{method="GET",route="/panic"}"#,
        r#"test_requests_total{method="GET",route="/panic",status="500"}"#,
    ] {
        assert_eq!(series[name], 3.0, "{name}");
    }
    assert_eq!(series["test_http_requests_in_progress"], 0.0);
}

#[actix_web::test]
async fn errors_of_handlers_are_exceptions_and_refusals_are_not() {
    let service = start();
    assert_eq!(
        service.get("/fail").await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(service.get("/text").await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
        service.get("/items/404").await.status(),
        StatusCode::NOT_FOUND
    );
    let series = service.scrape().await;
    for (route, count) in [("/fail", 1.0), ("/text", 1.0), ("/items/{id}", 0.0)] {
        let name = format!(r#"test_http_request_exceptions_total{{method="GET",route="{route}"}}"#);
        assert_eq!(series[&name], count, "{name}");
    }
}

#[actix_web::test]
async fn a_request_is_in_progress_until_its_client_resets_the_connection() {
    let service = start();
    let connection = service.send_raw("GET /slow").await;
    let in_progress = |wanted: f64| {
        let service = &service;
        async move { service.metric("test_http_requests_in_progress").await == wanted }
    };
    eventually("in progress", || in_progress(1.0)).await;
    connection.set_zero_linger().unwrap();
    drop(connection);
    eventually("no longer in progress", || in_progress(0.0)).await;
    let counted = service.metric(r#"test_requests_total{method="GET",route="/slow",status="200"}"#);
    assert_eq!(counted.await, 0.0, "nothing was answered");
}

#[actix_web::test]
async fn open_connections_are_counted_until_they_close() {
    let service = start();
    let open = |wanted: f64| {
        let service = &service;
        async move { service.metric("test_connections_active").await == wanted }
    };
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut connection = service.send_raw("GET /items").await;
        assert_eq!(read_status(&mut connection).await, 200);
        connections.push(connection);
    }
    assert!(open(3.0).await, "kept alive between requests");
    connections.pop();
    eventually("one closed", || open(2.0)).await;
    drop(connections);
    eventually("all closed", || open(0.0)).await;
}

#[actix_web::test]
async fn probes_are_no_requests() {
    let service = start();
    let before = service.scrape().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(service.get(path).await.status(), StatusCode::OK, "{path}");
        assert_eq!(
            service.admin_get(path).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
    assert_eq!(
        service.admin_get("/extra").await.text().await.unwrap(),
        "extra"
    );
    eventually("the probes' connections are closed", || async {
        service.metric("test_connections_active").await == 0.0
    })
    .await;
    assert_eq!(service.scrape().await, before);
}

#[actix_web::test]
async fn head_is_answered_as_get_is_and_counted_without_new_series() {
    let service = start();
    let before: BTreeSet<String> = service.scrape().await.into_keys().collect();
    for (path, status) in [
        ("/items/7", StatusCode::OK),
        ("/items/404", StatusCode::NOT_FOUND),
        ("/items/x", StatusCode::BAD_REQUEST),
        ("/fail", StatusCode::INTERNAL_SERVER_ERROR),
        ("/nope", StatusCode::NOT_FOUND),
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
    ] {
        let get = service.get(path).await;
        let head = client().head(service.url(path)).send().await.unwrap();
        assert_eq!((get.status(), head.status()), (status, status), "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.headers().get(name), get.headers().get(name), "{path}");
        }
        assert_eq!(head.bytes().await.unwrap(), "", "{path}");
    }
    for path in ["/metrics", "/healthz"] {
        let head = client().head(service.admin_url(path)).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{path}");
    }
    let series = service.scrape().await;
    let after: BTreeSet<String> = series.keys().cloned().collect();
    assert_eq!(before, after);
    for (route, status, count) in [("/items/{id}", 200, 1.0), ("unmatched", 404, 1.0)] {
        for method in ["GET", "other"] {
            let labels = format!(r#"method="{method}",route="{route}",status="{status}""#);
            assert_eq!(
                series[&format!("test_requests_total{{{labels}}}")],
                count,
                "{labels}"
            );
        }
    }
}
