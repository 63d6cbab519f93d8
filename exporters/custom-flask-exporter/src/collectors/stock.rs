//! What is left to sell.

use std::collections::HashMap;

use async_trait::async_trait;
use prometheus::core::Desc;
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{Collector, Metrics};
use crate::database::{ReadError, Shop};

/// `shop_product_stock`: one series for each product, which a shop's catalogue keeps few.
pub struct Stock;

#[async_trait]
impl Collector<Shop> for Stock {
    async fn collect(&self, shop: &mut Shop) -> Result<Metrics, ReadError> {
        let levels = Levels {
            desc: Desc::new(
                "shop_product_stock".to_owned(),
                "Units of a product that can still be ordered.".to_owned(),
                vec!["product_id".to_owned()],
                HashMap::new(),
            )?,
            products: shop.stock().await?,
        };
        Ok(vec![Box::new(levels)])
    }
}

/// Figures that only have to be shown. A gauge of the library can also be looked up and counted
/// with, and for each product that costs more than reading it from the database.
struct Levels {
    desc: Desc,
    /// Id and units.
    products: Vec<(i64, i64)>,
}

impl prometheus::core::Collector for Levels {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metric = |&(id, units): &(i64, i64)| {
            let mut label = LabelPair::default();
            label.set_name("product_id".to_owned());
            label.set_value(id.to_string());
            let mut gauge = Gauge::default();
            gauge.set_value(units as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_gauge(gauge);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(self.products.iter().map(metric).collect());
        vec![family]
    }
}
