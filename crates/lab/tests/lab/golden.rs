//! `elk/golden.ndjson`: lines, and the documents that they become, field for field the same by every route.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    running::{TestLab, eventually, project, skip},
    shippers::{Place, Route, Shipper, elasticsearch, routes, search},
};

/// One row of the golden set.
struct Row {
    about: String,
    line: String,
    /// Its fields, or why it is a dead letter.
    becomes: Result<Map<String, Value>, String>,
}

fn golden() -> Vec<Row> {
    let text = std::fs::read_to_string(project().join("elk/golden.ndjson")).unwrap();
    let rows = text.lines().map(|row| {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let becomes = match text("dead_letter") {
            Some(why) => Err(why),
            None => Ok(row["document"].as_object().unwrap().clone()),
        };
        Row {
            about: text("about").unwrap(),
            line: text("line").unwrap(),
            becomes,
        }
    });
    rows.collect()
}

/// The documents of all rows, as they stand in a file of this name one after the other.
fn expected(rows: &[Row], file: &str, places: bool) -> Vec<Map<String, Value>> {
    let mut offset = 0;
    let mut documents = Vec::new();
    for row in rows {
        let document = match &row.becomes {
            Ok(document) => document.clone(),
            Err(why) => {
                let letter = json!({
                    "message": row.line, "event.original": row.line, "event.kind": "pipeline_error",
                    "error.message": why, "log.file.name": file, "log.offset": offset,
                });
                let mut letter = letter.as_object().unwrap().clone();
                if !places {
                    letter.remove("log.offset");
                }
                letter
            }
        };
        documents.push(document);
        offset += row.line.len() + 1;
    }
    documents
}

/// A number is its value, however it is written; a time is an instant.
fn plain(document: &Map<String, Value>) -> Map<String, Value> {
    let fields = document.iter().map(|(name, value)| {
        let value = match value {
            Value::Number(number) => json!(number.as_f64().unwrap()),
            Value::String(time) if name == "@timestamp" => {
                json!(time.parse::<Timestamp>().unwrap().to_string())
            }
            other => other.clone(),
        };
        (name.clone(), value)
    });
    fields.collect()
}

/// A document without what only its route puts into it.
fn without(mut document: Map<String, Value>, added: &[&str]) -> Map<String, Value> {
    for name in added {
        assert!(document.remove(*name).is_some(), "no {name}: {document:#?}");
    }
    document
}

/// Holds `found` to the golden set, in whatever order it came. What had no time has one of these.
fn assert_golden(
    route: &str,
    rows: &[Row],
    expected: &[Map<String, Value>],
    found: &[Map<String, Value>],
    read: std::ops::RangeInclusive<Timestamp>,
) {
    let mut left: Vec<_> = found.iter().map(plain).collect();
    for (row, expected) in rows.iter().zip(expected) {
        let mut expected = plain(expected);
        // By the reading, where the line says nothing.
        let timed = expected.get("@timestamp").is_some_and(|it| !it.is_null());
        let position = left.iter().position(|it| {
            let mut it = it.clone();
            let at: Timestamp = it["@timestamp"].as_str().unwrap().parse().unwrap();
            if !timed {
                it.remove("@timestamp");
                expected.remove("@timestamp");
            }
            it == expected && (timed || read.contains(&at))
        });
        let Some(position) = position else {
            panic!(
                "{route}: {} became no {expected:#?}; left over: {left:#?}",
                row.about
            );
        };
        left.remove(position);
    }
    assert!(left.is_empty(), "{route}: nobody wrote {left:#?}");
}

#[test]
fn every_route_makes_the_same_documents() {
    if !crate::running::everything_is_installed() {
        return;
    }
    let rows = golden();
    for route in routes() {
        makes_the_same_documents(&route, &rows);
    }
}

fn makes_the_same_documents(route: &Route, rows: &[Row]) {
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let place = Place {
        files: logs.join("*.log*").display().to_string(),
        elasticsearch: route.way_to(&url),
        state: dir.path().join("state"),
    };
    let from = Timestamp::now() - jiff::SignedDuration::from_millis(1);
    let lines: String = rows.iter().map(|row| row.line.clone() + "\n").collect();
    std::fs::write(logs.join("golden.log"), lines).unwrap();
    let mut shipper = Shipper::start(route, &place);
    let search = |index: &str| search(&url, index, &json!({ "size": 1000 }));
    eventually("every line is a document", || {
        shipper.assert_alive();
        search("flask-logs-*").len() >= rows.len()
    });
    let sources = |index| -> Vec<Map<String, Value>> {
        let hits = search(index).into_iter();
        let sources = hits.map(|hit| hit["_source"].as_object().unwrap().clone());
        sources.map(|it| without(it, route.adds)).collect()
    };
    let expected = expected(rows, "golden.log", route.knows_places);
    let now = from..=Timestamp::now() + jiff::SignedDuration::from_millis(1);
    assert_golden(
        route.name,
        rows,
        &expected,
        &sources("flask-logs-*"),
        now.clone(),
    );
    // Each in its own place.
    let letters = rows.iter().filter(|row| row.becomes.is_err()).count();
    assert_eq!(
        sources("flask-logs-dead-letter-*").len(),
        letters,
        "{}",
        route.name
    );
}

/// The scripts of the routes whose programs no package registry has, by an interpreter of their language.
#[test]
fn the_script_of_every_route_makes_the_same_documents() {
    let rows = golden();
    let lines: String = rows.iter().map(|row| row.line.clone() + "\n").collect();
    for (interpreter, script, places, added) in [
        ("luajit", "fluent-bit.lua", true, &["event.id"] as &[_]),
        ("node", "filebeat.js", true, &[]),
        ("ruby", "logstash.rb", false, &[]),
    ] {
        let caller = project().join("crates/lab/tests/lab/golden").join(script);
        let child = Command::new(interpreter)
            .arg(caller)
            .arg(project().join("elk").join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            skip(&format!(
                "{interpreter} is not on PATH (Debian: apt install luajit nodejs ruby)"
            ));
            continue;
        };
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}");
        let made = String::from_utf8(output.stdout).unwrap();
        let made: Vec<Map<String, Value>> = made
            .lines()
            .map(|line| without(serde_json::from_str(line).unwrap(), added))
            .collect();
        let epoch = Timestamp::UNIX_EPOCH;
        assert_golden(
            script,
            &rows,
            &expected(&rows, "golden.log", places),
            &made,
            epoch..=epoch,
        );
    }
}
