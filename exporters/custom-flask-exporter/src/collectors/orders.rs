//! How many orders stand where, and how long the oldest of them has been waiting.

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::{Gauge, IntGaugeVec, Opts};

use super::{Collector, Metrics};
use crate::database::{ReadError, Shop};

/// Exported at 0 when no order has them, so that a rule on a status never meets a missing series.
const STATUSES: [&str; 4] = ["pending", "paid", "failed", "cancelled"];

/// `shop_orders`, `shop_oldest_pending_order_age_seconds`.
pub struct Orders;

#[async_trait]
impl Collector<Shop> for Orders {
    async fn collect(&self, shop: &mut Shop) -> Result<Metrics, ReadError> {
        let orders = IntGaugeVec::new(
            Opts::new("shop_orders", "Orders by the status they are in."),
            &["status"],
        )?;
        for status in STATUSES {
            orders.with_label_values(&[status]).set(0);
        }
        for (status, count) in shop.orders_by_status().await? {
            orders.with_label_values(&[&status]).set(count);
        }

        let age = Gauge::new(
            "shop_oldest_pending_order_age_seconds",
            "Seconds since the oldest order still pending was placed, 0 when none is pending.",
        )?;
        if let Some(placed) = shop.oldest_pending().await? {
            let waited = Timestamp::now().duration_since(placed).as_secs_f64();
            // The shop's clock may be ahead of ours.
            age.set(waited.max(0.0));
        }
        Ok(vec![Box::new(orders), Box::new(age)])
    }
}
