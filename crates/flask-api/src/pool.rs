//! A pool of database connections that tells how busy it is.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqlitePool};
use sqlx::{Error, Transaction};

/// From "a connection was free" to the time-out, in seconds.
const WAIT_BUCKETS: [f64; 5] = [0.001, 0.01, 0.1, 1.0, 5.0];

/// See the module. Clones share connections and figures.
#[derive(Debug, Clone)]
pub struct Pool {
    connections: SqlitePool,
    wait: Histogram,
    gauges: IntGaugeVec,
}

impl Pool {
    /// Watches a pool; `name` becomes its `pool` label.
    pub fn new(name: &'static str, connections: SqlitePool) -> Self {
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
        Self {
            connections,
            wait: wait.expect("names and buckets are constants, tested"),
            gauges: gauges.expect("names are constants, tested"),
        }
    }

    /// A connection to read with.
    pub async fn acquire(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let _timer = self.wait.start_timer();
        self.connections.acquire().await
    }

    /// A transaction, begun with the statement given; it is rolled back unless committed.
    pub async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, Error> {
        let _timer = self.wait.start_timer();
        self.connections.begin_with(statement).await
    }

    /// Waits until no connection is in use, and closes them.
    pub async fn close(&self) {
        self.connections.close().await;
    }
}

impl Collector for Pool {
    fn desc(&self) -> Vec<&Desc> {
        [self.wait.desc(), self.gauges.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let idle = i64::try_from(self.connections.num_idle()).unwrap_or(i64::MAX);
        let open = i64::from(self.connections.size());
        self.gauges.with_label_values(&["idle"]).set(idle);
        // The two are not read at the same instant.
        self.gauges
            .with_label_values(&["in_use"])
            .set((open - idle).max(0));
        [self.wait.collect(), self.gauges.collect()].concat()
    }
}
