//! One JSON object a line, with the field names of the Elastic Common Schema.
//!
//! A line is `{"@timestamp":…,"log.level":…,"message":…, <fields of the event> ,"service.name":…}` and so on.
//! Fields keep the dotted name the program gives them, numbers and booleans stay what they are, and:
//!
//! - names this module writes itself (`@timestamp`, `log.*`, `service.name`, `trace.id`…) are ours: a field of
//!   that name is left out; of several fields with one name the first is kept;
//! - `error = …`, the habit of Rust programs, becomes `error.message`; other names that are objects in the
//!   schema (`url`, `http`, `event`…) move below `labels`, since Elasticsearch refuses a document in which
//!   `url` is a text and `url.path` exists;
//! - text over 8 KiB is cut, ends in `…[truncated]`, and the line carries `"labels.truncated":true`;
//! - control characters and U+2028/U+2029 are escaped, so no value can end a line for any reader.

use std::error::Error;
use std::fmt::{self, Write};

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, Key};
use opentelemetry_sdk::Resource;
use opentelemetry_semantic_conventions::resource::{
    SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION,
};
use smallvec::SmallVec;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Bytes of UTF-8 a text may have.
const TEXT_LIMIT: usize = 8 * 1024;
const TRUNCATION_MARK: &str = "…[truncated]";

/// Formats events; what is the same on every line is rendered once.
#[derive(Clone)]
pub(crate) struct JsonLines {
    /// `,"service.name":"…","service.version":"…","service.instance.id":"…"`
    identity: String,
    /// `,"event.dataset":"flask-api.`
    dataset: String,
}

impl JsonLines {
    pub(crate) fn new(resource: &Resource) -> Self {
        let text = |name| {
            resource
                .get_ref(&Key::from_static_str(name))
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let mut identity = String::new();
        for name in [SERVICE_NAME, SERVICE_VERSION, SERVICE_INSTANCE_ID] {
            let _ = write!(identity, r#","{name}":"{}""#, Escape(&text(name)));
        }
        let dataset = format!(r#","event.dataset":"{}."#, Escape(&text(SERVICE_NAME)));
        Self { identity, dataset }
    }

    /// The line that stands where so many are missing.
    pub(crate) fn notice_of_missing(&self, lines: u64) -> String {
        let Self { identity, dataset } = self;
        let stamp = jiff::Timestamp::now();
        format!(
            r#"{{"@timestamp":"{stamp:.6}","log.level":"warn","message":"{lines} log lines were dropped before this one","labels.log_lines_dropped":{lines}{dataset}app","log.logger":"telemetry"{identity}}}
"#
        )
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Records of the `log` crate carry their level and target in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let level = match *metadata.level() {
            // To the service, telemetry that fails is a nuisance and not an error.
            Level::ERROR if metadata.target().starts_with("opentelemetry") => Level::WARN,
            level => level,
        };

        write!(
            out,
            r#"{{"@timestamp":"{:.6}","log.level":"{}""#,
            jiff::Timestamp::now(),
            level_name(level)
        )?;
        let mut fields = EventFields {
            out: &mut out,
            written: SmallVec::new(),
            truncated: false,
            result: Ok(()),
        };
        event.record(&mut fields);
        let EventFields {
            written,
            truncated,
            result,
            ..
        } = fields;
        result?;
        if !written.contains(&"message") {
            // The SDK names its events instead; the default name is only a place in a source file.
            let name = metadata.name();
            let message = if name.starts_with("event ") || normalized.is_some() {
                ""
            } else {
                name
            };
            write!(out, r#","message":"{}""#, Escape(message))?;
        }
        let kind = match level {
            _ if metadata.target() == "access" => "access",
            Level::ERROR => "error",
            _ => "app",
        };
        write!(
            out,
            r#"{}{kind}","log.logger":"{}""#,
            self.dataset,
            Escape(metadata.target())
        )?;
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            if span.is_valid() {
                write!(
                    out,
                    r#","trace.id":"{}","span.id":"{}""#,
                    span.trace_id(),
                    span.span_id()
                )?;
            }
            Ok(())
        })?;
        if truncated {
            out.write_str(r#","labels.truncated":true"#)?;
        }
        out.write_str(&self.identity)?;
        out.write_str("}\n")
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Fields of spans belong to traces; formatting them for the log, which the library does by default for every
/// span, would be work for nothing.
pub(crate) struct NoSpanFields;

impl<'writer> FormatFields<'writer> for NoSpanFields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'writer>, _: R) -> fmt::Result {
        Ok(())
    }
}

/// The name a field has in the log, if it may appear there.
fn key(field: &Field) -> Option<&'static str> {
    Some(match field.name().trim_start_matches("r#") {
        "@timestamp"
        | "service.name"
        | "service.version"
        | "service.instance.id"
        | "event.dataset"
        | "trace.id"
        | "span.id"
        | "labels.truncated" => return None,
        // Also what the bridge from the `log` crate adds.
        name if name.starts_with("log.") => return None,
        "error" => "error.message",
        "client" => "labels.client",
        "event" => "labels.event",
        "http" => "labels.http",
        "http.request" => "labels.http_request",
        "http.response" => "labels.http_response",
        "labels" => "labels.labels",
        "log" => "labels.log",
        "service" => "labels.service",
        "service.instance" => "labels.service_instance",
        "span" => "labels.span",
        "trace" => "labels.trace",
        "url" => "labels.url",
        name => name,
    })
}

/// Writes `,"name":value` for each field of an event.
struct EventFields<'a, 'w> {
    out: &'a mut Writer<'w>,
    /// Room for the fields of an access line without an allocation.
    written: SmallVec<[&'static str; 24]>,
    truncated: bool,
    result: fmt::Result,
}

impl EventFields<'_, '_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Self) -> fmt::Result) {
        let Some(key) = key(field).filter(|key| !self.written.contains(key)) else {
            return;
        };
        self.written.push(key);
        if self.result.is_ok() {
            self.result = write!(self.out, r#","{}":"#, Escape(key)).and_then(|()| value(self));
        }
    }

    fn raw(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.field(field, |this| this.out.write_fmt(value));
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.field(field, |this| {
            this.out.write_char('"')?;
            let mut text = LimitedText {
                out: this.out,
                room: TEXT_LIMIT,
                truncated: false,
            };
            // An error here is ours, which ends the formatting of what is cut anyway, or comes from a faulty
            // implementation in the program: the line stays whole either way.
            let _ = text.write_fmt(value);
            if text.truncated {
                this.truncated = true;
                this.out.write_str(TRUNCATION_MARK)?;
            }
            this.out.write_char('"')
        });
    }
}

impl Visit for EventFields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinities.
        if value.is_finite() {
            self.raw(field, format_args!("{value:?}"))
        } else {
            self.raw(field, format_args!("null"))
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, format_args!("{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        // Few readers of JSON take more than 64 bits for a number.
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.text(field, format_args!("{value}")),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.text(field, format_args!("{value}")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// An error followed by its sources.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Escapes text on its way out and stops it at the limit.
struct LimitedText<'a, 'w> {
    out: &'a mut Writer<'w>,
    room: usize,
    truncated: bool,
}

impl Write for LimitedText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = text.floor_char_boundary(self.room);
        self.room -= kept;
        write_escaped(self.out, &text[..kept])?;
        if kept < text.len() {
            self.room = 0;
            self.truncated = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Displays text as the inside of a JSON string.
struct Escape<'a>(&'a str);

impl fmt::Display for Escape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0)
    }
}

/// Own code, since serde_json writes bytes (each piece would have to be checked for UTF-8 again to get into
/// the formatter's buffer) and lets U+0085, U+2028 and U+2029 pass.
fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut clean = 0;
    for (position, character) in text.char_indices() {
        let escaped = match character {
            '"' => r#"\""#,
            '\\' => r"\\",
            '\n' => r"\n",
            '\r' => r"\r",
            '\t' => r"\t",
            '\u{2028}' | '\u{2029}' => "",
            _ if character.is_control() => "",
            _ => continue,
        };
        out.write_str(&text[clean..position])?;
        if escaped.is_empty() {
            write!(out, "\\u{:04x}", u32::from(character))?;
        } else {
            out.write_str(escaped)?;
        }
        clean = position + character.len_utf8();
    }
    out.write_str(&text[clean..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing::{debug, error, info, info_span, trace, warn};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Registry, fmt as log};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("not poisoned")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text_of(events: impl FnOnce()) -> String {
        text_with(Sampler::AlwaysOn, events)
    }

    fn text_with(sampler: Sampler, events: impl FnOnce()) -> String {
        let resource = Resource::builder_empty()
            .with_attributes([
                opentelemetry::KeyValue::new(SERVICE_NAME, "shop \"1\"\n"),
                opentelemetry::KeyValue::new(SERVICE_VERSION, "1.2.3"),
                opentelemetry::KeyValue::new(SERVICE_INSTANCE_ID, "instance"),
            ])
            .build();
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let subscriber = Registry::default()
            .with(
                log::layer()
                    .event_format(JsonLines::new(&resource))
                    .fmt_fields(NoSpanFields)
                    .with_writer(move || writer.clone()),
            )
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(std::mem::take(&mut buffer.0.lock().expect("not poisoned")))
            .expect("UTF-8")
    }

    /// The lines as JSON; every one must be an object without duplicate keys.
    fn lines_of(events: impl FnOnce()) -> Vec<Value> {
        let text = text_of(events);
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(parse).collect()
    }

    fn line_of(events: impl FnOnce()) -> Value {
        let mut lines = lines_of(events);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    fn parse(line: &str) -> Value {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // Parsing keeps the last of several equal keys without a word.
        let keys = value.as_object().expect("an object").len();
        assert_eq!(keys, top_level_keys(line), "duplicate keys in {line}");
        value
    }

    /// Counts keys by the commas between them, outside of strings; values are never objects or lists.
    fn top_level_keys(line: &str) -> usize {
        let (mut commas, mut inside, mut escaped) = (0, false, false);
        for character in line.chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = !inside,
                ',' if !inside => commas += 1,
                _ => {}
            }
        }
        commas + 1
    }

    fn keys(line: &Value) -> BTreeSet<&str> {
        line.as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect()
    }

    const ALWAYS: [&str; 8] = [
        "@timestamp",
        "event.dataset",
        "log.level",
        "log.logger",
        "message",
        "service.instance.id",
        "service.name",
        "service.version",
    ];

    #[test]
    fn a_plain_line_has_exactly_the_fields_of_the_contract() {
        let line = line_of(|| info!("hello {}", "world"));
        assert_eq!(keys(&line), BTreeSet::from(ALWAYS));
        assert_eq!(line["message"], "hello world");
        assert_eq!(line["log.level"], "info");
        assert_eq!(line["log.logger"], module_path!());
        assert_eq!(line["service.name"], "shop \"1\"\n");
        assert_eq!(line["service.version"], "1.2.3");
        assert_eq!(line["service.instance.id"], "instance");
        assert_eq!(line["event.dataset"], "shop \"1\"\n.app");
    }

    #[test]
    fn the_notice_of_missing_lines_is_a_line_like_others() {
        let resource = Resource::builder_empty()
            .with_attributes([opentelemetry::KeyValue::new(SERVICE_NAME, "shop \"1\"")])
            .build();
        let notice = JsonLines::new(&resource).notice_of_missing(17);
        let line = parse(notice.strip_suffix('\n').expect("one line"));
        let mut expected = BTreeSet::from(ALWAYS);
        expected.insert("labels.log_lines_dropped");
        assert_eq!(keys(&line), expected);
        assert_eq!(line["labels.log_lines_dropped"], 17);
        assert_eq!(line["event.dataset"], "shop \"1\".app");
    }

    #[test]
    fn the_timestamp_is_rfc_3339_in_utc_and_now() {
        let before = jiff::Timestamp::now();
        let line = line_of(|| info!("x"));
        let text = line["@timestamp"].as_str().expect("a string");
        assert!(
            text.ends_with('Z') && text.len() == "2026-01-01T00:00:00.000000Z".len(),
            "{text}"
        );
        let stamp: jiff::Timestamp = text.parse().expect("RFC 3339");
        let tolerance = jiff::SignedDuration::from_micros(1);
        assert!(
            before - tolerance <= stamp && stamp <= jiff::Timestamp::now(),
            "{before} {stamp}"
        );
    }

    #[test]
    fn the_dataset_follows_target_and_level() {
        let lines = lines_of(|| {
            trace!("t");
            debug!("d");
            info!("i");
            warn!("w");
            error!("e");
            info!(target: "access", "a");
            error!(target: "access", "a");
            info!(target: "access_log", "no");
        });
        let summary: Vec<_> = lines
            .iter()
            .map(|line| {
                let dataset = line["event.dataset"].as_str().expect("a string");
                (
                    line["log.level"].as_str().expect("a string"),
                    dataset.rsplit('.').next().expect("a part"),
                )
            })
            .collect();
        assert_eq!(
            summary,
            [
                ("trace", "app"),
                ("debug", "app"),
                ("info", "app"),
                ("warn", "app"),
                ("error", "error"),
                ("info", "access"),
                ("error", "access"),
                ("info", "app"),
            ]
        );
    }

    #[test]
    fn ids_stand_on_every_line_inside_a_span_and_on_none_outside() {
        let lines = lines_of(|| {
            info!("outside");
            info_span!("outer").in_scope(|| {
                info!("outer");
                info_span!("inner").in_scope(|| info!("inner"));
                info!("outer again");
            });
            info!("outside again");
        });
        let [outside, outer, inner, again, after] = &lines[..] else {
            panic!("{lines:?}")
        };
        for line in [outside, after] {
            assert_eq!(keys(line), BTreeSet::from(ALWAYS));
        }
        let with_ids: BTreeSet<_> = ALWAYS.into_iter().chain(["trace.id", "span.id"]).collect();
        for line in [outer, inner, again] {
            assert_eq!(keys(line), with_ids);
            let hex = |value: &Value, length| {
                let text = value.as_str().expect("a string");
                text.len() == length
                    && text
                        .chars()
                        .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
            };
            assert!(
                hex(&line["trace.id"], 32) && hex(&line["span.id"], 16),
                "{line}"
            );
            assert_eq!(line["trace.id"], outer["trace.id"]);
        }
        assert_ne!(outer["span.id"], inner["span.id"]);
        assert_eq!(outer["span.id"], again["span.id"]);
    }

    #[test]
    fn unsampled_spans_still_lend_their_ids() {
        let text = text_with(Sampler::AlwaysOff, || {
            info_span!("unsampled").in_scope(|| info!("x"))
        });
        let line = parse(text.trim_end());
        assert_eq!(line["trace.id"].as_str().map(str::len), Some(32));
    }

    #[test]
    fn values_keep_their_types() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only shown")]
        struct Point {
            x: i32,
        }
        let line = line_of(|| {
            info!(
                http.response.status_code = 201_u16,
                event.duration = u64::MAX,
                negative = i64::MIN,
                float = 0.25,
                large = 1e300,
                nan = f64::NAN,
                infinite = f64::NEG_INFINITY,
                yes = true,
                small_128 = 7_i128,
                big_128 = i128::MIN,
                small_u128 = 7_u128,
                big_u128 = u128::MAX,
                text = "text",
                shown = %"shown",
                point = ?Point { x: 1 },
                absent = None::<u64>,
                present = Some(3),
                r#type = "raw",
                "quoted \"name\"" = 1,
                "typed"
            );
        });
        for (name, value) in [
            ("message", json!("typed")),
            ("http.response.status_code", json!(201)),
            ("event.duration", json!(u64::MAX)),
            ("negative", json!(i64::MIN)),
            ("float", json!(0.25)),
            ("large", json!(1e300)),
            ("nan", Value::Null),
            ("infinite", Value::Null),
            ("yes", json!(true)),
            ("small_128", json!(7)),
            ("big_128", json!(i128::MIN.to_string())),
            ("small_u128", json!(7)),
            ("big_u128", json!(u128::MAX.to_string())),
            ("text", json!("text")),
            ("shown", json!("shown")),
            ("point", json!("Point { x: 1 }")),
            ("present", json!(3)),
            ("type", json!("raw")),
            ("quoted \"name\"", json!(1)),
        ] {
            assert_eq!(line.get(name), Some(&value), "{name}");
        }
        assert_eq!(line.get("absent"), None);
    }

    #[test]
    fn errors_come_with_their_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot place the order")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("disk full"));
        let line =
            line_of(|| error!(error = &error as &dyn Error, error.type = "storage", "failed"));
        assert_eq!(line["error.message"], "cannot place the order: disk full");
        assert_eq!(line["error.type"], "storage");
        assert_eq!(line.get("error"), None);
    }

    #[test]
    fn fields_cannot_take_the_place_of_ours() {
        let line = line_of(|| {
            info!(
                "@timestamp" = "1970-01-01T00:00:00Z",
                log.level = "trace",
                log.logger = "forged",
                service.name = "forged",
                service.version = "forged",
                service.instance.id = "forged",
                event.dataset = "forged",
                trace.id = "forged",
                span.id = "forged",
                labels.truncated = "forged",
                "real"
            );
        });
        assert_eq!(keys(&line), BTreeSet::from(ALWAYS));
        assert!(!line.to_string().contains("forged"), "{line}");
    }

    #[test]
    fn names_of_objects_move_out_of_the_way() {
        let line = line_of(|| {
            info!(
                url = "u",
                url.path = "/p",
                http = "h",
                http.route = "/r",
                event = "e",
                event.duration = 1,
                trace = "t",
                span = "s",
                log = "l",
                service = "v",
                client = "c",
                client.address = "a",
                "x"
            );
        });
        let names: Vec<_> = line.as_object().expect("an object").keys().collect();
        for name in &names {
            let prefix = format!("{name}.");
            assert!(
                !names.iter().any(|other| other.starts_with(&prefix)),
                "{name} is both text and object: {line}"
            );
        }
        assert_eq!(line["labels.url"], "u");
        assert_eq!(line["url.path"], "/p");
    }

    #[test]
    fn of_equal_names_the_first_value_counts() {
        let line = line_of(|| {
            info!(
                a = 1,
                a = 2,
                error = "first",
                error.message = "second",
                r#a = 3,
                "x"
            )
        });
        assert_eq!(line["a"], 1);
        assert_eq!(line["error.message"], "first");
        let line = line_of(|| info!(a = None::<u8>, a = 2, "x"));
        assert_eq!(line["a"], 2, "a field without a value takes no name");
    }

    #[test]
    fn events_without_a_message_have_an_empty_one_or_their_name() {
        assert_eq!(line_of(|| info!(a = 1))["message"], "");
        assert_eq!(
            line_of(|| info!(name: "Batch.Exported", a = 1))["message"],
            "Batch.Exported"
        );
        assert_eq!(
            line_of(|| info!(name: "Batch.Exported", "said"))["message"],
            "said"
        );
    }

    #[test]
    fn trouble_of_the_sdk_is_a_warning() {
        let line = line_of(
            || error!(name: "BatchSpanProcessor.ExportError", target: "opentelemetry_sdk", error = "x"),
        );
        assert_eq!(line["log.level"], "warn");
        assert_eq!(line["event.dataset"], "shop \"1\"\n.app");
        assert_eq!(line["message"], "BatchSpanProcessor.ExportError");
    }

    /// Breaks of a line for one reader or another: JSON parsers, terminals, JavaScript, Python's splitlines.
    const BREAKS: [char; 10] = [
        '\n', '\r', '\0', '\u{b}', '\u{c}', '\u{1c}', '\u{1b}', '\u{85}', '\u{2028}', '\u{2029}',
    ];

    fn assert_survives(value: &str) {
        let text = text_of(|| {
            info!(attack = value, shown = %value, debugged = ?value, "{value}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line = text.strip_suffix('\n').expect("ends the line");
        assert!(
            !line.contains(|c: char| c.is_control() || BREAKS.contains(&c)),
            "{line:?}"
        );
        let line = parse(line);
        assert_eq!(line["attack"], value);
        assert_eq!(line["shown"], value);
        assert_eq!(line["message"], value);
        assert_eq!(line["debugged"], format!("{value:?}"));
        assert_eq!(keys(&line).len(), ALWAYS.len() + 3);
    }

    #[test]
    fn hostile_values_neither_split_nor_forge_a_line() {
        for value in [
            "a\nb",
            "\r\n{\"@timestamp\":\"forged\"}",
            r#"","log.level":"error","x":""#,
            r"\",
            r#"\""#,
            "\\u000a",
            "{}{}{0}",
            "\u{1b}[31mred\u{1b}[0m",
            "\u{feff}bom",
            "\u{fffd}",
            "\u{202e}reversed",
            "\u{1f980}\u{10ffff}",
            "",
        ] {
            assert_survives(value);
        }
        for character in BREAKS {
            assert_survives(&format!("a{character}b"));
        }
        let invalid = String::from_utf8_lossy(b"\xff\xc0\xafx\xed\xa0\x80").into_owned();
        assert_survives(&invalid);
    }

    #[test]
    fn bytes_are_shown_and_not_trusted() {
        let line = line_of(|| info!(raw = &b"\xff\n\""[..], "x"));
        assert!(line["raw"].is_string());
    }

    proptest! {
        #[test]
        fn any_text_survives(value in any::<String>()) {
            assert_survives(&value);
        }

        #[test]
        fn any_float_is_json(value in any::<f64>()) {
            let text = text_of(|| info!(value, "x"));
            parse(text.trim_end());
            // From the text, since the parser of serde_json is off by a bit at times.
            let (_, rest) = text.split_once("\"value\":").expect("the field");
            let (number, _) = rest.split_once(',').expect("more fields");
            prop_assert_eq!(number.parse().ok(), Some(value).filter(|value| value.is_finite()));
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_marked() {
        let limit = TEXT_LIMIT;
        for (value, kept) in [
            ("x".repeat(limit), limit),
            ("x".repeat(limit + 1), limit),
            ("é".repeat(limit), limit),
            (format!("x{}", "é".repeat(limit)), limit - 1),
            (format!("x{}", "\u{1f980}".repeat(limit)), limit - 3),
            ("\n".repeat(limit * 2), limit),
        ] {
            let line = line_of(|| info!(short = "s", long = %value, "x"));
            let cut = value.len() > limit;
            let mark = if cut { TRUNCATION_MARK } else { "" };
            assert_eq!(line["long"], format!("{}{mark}", &value[..kept]));
            assert_eq!(line.get("labels.truncated"), cut.then_some(&json!(true)));
            assert_eq!(line["short"], "s");
        }
    }

    #[test]
    fn text_that_comes_in_pieces_is_cut_all_the_same() {
        let pieces = vec!["piece"; TEXT_LIMIT];
        let line = line_of(|| info!(pieces = ?pieces, after = 1, "x"));
        let text = line["pieces"].as_str().expect("a string");
        assert_eq!(text.len(), TEXT_LIMIT + TRUNCATION_MARK.len());
        assert!(text.starts_with("[\"piece\", \"piece\"") && text.ends_with(TRUNCATION_MARK));
        assert_eq!(line["after"], 1);
    }

    #[test]
    fn a_faulty_display_leaves_the_line_whole() {
        struct Faulty;
        impl fmt::Display for Faulty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half \"")?;
                Err(fmt::Error)
            }
        }
        /// Goes on writing after it was told to stop.
        struct Stubborn;
        impl fmt::Display for Stubborn {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let _ = f.write_str(&"é".repeat(TEXT_LIMIT));
                let _ = f.write_str("more");
                Ok(())
            }
        }
        let line = line_of(|| info!(faulty = %Faulty, stubborn = %Stubborn, after = 1, "x"));
        assert_eq!(line["faulty"], "half \"");
        assert!(
            line["stubborn"]
                .as_str()
                .expect("a string")
                .ends_with(TRUNCATION_MARK)
        );
        assert_eq!(line["after"], 1);
    }
}
