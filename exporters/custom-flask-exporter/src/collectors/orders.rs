//! How many orders stand where, and how long the oldest of them has been waiting.

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::{Gauge, IntGaugeVec, Opts};

use super::{Collector, Metrics};
use crate::database::{ReadError, Snapshot};

/// Exported at 0 when no order has them, so that a rule on a status never meets a missing series.
const STATUSES: [&str; 4] = ["pending", "paid", "failed", "cancelled"];

/// `shop_orders`, `shop_oldest_pending_order_age_seconds`.
pub struct Orders;

#[async_trait]
impl Collector for Orders {
    async fn collect(&self, shop: &mut Snapshot) -> Result<Metrics, ReadError> {
        let counts: Vec<(String, i64)> =
            sqlx::query_as("SELECT status, count(*) FROM orders GROUP BY status")
                .fetch_all(shop.connection())
                .await?;
        // Ids grow with time, and the index on status has them in order: one look-up, however many
        // orders wait.
        let oldest_pending: Option<String> = sqlx::query_scalar(
            "SELECT created_at FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1",
        )
        .fetch_optional(shop.connection())
        .await?;

        let orders = IntGaugeVec::new(
            Opts::new("shop_orders", "Orders by the status they are in."),
            &["status"],
        )?;
        for status in STATUSES {
            orders.with_label_values(&[status]).set(0);
        }
        for (status, count) in counts {
            orders.with_label_values(&[&status]).set(count);
        }

        let age = Gauge::new(
            "shop_oldest_pending_order_age_seconds",
            "Seconds since the oldest order still pending was placed, 0 when none is pending.",
        )?;
        if let Some(created_at) = oldest_pending {
            age.set(seconds_since(&created_at)?);
        }
        Ok(vec![Box::new(orders), Box::new(age)])
    }
}

/// Age of an order placed at `created_at`; 0 when the shop's clock is ahead of ours.
fn seconds_since(created_at: &str) -> Result<f64, ReadError> {
    let placed: Timestamp = created_at.parse().map_err(|_| ReadError::Unexpected {
        what: "orders.created_at",
        value: created_at.to_owned(),
    })?;
    Ok(Timestamp::now()
        .duration_since(placed)
        .as_secs_f64()
        .max(0.0))
}
