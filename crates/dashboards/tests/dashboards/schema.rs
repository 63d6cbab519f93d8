//! Against the types that Grafana itself publishes (tools/grafana-schema/run says how they became a schema).

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::project::{committed, files, read};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(&read(
        "crates/dashboards/tests/dashboards/grafana.schema.json",
    ))
    .unwrap()
});

/// The schema of a dashboard, or of what a kind of panel has of its own; made once.
fn validator(of: &str) -> &'static Validator {
    static MADE: Mutex<Option<HashMap<String, &'static Validator>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap();
    made.get_or_insert_default()
        .entry(of.to_owned())
        .or_insert_with(|| {
            let mut schema = SCHEMA.clone();
            schema["$ref"] = format!("#/definitions/{of}.Root").into();
            Box::leak(Box::new(jsonschema::validator_for(&schema).unwrap()))
        })
}

fn mistakes(of: &str, it: &Value) -> Vec<String> {
    validator(of)
        .iter_errors(it)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// What is wrong with a dashboard, its panels included.
fn all_mistakes(dashboard: &Value) -> Vec<String> {
    let mut all = mistakes("dashboard", dashboard);
    for panel in dashboard["panels"].as_array().unwrap() {
        let kind = panel["type"].as_str().unwrap();
        if kind == "row" {
            continue;
        }
        let mut own = json!({ "options": panel["options"] });
        let custom = &panel["fieldConfig"]["defaults"]["custom"];
        if matches!(kind, "timeseries" | "table" | "heatmap") {
            own["custom"] = custom.clone();
        } else {
            assert!(custom.is_null(), "{kind} has custom settings: {custom}");
        }
        let title = &panel["title"];
        all.extend(
            mistakes(kind, &own)
                .iter()
                .map(|it| format!("{title} {it}")),
        );
    }
    all
}

fn parsed() -> Vec<Value> {
    files(dashboards::DIRECTORY, "json")
        .iter()
        .map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
        .collect()
}

#[test]
fn every_dashboard_and_every_panel_is_what_grafana_understands() {
    for dashboard in parsed() {
        assert_eq!(dashboard["schemaVersion"], 42);
        assert_eq!(
            all_mistakes(&dashboard),
            [] as [&str; 0],
            "{}",
            dashboard["uid"]
        );
    }
}

#[test]
fn every_kind_of_panel_has_a_schema() {
    let mut kinds: Vec<_> = committed()
        .iter()
        .flat_map(|dashboard| {
            dashboard
                .panels()
                .map(|panel| panel.kind)
                .collect::<Vec<_>>()
        })
        .map(|kind| {
            serde_json::to_value(kind)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() >= 8, "{kinds:?}");
    for kind in kinds {
        validator(&kind);
    }
}

/// What a schema is good for: each of these is a mistake somebody makes.
#[test]
fn mistakes_are_found() {
    let good = parsed()
        .into_iter()
        .find(|dashboard| dashboard["uid"] == dashboards::FLASK_API)
        .unwrap();
    let panel = |kind: &str| {
        let panels = good["panels"].as_array().unwrap();
        let index = panels
            .iter()
            .position(|panel| panel["type"] == kind)
            .unwrap();
        format!("/panels/{index}")
    };
    let cases = [
        ("/schemaVersion".to_owned(), json!("42")),
        ("/graphTooltip".to_owned(), json!(7)),
        ("/templating/list/0/type".to_owned(), json!("data source")),
        (
            panel("stat") + "/gridPos",
            json!({ "x": 0, "y": 0, "w": 4 }),
        ),
        (
            panel("stat") + "/fieldConfig/defaults/color/mode",
            json!("rainbow"),
        ),
        (panel("stat") + "/options/graphMode", json!("curve")),
        (
            panel("timeseries") + "/options/legend/placement",
            json!("below"),
        ),
        (
            panel("timeseries") + "/fieldConfig/defaults/custom/drawStyle",
            json!("lines"),
        ),
        (
            panel("table") + "/fieldConfig/defaults/custom/cellOptions",
            json!({ "type": "plain" }),
        ),
        (panel("logs") + "/options/sortOrder", json!("newest")),
        (panel("heatmap") + "/options/color/scale", json!("log")),
        (panel("bargauge") + "/options/displayMode", json!("bar")),
    ];
    for (pointer, wrong) in cases {
        let mut dashboard = good.clone();
        *dashboard
            .pointer_mut(&pointer)
            .unwrap_or_else(|| panic!("no {pointer}")) = wrong;
        assert!(!all_mistakes(&dashboard).is_empty(), "{pointer} passes");
    }
    let mut dashboard = good.clone();
    dashboard["panelz"] = json!([]);
    assert!(!all_mistakes(&dashboard).is_empty());
}
