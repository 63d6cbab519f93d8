//! From Rust, and the files that own the facts, to the committed JSON.

use std::path::Path;

use dashboards::{Facts, model::Dashboard};

use crate::project::{committed, files, read, root};

#[test]
fn what_is_committed_is_what_is_rendered() {
    let rendered = dashboards::render(&Facts::read(root()).unwrap()).unwrap();
    for (name, text) in &rendered {
        let file = format!("{}/{name}", dashboards::DIRECTORY);
        assert!(
            read(&file) == *text,
            "{file} is not what crates/dashboards says; run `lab dashboards render`"
        );
    }
    assert_eq!(rendered.len(), files(dashboards::DIRECTORY, "json").len());
}

#[test]
fn nothing_is_lost_by_reading() {
    for dashboard in committed() {
        let again = Dashboard::parse(&dashboards::text(&dashboard)).unwrap();
        assert_eq!(again, dashboard);
        let file = format!("{}/{}.json", dashboards::DIRECTORY, dashboard.uid);
        assert!(dashboards::text(&dashboard) == read(&file), "{file}");
    }
}

/// A project with these files of Prometheus' changed.
fn changed(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let target = |file: &str| dir.path().join(file);
    std::fs::create_dir_all(target("prometheus/slos")).unwrap();
    for name in [
        "prometheus/alerts.yml",
        "prometheus/recording-rules.yml",
        "prometheus/prometheus.yml",
        "prometheus/slos/flask-api.yaml",
    ] {
        let text = read(name);
        let text = if name == file {
            assert!(text.contains(from), "{file} has no {from}");
            text.replace(from, to)
        } else {
            text
        };
        std::fs::write(target(name), text).unwrap();
    }
    dir
}

fn render(root: &Path) -> Result<String, String> {
    let facts = Facts::read(root).map_err(|error| error.to_string())?;
    let files = dashboards::render(&facts).map_err(|error| error.to_string())?;
    Ok(files.into_iter().map(|(_, text)| text).collect())
}

#[test]
fn thresholds_and_objectives_come_from_the_files_that_own_them() {
    let dir = changed(
        "prometheus/alerts.yml",
        "process_open_fds / process_max_fds > 0.8",
        "process_open_fds / process_max_fds > 0.8",
    );
    let before = render(dir.path()).unwrap();
    let dir = changed(
        "prometheus/alerts.yml",
        r#"{status=~"5.."}[5m]) > 0.05"#,
        r#"{status=~"5.."}[5m]) > 0.0625"#,
    );
    let after = render(dir.path()).unwrap();
    assert!(!before.contains("\"value\": 0.0625") && after.contains("\"value\": 0.0625"));
    let dir = changed(
        "prometheus/slos/flask-api.yaml",
        "objective: 99.9",
        "objective: 99.5",
    );
    let after = render(dir.path()).unwrap();
    assert!(!before.contains("\"value\": 0.995") && after.contains("\"value\": 0.995"));
    let dir = changed(
        "prometheus/slos/flask-api.yaml",
        r#"le="0.25""#,
        r#"le="0.4""#,
    );
    let after = render(dir.path()).unwrap();
    assert!(!before.contains("\"value\": 0.4\n") && after.contains("\"value\": 0.4\n"));
}

#[test]
fn what_a_dashboard_shows_and_nobody_makes_is_an_error() {
    let error = |file, from, to| render(changed(file, from, to).path()).unwrap_err();
    assert_eq!(
        error(
            "prometheus/alerts.yml",
            "alert: HighLatency",
            "alert: SlowAnswers"
        ),
        "prometheus/alerts.yml has no alert HighLatency that compares with a number; a dashboard takes its threshold from there"
    );
    let text = error(
        "prometheus/recording-rules.yml",
        "record: service:flask_requests:rate1m",
        "record: service:flask_requests:rate2m",
    );
    assert_eq!(
        text,
        "panel `Requests` of overview shows service:flask_requests:rate1m, which neither prometheus/recording-rules.yml nor an objective records"
    );
    let text = error(
        "prometheus/slos/flask-api.yaml",
        "name: latency",
        "name: speed",
    );
    assert!(text.contains("no objective is called latency"), "{text}");
    let text = error("prometheus/prometheus.yml", "scrape_interval:", "interval:");
    assert!(
        text.starts_with("prometheus/prometheus.yml: ") && text.contains("scrape_interval"),
        "{text}"
    );
    let empty = tempfile::tempdir().unwrap();
    let text = render(empty.path()).unwrap_err();
    assert!(
        text.starts_with("prometheus/recording-rules.yml: "),
        "{text}"
    );
}
