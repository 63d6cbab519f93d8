//! The shop in a SQLite file.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{ReadError, Snapshot, UrlError};
use crate::collectors::Source;

/// Virtual-machine steps between two looks at the clock: well under a millisecond of work.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// A database file, `sqlite://PATH`.
#[derive(Debug, Clone)]
pub struct Sqlite {
    options: SqliteConnectOptions,
}

impl FromStr for Sqlite {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(UrlError::InMemory);
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(UrlError::Invalid)?
            // Whatever `mode` a URL shared with the shop asks for.
            .read_only(true)
            // Each collector's duration is a metric already.
            .disable_statement_logging();
        Ok(Self { options })
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.get_filename().display().fmt(formatter)
    }
}

impl Sqlite {
    pub(super) async fn snapshot(&self, deadline: Instant) -> Result<SqliteSnapshot, ReadError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut connection = self
            .options
            .clone()
            // A little under the deadline, so that "database is locked" gets logged and not
            // merely that time ran out.
            .busy_timeout(left.mul_f32(0.9))
            .connect()
            .await?;
        sqlx::query("BEGIN").execute(&mut connection).await?;
        // BEGIN alone takes no lock and opens no file: this read does both.
        sqlx::query("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&mut connection)
            .await?;
        Ok(SqliteSnapshot { connection })
    }
}

/// A read transaction.
#[derive(Debug)]
pub(super) struct SqliteSnapshot {
    connection: SqliteConnection,
}

#[async_trait]
impl Source for SqliteSnapshot {
    /// Makes SQLite abandon any statement that still runs at `deadline`.
    ///
    /// Dropping a future stops the waiting, not the work: without this, a query that never ends
    /// would keep a thread and a core after the scrape it belonged to was answered.
    async fn allow_until(&mut self, deadline: Instant) -> Result<(), ReadError> {
        self.connection
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_BETWEEN_CHECKS, move || Instant::now() < deadline);
        Ok(())
    }
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    async fn orders_by_status(&mut self) -> Result<Vec<(String, i64)>, ReadError> {
        let counts = sqlx::query_as("SELECT status, count(*) FROM orders GROUP BY status")
            .fetch_all(&mut self.connection)
            .await?;
        Ok(counts)
    }

    async fn oldest_pending(&mut self) -> Result<Option<Timestamp>, ReadError> {
        // Ids grow with time, and the index on status has them in order: one look-up, however many
        // orders wait.
        let placed: Option<String> = sqlx::query_scalar(
            "SELECT created_at FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        placed
            .map(|text| {
                text.parse().map_err(|_| ReadError::Unexpected {
                    what: "orders.created_at",
                    value: text,
                })
            })
            .transpose()
    }

    async fn revenue_cents(&mut self) -> Result<i64, ReadError> {
        let cents = sqlx::query_scalar(
            "SELECT coalesce(sum(total_cents), 0) FROM orders WHERE status = 'paid'",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(cents)
    }

    async fn stock(&mut self) -> Result<Vec<(i64, i64)>, ReadError> {
        // One row for all: each row crosses from SQLite's thread to ours, and for a catalogue the
        // crossings take longer than the reading.
        let products: String =
            sqlx::query_scalar("SELECT json_group_array(json_array(id, stock)) FROM products")
                .fetch_one(&mut self.connection)
                .await?;
        serde_json::from_str(&products).map_err(|error| ReadError::Unexpected {
            what: "products.stock",
            value: error.to_string(),
        })
    }

    async fn size_bytes(&mut self) -> Result<i64, ReadError> {
        // Free pages included, write-ahead log excluded.
        let bytes = sqlx::query_scalar(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(bytes)
    }
}
