//! The store on PostgreSQL, for replicas on many machines.
//!
//! Rows are locked in one order everywhere: the order (or, for one to come, its idempotency key)
//! first, then its products by ascending id. So whoever waits for a lock waits for somebody who can
//! go on, and READ COMMITTED is enough: what a decision rests on is locked before it is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPoolOptions, Postgres};
use sqlx::types::Json;
use sqlx::{ConnectOptions, Connection, Transaction};
use tokio::sync::Mutex;

use crate::database::{Database, OpenError};
use crate::operation::{Operation, Target, no_answer};
use crate::order::{Cart, Failure, Order, OrderItem, OrderStatus, Product, total_cents};
use crate::pool::{Pool, end};
use crate::rows::{OrderRow, text};
use crate::store::{Page, PageRequest, Payment, Placed, Store, StoreError, allot};

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an operation may take, waiting for a connection included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the server may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long starting waits for the server, and for other replicas that bring the tables up to date.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Of what the server has to say besides errors, only warnings: not that a table exists already.
const NOTICES: [(&str, &str); 1] = [("client_min_messages", "warning")];

/// The server's own limits, so that it does not go on working for somebody who has given up, nor
/// keep the locks of a replica that hangs.
const LIMITS: [(&str, &str); 3] = [
    ("lock_timeout", "3s"),
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

const BEGIN: &str = "BEGIN";

/// An order and its items in one statement, and so from one snapshot.
macro_rules! select_orders {
    () => {
        "SELECT id, status, failure, total_cents, \
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at, \
         to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS updated_at, \
         (SELECT coalesce(json_agg(json_build_object( \
             'product_id', product_id, 'quantity', quantity, 'unit_price_cents', unit_price_cents) \
             ORDER BY product_id), '[]') \
          FROM order_items WHERE order_id = orders.id) AS items \
         FROM orders"
    };
}

/// See the module.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool<Postgres>,
    target: Target,
    probe: Probe,
}

/// A connection apart from the pool, so that a busy service is not taken for a lost database.
#[derive(Debug)]
struct Probe {
    options: PgConnectOptions,
    connection: Mutex<Option<PgConnection>>,
    /// While the server is known to be gone, requests are refused at once instead of queueing for it.
    reachable: AtomicBool,
}

impl PostgresStore {
    /// Connects to the server and creates or updates the tables. Replicas may do so at the same time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &PgConnectOptions, connections: u32) -> Result<Self, OpenError> {
        let options = options
            .clone()
            .application_name("flask-api")
            .options(NOTICES)
            .disable_statement_logging();
        let database = Database::Postgres(options.clone()).to_string();
        // The pool would only say that time ran out; a connection of its own says why, and its
        // migrations wait for those of other replicas without the limits that requests have.
        let opening = async {
            let mut connection = options.connect().await.map_err(|source| {
                let database = database.clone();
                match source {
                    sqlx::Error::Database(_) => OpenError::Refused { database, source },
                    source => OpenError::Unreachable { database, source },
                }
            })?;
            sqlx::migrate!("./migrations/postgres")
                .run(&mut connection)
                .await
                .map_err(|source| OpenError::Migrate {
                    database: database.clone(),
                    source,
                })?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| {
                Err(OpenError::Unreachable {
                    database: database.clone(),
                    source: sqlx::Error::PoolTimedOut,
                })
            })?;

        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone().options(LIMITS));
        let address = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let namespace = options.get_database().unwrap_or(options.get_username());
        Ok(Self {
            pool: Pool::new("shared", pool),
            target: Target {
                system: "postgresql",
                namespace: Some(namespace.to_owned()),
                address: Some(address),
                port: options.get_socket().is_none().then(|| options.get_port()),
                patience: PATIENCE,
            },
            probe: Probe {
                options,
                connection: Mutex::new(Some(connection)),
                reachable: AtomicBool::new(true),
            },
        })
    }

    async fn run<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let work = async {
            if self.probe.reachable.load(Ordering::Relaxed) {
                work.await
            } else {
                let reason = std::io::Error::new(
                    std::io::ErrorKind::NotConnected,
                    "it did not answer when it was last asked",
                );
                Err(StoreError::Unavailable(sqlx::Error::Io(reason)))
            }
        };
        self.target.run(operation, work).await
    }
}

impl Probe {
    async fn ask(&self) -> Result<(), StoreError> {
        let mut kept = self.connection.lock().await;
        // Kept again only if it answers.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        sqlx::query("SELECT 1 FROM products LIMIT 1")
            .execute(&mut connection)
            .await?;
        *kept = Some(connection);
        Ok(())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError> {
        self.run(
            Operation {
                name: "SELECT",
                collection: "products",
                summary: "SELECT products",
            },
            async {
                let products = sqlx::query_as(
                    "SELECT id, name, price_cents, stock FROM products WHERE id > $1 ORDER BY id LIMIT $2",
                )
                .bind(page.after.unwrap_or(i64::MIN))
                .bind(i64::from(page.limit) + 1)
                .fetch_all(&mut *self.pool.acquire().await?)
                .await?;
                Ok(Page::from_surplus(products, page.limit, |product: &Product| product.id))
            },
        )
        .await
    }

    async fn product(&self, id: i64) -> Result<Option<Product>, StoreError> {
        self.run(
            Operation {
                name: "SELECT",
                collection: "products",
                summary: "SELECT products",
            },
            async {
                Ok(sqlx::query_as(
                    "SELECT id, name, price_cents, stock FROM products WHERE id = $1",
                )
                .bind(id)
                .fetch_optional(&mut *self.pool.acquire().await?)
                .await?)
            },
        )
        .await
    }

    async fn place(&self, cart: &Cart, key: Option<&str>) -> Result<Placed, StoreError> {
        let operation = Operation {
            name: "INSERT",
            collection: "orders",
            summary: "SELECT products UPDATE products INSERT orders INSERT order_items",
        };
        self.run(operation, async {
            let mut tx = self.pool.begin(BEGIN).await?;
            let done = place(&mut tx, cart, key).await;
            end(tx, done).await
        })
        .await
    }

    async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        self.run(
            Operation {
                name: "SELECT",
                collection: "orders",
                summary: "SELECT orders SELECT order_items",
            },
            async { find(&mut *self.pool.acquire().await?, id).await },
        )
        .await
    }

    async fn orders(
        &self,
        status: Option<OrderStatus>,
        page: PageRequest,
    ) -> Result<Page<Order>, StoreError> {
        let operation = Operation {
            name: "SELECT",
            collection: "orders",
            summary: "SELECT orders SELECT order_items",
        };
        self.run(operation, async {
            // Two texts, so that each has a plan of its own.
            let query = match status {
                Some(status) => sqlx::query_as(concat!(
                    select_orders!(),
                    " WHERE id < $1 AND status = $3 ORDER BY id DESC LIMIT $2"
                ))
                .bind(page.after.unwrap_or(i64::MAX))
                .bind(i64::from(page.limit) + 1)
                .bind(status.as_str()),
                None => sqlx::query_as(concat!(
                    select_orders!(),
                    " WHERE id < $1 ORDER BY id DESC LIMIT $2"
                ))
                .bind(page.after.unwrap_or(i64::MAX))
                .bind(i64::from(page.limit) + 1),
            };
            let rows: Vec<OrderRow> = query.fetch_all(&mut *self.pool.acquire().await?).await?;
            let orders = rows
                .into_iter()
                .map(Order::try_from)
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Page::from_surplus(orders, page.limit, |order| order.id))
        })
        .await
    }

    async fn settle(&self, id: i64, payment: Payment) -> Result<Order, StoreError> {
        let operation = Operation {
            name: "UPDATE",
            collection: "orders",
            summary: "UPDATE orders",
        };
        self.run(operation, async {
            let mut tx = self.pool.begin(BEGIN).await?;
            let done = settle(&mut tx, id, payment).await;
            end(tx, done).await
        })
        .await
    }

    async fn cancel(&self, id: i64) -> Result<Order, StoreError> {
        let operation = Operation {
            name: "UPDATE",
            collection: "orders",
            summary: "UPDATE orders UPDATE products",
        };
        self.run(operation, async {
            let mut tx = self.pool.begin(BEGIN).await?;
            let done = cancel(&mut tx, id).await;
            end(tx, done).await
        })
        .await
    }

    async fn abandoned(&self, deadline: Timestamp) -> Result<Vec<Order>, StoreError> {
        // No span: this belongs to no request.
        let mut tx = self.pool.begin(BEGIN).await?;
        let done = abandoned(&mut tx, deadline).await;
        end(tx, done).await
    }

    async fn fail_abandoned(
        &self,
        deadline: Timestamp,
        keep: &[i64],
    ) -> Result<Vec<Order>, StoreError> {
        // What another replica is settling or sweeping just now is not abandoned.
        let mut tx = self.pool.begin(BEGIN).await?;
        let done = fail_abandoned(&mut tx, deadline, keep).await;
        end(tx, done).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // No span: probes would drown the traces.
        let answer = match tokio::time::timeout(PING_TIMEOUT, self.probe.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(no_answer(PING_TIMEOUT)),
        };
        let gone = matches!(answer, Err(StoreError::Unavailable(_)));
        self.probe.reachable.store(!gone, Ordering::Relaxed);
        answer
    }

    fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.pool.clone()))
    }

    async fn close(&self) {
        self.pool.close().await;
        if let Some(connection) = self.probe.connection.lock().await.take() {
            // The server notices anyhow, only later.
            let _ = connection.close().await;
        }
    }
}

/// Places an order, or finds the one that its key belongs to.
async fn place(
    tx: &mut Transaction<'_, Postgres>,
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
            "UPDATE orders SET status = 'pending', failure = NULL, updated_at = $2::timestamptz \
                     WHERE id = $1",
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
                 VALUES ('pending', $1, $2, $3::timestamptz, $3::timestamptz) RETURNING id",
    )
    .bind(total_cents)
    .bind(key)
    .bind(text(Timestamp::now()))
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO order_items (order_id, product_id, quantity, unit_price_cents) \
                 SELECT $1, product_id, quantity, unit_price_cents FROM jsonb_to_recordset($2) \
                 AS item(product_id bigint, quantity bigint, unit_price_cents bigint)",
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
    tx: &mut Transaction<'_, Postgres>,
    id: i64,
    payment: Payment,
) -> Result<Order, StoreError> {
    match payment {
        Payment::Approved => {
            sqlx::query(
                "UPDATE orders SET status = 'paid', updated_at = $2::timestamptz \
                         WHERE id = $1 AND status = 'pending'",
            )
            .bind(id)
            .bind(text(Timestamp::now()))
            .execute(&mut **tx)
            .await?;
        }
        Payment::Declined => fail(tx, &[id], Failure::PaymentDeclined).await?,
        Payment::Unavailable => fail(tx, &[id], Failure::PaymentUnavailable).await?,
    }
    let order = require(tx, id).await?;
    Ok(order)
}

/// Calls an order off.
async fn cancel(tx: &mut Transaction<'_, Postgres>, id: i64) -> Result<Order, StoreError> {
    let cancelled = sqlx::query(
        "UPDATE orders SET status = 'cancelled', updated_at = $2::timestamptz \
                 WHERE id = $1 AND status IN ('pending', 'paid')",
    )
    .bind(id)
    .bind(text(Timestamp::now()))
    .execute(&mut **tx)
    .await?;
    if cancelled.rows_affected() == 1 {
        release(tx, &[id]).await?;
    }
    let order = require(tx, id).await?;
    if cancelled.rows_affected() == 0 {
        return Err(StoreError::NotCancellable(order.status));
    }
    Ok(order)
}

/// What has been pending for too long.
async fn abandoned(
    tx: &mut Transaction<'_, Postgres>,
    deadline: Timestamp,
) -> Result<Vec<Order>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM orders WHERE status = 'pending' AND updated_at < $1::timestamptz ORDER BY id",
    )
    .bind(text(deadline))
    .fetch_all(&mut **tx)
    .await?;
    let mut orders = Vec::with_capacity(ids.len());
    for id in ids {
        orders.extend(find(tx, id).await?);
    }
    Ok(orders)
}

/// Fails what has been pending for too long.
async fn fail_abandoned(
    tx: &mut Transaction<'_, Postgres>,
    deadline: Timestamp,
    keep: &[i64],
) -> Result<Vec<Order>, StoreError> {
    let mut ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM orders WHERE status = 'pending' AND updated_at < $1::timestamptz \
             ORDER BY id FOR UPDATE SKIP LOCKED",
    )
    .bind(text(deadline))
    .fetch_all(&mut **tx)
    .await?;
    ids.retain(|id| !keep.contains(id));
    fail(tx, &ids, Failure::PaymentUnavailable).await?;
    let mut orders = Vec::with_capacity(ids.len());
    for id in ids {
        orders.push(require(tx, id).await?);
    }
    Ok(orders)
}

async fn find(connection: &mut PgConnection, id: i64) -> Result<Option<Order>, StoreError> {
    let row: Option<OrderRow> = sqlx::query_as(concat!(select_orders!(), " WHERE id = $1"))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.map(Order::try_from).transpose()
}

async fn require(connection: &mut PgConnection, id: i64) -> Result<Order, StoreError> {
    find(connection, id).await?.ok_or(StoreError::UnknownOrder)
}

/// Makes others with the same key wait until this transaction ends, also when there is no order of
/// that key yet whose row could be locked.
async fn find_by_key(
    tx: &mut Transaction<'_, Postgres>,
    key: &str,
) -> Result<Option<Order>, StoreError> {
    // Keys that share a hash wait for each other, and that is all they do.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(key)
        .execute(&mut **tx)
        .await?;
    let row: Option<OrderRow> = sqlx::query_as(concat!(
        select_orders!(),
        " WHERE idempotency_key = $1 FOR UPDATE"
    ))
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Order::try_from).transpose()
}

/// Takes what the cart wants out of stock, and tells today's prices.
async fn reserve(
    tx: &mut Transaction<'_, Postgres>,
    cart: &Cart,
) -> Result<Vec<OrderItem>, StoreError> {
    let ids: Vec<i64> = cart.lines().map(|(product_id, _)| product_id).collect();
    let products: Vec<Product> = sqlx::query_as(
        "SELECT id, name, price_cents, stock FROM products WHERE id = ANY($1) \
         ORDER BY id FOR NO KEY UPDATE",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    let items = allot(cart, &products)?;
    sqlx::query(
        "UPDATE products SET stock = stock - item.quantity FROM jsonb_to_recordset($1) \
         AS item(product_id bigint, quantity bigint) WHERE products.id = item.product_id",
    )
    .bind(Json(&items))
    .execute(&mut **tx)
    .await?;
    Ok(items)
}

/// Puts the stock of orders, whose rows this transaction has locked, on sale again.
async fn release(tx: &mut Transaction<'_, Postgres>, order_ids: &[i64]) -> Result<(), StoreError> {
    sqlx::query(
        "SELECT 1 FROM products WHERE id IN (SELECT product_id FROM order_items WHERE order_id = ANY($1)) \
         ORDER BY id FOR NO KEY UPDATE",
    )
    .bind(order_ids)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "UPDATE products SET stock = stock + item.quantity \
         FROM (SELECT product_id, sum(quantity)::bigint AS quantity FROM order_items \
               WHERE order_id = ANY($1) GROUP BY product_id) AS item \
         WHERE products.id = item.product_id",
    )
    .bind(order_ids)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Fails those of the orders that are still `pending`, and releases their stock.
async fn fail(
    tx: &mut Transaction<'_, Postgres>,
    ids: &[i64],
    failure: Failure,
) -> Result<(), StoreError> {
    let failed: Vec<i64> = sqlx::query_scalar(
        "UPDATE orders SET status = 'failed', failure = $2, updated_at = $3::timestamptz \
         WHERE id = ANY($1) AND status = 'pending' RETURNING id",
    )
    .bind(ids)
    .bind(failure.as_str())
    .bind(text(Timestamp::now()))
    .fetch_all(&mut **tx)
    .await?;
    release(tx, &failed).await
}

/// What an error of the server means for the request it struck
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn classify(error: &PgDatabaseError) -> fn(sqlx::Error) -> StoreError {
    match error.code() {
        // Connection exceptions; shutting down or starting up; demoted to a read-only stand-by; idle
        // for too long within a transaction.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03" => StoreError::Unavailable,
        code if code.starts_with("08") => StoreError::Unavailable,
        // Serialization failure, deadlock, lock or statement time-out; out of connections or memory.
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Busy,
        code if code.starts_with("53") => StoreError::Busy,
        _ => StoreError::Database,
    }
}
