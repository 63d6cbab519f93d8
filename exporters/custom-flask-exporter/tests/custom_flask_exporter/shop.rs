//! A shop's database, made by the migrations of the shop itself so that the two cannot drift.

use std::path::{Path, PathBuf};

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Connection, SqlSafeStr};
use tempfile::TempDir;

/// Place for a shop's database in a folder of its own.
pub struct Shop {
    folder: TempDir,
}

impl Shop {
    /// No file yet.
    pub fn absent() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A migrated database, as the demo API keeps it, and a connection to change it with.
    pub async fn open() -> (Self, SqliteConnection) {
        let shop = Self::absent();
        let connection = shop.create(SqliteJournalMode::Wal).await;
        (shop, connection)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    pub async fn create(&self, journal: SqliteJournalMode) -> SqliteConnection {
        create(&self.path(), journal).await
    }
}

/// Creates and migrates a database at `path`.
pub async fn create(path: &Path, journal: SqliteJournalMode) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(journal);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let migrations =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/flask-api/migrations/sqlite");
    Migrator::new(migrations)
        .await
        .unwrap()
        .run(&mut connection)
        .await
        .unwrap();
    connection
}

/// Runs SQL as it stands.
pub async fn sql(connection: &mut SqliteConnection, statements: &'static str) {
    sqlx::raw_sql(statements.into_sql_str())
        .execute(connection)
        .await
        .unwrap();
}

/// One number out of the database.
pub async fn number(connection: &mut SqliteConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Places an order `seconds_ago`.
pub async fn place(connection: &mut SqliteConnection, status: &str, seconds_ago: i64) {
    let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago)).to_string();
    sqlx::query(
        "INSERT INTO orders (status, failure, total_cents, created_at, updated_at)
         VALUES (?1, iif(?1 = 'failed', 'payment_declined', NULL), 100, ?2, ?2)",
    )
    .bind(status)
    .bind(at)
    .execute(connection)
    .await
    .unwrap();
}
