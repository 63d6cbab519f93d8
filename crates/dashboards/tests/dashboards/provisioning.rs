//! Data sources and their ways to each other.

use std::collections::{BTreeMap, BTreeSet};

use dashboards::Facts;
use serde_json::Value;

use crate::project::{committed, files, read, root};

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The data sources, by uid.
fn sources() -> BTreeMap<String, Value> {
    let mut sources = BTreeMap::new();
    for file in files("grafana/datasources", "yaml") {
        let file = file
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let content = yaml(&file);
        assert_eq!(content["apiVersion"], 1, "{file}");
        for source in content["datasources"].as_array().unwrap() {
            let uid = source["uid"].as_str().unwrap().to_owned();
            assert!(sources.insert(uid, source.clone()).is_none(), "{file}");
        }
    }
    sources
}

/// Fields of a log line that are searched for.
fn log_fields() -> BTreeSet<String> {
    let template: Value = serde_json::from_str(&read("elk/index-template.json")).unwrap();
    template["template"]["mappings"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// Labels that Jaeger gives to its span metrics, and attributes they are made from.
fn span_labels() -> BTreeMap<String, String> {
    let config = yaml("jaeger/config.yaml");
    config["connectors"]["spanmetrics"]["dimensions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dimension| dimension["name"].as_str().unwrap().to_owned())
        .map(|attribute| (attribute.replace('.', "_"), attribute))
        .collect()
}

#[test]
fn uids_are_those_that_dashboards_choose_at_first() {
    let sources = sources();
    let uids: Vec<_> = sources.keys().map(String::as_str).collect();
    assert_eq!(uids, ["elasticsearch", "jaeger", "prometheus"]);
    for (uid, source) in &sources {
        assert_eq!(source["type"].as_str(), Some(uid.as_str()));
        // Through Grafana's server: the browser of the one who looks reaches nothing else.
        assert_eq!(source["access"], "proxy");
        assert_eq!(source["editable"], false);
        assert_eq!(source["url"], format!("${{{}_URL}}", uid.to_uppercase()));
    }
    let defaults = sources
        .values()
        .filter(|it| it["isDefault"] == true)
        .count();
    assert_eq!(defaults, 1);
    for dashboard in committed() {
        for variable in dashboard.templating.list {
            if variable.name.ends_with("_datasource") {
                let uid = variable.current.unwrap().value;
                assert!(sources.contains_key(uid.as_str().unwrap()), "{uid}");
            }
        }
    }
}

#[test]
fn the_interval_is_that_of_the_scrapes() {
    let facts = Facts::read(root()).unwrap();
    let prometheus = &sources()["prometheus"];
    let interval = prometheus["jsonData"]["timeInterval"].as_str().unwrap();
    assert_eq!(
        dashboards::query::duration(interval),
        Some(facts.scrape_interval())
    );
}

#[test]
fn from_a_point_in_a_graph_to_its_trace() {
    let sources = sources();
    let ways = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
        .as_array()
        .unwrap();
    assert_eq!(ways.len(), 1);
    assert_eq!(ways[0]["datasourceUid"], "jaeger");
    // What Jaeger's exporter calls it; the lab's tests see it in Prometheus.
    assert_eq!(ways[0]["name"], "trace_id");
    let config = yaml("jaeger/config.yaml");
    assert_eq!(
        config["connectors"]["spanmetrics"]["exemplars"]["enabled"],
        true
    );
}

#[test]
fn from_a_line_to_its_trace() {
    let sources = sources();
    let data = &sources["elasticsearch"]["jsonData"];
    let fields = log_fields();
    for setting in ["timeField", "logMessageField", "logLevelField"] {
        let field = data[setting].as_str().unwrap();
        assert!(fields.contains(field), "{setting}: {field}");
    }
    let ways = data["dataLinks"].as_array().unwrap();
    assert_eq!(ways.len(), 1);
    assert!(fields.contains(ways[0]["field"].as_str().unwrap()));
    assert_eq!(ways[0]["datasourceUid"], "jaeger");
    // The value of the field is what is searched for; `$$` is a dollar in a provisioning file.
    assert_eq!(ways[0]["url"], "$${__value.raw}");
    let template: Value = serde_json::from_str(&read("elk/index-template.json")).unwrap();
    assert_eq!(data["index"], template["index_patterns"][0]);
}

#[test]
fn from_a_span_to_its_lines() {
    let sources = sources();
    let way = &sources["jaeger"]["jsonData"]["tracesToLogsV2"];
    assert_eq!(way["datasourceUid"], "elasticsearch");
    assert_eq!(way["customQuery"], true);
    let fields = log_fields();
    let query = way["query"].as_str().unwrap();
    let (field, rest) = query.split_once(':').unwrap();
    assert!(fields.contains(field), "{query}");
    assert_eq!(rest, r#""$${__trace.traceId}" AND $${__tags}"#);
    for tag in way["tags"].as_array().unwrap() {
        let [key, value] = ["key", "value"].map(|it| tag[it].as_str().unwrap());
        assert!(fields.contains(value), "{tag}");
        // Our resources and log lines speak the same language.
        assert_eq!(key, value);
    }
    assert!(way["spanStartTimeShift"].as_str().unwrap().starts_with('-'));
    assert!(!way["spanEndTimeShift"].as_str().unwrap().starts_with('-'));
}

#[test]
fn from_a_span_to_its_metrics() {
    let sources = sources();
    let way = &sources["jaeger"]["jsonData"]["tracesToMetrics"];
    assert_eq!(way["datasourceUid"], "prometheus");
    let labels = span_labels();
    let mut tags = String::new();
    for tag in way["tags"].as_array().unwrap() {
        let [key, value] = ["key", "value"].map(|it| tag[it].as_str().unwrap());
        assert_eq!(labels.get(value).map(String::as_str), Some(key), "{tag}");
        tags += &format!("{value}=\"x\", ");
    }
    for query in way["queries"].as_array().unwrap() {
        let query = query["query"].as_str().unwrap();
        let text = query
            .replace("$${__span.name}", "GET /api/orders")
            .replace("$$__tags", tags.trim_end_matches(", "));
        assert!(!text.contains('$'), "{text}");
        promql_parser::parser::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn a_lone_dollar_is_an_environment_variable_and_nothing_else() {
    let mut all = files("grafana/datasources", "yaml");
    all.extend(files("grafana/provisioning", "yaml"));
    let given = [
        "PROMETHEUS_URL",
        "ELASTICSEARCH_URL",
        "JAEGER_URL",
        "GRAFANA_DASHBOARDS",
    ];
    let mut seen = BTreeSet::new();
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        for line in lines {
            for rest in line.replace("$$", "").split('$').skip(1) {
                let name = rest.strip_prefix('{').and_then(|it| it.split('}').next());
                let name = name.unwrap_or_else(|| panic!("{}: {line}", file.display()));
                assert!(given.contains(&name), "{}: {name}", file.display());
                seen.insert(name.to_owned());
            }
        }
    }
    assert_eq!(seen.len(), given.len());
}

#[test]
fn dashboards_are_provided_from_their_directory() {
    let providers = yaml("grafana/provisioning/dashboards.yaml");
    let provider = &providers["providers"][0];
    assert_eq!(provider["type"], "file");
    assert_eq!(provider["allowUiUpdates"], false);
    assert_eq!(provider["options"]["path"], "${GRAFANA_DASHBOARDS}");
}
