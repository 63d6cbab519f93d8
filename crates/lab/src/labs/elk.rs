//! Lab 4: lines of the learner's own program, from a file into Elasticsearch, those that are broken too, and counted there.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stack::table;

use super::grader::{Graded, Grader, Seen, graded};

/// The learner's aggregation.
const QUERY: &str = "query.json";
/// Lines are of this lesson, and not of the future.
const RECENT: SignedDuration = SignedDuration::from_hours(6);
const CLOCK: SignedDuration = SignedDuration::from_mins(1);
/// What every program has to say: that it works, and that something went wrong.
const LEVELS: [&str; 2] = ["info", "error"];
/// So many traces are looked for, of the newest lines that name one.
const TRACES: usize = 3;
/// The lines that are counted: of the last half hour, and not those that are still on their way.
const WINDOW: [SignedDuration; 2] = [SignedDuration::from_mins(30), SignedDuration::from_secs(10)];

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "A line that is no document is not lost",
            "let app.py write its lines as they are, and look for them in flask-logs-dead-letter-*, in event.original",
            it.kept().await,
        ),
        graded(
            "Lines of your own service are in Elasticsearch",
            "`lab logs --json --service NAME` shows them; docs/logs.md and elk/golden.ndjson say what a line has to be",
            it.arrived().await,
        ),
        graded(
            "From one of your lines to the trace behind it",
            "app.py chooses the trace's id and sends it to the shop: write the same id into the line, as trace.id",
            it.line_leads_on().await,
        ),
        graded(
            "You can count them",
            "ask Elasticsearch with curl first: buckets of service.name, and in each of them buckets of log.level",
            it.aggregated().await,
        ),
    ]
}

/// Lines by service and level.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// The buckets of the only aggregation in an object, with their names.
fn buckets(of: &Value) -> anyhow::Result<Vec<(String, &Value)>> {
    let inner = of.as_object().into_iter().flat_map(|it| it.values());
    let mut lists = inner.filter_map(|it| it["buckets"].as_array());
    let list = lists.next().context("it makes no buckets")?;
    ensure!(
        lists.next().is_none(),
        "it makes two kinds of buckets beside each other"
    );
    let named = list.iter().map(|bucket| {
        let key = bucket["key"].as_str();
        Ok((
            key.context("the name of a bucket is no word")?.to_owned(),
            bucket,
        ))
    });
    named.collect()
}

/// What an aggregation by service and level has found.
fn counts(aggregations: &Value) -> anyhow::Result<Counts> {
    let services = buckets(aggregations).context("by service")?;
    let services = services.into_iter().map(|(service, bucket)| {
        let levels = buckets(bucket).with_context(|| format!("by level, within {service}"))?;
        let levels = levels.into_iter().map(|(level, bucket)| {
            let count = bucket["doc_count"].as_u64();
            (level, count.unwrap_or_default())
        });
        Ok((service, levels.collect()))
    });
    services.collect()
}

/// Where two counts differ, without the number that is right.
fn same(given: &Counts, wanted: &Counts) -> anyhow::Result<()> {
    for (service, levels) in wanted {
        let given = given.get(service);
        let given = given.with_context(|| format!("there is no bucket {service}"))?;
        for (level, count) in levels {
            let given = given.get(level);
            let given = given.with_context(|| format!("{service} has no bucket {level}"))?;
            ensure!(
                given == count,
                "{service} has {given} lines of level {level}, which is not right"
            );
        }
        let more = given.keys().find(|level| !levels.contains_key(*level));
        ensure!(
            more.is_none(),
            "{service} should have no bucket {}",
            more.map_or("", String::as_str)
        );
    }
    let more = given.keys().find(|service| !wanted.contains_key(*service));
    ensure!(
        more.is_none(),
        "there should be no bucket {}",
        more.map_or("", String::as_str)
    );
    Ok(())
}

/// A search that looks at the lines of some time only, whatever else it asks for.
fn within(search: &Value, [from, until]: [Timestamp; 2]) -> Value {
    let mut filter = vec![json!({ "range": { "@timestamp": { "gte": from, "lt": until } } })];
    filter.extend(search.get("query").cloned());
    let aggs = ["aggs", "aggregations"]
        .iter()
        .find_map(|name| search.get(*name));
    json!({ "size": 0, "query": { "bool": { "filter": filter } }, "aggs": aggs })
}

/// What the learner's aggregation is to say.
fn reference() -> Value {
    let levels = json!({ "terms": { "field": "log.level", "size": 50 } });
    json!({
        "query": { "bool": { "must_not": { "wildcard": { "event.dataset": "*.access" } } } },
        "aggs": { "service": { "terms": { "field": "service.name", "size": 500 }, "aggs": { "level": levels } } },
    })
}

impl Grader<'_> {
    async fn found(&self, search: Value) -> anyhow::Result<Value> {
        self.endpoints.need(&["elasticsearch"])?;
        self.probe
            .search(&self.endpoints.elasticsearch, search)
            .await
    }

    async fn kept(&self) -> Seen {
        let answers = self.answers()?;
        let words = answers.text("broken_words")?;
        let (reason, index) = (answers.text("reason")?, answers.text("dead_letters_in")?);
        let search = json!({
            "size": 100,
            "sort": [{ "@timestamp": "desc" }],
            "query": { "bool": { "filter": [
                { "term": { "event.kind": "pipeline_error" } },
                { "match_phrase": { "event.original": words } },
            ] } },
        });
        let answer = self.found(search).await?;
        let hits = answer["hits"]["hits"].as_array().into_iter().flatten();
        let letters = hits.filter(|hit| {
            let line = hit["_source"]["event.original"].as_str();
            line.is_some_and(|line| line.contains(&words))
        });
        // Faults let the lab's own services write broken lines as well.
        let letter = letters.into_iter().find(|hit| {
            let file = hit["_source"]["log.file.name"].as_str().unwrap_or_default();
            let name = file.split('.').next().unwrap_or_default();
            table::COMPONENTS
                .iter()
                .all(|component| component.name != name)
        });
        let letter = letter.with_context(|| {
            format!("`broken_words`: no dead letter of a file of yours says {words:?}")
        })?;
        let source = &letter["_source"];
        ensure!(
            source["error.message"] == *reason,
            "`reason`: {reason:?} is not what is wrong with it"
        );
        let its = letter["_index"].as_str().unwrap_or_default();
        // The name that is written to, or the index behind it.
        let alias = its
            .trim_end_matches(|it: char| it.is_ascii_digit())
            .trim_end_matches('-');
        ensure!(
            index == its || index == alias,
            "`dead_letters_in`: it is not in {index}"
        );
        Ok(vec![format!(
            "{its} has it, from {} at byte {}",
            source["log.file.name"], source["log.offset"]
        )])
    }

    /// The service whose lines are the learner's.
    fn service(&self) -> anyhow::Result<String> {
        let service = self.answers()?.text("service")?;
        let theirs = table::COMPONENTS
            .iter()
            .any(|it| service.starts_with(it.name) || it.name.starts_with(&service));
        ensure!(
            !theirs,
            "`service`: {service} is of the lab; choose a name for a program of yours"
        );
        Ok(service)
    }

    /// Its newest lines.
    async fn own_lines(&self, service: &str) -> anyhow::Result<Vec<Value>> {
        let lines = self
            .lines(&format!("service.name:\"{}\"", service.escape_default()))
            .await?;
        ensure!(
            !lines.is_empty(),
            "Elasticsearch has no line with service.name {service}"
        );
        Ok(lines)
    }

    async fn arrived(&self) -> Seen {
        let service = self.service()?;
        let lines = self.own_lines(&service).await?;
        let now = Timestamp::now();
        for line in &lines {
            let text = |field: &str| line[field].as_str().unwrap_or_default();
            ensure!(!text("message").is_empty(), "a line has no message: {line}");
            let dataset = text("event.dataset");
            ensure!(
                dataset
                    .strip_prefix(&service)
                    .is_some_and(|kind| kind.len() > 1 && kind.starts_with('.')),
                "event.dataset is {dataset:?}, and not {service}, a dot and the kind of line"
            );
        }
        let newest = lines[0]["@timestamp"].as_str().unwrap_or_default();
        let at: Timestamp = newest
            .parse()
            .with_context(|| format!("@timestamp is {newest:?}"))?;
        ensure!(
            now.duration_since(at) < RECENT,
            "the newest line is of {newest}: too long ago"
        );
        ensure!(
            at.duration_since(now) < CLOCK,
            "the newest line is of {newest}, which is yet to come"
        );
        let mut seen = vec![format!("the newest of them at {newest}")];
        for level in LEVELS {
            let count = lines
                .iter()
                .filter(|line| line["log.level"] == level)
                .count();
            ensure!(
                count > 0,
                "none of the newest {} lines has log.level {level}",
                lines.len()
            );
            seen.push(format!(
                "{count} lines of level {level} among the newest {}",
                lines.len()
            ));
        }
        Ok(seen)
    }

    async fn line_leads_on(&self) -> Seen {
        let service = self.service()?;
        let lines = self.own_lines(&service).await?;
        let ids: Vec<&str> = lines
            .iter()
            .filter_map(|line| line["trace.id"].as_str())
            .collect();
        ensure!(
            !ids.is_empty(),
            "none of the newest {} lines has a trace.id",
            lines.len()
        );
        let mut missing = None;
        for id in ids.iter().take(TRACES) {
            match self.trace(id).await {
                Ok(trace) => {
                    let services: Vec<_> = trace.services().into_iter().collect();
                    return Ok(vec![format!(
                        "trace {id} shows what {} did",
                        services.join(" and ")
                    )]);
                }
                Err(reason) => missing = Some(reason),
            }
        }
        Err(missing.context("there is an id")?)
    }

    async fn aggregated(&self) -> Seen {
        let text = self.read(QUERY)?;
        let file = self.file(QUERY);
        let query: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", file.display()))?;
        ensure!(
            within(&query, [Timestamp::now(); 2])["aggs"].is_object(),
            "{} has no aggs",
            file.display()
        );
        let now = Timestamp::now();
        let window = WINDOW.map(|ago| now - ago);
        let wanted = counts(&self.found(within(&reference(), window)).await?["aggregations"])?;
        ensure!(
            wanted.len() > 1,
            "there are too few lines to count within the last half hour; start app.py again"
        );
        let given = self.found(within(&query, window)).await?;
        let given = counts(&given["aggregations"]).with_context(|| file.display().to_string())?;
        same(&given, &wanted)?;
        let lines: u64 = wanted.values().flat_map(BTreeMap::values).sum();
        Ok(vec![format!(
            "{lines} lines of {} services within half an hour: every bucket is right",
            wanted.len()
        )])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(services: &[(&str, &[(&str, u64)])]) -> Value {
        let bucket = |key: &str, count: u64| json!({ "key": key, "doc_count": count });
        let services = services.iter().map(|(service, levels)| {
            let levels: Vec<_> = levels
                .iter()
                .map(|(level, count)| bucket(level, *count))
                .collect();
            let mut service = bucket(service, 7);
            service["of_any_name"] = json!({ "sum_other_doc_count": 0, "buckets": levels });
            service
        });
        json!({ "mine": { "buckets": services.collect::<Vec<_>>() } })
    }

    #[test]
    fn buckets_are_compared_by_name_and_number() {
        let wanted = found(&[("a", &[("info", 3), ("error", 1)]), ("b", &[("info", 2)])]);
        let wanted = counts(&wanted).unwrap();
        assert!(same(&wanted, &wanted).is_ok());
        for (given, why) in [
            (found(&[("a", &[("info", 3), ("error", 1)])]), "no bucket b"),
            (
                found(&[("a", &[("info", 3)]), ("b", &[("info", 2)])]),
                "a has no bucket error",
            ),
            (
                found(&[("a", &[("info", 4), ("error", 1)]), ("b", &[("info", 2)])]),
                "a has 4 lines",
            ),
            (
                found(&[
                    ("a", &[("info", 3), ("error", 1)]),
                    ("b", &[("info", 2), ("warn", 1)]),
                ]),
                "no bucket warn",
            ),
            (
                found(&[
                    ("a", &[("info", 3), ("error", 1)]),
                    ("b", &[("info", 2)]),
                    ("c", &[]),
                ]),
                "no bucket c",
            ),
        ] {
            let error = same(&counts(&given).unwrap(), &wanted)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn buckets_of_one_kind_are_not_enough() {
        let flat = json!({ "services": { "buckets": [{ "key": "a", "doc_count": 4 }] } });
        for (aggregations, why) in [
            (flat, "within a"),
            (json!({}), "by service"),
            (Value::Null, "by service"),
        ] {
            let error = format!("{:#}", counts(&aggregations).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_search_is_held_to_the_window_and_keeps_its_own_filter() {
        let window = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"].map(|at| at.parse().unwrap());
        let own = json!({ "term": { "log.level": "info" } });
        let search = within(
            &json!({ "size": 9, "query": own, "aggregations": { "x": {} } }),
            window,
        );
        let filter = &search["query"]["bool"]["filter"];
        assert_eq!(
            filter[0]["range"]["@timestamp"]["lt"],
            "2026-01-01T01:00:00Z"
        );
        assert_eq!(
            (&filter[1], &search["size"], &search["aggs"]),
            (&own, &json!(0), &json!({ "x": {} }))
        );
    }
}
