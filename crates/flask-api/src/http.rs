//! The API over HTTP: what comes in is checked here, what goes out is worded here. What is said of it
//! at each handler is its description in `/openapi.json`.

pub mod openapi;
mod query;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use service::{FieldError, Problem, Route};
use utoipa::ToSchema;

pub use self::query::{Cursor, read_orders_query, read_products_query};

use self::openapi::{PROBLEM, ProblemDetails};
use crate::order::{Cart, Order, OrderRequest, OrderStatus, Product};
use crate::shop::{PlaceError, PlacedOrder, Shop};
use crate::store::{Page, StoreError};

/// Characters of an idempotency key; a UUID has 36.
const MAX_KEY_LENGTH: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Every route and the statuses it answers with.
pub const ROUTES: &[Route] = &[
    Route::new(Method::GET, "/api/products", &[200, 400, 503]),
    Route::new(Method::GET, "/api/products/{id}", &[200, 400, 404, 503]),
    Route::new(
        Method::POST,
        "/api/orders",
        &[201, 400, 409, 413, 415, 422, 503],
    ),
    Route::new(Method::GET, "/api/orders", &[200, 400, 503]),
    Route::new(Method::GET, "/api/orders/{id}", &[200, 400, 404, 503]),
    Route::new(
        Method::POST,
        "/api/orders/{id}/cancel",
        &[200, 400, 404, 409, 503],
    ),
];

/// Registers the handlers of [`ROUTES`].
pub fn routes(shop: Arc<Shop>) -> impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static {
    let shop = web::Data::from(shop);
    move |pages| {
        pages
            .app_data(shop.clone())
            .app_data(web::PathConfig::default().error_handler(|_, _| {
                let reason = format!("has to be a whole number up to {}", i64::MAX);
                invalid_parameters(vec![FieldError::parameter("id", reason)]).into()
            }))
            .service(web::resource("/api/products").get(list_products))
            .service(web::resource("/api/products/{id}").get(product))
            .service(
                web::resource("/api/orders")
                    .get(list_orders)
                    .post(place_order),
            )
            .service(web::resource("/api/orders/{id}").get(order))
            .service(web::resource("/api/orders/{id}/cancel").post(cancel_order));
    }
}

/// Products, in ascending order of id.
#[utoipa::path(
    get,
    path = "/api/products",
    tag = "products",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Items of a page, 20 when absent"),
        ("cursor" = Option<String>, Query, pattern = "^(p[0-7][0-9a-f]{15})?$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of products", body = List<Product>),
        (status = 400, description = "A parameter is not valid; `errors` names it", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "The database is busy or away; try again after `Retry-After` seconds", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn list_products(
    shop: web::Data<Shop>,
    request: HttpRequest,
) -> Result<web::Json<List<Product>>, Problem> {
    let page = read_products_query(request.query_string()).map_err(invalid_parameters)?;
    Ok(List::json(
        shop.store().products(page).await?,
        Cursor::Product,
    ))
}

/// One product.
#[utoipa::path(
    get,
    path = "/api/products/{id}",
    tag = "products",
    params(("id" = i64, Path, description = "Which product")),
    responses(
        (status = 200, description = "The product", body = Product),
        (status = 400, description = "The id is no whole number of 64 bits", body = ProblemDetails, content_type = PROBLEM),
        (status = 404, description = "There is no such product", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "The database is busy or away; try again after `Retry-After` seconds", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn product(shop: web::Data<Shop>, id: web::Path<i64>) -> Result<web::Json<Product>, Problem> {
    let product = shop.store().product(*id).await?;
    product
        .map(web::Json)
        .ok_or_else(|| not_found(format!("there is no product {id}")))
}

/// Orders, newest first.
#[utoipa::path(
    get,
    path = "/api/orders",
    tag = "orders",
    params(
        ("status" = Option<OrderStatus>, Query, description = "Only orders that stand there"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Items of a page, 20 when absent"),
        ("cursor" = Option<String>, Query, pattern = "^(o[0-7][0-9a-f]{15})?$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of orders", body = List<Order>),
        (status = 400, description = "A parameter is not valid; `errors` names it", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "The database is busy or away; try again after `Retry-After` seconds", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn list_orders(
    shop: web::Data<Shop>,
    request: HttpRequest,
) -> Result<web::Json<List<Order>>, Problem> {
    let (status, page) = read_orders_query(request.query_string()).map_err(invalid_parameters)?;
    Ok(List::json(
        shop.store().orders(status, page).await?,
        Cursor::Order,
    ))
}

/// One order.
#[utoipa::path(
    get,
    path = "/api/orders/{id}",
    tag = "orders",
    params(("id" = i64, Path, description = "Which order")),
    responses(
        (status = 200, description = "The order", body = Order),
        (status = 400, description = "The id is no whole number of 64 bits", body = ProblemDetails, content_type = PROBLEM),
        (status = 404, description = "There is no such order", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "The database is busy or away; try again after `Retry-After` seconds", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn order(shop: web::Data<Shop>, id: web::Path<i64>) -> Result<web::Json<Order>, Problem> {
    Ok(web::Json(
        shop.store()
            .order(*id)
            .await?
            .ok_or(StoreError::UnknownOrder)?,
    ))
}

/// Place an order: stock is reserved, then payment is asked for.
///
/// With an `Idempotency-Key` the request can be sent again whatever became of it: there will be one order.
#[utoipa::path(
    post,
    path = "/api/orders",
    tag = "orders",
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "Makes it safe to send this order again; a key belongs to one order for ever",
    )),
    request_body = OrderRequest,
    responses(
        (status = 201, description = "The order, `paid`, or `failed` when payment was declined", body = Order, headers(
            ("Location" = String, description = "Where the order is found"),
            ("Idempotency-Replayed" = Option<String>, description = "`true` when an earlier request with this key placed it"),
        )),
        (status = 400, description = "The body is no order, or the key no key; `errors` names the field", body = ProblemDetails, content_type = PROBLEM),
        (status = 409, description = "There is not enough stock; `errors` names the lines", body = ProblemDetails, content_type = PROBLEM),
        (status = 413, description = "The body is too large", body = ProblemDetails, content_type = PROBLEM),
        (status = 415, description = "The body is not application/json", body = ProblemDetails, content_type = PROBLEM),
        (status = 422, description = "The order is not valid, which `errors` explains, or the key belongs to another order", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "Payment or database is away; nothing stays reserved; try again after `Retry-After` seconds, with the same key", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn place_order(
    shop: web::Data<Shop>,
    request: HttpRequest,
    body: web::Json<Box<RawValue>>,
) -> Result<HttpResponse, Problem> {
    let key = idempotency_key(&request)?;
    let wanted: OrderRequest = service::read_json(&body)?;
    let cart = Cart::try_from(&wanted).map_err(|errors| invalid_order(&errors))?;
    let shop = shop.into_inner();
    let PlacedOrder { order, replayed } = shop
        .place(cart, key)
        .await
        .map_err(|error| not_placed(error, &wanted))?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, format!("/api/orders/{}", order.id)));
    if replayed {
        response.insert_header((IDEMPOTENCY_REPLAYED, "true"));
    }
    Ok(response.json(order))
}

/// Call an order off: its stock is on sale again.
#[utoipa::path(
    post,
    path = "/api/orders/{id}/cancel",
    tag = "orders",
    params(("id" = i64, Path, description = "Which order")),
    responses(
        (status = 200, description = "The order, `cancelled`", body = Order),
        (status = 400, description = "The id is no whole number of 64 bits", body = ProblemDetails, content_type = PROBLEM),
        (status = 404, description = "There is no such order", body = ProblemDetails, content_type = PROBLEM),
        (status = 409, description = "The order is neither pending nor paid", body = ProblemDetails, content_type = PROBLEM),
        (status = 500, description = "The shop failed", body = ProblemDetails, content_type = PROBLEM),
        (status = 503, description = "The database is busy or away; try again after `Retry-After` seconds", body = ProblemDetails, content_type = PROBLEM),
    ),
)]
async fn cancel_order(
    shop: web::Data<Shop>,
    id: web::Path<i64>,
) -> Result<web::Json<Order>, Problem> {
    Ok(web::Json(shop.cancel(*id).await?))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut keys = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let is_key = (1..=MAX_KEY_LENGTH).contains(&key.len())
        && key.as_bytes().iter().all(u8::is_ascii_graphic)
        && keys.next().is_none();
    match key.to_str() {
        Ok(key) if is_key => Ok(Some(key.to_owned())),
        _ => {
            let reason = format!(
                "has to be given once, with 1 to {MAX_KEY_LENGTH} visible ASCII characters"
            );
            Err(Problem::new(StatusCode::BAD_REQUEST)
                .kind("invalid-idempotency-key")
                .detail(format!("Idempotency-Key {reason}"))
                .with("errors", [FieldError::parameter("Idempotency-Key", reason)]))
        }
    }
}

/// One page as JSON.
#[derive(Debug, Serialize, ToSchema)]
struct List<T> {
    items: Vec<T>,
    /// `cursor` of the next page, if there is one.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl<T> List<T> {
    fn json(page: Page<T>, kind: Cursor) -> web::Json<Self> {
        web::Json(Self {
            items: page.items,
            next_cursor: page.next.map(|id| kind.encode(id)),
        })
    }
}

fn invalid_parameters(errors: Vec<FieldError>) -> Problem {
    let reasons: Vec<String> = errors
        .iter()
        .map(|error| format!("{} {}", error.field, error.message))
        .collect();
    Problem::new(StatusCode::BAD_REQUEST)
        .kind("invalid-parameter")
        .detail(reasons.join("; "))
        .with("errors", errors)
}

fn invalid_order(errors: &[FieldError]) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .kind("invalid-order")
        .title("The order is not valid")
        .with("errors", errors)
}

fn not_found(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND)
        .kind("not-found")
        .detail(detail)
}

fn try_again(kind: &'static str, detail: &str) -> Problem {
    try_again_in(Duration::ZERO, kind, detail)
}

/// In whole seconds, at least one.
fn try_again_in(time: Duration, kind: &'static str, detail: &str) -> Problem {
    let seconds = time.as_secs_f64().ceil().max(1.0) as u64;
    Problem::new(StatusCode::SERVICE_UNAVAILABLE)
        .kind(kind)
        .detail(detail)
        .header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

/// Words a refusal in terms of the fields of the request it refuses.
fn not_placed(error: PlaceError, request: &OrderRequest) -> Problem {
    let fields = |product_ids: &[i64], field: &str, message: &dyn Fn(usize) -> String| {
        let wrong = |id: i64| product_ids.iter().position(|&wrong| wrong == id);
        let lines = request.items.iter().enumerate();
        lines
            .filter_map(|(index, line)| Some((index, wrong(line.product_id)?)))
            .map(|(index, nth)| FieldError::body(&format!("items[{index}].{field}"), message(nth)))
            .collect::<Vec<_>>()
    };
    match error {
        PlaceError::Store(StoreError::UnknownProducts(ids)) => {
            invalid_order(&fields(&ids, "product_id", &|_| {
                "there is no such product".to_owned()
            }))
        }
        PlaceError::Store(StoreError::OutOfStock(short)) => {
            let ids: Vec<i64> = short.iter().map(|shortage| shortage.product_id).collect();
            let left = |nth: usize| format!("{} left", short[nth].available);
            Problem::new(StatusCode::CONFLICT)
                .kind("out-of-stock")
                .title("There is not enough stock")
                .with("errors", fields(&ids, "quantity", &left))
        }
        PlaceError::Store(error) => error.into(),
        PlaceError::PaymentUnavailable { order_id, source } => {
            payment_unavailable(order_id, source.retry_after())
                .cause(source.kind().to_owned(), source)
        }
        PlaceError::FailedMeanwhile { order_id } => payment_unavailable(order_id, None),
        PlaceError::PaymentUnknown { order_id, source } => try_again_in(
            source.retry_after().unwrap_or_default(),
            "payment-unknown",
            "the answer of the payment service was lost, and it may have taken the money; the order is pending \
             until that is known, and a retry with the same Idempotency-Key returns it",
        )
        .with("order_id", order_id)
        .cause(source.kind().to_owned(), source),
    }
}

fn payment_unavailable(order_id: i64, retry_after: Option<Duration>) -> Problem {
    try_again_in(
        retry_after.unwrap_or_default(),
        "payment-unavailable",
        "the payment service gave no answer; nothing is reserved, \
         and a retry with the same Idempotency-Key tries to pay for the same order again",
    )
    .with("order_id", order_id)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let fault = error.fault().unwrap_or("store".into());
        match error {
            StoreError::UnknownOrder => not_found("there is no such order".to_owned()),
            StoreError::NotCancellable(status) => Self::new(StatusCode::CONFLICT)
                .kind("not-cancellable")
                .detail(error.to_string())
                .with("order_status", status),
            StoreError::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY)
                .kind("idempotency-key-reused")
                .detail("this Idempotency-Key was used for another order; take a new one"),
            StoreError::TotalTooLarge => Self::new(StatusCode::UNPROCESSABLE_ENTITY)
                .kind("invalid-order")
                .detail(error.to_string()),
            StoreError::Busy(_) => {
                try_again("busy", "too many orders at once; try again in a moment")
                    .cause(fault, error)
            }
            StoreError::Unavailable(_) => try_again(
                "database-unavailable",
                "the shop cannot reach its database; try again in a moment",
            )
            .cause(fault, error),
            // The first two are for `not_placed`, which knows the request.
            StoreError::UnknownProducts(_)
            | StoreError::OutOfStock(_)
            | StoreError::Database(_) => Self::internal(fault, error),
        }
    }
}
