//! The pictures of `docs/dashboard-screenshots`: `just screenshots`.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use test_browser::{Browser, Scheme, WIDTHS};

use crate::{
    playbook::query,
    running::{TestLab, eventually, project, text},
};

/// A page that is longer becomes several pictures.
const HIGHEST: u64 = 1700;

/// What a repository can carry for each.
const LARGEST: usize = 300_000;

/// How old rates have to be, in seconds: what is drawn, `from=now-5m` of each page, and the minute that the first of them lacks.
const DRAWN: f64 = 360.0;

/// What there is to see, and when it begins.
const FAULT: &[&str] = &[
    "chaos",
    "start",
    "errors",
    "--probability",
    "0.3",
    "--for",
    "1m",
];
const FAULT_AT: f64 = 150.0;

/// How old the oldest rate is, and how many requests were counted.
const OLDEST: &str = r#"time() - min_over_time(timestamp(service:flask_requests:rate1m{service="flask-api"})[10m:5s])"#;
const REQUESTS: &str = "sum(flask_requests_total)";

const README: &str = "\
# Dashboards and console

Drawn by the console from the Grafana files (not by Grafana). `just screenshots` makes them anew: from the lab whose console `CONSOLE_URL`
names, or from one that it starts and ends, with steady traffic, of which for one minute three requests in ten fail.

";

/// Name and path of each page.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<(String, String)> = [
        ("console-overview", "/"),
        ("console-dashboards", "/dashboards"),
        ("console-explore", "/explore"),
        ("console-logs", "/explore/logs"),
        ("console-labs", "/labs"),
        ("console-lab", "/labs/01-three-pillars"),
        (
            "console-promql",
            "/explore/metrics?query=sum%20by%20(route)%20(rate(flask_requests_total%5B1m%5D))&from=now-5m",
        ),
        ("console-break", "/break"),
        ("console-inbox", "/inbox"),
    ]
    .map(|(name, path)| (name.to_owned(), path.to_owned()))
    .into();
    let files = fs::read_dir(project().join(dashboards::DIRECTORY)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in files
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "json"))
    {
        let uid = file.file_stem().unwrap().to_str().unwrap();
        let path = format!("/dashboards/{uid}?from=now-5m&refresh=");
        pages.push((format!("dashboard-{uid}"), path));
    }
    pages
}

#[test]
#[ignore = "writes into docs/; `just screenshots` runs it"]
fn screenshots() {
    let given = std::env::var("CONSOLE_URL").ok();
    let mut lab = TestLab::new();
    let console = given.clone().unwrap_or_else(|| {
        let up = lab.up(&[]);
        assert_eq!(up.status.code(), Some(0), "{}", text(&up));
        format!("http://127.0.0.1:{}", lab.port("console", "http"))
    });
    if given.is_none() {
        wait_until_there_is_something_to_see(&lab);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let browser = Browser::start().await.expect("Chromium: `lab install chromium axe-core`");
        let directory = project().join("docs/dashboard-screenshots");
        fs::create_dir_all(&directory).unwrap();
        for file in fs::read_dir(&directory).unwrap().map(|it| it.unwrap().path()) {
            if file.extension().is_some_and(|it| it == "png") {
                fs::remove_file(file).unwrap();
            }
        }
        browser.look(WIDTHS[1], Scheme::Light).await;
        let mut readme = README.to_owned();
        let mut pages = pages();
        browser.open(&format!("{console}/explore")).await;
        let order = "[...document.querySelectorAll('.plot-table tr')].find((it) => it.innerText.includes('POST /api/orders\\t'))?.querySelector('a').getAttribute('href')";
        if let Some(trace) = browser.value(order).await.as_str() {
            pages.push(("console-trace".into(), trace.into()));
        }
        for (name, path) in pages {
            browser.open(&format!("{console}{path}")).await;
            let mut pictures = taken(&browser, &name).await;
            if name == "console-inbox" {
                // The newest messages are the first.
                pictures.truncate(1);
            }
            for (file, picture) in pictures {
                assert!(picture.len() < LARGEST, "{file} has {} bytes", picture.len());
                fs::write(directory.join(&file), picture).unwrap();
                readme += &format!("![{name}]({file})\n\n");
            }
        }
        let dark = format!("{console}/dashboards/overview?from=now-5m&refresh=");
        browser.look(WIDTHS[1], Scheme::Dark).await;
        browser.open(&dark).await;
        let (_, picture) = taken(&browser, "dashboard-overview-dark").await.remove(0);
        fs::write(directory.join("dashboard-overview-dark.png"), picture).unwrap();
        browser.look(WIDTHS[0], Scheme::Light).await;
        browser.open(&dark).await;
        let (_, picture) = taken(&browser, "dashboard-overview-phone").await.remove(0);
        fs::write(directory.join("dashboard-overview-phone.png"), picture).unwrap();
        readme += "![dark](dashboard-overview-dark.png)\n\n![on a phone](dashboard-overview-phone.png)\n";
        fs::write(directory.join("README.md"), readme).unwrap();
    });
    if given.is_none() {
        eventually("the lab ends", || lab.run(&["down"]).status.success());
    }
}

/// Prometheus has rates of the whole time that is drawn, and somebody was told of the fault; says how far it is meanwhile.
fn wait_until_there_is_something_to_see(lab: &TestLab) {
    let value = |expr: &str| -> f64 {
        let answer = query(lab, expr);
        let value = answer["data"]["result"][0]["value"][1].as_str();
        value.map_or(0.0, |it| it.parse().unwrap())
    };
    let messages = || {
        lab.json(&["inbox", "--json"])["messages"]
            .as_array()
            .unwrap()
            .len()
    };
    let started = Instant::now();
    let (mut told, mut broken) = (0.0, false);
    loop {
        let oldest = value(OLDEST);
        if oldest >= told {
            let (requests, messages) = (value(REQUESTS), messages());
            // Not a print macro: who waits for minutes wants to see it, with and without `--nocapture`.
            let line = format!(
                "{oldest:.0} of {DRAWN} s to draw, {requests} requests counted, {messages} messages"
            );
            writeln!(std::io::stderr(), "{line}").unwrap();
            told = oldest + 30.0;
        }
        if oldest >= FAULT_AT && !broken {
            let fault = lab.run(FAULT);
            assert!(fault.status.success(), "{}", text(&fault));
            broken = true;
        }
        if oldest >= DRAWN && messages() > 0 {
            return;
        }
        let limit = Duration::from_secs_f64(2.0 * DRAWN);
        assert!(
            started.elapsed() < limit,
            "rates go back {oldest} s, {} messages",
            messages()
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The page, in pieces from top to bottom.
async fn taken(browser: &Browser, name: &str) -> Vec<(String, Vec<u8>)> {
    let number = async |expression: &str| browser.value(expression).await.as_u64().unwrap();
    let width = number("window.innerWidth").await;
    // A piece fits into the window: beyond it, frames of another origin, which mails are, are not painted.
    let size =
        json!({ "width": width, "height": HIGHEST, "deviceScaleFactor": 1, "mobile": false });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", size)
        .await;
    let height = number("document.documentElement.offsetHeight").await;
    let count = height.div_ceil(HIGHEST).max(1);
    let mut pictures = Vec::new();
    for n in 0..count {
        let (y, height) = (height * n / count, height.div_ceil(count));
        browser.value(&format!("window.scrollTo(0, {y})")).await;
        let clip = json!({ "x": 0, "y": y, "width": width, "height": height, "scale": 1 });
        let how = json!({ "format": "png", "clip": clip });
        let answer = browser.devtools("Page.captureScreenshot", how).await;
        let picture = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        let file = match n {
            0 => format!("{name}.png"),
            n => format!("{name}-{}.png", n + 1),
        };
        pictures.push((file, picture));
    }
    pictures
}
