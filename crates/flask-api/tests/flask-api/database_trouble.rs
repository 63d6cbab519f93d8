//! What clients and operators see when the database is in trouble.

use crate::harness::{STOCK, Shop, eventually, one};

#[actix_web::test]
async fn a_broken_database_is_a_500_that_tells_no_secrets_and_ends_readiness() {
    let shop = Shop::open().await;
    let ready = async || shop.admin("/readyz").await.contains(r#""ready":true"#);
    assert!(ready().await);
    shop.sql("ALTER TABLE products RENAME TO gone").await;
    for answer in [
        shop.get("/api/products").await,
        shop.place(&one(1, 1)).await,
    ] {
        answer.assert_problem(500, "about:blank");
        assert!(!answer.body.to_string().contains("products"), "{answer:?}");
    }
    eventually("not ready", async || !ready().await).await;
    shop.sql("ALTER TABLE gone RENAME TO products").await;
    assert_eq!(shop.get("/api/products").await.status, 200);
    eventually("ready again", ready).await;
    shop.close().await;
}

#[actix_web::test]
async fn a_database_others_write_to_for_too_long_is_a_503_to_be_retried() {
    let shop = Shop::open().await;
    let mut other = shop.database().await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let refused = shop.place(&one(1, 1)).await;
    refused.assert_problem(503, "/problems/busy");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    // Reading goes on meanwhile.
    assert_eq!(shop.stock(1).await, STOCK);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(shop.place(&one(1, 1)).await.status, 201);
    shop.close().await;
}
