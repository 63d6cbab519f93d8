//! What is left to sell.

use async_trait::async_trait;
use prometheus::{IntGaugeVec, Opts};

use super::{Collector, Metrics};
use crate::database::{ReadError, Snapshot};

/// `shop_product_stock`: one series for each product, which a shop's catalogue keeps few.
pub struct Stock;

#[async_trait]
impl Collector for Stock {
    async fn collect(&self, shop: &mut Snapshot) -> Result<Metrics, ReadError> {
        let products: Vec<(i64, i64)> = sqlx::query_as("SELECT id, stock FROM products")
            .fetch_all(shop.connection())
            .await?;
        let stock = IntGaugeVec::new(
            Opts::new(
                "shop_product_stock",
                "Units of a product that can still be ordered.",
            ),
            &["product_id"],
        )?;
        for (id, units) in products {
            stock.with_label_values(&[&id.to_string()]).set(units);
        }
        Ok(vec![Box::new(stock)])
    }
}
