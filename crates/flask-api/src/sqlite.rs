//! The store on one SQLite file, which several replicas on one machine may share.
//!
//! SQLite lets one connection write at a time. So each process has one writer connection, for
//! which its requests queue in order, and every write transaction starts with `BEGIN IMMEDIATE`,
//! which waits for the writers of other processes. (A transaction that reads first and then wants
//! to write is refused at once when somebody else wrote in between: no waiting helps there.)
//! Readers work on snapshots next to the writer, which is what WAL is for.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Transaction;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::types::Json;
use tracing::Instrument;

use crate::order::{Cart, Failure, Order, OrderItem, OrderStatus, Product, total_cents};
use crate::pool::Pool;
use crate::store::{Page, PageRequest, Payment, Placed, Shortage, Store, StoreError};

/// How long a statement waits for another process that writes, and a request for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read at the same time in one process.
const READERS: u32 = 4;

const BEGIN: &str = "BEGIN IMMEDIATE";

/// An order and its items in one statement, and so from one snapshot.
macro_rules! select_orders {
    () => {
        "SELECT id, status, failure, total_cents, created_at, updated_at, \
         (SELECT json_group_array(json_object( \
             'product_id', product_id, 'quantity', quantity, 'unit_price_cents', unit_price_cents)) \
          FROM order_items WHERE order_id = orders.id) AS items \
         FROM orders"
    };
}

/// Why a database cannot be used. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A database this build has no store for.
    #[error(
        "{scheme}:// databases are not supported yet by this build; use sqlite://FILE, for example sqlite://shop.db"
    )]
    Unsupported {
        /// What was asked for.
        scheme: String,
    },
    /// Not a database URL. It is not repeated, for it may carry a password.
    #[error("the database URL is not valid ({0}); use sqlite://FILE, for example sqlite://shop.db")]
    Url(String),
    /// The directory of the file is missing.
    #[error("the directory {path} of the database does not exist; create it (mkdir -p {path}) or name another file in the database URL", path = .0.display())]
    NoDirectory(PathBuf),
    /// The file or its directory cannot be written.
    #[error("the database {} cannot be written ({source}); give this user write access to the file and its directory, or name another file in the database URL", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a database, or one of another program.
    #[error("the database {} cannot be opened ({source}); is it a database of this service?", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("the tables of {} cannot be brought up to date ({source}); a newer version of this service may have written them", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: sqlx::migrate::MigrateError,
    },
}

/// See the module.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Pool,
    readers: Pool,
}

impl SqliteStore {
    /// Opens the database that `url` names (`sqlite://FILE`), creates the file if it is missing,
    /// and creates or updates the tables. Replicas may do so at the same time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let options = options(url)?;
        let path = options.get_filename().to_owned();
        let cannot_open = |source| OpenError::Open {
            path: path.clone(),
            source,
        };

        // Held until this function returns. SQLite's own locks do not cover switching to WAL, and
        // sqlx takes none for migrations on SQLite.
        let _lock = lock(&path).await?;

        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(
                options
                    .clone()
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Normal),
            )
            .await
            .map_err(cannot_open)?;
        sqlx::migrate!()
            .run(&writer)
            .await
            .map_err(|source| OpenError::Migrate {
                path: path.clone(),
                source,
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(cannot_open)?;
        Ok(Self {
            writer: Pool::new("writer", writer),
            readers: Pool::new("reader", readers),
        })
    }
}

fn options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => {}
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(OpenError::Unsupported {
                scheme: scheme.into(),
            });
        }
        _ => return Err(OpenError::Url("it does not start with sqlite://".into())),
    }
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(OpenError::Url(
            "a database in memory cannot be shared between connections".into(),
        ));
    }
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| OpenError::Url(error.to_string()))?;
    if options.get_filename().file_name().is_none() {
        return Err(OpenError::Url("it names no file".into()));
    }
    Ok(options
        .create_if_missing(true)
        .read_only(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT))
}

/// Keeps other replicas from setting up the same database until the lock is dropped.
async fn lock(database: &Path) -> Result<File, OpenError> {
    if let Some(directory) = database.parent()
        && !directory.as_os_str().is_empty()
        && !directory.is_dir()
    {
        return Err(OpenError::NoDirectory(directory.into()));
    }
    let mut lock_path = database.as_os_str().to_owned();
    lock_path.push(".lock");
    let locked = move || {
        let file = File::options().create(true).append(true).open(lock_path)?;
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(locked)
        .await
        .unwrap_or_else(|error| Err(error.into()))
        .map_err(|source| OpenError::NotWritable {
            path: database.into(),
            source,
        })
}

#[async_trait]
impl Store for SqliteStore {
    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError> {
        traced("SELECT", "products", "SELECT products", async {
            let products = sqlx::query_as(
                "SELECT id, name, price_cents, stock FROM products WHERE id > ?1 ORDER BY id LIMIT ?2",
            )
            .bind(page.after.unwrap_or(i64::MIN))
            .bind(i64::from(page.limit) + 1)
            .fetch_all(&mut *self.readers.acquire().await?)
            .await?;
            Ok(Page::from_surplus(products, page.limit, |product: &Product| product.id))
        })
        .await
    }

    async fn product(&self, id: i64) -> Result<Option<Product>, StoreError> {
        traced("SELECT", "products", "SELECT products", async {
            Ok(
                sqlx::query_as("SELECT id, name, price_cents, stock FROM products WHERE id = ?1")
                    .bind(id)
                    .fetch_optional(&mut *self.readers.acquire().await?)
                    .await?,
            )
        })
        .await
    }

    async fn place(&self, cart: &Cart, key: Option<&str>) -> Result<Placed, StoreError> {
        let summary = "SELECT products UPDATE products INSERT orders INSERT order_items";
        traced("INSERT", "orders", summary, async {
            let mut tx = self.writer.begin(BEGIN).await?;
            let known = match key {
                Some(key) => find_by_key(&mut tx, key).await?,
                None => None,
            };
            if let Some(order) = known {
                if !order.is_for(cart) {
                    return Err(StoreError::KeyReused);
                }
                if !order.is_retryable() {
                    return Ok(Placed::Known(order));
                }
                reserve(&mut tx, cart).await?;
                sqlx::query("UPDATE orders SET status = 'pending', failure = NULL, updated_at = ?2 WHERE id = ?1")
                    .bind(order.id)
                    .bind(text(Timestamp::now()))
                    .execute(&mut *tx)
                    .await?;
                let order = require(&mut tx, order.id).await?;
                tx.commit().await?;
                return Ok(Placed::Reserved(order));
            }
            let items = reserve(&mut tx, cart).await?;
            let total_cents = total_cents(&items).ok_or(StoreError::TotalTooLarge)?;
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO orders (status, total_cents, idempotency_key, created_at, updated_at) \
                 VALUES ('pending', ?1, ?2, ?3, ?3) RETURNING id",
            )
            .bind(total_cents)
            .bind(key)
            .bind(text(Timestamp::now()))
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query(
                "INSERT INTO order_items (order_id, product_id, quantity, unit_price_cents) \
                 SELECT ?1, value ->> 'product_id', value ->> 'quantity', value ->> 'unit_price_cents' \
                 FROM json_each(?2)",
            )
            .bind(id)
            .bind(Json(&items))
            .execute(&mut *tx)
            .await?;
            let order = require(&mut tx, id).await?;
            tx.commit().await?;
            Ok(Placed::Reserved(order))
        })
        .await
    }

    async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        traced(
            "SELECT",
            "orders",
            "SELECT orders SELECT order_items",
            async { find(&mut *self.readers.acquire().await?, id).await },
        )
        .await
    }

    async fn orders(
        &self,
        status: Option<OrderStatus>,
        page: PageRequest,
    ) -> Result<Page<Order>, StoreError> {
        traced(
            "SELECT",
            "orders",
            "SELECT orders SELECT order_items",
            async {
                // Two texts, for "any status" as a parameter would keep SQLite from using the index.
                let query = match status {
                    Some(status) => sqlx::query_as(concat!(
                        select_orders!(),
                        " WHERE id < ?1 AND status = ?3 ORDER BY id DESC LIMIT ?2"
                    ))
                    .bind(page.after.unwrap_or(i64::MAX))
                    .bind(i64::from(page.limit) + 1)
                    .bind(status),
                    None => sqlx::query_as(concat!(
                        select_orders!(),
                        " WHERE id < ?1 ORDER BY id DESC LIMIT ?2"
                    ))
                    .bind(page.after.unwrap_or(i64::MAX))
                    .bind(i64::from(page.limit) + 1),
                };
                let rows: Vec<OrderRow> =
                    query.fetch_all(&mut *self.readers.acquire().await?).await?;
                let orders = rows
                    .into_iter()
                    .map(Order::try_from)
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Page::from_surplus(orders, page.limit, |order| order.id))
            },
        )
        .await
    }

    async fn settle(&self, id: i64, payment: Payment) -> Result<Order, StoreError> {
        traced("UPDATE", "orders", "UPDATE orders", async {
            let mut tx = self.writer.begin(BEGIN).await?;
            match payment {
                Payment::Approved => {
                    sqlx::query(
                        "UPDATE orders SET status = 'paid', updated_at = ?2 WHERE id = ?1 AND status = 'pending'",
                    )
                    .bind(id)
                    .bind(text(Timestamp::now()))
                    .execute(&mut *tx)
                    .await?;
                }
                Payment::Declined => fail(&mut tx, id, Failure::PaymentDeclined).await?,
                Payment::Unavailable => fail(&mut tx, id, Failure::PaymentUnavailable).await?,
            }
            let order = require(&mut tx, id).await?;
            tx.commit().await?;
            Ok(order)
        })
        .await
    }

    async fn cancel(&self, id: i64) -> Result<Order, StoreError> {
        traced("UPDATE", "orders", "UPDATE orders UPDATE products", async {
            let mut tx = self.writer.begin(BEGIN).await?;
            let cancelled = sqlx::query(
                "UPDATE orders SET status = 'cancelled', updated_at = ?2 \
                 WHERE id = ?1 AND status IN ('pending', 'paid')",
            )
            .bind(id)
            .bind(text(Timestamp::now()))
            .execute(&mut *tx)
            .await?;
            if cancelled.rows_affected() == 1 {
                release(&mut tx, id).await?;
            }
            let order = require(&mut tx, id).await?;
            if cancelled.rows_affected() == 0 {
                return Err(StoreError::NotCancellable(order.status));
            }
            tx.commit().await?;
            Ok(order)
        })
        .await
    }

    async fn fail_abandoned(&self, deadline: Timestamp) -> Result<Vec<Order>, StoreError> {
        // No span: this belongs to no request.
        let mut tx = self.writer.begin(BEGIN).await?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM orders WHERE status = 'pending' AND updated_at < ?1",
        )
        .bind(text(deadline))
        .fetch_all(&mut *tx)
        .await?;
        let mut orders = Vec::with_capacity(ids.len());
        for id in ids {
            fail(&mut tx, id, Failure::PaymentUnavailable).await?;
            orders.push(require(&mut tx, id).await?);
        }
        tx.commit().await?;
        Ok(orders)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // No span: probes would drown the traces.
        sqlx::query("SELECT 1 FROM products LIMIT 1")
            .execute(&mut *self.readers.acquire().await?)
            .await?;
        Ok(())
    }

    fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.writer.clone()))?;
        registry.register(Box::new(self.readers.clone()))
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// An order as it lies in the database.
#[derive(sqlx::FromRow)]
struct OrderRow {
    id: i64,
    status: OrderStatus,
    failure: Option<Failure>,
    total_cents: i64,
    items: Json<Vec<OrderItem>>,
    created_at: String,
    updated_at: String,
}

impl TryFrom<OrderRow> for Order {
    type Error = StoreError;

    fn try_from(row: OrderRow) -> Result<Self, StoreError> {
        let time = |text: String| {
            text.parse().map_err(|error: jiff::Error| {
                StoreError::Database(sqlx::Error::Decode(error.into()))
            })
        };
        Ok(Self {
            id: row.id,
            status: row.status,
            failure: row.failure,
            total_cents: row.total_cents,
            items: row.items.0,
            created_at: time(row.created_at)?,
            updated_at: time(row.updated_at)?,
        })
    }
}

/// Three decimals always, so that times sort as text.
fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

async fn find(connection: &mut SqliteConnection, id: i64) -> Result<Option<Order>, StoreError> {
    let row: Option<OrderRow> = sqlx::query_as(concat!(select_orders!(), " WHERE id = ?1"))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.map(Order::try_from).transpose()
}

async fn require(connection: &mut SqliteConnection, id: i64) -> Result<Order, StoreError> {
    find(connection, id).await?.ok_or(StoreError::UnknownOrder)
}

async fn find_by_key(
    connection: &mut SqliteConnection,
    key: &str,
) -> Result<Option<Order>, StoreError> {
    let row: Option<OrderRow> =
        sqlx::query_as(concat!(select_orders!(), " WHERE idempotency_key = ?1"))
            .bind(key)
            .fetch_optional(connection)
            .await?;
    row.map(Order::try_from).transpose()
}

/// Takes what the cart wants out of stock, and tells today's prices.
async fn reserve(
    tx: &mut Transaction<'_, Sqlite>,
    cart: &Cart,
) -> Result<Vec<OrderItem>, StoreError> {
    let ids: Vec<i64> = cart.lines().map(|(product_id, _)| product_id).collect();
    let products: Vec<Product> = sqlx::query_as(
        "SELECT id, name, price_cents, stock FROM products WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(Json(ids))
    .fetch_all(&mut **tx)
    .await?;

    let mut items = Vec::with_capacity(products.len());
    let mut unknown = Vec::new();
    let mut short = Vec::new();
    for (product_id, quantity) in cart.lines() {
        match products.iter().find(|product| product.id == product_id) {
            None => unknown.push(product_id),
            Some(product) if product.stock < quantity => {
                short.push(Shortage {
                    product_id,
                    available: product.stock,
                });
            }
            Some(product) => {
                items.push(OrderItem {
                    product_id,
                    quantity,
                    unit_price_cents: product.price_cents,
                });
            }
        }
    }
    if !unknown.is_empty() {
        return Err(StoreError::UnknownProducts(unknown));
    }
    if !short.is_empty() {
        return Err(StoreError::OutOfStock(short));
    }
    sqlx::query(
        "UPDATE products SET stock = stock - (line.value ->> 'quantity') \
         FROM json_each(?1) AS line WHERE products.id = line.value ->> 'product_id'",
    )
    .bind(Json(&items))
    .execute(&mut **tx)
    .await?;
    Ok(items)
}

/// Puts the stock of an order on sale again.
async fn release(tx: &mut Transaction<'_, Sqlite>, order_id: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE products SET stock = stock + item.quantity \
         FROM order_items AS item WHERE item.order_id = ?1 AND products.id = item.product_id",
    )
    .bind(order_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Fails an order, if it is still `pending`, and releases its stock.
async fn fail(
    tx: &mut Transaction<'_, Sqlite>,
    id: i64,
    failure: Failure,
) -> Result<(), StoreError> {
    let failed = sqlx::query(
        "UPDATE orders SET status = 'failed', failure = ?2, updated_at = ?3 \
         WHERE id = ?1 AND status = 'pending'",
    )
    .bind(id)
    .bind(failure)
    .bind(text(Timestamp::now()))
    .execute(&mut **tx)
    .await?;
    if failed.rows_affected() == 1 {
        release(tx, id).await?;
    }
    Ok(())
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            // The low byte of an SQLite code is its kind: 5 is SQLITE_BUSY.
            sqlx::Error::Database(error) => error
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| code & 0xff == 5),
            _ => false,
        };
        if busy {
            Self::Busy(error)
        } else {
            Self::Database(error)
        }
    }
}

/// Runs a database operation inside a client span of OpenTelemetry's database conventions.
/// A transaction is one span: its summary lists the statements.
async fn traced<T>(
    operation: &'static str,
    collection: &'static str,
    summary: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let span = tracing::info_span!(
        "database",
        otel.name = format_args!("{operation} {collection}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        otel.status_description = tracing::field::Empty,
        error.type = tracing::field::Empty,
        db.system.name = "sqlite",
        db.operation.name = operation,
        db.collection.name = collection,
        db.query.summary = summary,
    );
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result
        && let Some(fault) = error.fault()
    {
        span.record("error.type", fault);
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", tracing::field::display(error));
    }
    result
}
