//! The exporter as Prometheus sees it: a real server, a real SQLite file made by the shop's own
//! migrations.

#![cfg(test)]

mod api;
mod document;
mod exposition;
mod golden;
mod postgres;
mod probing;
mod process;
mod shop;
mod values;
mod weather;
mod web;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use custom_flask_exporter::Args;
use custom_flask_exporter::server::Setup;
use prometheus::Registry;
use shop::Shop;
use tokio::sync::oneshot;

/// How long a test waits for what must happen "in time". No machine is this slow, so a test that
/// gets here has found a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// An exporter that serves on a free port until dropped.
struct Running {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Exports `shop`, with further arguments as on the command line.
    fn start(shop: &Shop, arguments: &[&str]) -> Self {
        Self::start_at(&shop.url(), arguments)
    }

    fn start_at(database_url: &str, arguments: &[&str]) -> Self {
        let fixed = [
            "custom-flask-exporter",
            "--listen=127.0.0.1:0",
            "--database-url",
            database_url,
        ];
        let args = Args::try_parse_from(fixed.iter().chain(arguments)).unwrap();
        let setup = Setup::check(&args, Registry::new()).unwrap();
        let exporter = setup.bind().unwrap();
        let address = exporter.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = exporter
            .serve_until(async {
                let _ = stopped.await;
            })
            .unwrap();
        tokio::spawn(server);
        Self {
            address,
            _stop: stop,
        }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(path).send().await.unwrap()
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .get(format!("http://{}{path}", self.address))
            .timeout(WATCHDOG)
    }

    /// Scrapes once, as Prometheus does when it waits for `timeout`.
    async fn scrape_with(&self, timeout: &str) -> Scrape {
        let response = self
            .request("/metrics")
            .header("X-Prometheus-Scrape-Timeout-Seconds", timeout)
            .send()
            .await
            .expect("an answer long before the watchdog");
        assert_eq!(response.status(), 200);
        Scrape(response.text().await.unwrap())
    }

    async fn scrape(&self) -> Scrape {
        self.scrape_with("30").await
    }
}

/// The text of one scrape.
struct Scrape(String);

impl Scrape {
    /// Value of a series, written as it is exposed: `shop_orders{status="paid"}`.
    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        self.find(series)
            .unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }

    fn find(&self, series: &str) -> Option<f64> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map(|value| value.parse().unwrap())
    }

    /// Values of all series of a metric.
    fn values(&self, metric: &str) -> Vec<f64> {
        self.0
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect()
    }

    #[track_caller]
    fn success(&self, collector: &str) -> f64 {
        self.value(&format!(
            "shop_collector_success{{collector=\"{collector}\"}}"
        ))
    }

    #[track_caller]
    fn stock(&self, product: i64) -> f64 {
        self.value(&format!("shop_product_stock{{product_id=\"{product}\"}}"))
    }

    #[track_caller]
    fn orders(&self, status: &str) -> f64 {
        self.value(&format!("shop_orders{{status=\"{status}\"}}"))
    }
}
