//! GET /api/products and /api/products/{id}.

use reqwest::Method;

use crate::harness::{Answer, STOCK, Shop};

#[actix_web::test]
async fn the_shop_opens_with_twelve_products() {
    let shop = Shop::open().await;
    let list = shop.get("/api/products").await;
    assert_eq!(list.status, 200);
    assert!(list.body["next_cursor"].is_null());
    let products = list.body["items"].as_array().unwrap();
    assert_eq!(products.len(), 12);
    for product in products {
        assert!(!product["name"].as_str().unwrap().is_empty());
        assert!(product["price_cents"].as_i64().unwrap() > 0);
        assert_eq!(product["stock"], STOCK);
        let alone = shop.get(&format!("/api/products/{}", product["id"])).await;
        assert_eq!((alone.status.as_u16(), &alone.body), (200, product));
    }
    shop.close().await;
}

#[actix_web::test]
async fn products_come_in_pages() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    let mut cursor = String::new();
    for expected in [5, 5, 2] {
        let page = shop
            .get(&format!("/api/products?limit=5&cursor={cursor}"))
            .await;
        let items = page.body["items"].as_array().unwrap();
        assert_eq!(items.len(), expected);
        ids.extend(items.iter().map(|product| product["id"].as_i64().unwrap()));
        cursor = page.body["next_cursor"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    assert_eq!(cursor, "");
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
    // Exactly as many as there are: no empty page behind it.
    assert!(shop.get("/api/products?limit=12").await.body["next_cursor"].is_null());
    shop.close().await;
}

#[actix_web::test]
async fn what_is_not_there_is_a_problem() {
    let shop = Shop::open().await;
    for path in ["/api/products/13", "/api/products/-1", "/api/products/0"] {
        shop.get(path)
            .await
            .assert_problem(404, "/problems/not-found");
    }
    for path in ["/api/products/one", "/api/products/9223372036854775808"] {
        let refused = shop.get(path).await;
        refused.assert_problem(400, "/problems/invalid-parameter");
        assert_eq!(refused.fields(), ["id"], "{path}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("whole number"), "{detail}");
    }
    shop.get("/api/product")
        .await
        .assert_problem(404, "about:blank");
    let deleted = shop
        .request(Method::DELETE, "/api/products/1")
        .send()
        .await
        .unwrap();
    let deleted = Answer::of(deleted).await;
    deleted.assert_problem(405, "about:blank");
    assert_eq!(deleted.header("allow"), "GET, HEAD");
    shop.close().await;
}
