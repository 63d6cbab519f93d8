//! The dashboards of `grafana/dashboards`, drawn with live data.

use actix_web::{HttpResponse, web};
use maud::html;

use crate::page::{Page, Place};

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes.route("/dashboards", web::get().to(list));
}

async fn list() -> HttpResponse {
    let main = html! {
        h1 { "Dashboards" }
        p.empty { "None is drawn here yet." }
    };
    Page::new(Place::Dashboards, "Dashboards", main).respond()
}
