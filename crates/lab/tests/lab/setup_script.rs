//! `elk/setup.sh` readies an Elasticsearch as the lab does.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{
    running::{TestLab, everything_is_installed, project, text},
    shippers::elasticsearch,
};

/// What is put in place: templates, indices, and the names behind which they stand.
const PLACES: [&str; 4] = [
    "_index_template/flask-logs?filter_path=-**.created*,-**.modified*",
    "_index_template/flask-logs-dead-letter?filter_path=-**.created*,-**.modified*",
    "flask-logs-*/_alias",
    "flask-logs-*/_mapping",
];

#[test]
fn the_script_does_what_the_lab_does_and_a_second_time_nothing() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = |request: reqwest::RequestBuilder| -> Value {
        runtime
            .block_on(async { request.send().await?.error_for_status()?.json().await })
            .unwrap()
    };
    let places = || PLACES.map(|place| send(client.get(format!("{url}/{place}"))));
    let setup = |lifecycle: &str| -> Output {
        Command::new("sh")
            .arg(project().join("elk/setup.sh"))
            .env("ELASTICSEARCH_URL", &url)
            .env("LIFECYCLE", lifecycle)
            .env("no_proxy", "127.0.0.1")
            .output()
            .unwrap()
    };
    let by_the_lab = places();
    assert_ne!(by_the_lab[2], Value::Object(serde_json::Map::new()));

    for place in ["flask-logs-000001", "flask-logs-dead-letter-000001"] {
        send(client.delete(format!("{url}/{place}")));
    }
    for template in ["flask-logs", "flask-logs-dead-letter"] {
        send(client.delete(format!("{url}/_index_template/{template}")));
    }
    let mistaken = setup("nonne");
    assert_eq!(mistaken.status.code(), Some(2), "{}", text(&mistaken));
    assert!(
        text(&mistaken).contains("nonne: neither ilm nor none"),
        "{}",
        text(&mistaken)
    );
    let first = setup("none");
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(places(), by_the_lab);

    let line = client
        .put(format!("{url}/flask-logs/_create/1?refresh=true"))
        .json(&serde_json::json!({ "message": "kept" }));
    send(line);
    let again = setup("none");
    assert!(again.status.success(), "{}", text(&again));
    assert!(
        text(&again).contains("flask-logs is there"),
        "{}",
        text(&again)
    );
    assert_eq!(
        send(client.get(format!("{url}/flask-logs/_count")))["count"],
        1
    );

    // The slim distribution has no lifecycle management, and the script says what Elasticsearch said.
    let refused = setup("ilm");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("/_ilm/policy/flask-logs"),
        "{}",
        text(&refused)
    );
}
