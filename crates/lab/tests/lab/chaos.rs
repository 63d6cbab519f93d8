//! Faults in a lab of our own programs: started, seen, stopped, refused.

use serde_json::{Value, json};
use service::Fault;

use crate::refusals::{OURS_ONLY, refused};
use crate::running::{TestLab, eventually, text};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");

fn get(lab: &TestLab, component: &str, port: &str, path: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{path}", lab.port(component, port));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

fn products(lab: &TestLab, replica: &str) -> u16 {
    get(lab, replica, "http", "/api/products").0
}

fn is_active(lab: &TestLab, component: &str, prefix: &str, fault: &str) -> bool {
    let (_, page) = get(lab, component, "admin", "/metrics");
    let series = format!("{prefix}_chaos_active{{fault=\"{fault}\"}} ");
    let line = page.lines().find(|line| line.starts_with(&series));
    line.unwrap_or_else(|| panic!("no {series}in {page}"))
        .ends_with(" 1")
}

fn activities(lab: &TestLab) -> Vec<(String, String)> {
    let report = lab.json(&["chaos", "list", "--json"]);
    let active = report["active"].as_array().unwrap().iter();
    let text = |activity: &Value, key: &str| activity[key].as_str().unwrap().to_owned();
    active
        .map(|activity| (text(activity, "component"), text(activity, "fault")))
        .collect()
}

#[test]
fn faults_are_started_seen_and_stopped() {
    let mut lab = TestLab::new();
    refused(
        &lab.run(&["chaos", "start", "errors"]),
        2,
        &["no lab runs on", "cargo run"],
    );
    let list = lab.run(&["chaos", "list"]);
    assert_eq!(list.status.code(), Some(0), "{}", text(&list));
    for part in ["errors", "latency", "no lab runs here"] {
        assert!(text(&list).contains(part), "{part}");
    }

    let up = lab.up(OURS_ONLY);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    use std::os::unix::fs::PermissionsExt as _;
    let token = lab.data.path().join("chaos-token");
    let mode = std::fs::metadata(&token).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the secret is its user's alone");

    // A total outage of one replica.
    let start = ["chaos", "start", "errors", "--probability", "1"];
    let started = lab.json(&[&start[..], &["--replica", "2", "--for", "5m", "--json"]].concat());
    assert_eq!(started["fault"], "errors");
    assert_eq!(started["started"][0]["component"], "flask-api-2");
    assert_eq!(
        started["started"][0]["active"]["settings"],
        json!({"for": "300s", "probability": 1.0, "status": 500})
    );
    assert_eq!(products(&lab, "flask-api-1"), 200);
    assert_eq!(products(&lab, "flask-api-2"), 500);
    assert!(is_active(&lab, "flask-api-2", "flask", "errors"));
    assert!(!is_active(&lab, "flask-api-1", "flask", "errors"));
    // Of both.
    let both = lab.run(&start);
    assert_eq!(both.status.code(), Some(0), "{}", text(&both));
    assert_eq!(products(&lab, "flask-api-1"), 500);
    let payments = lab.run(&["chaos", "start", "latency", "--service", "payments"]);
    assert_eq!(payments.status.code(), Some(0), "{}", text(&payments));
    assert!(is_active(&lab, "payments", "payments", "latency"));

    let errors_in = |replica: &str| (replica.to_owned(), "errors".to_owned());
    let in_payments = ("payments".to_owned(), "latency".to_owned());
    assert_eq!(
        activities(&lab),
        [
            errors_in("flask-api-1"),
            errors_in("flask-api-2"),
            in_payments.clone()
        ]
    );
    let stopped = lab.json(&["chaos", "stop", "errors", "--json"]);
    assert_eq!(
        stopped["stopped"],
        json!([{"component": "flask-api-1", "fault": "errors"}, {"component": "flask-api-2", "fault": "errors"}])
    );
    assert_eq!(activities(&lab), [in_payments]);
    assert_eq!(lab.run(&["chaos", "stop"]).status.code(), Some(0));
    assert_eq!(activities(&lab), []);
    assert_eq!(products(&lab, "flask-api-1"), 200);

    for (args, parts) in [
        (
            &["errors", "--for", "2h"][..],
            &["--for", "100ms to 3600s"][..],
        ),
        (
            &["errors", "--status", "502"],
            &["flask-api-1", "status", "500, 503"],
        ),
        (
            &["errors", "--route", "/nowhere"],
            &["route", "/api/orders/{id}"],
        ),
        (&["errors", "--replica", "3"], &["no replica 3", "it has 2"]),
        (
            &["latency", "--distribution", "cauchy"],
            &["lognormal, pareto"],
        ),
        (&["earthquake"], &["earthquake"]),
        (&[], &["errors", "crash"]),
    ] {
        refused(&lab.run(&[&["chaos", "start"], args].concat()), 2, parts);
    }

    // The last one: there is no way back.
    let crash = [
        "chaos",
        "start",
        "crash",
        "--replica",
        "1",
        "--delay",
        "0.1",
    ];
    assert_eq!(lab.run(&crash).status.code(), Some(0));
    eventually("its death is told", || {
        let status = lab.json(&["status", "--json"]);
        let components = status["components"].as_array().unwrap();
        let replica = components
            .iter()
            .find(|c| c["name"] == "flask-api-1")
            .unwrap();
        replica["state"] == "failed" && replica["detail"].as_str().unwrap().contains("signal: 6")
    });
    refused(
        &lab.run(&["chaos", "start", "errors", "--replica", "1"]),
        1,
        &["flask-api-1 does not answer", "lab status"],
    );
    assert_eq!(activities(&lab), [], "what is dead is not asked");
}

#[test]
fn the_guide_lists_every_fault() {
    use std::fmt::Write as _;
    let mut wanted = String::new();
    for fault in Fault::ALL {
        let about = fault.about();
        let one_request = match about.one_request {
            true => " Also for one request.",
            false => "",
        };
        let _ = write!(
            wanted,
            "### {}\n\nWhat happens: {}.{one_request}\n\nTeaches: {}.\n\nShows in: {}.\n\n| Parameter | Default | Allowed | |\n|---|---|---|---|\n",
            about.name, about.summary, about.teaches, about.shows
        );
        for parameter in about.parameters {
            let _ = writeln!(
                wanted,
                "| `{}` | {} | {} | {} |",
                parameter.name,
                parameter.default,
                parameter.allowed(),
                parameter.help
            );
        }
        wanted.push('\n');
    }
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let (begin, end) = ("<!-- begin faults -->\n\n", "<!-- end faults -->");
    let start = guide.find(begin).unwrap() + begin.len();
    let stop = guide.find(end).unwrap();
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let guide = format!("{}{wanted}{}", &guide[..start], &guide[stop..]);
        std::fs::write(GUIDE, guide).unwrap();
    } else {
        assert!(
            guide[start..stop] == wanted,
            "docs/faults.md is not what the table of faults says; UPDATE_GUIDE=1 cargo test -p lab writes it"
        );
    }
}
