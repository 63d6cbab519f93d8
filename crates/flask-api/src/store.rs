//! What the shop needs from a database, whichever it is.

use std::borrow::Cow;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::order::{Cart, Order, OrderItem, OrderStatus, Product};
use crate::{postgres, sqlite};

/// The shop's durable state.
///
/// Every method is atomic: it happens completely or not at all, whatever other replicas of the
/// service do to the same database at the same time, and also when its future is dropped.
#[async_trait]
pub trait Store: Send + Sync {
    /// Products in ascending order of id.
    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError>;

    /// One product.
    async fn product(&self, id: i64) -> Result<Option<Product>, StoreError>;

    /// Reserves stock for a new `pending` order.
    ///
    /// With a `key` that was used before nothing is placed: the order of that time is returned
    /// ([`Placed::Known`]), unless its payment could not be asked for. Then it is `pending` once
    /// more, its stock reserved anew ([`Placed::Reserved`]).
    ///
    /// # Errors
    /// [`StoreError::UnknownProducts`], [`StoreError::OutOfStock`], [`StoreError::TotalTooLarge`];
    /// [`StoreError::KeyReused`] when `key` was used for another cart.
    async fn place(&self, cart: &Cart, key: Option<&str>) -> Result<Placed, StoreError>;

    /// One order.
    async fn order(&self, id: i64) -> Result<Option<Order>, StoreError>;

    /// Orders, newest first, so that paging is not disturbed by those that arrive meanwhile.
    async fn orders(
        &self,
        status: Option<OrderStatus>,
        page: PageRequest,
    ) -> Result<Page<Order>, StoreError>;

    /// Ends `pending`: keeps what was reserved if paid, puts it on sale again if not. An order
    /// that is no longer `pending` is left as it is. Returns the order as it stands afterwards.
    ///
    /// # Errors
    /// [`StoreError::UnknownOrder`].
    async fn settle(&self, id: i64, payment: Payment) -> Result<Order, StoreError>;

    /// Calls an order off and puts its stock on sale again.
    ///
    /// # Errors
    /// [`StoreError::UnknownOrder`]; [`StoreError::NotCancellable`] unless it is `pending` or `paid`.
    async fn cancel(&self, id: i64) -> Result<Order, StoreError>;

    /// Every order that has been `pending` since before `deadline`: whoever was to settle it is gone.
    async fn abandoned(&self, deadline: Timestamp) -> Result<Vec<Order>, StoreError>;

    /// Fails every order that has been `pending` since before `deadline`, but for those of `keep`. Returns
    /// the orders that failed.
    async fn fail_abandoned(
        &self,
        deadline: Timestamp,
        keep: &[i64],
    ) -> Result<Vec<Order>, StoreError>;

    /// Proves that the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Adds `flask_db_*` to a registry.
    fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error>;

    /// Waits for running operations, refuses new ones, and leaves the database tidy.
    async fn close(&self);
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// Most items to return, at least 1.
    pub limit: u32,
    /// Id of the last item of the page before.
    pub after: Option<i64>,
}

/// Part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts, if there is one.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// From one item more than was asked for, if there are so many.
    pub fn from_surplus(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> i64) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}

/// What [`Store::place`] found.
#[derive(Debug, Clone)]
pub enum Placed {
    /// Stock is reserved: the caller is to ask for payment and to settle the order.
    Reserved(Order),
    /// The key is known: nothing is left to do.
    Known(Order),
}

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// The money is there.
    Approved,
    /// The answer was no.
    Declined,
    /// There was no answer.
    Unavailable,
}

/// A product of which there is less than was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Which product.
    pub product_id: i64,
    /// Units left.
    pub available: i64,
}

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Products that do not exist, by id.
    #[error("unknown products: {0:?}")]
    UnknownProducts(Vec<i64>),
    /// There is less than was ordered.
    #[error("not enough stock: {0:?}")]
    OutOfStock(Vec<Shortage>),
    /// The sum of an order cannot be represented.
    #[error("the total of the order is too large")]
    TotalTooLarge,
    /// An idempotency key came with another cart than the first time.
    #[error("the idempotency key was used for another order")]
    KeyReused,
    /// There is no such order.
    #[error("unknown order")]
    UnknownOrder,
    /// An order in this status cannot be cancelled.
    #[error("an order that is {} cannot be cancelled", .0.as_str())]
    NotCancellable(OrderStatus),
    /// Others kept the database busy for too long; it is worth trying again.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// The database cannot be reached or does not answer; it may be back later.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Low-cardinality name for `error.type`, when it is the database's fault: its own code for the
    /// failure where it gave one, as the conventions of OpenTelemetry have it.
    pub fn fault(&self) -> Option<Cow<'static, str>> {
        let name = match self {
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Database(_) => "database",
            _ => return None,
        };
        Some(self.code().map_or(Cow::Borrowed(name), Cow::Owned))
    }

    /// The database's own code for the failure (`db.response.status_code`): a SQLSTATE, or a number of SQLite's.
    pub fn code(&self) -> Option<String> {
        match self {
            Self::Busy(error) | Self::Unavailable(error) | Self::Database(error) => {
                Some(error.as_database_error()?.code()?.into_owned())
            }
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::Io(_) | sqlx::Error::PoolClosed => Self::Unavailable,
            sqlx::Error::Database(error) => {
                if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                    postgres::classify(error)
                } else if let Some(error) = error.try_downcast_ref::<SqliteError>() {
                    sqlite::classify(error)
                } else {
                    Self::Database
                }
            }
            _ => Self::Database,
        };
        kind(error)
    }
}

/// The items of an order of `cart`, at the prices of `products`, which are those of its products
/// that exist.
///
/// # Errors
/// [`StoreError::UnknownProducts`], [`StoreError::OutOfStock`]: with every product concerned.
pub(crate) fn allot(cart: &Cart, products: &[Product]) -> Result<Vec<OrderItem>, StoreError> {
    let mut items = Vec::with_capacity(products.len());
    let mut unknown = Vec::new();
    let mut short = Vec::new();
    for (product_id, quantity) in cart.lines() {
        match products.iter().find(|product| product.id == product_id) {
            None => unknown.push(product_id),
            Some(product) if product.stock < quantity => short.push(Shortage {
                product_id,
                available: product.stock,
            }),
            Some(product) => items.push(OrderItem {
                product_id,
                quantity,
                unit_price_cents: product.price_cents,
            }),
        }
    }
    if !unknown.is_empty() {
        return Err(StoreError::UnknownProducts(unknown));
    }
    if !short.is_empty() {
        return Err(StoreError::OutOfStock(short));
    }
    Ok(items)
}
