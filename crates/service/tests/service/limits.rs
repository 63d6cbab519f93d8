//! What is too large, too slow, too much or from elsewhere.

use std::{num::NonZeroU32, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use service::{Limits, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Running, client, eventually, read_status, start, start_with};

fn with_limits(limits: Limits) -> Running {
    let config = ServerConfig {
        limits,
        ..ServerConfig::ephemeral()
    };
    start_with(config).unwrap()
}

/// Reads until the server closes the connection; what it sent.
async fn until_closed(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while let Ok(read @ 1..) = connection.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn connect(service: &Running, text: &str) -> TcpStream {
    let mut connection = TcpStream::connect(service.address).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    connection
}

#[actix_web::test]
async fn targets_and_headers_have_a_limit() {
    let service = start();
    let refused = async |reason: &str| {
        let series = format!(r#"test_http_requests_refused_total{{reason="{reason}"}}"#);
        service.metric(&series).await
    };
    let series: Vec<_> = service.scrape().await.into_keys().collect();
    for (length, status) in [(8_000, 200), (8_200, 414), (60_000, 414)] {
        let answer = service
            .get(&format!("/items?x={}", "x".repeat(length)))
            .await;
        assert_eq!(answer.status().as_u16(), status);
    }
    for (length, status) in [(15_000, 200), (17_000, 431), (60_000, 431)] {
        let request = client().get(service.url("/items"));
        let answer = request
            .header("x-large", "x".repeat(length))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status);
        if status != 200 {
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["status"], status, "{problem}");
        }
    }
    assert_eq!(refused("too_large").await, 4.0);
    // Past what the library buffers, it refuses before we are asked.
    let mut head = "GET /items HTTP/1.1\r\nHost: a\r\n".to_owned();
    head += &format!("X: {}\r\n", "x".repeat(1000)).repeat(200);
    let mut connection = TcpStream::connect(service.address).await.unwrap();
    let _ = connection.write_all(head.as_bytes()).await;
    let answer = until_closed(connection).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = "X: y\r\n".repeat(97);
    let answer = until_closed(
        connect(
            &service,
            &format!("GET /items HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        )
        .await,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(
        service.scrape().await.into_keys().collect::<Vec<_>>(),
        series
    );
}

#[actix_web::test]
async fn a_body_has_a_limit_and_is_not_read_beyond_it() {
    let service = start();
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    for _ in 0..5 {
        let request = client().post(service.url("/items"));
        let request = request.header("content-type", "application/json");
        // The connection may be cut before all of it is sent.
        if let Ok(answer) = request.body(body.clone()).send().await {
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
    // Announced and never sent; and without an announcement.
    let head = "POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let announced = connect(&service, &format!("{head}Content-Length: 10485760\r\n\r\n")).await;
    let answer = until_closed(announced).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut chunked = connect(
        &service,
        &format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
    )
    .await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while chunked.write_all(chunk.as_bytes()).await.is_ok() {
        // Until it is refused: the answer is there to be read.
        if tokio::time::timeout(Duration::from_millis(1), chunked.readable())
            .await
            .is_ok()
        {
            break;
        }
    }
    assert_eq!(read_status(&mut chunked).await, 413);
    assert!(
        service
            .metric(r#"test_requests_total{method="POST",route="/items",status="413"}"#)
            .await
            >= 2.0
    );
}

#[actix_web::test]
async fn json_of_any_depth_or_length_is_an_answer_and_no_crash() {
    let service = start();
    for body in [
        "[".repeat(200_000),
        "{\"name\":".repeat(20_000),
        format!("{{\"name\":{}", "[".repeat(100_000)),
        format!("[{}1]", "1,".repeat(100_000)),
        format!(r#"{{"name":{}1}}"#, "-".repeat(200_000)),
        format!(r#"{{"name":1{}}}"#, "0".repeat(200_000)),
        format!(r#"{{{}"name":1}}"#, r#""name":1,"#.repeat(20_000)),
    ] {
        let request = client().post(service.url("/items"));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{}", &body[..20]);
        assert!(
            answer.text().await.unwrap().len() < 2_000,
            "the body is not sent back"
        );
    }
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
}

#[actix_web::test]
async fn slow_heads_and_slow_bodies_are_closed() {
    let service = with_limits(Limits {
        // The library's clock is half a second off at times.
        head_time: Duration::from_secs(1),
        body_time: Duration::from_millis(300),
        ..Limits::default()
    });
    let series: Vec<_> = service.scrape().await.into_keys().collect();
    let head = "POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    for (text, status) in [
        ("", None),
        ("GET /it", Some(408)),
        ("GET /items HTTP/1.1\r\nHost: a\r\n", Some(408)),
        (head, Some(408)),
        (&*format!("{head}\r\n"), Some(408)),
        (&*format!("{head}\r\n{{\"name\":"), Some(408)),
        // Nobody reads the body of a path that is not there.
        (
            &*format!("{}\r\n{{", head.replace("/items", "/nowhere")),
            Some(404),
        ),
    ] {
        let answer = until_closed(connect(&service, text).await).await;
        match status {
            Some(status) => assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{text}: {answer}"
            ),
            None => assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
                "{answer}"
            ),
        }
    }
    // A client that sends a byte now and then is as late as one that sends none.
    let mut trickle = connect(&service, &format!("{head}\r\n")).await;
    let (mut read, mut write) = trickle.split();
    let mut first = [0; 12];
    let trickling = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = trickling => unreachable!(),
        answer = read.read_exact(&mut first) => { answer.unwrap(); }
    }
    assert_eq!(&first, b"HTTP/1.1 408");
    eventually("no connection is left", || async {
        service.metric("test_connections_active").await <= 1.0
    })
    .await;
    let after: Vec<_> = service.scrape().await.into_keys().collect();
    assert_eq!(after, series);
}

#[actix_web::test]
async fn one_client_has_its_rate_and_probes_have_none() {
    let service = with_limits(Limits {
        requests_per_second: NonZeroU32::new(5),
        ..Limits::default()
    });
    let mut refused = None;
    for _ in 0..200 {
        let answer = service.get("/items").await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let refused = refused.expect("200 requests take less than 40 seconds");
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/rate-limited");
    assert!(
        service
            .metric(r#"test_http_requests_refused_total{reason="rate_limited"}"#)
            .await
            >= 1.0
    );
    for _ in 0..50 {
        assert_eq!(service.get("/healthz").await.status(), StatusCode::OK);
        assert_eq!(service.get("/readyz").await.status(), StatusCode::OK);
    }
    eventually("a rate is no ban", || async {
        service.get("/items").await.status() == StatusCode::OK
    })
    .await;
}

#[actix_web::test]
async fn only_pages_of_origins_that_were_named_may_call() {
    let ask = async |service: &Running, method: Method, origin: &str| {
        let request = client().request(method, service.url("/items"));
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "content-type, idempotency-key",
            );
        request.send().await.unwrap()
    };
    let none = start();
    let answer = ask(&none, Method::OPTIONS, "https://shop.example").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));

    let config = ServerConfig {
        cors_origins: vec!["https://shop.example".to_owned()],
        ..ServerConfig::ephemeral()
    };
    let service = start_with(config).unwrap();
    let series: Vec<_> = service.scrape().await.into_keys().collect();
    let answer = ask(&service, Method::OPTIONS, "https://shop.example").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://shop.example"
    );
    assert!(
        !answer
            .headers()
            .contains_key("access-control-allow-credentials")
    );
    let answer = ask(&service, Method::GET, "https://shop.example").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://shop.example"
    );
    for stranger in [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example.evil.example",
        "null",
    ] {
        let answer = ask(&service, Method::OPTIONS, stranger).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{stranger}");
        assert!(
            !answer.headers().contains_key("access-control-allow-origin"),
            "{stranger}"
        );
    }
    let after: Vec<_> = service.scrape().await.into_keys().collect();
    assert_eq!(after, series);
}

#[actix_web::test]
async fn every_response_tells_browsers_to_be_careful_and_none_what_runs_here() {
    let service = start();
    for path in [
        "/items", "/items/x", "/nowhere", "/fail", "/panic", "/healthz", "/readyz",
    ] {
        let answer = service.get(path).await;
        let headers = answer.headers();
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(
                headers.get(name).map(|v| v.to_str().unwrap()),
                Some(value),
                "{path} {name}"
            );
        }
        for name in ["server", "x-powered-by", "via", "strict-transport-security"] {
            assert!(!headers.contains_key(name), "{path} {name}");
        }
    }
}
