//! `/openapi.json` and `/docs/`.

use std::collections::{BTreeMap, BTreeSet};

use flask_api::http::ROUTES;
use serde_json::Value;

use crate::harness::Shop;

#[actix_web::test]
async fn the_document_and_the_table_of_routes_agree() {
    let shop = Shop::open().await;
    let document = shop.get("/openapi.json").await;
    assert_eq!(document.status, 200);
    assert_eq!(document.header("content-type"), "application/json");
    let mut described = BTreeMap::new();
    for (path, operations) in document.body["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys();
            let mut statuses: BTreeSet<u16> = statuses.map(|code| code.parse().unwrap()).collect();
            // Of requests that are refused before a route is looked for.
            for refusal in [408, 414, 429, 431] {
                assert!(
                    statuses.remove(&refusal),
                    "{method} {path} without {refusal}"
                );
            }
            described.insert((method.to_uppercase(), path.clone()), statuses);
        }
    }
    let served: BTreeMap<_, _> = ROUTES
        .iter()
        .map(|route| {
            let key = (route.method().to_string(), route.pattern().to_owned());
            (key, route.statuses())
        })
        .collect();
    assert_eq!(described, served);
    shop.close().await;
}

/// Every `src` and `href` of a page.
fn links(html: &str) -> Vec<&str> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect()
}

#[actix_web::test]
async fn the_page_is_served_whole_from_here() {
    let shop = Shop::open().await;
    let before = shop.admin("/metrics").await;
    let page = shop.get("/docs").await;
    assert_eq!(page.status, 200, "redirected to /docs/");
    let Value::String(html) = &page.body else {
        panic!("no page: {page:?}");
    };
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'self'")
    );
    assert!(
        !page.headers.contains_key("content-encoding"),
        "asked for by nobody"
    );
    let links = links(html);
    assert!(links.len() >= 4, "{links:?}");
    for link in links {
        assert!(!link.contains("//"), "{link} is somewhere else");
        let asset = shop
            .get(&format!("/docs/{}", link.trim_start_matches("./")))
            .await;
        assert_eq!(asset.status, 200, "{link}");
    }
    let settings = shop.get("/docs/swagger-initializer.js").await;
    let settings = settings.body.to_string();
    assert!(settings.contains("/openapi.json"), "{settings}");
    assert!(
        !settings.contains("https://") && settings.contains("none"),
        "no validator on the internet: {settings}"
    );
    for strange in ["/docs/nothing.js", "/docs/../Cargo.toml", "/docs/%2e%2e/x"] {
        assert_eq!(shop.get(strange).await.status, 404, "{strange}");
    }
    let requests = |page: &str| {
        let lines = page
            .lines()
            .filter(|line| line.starts_with("flask_requests_total"));
        let known = lines.filter(|line| !line.contains("unmatched"));
        known.map(str::to_owned).collect::<Vec<_>>()
    };
    let after = shop.admin("/metrics").await;
    assert_eq!(
        requests(&before),
        requests(&after),
        "no requests of the API"
    );
    shop.close().await;
}
