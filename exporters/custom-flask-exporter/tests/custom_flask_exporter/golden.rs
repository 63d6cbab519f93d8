//! `/metrics` of a known database, word for word, and what promtool says to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stack::{Installer, Layout, table};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::Running;
use crate::shop::{Shop, sql};

/// Set to write the file anew; look at the difference before keeping it.
const UPDATE: &str = "UPDATE_GOLDEN";

/// What `/metrics` shows of a shop that everything is known of.
async fn exposition() -> String {
    let api = MockServer::start().await;
    for (at, body) in [
        ("/readyz", ""),
        (
            "/api/products",
            r#"{"items": [{}, {}], "next_cursor": null}"#,
        ),
    ] {
        Mock::given(path(at))
            .respond_with(ResponseTemplate::new(200).set_body_string(body))
            .mount(&api)
            .await;
    }
    let (shop, mut db) = Shop::open().await;
    sql(
        &mut db,
        "DELETE FROM products WHERE id > 3;
         UPDATE products SET stock = id * 10;
         INSERT INTO orders (status, failure, total_cents, created_at, updated_at) VALUES
             ('paid', NULL, 1290, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z'),
             ('paid', NULL, 2790, '2026-01-01T00:00:01.000Z', '2026-01-01T00:00:01.000Z'),
             ('cancelled', NULL, 650, '2026-01-01T00:00:02.000Z', '2026-01-01T00:00:02.000Z'),
             ('failed', 'payment_declined', 480, '2026-01-01T00:00:03.000Z', '2026-01-01T00:00:03.000Z'),
             ('pending', NULL, 5900, '2026-01-01T00:00:04.000Z', '2026-01-01T00:00:04.000Z')",
    )
    .await;
    Running::start(&shop, &["--api-url", &api.uri()])
        .scrape()
        .await
        .0
}

/// Hides what differs from run to run, machine to machine or release to release.
fn masked(text: &str) -> String {
    let volatile = [
        "shop_collector_duration_seconds",
        "shop_database_size_bytes",
        "shop_oldest_pending_order_age_seconds",
    ];
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    let mut masked = String::new();
    for line in text.lines() {
        match line.rsplit_once(' ') {
            Some((series, _)) if volatile.iter().any(|name| series.starts_with(name)) => {
                masked.push_str(series);
                masked.push_str(" <volatile>");
            }
            _ => masked.push_str(&line.replace(version, "version=\"<version>\"")),
        }
        masked.push('\n');
    }
    masked
}

#[tokio::test]
async fn the_metrics_are_those_of_the_golden_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/custom_flask_exporter/golden/metrics.txt");
    let actual = masked(&exposition().await);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&golden, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert!(
        actual == expected,
        "/metrics differs from {}; if that is meant, run with {UPDATE}=1 and read the diff\n{actual}",
        golden.display()
    );
}

#[tokio::test]
async fn promtool_has_nothing_to_say_to_the_metrics() {
    let Some(promtool) = promtool() else { return };
    let text = exposition().await;
    check_metrics(&promtool, &text);
    // The check itself must be able to fail.
    let (clean, complaint) = run(&promtool, &["check", "metrics"], "shop_lazy_total 1\n");
    assert!(!clean, "{complaint}");
}

/// Lints metrics as Prometheus' own tool does.
#[track_caller]
pub fn check_metrics(promtool: &Path, text: &str) {
    let (clean, complaint) = run(promtool, &["check", "metrics"], text);
    assert!(clean && complaint.is_empty(), "{complaint}\n{text}");
}

/// Runs promtool: whether it was content, and what it said.
pub fn run(promtool: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(promtool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// promtool, as the lab installs it with Prometheus. In CI it has to be there.
pub fn promtool() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .map(|cache| cache.join("three-pillars"));
    let installed = cache.and_then(|cache| {
        let layout = Layout::new(&root, &std::env::temp_dir(), &cache).unwrap();
        let prometheus = table::find("prometheus").unwrap();
        let installed = Installer::new(layout).find(prometheus).unwrap()?;
        Some(installed.home.join("usr/bin/promtool"))
    });
    if installed.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "promtool is missing: `cargo run -- install prometheus`"
        );
        println!("skipped: no promtool; `cargo run -- install prometheus` gets it");
    }
    installed
}
