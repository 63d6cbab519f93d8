//! What can be exported: one [`Collector`] for each family of figures.

mod api;
mod database;
mod orders;
mod revenue;
mod stock;

use std::time::Instant;

use async_trait::async_trait;

use crate::database::{ReadError, Shop};

pub use api::ApiStatus;

/// What a collector found, ready to be registered for one scrape.
pub type Metrics = Vec<Box<dyn prometheus::core::Collector>>;

/// Where collectors read from.
#[async_trait]
pub trait Source: Send {
    /// Prepares for the next collector, which may read up to `deadline`.
    async fn allow_until(&mut self, deadline: Instant) -> Result<(), ReadError>;
}

/// Reads one family of figures from a source `S`.
///
/// It returns metrics only when all of them could be read: a family is exported whole or not at
/// all. Time limits, success and duration are the scrape's affair.
#[async_trait]
pub trait Collector<S: Source + ?Sized>: Send + Sync {
    /// Reads the figures as they are now.
    async fn collect(&self, source: &mut S) -> Result<Metrics, ReadError>;
}

/// A collector that reads the database; also its value in the `collector` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum CollectorName {
    /// `shop_orders`, `shop_oldest_pending_order_age_seconds`
    Orders,
    /// `shop_revenue_cents`
    Revenue,
    /// `shop_product_stock`
    Stock,
    /// `shop_database_size_bytes`
    Database,
}

impl CollectorName {
    /// Value of the `collector` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Revenue => "revenue",
            Self::Stock => "stock",
            Self::Database => "database",
        }
    }

    /// The collector of this name.
    pub fn collector(self) -> &'static dyn Collector<Shop> {
        match self {
            Self::Orders => &orders::Orders,
            Self::Revenue => &revenue::Revenue,
            Self::Stock => &stock::Stock,
            Self::Database => &database::DatabaseSize,
        }
    }
}
