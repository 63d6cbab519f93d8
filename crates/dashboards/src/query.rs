//! From a panel's query to what is sent to Prometheus, Elasticsearch or Jaeger, as Grafana does it.
//!
//! [`Context`] is what the page knows: the time range, the step, what is chosen. [`request`] puts it
//! into a target and says what to ask whom.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Value, json};

use crate::{
    Error,
    model::{
        AnnotationTarget, BucketAggregation, BucketKind, Chosen, Dashboard, ElasticsearchQuery,
        JaegerQuery, MetricKind, PrometheusQuery, Query, Target, Variable, VariableKind,
    },
};

/// The word that Grafana keeps for "all of them".
pub const ALL: &str = "$__all";

/// Points of a graph when a panel does not say how many.
pub const POINTS: u32 = 500;

/// What the page that asks knows.
#[derive(Debug, Clone)]
pub struct Context {
    /// Beginning of the range, milliseconds since 1970.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// Time between two points.
    pub step: Duration,
    /// Time between two scrapes: `timeInterval` of the data source.
    pub scrape_interval: Duration,
    /// What is chosen, by variable.
    pub variables: BTreeMap<String, Selection>,
}

/// What is chosen of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One value of a variable that has one at a time.
    One(String),
    /// Any number of values.
    Several(Vec<String>),
    /// What `All` stands for, taken as it is.
    All(String),
}

/// What to ask, and whom.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `/api/v1/query` at the end of the range.
    PrometheusInstant {
        /// PromQL.
        expr: String,
        /// Seconds since 1970.
        at: f64,
    },
    /// `/api/v1/query_range`; both ends are multiples of the step.
    PrometheusRange {
        /// PromQL.
        expr: String,
        /// Seconds since 1970.
        start: f64,
        /// Seconds since 1970.
        end: f64,
        /// Seconds.
        step: f64,
        /// Whether `/api/v1/query_exemplars` is asked as well.
        exemplars: bool,
    },
    /// `/<index>/_search`.
    ElasticsearchSearch {
        /// What is posted there.
        body: Value,
    },
    /// `/api/traces`.
    JaegerSearch {
        /// Its query string.
        parameters: Vec<(&'static str, String)>,
    },
}

impl Context {
    /// A context for the time range, with the step that Grafana would choose for a panel of so many points.
    #[must_use]
    pub fn new(from_ms: i64, to_ms: i64, points: u32, scrape_interval: Duration) -> Self {
        let range = u64::try_from(to_ms - from_ms).unwrap_or(0);
        let step = round_interval(range / u64::from(points.max(1)));
        Self {
            from_ms,
            to_ms,
            step: Duration::from_millis(step).max(scrape_interval),
            scrape_interval,
            variables: BTreeMap::new(),
        }
    }

    /// What a dashboard shows when it is opened now: its own time range, everything chosen.
    ///
    /// # Errors
    /// When its time range is not understood.
    pub fn opening(
        dashboard: &Dashboard,
        now_ms: i64,
        points: u32,
        scrape_interval: Duration,
    ) -> Result<Self, Error> {
        let time = &dashboard.time;
        let at = |text: &str| relative(text, now_ms).ok_or_else(|| Error::Time(text.to_owned()));
        let (from, to) = (at(&time.from)?, at(&time.to)?);
        Ok(Self::new(from, to, points, scrape_interval).opened(dashboard))
    }

    /// The same with everything chosen that a dashboard chooses when it is opened. Data source variables
    /// stand for the one data source of their kind.
    #[must_use]
    pub fn opened(mut self, dashboard: &Dashboard) -> Self {
        for variable in &dashboard.templating.list {
            let selection = match &variable.current {
                _ if variable.kind == VariableKind::Datasource => {
                    Selection::One(variable.query().to_owned())
                }
                Some(chosen) => select(variable, chosen),
                None => all(variable),
            };
            self.variables.insert(variable.name.clone(), selection);
        }
        self
    }

    /// The window of `rate()` that always holds enough samples.
    #[must_use]
    pub fn rate_interval(&self) -> Duration {
        (self.step + self.scrape_interval).max(self.scrape_interval * 4)
    }

    fn range(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.to_ms - self.from_ms).unwrap_or(0))
    }

    fn builtin(&self, name: &str) -> Option<String> {
        let millis = |it: Duration| it.as_millis().to_string();
        Some(match name {
            "__interval" => promql(self.step),
            "__interval_ms" => millis(self.step),
            "__rate_interval" => promql(self.rate_interval()),
            "__rate_interval_ms" => millis(self.rate_interval()),
            "__range" => format!("{}s", self.range().as_secs().max(1)),
            "__range_s" => self.range().as_secs().to_string(),
            "__range_ms" => millis(self.range()),
            "__from" => self.from_ms.to_string(),
            "__to" => self.to_ms.to_string(),
            _ => return None,
        })
    }
}

fn select(variable: &Variable, chosen: &Chosen) -> Selection {
    let texts: Vec<String> = match &chosen.value {
        Value::Array(values) => values
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        value => value.as_str().map(str::to_owned).into_iter().collect(),
    };
    match texts.as_slice() {
        [one] if one == ALL => all(variable),
        [one] if !variable.multi => Selection::One(one.clone()),
        _ => Selection::Several(texts),
    }
}

fn all(variable: &Variable) -> Selection {
    Selection::All(variable.all_value.clone().unwrap_or_else(|| ".*".into()))
}

/// A moment in Grafana's words, `now` or `now-30m`, in milliseconds since 1970.
#[must_use]
pub fn relative(text: &str, now_ms: i64) -> Option<i64> {
    let behind = text.strip_prefix("now")?;
    if behind.is_empty() {
        return Some(now_ms);
    }
    let ago = duration(behind.strip_prefix('-')?)?;
    now_ms.checked_sub(i64::try_from(ago.as_millis()).ok()?)
}

/// A duration of one unit, `5s`, `30m`, `7d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|it: char| !it.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(Duration::from_secs(
        number.parse::<u64>().ok()?.checked_mul(seconds)?,
    ))
}

/// How several values are written into one text.
#[derive(Debug, Clone, Copy)]
enum Language {
    PromQl,
    Lucene,
    Plain,
}

/// Puts variables into PromQL.
///
/// # Errors
/// When it names a variable that there is not.
pub fn promql_text(text: &str, context: &Context) -> Result<String, Error> {
    interpolate(text, context, Language::PromQl)
}

/// Puts variables into a search in Lucene's syntax.
///
/// # Errors
/// When it names a variable that there is not.
pub fn lucene_text(text: &str, context: &Context) -> Result<String, Error> {
    interpolate(text, context, Language::Lucene)
}

/// Puts variables into a text as they are, several divided by commas: a service's name, a title.
///
/// # Errors
/// When it names a variable that there is not.
pub fn plain_text(text: &str, context: &Context) -> Result<String, Error> {
    interpolate(text, context, Language::Plain)
}

/// What to ask for a target.
///
/// # Errors
/// When it names a variable that there is not.
pub fn request(target: &Target, context: &Context) -> Result<Request, Error> {
    match &target.query {
        Query::Prometheus(query) => prometheus(query, context),
        Query::Elasticsearch(query) => elasticsearch(query, context),
        Query::Jaeger(query) => jaeger(query, context),
    }
}

/// What to ask for an annotation.
///
/// # Errors
/// When it names a variable that there is not.
pub fn annotation(target: &AnnotationTarget, context: &Context) -> Result<Request, Error> {
    Ok(range(promql_text(&target.expr, context)?, context, false))
}

/// What a variable's query asks: the selector and the label of `label_values(selector, label)`.
///
/// # Errors
/// When it is another query, or names a variable that there is not.
pub fn label_values(variable: &Variable, context: &Context) -> Result<(String, String), Error> {
    let query = promql_text(variable.query(), context)?;
    query
        .trim()
        .strip_prefix("label_values(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| inner.rsplit_once(','))
        .map(|(selector, label)| (selector.trim().to_owned(), label.trim().to_owned()))
        .ok_or_else(|| Error::Variable {
            name: variable.name.clone(),
            query: query.clone(),
        })
}

fn prometheus(query: &PrometheusQuery, context: &Context) -> Result<Request, Error> {
    let expr = promql_text(&query.expr, context)?;
    Ok(if query.instant && !query.range {
        Request::PrometheusInstant {
            expr,
            at: seconds(context.to_ms),
        }
    } else {
        range(expr, context, query.exemplar)
    })
}

/// Both ends on multiples of the step: the same points are asked for again and again while time goes on.
fn range(expr: String, context: &Context, exemplars: bool) -> Request {
    let step = i64::try_from(context.step.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let aligned = |at: i64| seconds(at.div_euclid(step) * step);
    Request::PrometheusRange {
        expr,
        start: aligned(context.from_ms),
        end: aligned(context.to_ms),
        step: context.step.as_secs_f64(),
        exemplars,
    }
}

fn elasticsearch(query: &ElasticsearchQuery, context: &Context) -> Result<Request, Error> {
    let words = lucene_text(&query.query, context)?;
    let mut filter = vec![json!({ "range": { &query.time_field: {
        "gte": context.from_ms, "lte": context.to_ms, "format": "epoch_millis",
    } } })];
    if !words.trim().is_empty() {
        filter.push(json!({ "query_string": { "analyze_wildcard": true, "query": words } }));
    }
    let filter = json!({ "bool": { "filter": filter } });
    let logs = query
        .metrics
        .iter()
        .find(|metric| metric.kind == MetricKind::Logs);
    let body = if let Some(logs) = logs {
        let limit: u32 = logs
            .settings
            .get("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(POINTS);
        json!({ "size": limit, "query": filter, "sort": [
            { &query.time_field: { "order": "desc", "unmapped_type": "date" } },
            { "_doc": { "order": "desc" } },
        ] })
    } else {
        let mut body = json!({ "size": 0, "query": filter });
        if let Some(buckets) = buckets(&query.bucket_aggs, context) {
            body["aggs"] = buckets;
        }
        body
    };
    Ok(Request::ElasticsearchSearch { body })
}

fn buckets(aggregations: &[BucketAggregation], context: &Context) -> Option<Value> {
    let (outer, inner) = aggregations.split_first()?;
    let setting = |name: &str| outer.settings.get(name).map(String::as_str);
    let mut aggregation = match outer.kind {
        BucketKind::Terms => {
            let by = setting("orderBy").unwrap_or("_count");
            json!({ "terms": {
                "field": outer.field,
                "size": setting("size").and_then(|size| size.parse::<u32>().ok()).unwrap_or(10),
                "order": { by: setting("order").unwrap_or("desc") },
            } })
        }
        BucketKind::DateHistogram => {
            let interval = match setting("interval") {
                None | Some("auto") => format!("{}ms", context.step.as_millis()),
                Some(fixed) => fixed.to_owned(),
            };
            json!({ "date_histogram": {
                "field": outer.field,
                "fixed_interval": interval,
                "min_doc_count": setting("min_doc_count").and_then(|count| count.parse::<u32>().ok()).unwrap_or(0),
                "extended_bounds": { "min": context.from_ms, "max": context.to_ms },
                "format": "epoch_millis",
            } })
        }
    };
    if let Some(inner) = buckets(inner, context) {
        aggregation["aggs"] = inner;
    }
    Some(json!({ &outer.id: aggregation }))
}

fn jaeger(query: &JaegerQuery, context: &Context) -> Result<Request, Error> {
    let mut parameters = vec![
        ("service", plain_text(&query.service, context)?),
        ("limit", query.limit.to_string()),
        // Microseconds.
        ("start", format!("{}000", context.from_ms)),
        ("end", format!("{}000", context.to_ms)),
    ];
    for (name, value) in [
        ("operation", &query.operation),
        ("minDuration", &query.min_duration),
    ] {
        if !value.is_empty() {
            parameters.push((name, plain_text(value, context)?));
        }
    }
    if !query.tags.is_empty() {
        let tags: BTreeMap<String, String> = plain_text(&query.tags, context)?
            .split_whitespace()
            .filter_map(|tag| tag.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        parameters.push(("tags", json!(tags).to_string()));
    }
    Ok(Request::JaegerSearch { parameters })
}

/// Replaces `$name`, `${name}` and `${name:format}`. What looks like no variable stays: a lone `$`, the
/// end of a regular expression.
fn interpolate(text: &str, context: &Context, language: Language) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, format, behind) = reference(after);
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&value(name, format, context, language).ok_or_else(|| {
                Error::UnknownVariable {
                    name: name.to_owned(),
                    text: text.to_owned(),
                    known: context.variables.keys().cloned().collect(),
                }
            })?);
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// The name and format that stand behind a `$`, and what comes after them.
fn reference(after: &str) -> (&str, Option<&str>, &str) {
    let word = |text: &str| {
        text.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
            .unwrap_or(text.len())
    };
    if let Some((inside, behind)) = after
        .strip_prefix('{')
        .and_then(|braced| braced.split_once('}'))
    {
        let (name, format) = match inside.split_once(':') {
            Some((name, format)) => (name, Some(format)),
            None => (inside, None),
        };
        if !name.is_empty() && word(name) == name.len() {
            return (name, format, behind);
        }
        return ("", None, after);
    }
    let end = word(after);
    let (name, behind) = after.split_at(end);
    if name.starts_with(|it: char| it.is_ascii_digit()) {
        // `$1` in label_replace().
        return ("", None, after);
    }
    (name, None, behind)
}

fn value(
    name: &str,
    format: Option<&str>,
    context: &Context,
    language: Language,
) -> Option<String> {
    if let Some(value) = context.builtin(name) {
        return Some(value);
    }
    let escape: fn(&str) -> String = match (format, language) {
        (Some("raw" | "text" | "csv"), _) | (None, Language::Plain) => str::to_owned,
        (Some("pipe"), _) => str::to_owned,
        (Some("regex"), _) | (None, Language::PromQl) => regex_in_string,
        (_, Language::Lucene) => lucene,
        _ => str::to_owned,
    };
    let join = |values: &[String]| -> String {
        let texts: Vec<String> = values.iter().map(|value| escape(value)).collect();
        match (format, language) {
            (Some("raw" | "csv" | "text"), _) | (None, Language::Plain) => texts.join(","),
            (Some("pipe" | "regex"), _) => texts.join("|"),
            (_, Language::Lucene) => format!("({})", texts.join(" OR ")),
            _ if texts.len() == 1 => texts.concat(),
            _ => format!("({})", texts.join("|")),
        }
    };
    Some(match context.variables.get(name)? {
        Selection::All(all) => all.clone(),
        Selection::One(one) if format.is_none() => match language {
            Language::PromQl => one.replace('\\', "\\\\").replace('"', "\\\""),
            Language::Lucene => lucene(one),
            Language::Plain => one.clone(),
        },
        Selection::One(one) => join(std::slice::from_ref(one)),
        Selection::Several(values) => join(values),
    })
}

/// A regular expression that matches just this text, inside a string of PromQL, where a backslash is two.
fn regex_in_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '\\' => out.push_str(r"\\\\"),
            '"' => out.push_str("\\\""),
            '^' | '$' | '.' | '|' | '?' | '*' | '+' | '(' | ')' | '[' | ']' | '{' | '}' => {
                out.push_str(r"\\");
                out.push(it);
            }
            _ => out.push(it),
        }
    }
    out
}

fn lucene(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are far below 2^53"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A duration as PromQL writes it, in the largest unit that divides it.
fn promql(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, length) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        if ms >= length && ms.is_multiple_of(length) {
            return format!("{}{unit}", ms / length);
        }
    }
    let mut text = String::new();
    let _ = write!(text, "{}ms", ms.max(1));
    text
}

/// Grafana's steps: what is near is rounded to a number that people know.
fn round_interval(ms: u64) -> u64 {
    const STEPS: &[(u64, u64)] = &[
        (10, 1),
        (15, 10),
        (35, 20),
        (75, 50),
        (150, 100),
        (350, 200),
        (750, 500),
        (1500, 1000),
        (3500, 2000),
        (7500, 5000),
        (12_500, 10_000),
        (17_500, 15_000),
        (25_000, 20_000),
        (45_000, 30_000),
        (90_000, 60_000),
        (210_000, 120_000),
        (450_000, 300_000),
        (750_000, 600_000),
        (1_050_000, 900_000),
        (1_500_000, 1_200_000),
        (2_700_000, 1_800_000),
        (5_400_000, 3_600_000),
        (9_000_000, 7_200_000),
        (16_200_000, 10_800_000),
        (32_400_000, 21_600_000),
        (86_400_000, 43_200_000),
        (604_800_000, 86_400_000),
        (1_814_400_000, 604_800_000),
    ];
    STEPS
        .iter()
        .find(|(below, _)| ms < *below)
        .map_or(2_592_000_000, |(_, step)| *step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DataSource, DataSourceKind, Format, Metric};

    const MINUTE: i64 = 60_000;

    fn context() -> Context {
        let mut context = Context::new(0, 30 * MINUTE, POINTS, Duration::from_secs(5));
        let mut set = |name: &str, selection| {
            context.variables.insert(name.into(), selection);
        };
        set("job", Selection::All(".+".into()));
        set("service", Selection::One("flask-api".into()));
        set("quoted", Selection::One(r#"a"b\c"#.into()));
        set("none", Selection::Several(vec![]));
        set(
            "route",
            Selection::Several(vec!["/api/orders/{id}".into(), "/api/orders".into()]),
        );
        set("one_route", Selection::Several(vec!["/api/orders".into()]));
        context
    }

    #[test]
    fn the_step_is_grafanas_and_never_below_the_scrape_interval() {
        let step = |minutes: i64, points| {
            Context::new(0, minutes * MINUTE, points, Duration::from_secs(5))
                .step
                .as_secs()
        };
        assert_eq!(step(5, 500), 5);
        assert_eq!(step(30, 500), 5);
        assert_eq!(step(60, 500), 5);
        assert_eq!(step(6 * 60, 500), 30);
        assert_eq!(step(7 * 24 * 60, 500), 1200);
        assert_eq!(step(0, 0), 5);
    }

    #[test]
    fn a_moment_is_now_or_so_long_ago() {
        let now = 1_000_000_000;
        assert_eq!(relative("now", now), Some(now));
        assert_eq!(relative("now-30m", now), Some(now - 30 * MINUTE));
        assert_eq!(relative("now-7d", now), Some(now - 7 * 24 * 60 * MINUTE));
        for wrong in [
            "",
            "then",
            "now-",
            "now-m",
            "now-5y",
            "now+5m",
            "now-5m/h",
            "now-99999999999999999999w",
        ] {
            assert_eq!(relative(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn a_rate_sees_four_scrapes_or_a_step_and_one() {
        let interval = |minutes: i64| {
            Context::new(0, minutes * MINUTE, 500, Duration::from_secs(5))
                .rate_interval()
                .as_secs()
        };
        assert_eq!(interval(30), 20);
        assert_eq!(interval(6 * 60), 35);
    }

    #[test]
    fn variables_are_put_into_promql() {
        for (text, wanted) in [
            ("up", "up"),
            ("rate(x[$__rate_interval])", "rate(x[20s])"),
            ("x[${__range}:$__interval]", "x[1800s:5s]"),
            ("$__interval_ms / $__range_s", "5000 / 1800"),
            (r#"up{job=~"$job"}"#, r#"up{job=~".+"}"#),
            (r#"up{service="${service}"}"#, r#"up{service="flask-api"}"#),
            (r#"up{a="$quoted"}"#, r#"up{a="a\"b\\c"}"#),
            (
                r#"x{route=~"$route"}"#,
                r#"x{route=~"(/api/orders/\\{id\\}|/api/orders)"}"#,
            ),
            (r#"x{route=~"$one_route"}"#, r#"x{route=~"/api/orders"}"#),
            (r#"x{route=~"$none"}"#, r#"x{route=~"()"}"#),
            (r#"x{route=~"^/a$"}"#, r#"x{route=~"^/a$"}"#),
            (
                r#"label_replace(x, "a", "$1", "b", "(.+)")"#,
                r#"label_replace(x, "a", "$1", "b", "(.+)")"#,
            ),
            ("${route:csv}", "/api/orders/{id},/api/orders"),
        ] {
            assert_eq!(promql_text(text, &context()).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn variables_are_put_into_a_search_for_logs() {
        let text = "service.name:$service AND http.route:$route";
        assert_eq!(
            lucene_text(text, &context()).unwrap(),
            r#"service.name:"flask-api" AND http.route:("/api/orders/{id}" OR "/api/orders")"#
        );
    }

    #[test]
    fn a_variable_that_there_is_not_is_named_with_those_there_are() {
        let error = promql_text("up{job=\"$jbo\"}", &context())
            .unwrap_err()
            .to_string();
        assert!(error.contains("$jbo"), "{error}");
        assert!(error.contains("one_route"), "{error}");
    }

    fn target(query: Query) -> Target {
        Target {
            ref_id: "A".into(),
            datasource: DataSource {
                kind: DataSourceKind::Prometheus,
                uid: String::new(),
            },
            query,
        }
    }

    fn promql_target(instant: bool) -> Target {
        target(Query::Prometheus(PrometheusQuery {
            expr: "up".into(),
            legend_format: String::new(),
            format: Format::TimeSeries,
            instant,
            range: !instant,
            exemplar: !instant,
            editor_mode: "code".into(),
        }))
    }

    #[test]
    fn ends_of_a_range_are_multiples_of_the_step() {
        let mut context = context();
        context.from_ms = 1_000_003_210;
        context.to_ms = 1_001_801_234;
        assert_eq!(
            request(&promql_target(false), &context).unwrap(),
            Request::PrometheusRange {
                expr: "up".into(),
                start: 1_000_000.0,
                end: 1_001_800.0,
                step: 5.0,
                exemplars: true,
            }
        );
        assert_eq!(
            request(&promql_target(true), &context).unwrap(),
            Request::PrometheusInstant {
                expr: "up".into(),
                at: 1_001_801.234,
            }
        );
    }

    fn logs(kind: MetricKind, bucket_aggs: Vec<BucketAggregation>) -> Value {
        let target = target(Query::Elasticsearch(ElasticsearchQuery {
            query: "service.name:$service".into(),
            time_field: "@timestamp".into(),
            metrics: vec![Metric {
                id: "1".into(),
                kind,
                settings: [("limit".to_owned(), "20".to_owned())].into(),
            }],
            bucket_aggs,
            alias: String::new(),
        }));
        match request(&target, &context()).unwrap() {
            Request::ElasticsearchSearch { body } => body,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_come_newest_first() {
        let body = logs(MetricKind::Logs, vec![]);
        assert_eq!(body["size"], 20);
        assert_eq!(body["sort"][0]["@timestamp"]["order"], "desc");
        let filter = &body["query"]["bool"]["filter"];
        assert_eq!(filter[0]["range"]["@timestamp"]["lte"], 30 * MINUTE);
        assert_eq!(
            filter[1]["query_string"]["query"],
            "service.name:\"flask-api\""
        );
    }

    #[test]
    fn lines_are_counted_from_the_outside_in() {
        let bucket = |id: &str, kind, field: &str| BucketAggregation {
            id: id.into(),
            kind,
            field: field.into(),
            settings: BTreeMap::new(),
        };
        let body = logs(
            MetricKind::Count,
            vec![
                bucket("2", BucketKind::Terms, "log.level"),
                bucket("3", BucketKind::DateHistogram, "@timestamp"),
            ],
        );
        assert_eq!(body["size"], 0);
        assert_eq!(body["aggs"]["2"]["terms"]["field"], "log.level");
        let histogram = &body["aggs"]["2"]["aggs"]["3"]["date_histogram"];
        assert_eq!(histogram["fixed_interval"], "5000ms");
    }

    #[test]
    fn traces_are_searched_for_in_microseconds() {
        let target = target(Query::Jaeger(JaegerQuery {
            query_type: "search".into(),
            service: "$service".into(),
            operation: String::new(),
            tags: "error=true http.route=/api/orders".into(),
            min_duration: "100ms".into(),
            limit: 20,
        }));
        let Request::JaegerSearch { parameters } = request(&target, &context()).unwrap() else {
            panic!("no search")
        };
        for wanted in [
            ("service", "flask-api"),
            ("end", "1800000000"),
            ("minDuration", "100ms"),
            ("tags", r#"{"error":"true","http.route":"/api/orders"}"#),
        ] {
            assert!(
                parameters.contains(&(wanted.0, wanted.1.to_owned())),
                "{parameters:?}"
            );
        }
        assert!(parameters.iter().all(|(name, _)| *name != "operation"));
    }
}
