//! The API over HTTP: what comes in is checked here, what goes out is worded here.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use service::{Problem, Route};

use crate::order::{Cart, FieldError, Order, OrderRequest, OrderStatus, Product};
use crate::shop::{PlaceError, PlacedOrder, Shop};
use crate::store::{Page, PageRequest, StoreError};

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

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
                invalid_parameter("id", format!("has to be a whole number up to {}", i64::MAX))
                    .into()
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

async fn list_products(
    shop: web::Data<Shop>,
    query: web::Query<ListQuery>,
) -> Result<web::Json<List<Product>>, Problem> {
    let page = query.page(Cursor::Product)?;
    Ok(List::json(
        shop.store().products(page).await?,
        Cursor::Product,
    ))
}

async fn product(shop: web::Data<Shop>, id: web::Path<i64>) -> Result<web::Json<Product>, Problem> {
    let product = shop.store().product(*id).await?;
    product
        .map(web::Json)
        .ok_or_else(|| not_found(format!("there is no product {id}")))
}

async fn list_orders(
    shop: web::Data<Shop>,
    query: web::Query<ListQuery>,
) -> Result<web::Json<List<Order>>, Problem> {
    let (status, page) = (query.status()?, query.page(Cursor::Order)?);
    Ok(List::json(
        shop.store().orders(status, page).await?,
        Cursor::Order,
    ))
}

async fn order(shop: web::Data<Shop>, id: web::Path<i64>) -> Result<web::Json<Order>, Problem> {
    Ok(web::Json(
        shop.store()
            .order(*id)
            .await?
            .ok_or(StoreError::UnknownOrder)?,
    ))
}

async fn place_order(
    shop: web::Data<Shop>,
    request: HttpRequest,
    wanted: web::Json<OrderRequest>,
) -> Result<HttpResponse, Problem> {
    let key = idempotency_key(&request)?;
    let cart = Cart::try_from(&*wanted).map_err(|errors| invalid_order(&errors))?;
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
    match key.to_str() {
        Ok(key) if (1..=MAX_KEY_LENGTH).contains(&key.len()) && keys.next().is_none() => Ok(Some(key.into())),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST).kind("invalid-idempotency-key").detail(format!(
            "Idempotency-Key has to be given once, with 1 to {MAX_KEY_LENGTH} visible ASCII characters"
        ))),
    }
}

/// The parameters of a list. Text, so that an empty one counts as absent and a wrong one is named.
#[derive(Debug, Deserialize)]
struct ListQuery {
    #[serde(default)]
    status: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    cursor: String,
}

impl ListQuery {
    fn status(&self) -> Result<Option<OrderStatus>, Problem> {
        if self.status.is_empty() {
            return Ok(None);
        }
        OrderStatus::from_name(&self.status)
            .map(Some)
            .ok_or_else(|| {
                invalid_parameter(
                    "status",
                    "has to be pending, paid, failed or cancelled".to_owned(),
                )
            })
    }

    fn page(&self, kind: Cursor) -> Result<PageRequest, Problem> {
        let limit = match self.limit.as_str() {
            "" => DEFAULT_LIMIT,
            text => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| {
                    invalid_parameter("limit", format!("has to be a number from 1 to {MAX_LIMIT}"))
                })?,
        };
        let after = match self.cursor.as_str() {
            "" => None,
            text => Some(kind.decode(text).ok_or_else(|| {
                invalid_parameter("cursor", "has to be a next_cursor of this list".to_owned())
            })?),
        };
        Ok(PageRequest { limit, after })
    }
}

/// What a cursor continues. It holds the id of the last item seen; that is nobody's business, so
/// that another order of items can be encoded one day.
#[derive(Debug, Clone, Copy)]
enum Cursor {
    Product,
    Order,
}

impl Cursor {
    fn prefix(self) -> char {
        match self {
            Self::Product => 'p',
            Self::Order => 'o',
        }
    }

    fn encode(self, id: i64) -> String {
        format!("{}{id:016x}", self.prefix())
    }

    fn decode(self, cursor: &str) -> Option<i64> {
        let id = i64::from_str_radix(cursor.strip_prefix(self.prefix())?, 16).ok()?;
        (self.encode(id) == cursor).then_some(id)
    }
}

/// One page as JSON.
#[derive(Debug, Serialize)]
struct List<T> {
    items: Vec<T>,
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

fn invalid_parameter(field: &str, message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST)
        .kind("invalid-parameter")
        .detail(format!("{field} {message}"))
        .with(
            "errors",
            [FieldError {
                field: field.to_owned(),
                message,
            }],
        )
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
            .map(|(index, nth)| FieldError {
                field: format!("items[{index}].{field}"),
                message: message(nth),
            })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        for id in [0, 1, 4096, i64::MAX] {
            assert_eq!(Cursor::Order.decode(&Cursor::Order.encode(id)), Some(id));
        }
        let foreign = Cursor::Product.encode(1);
        for cursor in [
            "o",
            "o1",
            "1",
            "o-000000000000001",
            "o+000000000000001",
            "oé00000000000000",
            &foreign,
        ] {
            assert_eq!(Cursor::Order.decode(cursor), None, "{cursor}");
        }
    }
}
