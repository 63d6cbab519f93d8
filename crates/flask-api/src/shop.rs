//! Placing and cancelling orders: the store and the payment service put together.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::seq::SliceRandom as _;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::order::{Cart, Failure, Order, OrderStatus};
use crate::payments::{Answer, PaymentError, Payments, Unanswered};
use crate::store::{Payment, Placed, Store, StoreError};

/// How often an order that another request is paying for is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Answers that may fail to come before abandoned orders are no longer asked for one by one: the rest would be waited
/// for in vain, too.
const UNANSWERED: usize = 3;

/// What the API does, without HTTP.
pub struct Shop {
    store: Arc<dyn Store>,
    payments: Payments,
}

/// An order, and whether it was there before.
#[derive(Debug, Clone)]
pub struct PlacedOrder {
    /// The order as it stands.
    pub order: Order,
    /// Placed by an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// Why an order was not placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was placed, and failed, because the payment service gave no answer.
    #[error("order {order_id} failed: {source}")]
    PaymentUnavailable {
        /// The order.
        order_id: i64,
        /// What happened.
        source: PaymentError,
    },
    /// It was placed, the answer of the payment service was lost, and nobody can tell yet whether it was paid.
    #[error("whether order {order_id} was paid is not known yet: {source}")]
    PaymentUnknown {
        /// The order, which stays pending.
        order_id: i64,
        /// What happened.
        source: PaymentError,
    },
    /// It failed like that, but for an earlier request with the same idempotency key.
    #[error("order {order_id} failed while this request waited for it")]
    FailedMeanwhile {
        /// The order.
        order_id: i64,
    },
}

impl Shop {
    /// A shop on `store` that is paid through `payments`.
    pub fn new(store: Arc<dyn Store>, payments: Payments) -> Self {
        Self { store, payments }
    }

    /// The store, for what needs no more than it.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Reserves stock, asks for payment, and settles the order.
    ///
    /// This goes on to the end when the caller loses patience: a request that is dropped must not
    /// leave stock reserved for nobody.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub async fn place(
        self: &Arc<Self>,
        cart: Cart,
        key: Option<String>,
    ) -> Result<PlacedOrder, PlaceError> {
        let shop = Arc::clone(self);
        let work = async move { shop.place_and_pay(&cart, key.as_deref()).await };
        match tokio::spawn(work.instrument(Span::current())).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn place_and_pay(
        &self,
        cart: &Cart,
        key: Option<&str>,
    ) -> Result<PlacedOrder, PlaceError> {
        match self.store.place(cart, key).await? {
            Placed::Reserved(order) => {
                tracing::info!(
                    order.id = order.id,
                    order.total_cents = order.total_cents,
                    order.status = order.status.as_str(),
                    "order placed"
                );
                let order = self.pay(&order).await?;
                Ok(PlacedOrder {
                    order,
                    replayed: false,
                })
            }
            Placed::Known(order) => {
                let order = self.settled(order).await?;
                if order.is_retryable() {
                    return Err(PlaceError::FailedMeanwhile { order_id: order.id });
                }
                Ok(PlacedOrder {
                    order,
                    replayed: true,
                })
            }
        }
    }

    async fn pay(&self, order: &Order) -> Result<Order, PlaceError> {
        let (payment, error) = match self.payments.charge(order.id, order.total_cents).await {
            Ok(Answer::Approved) => (Payment::Approved, None),
            Ok(Answer::Declined) => (Payment::Declined, None),
            Err(Unanswered {
                error,
                may_be_taken,
            }) => {
                tracing::warn!(
                    {
                        order.id = order.id,
                        order.total_cents = order.total_cents,
                        error.type = error.kind(),
                        error.message = %error,
                    },
                    "payments gave no answer"
                );
                // A lost answer is no refusal: whoever was charged must get what was paid for.
                let paid = match may_be_taken {
                    true => self.payments.paid(order.id).await,
                    false => Ok(false),
                };
                match paid {
                    Ok(true) => (Payment::Approved, None),
                    Ok(false) => (Payment::Unavailable, Some(error)),
                    Err(_) => {
                        log_outcome(order);
                        return Err(PlaceError::PaymentUnknown {
                            order_id: order.id,
                            source: error,
                        });
                    }
                }
            }
        };
        let order = self
            .store
            .settle(order.id, payment)
            .await
            .inspect_err(|error| {
                tracing::error!(
                    order.id = order.id,
                    order.total_cents = order.total_cents,
                    order.payment = ?payment,
                    error.message = %error,
                    "order cannot be settled and stays pending until payments is asked for it again"
                );
            })?;
        if payment == Payment::Approved && order.status != OrderStatus::Paid {
            tracing::warn!(
                order.id = order.id,
                order.total_cents = order.total_cents,
                order.status = order.status.as_str(),
                "payment approved for an order that was given up meanwhile: refund it"
            );
        }
        log_outcome(&order);
        match error {
            None => Ok(order),
            Some(source) => Err(PlaceError::PaymentUnavailable {
                order_id: order.id,
                source,
            }),
        }
    }

    /// Waits until another request, maybe in another replica, has settled the order, so that all
    /// requests with one idempotency key get one answer; but no longer than a charge can take. An order whose answer was
    /// lost is then still pending, which is the answer.
    async fn settled(&self, mut order: Order) -> Result<Order, StoreError> {
        let deadline = Instant::now() + self.payments.timeout();
        while order.status == OrderStatus::Pending && Instant::now() < deadline {
            tokio::time::sleep(POLL_INTERVAL).await;
            order = self
                .store
                .order(order.id)
                .await?
                .ok_or(StoreError::UnknownOrder)?;
        }
        Ok(order)
    }

    /// Calls an order off. Refunds are not part of this demo.
    ///
    /// # Errors
    /// As [`Store::cancel`].
    pub async fn cancel(&self, id: i64) -> Result<Order, StoreError> {
        let order = self.store.cancel(id).await?;
        log_outcome(&order);
        Ok(order)
    }

    /// Settles orders that have been pending for so long that whoever was to do it must have been killed, or has
    /// lost the database after the money was taken: they are paid if payments says so, and failed if not, with
    /// their stock on sale again. Where payments cannot tell they wait for the next time.
    ///
    /// # Errors
    /// As [`Store::abandoned`], [`Store::settle`] and [`Store::fail_abandoned`].
    pub async fn settle_abandoned(&self, age: Duration) -> Result<(), StoreError> {
        let deadline = Timestamp::now() - age;
        let mut orders = self.store.abandoned(deadline).await?;
        // In another order each time, so that those of which payments can never tell do not stand before the others for ever.
        orders.shuffle(&mut rand::rng());
        let mut unknown = Vec::new();
        for order in orders {
            if unknown.len() >= UNANSWERED {
                unknown.push(order.id);
                continue;
            }
            match self.payments.paid(order.id).await {
                Ok(false) => {}
                Ok(true) => log_outcome(&self.store.settle(order.id, Payment::Approved).await?),
                Err(error) => {
                    tracing::warn!(
                        order.id = order.id,
                        error.type = error.kind(),
                        error.message = %error,
                        "an abandoned order may have been paid: payments cannot tell yet"
                    );
                    unknown.push(order.id);
                }
            }
        }
        for order in self.store.fail_abandoned(deadline, &unknown).await? {
            tracing::warn!(
                order.id = order.id,
                order.total_cents = order.total_cents,
                order.status = order.status.as_str(),
                "order abandoned while pending"
            );
        }
        Ok(())
    }
}

fn log_outcome(order: &Order) {
    let outcome = match order.status {
        OrderStatus::Pending => "order pending",
        OrderStatus::Paid => "order paid",
        OrderStatus::Failed => "order failed",
        OrderStatus::Cancelled => "order cancelled",
    };
    tracing::info!(
        order.id = order.id,
        order.total_cents = order.total_cents,
        order.status = order.status.as_str(),
        order.failure = order.failure.map(Failure::as_str),
        "{outcome}"
    );
}
