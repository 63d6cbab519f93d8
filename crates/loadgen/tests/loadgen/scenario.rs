//! Scenarios as files: what is refused, and what the published schema says of it.

use std::path::Path;
use std::process::{Command, Output};

use loadgen::scenario::{BUILT_IN, Refused, Scenario, read, schema};
use serde_json::Value;

/// Where the schema is published.
const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/scenarios/scenario.schema.json"
);

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .env_clear()
        .arg("scenario")
        .args(args)
        .output()
        .expect("the program runs")
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn json(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect(yaml)
}

const GOOD: &str = "\
description: all there is
seed: 7
arrivals: poisson
phases: [{name: up, pace: 'ramp:0..10/1s'}, {pace: 10, for: 5s}, {pace: 'sine:1..9/2s', for: 4s}]
thresholds: ['p99 < 50ms', 'error_rate{POST /a/{id}} < 0.1%']
headers: {x-a: '{id}'}
variables: {id: {range: [1, 9]}, word: {one_of: [a, 1, null]}, key: uuid, fixed: {value: {a: [1]}}}
journeys:
  first:
    weight: 3
    variables: {id: {value: 1}}
    steps:
      - request: POST /a/{id}
        headers: {x-b: '{word}'}
        json: {a: '{fixed}', b: [1, true, null, 2.5]}
        expect: [200, 201]
        take: {x: {json: /a/*/b}, y: {header: location}, z: {json: ''}}
      - request: GET /b/{x}?y={y}
        think: 100ms..2s
      - {request: PUT /c, body: 'x is {x}', think: 1s}
  second: {steps: [{request: DELETE /}]}
";

#[test]
fn a_scenario_with_all_there_is_can_be_run_and_the_schema_agrees() {
    let checked = read("good", GOOD, Path::new("")).expect("a good one");
    assert_eq!(checked.journeys.len(), 2);
    let pace = checked.pace.expect("phases");
    assert!(pace.is_random());
    // 5 + 50 + 20 on average, in ten seconds.
    assert_eq!(pace.schedule(None, 1).expected(), Some(75));
    let errors: Vec<_> = validator()
        .iter_errors(&json(GOOD))
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn each_built_in_scenario_can_be_run_and_the_schema_agrees() {
    for (name, text) in BUILT_IN {
        read(name, text, Path::new("")).unwrap_or_else(|error| panic!("{error}"));
        assert!(validator().is_valid(&json(text)), "{name}");
        let shown = loadgen(&["show", name]);
        assert_eq!(String::from_utf8_lossy(&shown.stdout), text);
    }
    let listed = loadgen(&["show"]);
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout).lines().count(),
        BUILT_IN.len()
    );
    assert_eq!(loadgen(&["show", "nothing"]).status.code(), Some(2));
}

#[test]
fn the_published_schema_is_this_one() {
    let schema = schema();
    assert_eq!(
        String::from_utf8_lossy(&loadgen(&["schema"]).stdout),
        schema
    );
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(SCHEMA, &schema).expect("it is writable");
    }
    let published = std::fs::read_to_string(SCHEMA).unwrap_or_default();
    assert!(
        published == schema,
        "run this test with UPDATE_SCHEMA=1 to write {SCHEMA}"
    );
}

/// One step, in a journey of its own.
fn with_step(step: &str) -> String {
    format!("journeys: {{a: {{steps: [{{{step}}}]}}}}")
}

#[test]
fn what_has_not_the_form_of_a_scenario_is_refused_by_us_and_by_the_schema() {
    let step = |step: &str| with_step(step);
    for (text, said) in [
        ("journey: {}".to_owned(), "journey"),
        ("description: x".to_owned(), "journeys"),
        (
            "seed: one\njourneys: {a: {steps: [{request: GET /}]}}".to_owned(),
            "seed",
        ),
        (
            "arrivals: odd\njourneys: {a: {steps: [{request: GET /}]}}".to_owned(),
            "poisson",
        ),
        (
            "journeys: {a: {weights: 1, steps: [{request: GET /}]}}".to_owned(),
            "weights",
        ),
        (
            "journeys: {a: {weight: -1, steps: [{request: GET /}]}}".to_owned(),
            "weight",
        ),
        ("journeys: {a: {}}".to_owned(), "steps"),
        (step("get: /"), "get"),
        (step("request: GET /, header: {}"), "header"),
        (step("request: GET /, expect: [ok]"), "expect"),
        (step("request: GET /, take: {a: /id}"), "id"),
        (step("request: GET /, take: {a: {xml: /id}}"), "xml"),
        (
            "variables: {a: {ranges: [1, 2]}}\njourneys: {a: {steps: [{request: GET /}]}}"
                .to_owned(),
            "ranges",
        ),
        (
            "variables: {a: {range: [1]}}\njourneys: {a: {steps: [{request: GET /}]}}".to_owned(),
            "range",
        ),
        (
            "phases: [{rate: 1}]\njourneys: {a: {steps: [{request: GET /}]}}".to_owned(),
            "rate",
        ),
    ] {
        match read("bad", &text, Path::new("")) {
            Err(Refused::Form { why, .. }) => assert!(why.contains(said), "{text}: {why}"),
            other => panic!("{text}: {other:?}"),
        }
        assert!(!validator().is_valid(&json(&text)), "{text}");
    }
    // These are no data at all.
    for text in [
        "",
        "journeys: {a: {steps: [{request: GET /}]}, a: {}}",
        "\tx",
        "journeys: [",
    ] {
        assert!(
            matches!(read("bad", text, Path::new("")), Err(Refused::Form { .. })),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_every_mistake() {
    let step = |step: &str| with_step(step);
    let with = |line: &str| format!("{line}\njourneys: {{a: {{steps: [{{request: GET /}}]}}}}");
    for (text, said) in [
        ("journeys: {}".to_owned(), "there is none"),
        (
            "journeys: {a: {weight: 0, steps: []}}".to_owned(),
            "1 to 1000000",
        ),
        (
            "journeys: {a: {weight: 1, steps: []}}".to_owned(),
            "no steps",
        ),
        (step("request: GET"), "METHOD /PATH"),
        (step("request: get /"), "METHOD /PATH"),
        (step("request: GET a"), "METHOD /PATH"),
        (step("request: CONNECT /"), "METHOD /PATH"),
        (step("request: 'GET /{id}'"), "{id} is not known"),
        (step("request: 'GET /{id'"), "single {"),
        (step("request: GET /, think: 1s"), "leave out its think"),
        (
            step("request: GET /, headers: {connection: close}"),
            "loadgen itself",
        ),
        (
            step("request: GET /, headers: {x: '{id}'}"),
            "{id} is not known",
        ),
        (step("request: GET /, body: x, json: 1"), "one body"),
        (
            step("request: GET /, body_file: no/such/file"),
            "cannot read no/such/file",
        ),
        (step("request: GET /, expect: [7]"), "three digits"),
        (
            step("request: GET /, take: {a: {json: id}}"),
            "begins with a slash",
        ),
        (
            step("request: GET /, take: {'a b': {json: /id}}"),
            "letters, digits",
        ),
        (
            step("request: GET /, json: {a: ['{id}']}"),
            "{id} is not known",
        ),
        (with("variables: {a: {one_of: []}}"), "a value at least"),
        (
            with("variables: {a: {range: [2, 1]}}"),
            "from the lower number",
        ),
        (with("thresholds: ['p99 < fast']"), "thresholds[0]"),
        (with("phases: [{pace: 10}]"), "how long it lasts"),
        (with("phases: [{pace: 0, for: 1s}]"), "out of range"),
        (with("phases: [{pace: 'steps:0/1s'}]"), "0 all the time"),
        (
            with("phases: [{pace: 'poisson:10', for: 1s}]"),
            "arrivals: poisson",
        ),
        (
            with("phases: [{pace: 'replay:x', for: 1s}]"),
            "replays nothing",
        ),
        (with("phases: [{pace: 10, for: 30}]"), "for example 500ms"),
        (
            with("phases: [{pace: 10, for: 8000h}, {pace: 10, for: 8000h}]"),
            "longer than a year",
        ),
    ] {
        match read("bad", &text, Path::new("")) {
            Err(error @ Refused::Meaning { .. }) => {
                let error = error.to_string();
                assert!(error.contains(said), "{text}: {error}");
            }
            // YAML's numbers are no durations.
            Err(Refused::Form { .. }) if said.contains("500ms") => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    let text = "thresholds: [x, y]\njourneys: {a: {steps: [{request: 'GET /{b}', think: soon}, {request: x}]}}";
    match read("bad", text, Path::new("")) {
        Err(Refused::Meaning { mistakes, .. }) => assert_eq!(mistakes.len(), 6, "{mistakes:#?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_program_checks_files_and_begins_with_an_api() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("it is writable");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = file("good.yaml", GOOD);
    let bad = file("bad.yaml", "journeys: {}");
    let checked = loadgen(&["check", &good, "shop"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(
        said.contains("shop: good") && said.contains("2.50 requests each"),
        "{said}"
    );
    let checked = loadgen(&["check", &good, &bad]);
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("there is none"));

    let api = file(
        "api.json",
        r#"{"openapi": "3.0.3", "paths": {"/a/{id}": {"get": {"responses": {}}}}}"#,
    );
    let made = loadgen(&["from-openapi", &api]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let made = String::from_utf8_lossy(&made.stdout).into_owned();
    read("made", &made, Path::new("")).unwrap_or_else(|error| panic!("{error}"));
    assert!(validator().is_valid(&json(&made)), "{made}");
    let scenario: Scenario = serde_saphyr::from_str(&made).expect("YAML");
    assert_eq!(
        scenario.journeys["get-a-id"].steps[0].request,
        "GET /a/{id}"
    );
    let refused = loadgen(&["from-openapi", &good]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no OpenAPI 3 document"));
}
