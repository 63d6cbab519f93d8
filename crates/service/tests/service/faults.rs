//! Faults over `/chaos` and `X-Fault`: who may start them, what they do, what they leave alone, how they end.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Running, TOKEN, client, eventually, start, start_with_faults};

impl Running {
    fn chaos(&self, method: Method, path: &str) -> RequestBuilder {
        client()
            .request(method, self.admin_url(path))
            .bearer_auth(TOKEN)
    }

    async fn start_fault(&self, fault: &str, parameters: Value) -> Value {
        let request = self.chaos(Method::POST, &format!("/chaos/{fault}"));
        let answer = request.json(&parameters).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }

    async fn stop_faults(&self) -> Value {
        let answer = self.chaos(Method::DELETE, "/chaos").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    async fn is_active(&self, fault: &str) -> bool {
        let series = format!(r#"test_chaos_active{{fault="{fault}"}}"#);
        self.metric(&series).await == 1.0
    }

    async fn ask_for(&self, fault: &str, token: Option<&str>) -> reqwest::Response {
        let mut request = client().get(self.url("/items")).header("x-fault", fault);
        if let Some(token) = token {
            request = request.header("x-fault-token", token);
        }
        request.send().await.unwrap()
    }
}

/// The fields that a problem names.
fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect()
}

#[actix_web::test]
async fn without_a_token_file_there_are_none() {
    let service = start();
    for (method, path) in [
        (Method::GET, "/chaos"),
        (Method::POST, "/chaos/errors"),
        (Method::DELETE, "/chaos"),
    ] {
        let answer = service.chaos(method, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        let problem: Value = answer.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("--chaos-token-file"), "{detail}");
    }
    let answer = service.ask_for("errors", Some(TOKEN)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("x-fault-ignored"));
    let series = service.scrape().await;
    assert!(!series.keys().any(|series| series.contains("chaos")));
}

#[actix_web::test]
async fn only_the_token_opens_the_page() {
    let service = start_with_faults();
    for shown in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer wrong"),
        Some("Basic dGVzdDp0ZXN0"),
        Some("Bearer 0123456789abcdef-tokem"),
        Some("0123456789abcdef-token"),
    ] {
        for (method, path) in [
            (Method::GET, "/chaos"),
            (Method::POST, "/chaos/errors"),
            (Method::POST, "/chaos/nothing"),
            (Method::DELETE, "/chaos"),
        ] {
            let mut request = client().request(method, service.admin_url(path));
            if let Some(shown) = shown {
                request = request.header("authorization", shown);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(
                answer.status(),
                StatusCode::UNAUTHORIZED,
                "{shown:?} {path}"
            );
            assert_eq!(
                answer.headers()["www-authenticate"],
                r#"Bearer realm="chaos""#
            );
        }
    }
    assert!(!service.is_active("errors").await);
    // The page is not on the public port, whatever is shown.
    let public = client().get(service.url("/chaos")).bearer_auth(TOKEN);
    assert_eq!(public.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn the_page_tells_what_there_is_and_what_is_active() {
    let service = start_with_faults();
    let started = service
        .start_fault("errors", json!({"for": "2m", "probability": 0.25}))
        .await;
    assert_eq!(started["fault"], "errors");
    let list: Value = service
        .chaos(Method::GET, "/chaos")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let faults = list["faults"].as_array().unwrap();
    for fault in faults {
        for key in ["name", "summary", "teaches", "shows"] {
            assert!(!fault[key].as_str().unwrap().is_empty(), "{fault}");
        }
        let is_errors = fault["name"] == "errors";
        assert_eq!(fault["active"].is_object(), is_errors, "{fault}");
        if is_errors {
            let active = &fault["active"];
            assert_eq!(
                active["settings"],
                json!({"for": "120s", "probability": 0.25, "status": 500})
            );
            let left = active["seconds_left"].as_f64().unwrap();
            assert!(left > 60.0 && left <= 120.0, "{left}");
            let names: Vec<_> = fault["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            assert_eq!(names, ["for", "probability", "status", "route"]);
            assert_eq!(fault["parameters"][0]["most"], "3600s");
        }
    }
    assert_eq!(service.stop_faults().await, json!({"stopped": ["errors"]}));
    assert_eq!(service.stop_faults().await, json!({"stopped": []}));
}

#[actix_web::test]
async fn every_mistake_is_told_in_one_problem() {
    let service = start_with_faults();
    let start = async |fault: &str, body: &str| {
        let request = service.chaos(Method::POST, &format!("/chaos/{fault}"));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, problem) = start(
        "errors",
        r#"{"for": "2h", "probability": 2, "status": 200, "colour": "red"}"#,
    )
    .await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(fields(&problem), ["colour", "for", "probability", "status"]);
    // What only this service can say: its routes, and what they answer.
    for (body, field) in [
        (r#"{"route": "/nowhere"}"#, "route"),
        (r#"{"status": 502}"#, "status"),
        (r#"{"status": 502, "route": "/items"}"#, "status"),
    ] {
        let (status, problem) = start("errors", body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
    }
    for body in ["{", "[]", "1", "\"errors\""] {
        assert_eq!(start("errors", body).await.0, 400, "{body}");
    }
    let (status, problem) = start("earthquake", "").await;
    assert_eq!(status, 404);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("errors, latency")
    );
    assert!(!service.is_active("errors").await);

    service
        .start_fault("errors", json!({"status": 502, "route": "/text"}))
        .await;
}

#[actix_web::test]
async fn errors_fail_the_share_of_the_route_that_was_asked_for() {
    let service = start_with_faults();
    service
        .start_fault("errors", json!({"probability": 0.5, "route": "/items"}))
        .await;
    let mut failed = 0;
    for _ in 0..200 {
        match service.get("/items").await.status() {
            StatusCode::OK => {}
            StatusCode::INTERNAL_SERVER_ERROR => failed += 1,
            other => panic!("{other}"),
        }
        assert_eq!(service.get("/items/1").await.status(), StatusCode::OK);
    }
    // Outside of this once in 10^12 runs.
    assert!((50..=150).contains(&failed), "{failed} of 200");
    let counted = service
        .metric(r#"test_requests_total{method="GET",route="/items",status="500"}"#)
        .await;
    assert_eq!(counted, f64::from(failed));

    service
        .start_fault("errors", json!({"probability": 1}))
        .await;
    for path in ["/items", "/items/1", "/text"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["type"], "/problems/injected-fault");
    }
    // What is no request to the API goes on as before.
    for url in [
        service.url("/healthz"),
        service.url("/readyz"),
        service.admin_url("/healthz"),
        service.admin_url("/readyz"),
        service.admin_url("/metrics"),
    ] {
        assert_eq!(
            client().get(&url).send().await.unwrap().status(),
            StatusCode::OK,
            "{url}"
        );
    }
    assert_eq!(
        service.get("/nowhere").await.status(),
        StatusCode::NOT_FOUND
    );
    service.stop_faults().await;
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
}

#[actix_web::test]
async fn latency_is_waited_and_measured() {
    let service = start_with_faults();
    // Long enough to be told from anything else; its end is not waited for.
    service
        .start_fault(
            "latency",
            json!({"delay": "30s", "longest": "30s", "route": "/items"}),
        )
        .await;
    let slow = actix_web::rt::spawn(client().get(service.url("/items")).send());
    eventually("it waits", || async {
        service.metric("test_http_requests_in_progress").await == 1.0
    })
    .await;
    assert_eq!(service.get("/items/1").await.status(), StatusCode::OK);
    assert!(!slow.is_finished());
    slow.abort();
    service.stop_faults().await;

    service
        .start_fault("latency", json!({"delay": "60ms"}))
        .await;
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    let durations = |le: &str| {
        format!(
            r#"test_http_request_duration_seconds_bucket{{method="GET",route="/items",status="200",le="{le}"}}"#
        )
    };
    assert_eq!(service.metric(&durations("0.05")).await, 0.0);
    assert_eq!(service.metric(&durations("+Inf")).await, 1.0);
}

#[actix_web::test]
async fn a_fault_ends_by_itself_and_a_second_start_replaces_the_first() {
    let service = start_with_faults();
    service
        .start_fault("errors", json!({"probability": 1, "for": "1h"}))
        .await;
    assert!(service.is_active("errors").await);
    service
        .start_fault("errors", json!({"probability": 1, "for": "100ms"}))
        .await;
    eventually("it ends", || async { !service.is_active("errors").await }).await;
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    let list: Value = service
        .chaos(Method::GET, "/chaos")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(
        list["faults"]
            .as_array()
            .unwrap()
            .iter()
            .all(|fault| fault["active"].is_null())
    );
}

#[actix_web::test]
async fn unready_is_a_word_about_readiness_alone() {
    let service = start_with_faults();
    service.start_fault("unready", json!({})).await;
    eventually("not ready", || async {
        service.get("/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let body: Value = service.admin_get("/readyz").await.json().await.unwrap();
    assert_eq!(body, json!({"ready": false, "not_ready": ["chaos"]}));
    assert_eq!(service.get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    service.stop_faults().await;
    eventually("ready", || async {
        service.get("/readyz").await.status() == StatusCode::OK
    })
    .await;
}

#[actix_web::test]
async fn the_label_bomb_grows_to_its_cap_and_is_gone_afterwards() {
    let service = start_with_faults();
    let before: Vec<_> = service.scrape().await.into_keys().collect();
    service
        .start_fault(
            "label-bomb",
            json!({"series": 50, "series-per-second": 5000}),
        )
        .await;
    let bombs = async || {
        let series = service.scrape().await.into_keys();
        series
            .filter(|series| series.starts_with("test_chaos_label_bomb{customer="))
            .count()
    };
    eventually("it grows", || async { bombs().await == 50 }).await;
    assert_eq!(service.scrape().await.len(), before.len() + 50);
    service.stop_faults().await;
    let after: Vec<_> = service.scrape().await.into_keys().collect();
    assert_eq!(after, before);
}

#[actix_web::test]
async fn a_header_breaks_its_own_request_and_no_other() {
    let service = start_with_faults();
    let answer = service.ask_for("errors", Some(TOKEN)).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    let never = service.ask_for("errors;probability=0", Some(TOKEN)).await;
    assert_eq!(never.status(), StatusCode::OK);

    let both = service
        .ask_for("latency; delay=60ms, errors", Some(TOKEN))
        .await;
    assert_eq!(both.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!service.is_active("errors").await);

    // Whoever does not know the token is served as if nothing had been asked, and told why.
    for token in [None, Some("wrong"), Some("")] {
        let answer = service.ask_for("errors", token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.headers()["x-fault-ignored"],
            "X-Fault-Token is missing or wrong"
        );
    }
}

#[actix_web::test]
async fn a_header_that_makes_no_sense_is_refused_with_every_mistake() {
    let service = start_with_faults();
    for (header, wrong) in [
        ("earthquake", &["X-Fault"][..]),
        ("", &["X-Fault"]),
        ("crash", &["X-Fault"]),
        (
            "errors;status=200;colour=red, latency;delay=soon",
            &["status", "colour", "delay"],
        ),
        ("errors;status", &["status"]),
    ] {
        let answer = service.ask_for(header, Some(TOKEN)).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{header}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(fields(&problem), wrong, "{problem}");
    }
}

#[actix_web::test]
async fn cpu_memory_and_log_flood_start_and_end() {
    let service = start_with_faults();
    for (fault, parameters) in [
        ("cpu", json!({"threads": 2, "load": 0.1})),
        ("memory", json!({"mib": 1})),
        ("log-flood", json!({"rate": 1})),
    ] {
        service.start_fault(fault, parameters).await;
        assert!(service.is_active(fault).await);
        assert_eq!(service.get("/items").await.status(), StatusCode::OK);
    }
    let stopped = service.stop_faults().await;
    assert_eq!(stopped, json!({"stopped": ["cpu", "memory", "log-flood"]}));
    tokio::time::timeout(Duration::from_secs(30), async {
        while chaos_threads() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("their threads end");
}

/// Threads of this process that a fault of this test runs on; no other test here starts these three.
fn chaos_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| ["chaos-cpu", "chaos-memory", "chaos-log-flood"].contains(&name.trim()))
        .count()
}
