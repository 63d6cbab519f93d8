//! The style sheet, the script and the icon: all that pages load, served from the program itself.

use actix_web::{HttpResponse, http::header, web};

pub(crate) const STYLE: &str = "/assets/console.css";
pub(crate) const SCRIPT: &str = "/assets/console.js";
pub(crate) const ICON: &str = "/assets/icon.svg";

const ASSETS: [(&str, &str, &str); 3] = [
    (
        STYLE,
        "text/css; charset=utf-8",
        include_str!("../assets/console.css"),
    ),
    (
        SCRIPT,
        "text/javascript; charset=utf-8",
        include_str!("../assets/console.js"),
    ),
    (ICON, "image/svg+xml", include_str!("../assets/icon.svg")),
];

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    for (path, kind, text) in ASSETS {
        routes.route(
            path,
            web::get().to(move || async move {
                HttpResponse::Ok()
                    .content_type(kind)
                    .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                    // As new as the program: a console that was built again has another.
                    .insert_header((header::CACHE_CONTROL, "no-cache"))
                    .body(text)
            }),
        );
    }
}
