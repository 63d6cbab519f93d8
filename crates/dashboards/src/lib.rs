//! The dashboards: written once in Rust, rendered to the files that Grafana provisions.
//!
//! - [`model`] is what is in those files, typed; the same types write and read them.
//! - [`query`] makes of a panel's target what is asked of Prometheus, Elasticsearch or Jaeger.
//! - [`Facts`] are what panels show that others decide: objectives, burn rates, the thresholds of alerts, the
//!   names of recorded series.
//! - [`render`] gives the files.
//!
//! No I/O but for reading the facts; who asks the data sources is somebody else's matter.

mod build;
mod error;
mod facts;
mod flask_api;
mod kubernetes;
pub mod model;
mod overview;
pub mod query;
pub mod quiet;
mod slo_dashboard;

pub use error::Error;
pub use facts::{Facts, scrape_interval};
pub use flask_api::UID as FLASK_API;
pub use kubernetes::UID as KUBERNETES;
pub use overview::UID as OVERVIEW;
pub use slo_dashboard::UID as SLO_DASHBOARD;

use model::Dashboard;

/// What all dashboards are tagged with, and find each other by.
pub const TAG: &str = "three-pillars";

/// Where the files stand, below the project's root.
pub const DIRECTORY: &str = "grafana/dashboards";

/// Every dashboard, in the order in which people read them.
///
/// # Errors
/// When a panel shows a series that nothing records, or takes its threshold from an alert that there is not.
pub fn dashboards(facts: &Facts) -> Result<Vec<Dashboard>, Error> {
    let dashboards = vec![
        overview::dashboard(facts)?,
        flask_api::dashboard(facts)?,
        kubernetes::dashboard(facts)?,
        slo_dashboard::dashboard(facts)?,
    ];
    for dashboard in &dashboards {
        facts.check_recordings(dashboard)?;
    }
    Ok(dashboards)
}

/// The files: name and content.
///
/// # Errors
/// As [`dashboards`].
pub fn render(facts: &Facts) -> Result<Vec<(String, String)>, Error> {
    Ok(dashboards(facts)?
        .iter()
        .map(|dashboard| (format!("{}.json", dashboard.uid), text(dashboard)))
        .collect())
}

/// A dashboard as its file has it.
#[must_use]
pub fn text(dashboard: &Dashboard) -> String {
    let json = serde_json::to_string_pretty(dashboard)
        .expect("strings, numbers and maps by strings are always JSON");
    json + "\n"
}
