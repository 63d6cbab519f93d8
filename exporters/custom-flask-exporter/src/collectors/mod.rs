//! What can be exported: one [`Collector`] for each family of figures.

mod database;
mod orders;
mod stock;

use async_trait::async_trait;

use crate::database::{ReadError, Snapshot};

/// What a collector found, ready to be registered for one scrape.
pub type Metrics = Vec<Box<dyn prometheus::core::Collector>>;

/// Reads one family of figures.
///
/// It returns metrics only when all of them could be read: a family is exported whole or not at
/// all. Time limits, success and duration are the scrape's affair.
#[async_trait]
pub trait Collector: Send + Sync {
    /// Reads the figures as they are now.
    async fn collect(&self, shop: &mut Snapshot) -> Result<Metrics, ReadError>;
}

/// Which collector; also its value in the `collector` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum CollectorName {
    /// `shop_orders`, `shop_oldest_pending_order_age_seconds`
    Orders,
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
            Self::Stock => "stock",
            Self::Database => "database",
        }
    }

    /// The collector of this name.
    pub fn collector(self) -> &'static dyn Collector {
        match self {
            Self::Orders => &orders::Orders,
            Self::Stock => &stock::Stock,
            Self::Database => &database::DatabaseSize,
        }
    }
}
