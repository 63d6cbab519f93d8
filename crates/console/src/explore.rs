//! From a trace to its log lines and metrics; searching logs; asking Prometheus.

use actix_web::{HttpResponse, web};
use maud::html;

use crate::page::{Page, Place};

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes.route("/explore", web::get().to(explore));
}

async fn explore() -> HttpResponse {
    let main = html! {
        h1 { "Explore" }
        p.empty { "Nothing can be searched here yet." }
    };
    Page::new(Place::Explore, "Explore", main).respond()
}
