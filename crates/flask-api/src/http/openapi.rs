//! `/openapi.json`, made from the handlers, and `/docs/`, Swagger UI out of this binary.

use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpResponse, web};
use utoipa::openapi::{Content, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    __path_cancel_order, __path_list_orders, __path_list_products, __path_order,
    __path_place_order, __path_product,
};

/// Media type of an error.
pub(super) const PROBLEM: &str = "application/problem+json";

const DOCUMENT: &str = "/openapi.json";

/// The page runs what came with it and asks nobody else.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The API, for programs.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Shop",
        description = "Products and orders. Money is in cents, times are RFC 3339, errors are RFC 9457 problems \
                       with a `trace_id` to look up.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "Where this document came from")),
    security(()),
    tags(
        (name = "products", description = "What there is to buy"),
        (name = "orders", description = "Placing, finding and cancelling orders"),
    ),
    paths(list_products, product, list_orders, order, place_order, cancel_order),
    components(schemas(FieldErrorDetails)),
    modifiers(&Refusals),
)]
pub struct Document;

/// What any request may be answered before the shop sees it (docs/hardening.md).
struct Refusals;

impl Refusals {
    const ALL: [(&str, &str); 4] = [
        ("408", "The body did not arrive in time"),
        ("414", "The target is too long"),
        (
            "429",
            "Too many requests of this client; try again after `Retry-After` seconds",
        ),
        ("431", "The headers are too large"),
    ];
}

impl Modify for Refusals {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let problem = Ref::from_schema_name("Problem");
        for path in document.paths.paths.values_mut() {
            for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
                for (status, description) in Self::ALL {
                    let response = ResponseBuilder::new()
                        .description(description)
                        .content(PROBLEM, Content::new(Some(problem.clone())));
                    let responses = &mut operation.responses.responses;
                    responses
                        .entry(status.into())
                        .or_insert_with(|| response.build().into());
                }
            }
        }
    }
}

/// An error (RFC 9457). Some sorts of error have further members.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "it describes what `service::Problem` writes")]
pub(super) struct ProblemDetails {
    /// What sort of problem: `/problems/...`, or `about:blank` when the status says it all.
    r#type: String,
    /// The same for every problem of its sort.
    title: String,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong this time.
    detail: Option<String>,
    /// The trace of this request.
    trace_id: Option<String>,
    /// The fields that are wrong.
    errors: Option<Vec<FieldErrorDetails>>,
    /// The order that was placed and failed.
    order_id: Option<i64>,
    /// Where the order stands that cannot be cancelled.
    order_status: Option<crate::order::OrderStatus>,
}

/// A field that is wrong.
#[derive(ToSchema)]
#[schema(as = FieldError)]
#[expect(dead_code, reason = "it describes what `service::FieldError` writes")]
pub(super) struct FieldErrorDetails {
    /// Name of a parameter or header, or path in the body: `items[0].quantity`.
    field: String,
    /// The place in the body as a JSON pointer: `#/items/0/quantity`.
    pointer: Option<String>,
    /// What is wrong with it.
    message: String,
}

/// Registers the document and the page.
pub fn pages(pages: &mut web::ServiceConfig) {
    // The default asks a service on the internet whether the document is valid.
    let config = Config::new([DOCUMENT]).validator_url("none");
    let document = web::Data::new(Document::openapi());
    let get =
        async |document: web::Data<utoipa::openapi::OpenApi>| HttpResponse::Ok().json(document);
    let headers = || {
        DefaultHeaders::new()
            .add((header::CONTENT_SECURITY_POLICY, POLICY))
            .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .add((header::REFERRER_POLICY, "no-referrer"))
    };
    pages
        .service(
            web::resource(DOCUMENT)
                .app_data(document)
                .wrap(headers())
                .get(get),
        )
        .route("/docs", web::get().to(async || web::Redirect::to("/docs/")))
        .service(
            web::scope("/docs")
                .wrap(headers())
                .service(SwaggerUi::new("/{_:.*}").config(config)),
        );
}
