//! The shop's database, seen from outside: opened read-only, for one scrape, and never for longer
//! than the scrape may take.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// Virtual-machine steps between two looks at the clock: well under a millisecond of work.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// Where the shop keeps its data; nothing is opened before a scrape.
#[derive(Debug, Clone)]
pub struct Database {
    options: SqliteConnectOptions,
}

/// Why a database URL cannot be used. The URL itself is not repeated: it may carry a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another kind of database, or no URL at all.
    #[error("the database URL must start with sqlite://, for example sqlite://shop.db")]
    NotSqlite,
    /// `:memory:` is a database of its own to each connection, so there is nothing to export.
    #[error("an in-memory database cannot be seen by another process: name a file")]
    InMemory,
    /// A part SQLite does not know, as told by sqlx.
    #[error("the database URL is not valid: {0}")]
    Invalid(#[source] sqlx::Error),
}

/// Why figures could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database did not answer in the time given.
    #[error("no answer within the time the scrape allows")]
    TimedOut,
    /// The database refused, is locked, missing or damaged.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The database answered with something that is not what its schema promises.
    #[error("{what} is not valid: {value:?}")]
    Unexpected {
        /// The column.
        what: &'static str,
        /// What it held.
        value: String,
    },
    /// A metric that Prometheus would not accept.
    #[error(transparent)]
    Metric(#[from] prometheus::Error),
}

impl FromStr for Database {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        if !url.starts_with("sqlite:") {
            return Err(UrlError::NotSqlite);
        }
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

impl Database {
    /// The file the shop keeps its data in.
    pub fn path(&self) -> &Path {
        self.options.get_filename()
    }

    /// Opens the database and takes a snapshot that all reads of one scrape see.
    ///
    /// A connection per scrape rather than a pool: a file that appears, or is replaced by a
    /// restored backup, is picked up by the next scrape.
    pub async fn snapshot(&self, deadline: Instant) -> Result<Snapshot, ReadError> {
        within(deadline, async {
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
            Ok(Snapshot { connection })
        })
        .await
    }
}

/// One consistent view of the database; it ends when dropped.
#[derive(Debug)]
pub struct Snapshot {
    connection: SqliteConnection,
}

impl Snapshot {
    /// The connection to read with.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Makes SQLite abandon any statement that still runs at `deadline`.
    ///
    /// Dropping a future stops the waiting, not the work: without this, a query that never ends
    /// would keep a thread and a core after the scrape it belonged to was answered.
    pub async fn abandon_statements_at(&mut self, deadline: Instant) -> Result<(), ReadError> {
        within(deadline, async {
            self.connection
                .lock_handle()
                .await?
                .set_progress_handler(STEPS_BETWEEN_CHECKS, move || Instant::now() < deadline);
            Ok(())
        })
        .await
    }
}

/// Waits for a read, but not past `deadline`.
pub async fn within<T>(
    deadline: Instant,
    read: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, ReadError> {
    tokio::time::timeout_at(deadline.into(), read)
        .await
        .unwrap_or(Err(ReadError::TimedOut))
}
