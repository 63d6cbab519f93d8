//! What the two stores read from their tables alike.

use jiff::Timestamp;
use sqlx::types::Json;

use crate::order::{Failure, Order, OrderItem, OrderStatus};
use crate::store::StoreError;

/// An order as a statement returns it: its items as JSON, its times as RFC 3339.
#[derive(sqlx::FromRow)]
pub(crate) struct OrderRow {
    id: i64,
    status: String,
    failure: Option<String>,
    total_cents: i64,
    items: Json<Vec<OrderItem>>,
    created_at: String,
    updated_at: String,
}

impl TryFrom<OrderRow> for Order {
    type Error = StoreError;

    fn try_from(row: OrderRow) -> Result<Self, StoreError> {
        let unreadable = |column: &str, value: &str| {
            let reason = format!("orders.{column} of order {} is {value:?}", row.id);
            StoreError::Database(sqlx::Error::Decode(reason.into()))
        };
        let time = |column: &str, text: &str| -> Result<Timestamp, StoreError> {
            text.parse().map_err(|_| unreadable(column, text))
        };
        let failure = row
            .failure
            .as_deref()
            .map(|text| Failure::from_name(text).ok_or_else(|| unreadable("failure", text)))
            .transpose()?;
        Ok(Self {
            id: row.id,
            status: OrderStatus::from_name(&row.status)
                .ok_or_else(|| unreadable("status", &row.status))?,
            failure,
            total_cents: row.total_cents,
            created_at: time("created_at", &row.created_at)?,
            updated_at: time("updated_at", &row.updated_at)?,
            items: row.items.0,
        })
    }
}

/// A time as both databases take it: with three decimals always, so that it sorts as text.
pub(crate) fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}
