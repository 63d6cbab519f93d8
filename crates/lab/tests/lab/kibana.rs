//! What Kibana is given (`elk/kibana`): held to the format of its saved objects, to the fields that the index templates know, and, query by
//! query, to a real Elasticsearch. Kibana itself is in no package registry and takes no part.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output},
};

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path, query_param},
};

use crate::{
    running::{TestLab, everything_is_installed, project, text},
    shippers::elasticsearch,
};

/// What an object of each type may have (Kibana refuses others), those that it must have first.
const ATTRIBUTES: &[(&str, &[&str], &[&str])] = &[
    (
        "index-pattern",
        &["title", "name", "timeFieldName", "fieldFormatMap"],
        &[
            "fieldAttrs",
            "fields",
            "runtimeFieldMap",
            "sourceFilters",
            "typeMeta",
        ],
    ),
    (
        "search",
        &["title", "columns", "sort", "kibanaSavedObjectMeta"],
        &["description", "grid", "hideChart", "isTextBasedQuery"],
    ),
    (
        "dashboard",
        &[
            "title",
            "panelsJSON",
            "optionsJSON",
            "kibanaSavedObjectMeta",
        ],
        &[
            "description",
            "refreshInterval",
            "timeRestore",
            "timeFrom",
            "timeTo",
        ],
    ),
];

/// Width of a dashboard, in Kibana's columns.
const WIDTH: u64 = 48;

fn file() -> String {
    std::fs::read_to_string(project().join("elk/kibana/flask-logs.ndjson")).unwrap()
}

/// JSON in a string: Kibana keeps what only its browser part understands this way.
fn inner(of: &Value) -> Value {
    of.as_str()
        .and_then(|it| serde_json::from_str(it).ok())
        .unwrap_or_default()
}

fn items(of: &Value) -> Vec<Value> {
    of.as_array().cloned().unwrap_or_default()
}

fn word(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}

/// Name and type of every field that documents and dead letters have.
fn mapping() -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for file in ["dead-letter-template.json", "index-template.json"] {
        let template = std::fs::read(project().join("elk").join(file)).unwrap();
        let template: Value = serde_json::from_slice(&template).unwrap();
        let properties = template["template"]["mappings"]["properties"].clone();
        for (name, field) in properties.as_object().unwrap() {
            fields.insert(name.clone(), word(&field["type"]));
        }
    }
    fields
}

/// The query of a search, of a dashboard or of a panel.
fn query(of: &Value) -> String {
    word(&of["query"]["query"])
}

/// The fields that a query asks for.
fn asked(query: &str) -> Vec<String> {
    let terms = query.split_whitespace().filter_map(|it| it.split_once(':'));
    terms
        .map(|(name, value)| if name == "_exists_" { value } else { name })
        .map(str::to_owned)
        .collect()
}

struct Panel {
    title: String,
    query: String,
    columns: serde_json::Map<String, Value>,
}

/// The visualisations of the dashboard.
fn drawn(dashboard: &Value) -> Vec<Panel> {
    let panels = items(&inner(&dashboard["attributes"]["panelsJSON"]));
    let lens = panels.iter().filter(|it| it["type"] == "lens");
    lens.map(|panel| {
        let state = &panel["embeddableConfig"]["attributes"]["state"];
        let layers = &state["datasourceStates"]["formBased"]["layers"];
        let columns = layers[word(&panel["panelIndex"])]["columns"].clone();
        Panel {
            title: word(&panel["title"]),
            query: query(state),
            columns: columns.as_object().cloned().unwrap_or_default(),
        }
    })
    .collect()
}

/// What Kibana would refuse, or would show without a value.
fn faults(file: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(what);
    let objects: Vec<Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect();
    let mut known = BTreeSet::new();
    for object in &objects {
        if !known.insert((word(&object["type"]), word(&object["id"]))) {
            fault(format!("{} stands there twice", object["id"]));
        }
    }
    let fields = mapping();
    let mut has = |whose: &str, name: &str, types: &[&str]| match fields.get(name) {
        None => fault(format!("{whose}: no field {name}")),
        Some(it) if !types.contains(&it.as_str()) => {
            fault(format!("{whose}: {name} is a {it}, not one of {types:?}"));
        }
        Some(_) => {}
    };
    for object in &objects {
        let id = word(&object["id"]);
        for name in items(&object["attributes"]["columns"]) {
            has(
                &id,
                &word(&name),
                &["text", "keyword", "long", "date", "boolean"],
            );
        }
        for sort in items(&object["attributes"]["sort"]) {
            has(&id, &word(&sort[0]), &["date", "long", "keyword"]);
        }
        let formats = inner(&object["attributes"]["fieldFormatMap"]);
        for (name, format) in formats.as_object().into_iter().flatten() {
            let types: &[&str] = if format["id"] == "url" {
                &["keyword"]
            } else {
                &["long"]
            };
            has(&id, name, types);
        }
        if object["type"] == "index-pattern" {
            has(
                &id,
                &word(&object["attributes"]["timeFieldName"]),
                &["date"],
            );
        }
        let source = inner(&object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"]);
        for name in asked(&query(&source)) {
            has(&id, &name, &["keyword", "long"]);
        }
        for panel in drawn(object) {
            for name in asked(&panel.query) {
                has(&panel.title, &name, &["keyword", "long"]);
            }
            for column in panel.columns.values() {
                // Counts are of no field.
                let types: &[&str] = match column["operationType"].as_str() {
                    Some("count") => continue,
                    Some("date_histogram") => &["date"],
                    Some("percentile") => &["long", "double"],
                    _ => &["keyword", "long"],
                };
                has(&panel.title, &word(&column["sourceField"]), types);
            }
        }
    }
    for object in &objects {
        form(object, &known, &mut fault);
    }
    faults
}

/// Whether an object has the form of its type, and leads to others that are there.
fn form(object: &Value, known: &BTreeSet<(String, String)>, fault: &mut impl FnMut(String)) {
    let id = word(&object["id"]);
    let Some((_, required, others)) = ATTRIBUTES.iter().find(|it| object["type"] == it.0) else {
        return fault(format!("an object of type {}", object["type"]));
    };
    for version in ["coreMigrationVersion", "typeMigrationVersion"] {
        let parts = word(&object[version]);
        let parts: Vec<_> = parts.split('.').map(str::parse::<u32>).collect();
        if parts.len() != 3 || parts.iter().any(Result::is_err) {
            fault(format!("{id}: {version} {}", object[version]));
        }
    }
    let attributes = object["attributes"].as_object().cloned();
    let attributes = attributes.unwrap_or_default();
    for name in attributes.keys().map(String::as_str) {
        if !required.contains(&name) && !others.contains(&name) {
            fault(format!("{id}: Kibana knows no attribute {name}"));
        }
    }
    for name in *required {
        if !attributes.contains_key(*name) {
            fault(format!("{id}: no {name}"));
        }
    }
    for (name, value) in &attributes {
        let written = name.ends_with("JSON") || name.ends_with("Map") || *name == "fields";
        if written && inner(value).is_null() {
            fault(format!("{id}: {name} is no JSON in a string"));
        }
    }

    let references = items(&object["references"]);
    let mut names = BTreeSet::new();
    for it in &references {
        names.insert(word(&it["name"]));
        if !known.contains(&(word(&it["type"]), word(&it["id"]))) {
            fault(format!("{id}: refers to {it}, which is not there"));
        }
    }
    let mut wanted = BTreeSet::new();
    if object["type"] != "index-pattern" {
        let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
        if source["query"]["language"] != "lucene" || !source["filter"].is_array() {
            fault(format!("{id}: searchSourceJSON {source}"));
        }
        if object["type"] == "search" {
            wanted.insert(word(&source["indexRefName"]));
        }
    }
    let mut squares = BTreeSet::new();
    for panel in items(&inner(&object["attributes"]["panelsJSON"])) {
        let index = word(&panel["panelIndex"]);
        let grid = &panel["gridData"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| grid[it].as_u64().unwrap_or(WIDTH));
        let free = (x..x + w).all(|column| (y..y + h).all(|row| squares.insert((column, row))));
        if grid["i"] != index.as_str() || x + w > WIDTH || w * h == 0 || !free {
            fault(format!("{id}: {index} has no place of its own: {grid}"));
        }
        if panel["type"] == "search" {
            wanted.insert(format!("{index}:{}", word(&panel["panelRefName"])));
            continue;
        }
        let attributes = &panel["embeddableConfig"]["attributes"];
        let state = &attributes["state"];
        let layer = &state["datasourceStates"]["formBased"]["layers"][&index];
        let shown = &state["visualization"]["layers"][0];
        let columns: BTreeSet<String> = layer["columns"]
            .as_object()
            .into_iter()
            .flat_map(|it| it.keys().cloned())
            .collect();
        let in_order: BTreeSet<String> = items(&layer["columnOrder"]).iter().map(word).collect();
        let mut used: BTreeSet<String> = items(&shown["accessors"]).iter().map(word).collect();
        used.extend(
            ["xAccessor", "splitAccessor"]
                .iter()
                .filter_map(|it| shown[it].as_str().map(str::to_owned)),
        );
        if shown["layerId"] != index.as_str() || in_order != columns || used != columns {
            fault(format!("{id}: {index} draws {used:?} of {columns:?}"));
        }
        for column in layer["columns"].as_object().into_iter().flatten() {
            let by = &column.1["params"]["orderBy"]["columnId"];
            if by.is_string() && !columns.contains(&word(by)) {
                fault(format!("{id}: {index} is ordered by {by}"));
            }
        }
        for it in items(&attributes["references"]) {
            wanted.insert(format!("{index}:{}", word(&it["name"])));
        }
        let own = format!("{index}:indexpattern-datasource-layer-{index}");
        if !wanted.contains(&own) {
            fault(format!("{id}: {index} is of no data view"));
        }
    }
    if wanted != names {
        fault(format!("{id}: refers to {names:?} and uses {wanted:?}"));
    }
}

#[test]
fn the_saved_objects_have_the_form_that_kibana_takes() {
    let file = file();
    assert_eq!(faults(&file), [] as [String; 0]);
    let view: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!(view["attributes"]["title"], "flask-logs-*");
    assert_eq!(view["attributes"]["timeFieldName"], "@timestamp");

    // What goes wrong when somebody edits it by hand is seen.
    for (from, to) in [
        (
            r#""id":"flask-logs-errors","#,
            r#""id":"flask-logs-access","#,
        ),
        (
            r#""id":"flask-logs-trace","name""#,
            r#""id":"flask-logs-traces","name""#,
        ),
        (r#""columns":["log.level""#, r#""columns":["log.levle""#),
        ("event.dataset:*.app", "event.dataest:*.app"),
        ("_exists_:trace.id", "_exists_:trace.number"),
        (r#""hideChart""#, r#""hideTheChart""#),
        (
            r#"\"sourceField\":\"error.type\""#,
            r#"\"sourceField\":\"error.message\""#,
        ),
        (
            r#"\"sourceField\":\"event.duration\""#,
            r#"\"sourceField\":\"http.route\""#,
        ),
        (
            r#"\"splitAccessor\":\"route\""#,
            r#"\"splitAccessor\":\"rout\""#,
        ),
        (r#"\"columnId\":\"duration\""#, r#"\"columnId\":\"count\""#),
        (
            r#"\"panelRefName\":\"panel_trace\""#,
            r#"\"panelRefName\":\"panel_1\""#,
        ),
        (r#"\"x\":24"#, r#"\"x\":23"#),
        (r#"\"indexRefName\":"#, r#"\"index\":"#),
        (r#""optionsJSON":"{"#, r#""optionsJSON":""#),
        (
            r#""typeMigrationVersion":"8.7.0""#,
            r#""typeMigrationVersion":"8.7""#,
        ),
        (
            r#""typeMigrationVersion":"7.9.3"}"#,
            r#""typeMigrationVersion":"7.9.3""#,
        ),
    ] {
        assert!(file.contains(from), "{from}");
        assert_ne!(
            faults(&file.replacen(from, to, 1)),
            [] as [String; 0],
            "{to}"
        );
    }
}

// --- on a real Elasticsearch -------------------------------------------------------

const TRACE: &str = "5e0c0d5c7a0b4e0f9a3f5d2b1c4e6f70";

/// Lines of every kind: the index they are in, the searches that show them, and what they say.
fn lines() -> Vec<(&'static str, &'static [&'static str], Value)> {
    const LOGS: &str = "flask-logs";
    vec![
        (
            LOGS,
            &["application"],
            json!({ "event.dataset": "flask-api.app", "log.level": "info", "message": "listening" }),
        ),
        (
            LOGS,
            &["application", "trace"],
            json!({ "event.dataset": "payments.app", "log.level": "warn", "message": "an access error", "trace.id": TRACE }),
        ),
        (
            LOGS,
            &["access", "trace"],
            json!({ "event.dataset": "flask-api.access", "log.level": "info", "http.route": "/api/orders", "http.response.status_code": 201, "event.duration": 8_000_000, "trace.id": TRACE }),
        ),
        (
            LOGS,
            &["access"],
            json!({ "event.dataset": "payments.access", "log.level": "error", "http.route": "/charges", "http.response.status_code": 500, "event.duration": 2_000_000 }),
        ),
        (
            LOGS,
            &["errors", "trace"],
            json!({ "event.dataset": "flask-api.error", "log.level": "error", "error.type": "timeout", "error.message": "payments did not answer", "trace.id": TRACE }),
        ),
        // Of no kind: only the level over time knows of it.
        (
            LOGS,
            &[],
            json!({ "message": "app access error pipeline_error", "log.level": "info" }),
        ),
        (
            "flask-logs-dead-letter",
            &["dead-letters"],
            json!({ "event.kind": "pipeline_error", "event.original": "[]", "error.message": "no JSON object", "log.file.name": "a.log", "log.offset": 0 }),
        ),
    ]
}

/// What Kibana makes of a panel: buckets inside buckets, and in the last one the figure.
fn aggregation(panel: &Panel, order: &[&str]) -> Value {
    let Some((name, rest)) = order.split_first() else {
        return json!({});
    };
    let column = &panel.columns[*name];
    let field = &column["sourceField"];
    let own = match column["operationType"].as_str().unwrap() {
        "count" => return json!({}),
        "percentile" => {
            json!({ "percentiles": { "field": field, "percents": [column["params"]["percentile"]] } })
        }
        "date_histogram" => json!({ "date_histogram": { "field": field, "fixed_interval": "1m" } }),
        _ => json!({ "terms": { "field": field, "size": column["params"]["size"] } }),
    };
    let mut own = own;
    own["aggs"] = aggregation(panel, rest);
    if own["aggs"] == json!({}) {
        own.as_object_mut().unwrap().remove("aggs");
    }
    json!({ *name: own })
}

#[test]
fn the_saved_searches_find_what_they_are_named_for() {
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
    let post = |path: &str, body: &Value| -> Value {
        let request = client.post(format!("{url}/{path}")).json(body);
        let answer = runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status(), answer.json::<Value>().await.unwrap())
        });
        assert!(answer.0.is_success(), "{path} {body}: {:#}", answer.1);
        answer.1
    };
    for (index, shown_by, mut line) in lines() {
        line["@timestamp"] = "2026-11-28T09:15:04.123456Z".into();
        line["labels.shown_by"] = shown_by.join(" ").into();
        post(&format!("{index}/_doc?refresh=true"), &line);
    }

    // As Kibana sends a query in Lucene's syntax.
    let asked = |query: &str| match query {
        "" => json!({ "match_all": {} }),
        query => json!({ "query_string": { "query": query, "analyze_wildcard": true } }),
    };
    let objects: Vec<Value> = file()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let view = word(&objects[0]["attributes"]["title"]);
    let search = |body: &Value| post(&format!("{view}/_search"), body);
    let mut searches = BTreeSet::new();
    for object in objects.iter().filter(|it| it["type"] == "search") {
        let name = word(&object["id"]).replace("flask-logs-", "");
        let source = inner(&object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"]);
        let sort = &object["attributes"]["sort"][0];
        let body =
            json!({ "query": asked(&query(&source)), "sort": [{ word(&sort[0]): sort[1] }] });
        let answer = search(&body);
        let hits = items(&answer["hits"]["hits"]);
        for hit in &hits {
            let shown_by = word(&hit["_source"]["labels.shown_by"]);
            assert!(shown_by.split(' ').any(|it| it == name), "{name}: {hit:#}");
        }
        let wanted = lines()
            .iter()
            .filter(|it| it.1.contains(&name.as_str()))
            .count();
        assert_eq!(hits.len(), wanted, "{name}: {hits:#?}");
        assert!(wanted > 0, "{name} is shown by no line here");
        searches.insert(name);
    }
    assert_eq!(
        searches,
        ["access", "application", "dead-letters", "errors", "trace"]
            .map(str::to_owned)
            .into()
    );

    // The figures of every visualisation.
    let mut figures = BTreeMap::new();
    let panels = drawn(objects.last().unwrap());
    for panel in &panels {
        let mut order: Vec<&str> = panel.columns.keys().map(String::as_str).collect();
        order.sort_by_key(|it| {
            let kind = panel.columns[*it]["operationType"].as_str();
            ["terms", "date_histogram"]
                .iter()
                .position(|bucket| kind == Some(bucket))
                .unwrap_or(2)
        });
        let body =
            json!({ "size": 0, "query": asked(&panel.query), "aggs": aggregation(panel, &order) });
        let answer = search(&body);
        for bucket in items(&answer["aggregations"][order[0]]["buckets"]) {
            let within = bucket["time"]["buckets"].get(0).unwrap_or(&bucket);
            let figure = within["duration"]["values"].get("95.0");
            let figure = figure.unwrap_or(&within["doc_count"]).as_f64().unwrap();
            let key = bucket["key"].as_str().map(str::to_owned);
            let key = key.unwrap_or_else(|| bucket["key"].to_string());
            figures.insert(format!("{}: {key}", panel.title), figure);
        }
    }
    let expected = [
        (
            "95th percentile of a request's duration, by route: /api/orders",
            8e6,
        ),
        (
            "95th percentile of a request's duration, by route: /charges",
            2e6,
        ),
        ("Lines by level: error", 2.0),
        ("Lines by level: info", 3.0),
        ("Lines by level: warn", 1.0),
        ("Most frequent types of error: timeout", 1.0),
        ("Requests by status: 201", 1.0),
        ("Requests by status: 500", 1.0),
    ];
    let expected = expected.map(|(name, figure)| (name.to_owned(), figure));
    assert_eq!(figures, expected.into());
}

// --- the script ----------------------------------------------------------------------

fn import(server: &MockServer) -> Output {
    Command::new("sh")
        .arg(project().join("elk/kibana/import.sh"))
        .env("KIBANA_URL", server.uri())
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap()
}

/// The part of a form that is called `file`.
fn part(body: &[u8]) -> &str {
    let body = std::str::from_utf8(body).unwrap();
    let (boundary, rest) = body.split_once("\r\n").unwrap();
    let (headers, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(
        headers.contains(r#"name="file"; filename="flask-logs.ndjson""#),
        "{headers}"
    );
    let (content, end) = rest.split_once(&format!("\r\n{boundary}")).unwrap();
    assert_eq!(end.trim(), "--", "a form of one part");
    content
}

#[test]
fn the_script_waits_imports_the_file_and_says_what_was_wrong() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(MockServer::start());
    let mount = |mock: Mock| runtime.block_on(mock.mount(&server));
    let answers = |status: u16, body: Value| ResponseTemplate::new(status).set_body_json(body);
    let status = || Mock::given(method("GET")).and(path("/api/status"));
    let import_of = || {
        Mock::given(method("POST"))
            .and(path("/api/saved_objects/_import"))
            .and(query_param("overwrite", "true"))
            .and(header("kbn-xsrf", "true"))
    };
    // Not ready when it is first asked.
    mount(
        status()
            .respond_with(ResponseTemplate::new(503))
            .up_to_n_times(1),
    );
    mount(status().respond_with(ResponseTemplate::new(200)));
    let refused = json!({ "successCount": 6, "success": false, "warnings": [], "errors": [{ "id": "flask-logs", "error": { "type": "missing_references" } }] });
    let imported =
        json!({ "successCount": 7, "success": true, "warnings": [], "successResults": [] });
    mount(
        import_of()
            .respond_with(answers(200, imported))
            .up_to_n_times(1),
    );
    mount(
        import_of()
            .respond_with(answers(200, refused))
            .up_to_n_times(1),
    );
    let wrong = json!({ "statusCode": 400, "message": "Unexpected token in JSON" });
    mount(import_of().respond_with(answers(400, wrong)));

    let output = import(&server);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("waiting for"), "{}", text(&output));
    let requests = runtime.block_on(server.received_requests()).unwrap();
    let sent = requests.last().unwrap();
    assert_eq!(part(&sent.body), file());

    for reason in ["missing_references", "Unexpected token in JSON"] {
        let output = import(&server);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{said}");
    }
}
