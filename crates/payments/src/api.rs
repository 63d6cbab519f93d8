//! `POST /api/payments`.

use std::{sync::Mutex, time::Duration};

use actix_web::{
    HttpResponse,
    http::{Method, StatusCode},
    web,
};
use garde::Validate;
use serde::Deserialize;
use service::{Problem, Route};

use crate::ledger::{Entry, Ledger};

const PAYMENTS: &str = "/api/payments";
pub(crate) const ROUTES: [Route; 1] = [Route::new(
    Method::POST,
    PAYMENTS,
    &[201, 400, 402, 409, 413, 415, 422],
)];

/// Payments remembered, so that memory is bounded: some 10 MB at most.
const REMEMBERED: usize = 100_000;

/// What decides about payments; all threads share one.
pub(crate) struct Cashier {
    ledger: Mutex<Ledger>,
    decline_over_cents: i64,
    latency: Duration,
}

impl Cashier {
    pub(crate) fn new(decline_over_cents: i64, latency: Duration) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(REMEMBERED)),
            decline_over_cents,
            latency,
        }
    }
}

#[derive(Deserialize, Validate)]
struct PaymentRequest {
    #[garde(range(min = 1))]
    order_id: i64,
    #[garde(range(min = 1))]
    amount_cents: i64,
}

pub(crate) fn register(routes: &mut web::ServiceConfig, cashier: web::Data<Cashier>) {
    routes
        .app_data(cashier)
        .service(web::resource(PAYMENTS).post(pay));
}

async fn pay(
    cashier: web::Data<Cashier>,
    request: web::Json<PaymentRequest>,
) -> Result<HttpResponse, Problem> {
    request.validate().map_err(|report| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .kind("invalid-payment")
            .detail(report.to_string().trim_end())
    })?;
    // Standing in for a bank. Before the decision, so that a caller that gave up has not paid.
    tokio::time::sleep(cashier.latency.mul_f64(rand::random_range(0.5..1.5))).await;

    let PaymentRequest {
        order_id,
        amount_cents,
    } = *request;
    if amount_cents > cashier.decline_over_cents {
        return Err(Problem::new(StatusCode::PAYMENT_REQUIRED)
            .kind("payment-declined")
            .title("Payment declined")
            .detail(format!(
                "amounts over {} cents are declined",
                cashier.decline_over_cents
            )));
    }
    let entry = cashier
        .ledger
        .lock()
        .expect("no holder of this lock panics")
        .enter(order_id, amount_cents);
    match entry {
        Entry::Paid(payment) => Ok(HttpResponse::Created().json(payment)),
        Entry::OtherAmount(payment) => Err(Problem::new(StatusCode::CONFLICT)
            .kind("order-already-paid")
            .title("Order already paid")
            .detail(format!(
                "order {order_id} was paid with {} cents",
                payment.amount_cents
            ))),
    }
}
