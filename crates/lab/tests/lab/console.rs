//! The console of a real lab, looked at with a real Chromium.

use std::{collections::HashSet, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use test_browser::{Browser, Scheme, WIDTHS};

use crate::running::{TestLab, everything_is_installed, text};

/// Long enough for an alert on any machine.
const PATIENCE: Duration = Duration::from_secs(180);
const TABULATOR: char = '\u{E004}';
const ENTER: char = '\u{E007}';

/// Every page that people come to from the navigation.
const PAGES: [&str; 7] = [
    "/",
    "/dashboards",
    "/explore",
    "/break",
    "/labs",
    "/inbox",
    "/docs",
];

fn address(lab: &TestLab) -> String {
    format!("http://127.0.0.1:{}", lab.port("console", "http"))
}

/// Nobody is shut out of the page that is open, whatever its width and colours, and nothing is wider than it.
async fn assert_usable(browser: &Browser, page: &str) {
    for width in WIDTHS {
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.look(width, scheme).await;
            let barriers = browser.barriers().await;
            assert_eq!(barriers, [] as [&str; 0], "{page} at {width}, {scheme:?}");
            assert_eq!(browser.overflow().await, 0, "{page} at {width}");
        }
    }
}

/// The browser has complained of nothing, and has asked for nothing but what the console serves.
async fn assert_quiet(browser: &Browser, base: &str, page: &str) {
    assert_eq!(browser.complaints().await, [] as [&str; 0], "{page}");
    let requests = browser.requests().await;
    let elsewhere: Vec<_> = requests
        .iter()
        .filter(|it| !it.starts_with(&format!("{base}/")))
        .collect();
    assert!(elsewhere.is_empty(), "{page} asks for {elsewhere:?}");
    assert!(!requests.is_empty(), "{page} was not asked for");
}

/// Goes from the top of the page to an entry of the navigation with the tabulator alone.
async fn walk_to(browser: &Browser, name: &str) {
    browser.value("document.activeElement.blur()").await;
    let mut passed = Vec::new();
    for _ in 0..12 {
        browser.press(TABULATOR).await;
        let here = browser.value("document.activeElement.innerText").await;
        if here == name {
            let outline = "getComputedStyle(document.activeElement).outlineStyle";
            assert_ne!(browser.value(outline).await, "none", "the focus is seen");
            return;
        }
        passed.push(here);
    }
    panic!("{name} is not reached, only {passed:?}");
}

/// Nothing that slipped into a page would run: no inline script or style, and nobody else's.
async fn assert_locked(base: &str, page: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{base}{page}")).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.contains("default-src 'self'") && !policy.contains("unsafe"),
        "{page}: {policy}"
    );
}

async fn asked(url: &str, query: &[(&str, &str)]) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).query(query).send().await.unwrap();
    answer.json().await.unwrap()
}

/// The figures of the overview are those of Prometheus at the time of the page.
async fn assert_figures(lab: &TestLab, browser: &Browser) {
    let base = format!(
        "http://127.0.0.1:{}/api/v1/query",
        lab.port("prometheus", "http")
    );
    let queries = [
        (
            "rate",
            r#"service:flask_requests:rate1m{service="flask-api"}"#,
        ),
        (
            "errors",
            r#"service:flask_requests_errors:ratio_rate1m{service="flask-api"}"#,
        ),
        (
            "p95",
            r#"service:flask_http_request_duration_seconds:p95_rate1m{service="flask-api"}"#,
        ),
        (
            "budget-availability",
            r#"slo:period_error_budget_remaining:ratio{sloth_slo="availability"}"#,
        ),
        (
            "budget-latency",
            r#"slo:period_error_budget_remaining:ratio{sloth_slo="latency"}"#,
        ),
    ];
    let mut last = String::new();
    // A rule that is evaluated while the page is made has a sample for its time afterwards: the next page is looked at then.
    for _ in 0..5 {
        browser.open(&address(lab)).await;
        let at = browser
            .value("document.querySelector('[data-at]').dataset.at")
            .await;
        let at = at.as_str().unwrap();
        let mut same = true;
        for (figure, query) in queries {
            let shown = format!("document.querySelector('[data-figure={figure}]')?.dataset.value");
            let shown = browser.value(&shown).await;
            let truth = asked(&base, &[("query", query), ("time", at)]).await;
            let truth = truth["data"]["result"][0]["value"][1]
                .as_str()
                .unwrap()
                .to_owned();
            let equal = shown.as_str().is_some_and(|shown| {
                shown.parse::<f64>().unwrap() == truth.parse::<f64>().unwrap()
            });
            if !equal {
                last = format!("{figure} at {at}: the page shows {shown}, Prometheus {truth}");
                same = false;
            }
        }
        if same {
            return;
        }
    }
    panic!("{last}");
}

/// Process ids of a process' children.
fn children(pid: u64) -> Vec<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| {
            let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u64>>()
        })
        .collect()
}

#[actix_web::test]
async fn people_see_what_is_and_break_it_with_a_click() {
    if !everything_is_installed() {
        return;
    }
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert!(up.status.success(), "{}", text(&up));
    let base = address(&lab);
    let told = text(&lab.run(&["console"]));
    assert_eq!(told.trim_end(), format!("{base}/"));

    browser.open(&base).await;
    let figures = "['rate', 'errors', 'p95', 'budget-availability', 'budget-latency']\
        .every((it) => document.querySelector(`[data-figure=${it}][data-value]`))";
    browser
        .wait("every figure is there", figures, PATIENCE)
        .await;
    assert_figures(&lab, &browser).await;
    let ready = "[...document.querySelectorAll('[data-component]')].filter((it) => it.innerText.startsWith('ready')).length";
    let status = lab.json(&["status", "--json"]);
    let components = status["components"].as_array().unwrap();
    let running: Vec<_> = components
        .iter()
        .filter(|it| it["state"] == "ready")
        .map(|it| &it["name"])
        .collect();
    assert_eq!(browser.value(ready).await, running.len());
    let on_call = browser
        .value("document.querySelector('[data-on-call=primary] strong').innerText")
        .await;
    let who = lab.json(&["oncall", "who", "--json"]);
    assert!(who.to_string().contains(on_call.as_str().unwrap()), "{who}");

    for page in PAGES {
        browser.open(&format!("{base}{page}")).await;
        assert_usable(&browser, page).await;
        assert_quiet(&browser, &base, page).await;
        assert_locked(&base, page).await;
    }
    for width in WIDTHS {
        browser.look(width, Scheme::Light).await;
        browser.open(&base).await;
        walk_to(&browser, "Break things").await;
        browser.press(ENTER).await;
        browser
            .wait(
                "the link is followed",
                "location.pathname === '/break'",
                PATIENCE,
            )
            .await;
    }

    // One click, and every request fails.
    browser.click("#errors-fault summary").await;
    browser.fill("#errors-probability", "1").await;
    browser.fill("#errors-for", "10m").await;
    browser.click("#errors-start").await;
    let active = "document.querySelectorAll('#active-now tbody tr').length === 2";
    browser
        .wait("the fault is active in both replicas", active, PATIENCE)
        .await;
    let faults = lab.json(&["chaos", "list", "--json"]);
    assert_eq!(faults["active"].as_array().unwrap().len(), 2, "{faults}");
    assert_usable(&browser, "a fault").await;
    let fires = "[...document.querySelectorAll('#alerts-now [data-alert=AvailabilityBudgetBurn]')].some((it) => it.innerText.startsWith('firing'))";
    browser
        .wait("the alert fires on the page", fires, PATIENCE)
        .await;
    let heard =
        "document.querySelector('#messages-now').innerText.includes('AvailabilityBudgetBurn')";
    browser.wait("somebody is told", heard, PATIENCE).await;
    // Its fast burn silences its slow one: two series of one alert, of which the page tells once, with all who heard of it.
    for part in ["slack-shop by slack", "by pagerduty", "1 silenced"] {
        let told = format!(
            "document.querySelector('#alerts-now [data-alert=AvailabilityBudgetBurn]')?.innerText.includes('{part}') === true"
        );
        browser.wait(part, &told, PATIENCE).await;
    }
    let names =
        "[...document.querySelectorAll('#alerts-now [data-alert]')].map((it) => it.dataset.alert)";
    let names = browser.value(names).await;
    let names = names.as_array().unwrap();
    let distinct: HashSet<_> = names.iter().map(Value::to_string).collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
    assert_usable(&browser, "alerts").await;
    for _ in 0..2 {
        browser.click("#active-now tbody tr button").await;
    }
    let mended = "document.querySelector('#active-now').innerText.includes('Nothing is broken')";
    browser.wait("the fault is stopped", mended, PATIENCE).await;
    let faults = lab.json(&["chaos", "list", "--json"]);
    assert_eq!(faults["active"], serde_json::json!([]));

    // A lab is checked by a click: nothing is done yet, and the page says what.
    browser.open(&format!("{base}/labs")).await;
    browser.click("[data-lab='1'] a").await;
    let text =
        "document.querySelector('h1')?.innerText.startsWith('Understand observability') === true";
    browser.wait("the lab's text", text, PATIENCE).await;
    assert_usable(&browser, "a lab").await;
    assert_quiet(&browser, &base, "a lab").await;
    browser.click("#start-check").await;
    let open = "document.querySelectorAll('#check-now li').length === 4 && document.querySelector('#check-now').innerText.includes('0 of 4 steps')";
    browser.wait("its steps are open", open, PATIENCE).await;
    assert_usable(&browser, "a checked lab").await;
    browser.open(&format!("{base}/break")).await;
    let listed = "document.querySelector(\"[data-lab='1']\").innerText.startsWith('0 of 4 steps')";
    browser
        .wait("it is listed as begun", listed, PATIENCE)
        .await;

    // What is asked for wrongly is explained, and not done.
    browser.click("#errors-fault summary").await;
    browser.fill("#errors-probability", "7").await;
    browser.click("#errors-start").await;
    let refused =
        "document.querySelector('[role=alert]')?.innerText.includes('probability') === true";
    browser
        .wait("a wrong value is explained", refused, PATIENCE)
        .await;
    // Where a message leads to, there is something: without Grafana the console's own drawing of its dashboard.
    if running.iter().all(|name| **name != "grafana") {
        for (link, heading) in [
            ("Runbook", "Alerting playbook"),
            ("Dashboard", "SLO Dashboard"),
        ] {
            let messages = format!("{base}/inbox?channel=slack&alert=AvailabilityBudgetBurn");
            browser.open(&messages).await;
            let follow = format!(
                "[...document.querySelectorAll('.actions a')].find((it) => it.innerText === '{link}').click() === undefined"
            );
            browser.value(&follow).await;
            let there = format!(
                "location.origin === '{base}' && document.querySelector('h1')?.innerText === '{heading}'"
            );
            browser.wait(link, &there, PATIENCE).await;
        }
    }
    // The browser says of the refused form that it was refused.
    browser.complaints().await;
    browser.requests().await;

    // A back end that dies is a sentence, and the rest goes on.
    let pid = components
        .iter()
        .find(|it| it["name"] == "prometheus")
        .unwrap()["pid"]
        .as_i64();
    kill(
        Pid::from_raw(pid.unwrap().try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    browser.open(&base).await;
    let failed = "document.querySelector('[data-component=prometheus]').innerText.startsWith('failed')\
        && document.body.innerText.includes('Prometheus does not answer')";
    browser
        .wait("a dead back end is seen", failed, PATIENCE)
        .await;
    for page in PAGES {
        browser.open(&format!("{base}{page}")).await;
        assert_usable(&browser, page).await;
        assert_quiet(&browser, &base, page).await;
    }
}

#[actix_web::test]
async fn what_is_left_out_is_said_and_a_drill_is_watched() {
    if !everything_is_installed() {
        return;
    }
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut lab = TestLab::new();
    let left_out = [
        "jaeger",
        "elasticsearch",
        "otelcol",
        "cadvisor",
        "node_exporter",
    ];
    let up = lab.up(&left_out.map(|name| ["--without", name]).concat());
    assert!(up.status.success(), "{}", text(&up));
    let base = address(&lab);
    for page in PAGES {
        browser.open(&format!("{base}{page}")).await;
        assert_usable(&browser, page).await;
        assert_quiet(&browser, &base, page).await;
    }

    browser.open(&format!("{base}/break")).await;
    let chosen = "document.querySelector('#alert').value = 'HighErrorRate'";
    browser.value(chosen).await;
    browser.click("#start-drill").await;
    for event in ["fault", "pending", "firing", "told"] {
        let seen = format!("document.querySelector('#drill-now .{event}') !== null");
        browser.wait(event, &seen, PATIENCE).await;
    }
    assert_usable(&browser, "a drill").await;
    // One at a time.
    browser.click("#start-drill").await;
    let refused =
        "document.querySelector('[role=alert]')?.innerText.includes('one at a time') === true";
    browser
        .wait("a second drill is refused", refused, PATIENCE)
        .await;
    browser.open(&format!("{base}/break")).await;
    browser.click("#stop-drill").await;
    let stopped = "document.querySelector('#drill-now').innerText.includes('the lab is mended')";
    browser
        .wait("the drill is stopped", stopped, PATIENCE)
        .await;
    assert!(!lab.data.path().join("drill.json").exists());
    let faults = lab.json(&["chaos", "list", "--json"]);
    assert_eq!(faults["active"], serde_json::json!([]));

    // Nor does it outlive the lab.
    browser.value(chosen).await;
    browser.click("#start-drill").await;
    let fault = "document.querySelector('#drill-now .fault') !== null";
    browser.wait("the next drill begins", fault, PATIENCE).await;
    let mut processes = lab.processes();
    let status = lab.json(&["status", "--json"]);
    let components = status["components"].as_array().unwrap();
    let console = components.iter().find(|it| it["name"] == "console");
    let drill = children(console.unwrap()["pid"].as_u64().unwrap());
    assert_eq!(drill.len(), 1, "the drill is the console's child");
    processes.extend(drill);
    assert!(lab.run(&["down"]).status.success());
    lab.assert_gone(&processes);
}
