//! Dashboards and explore, in a real browser, in front of the real components of a lab: what they show is what those say.

use std::{path::Path, time::Duration};

use dashboards::{
    model::{Dashboard, Panel, PanelKind, Query},
    query::{self, Context},
};
use plots::Unit;
use serde_json::{Value, json};
use test_browser::{Browser, Scheme, WIDTHS};

use crate::running::{TestLab, eventually, everything_is_installed, project, text};

/// No page takes so long; a test that waits it out has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What shows values, by panel: numbers as they are written, and the rows of legends.
const SHOWN: &str = r#"[...document.querySelectorAll("section.panel")].map((panel) => ({
    id: Number((panel.querySelector("details.query")?.id ?? "").replace("query-", "")),
    troubles: [...panel.querySelectorAll(".trouble")].map((it) => it.textContent),
    singles: [...panel.querySelectorAll(".plot-stat-value, .plot-gauge-value, .plot-bar strong")].map((it) => it.textContent),
    numbers: [...panel.querySelectorAll("td.plot-number")].map((it) => it.textContent),
    legend: [...panel.querySelectorAll(".plot-legend tbody tr")].map((row) => ({
        name: row.querySelector("th").textContent.replace("■ ", ""),
        last: row.querySelector("td").textContent,
    })),
}))"#;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

struct Viewer {
    lab: TestLab,
    browser: Browser,
    http: reqwest::Client,
}

impl Viewer {
    fn page(&self, path: &str) -> String {
        format!(
            "http://127.0.0.1:{}{path}",
            self.lab.port("console", "http")
        )
    }

    async fn open(&self, path: &str) {
        self.browser.open(&self.page(path)).await;
    }

    async fn text(&self) -> String {
        let text = self.browser.value("document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }

    async fn ask(&self, component: &str, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!(
            "http://127.0.0.1:{}{path}",
            self.lab.port(component, "http")
        );
        let answer = self.http.get(url).query(query).send().await.unwrap();
        answer.json().await.unwrap_or_default()
    }

    /// Series and values that Prometheus itself gives at a time.
    async fn prometheus(&self, expr: &str, at: i64) -> Vec<(Value, f64)> {
        let at = at.to_string();
        let answer = self
            .ask(
                "prometheus",
                "/api/v1/query",
                &[("query", expr), ("time", &at)],
            )
            .await;
        let found = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let values = found.into_iter().filter_map(|it| {
            let value = it["value"][1].as_str()?.parse().ok()?;
            Some((it["metric"].clone(), value))
        });
        values.collect()
    }

    /// The time of the oldest newest sample and the oldest newest evaluation: what is before is settled.
    async fn settled(&self) -> f64 {
        let now = jiff::Timestamp::now().as_second();
        let expr = "min(timestamp(up)) < min(prometheus_rule_group_last_evaluation_timestamp_seconds) or min(prometheus_rule_group_last_evaluation_timestamp_seconds)";
        let found = self.prometheus(expr, now).await;
        found.first().map_or(0.0, |it| it.1)
    }

    /// Nothing went wrong in the browser, it talked to the console only, and the page is usable.
    async fn is_in_order(&self, what: &str) {
        for width in WIDTHS {
            for scheme in [Scheme::Light, Scheme::Dark] {
                self.browser.look(width, scheme).await;
                assert_eq!(self.browser.overflow().await, 0, "{what} at {width} pixels");
                let barriers = self.browser.barriers().await;
                assert!(
                    barriers.is_empty(),
                    "{what} at {width}, {scheme:?}: {barriers:#?}"
                );
            }
        }
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{what}: {complaints:#?}");
        let asked = self.browser.requests().await;
        assert!(!asked.is_empty(), "{what}: the browser told no request");
        let own = self.page("/");
        let others: Vec<&String> = asked.iter().filter(|it| !it.starts_with(&own)).collect();
        assert!(others.is_empty(), "{what} asked elsewhere: {others:?}");
    }
}

pub fn boards() -> Vec<Dashboard> {
    let directory = project().join(dashboards::DIRECTORY);
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap().path());
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "json"));
    let read = |file: &Path| Dashboard::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    files.map(|file| read(&file)).collect()
}

#[test]
fn dashboards_and_explore_show_what_the_back_ends_say() {
    if !everything_is_installed() {
        return;
    }
    let Some(browser) = block_on(Browser::start()) else {
        return;
    };
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let viewer = Viewer { lab, browser, http };
    eventually("a minute of rates", || {
        let expr = "count(rate(flask_requests_total[20s] offset 1m)) > 0";
        let now = jiff::Timestamp::now().as_second();
        !block_on(viewer.prometheus(expr, now)).is_empty()
    });
    block_on(async {
        values_are_those_of_prometheus(&viewer).await;
        every_page_is_in_order(&viewer).await;
        a_trace_is_a_click_away_and_so_is_the_way_back(&viewer).await;
        variables_narrow_what_is_shown(&viewer).await;
        what_is_hostile_is_text(&viewer).await;
        mistakes_are_told_in_words(&viewer).await;
    });
    memory_is_bounded(&viewer);
    block_on(one_that_is_down_shows_where_it_is_asked(&viewer));
}

/// Every number that a panel of Prometheus draws for the end of its range is Prometheus' own answer at that time.
async fn values_are_those_of_prometheus(viewer: &Viewer) {
    // A multiple of every step that five minutes can have, so that ranges end there.
    let to = jiff::Timestamp::now().as_second() / 10 * 10;
    let until = std::time::Instant::now() + PATIENCE;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
    while viewer.settled().await <= to as f64 + 5.0 {
        assert!(
            std::time::Instant::now() < until,
            "Prometheus scrapes nothing"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (from_ms, to_ms) = ((to - 300) * 1000, to * 1000);
    for board in boards() {
        viewer
            .open(&format!(
                "/dashboards/{}?from={from_ms}&to={to_ms}&refresh=",
                board.uid
            ))
            .await;
        let shown = viewer.browser.value(SHOWN).await;
        let interval = Duration::from_secs(5);
        let context = Context::new(from_ms, to_ms, 288, interval).opened(&board);
        let mut compared = 0;
        for panel in board.panels() {
            let found = shown
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["id"] == panel.id);
            let found =
                found.unwrap_or_else(|| panic!("{} has no panel {}", board.uid, panel.title));
            let what = format!("{}, {}", board.uid, panel.title);
            assert_eq!(found["troubles"], json!([]), "{what}");
            compared += compare(viewer, panel, found, &context, to, &what).await;
        }
        assert!(
            compared > 5,
            "{}: only {compared} values were compared",
            board.uid
        );
    }
}

async fn compare(
    viewer: &Viewer,
    panel: &Panel,
    shown: &Value,
    context: &Context,
    to: i64,
    what: &str,
) -> usize {
    let field = panel.field();
    let overridden = panel.field_config.iter().any(|it| !it.overrides.is_empty());
    if !field.mappings.is_empty() || overridden {
        return 0;
    }
    let unit = Unit::parse(field.unit.as_deref().unwrap_or_default());
    let mut compared = 0;
    for target in &panel.targets {
        let Query::Prometheus(asked) = &target.query else {
            continue;
        };
        let expr = query::promql_text(&asked.expr, context).unwrap();
        for (labels, value) in viewer.prometheus(&expr, to).await {
            let text = unit.show(value, field.decimals.map(usize::from));
            let has = |list: &Value| list.as_array().unwrap().iter().any(|it| *it == text);
            let good = match panel.kind {
                PanelKind::Stat | PanelKind::Gauge | PanelKind::Bargauge => has(&shown["singles"]),
                // A table may leave the value out.
                PanelKind::Table => {
                    if shown["numbers"] == json!([]) {
                        continue;
                    }
                    has(&shown["numbers"])
                }
                PanelKind::Timeseries => {
                    let name = named(&asked.legend_format, &labels);
                    let mut rows = shown["legend"].as_array().unwrap().iter();
                    rows.any(|row| row["name"] == name && row["last"] == text)
                }
                _ => continue,
            };
            assert!(
                good,
                "{what}: Prometheus says {text} of {labels} at {to}, shown are {shown:#}\n{expr}"
            );
            compared += 1;
        }
    }
    compared
}

/// The name of a series, by a `legendFormat` of our dashboards.
pub fn named(format: &str, labels: &Value) -> String {
    let mut name = format.to_owned();
    for (label, value) in labels.as_object().unwrap() {
        name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap());
    }
    // A label that is not there is nothing.
    while let (Some(start), Some(end)) = (name.find("{{"), name.find("}}")) {
        name.replace_range(start..end + 2, "");
    }
    name
}

async fn every_page_is_in_order(viewer: &Viewer) {
    let mut paths = [
        "/dashboards",
        "/explore",
        "/explore/logs",
        "/explore/metrics?query=up",
    ]
    .map(String::from)
    .to_vec();
    paths.extend(boards().iter().map(|it| format!("/dashboards/{}", it.uid)));
    for path in paths {
        viewer.open(&path).await;
        viewer.is_in_order(&path).await;
    }
    viewer.browser.look(WIDTHS[1], Scheme::Light).await;
}

async fn a_trace_is_a_click_away_and_so_is_the_way_back(viewer: &Viewer) {
    let browser = &viewer.browser;
    // From a point of the heatmap.
    viewer
        .open("/dashboards/flask-api?from=now-5m&refresh=")
        .await;
    let link = "document.querySelector('.plot-links a').getAttribute('href')";
    let href = browser.value(link).await;
    let id = href
        .as_str()
        .unwrap()
        .strip_prefix("/explore/trace/")
        .unwrap()
        .to_owned();
    // The focus and the key, as people without a mouse do.
    browser
        .value("document.querySelector('.plot-links a').focus()")
        .await;
    browser.press('\u{E007}').await;
    trace_is_shown(viewer, &id).await;
    viewer.is_in_order("a trace").await;
    browser.look(WIDTHS[1], Scheme::Light).await;

    // From there to its lines among all others, and from a line back to the trace.
    viewer
        .open(&format!("/explore/logs?trace={id}&from=now-1h"))
        .await;
    browser
        .wait(
            "a line of the trace",
            "document.querySelector('.plot-lines a.plot-trace') !== null",
            PATIENCE,
        )
        .await;
    browser.click(".plot-lines a.plot-trace").await;
    trace_is_shown(viewer, &id).await;

    // From the logs panel of a dashboard.
    viewer
        .open("/dashboards/overview?from=now-5m&refresh=")
        .await;
    let link = "document.querySelector('.plot-lines a.plot-trace').getAttribute('href')";
    let href = browser.value(link).await;
    browser.click(".plot-lines a.plot-trace").await;
    trace_is_shown(
        viewer,
        href.as_str()
            .unwrap()
            .strip_prefix("/explore/trace/")
            .unwrap(),
    )
    .await;

    // By hand.
    viewer.open("/explore").await;
    browser
        .fill("input[name=id]", &format!(" {} ", id.to_uppercase()))
        .await;
    browser.click("form[action='/explore/trace'] button").await;
    trace_is_shown(viewer, &id).await;
}

/// The page has the spans that Jaeger has, the lines that name it, and its route's metrics.
async fn trace_is_shown(viewer: &Viewer, id: &str) {
    let browser = &viewer.browser;
    let here = format!("location.pathname === '/explore/trace/{id}'");
    browser.wait("the page of the trace", &here, PATIENCE).await;
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = viewer
            .ask("jaeger", &format!("/api/traces/{id}"), &[])
            .await;
        let spans = answer["data"][0]["spans"].as_array().map_or(0, Vec::len);
        let shown = browser
            .value("document.querySelectorAll('.plot-waterfall > li').length")
            .await;
        let lines = browser
            .value("document.querySelectorAll('.plot-lines > li').length")
            .await;
        let metrics = browser
            .value("document.querySelectorAll('section.panel .plot-area').length")
            .await;
        // Spans and lines come in over some seconds: then it is the same page, loaded again.
        if spans > 0 && shown == spans && lines.as_u64() > Some(0) && metrics.as_u64() > Some(1) {
            return;
        }
        let text = viewer.text().await;
        assert!(
            std::time::Instant::now() < until,
            "{id}: {spans} spans in Jaeger; the page shows {text}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        viewer.open(&format!("/explore/trace/{id}")).await;
    }
}

async fn variables_narrow_what_is_shown(viewer: &Viewer) {
    let browser = &viewer.browser;
    viewer
        .open("/dashboards/flask-api?from=now-5m&refresh=")
        .await;
    browser.click("#choice-route > summary").await;
    browser.click("#choice-route input[value='$__all']").await;
    browser
        .click("#choice-route input[value='/api/products']")
        .await;
    browser.click("form.controls > button").await;
    browser
        .wait(
            "one route",
            "location.search.includes('var-route')",
            PATIENCE,
        )
        .await;
    let shown = browser.value(SHOWN).await;
    let by_route = boards()
        .into_iter()
        .find(|it| it.uid == "flask-api")
        .unwrap();
    let panel = by_route
        .panels()
        .find(|it| it.title == "Request rate by route")
        .unwrap();
    let legend = shown
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["id"] == panel.id)
        .unwrap();
    let legend = legend["legend"].as_array().unwrap();
    assert!(!legend.is_empty());
    for row in legend {
        assert_eq!(row["name"], "GET /api/products");
    }
}

async fn what_is_hostile_is_text(viewer: &Viewer) {
    let browser = &viewer.browser;
    let hostile = "<script>window.broken=1</script><img src=x onerror='window.broken=1'>";
    // A label.
    let expr = format!(r#"label_replace(vector(1), "label", "{hostile}", "", "")"#);
    viewer.open("/explore/metrics").await;
    browser.fill("input[name=query]", &expr).await;
    browser
        .click("form[action='/explore/metrics'] button")
        .await;
    browser
        .wait(
            "the value",
            "document.querySelectorAll('td').length > 0",
            PATIENCE,
        )
        .await;
    let cells = "[...document.querySelectorAll('tbody td, tbody th')].map((it) => it.textContent).join('\\n')";
    let cells = browser.value(cells).await;
    assert!(cells.as_str().unwrap().contains(hostile), "{cells}");
    // A log line with every field hostile, where the collector puts them.
    let today = jiff::Timestamp::now().strftime("%Y.%m.%d");
    let document = json!({
        "@timestamp": jiff::Timestamp::now().to_string(), "message": format!("hostileline {hostile}"), "log.level": hostile,
        "service.name": hostile, "error.message": hostile, "trace.id": hostile,
    });
    let url = format!(
        "http://127.0.0.1:{}/flask-logs-{today}/_doc?refresh=true",
        viewer.lab.port("elasticsearch", "http")
    );
    let answer = viewer.http.post(url).json(&document).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{}", answer.text().await.unwrap());
    viewer.open("/explore/logs?text=hostileline").await;
    let text = viewer.text().await;
    assert!(text.contains(hostile), "{text}");
    viewer
        .open(&format!(
            "/explore/logs?text={}",
            "%22%3E%3Cscript%3Ewindow.broken%3D1%3C%2Fscript%3E"
        ))
        .await;
    assert_eq!(browser.value("window.broken === undefined").await, true);
    assert_eq!(
        browser
            .value("document.querySelectorAll('main img, main script').length")
            .await,
        0
    );
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

async fn mistakes_are_told_in_words(viewer: &Viewer) {
    for (path, said) in [
        (
            "/explore/metrics?query=up%7B",
            "parse error: unexpected end of input inside braces",
        ),
        (
            "/explore/metrics?query=up%5B1m%5D",
            "invalid expression type",
        ),
        ("/explore/trace?id=5e0c", "5e0c is not a trace id"),
        (
            "/explore/trace/00000000000000000000000000000001",
            "Jaeger has no trace",
        ),
        ("/explore/logs?from=yesterday", "yesterday is not a time"),
        (
            "/dashboards/overview?from=now&to=now-1h",
            "now-1h is not after now",
        ),
        (
            "/dashboards/no-such-one",
            "There is no dashboard no-such-one",
        ),
    ] {
        viewer.open(path).await;
        let text = viewer.text().await;
        assert!(text.contains(said), "{path}: {text}");
    }
    // A page that says so with its status is no trouble of the browser's.
    viewer.browser.complaints().await;
}

/// What the console has for itself and its share of what it has in common with others: the program and its libraries.
fn memory_is_bounded(viewer: &Viewer) {
    let status = viewer.lab.json(&["status", "--json"]);
    let console = status["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "console");
    let pid = console.unwrap()["pid"].as_u64().unwrap();
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pss = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap();
    let kib: u64 = pss.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(
        kib < 50 * 1024,
        "after all of its pages, the console takes {kib} KiB"
    );
}

/// Its panels say so, and the others are drawn as before.
async fn one_that_is_down_shows_where_it_is_asked(viewer: &Viewer) {
    let status = viewer.lab.json(&["status", "--json"]);
    let jaeger = status["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "jaeger");
    let pid = i32::try_from(jaeger.unwrap()["pid"].as_u64().unwrap()).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually("Jaeger has ended", || {
        let status = viewer.lab.json(&["status", "--json"]);
        let mut all = status["components"].as_array().unwrap().iter();
        all.any(|it| it["name"] == "jaeger" && it["state"] == "failed")
    });
    viewer
        .open("/dashboards/overview?from=now-5m&refresh=")
        .await;
    let shown = viewer.browser.value(SHOWN).await;
    let board = boards()
        .into_iter()
        .find(|it| it.uid == "overview")
        .unwrap();
    let mut told = 0;
    for panel in board.panels() {
        let asks = panel
            .targets
            .iter()
            .any(|it| matches!(it.query, Query::Jaeger(_)));
        let found = shown
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["id"] == panel.id)
            .unwrap();
        let troubles = found["troubles"].as_array().unwrap();
        assert_eq!(!troubles.is_empty(), asks, "{}: {troubles:?}", panel.title);
        if asks {
            assert!(
                troubles[0]
                    .as_str()
                    .unwrap()
                    .contains("Jaeger does not answer"),
                "{troubles:?}"
            );
            told += 1;
        }
    }
    assert!(told > 0);
    viewer
        .open("/explore/trace/5e0c0d5c7a0b4e0f9a3f5d2b1c4e6f70")
        .await;
    let text = viewer.text().await;
    assert!(
        text.contains("Jaeger does not answer") && text.contains("No log line names this trace"),
        "{text}"
    );
}
