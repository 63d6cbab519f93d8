//! Every error is `application/problem+json`.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{client, start};

async fn problem(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let mut body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status.as_u16());
    let trace_id = body.as_object_mut().unwrap().remove("trace_id");
    let trace_id = trace_id
        .as_ref()
        .and_then(Value::as_str)
        .expect("a trace id");
    assert!(trace_id.len() == 32 && trace_id.bytes().all(|c| c.is_ascii_hexdigit()));
    (status, body)
}

#[actix_web::test]
async fn a_problem_says_what_the_handler_put_into_it() {
    let service = start();
    let (status, body) = problem(service.get("/items/404").await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let expected =
        json!({"type": "/problems/no-such-item", "title": "Not Found", "status": 404, "id": 404});
    assert_eq!(body, expected);
}

#[actix_web::test]
async fn reasons_of_a_500_stay_inside() {
    let service = start();
    for path in ["/fail", "/panic"] {
        let (status, body) = problem(service.get(path).await).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let expected =
            json!({"type": "about:blank", "title": "Internal Server Error", "status": 500});
        assert_eq!(body, expected);
    }
    let (_, body) = problem(service.get("/text").await).await;
    assert_eq!(
        body,
        json!({"type": "about:blank", "title": "Bad Gateway", "status": 502})
    );
}

#[actix_web::test]
async fn paths_and_methods_nobody_serves() {
    let service = start();
    assert_eq!(
        problem(service.get("/nope").await).await.0,
        StatusCode::NOT_FOUND
    );
    let response = client().delete(service.url("/items")).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "GET, HEAD, POST");
    assert_eq!(response.headers().get_all("allow").iter().count(), 1);
    let (status, body) = problem(response).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body["detail"], "this path answers to GET, HEAD, POST");
}

#[actix_web::test]
async fn what_cannot_be_read_is_refused_with_the_reason() {
    let service = start();
    let client = client();
    let post = |content_type: &'static str, body: String| {
        client
            .post(service.url("/items"))
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    let json = "application/json";
    let too_large = format!(r#"{{"name": "{}"}}"#, "x".repeat(300_000));
    for (response, wanted, reason) in [
        (
            service.get("/items/one").await,
            400,
            "a parameter in the path",
        ),
        (
            service.get("/items?limit=1000").await,
            400,
            "number too large",
        ),
        (post(json, "{".to_owned()).await.unwrap(), 400, "EOF"),
        (
            post(json, "{}".to_owned()).await.unwrap(),
            400,
            "missing field `name`",
        ),
        (
            post("text/plain", "{}".to_owned()).await.unwrap(),
            415,
            "application/json",
        ),
        (post(json, too_large).await.unwrap(), 413, "limit"),
    ] {
        let (status, body) = problem(response).await;
        assert_eq!(status.as_u16(), wanted, "{body}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{body}");
        assert!(!detail.contains("deserialize"), "no words of ours: {body}");
    }
    let made = post(json, r#"{"name": "lamp"}"#.to_owned()).await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
}
