//! What Elasticsearch says.

use plots::Line;
use serde_json::{Map, Value, json};

use crate::{
    backend::{Backend, Trouble},
    jaeger,
};

/// Where lines are searched for. Before the first line there is no index, which is no error.
pub const SEARCH: &str = "/flask-logs-*/_search?ignore_unavailable=true&allow_no_indices=true";

/// What a search asks for; what is empty is not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Whose lines.
    pub service: String,
    /// `app`, `access` or `error`.
    pub kind: String,
    /// One of these.
    pub levels: Vec<String>,
    /// Its id.
    pub trace: String,
    /// Elasticsearch's simple query string: words, "a phrase", -not, a | b, prefix*.
    pub words: String,
    /// No older, in milliseconds since 1970.
    pub from: Option<i64>,
    /// No newer.
    pub to: Option<i64>,
    /// Otherwise the newest line is the first.
    pub oldest_first: bool,
    /// No more lines.
    pub most: u32,
}

impl Wanted {
    /// What Elasticsearch is asked.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut filter = Vec::new();
        for (field, value) in [("service.name", &self.service), ("trace.id", &self.trace)] {
            if !value.is_empty() {
                filter.push(json!({ "term": { field: value } }));
            }
        }
        if !self.kind.is_empty() {
            let dataset = format!("*.{}", self.kind);
            filter.push(json!({ "wildcard": { "event.dataset": { "value": dataset } } }));
        }
        if !self.levels.is_empty() {
            filter.push(json!({ "terms": { "log.level": self.levels } }));
        }
        if !self.words.trim().is_empty() {
            filter.push(json!({ "simple_query_string": {
                "query": self.words, "fields": ["message", "error.message"], "default_operator": "and",
            } }));
        }
        if self.from.or(self.to).is_some() {
            filter.push(json!({ "range": { "@timestamp": { "gte": self.from, "lte": self.to, "format": "epoch_millis" } } }));
        }
        let order = if self.oldest_first { "asc" } else { "desc" };
        json!({
            "size": self.most,
            "track_total_hits": true,
            "sort": [{ "@timestamp": { "order": order, "unmapped_type": "date" } }],
            "query": { "bool": { "filter": filter } },
        })
    }
}

/// Lines, and how many there are besides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) lines: Vec<Line>,
    pub(crate) total: u64,
}

/// The raw answer to a search.
pub(crate) async fn ask(elasticsearch: &Backend, body: &Value) -> Result<Value, Trouble> {
    elasticsearch.post(SEARCH, body).await
}

/// The lines that a search finds.
pub(crate) async fn search(elasticsearch: &Backend, wanted: &Wanted) -> Result<Found, Trouble> {
    Ok(lines(&ask(elasticsearch, &wanted.body()).await?))
}

/// The lines of an answer.
pub(crate) fn lines(answer: &Value) -> Found {
    let hits = answer["hits"]["hits"].as_array().into_iter().flatten();
    let lines: Vec<Line> = hits.map(|hit| line(&hit["_source"])).collect();
    let total = answer["hits"]["total"]["value"].as_u64();
    Found {
        total: total.unwrap_or(lines.len() as u64),
        lines,
    }
}

fn line(source: &Value) -> Line {
    let mut fields = Map::new();
    flatten("", source, &mut fields);
    let text = |name: &str| fields.get(name).map(plain).unwrap_or_default();
    let at = text("@timestamp");
    let mut message = text("message");
    let error = text("error.message");
    if !error.is_empty() && !message.contains(&error) {
        message = format!("{message}: {error}");
    }
    let trace = text("trace.id");
    Line {
        at: at
            .parse::<jiff::Timestamp>()
            .map_or(at, |at| at.strftime("%F %T%.3f").to_string()),
        level: text("log.level"),
        service: text("service.name"),
        message,
        trace: (!trace.is_empty()).then(|| (trace.clone(), jaeger::page(&trace))),
        fields: fields
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect(),
    }
}

/// Elasticsearch takes `{"log": {"level": ...}}` and `{"log.level": ...}` for the same.
fn flatten(prefix: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                flatten(&name, value, into);
            }
        }
        _ => drop(into.insert(prefix.to_owned(), value.clone())),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_flat_or_nested() {
        let sources = [
            json!({"@timestamp": "2026-11-25T10:00:00.123Z", "log.level": "error", "service.name": "flask-api", "message": "order failed",
                "error.message": "declined", "trace.id": "abc", "event.duration": 5}),
            json!({"@timestamp": "2026-11-25T10:00:00.123Z", "log": {"level": "error"}, "service": {"name": "flask-api"}, "message": "order failed",
                "error": {"message": "declined"}, "trace": {"id": "abc"}, "event": {"duration": 5}}),
        ];
        for source in sources {
            let answer = json!({"hits": {"total": {"value": 7}, "hits": [{"_source": source}]}});
            let found = lines(&answer);
            assert_eq!(found.total, 7);
            let line = &found.lines[0];
            assert_eq!(line.at, "2026-11-25 10:00:00.123");
            assert_eq!(
                (line.level.as_str(), line.service.as_str()),
                ("error", "flask-api")
            );
            assert_eq!(line.message, "order failed: declined");
            assert_eq!(
                line.trace,
                Some(("abc".into(), "/explore/trace/abc".into()))
            );
            assert!(line.fields.contains(&("event.duration".into(), "5".into())));
        }
    }

    #[test]
    fn only_what_is_asked_for_is_a_filter() {
        let all = Wanted {
            most: 10,
            ..Wanted::default()
        }
        .body();
        assert_eq!(all["query"]["bool"]["filter"], json!([]));
        let some = Wanted {
            service: "payments".into(),
            words: " ".into(),
            from: Some(1),
            ..Wanted::default()
        }
        .body();
        let filter = some["query"]["bool"]["filter"].as_array().unwrap();
        assert_eq!(filter.len(), 2);
        assert_eq!(filter[0], json!({"term": {"service.name": "payments"}}));
    }

    #[test]
    fn an_answer_without_index_is_no_line() {
        assert_eq!(
            lines(&json!({"hits": {"total": {"value": 0}, "hits": []}})),
            Found::default()
        );
        assert_eq!(lines(&json!({})), Found::default());
    }
}
