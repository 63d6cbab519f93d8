//! How much room the shop's data takes.

use async_trait::async_trait;
use prometheus::IntGauge;

use super::{Collector, Metrics};
use crate::database::{ReadError, Snapshot};

/// `shop_database_size_bytes`.
pub struct DatabaseSize;

#[async_trait]
impl Collector for DatabaseSize {
    async fn collect(&self, shop: &mut Snapshot) -> Result<Metrics, ReadError> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        )
        .fetch_one(shop.connection())
        .await?;
        let size = IntGauge::new(
            "shop_database_size_bytes",
            "Size of the shop's database in bytes, free pages included, write-ahead log excluded.",
        )?;
        size.set(bytes);
        Ok(vec![Box::new(size)])
    }
}
