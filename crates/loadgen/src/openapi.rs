//! A scenario to begin with, from what an API says of itself (OpenAPI 3.0 and 3.1).
//!
//! What is read alone becomes a journey of one request. Where something can be created (`POST /orders`) and then named in
//! paths (`/orders/{id}`), one journey does it all: it creates, takes the name from the answer, and reads, changes and
//! deletes what it has created.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::CannotStart;
use crate::scenario::{Journey, Scenario, Step, Take, Variable};

/// Deeper examples are cut off: schemas may contain themselves.
const DEEPEST: usize = 8;
/// Methods in the order in which somebody would use them on one thing.
const METHODS: [&str; 7] = ["post", "put", "head", "get", "options", "patch", "delete"];
/// Reading is far more frequent than writing, as a rule.
const READING: u32 = 10;

/// The scenario for the document in a file, or in standard input for "-".
///
/// # Errors
/// When it is none.
pub fn skeleton_of(path: &Path) -> Result<String, CannotStart> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|error| error.to_string())
        .and_then(|()| skeleton(&text))
        .map_err(|why| CannotStart::OpenApi {
            path: path.to_owned(),
            why,
        })
}

/// The scenario for an OpenAPI document in JSON or YAML, as YAML.
///
/// # Errors
/// When it is none, or has nothing to request.
pub fn skeleton(document: &str) -> Result<String, String> {
    let document: Value = serde_saphyr::from_str(document)
        .map_err(|error| format!("neither JSON nor YAML: {error}"))?;
    let version = document["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        return Err(
            "no OpenAPI 3 document (it would have a line such as `openapi: 3.1.0`)".to_owned(),
        );
    }
    let operations = operations(&document);
    if operations.is_empty() {
        return Err("it has no paths, so there is nothing to request".to_owned());
    }
    let title = document["info"]["title"].as_str().unwrap_or("an API");
    let scenario = Scenario {
        description: Some(format!(
            "Made from the OpenAPI document of {title}. Look through weights, values and bodies before use."
        )),
        journeys: journeys(operations),
        ..Scenario::default()
    };
    let yaml = serde_saphyr::to_string(&scenario).map_err(|error| error.to_string())?;
    Ok(format!(
        "# yaml-language-server: $schema=scenario.schema.json\n{yaml}"
    ))
}

/// One operation of the API.
struct Operation {
    method: &'static str,
    path: String,
    step: Step,
    variables: BTreeMap<String, Variable>,
    /// The first part of its answer that can name what it has created.
    names: Option<String>,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, item) in paths {
        let item = resolved(document, item);
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                operations.push(operation_of(document, path, item, method, operation));
            }
        }
    }
    operations
}

fn operation_of(
    document: &Value,
    path: &str,
    item: &Value,
    method: &'static str,
    operation: &Value,
) -> Operation {
    let mut variables = BTreeMap::new();
    let mut headers = BTreeMap::new();
    let mut query = Vec::new();
    let of = |value: &Value| value["parameters"].as_array().cloned().unwrap_or_default();
    // Those of the operation come last, and so win.
    for parameter in of(item).iter().chain(&of(operation)) {
        let parameter = resolved(document, parameter);
        let name = parameter["name"].as_str().unwrap_or_default();
        let variable = variable(name);
        let required = parameter["required"] == true;
        let value = || {
            let given = parameter.get("example").cloned();
            let of_schema = || value_of(document, &parameter["schema"]);
            given.map_or_else(of_schema, Variable::Value)
        };
        match parameter["in"].as_str() {
            Some("path") => {
                variables.insert(variable, value());
            }
            Some("query") if required => {
                query.push(format!("{name}={{{variable}}}"));
                variables.insert(variable, value());
            }
            Some("header") if required => {
                headers.insert(name.to_ascii_lowercase(), format!("{{{variable}}}"));
                variables.insert(variable, value());
            }
            _ => {}
        }
    }
    let mut target = String::new();
    for (n, part) in path.split('{').enumerate() {
        match part.split_once('}') {
            Some((name, rest)) if n > 0 => {
                let name = variable(name);
                target += &format!("{{{name}}}{rest}");
                // A path may name what it does not describe.
                variables.entry(name).or_insert(Variable::Value(json!(1)));
            }
            _ => target += part,
        }
    }
    let route = target.clone();
    if !query.is_empty() {
        target += &format!("?{}", query.join("&"));
    }
    let body = resolved(document, &operation["requestBody"]);
    let media = &body["content"]["application/json"];
    let json = media.is_object().then(|| {
        let example = media.get("example").cloned();
        escaped(example.unwrap_or_else(|| example_of(document, &media["schema"], 0)))
    });
    let responses = operation["responses"].as_object();
    let good = responses
        .into_iter()
        .flatten()
        .filter_map(|(status, response)| Some((status.parse::<u16>().ok()?, response)))
        .filter(|(status, _)| (200..400).contains(status))
        .min_by_key(|(status, _)| *status);
    let answer = good.map(|(_, response)| resolved(document, response));
    let answer =
        answer.map(|answer| resolved(document, &answer["content"]["application/json"]["schema"]));
    Operation {
        method,
        names: answer.and_then(|schema| name_in(document, schema)),
        path: route,
        variables,
        step: Step {
            request: format!("{} {target}", method.to_ascii_uppercase()),
            headers,
            json,
            expect: good.map(|(status, _)| status).into_iter().collect(),
            ..Step::default()
        },
    }
}

/// Operations that belong together become one journey, all others one each.
fn journeys(operations: Vec<Operation>) -> BTreeMap<String, Journey> {
    let mut journeys: BTreeMap<String, Journey> = BTreeMap::new();
    let mut alone = Vec::new();
    let makers: Vec<(String, String)> = operations
        .iter()
        .filter(|operation| operation.method == "post" && !operation.path.contains('{'))
        .filter_map(|operation| Some((operation.path.clone(), operation.names.clone()?)))
        .collect();
    // The most specific maker of what is named right behind its path.
    let maker_of = |path: &str| {
        makers
            .iter()
            .filter(|(maker, _)| {
                path.strip_prefix(maker.as_str())
                    .is_some_and(|rest| rest.starts_with("/{"))
            })
            .max_by_key(|(maker, _)| maker.len())
    };
    let mut chains: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for operation in operations {
        let maker = if operation.method == "post"
            && makers.iter().any(|(maker, _)| *maker == operation.path)
        {
            Some(operation.path.clone())
        } else {
            maker_of(&operation.path).map(|(maker, _)| maker.clone())
        };
        match maker {
            Some(maker) => chains.entry(maker).or_default().push(operation),
            None => alone.push(operation),
        }
    }
    for (maker, mut chain) in chains {
        let made = |operation: &Operation| operation.path == maker;
        // First what makes it, then what reads and changes it, last what deletes it.
        chain.sort_by_key(|operation| {
            (
                !made(operation),
                operation.method == "delete",
                operation.path.clone(),
            )
        });
        let pointer = makers
            .iter()
            .find(|(path, _)| *path == maker)
            .map(|(_, names)| names.clone());
        let name = chain.iter().find_map(|operation| {
            let rest = operation.path.strip_prefix(&maker)?.strip_prefix("/{")?;
            Some(rest.split_once('}')?.0.to_owned())
        });
        let mut variables = BTreeMap::new();
        let mut steps = Vec::new();
        for operation in chain {
            let mut step = operation.step;
            for (variable, drawn) in operation.variables {
                if Some(&variable) != name.as_ref() {
                    variables.insert(variable, drawn);
                }
            }
            if let (true, Some(name), Some(pointer)) = (operation.path == maker, &name, &pointer) {
                step.take = [(name.clone(), Take::Json(pointer.clone()))].into();
            }
            steps.push(step);
        }
        let weight = 1;
        insert(
            &mut journeys,
            &maker,
            Journey {
                weight,
                variables,
                steps,
            },
        );
    }
    for operation in alone {
        let reads = matches!(operation.method, "get" | "head" | "options");
        let name = format!("{} {}", operation.method, operation.path);
        let journey = Journey {
            weight: if reads { READING } else { 1 },
            variables: operation.variables,
            steps: vec![operation.step],
        };
        insert(&mut journeys, &name, journey);
    }
    journeys
}

/// Adds a journey under a name made of letters, digits and dashes.
fn insert(journeys: &mut BTreeMap<String, Journey>, name: &str, journey: Journey) {
    let words: Vec<_> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let name = if words.is_empty() {
        "root".to_owned()
    } else {
        words.join("-")
    };
    let mut unique = name.clone();
    let mut number = 2;
    while journeys.contains_key(&unique) {
        unique = format!("{name}-{number}");
        number += 1;
    }
    journeys.insert(unique, journey);
}

/// The name of the variable for a parameter.
fn variable(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() {
        "value".to_owned()
    } else {
        name
    }
}

/// What `value` refers to, if it is a reference within the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let mut value = value;
    for _ in 0..DEEPEST {
        let Some(reference) = value["$ref"].as_str() else {
            break;
        };
        value = reference
            .strip_prefix('#')
            .and_then(|pointer| document.pointer(pointer))
            .unwrap_or(&Value::Null);
    }
    value
}

/// Where in an answer the name is of what it is about.
fn name_in(document: &Value, schema: &Value) -> Option<String> {
    let properties = all_properties(document, schema, 0);
    let id = properties
        .keys()
        .find(|name| name.eq_ignore_ascii_case("id"));
    let like = || {
        properties
            .keys()
            .find(|name| name.to_ascii_lowercase().ends_with("id"))
    };
    id.or_else(like).map(|name| format!("/{name}"))
}

fn all_properties(document: &Value, schema: &Value, depth: usize) -> Map<String, Value> {
    let schema = resolved(document, schema);
    let mut properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    if depth < DEEPEST {
        for part in schema["allOf"].as_array().into_iter().flatten() {
            properties.extend(all_properties(document, part, depth + 1));
        }
    }
    properties
}

/// How to draw a value that a schema allows.
fn value_of(document: &Value, schema: &Value) -> Variable {
    let schema = resolved(document, schema);
    if let Some(values) = schema["enum"]
        .as_array()
        .filter(|values| !values.is_empty())
    {
        return Variable::OneOf(values.clone());
    }
    if is(schema, "string") && schema["format"] == "uuid" {
        return Variable::Uuid;
    }
    match (
        is(schema, "integer"),
        schema["minimum"].as_i64(),
        schema["maximum"].as_i64(),
    ) {
        (true, Some(low), Some(high)) if low <= high => Variable::Range([low, high]),
        _ => Variable::Value(example_of(document, schema, 0)),
    }
}

fn is(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(text) => text == kind,
        // As OpenAPI 3.1 says that something may be null.
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}

/// A value that a schema allows.
fn example_of(document: &Value, schema: &Value, depth: usize) -> Value {
    let schema = resolved(document, schema);
    for given in ["example", "default", "const"] {
        if let Some(value) = schema.get(given) {
            return value.clone();
        }
    }
    for several in ["examples", "enum"] {
        if let Some(first) = schema[several].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
    }
    if depth >= DEEPEST {
        return Value::Null;
    }
    for choice in ["oneOf", "anyOf"] {
        let options = schema[choice].as_array().into_iter().flatten();
        if let Some(first) = options
            .clone()
            .find(|option| !is(resolved(document, option), "null"))
        {
            return example_of(document, first, depth + 1);
        }
    }
    let properties = all_properties(document, schema, depth);
    if is(schema, "object") || !properties.is_empty() {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        return properties
            .iter()
            // What must be there, or everything where nothing must.
            .filter(|(name, _)| required.is_empty() || required.contains(&name.as_str()))
            .map(|(name, schema)| (name.clone(), example_of(document, schema, depth + 1)))
            .collect();
    }
    if is(schema, "array") {
        return json!([example_of(document, &schema["items"], depth + 1)]);
    }
    if is(schema, "integer") {
        let low = schema["minimum"]
            .as_i64()
            .or(schema["exclusiveMinimum"].as_i64().map(|low| low + 1));
        return json!(low.unwrap_or(1));
    }
    if is(schema, "number") {
        return json!(schema["minimum"].as_f64().unwrap_or(1.0));
    }
    if is(schema, "boolean") {
        return json!(true);
    }
    json!(match schema["format"].as_str() {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("email") => "somebody@example.org",
        Some("uri") => "https://example.org/",
        _ => "text",
    })
}

/// With braces doubled, so that no variable is meant.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('{', "{{").replace('}', "}}")),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, escaped(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read;

    const SHOP: &str = r##"
openapi: 3.1.0
info: {title: A shop}
paths:
  /things:
    get: {responses: {"200": {description: all}}}
    post:
      parameters:
        - {name: Idempotency-Key, in: header, required: true, schema: {type: string, format: uuid}}
        - {name: X-Other, in: header, schema: {type: string}}
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/NewThing"}}}}
      responses:
        "422": {description: no}
        "201": {content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}}
  /things/{thing id}:
    parameters: [{name: thing id, in: path, required: true, schema: {type: integer}}]
    delete: {responses: {"204": {description: gone}}}
    get: {responses: {"200": {description: one}, "404": {description: none}}}
  /things/{thing id}/lend: {post: {responses: {default: {description: done}}}}
  /find:
    get:
      parameters:
        - {name: size, in: query, required: true, schema: {type: integer, minimum: 2, maximum: 5}}
        - {name: colour, in: query, required: true, schema: {enum: [red, green]}}
      responses: {}
  /: {get: {responses: {}}}
components:
  schemas:
    NewThing:
      type: object
      required: [name, parts, size]
      properties:
        name: {type: string, example: "a {thing}"}
        size: {type: [integer, "null"], minimum: 3}
        parts: {type: array, items: {$ref: "#/components/schemas/NewThing"}}
        note: {type: string}
    Thing: {allOf: [{$ref: "#/components/schemas/NewThing"}, {properties: {id: {type: integer}}}]}
"##;

    #[test]
    fn a_skeleton_can_be_run_and_says_what_the_document_says() {
        let text = skeleton(SHOP).expect("a document");
        read("skeleton", &text, Path::new("")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let scenario: Scenario = serde_saphyr::from_str(&text).expect("YAML");
        let names: Vec<_> = scenario.journeys.keys().map(String::as_str).collect();
        assert_eq!(names, ["get", "get-find", "get-things", "things"]);

        let things = &scenario.journeys["things"];
        let requests: Vec<_> = things
            .steps
            .iter()
            .map(|step| step.request.as_str())
            .collect();
        assert_eq!(
            requests,
            [
                "POST /things",
                "GET /things/{thing_id}",
                "POST /things/{thing_id}/lend",
                "DELETE /things/{thing_id}"
            ]
        );
        let made = &things.steps[0];
        assert_eq!(made.take["thing_id"], Take::Json("/id".to_owned()));
        assert_eq!(
            (made.expect.as_slice(), things.steps[2].expect.as_slice()),
            (&[201][..], &[][..])
        );
        assert_eq!(made.headers["idempotency-key"], "{Idempotency-Key}");
        assert_eq!(
            things.variables,
            [("Idempotency-Key".to_owned(), Variable::Uuid)].into()
        );
        let body = made.json.as_ref().expect("a body");
        assert_eq!(
            (&body["name"], &body["size"]),
            (&json!("a {{thing}}"), &json!(3))
        );
        assert!(
            body.get("note").is_none() && body["parts"][0]["name"] == "a {{thing}}",
            "{body}"
        );

        let find = &scenario.journeys["get-find"];
        assert_eq!(
            find.steps[0].request,
            "GET /find?size={size}&colour={colour}"
        );
        assert_eq!(find.variables["size"], Variable::Range([2, 5]));
        assert_eq!(
            find.variables["colour"],
            Variable::OneOf(vec![json!("red"), json!("green")])
        );
        assert_eq!((find.weight, things.weight), (READING, 1));
    }

    #[test]
    fn what_is_no_document_is_told() {
        for (text, said) in [
            ("", "no OpenAPI 3 document"),
            ("{", "neither JSON nor YAML"),
            ("swagger: '2.0'", "no OpenAPI 3 document"),
            (
                "{\"openapi\": \"3.0.0\", \"paths\": {}}",
                "nothing to request",
            ),
        ] {
            let error = skeleton(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
