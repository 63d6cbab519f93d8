//! How much room the shop's data takes.

use async_trait::async_trait;
use prometheus::IntGauge;

use super::{Collector, Metrics};
use crate::database::{ReadError, Shop};

/// `shop_database_size_bytes`.
pub struct DatabaseSize;

#[async_trait]
impl Collector<Shop> for DatabaseSize {
    async fn collect(&self, shop: &mut Shop) -> Result<Metrics, ReadError> {
        let size = IntGauge::new(
            "shop_database_size_bytes",
            "Size of the shop's database in bytes, free pages included, write-ahead log excluded.",
        )?;
        size.set(shop.size_bytes().await?);
        Ok(vec![Box::new(size)])
    }
}
