//! Starting and stopping faults.

use actix_web::{HttpResponse, web};
use maud::html;

use crate::page::{Page, Place};

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes.route("/break", web::get().to(page));
}

async fn page() -> HttpResponse {
    let main = html! { h1 { "Break things" } };
    Page::new(Place::Break, "Break things", main).respond()
}
