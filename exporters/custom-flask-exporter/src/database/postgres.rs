//! The shop on a PostgreSQL server.
//!
//! Columns are cast to the types read here, so that an `integer` or `bigint` key and a
//! `timestamptz` or text time are all the same to this reader.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::{ReadError, Snapshot, UrlError};
use crate::collectors::Source;

/// A server and a database on it, `postgres://USER:PASSWORD@HOST/DATABASE`.
#[derive(Debug, Clone)]
pub struct Postgres {
    options: PgConnectOptions,
}

impl FromStr for Postgres {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(UrlError::Invalid)?
            .application_name("custom-flask-exporter")
            // Each collector's duration is a metric already.
            .disable_statement_logging();
        match options.get_ssl_mode() {
            PgSslMode::Require => return Err(UrlError::Tls("require")),
            PgSslMode::VerifyCa => return Err(UrlError::Tls("verify-ca")),
            PgSslMode::VerifyFull => return Err(UrlError::Tls("verify-full")),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {}
        }
        Ok(Self { options })
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(folder) => write!(formatter, "{database} at {}", folder.display()),
            None => write!(
                formatter,
                "{database} at {}:{}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

impl Postgres {
    pub(super) async fn snapshot(&self, deadline: Instant) -> Result<PostgresSnapshot, ReadError> {
        let mut connection = self.options.connect().await?;
        // REPEATABLE READ: every statement sees the database as at the first one.
        run(
            &mut connection,
            format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}; SELECT 1; SAVEPOINT collector",
                statement_timeout(deadline)
            ),
        )
        .await?;
        Ok(PostgresSnapshot { connection })
    }
}

/// Makes the server abandon statements at `deadline`, until the transaction or savepoint ends.
fn statement_timeout(deadline: Instant) -> String {
    let left = deadline.saturating_duration_since(Instant::now());
    // A little under the deadline, so that the server's reason gets logged and not merely that time
    // ran out. 0 would mean no limit.
    let millis = left.mul_f32(0.9).as_millis().max(1);
    format!("SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {millis}")
}

/// Runs statements made here, of which nothing comes from outside, in one round trip.
async fn run(connection: &mut PgConnection, statements: String) -> Result<(), ReadError> {
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(connection)
        .await?;
    Ok(())
}

/// A read-only transaction.
#[derive(Debug)]
pub(super) struct PostgresSnapshot {
    connection: PgConnection,
}

#[async_trait]
impl Source for PostgresSnapshot {
    /// Also takes back the failure of an earlier collector, after which PostgreSQL would refuse
    /// every statement up to the end of the transaction.
    async fn allow_until(&mut self, deadline: Instant) -> Result<(), ReadError> {
        run(
            &mut self.connection,
            format!(
                "ROLLBACK TO SAVEPOINT collector; {}",
                statement_timeout(deadline)
            ),
        )
        .await
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    async fn orders_by_status(&mut self) -> Result<Vec<(String, i64)>, ReadError> {
        let counts = sqlx::query_as("SELECT status::text, count(*) FROM orders GROUP BY 1")
            .fetch_all(&mut self.connection)
            .await?;
        Ok(counts)
    }

    async fn oldest_pending(&mut self) -> Result<Option<Timestamp>, ReadError> {
        let placed: Option<i64> = sqlx::query_scalar(
            "SELECT (extract(epoch FROM created_at::timestamptz) * 1000)::bigint \
             FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        placed
            .map(|millis| {
                Timestamp::from_duration(SignedDuration::from_millis(millis)).map_err(|_| {
                    ReadError::Unexpected {
                        what: "orders.created_at",
                        value: format!("{millis} ms"),
                    }
                })
            })
            .transpose()
    }

    async fn revenue_cents(&mut self) -> Result<i64, ReadError> {
        let cents = sqlx::query_scalar(
            "SELECT coalesce(sum(total_cents), 0)::bigint FROM orders WHERE status = 'paid'",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(cents)
    }

    async fn stock(&mut self) -> Result<Vec<(i64, i64)>, ReadError> {
        let products = sqlx::query_as("SELECT id::bigint, stock::bigint FROM products")
            .fetch_all(&mut self.connection)
            .await?;
        Ok(products)
    }

    async fn size_bytes(&mut self) -> Result<i64, ReadError> {
        let bytes = sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(bytes)
    }
}
