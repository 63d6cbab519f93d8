//! A database of either kind, of a test's own.

use std::path::PathBuf;
use std::sync::Arc;

use flask_api::database::Database;
use flask_api::store::Store;
use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;

/// Makes each function named a test on SQLite and a test on PostgreSQL.
macro_rules! on_both_databases {
    ($($test:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() {
                super::$test($crate::fixture::Fixture::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() {
                if let Some(fixture) = $crate::fixture::Fixture::postgres().await {
                    super::$test(fixture).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_databases;

/// An empty place for a shop.
pub enum Fixture {
    Sqlite { file: PathBuf, _folder: TempDir },
    Postgres(test_postgres::Database),
}

impl Fixture {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::Sqlite {
            file: folder.path().join("shop.db"),
            _folder: folder,
        }
    }

    /// None where there is no PostgreSQL.
    pub async fn postgres() -> Option<Self> {
        test_postgres::Database::create().await.map(Self::Postgres)
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { file, .. } => format!("sqlite://{}", file.display()),
            Self::Postgres(database) => database.url(),
        }
    }

    /// What a replica of the service opens.
    pub async fn store(&self) -> Arc<dyn Store> {
        let database: Database = self.url().parse().unwrap();
        database.open(8).await.unwrap()
    }

    /// Connections that have nothing to do with the service's own.
    pub async fn aside(&self) -> Aside {
        match self {
            Self::Sqlite { file, .. } => {
                let options = SqliteConnectOptions::new().filename(file);
                Aside::Sqlite(SqlitePool::connect_with(options).await.unwrap())
            }
            Self::Postgres(database) => {
                Aside::Postgres(PgPool::connect(&database.url()).await.unwrap())
            }
        }
    }
}

/// See [`Fixture::aside`].
#[derive(Clone)]
pub enum Aside {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Aside {
    /// Does something behind the service's back.
    pub async fn execute(&self, statement: &'static str) {
        match self {
            Self::Sqlite(pool) => drop(sqlx::raw_sql(statement).execute(pool).await.unwrap()),
            Self::Postgres(pool) => drop(sqlx::raw_sql(statement).execute(pool).await.unwrap()),
        }
    }

    /// The one row that a query returns.
    pub async fn pair(&self, query: &'static str) -> (i64, i64) {
        match self {
            Self::Sqlite(pool) => sqlx::query_as(query).fetch_one(pool).await,
            Self::Postgres(pool) => sqlx::query_as(query).fetch_one(pool).await,
        }
        .unwrap()
    }

    /// Units on sale, and units in orders that hold stock, of all products at one instant.
    pub async fn units(&self) -> (i64, i64) {
        self.pair(
            "SELECT CAST((SELECT sum(stock) FROM products) AS bigint), \
             CAST((SELECT coalesce(sum(quantity), 0) FROM order_items JOIN orders ON orders.id = order_id \
                   WHERE status IN ('pending', 'paid')) AS bigint)",
        )
        .await
    }
}
