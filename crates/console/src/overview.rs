//! What a newcomer has to see in ten seconds.

use actix_web::{HttpResponse, web};
use maud::html;

use crate::page::{Page, Place};

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes.route("/", web::get().to(overview));
}

async fn overview() -> HttpResponse {
    let main = html! { h1 { "Overview" } };
    Page::new(Place::Overview, "Overview", main)
        .wide()
        .respond()
}
