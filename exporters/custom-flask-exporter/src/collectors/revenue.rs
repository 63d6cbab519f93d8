//! What the shop has earned.

use async_trait::async_trait;
use prometheus::IntGauge;

use super::{Collector, Metrics};
use crate::database::{ReadError, Shop};

/// `shop_revenue_cents`.
///
/// Cents, because they are what the shop counts in: it names no currency, and whole numbers stay
/// exact up to 2^53 of them. A gauge without `_total`, because a paid order can be cancelled: as a
/// counter, every cancellation would look like a restart, and `rate()` would invent revenue.
pub struct Revenue;

#[async_trait]
impl Collector<Shop> for Revenue {
    async fn collect(&self, shop: &mut Shop) -> Result<Metrics, ReadError> {
        let revenue = IntGauge::new(
            "shop_revenue_cents",
            "Sum of all orders that are paid and not cancelled, in cents.",
        )?;
        revenue.set(shop.revenue_cents().await?);
        Ok(vec![Box::new(revenue)])
    }
}
