//! A pool of database connections that tells how busy it is.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts};
use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Transaction};

use crate::store::StoreError;

/// From "a connection was free" to the time-out, in seconds.
const WAIT_BUCKETS: [f64; 5] = [0.001, 0.01, 0.1, 1.0, 5.0];

/// See the module. Clones share connections and figures.
#[derive(Debug)]
pub struct Pool<DB: Database> {
    connections: sqlx::Pool<DB>,
    wait: Histogram,
    gauges: IntGaugeVec,
    most: IntGauge,
}

impl<DB: Database> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            wait: self.wait.clone(),
            gauges: self.gauges.clone(),
            most: self.most.clone(),
        }
    }
}

impl<DB: Database> Pool<DB> {
    /// Watches a pool; `name` becomes its `pool` label.
    pub fn new(name: &'static str, connections: sqlx::Pool<DB>) -> Self {
        let wait = Histogram::with_opts(
            HistogramOpts::new(
                "flask_db_pool_wait_seconds",
                "Time until a connection could be used; the writer's includes waiting for other replicas to finish writing.",
            )
            .const_label("pool", name)
            .buckets(WAIT_BUCKETS.to_vec()),
        );
        let gauges = IntGaugeVec::new(
            Opts::new("flask_db_pool_connections", "Open database connections.")
                .const_label("pool", name),
            &["state"],
        );
        let most = IntGauge::with_opts(
            Opts::new(
                "flask_db_pool_connections_max",
                "Database connections there can be at most.",
            )
            .const_label("pool", name),
        );
        let most = most.expect("names are constants, tested");
        most.set(connections.options().get_max_connections().into());
        Self {
            connections,
            wait: wait.expect("names and buckets are constants, tested"),
            gauges: gauges.expect("names are constants, tested"),
            most,
        }
    }

    /// A connection.
    pub async fn acquire(&self) -> Result<PoolConnection<DB>, StoreError> {
        let _timer = self.wait.start_timer();
        self.connections
            .acquire()
            .await
            .map_err(|error| self.refused(error))
    }

    /// A transaction, begun with the statement given; it is rolled back unless committed.
    pub async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, DB>, StoreError> {
        let _timer = self.wait.start_timer();
        self.connections
            .begin_with(statement)
            .await
            .map_err(|error| self.refused(error))
    }

    /// Waiting in vain means that others keep all connections; without any there is nobody to connect to.
    fn refused(&self, error: Error) -> StoreError {
        match error {
            Error::PoolTimedOut if self.connections.size() == 0 => StoreError::Unavailable(error),
            error => error.into(),
        }
    }

    /// Waits until no connection is in use, and closes them.
    pub async fn close(&self) {
        self.connections.close().await;
    }
}

/// Commits what was done, or takes it back.
///
/// A transaction that is merely dropped is taken back some time later, and keeps its locks until then.
pub async fn end<DB: Database, T>(
    transaction: Transaction<'static, DB>,
    done: Result<T, StoreError>,
) -> Result<T, StoreError> {
    match done {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // Of the two errors the first is the one that matters, and most likely their reason.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

impl<DB: Database> Collector for Pool<DB> {
    fn desc(&self) -> Vec<&Desc> {
        [self.wait.desc(), self.gauges.desc(), self.most.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let idle = i64::try_from(self.connections.num_idle()).unwrap_or(i64::MAX);
        let open = i64::from(self.connections.size());
        self.gauges.with_label_values(&["idle"]).set(idle);
        // The two are not read at the same instant.
        self.gauges
            .with_label_values(&["in_use"])
            .set((open - idle).max(0));
        [
            self.wait.collect(),
            self.gauges.collect(),
            self.most.collect(),
        ]
        .concat()
    }
}
