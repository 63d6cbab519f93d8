//! `POST /api/payments`, and `GET /api/payments/{order_id}` for whoever has lost the answer.

use std::sync::{Mutex, MutexGuard};

use actix_web::{
    HttpResponse,
    http::{Method, StatusCode},
    web,
};
use garde::Validate;
use serde::Deserialize;
use serde_json::value::RawValue;
use service::{FieldError, Problem, Route};

use crate::behaviour::{Fate, Switch};
use crate::ledger::{Entry, Ledger};

const PAYMENTS: &str = "/api/payments";
const PAYMENT: &str = "/api/payments/{order_id}";
pub(crate) const ROUTES: [Route; 2] = [
    Route::new(
        Method::POST,
        PAYMENTS,
        &[201, 400, 402, 409, 413, 415, 422, 503, 504],
    ),
    Route::new(Method::GET, PAYMENT, &[200, 404]),
];

/// Payments remembered, so that memory is bounded: some 10 MB at most.
const REMEMBERED: usize = 100_000;

/// What decides about payments; all threads share one.
pub(crate) struct Cashier {
    ledger: Mutex<Ledger>,
    behaviour: Switch,
}

impl Cashier {
    pub(crate) fn new(behaviour: Switch) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(REMEMBERED)),
            behaviour,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of this lock panics")
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
        .service(web::resource(PAYMENTS).post(pay))
        .service(web::resource(PAYMENT).get(payment));
}

/// What was paid for an order. It moves no money, so neither limits nor luck have a say.
async fn payment(
    cashier: web::Data<Cashier>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let known = path
        .parse()
        .ok()
        .and_then(|order_id| cashier.ledger().find(order_id));
    known
        .map(|payment| HttpResponse::Ok().json(payment))
        .ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND)
                .kind("not-paid")
                .title("Not paid")
                .detail("no payment for this order is known")
        })
}

async fn pay(
    cashier: web::Data<Cashier>,
    body: web::Json<Box<RawValue>>,
) -> Result<HttpResponse, Problem> {
    let request: PaymentRequest = service::read_json(&body)?;
    request.validate().map_err(|report| {
        let errors = report
            .iter()
            .map(|(path, error)| FieldError::body(&path.to_string(), error.to_string()));
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .kind("invalid-payment")
            .detail(report.to_string().trim_end())
            .with("errors", errors.collect::<Vec<_>>())
    })?;
    let behaviour = cashier.behaviour.get();
    // Standing in for a bank. Before the decision, so that a caller that gave up has not paid.
    tokio::time::sleep(behaviour.latency.mul_f64(rand::random_range(0.5..1.5))).await;

    let PaymentRequest {
        order_id,
        amount_cents,
    } = request;
    let declined = |detail: String| {
        Problem::new(StatusCode::PAYMENT_REQUIRED)
            .kind("payment-declined")
            .title("Payment declined")
            .detail(detail)
    };
    let fate = behaviour.fate(rand::random());
    if fate == Fate::Failed {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .kind("bank-unavailable")
            .title("The bank does not answer")
            .detail("the money was not taken"));
    }
    // Whoever has paid stays so: neither a limit set since then nor bad luck takes it back.
    let known = cashier.ledger().find(order_id);
    if known.is_none() && amount_cents > behaviour.decline_over_cents {
        return Err(declined(format!(
            "amounts over {} cents are declined",
            behaviour.decline_over_cents
        )));
    }
    if known.is_none() && fate == Fate::Declined {
        return Err(declined("the bank declined it".to_owned()));
    }
    match cashier.ledger().enter(order_id, amount_cents) {
        Entry::Paid(_) if fate == Fate::Lost => Err(Problem::new(StatusCode::GATEWAY_TIMEOUT)
            .kind("answer-lost")
            .title("The bank's answer was lost")
            .detail("the money may have been taken; sending the same payment again takes it once")),
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
