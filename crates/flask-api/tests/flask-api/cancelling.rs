//! POST /api/orders/{id}/cancel.

use crate::harness::{STOCK, Shop, approved_later, declined, eventually, one};

#[actix_web::test]
async fn a_paid_order_is_cancelled_once() {
    let shop = Shop::open().await;
    let id = shop.place(&one(1, 7)).await.id();
    let cancelled = shop.cancel(id).await;
    assert_eq!(
        (cancelled.status.as_u16(), cancelled.body["status"].as_str()),
        (200, Some("cancelled"))
    );
    assert_eq!(shop.stock(1).await, STOCK);
    let again = shop.cancel(id).await;
    again.assert_problem(409, "/problems/not-cancellable");
    assert_eq!(again.body["order_status"], "cancelled");
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}

#[actix_web::test]
async fn of_many_cancellations_at_once_one_succeeds() {
    let shop = Shop::open().await;
    let id = shop.place(&one(1, 7)).await.id();
    let answers = futures::future::join_all((0..20).map(|_| shop.cancel(id))).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 409).count(),
        19
    );
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}

#[actix_web::test]
async fn a_pending_order_can_be_cancelled_and_stays_so_when_payment_arrives() {
    let shop = Shop::open_with(&["--payments-timeout=60s"]).await;
    let (approved_later, _, decide) = approved_later();
    shop.payments_answer(approved_later).await;
    let body = one(1, 7);
    let place = shop.place(&body);
    let cancel = async {
        eventually("the order is pending", async || {
            shop.get("/api/orders/1").await.body["status"] == "pending"
        })
        .await;
        let cancelled = shop.cancel(1).await;
        drop(decide);
        cancelled
    };
    let (placed, cancelled) = futures::future::join(place, cancel).await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(
        (placed.status.as_u16(), placed.body["status"].as_str()),
        (201, Some("cancelled"))
    );
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}

#[actix_web::test]
async fn what_cannot_be_cancelled_is_a_problem() {
    let shop = Shop::open().await;
    shop.cancel(1)
        .await
        .assert_problem(404, "/problems/not-found");
    shop.payments_answer(declined()).await;
    let id = shop.place(&one(1, 7)).await.id();
    let refused = shop.cancel(id).await;
    refused.assert_problem(409, "/problems/not-cancellable");
    assert_eq!(refused.body["order_status"], "failed");
    assert_eq!(shop.stock(1).await, STOCK);
    shop.close().await;
}
