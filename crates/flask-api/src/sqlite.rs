//! The store on one SQLite file, which several replicas on one machine may share.
//!
//! SQLite lets one connection write at a time. So each process has one writer connection, for
//! which its requests queue in order, and every write transaction starts with `BEGIN IMMEDIATE`,
//! which waits for the writers of other processes. (A transaction that reads first and then wants
//! to write is refused at once when somebody else wrote in between: no waiting helps there.)
//! Readers work on snapshots next to the writer, which is what WAL is for.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Transaction;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteError, SqliteJournalMode,
    SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::types::Json;

use crate::database::OpenError;
use crate::operation::{Operation, Target};
use crate::order::{Cart, Failure, Order, OrderItem, OrderStatus, Product, total_cents};
use crate::pool::{Pool, end};
use crate::rows::{OrderRow, text};
use crate::store::{Page, PageRequest, Payment, Placed, Store, StoreError, allot};

/// How long a statement waits for another process that writes, and a request for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an operation may take: waiting for the writer connection, then for other processes, and then some.
const PATIENCE: Duration = Duration::from_secs(15);

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

/// See the module.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Pool<Sqlite>,
    readers: Pool<Sqlite>,
    target: Target,
}

impl SqliteStore {
    /// Opens the file, creates it if it is missing, and creates or updates the tables. Replicas may
    /// do so at the same time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &SqliteConnectOptions, readers: u32) -> Result<Self, OpenError> {
        let options = options
            .clone()
            .create_if_missing(true)
            .read_only(false)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let path = options.get_filename().to_owned();
        let cannot_open = |source| OpenError::NoDatabase {
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
        sqlx::migrate!("./migrations/sqlite")
            .run(&writer)
            .await
            .map_err(|source| OpenError::Migrate {
                database: path.display().to_string(),
                source,
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(readers)
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
            target: Target {
                system: "sqlite",
                namespace: None,
                address: None,
                port: None,
                patience: PATIENCE,
            },
        })
    }
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
        self.target.run(Operation { name: "SELECT", collection: "products", summary: "SELECT products" }, async {
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
        self.target
            .run(
                Operation {
                    name: "SELECT",
                    collection: "products",
                    summary: "SELECT products",
                },
                async {
                    Ok(sqlx::query_as(
                        "SELECT id, name, price_cents, stock FROM products WHERE id = ?1",
                    )
                    .bind(id)
                    .fetch_optional(&mut *self.readers.acquire().await?)
                    .await?)
                },
            )
            .await
    }

    async fn place(&self, cart: &Cart, key: Option<&str>) -> Result<Placed, StoreError> {
        let summary = "SELECT products UPDATE products INSERT orders INSERT order_items";
        self.target
            .run(
                Operation {
                    name: "INSERT",
                    collection: "orders",
                    summary,
                },
                async {
                    let mut tx = self.writer.begin(BEGIN).await?;
                    let done = place(&mut tx, cart, key).await;
                    end(tx, done).await
                },
            )
            .await
    }

    async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        self.target
            .run(
                Operation {
                    name: "SELECT",
                    collection: "orders",
                    summary: "SELECT orders SELECT order_items",
                },
                async { find(&mut *self.readers.acquire().await?, id).await },
            )
            .await
    }

    async fn orders(
        &self,
        status: Option<OrderStatus>,
        page: PageRequest,
    ) -> Result<Page<Order>, StoreError> {
        self.target
            .run(
                Operation {
                    name: "SELECT",
                    collection: "orders",
                    summary: "SELECT orders SELECT order_items",
                },
                async {
                    // Two texts, for "any status" as a parameter would keep SQLite from using the index.
                    let query = match status {
                        Some(status) => sqlx::query_as(concat!(
                            select_orders!(),
                            " WHERE id < ?1 AND status = ?3 ORDER BY id DESC LIMIT ?2"
                        ))
                        .bind(page.after.unwrap_or(i64::MAX))
                        .bind(i64::from(page.limit) + 1)
                        .bind(status.as_str()),
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
        self.target
            .run(
                Operation {
                    name: "UPDATE",
                    collection: "orders",
                    summary: "UPDATE orders",
                },
                async {
                    let mut tx = self.writer.begin(BEGIN).await?;
                    let done = settle(&mut tx, id, payment).await;
                    end(tx, done).await
                },
            )
            .await
    }

    async fn cancel(&self, id: i64) -> Result<Order, StoreError> {
        self.target
            .run(
                Operation {
                    name: "UPDATE",
                    collection: "orders",
                    summary: "UPDATE orders UPDATE products",
                },
                async {
                    let mut tx = self.writer.begin(BEGIN).await?;
                    let done = cancel(&mut tx, id).await;
                    end(tx, done).await
                },
            )
            .await
    }

    async fn abandoned(&self, deadline: Timestamp) -> Result<Vec<Order>, StoreError> {
        // No span: this belongs to no request.
        let mut reader = self.readers.acquire().await?;
        let mut orders = Vec::new();
        for id in abandoned(&mut reader, deadline).await? {
            orders.extend(find(&mut reader, id).await?);
        }
        Ok(orders)
    }

    async fn fail_abandoned(
        &self,
        deadline: Timestamp,
        keep: &[i64],
    ) -> Result<Vec<Order>, StoreError> {
        let mut tx = self.writer.begin(BEGIN).await?;
        let done = fail_abandoned(&mut tx, deadline, keep).await;
        end(tx, done).await
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

/// Places an order, or finds the one that its key belongs to.
async fn place(
    tx: &mut Transaction<'_, Sqlite>,
    cart: &Cart,
    key: Option<&str>,
) -> Result<Placed, StoreError> {
    let known = match key {
        Some(key) => find_by_key(tx, key).await?,
        None => None,
    };
    if let Some(order) = known {
        if !order.is_for(cart) {
            return Err(StoreError::KeyReused);
        }
        if !order.is_retryable() {
            return Ok(Placed::Known(order));
        }
        reserve(tx, cart).await?;
        sqlx::query(
            "UPDATE orders SET status = 'pending', failure = NULL, updated_at = ?2 WHERE id = ?1",
        )
        .bind(order.id)
        .bind(text(Timestamp::now()))
        .execute(&mut **tx)
        .await?;
        let order = require(tx, order.id).await?;
        return Ok(Placed::Reserved(order));
    }
    let items = reserve(tx, cart).await?;
    let total_cents = total_cents(&items).ok_or(StoreError::TotalTooLarge)?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO orders (status, total_cents, idempotency_key, created_at, updated_at) \
                 VALUES ('pending', ?1, ?2, ?3, ?3) RETURNING id",
    )
    .bind(total_cents)
    .bind(key)
    .bind(text(Timestamp::now()))
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
                "INSERT INTO order_items (order_id, product_id, quantity, unit_price_cents) \
                 SELECT ?1, value ->> 'product_id', value ->> 'quantity', value ->> 'unit_price_cents' \
                 FROM json_each(?2)",
            )
            .bind(id)
            .bind(Json(&items))
            .execute(&mut **tx)
            .await?;
    let order = require(tx, id).await?;
    Ok(Placed::Reserved(order))
}

/// Ends `pending`.
async fn settle(
    tx: &mut Transaction<'_, Sqlite>,
    id: i64,
    payment: Payment,
) -> Result<Order, StoreError> {
    match payment {
        Payment::Approved => {
            sqlx::query(
                        "UPDATE orders SET status = 'paid', updated_at = ?2 WHERE id = ?1 AND status = 'pending'",
                    )
                    .bind(id)
                    .bind(text(Timestamp::now()))
                    .execute(&mut **tx)
                    .await?;
        }
        Payment::Declined => fail(tx, id, Failure::PaymentDeclined).await?,
        Payment::Unavailable => fail(tx, id, Failure::PaymentUnavailable).await?,
    }
    let order = require(tx, id).await?;
    Ok(order)
}

/// Calls an order off.
async fn cancel(tx: &mut Transaction<'_, Sqlite>, id: i64) -> Result<Order, StoreError> {
    let cancelled = sqlx::query(
        "UPDATE orders SET status = 'cancelled', updated_at = ?2 \
                 WHERE id = ?1 AND status IN ('pending', 'paid')",
    )
    .bind(id)
    .bind(text(Timestamp::now()))
    .execute(&mut **tx)
    .await?;
    if cancelled.rows_affected() == 1 {
        release(tx, id).await?;
    }
    let order = require(tx, id).await?;
    if cancelled.rows_affected() == 0 {
        return Err(StoreError::NotCancellable(order.status));
    }
    Ok(order)
}

/// Fails what has been pending for too long.
async fn fail_abandoned(
    tx: &mut Transaction<'_, Sqlite>,
    deadline: Timestamp,
    keep: &[i64],
) -> Result<Vec<Order>, StoreError> {
    let mut ids = abandoned(tx, deadline).await?;
    ids.retain(|id| !keep.contains(id));
    let mut orders = Vec::with_capacity(ids.len());
    for id in ids {
        fail(tx, id, Failure::PaymentUnavailable).await?;
        orders.push(require(tx, id).await?);
    }
    Ok(orders)
}

async fn abandoned(
    connection: &mut SqliteConnection,
    deadline: Timestamp,
) -> Result<Vec<i64>, StoreError> {
    let ids =
        sqlx::query_scalar("SELECT id FROM orders WHERE status = 'pending' AND updated_at < ?1")
            .bind(text(deadline))
            .fetch_all(connection)
            .await?;
    Ok(ids)
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

    let items = allot(cart, &products)?;
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
    .bind(failure.as_str())
    .bind(text(Timestamp::now()))
    .execute(&mut **tx)
    .await?;
    if failed.rows_affected() == 1 {
        release(tx, id).await?;
    }
    Ok(())
}

/// What an error of SQLite means for the request it struck.
pub(crate) fn classify(error: &SqliteError) -> fn(sqlx::Error) -> StoreError {
    // The low byte of a code is its kind: 5 is SQLITE_BUSY.
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(code) if code & 0xff == 5 => StoreError::Busy,
        _ => StoreError::Database,
    }
}
