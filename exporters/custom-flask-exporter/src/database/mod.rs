//! The shop's database, seen from outside: opened read-only, for one scrape, and never for longer
//! than the scrape may take.

mod postgres;
mod sqlite;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::collectors::Source;

pub use postgres::Postgres;
pub use sqlite::Sqlite;

/// One consistent view of the shop's database, in questions rather than in SQL. It ends when
/// dropped.
///
/// Sums and counts come out of an index of the shop's schema, so that they stay quick as orders
/// pile up.
#[async_trait]
pub trait Snapshot: Source {
    /// Number of orders in each status that has any.
    async fn orders_by_status(&mut self) -> Result<Vec<(String, i64)>, ReadError>;

    /// When the oldest order that is still pending was placed.
    async fn oldest_pending(&mut self) -> Result<Option<Timestamp>, ReadError>;

    /// Sum of all orders that are paid, in cents.
    async fn revenue_cents(&mut self) -> Result<i64, ReadError>;

    /// Units left, by id of the product.
    async fn stock(&mut self) -> Result<Vec<(i64, i64)>, ReadError>;

    /// Bytes the database takes on disk.
    async fn size_bytes(&mut self) -> Result<i64, ReadError>;
}

/// A [`Snapshot`] of either kind.
pub type Shop = dyn Snapshot;

/// Where the shop keeps its data; nothing is opened before a scrape.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file, `sqlite://`.
    Sqlite(Sqlite),
    /// A server, `postgres://`.
    Postgres(Postgres),
}

/// Why a database URL cannot be used. The URL itself is not repeated: it may carry a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another kind of database, or no URL at all.
    #[error(
        "the database URL must start with sqlite:// or postgres://, for example sqlite://shop.db"
    )]
    UnknownKind,
    /// `:memory:` is a database of its own to each connection, so there is nothing to export.
    #[error("an in-memory database cannot be seen by another process: name a file")]
    InMemory,
    /// TLS is asked for.
    #[error(
        "sslmode={0} asks for TLS, which this exporter does not speak to a database: leave sslmode \
         out, and reach a server on another machine through a tunnel"
    )]
    Tls(&'static str),
    /// A part the driver does not know, as told by sqlx.
    #[error("the database URL is not valid: {0}")]
    Invalid(#[source] sqlx::Error),
}

/// Why figures could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No answer in the time given.
    #[error("no answer within the time the scrape allows")]
    TimedOut,
    /// The database refused, is locked, missing or damaged.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The API could not be reached, or answered something else than what it promises.
    #[error(transparent)]
    Api(#[from] crate::api::ApiError),
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
        match url.split_once(':') {
            Some(("sqlite", _)) => url.parse().map(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => url.parse().map(Self::Postgres),
            _ => Err(UrlError::UnknownKind),
        }
    }
}

/// The file or the server, for a log line; never a password.
impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.fmt(formatter),
            Self::Postgres(server) => server.fmt(formatter),
        }
    }
}

impl Database {
    /// Opens the database and takes a snapshot that all reads of one scrape see.
    ///
    /// A connection per scrape rather than a pool: a file that appears, or is replaced by a
    /// restored backup, or a server that was restarted, is picked up by the next scrape.
    pub async fn snapshot(&self, deadline: Instant) -> Result<Box<Shop>, ReadError> {
        within(deadline, async {
            Ok(match self {
                Self::Sqlite(file) => Box::new(file.snapshot(deadline).await?) as Box<Shop>,
                Self::Postgres(server) => Box::new(server.snapshot(deadline).await?),
            })
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
