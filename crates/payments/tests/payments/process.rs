//! Start, log and stop of the process.

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program::{Program, client, command, eventually};

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut payments = Program::start(&["--shutdown-timeout", "60s"]).await;
        // In flight for as long as its body is not complete.
        let body = r#"{"order_id": 1, "amount_cents": 5}"#;
        let (first, rest) = body.split_at(10);
        let mut in_flight = TcpStream::connect(payments.address).await.unwrap();
        let head = format!(
            "POST /api/payments HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{first}",
            body.len()
        );
        in_flight.write_all(head.as_bytes()).await.unwrap();
        eventually("in flight", async || {
            payments.metric("payments_http_requests_in_progress").await == 1.0
        })
        .await;

        payments.signal(signal);
        payments
            .log(|line| line["message"].as_str().unwrap().contains("not ready"))
            .await;
        let status = async |path| {
            client()
                .get(payments.admin_url(path))
                .send()
                .await
                .unwrap()
                .status()
        };
        assert_eq!(
            status("/readyz").await,
            StatusCode::SERVICE_UNAVAILABLE,
            "{signal}"
        );
        eventually("the public port is closed", async || {
            TcpStream::connect(payments.address).await.is_err()
        })
        .await;
        assert_eq!(
            status("/readyz").await,
            StatusCode::SERVICE_UNAVAILABLE,
            "{signal}"
        );
        assert_eq!(status("/healthz").await, StatusCode::OK, "{signal}");

        // From here on the process may end at any time; until it does, it is alive.
        let healthz = payments.admin_url("/healthz");
        let liveness = tokio::spawn(async move {
            let probe = client();
            while let Ok(response) = probe.get(&healthz).send().await {
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
        in_flight.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        in_flight.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 201 Created"),
            "{signal}: {answer}"
        );
        assert_eq!(payments.end().await.code(), Some(0), "{signal}");
        liveness.await.unwrap();
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let mut payments = Program::start(&["--drain-delay", "1h"]).await;
    payments.signal(Signal::SIGTERM);
    payments
        .log(|line| line["message"].as_str().unwrap().contains("not ready"))
        .await;
    payments.signal(Signal::SIGTERM);
    assert_eq!(payments.end().await.code(), Some(1));
}

#[tokio::test]
async fn a_port_in_use_and_wrong_settings_end_it_with_2_and_the_cure() {
    let first = Program::start(&[]).await;
    let taken = first.address.to_string();
    let cases: [(&[&str], &str); 4] = [
        (&["--listen", &taken], "PAYMENTS_LISTEN"),
        (&["--admin-listen", &taken], "PAYMENTS_ADMIN_LISTEN"),
        (&["--log-level", "payments=loud"], "log filter"),
        (&["--drain-delay", "soon"], "250ms"),
    ];
    for (flags, cure) in cases {
        // The last of a repeated flag counts.
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_payments"));
        command
            .env_remove("RUST_LOG")
            .env("OTEL_TRACES_EXPORTER", "none");
        for other in ["--listen", "--admin-listen"]
            .iter()
            .filter(|flag| !flags.contains(flag))
        {
            command.args([other, "127.0.0.1:0"]);
        }
        let output = command.args(flags).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(cure), "{flags:?}: {stderr}");
    }
}

#[tokio::test]
async fn the_access_log_continues_the_callers_trace() {
    let mut payments = Program::start(&[]).await;
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let response = client()
        .post(payments.url() + "?token=secret")
        .header("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01"))
        .header("authorization", "Bearer secret")
        .json(&json!({"order_id": 1, "amount_cents": 5}))
        .send();
    assert_eq!(response.await.unwrap().status(), StatusCode::CREATED);
    let line = payments
        .log(|line| line["event.dataset"] == "payments.access")
        .await;
    assert_eq!(line["trace.id"], trace_id);
    assert_eq!(line["http.request.method"], "POST");
    assert_eq!(line["http.route"], "/api/payments");
    assert_eq!(line["url.path"], "/api/payments");
    assert_eq!(line["http.response.status_code"], 201);
    assert!(line["event.duration"].is_i64(), "{line}");
    assert!(!line.to_string().contains("secret"), "{line}");
}

#[tokio::test]
async fn the_log_level_can_be_changed_while_it_runs() {
    let mut payments = Program::start(&["--log-level", "warn,service=info"]).await;
    let url = payments.admin_url("/log-level");
    let client = client();
    let current = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(current.contains("service=info"), "{current}");

    let refused = client.put(&url).body("payments=loud").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = refused.json().await.unwrap();
    assert!(!problem["detail"].as_str().unwrap().is_empty());

    let changed = client.post(&url).body("info\n").send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    payments
        .pay(json!({"order_id": 1, "amount_cents": 5}))
        .await;
    payments
        .log(|line| line["event.dataset"] == "payments.access")
        .await;
}

#[tokio::test]
async fn help_teaches_by_example() {
    let output = command(&["--help"]).output().await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Examples:") && text.contains("PAYMENTS_LISTEN"),
        "{text}"
    );
}
