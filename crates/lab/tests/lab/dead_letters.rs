//! Every line that the log route reads is a document: as it was written, or as a dead letter that says why.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stack::table::COMPONENTS;

use crate::running::{TestLab, eventually, everything_is_installed, project, text};

const INDEX_TEMPLATE: &str = "elk/index-template.json";

/// Lines that Elasticsearch would refuse or that are no line of ours, with the reason that the dead letter gives.
fn hostile() -> Vec<(String, &'static str)> {
    const NO_OBJECT: &str = "no JSON object";
    const NOT_PLAIN: &str =
        "not plain values only, or a field name that Elasticsearch does not take";
    const NO_TIME: &str = "@timestamp is no RFC 3339 time";
    let fields = [
        r#""_id":"x""#,
        r#""_source":1"#,
        r#""_doc_count":-1"#,
        r#""_tier":"x""#,
        r#""":1"#,
        r#""  ":1"#,
        r#""a..b":1"#,
        r#"".a":1"#,
        r#""a.":1"#,
        r#"".":1"#,
        r#""service.name":{"a":1}"#,
        r#""service":{"name":"nested"}"#,
        r#""error.message":{"a":1}"#,
        r#""labels.list":["a","b"]"#,
        r#""labels.nothing":[]"#,
        r#""labels.nothing":{}"#,
    ];
    let mut lines: Vec<(String, &str)> = fields
        .iter()
        .map(|field| (format!("{{{field}}}"), NOT_PLAIN))
        .collect();
    lines.extend([
        (format!("{{\"{}\":1}}", "k".repeat(600)), NOT_PLAIN),
        (
            format!("{}1{}", r#"{"a":"#.repeat(2_000), "}".repeat(2_000)),
            NOT_PLAIN,
        ),
    ]);
    lines.extend(
        [
            "[]",
            "5",
            "null",
            r#"{"message":"half"#,
            r#"{"a":1}{"b":2}"#,
            r#"{"nan":NaN}"#,
            "thread 'main' panicked",
        ]
        .map(|line| (line.to_owned(), NO_OBJECT)),
    );
    lines.extend(
        [
            r#"{"@timestamp":"yesterday"}"#,
            r#"{"@timestamp":true}"#,
            r#"{"@timestamp":5}"#,
        ]
        .map(|line| (line.to_owned(), NO_TIME)),
    );
    lines
}

/// Lines with a strange field that are documents all the same. What it cannot find by the field it keeps and names
/// in `_ignored`.
fn strange() -> Vec<String> {
    let fields = [
        r#""http.response.status_code":"abc""#.to_owned(),
        r#""http.response.status_code":1.5"#.into(),
        r#""event.duration":1e300"#.into(),
        r#""order.id":true"#.into(),
        r#""order.id":99999999999999999999"#.into(),
        r#""labels.truncated":"maybe""#.into(),
        r#""service.name":null"#.into(),
        r#""service.name":5"#.into(),
        r#""error.message":false"#.into(),
        r#""first.a.number":1"#.into(),
        r#""first.a.number":"then a text""#.into(),
        format!(r#""user_agent.original":"{}""#, "u".repeat(40_000)),
        format!(r#""labels.wide":"{}""#, "é".repeat(40_000)),
        format!(r#""error.message":"{}""#, "w".repeat(100_000)),
        (0..5_000)
            .map(|n| format!(r#""many.{n}":{n}"#))
            .collect::<Vec<_>>()
            .join(","),
    ];
    let with_time = |field| format!(r#"{{"@timestamp":"2026-01-01T00:00:00Z",{field}}}"#);
    fields.into_iter().map(with_time).collect()
}

/// Name and a value of each field of the template.
fn every_field() -> (BTreeSet<String>, String) {
    let template: Value =
        serde_json::from_slice(&std::fs::read(project().join(INDEX_TEMPLATE)).unwrap()).unwrap();
    let properties = template["template"]["mappings"]["properties"].as_object();
    let fields: serde_json::Map<String, Value> = properties
        .unwrap()
        .iter()
        .map(|(name, field)| {
            let value = match field["type"].as_str().unwrap() {
                "long" => json!(7),
                "boolean" => json!(true),
                "date" => json!("2026-01-01T00:00:00.123456Z"),
                _ => json!("every field"),
            };
            (name.clone(), value)
        })
        .collect();
    let names = fields.keys().cloned().collect();
    (names, Value::from(fields).to_string())
}

#[test]
fn every_line_is_a_document_or_a_dead_letter_that_says_why() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let others = COMPONENTS
        .iter()
        .map(|it| it.name)
        .filter(|name| !["elasticsearch", "otelcol"].contains(name));
    let without: Vec<&str> = others.flat_map(|name| ["--without", name]).collect();
    let up = lab.up(&without);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));

    let (names, whole) = every_field();
    let (hostile, strange) = (hostile(), strange());
    let lines: Vec<&str> = std::iter::once(whole.as_str())
        .chain(strange.iter().map(String::as_str))
        .chain(hostile.iter().map(|(line, _)| line.as_str()))
        .collect();
    std::fs::write(
        lab.data.path().join("logs/app/hostile.log"),
        lines.join("\n") + "\n",
    )
    .unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let search = |index: &str, query: Value| -> Vec<Value> {
        let port = lab.port("elasticsearch", "http");
        let url = format!(
            "http://127.0.0.1:{port}/{index}/_search?ignore_unavailable=true&allow_no_indices=true"
        );
        runtime.block_on(async {
            let request = reqwest::Client::new().post(url);
            let request = request.json(&json!({ "size": 1000, "query": query }));
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            answer["hits"]["hits"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
    };
    let all = json!({ "match_all": {} });
    eventually("every line is a document", || {
        search("flask-logs-*", all.clone()).len() >= lines.len()
    });
    assert_eq!(search("flask-logs-*", all.clone()).len(), lines.len());

    // A line that is read twice: the same file, place and text, as after a kill of the shipper. Only what stands before tells the files apart.
    let again = r#"{"@timestamp":"2026-01-01T00:00:00Z","message":"again"}"#;
    for (file, before) in [("again.log", r#"{"n":1}"#), ("again.log.1", r#"{"n":2}"#)] {
        let file = lab.data.path().join("logs/app").join(file);
        std::fs::write(file, format!("{before}\n{again}\n")).unwrap();
    }
    let refused = || {
        let url = format!(
            "http://127.0.0.1:{}/metrics",
            lab.port("otelcol", "metrics")
        );
        let page = runtime.block_on(async { reqwest::get(url).await.unwrap().text().await });
        let page = page.unwrap();
        let refused = page
            .lines()
            .filter(|line| line.starts_with("otelcol_elasticsearch_docs_refused_total{"));
        refused.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("the second reading is refused", || !refused().is_empty());
    // Told apart from a line that will not be found (LogLinesRejected), of which there is none.
    let refused = refused();
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(
        refused[0].contains(r#"error_type="version_conflict_engine_exception""#)
            && refused[0].ends_with(" 1"),
        "{refused:#?}"
    );
    eventually("each line is there once", || {
        search("flask-logs-*", all.clone()).len() == lines.len() + 3
    });

    // As written, and how often.
    let mut reasons = BTreeMap::<(String, String), i32>::new();
    for letter in search("flask-logs-dead-letter-*", all) {
        let letter = &letter["_source"];
        assert_eq!(letter["event.kind"], "pipeline_error");
        assert_eq!(letter["log.file.name"], "hostile.log");
        let line = letter["event.original"].as_str().unwrap();
        let offset = letter["log.offset"].as_u64().unwrap();
        let before = lines.iter().take_while(|it| **it != line);
        let before: usize = before.map(|it| it.len() + 1).sum();
        assert_eq!(offset, u64::try_from(before).unwrap(), "{line}");
        let reason = letter["error.message"].as_str().unwrap();
        *reasons
            .entry((line.to_owned(), reason.to_owned()))
            .or_default() += 1;
    }
    let expected = hostile
        .iter()
        .map(|(line, reason)| ((line.clone(), (*reason).to_owned()), 1));
    assert_eq!(reasons, expected.collect());

    // Every field of the template can be found by.
    for name in names {
        let query = json!({ "bool": { "filter": [{ "exists": { "field": name } }, { "term": { "log.offset": 7 } }] } });
        let hits = search("flask-logs-0*", query);
        assert_eq!(hits.len(), 1, "{name}: {hits:#?}");
        assert_eq!(hits[0].get("_ignored"), None);
    }
    let ignored = search(
        "flask-logs-0*",
        json!({ "exists": { "field": "_ignored" } }),
    );
    assert!(
        ignored
            .iter()
            .any(|it| it["_source"]["http.response.status_code"] == "abc"),
        "{ignored:#?}"
    );
}

/// What the programs of a running lab have written so far has no field that the template does not know.
pub fn assert_every_field_is_mapped(lab: &TestLab) {
    let (names, _) = every_field();
    let mut lines = 0;
    for entry in std::fs::read_dir(lab.data.path().join("logs/app")).unwrap() {
        let log = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            for name in line.as_object().unwrap().keys() {
                assert!(
                    names.contains(name),
                    "{INDEX_TEMPLATE} lacks {name}: {line}"
                );
            }
            lines += 1;
        }
    }
    assert!(lines > 0, "no program wrote a line");
}
