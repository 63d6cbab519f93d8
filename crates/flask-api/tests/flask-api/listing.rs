//! GET /api/orders.

use serde_json::{Value, json};

use crate::harness::{Shop, declined, one};

fn ids(page: &Value) -> Vec<i64> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["id"].as_i64().unwrap())
        .collect()
}

#[actix_web::test]
async fn every_order_is_on_one_page_while_new_ones_arrive() {
    let shop = Shop::open().await;
    let body = one(1, 1);
    let placed = futures::future::join_all((0..130).map(|_| shop.place(&body))).await;
    let mut expected: Vec<i64> = placed.iter().map(|order| order.id()).collect();
    expected.sort_unstable();
    expected.reverse();

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = shop
            .get(&format!("/api/orders?limit=17&cursor={cursor}"))
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(ids(&page.body));
        let Some(next) = page.body["next_cursor"].as_str() else {
            break;
        };
        cursor = next.to_owned();
        assert_eq!(shop.place(&body).await.status, 201);
    }
    assert_eq!(seen, expected);
    shop.close().await;
}

#[actix_web::test]
async fn orders_can_be_listed_by_status() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.get("/api/orders").await.body,
        json!({"items": [], "next_cursor": null})
    );
    let paid = [
        shop.place(&one(1, 1)).await.id(),
        shop.place(&one(2, 1)).await.id(),
    ];
    let cancelled = shop.place(&one(1, 1)).await.id();
    shop.cancel(cancelled).await;
    shop.payments_answer(declined()).await;
    let failed = shop.place(&one(1, 1)).await;

    assert_eq!(
        ids(&shop.get("/api/orders?status=paid").await.body),
        [paid[1], paid[0]]
    );
    assert_eq!(
        ids(&shop.get("/api/orders?status=cancelled").await.body),
        [cancelled]
    );
    assert_eq!(
        ids(&shop.get("/api/orders?status=pending").await.body),
        [0; 0]
    );
    assert_eq!(
        shop.get("/api/orders?status=failed").await.body["items"],
        json!([failed.body])
    );
    assert_eq!(ids(&shop.get("/api/orders?cursor=").await.body).len(), 4);

    let first = shop.get("/api/orders?status=paid&limit=1").await;
    let next = first.body["next_cursor"].as_str().unwrap();
    let second = shop
        .get(&format!("/api/orders?status=paid&limit=1&cursor={next}"))
        .await;
    assert_eq!(
        (ids(&first.body), ids(&second.body)),
        (vec![paid[1]], vec![paid[0]])
    );
    assert!(second.body["next_cursor"].is_null());
    shop.close().await;
}

#[actix_web::test]
async fn a_page_has_20_orders_unless_told_and_100_at_most() {
    let shop = Shop::open().await;
    let body = one(1, 1);
    futures::future::join_all((0..101).map(|_| shop.place(&body))).await;
    assert_eq!(ids(&shop.get("/api/orders").await.body).len(), 20);
    assert_eq!(ids(&shop.get("/api/orders?limit=1").await.body).len(), 1);
    assert_eq!(
        ids(&shop.get("/api/orders?limit=100").await.body).len(),
        100
    );
    shop.close().await;
}

#[actix_web::test]
async fn a_wrong_parameter_is_named() {
    let shop = Shop::open().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("status=", "status"),
        ("status=lost", "status"),
        ("status=Paid", "status"),
        ("cursor=17", "cursor"),
        ("cursor=p0000000000000001", "cursor"),
        ("cursor=%00", "cursor"),
        ("limit=1&limit=2", "limit"),
    ] {
        let refused = shop.get(&format!("/api/orders?{query}")).await;
        refused.assert_problem(400, "/problems/invalid-parameter");
        assert_eq!(refused.fields(), [field], "{query}");
    }
    let refused = shop.get("/api/orders?cursor=x&status=x&limit=x").await;
    refused.assert_problem(400, "/problems/invalid-parameter");
    assert_eq!(
        refused.fields(),
        ["status", "limit", "cursor"],
        "all at once"
    );
    let refused = shop.get("/api/products?cursor=x&limit=x").await;
    assert_eq!(refused.fields(), ["limit", "cursor"]);
    shop.get("/api/orders/99")
        .await
        .assert_problem(404, "/problems/not-found");
    let refused = shop.get("/api/orders/last").await;
    refused.assert_problem(400, "/problems/invalid-parameter");
    assert_eq!(refused.fields(), ["id"]);
    shop.close().await;
}
