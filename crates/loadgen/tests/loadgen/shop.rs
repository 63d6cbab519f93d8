//! The demo API itself under what loadgen has for it.

use std::sync::mpsc;
use std::thread;

use clap::Parser as _;
use prometheus::Registry;
use serde_json::json;
use utoipa::OpenApi as _;

use crate::program::{output, summary};
use crate::target::{Answer, Target};

/// The API on a free port, with payments that approve of everything, for as long as the test process lives.
struct Shop {
    url: String,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = format!("sqlite://{}", folder.path().join("shop.db").display());
        let approved = json!({"id": 1, "order_id": 1, "amount_cents": 1290, "status": "approved"});
        let payments = Target::start(move |_, _| Answer::Now(201, approved.to_string()));
        let (ready, address) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let free = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
                let own = ["--database-url", &database, "--payments-url", &payments.url];
                let args =
                    flask_api::Args::parse_from(["flask-api"].into_iter().chain(free).chain(own));
                let api = flask_api::App::build(&args, Registry::new(), None)
                    .await
                    .expect("the API");
                ready.send(api.server().address()).expect("the test waits");
                api.run().await
            })
        });
        let address = address.recv().expect("it starts");
        Self {
            url: format!("http://{address}"),
            _folder: folder,
        }
    }

    /// Runs a scenario that is to go through without a failure.
    fn goes_through(&self, scenario: &str, rate: &str) -> loadgen::summary::Summary {
        let args = [
            &self.url,
            "--scenario",
            scenario,
            "--rate",
            rate,
            "--for",
            "500ms",
            "--seed",
            "3",
            "--json",
            "-",
            "--threshold",
            "error_rate <= 0%",
        ];
        let output = output(&args);
        assert_eq!(output.status.code(), Some(0), "{scenario}: {output:?}");
        let summary = summary(&output.stdout);
        let whole = summary
            .journeys
            .values()
            .all(|journey| journey.completed == journey.begun);
        assert!(whole, "{scenario}: {:?}", summary.journeys);
        summary
    }
}

#[test]
fn built_in_scenarios_go_through_the_demo_api() {
    let shop = Shop::start();
    for (scenario, _) in loadgen::scenario::BUILT_IN {
        let summary = shop.goes_through(scenario, "50");
        let dead_links = summary
            .journeys
            .get("dead-link")
            .map_or(0, |journey| journey.begun);
        assert_eq!(
            summary.status["2xx"] + dead_links,
            summary.sent,
            "{scenario}: {:?}",
            summary.status
        );
    }
}

#[test]
fn the_demo_apis_own_description_makes_a_scenario_that_goes_through_it() {
    let shop = Shop::start();
    let document = flask_api::http::openapi::Document::openapi();
    let document = document.to_json().expect("JSON");
    let skeleton = loadgen::openapi::skeleton(&document).expect("a scenario");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.yaml");
    std::fs::write(&file, &skeleton).expect("it is writable");
    let summary = shop.goes_through(file.to_str().expect("UTF-8"), "400");
    // The seed sends some of them where writing is. An order is placed, found and cancelled in one journey.
    let routes: Vec<_> = summary.routes.keys().map(String::as_str).collect();
    for route in [
        "POST /api/orders",
        "GET /api/orders/{id}",
        "POST /api/orders/{id}/cancel",
        "GET /api/products",
    ] {
        assert!(routes.contains(&route), "{route} in {routes:?}\n{skeleton}");
    }
}
