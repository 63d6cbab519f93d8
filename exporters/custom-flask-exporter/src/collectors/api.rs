//! Whether the API serves, and how many products it offers.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus::IntGauge;

use super::{Collector, Metrics, Source};
use crate::api::Api;
use crate::database::ReadError;

/// `shop_api_up`, `shop_api_products`.
pub struct ApiStatus;

impl ApiStatus {
    /// Value of the `collector` label.
    pub const LABEL: &str = "api";
}

#[async_trait]
impl Source for Api {
    async fn allow_until(&mut self, deadline: Instant) -> Result<(), ReadError> {
        // An API that does not answer is a figure (`shop_api_up 0`), to be had before the
        // collector's own time is over.
        let reserve = Duration::from_millis(50).min(self.left() / 10);
        Self::allow_until(self, deadline - reserve);
        Ok(())
    }
}

#[async_trait]
impl Collector<Api> for ApiStatus {
    async fn collect(&self, api: &mut Api) -> Result<Metrics, ReadError> {
        let up = IntGauge::new(
            "shop_api_up",
            "1 when the shop's API answered in time that it is ready, otherwise 0.",
        )?;
        match api.is_ready().await {
            Ok(ready) => up.set(i64::from(ready)),
            Err(error) => tracing::warn!(error.message = %error, "the shop's API does not answer"),
        }
        if up.get() == 0 {
            // Known to be down: found out, so no failure of this collector.
            return Ok(vec![Box::new(up)]);
        }
        let products = IntGauge::new(
            "shop_api_products",
            "Products in the catalogue that the shop's API offers.",
        )?;
        products.set(i64::try_from(api.count_products().await?).unwrap_or(i64::MAX));
        Ok(vec![Box::new(up), Box::new(products)])
    }
}
