//! Pages of the admin port.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::ContentType},
    web,
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use telemetry::LogLevel;

use crate::Problem;

/// `/metrics` in Prometheus text format 0.0.4.
pub(crate) fn metrics(registry: Registry) -> impl FnOnce(&mut web::ServiceConfig) {
    let page = move || {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
        let response = match encoded {
            Ok(()) => Ok(HttpResponse::Ok()
                .content_type(prometheus::TEXT_FORMAT)
                .body(text)),
            Err(error) => Err(Problem::internal("encoding", error)),
        };
        std::future::ready(response)
    };
    |pages| {
        pages.route("/metrics", web::get().to(page));
    }
}

/// `/log-level`: the directives in force; PUT or POST others to change them.
pub(crate) fn log_level(log_level: LogLevel) -> impl FnOnce(&mut web::ServiceConfig) {
    async fn get(log_level: web::Data<LogLevel>) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(ContentType::plaintext())
            .body(format!("{}\n", log_level.get()))
    }
    async fn set(
        log_level: web::Data<LogLevel>,
        directives: String,
    ) -> Result<HttpResponse, Problem> {
        log_level.set(directives.trim()).map_err(|reason| {
            Problem::new(StatusCode::BAD_REQUEST)
                .kind("invalid-log-level")
                .detail(reason)
        })?;
        tracing::info!(directives = log_level.get(), "log level changed");
        Ok(get(log_level).await)
    }
    |pages| {
        pages
            .app_data(web::Data::new(log_level))
            .service(web::resource("/log-level").get(get).put(set).post(set));
    }
}
