//! The style sheets, the script and the icon: all that pages load, served from the program itself.

use std::{fmt::Write as _, sync::LazyLock};

use actix_web::{HttpResponse, http::header, web};

pub(crate) const STYLE: &str = "/assets/console.css";
pub(crate) const PICTURES: &str = "/assets/pictures.css";
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

/// Pictures and where they stand: Grafana's grid of 24 columns on a wide page, one below the other on a narrow one.
static PICTURES_STYLE: LazyLock<String> = LazyLock::new(|| {
    let mut style = plots::style().to_owned() + include_str!("../assets/pictures.css");
    // A class for each place: the content security policy forbids style attributes.
    style += "@media (min-width: 60rem) {\n";
    for n in 1..=24 {
        let _ = writeln!(
            style,
            ".x-{} {{ grid-column-start: {n}; }} .w-{n} {{ grid-column-end: span {n}; }}",
            n - 1
        );
    }
    for n in 1..=40 {
        let _ = writeln!(style, ".h-{n} {{ grid-row-end: span {n}; }}");
    }
    style + "}\n"
});

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    let pictures = (PICTURES, "text/css; charset=utf-8", PICTURES_STYLE.as_str());
    for (path, kind, text) in ASSETS.into_iter().chain([pictures]) {
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
