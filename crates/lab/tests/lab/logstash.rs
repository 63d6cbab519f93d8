//! Logstash is in no package registry, so its files are held to its grammar, and to what they say of each other. Its script runs in `golden`.

use std::collections::{BTreeMap, BTreeSet};

use pest::{Parser, iterators::Pair};
use serde_json::Value;

use crate::running::project;

#[derive(pest_derive::Parser)]
#[grammar = "tests/lab/logstash/pipeline.pest"]
struct Grammar;

/// The options of every plugin that `elk/` uses, by Logstash's reference.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "input file",
        &[
            "path",
            "mode",
            "start_position",
            "stat_interval",
            "discover_interval",
            "sincedb_write_interval",
            "codec",
            "ecs_compatibility",
            "add_field",
        ],
    ),
    ("input plain", &["charset"]),
    (
        "input dead_letter_queue",
        &["path", "pipeline_id", "commit_offsets"],
    ),
    ("filter ruby", &["path", "code"]),
    ("filter mutate", &["add_field"]),
    (
        "filter useragent",
        &["source", "target", "ecs_compatibility"],
    ),
    (
        "output elasticsearch",
        &[
            "hosts",
            "index",
            "document_id",
            "action",
            "manage_template",
            "ilm_enabled",
            "data_stream",
            "ecs_compatibility",
            "retry_initial_interval",
            "retry_max_interval",
        ],
    ),
];

fn read(file: &str) -> String {
    std::fs::read_to_string(project().join("elk").join(file)).unwrap()
}

fn parse(text: &str) -> Result<Pair<'_, Rule>, Box<pest::error::Error<Rule>>> {
    Ok(Grammar::parse(Rule::pipeline, text)?.next().unwrap())
}

/// Every plugin with the names of its options, wherever it stands in `pair`.
fn plugins(pair: Pair<'_, Rule>, section: &str, found: &mut Vec<(String, Vec<String>)>) {
    let mut section = section.to_owned();
    for inner in pair.into_inner() {
        match inner.as_rule() {
            Rule::kind => section = inner.as_str().into(),
            Rule::plugin => {
                let mut name = String::new();
                let mut options = Vec::new();
                for part in inner.clone().into_inner() {
                    match part.as_rule() {
                        Rule::name => name = format!("{section} {}", part.as_str()),
                        Rule::attribute => {
                            options.push(part.into_inner().next().unwrap().as_str().to_owned());
                        }
                        _ => {}
                    }
                }
                found.push((name, options));
                plugins(inner, &section, found);
            }
            _ => plugins(inner, &section, found),
        }
    }
}

#[test]
fn every_pipeline_is_one_by_logstashs_grammar() {
    let known: BTreeMap<&str, &[&str]> = OPTIONS.iter().copied().collect();
    let mut used = BTreeSet::new();
    for file in ["logstash.conf", "logstash-dead-letters.conf"] {
        let text = read(file);
        let mut found = Vec::new();
        plugins(
            parse(&text).unwrap_or_else(|error| panic!("{file}: {error}")),
            "",
            &mut found,
        );
        for (plugin, options) in found {
            let known = known
                .get(plugin.as_str())
                .unwrap_or_else(|| panic!("{file}: what is {plugin}?"));
            for option in options {
                assert!(
                    known.contains(&option.as_str()),
                    "{file}: {plugin} has no {option}"
                );
            }
            used.insert(plugin);
        }
    }
    for plugin in known.keys() {
        assert!(used.contains(*plugin), "nothing uses {plugin}");
    }
    // It can be told from what is none.
    for wrong in [
        "input { file { path = \"x\" } }",
        "input { file { path => \"x\" }",
        "filter { if [a] = 1 { ruby { code => \"\" } } }",
        "outputs { }",
        "filter { else { mutate { } } }",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_settings_name_what_is_there() {
    let settings: BTreeMap<String, Value> =
        serde_saphyr::from_str(&read("logstash/logstash.yml")).unwrap();
    assert_eq!(settings["queue.type"], "persisted");
    assert_eq!(settings["queue.checkpoint.writes"], 1);
    assert_eq!(settings["dead_letter_queue.enable"], true);
    let pipelines: Vec<BTreeMap<String, Value>> =
        serde_saphyr::from_str(&read("logstash/pipelines.yml")).unwrap();
    let ids: Vec<&str> = pipelines
        .iter()
        .map(|it| it["pipeline.id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["lines", "dead-letters"]);
    for pipeline in &pipelines {
        let path = pipeline["path.config"].as_str().unwrap();
        let file = path.strip_prefix("${LOGSTASH_CONFIG}/").unwrap();
        assert!(project().join("elk").join(file).is_file(), "{path}");
    }
    // The queue that is emptied is the one that is filled.
    let dead_letters = read("logstash-dead-letters.conf");
    assert!(dead_letters.contains(&format!("pipeline_id => \"{}\"", ids[0])));
    let queue = settings["path.dead_letter_queue"].as_str().unwrap();
    assert!(
        dead_letters.contains(&format!("path => \"{queue}\"")),
        "{queue}"
    );
}
