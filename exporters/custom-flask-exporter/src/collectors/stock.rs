//! What is left to sell.

use async_trait::async_trait;
use prometheus::{IntGaugeVec, Opts};

use super::{Collector, Metrics};
use crate::database::{ReadError, Shop};

/// `shop_product_stock`: one series for each product, which a shop's catalogue keeps few.
pub struct Stock;

#[async_trait]
impl Collector<Shop> for Stock {
    async fn collect(&self, shop: &mut Shop) -> Result<Metrics, ReadError> {
        let stock = IntGaugeVec::new(
            Opts::new(
                "shop_product_stock",
                "Units of a product that can still be ordered.",
            ),
            &["product_id"],
        )?;
        for (id, units) in shop.stock().await? {
            stock.with_label_values(&[&id.to_string()]).set(units);
        }
        Ok(vec![Box::new(stock)])
    }
}
