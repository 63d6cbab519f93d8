//! The `OTEL_*` environment variables, read once.
//!
//! The SDK leaves some of them out and drops invalid values of the others without a word. Here each is read
//! as the OpenTelemetry specification wants it ("Environment Variable Specification"): empty means unset, and
//! an invalid value is ignored with a warning, which [`crate::init`] logs once there is a log to write to.
//!
//! | Variable | Default |
//! |---|---|
//! | `OTEL_SDK_DISABLED` | `false`; `true` switches traces off, logs and propagators stay |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | what the program says about itself |
//! | `OTEL_PROPAGATORS` | `tracecontext,baggage` |
//! | `OTEL_TRACES_EXPORTER` | `otlp` |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on`; the ratio *alone* means `parentbased_traceidratio` |
//! | `OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT` | `http://localhost:4318`, signal path added to the general one only |
//! | `OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT`, `OTEL_BSP_EXPORT_TIMEOUT` | 10 s and 30 s, the smaller one counts |
//! | `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS` | none |
//! | `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, `OTEL_BSP_SCHEDULE_DELAY` | 2048, 512, 5 s |

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
/// A day: longer waits are typing errors, and some overflow the clock arithmetic of the HTTP client.
const MILLISECONDS: RangeInclusive<u64> = 1..=86_400_000;
/// The queue is allocated up front, at about half a kilobyte a place.
const QUEUE_PLACES: RangeInclusive<usize> = 1..=1_000_000;

/// What the environment asks of the trace pipeline, defaults filled in.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `OTEL_SDK_DISABLED`.
    pub(crate) disabled: bool,
    pub(crate) propagators: Vec<Propagator>,
    /// False for `OTEL_TRACES_EXPORTER=none`.
    pub(crate) export: bool,
    pub(crate) sampling: Sampling,
    /// Full address spans are posted to.
    pub(crate) endpoint: String,
    /// Bounds one export, retries included (one attempt may overshoot by itself).
    pub(crate) export_timeout: Duration,
    pub(crate) queue_size: usize,
    pub(crate) batch_size: usize,
    pub(crate) schedule_delay: Duration,
    /// `OTEL_RESOURCE_ATTRIBUTES` decoded, with `OTEL_SERVICE_NAME` on top.
    pub(crate) resource: BTreeMap<String, String>,
    /// What was ignored and what is used instead, a sentence each; never a header or an attribute value.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagator {
    TraceContext,
    Baggage,
}

/// Every standard sampler is one of these: "always" is the ratio 1, "never" the ratio 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampling {
    /// A span with a parent is sampled exactly when its parent is.
    pub(crate) parent_based: bool,
    /// The share of traces that is sampled, 0 to 1.
    pub(crate) ratio: f64,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        Self::read(|name| std::env::var_os(name))
    }

    pub(crate) fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut variables = Variables {
            lookup,
            warnings: Vec::new(),
        };
        variables.warn_about_unsupported();
        let queue_size = variables
            .number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_PLACES)
            .unwrap_or(2048);
        let batch_size = variables
            .number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", QUEUE_PLACES)
            .unwrap_or(512);
        Self {
            disabled: variables.disabled(),
            propagators: variables.propagators(),
            export: variables.export(),
            sampling: variables.sampling(),
            endpoint: variables.endpoint(),
            export_timeout: variables.export_timeout(),
            queue_size,
            batch_size: batch_size.min(queue_size),
            schedule_delay: variables
                .milliseconds("OTEL_BSP_SCHEDULE_DELAY")
                .unwrap_or(Duration::from_secs(5)),
            resource: variables.resource(),
            warnings: variables.warnings,
        }
    }
}

struct Variables<F> {
    lookup: F,
    warnings: Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn get(&mut self, name: &str) -> Option<String> {
        match (self.lookup)(name)?.into_string() {
            Ok(value) => Some(value.trim().to_owned()).filter(|value| !value.is_empty()),
            Err(_) => {
                self.warn(format!("{name} is not valid UTF-8 and is ignored"));
                None
            }
        }
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let value = self.get(name)?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            self.warn(format!(
                "{name}={value} is not a whole number from {low} to {high} and is ignored"
            ));
        }
        number
    }

    fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        self.number(name, MILLISECONDS).map(Duration::from_millis)
    }

    fn disabled(&mut self) -> bool {
        let Some(value) = self.get("OTEL_SDK_DISABLED") else {
            return false;
        };
        let disabled = value.eq_ignore_ascii_case("true");
        if !disabled && !value.eq_ignore_ascii_case("false") {
            self.warn(format!(
                "OTEL_SDK_DISABLED={value} is neither true nor false; traces stay on"
            ));
        }
        disabled
    }

    fn propagators(&mut self) -> Vec<Propagator> {
        let default = vec![Propagator::TraceContext, Propagator::Baggage];
        let Some(value) = self.get("OTEL_PROPAGATORS") else {
            return default;
        };
        let mut propagators = Vec::new();
        for name in list(&value) {
            let propagator = match name.as_str() {
                "tracecontext" => Propagator::TraceContext,
                "baggage" => Propagator::Baggage,
                "none" => return Vec::new(),
                other => {
                    self.warn(format!(
                        "OTEL_PROPAGATORS: {other} is not one of tracecontext, baggage, none and is ignored"
                    ));
                    continue;
                }
            };
            if !propagators.contains(&propagator) {
                propagators.push(propagator);
            }
        }
        if propagators.is_empty() {
            default
        } else {
            propagators
        }
    }

    fn export(&mut self) -> bool {
        let Some(value) = self.get("OTEL_TRACES_EXPORTER") else {
            return true;
        };
        let mut none = false;
        let mut otlp = false;
        for name in list(&value) {
            match name.as_str() {
                "otlp" => otlp = true,
                "none" => none = true,
                other => self.warn(format!(
                    "OTEL_TRACES_EXPORTER: {other} is not one of otlp, none and is ignored"
                )),
            }
        }
        otlp || !none
    }

    /// As the specification has it, plus one thing: it ignores the argument without a sampler, we take it as
    /// the ratio of the default, parent-based one.
    fn sampling(&mut self) -> Sampling {
        let always_on = Sampling {
            parent_based: true,
            ratio: 1.0,
        };
        let Some(value) = self.get("OTEL_TRACES_SAMPLER") else {
            return Sampling {
                ratio: self.ratio().unwrap_or(1.0),
                ..always_on
            };
        };
        let name = value.to_ascii_lowercase();
        let root = name.strip_prefix("parentbased_");
        let ratio = match root.unwrap_or(&name) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio().unwrap_or_else(|| {
                self.warn(format!("OTEL_TRACES_SAMPLER={value} without a valid OTEL_TRACES_SAMPLER_ARG samples every trace"));
                1.0
            }),
            _ => {
                self.warn(format!("OTEL_TRACES_SAMPLER={value} is not a sampler of this program and is ignored"));
                return Sampling { ratio: self.ratio().unwrap_or(1.0), ..always_on };
            }
        };
        Sampling {
            parent_based: root.is_some(),
            ratio,
        }
    }

    fn ratio(&mut self) -> Option<f64> {
        let value = self.get("OTEL_TRACES_SAMPLER_ARG")?;
        let ratio = value
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.warn(format!(
                "OTEL_TRACES_SAMPLER_ARG={value} is not a number from 0 to 1 and is ignored"
            ));
        }
        ratio
    }

    fn endpoint(&mut self) -> String {
        let endpoint = self.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| {
            let mut url = self.url("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            // Cannot fail: http and https addresses always have a path to append to.
            url.path_segments_mut()
                .ok()?
                .pop_if_empty()
                .extend(["v1", "traces"]);
            Some(url)
        });
        match endpoint {
            Some(url) => {
                if url.scheme() == "https" {
                    self.warn("the OTLP endpoint is https and this program has no TLS: exports will fail; put a collector in between".to_owned());
                }
                url.into()
            }
            None => DEFAULT_ENDPOINT.to_owned(),
        }
    }

    fn url(&mut self, name: &str) -> Option<Url> {
        let value = self.get(name)?;
        let url = Url::parse(&value)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            // Not quoted: it may hold a password.
            self.warn(format!(
                "{name} is not an address such as http://localhost:4318 and is ignored"
            ));
        }
        url
    }

    fn export_timeout(&mut self) -> Duration {
        let otlp = self
            .milliseconds("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| self.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .unwrap_or(Duration::from_secs(10));
        let batch = self
            .milliseconds("OTEL_BSP_EXPORT_TIMEOUT")
            .unwrap_or(Duration::from_secs(30));
        otlp.min(batch)
    }

    /// One bad pair spoils the whole of `OTEL_RESOURCE_ATTRIBUTES`, says the specification.
    fn resource(&mut self) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::new();
        if let Some(value) = self.get("OTEL_RESOURCE_ATTRIBUTES") {
            let pairs = value.split(',').filter(|pair| !pair.trim().is_empty());
            match pairs.map(attribute).collect() {
                Some(decoded) => attributes = decoded,
                None => self.warn(
                    "OTEL_RESOURCE_ATTRIBUTES is not a list such as key=value,key=percent%20encoded and is ignored"
                        .to_owned(),
                ),
            }
        }
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            attributes.insert("service.name".to_owned(), name);
        }
        attributes
    }

    /// Variables which the exporter reads itself and would ignore in silence.
    fn warn_about_unsupported(&mut self) {
        for (name, supported) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ] {
            if let Some(value) = self
                .get(name)
                .filter(|value| !value.eq_ignore_ascii_case(supported))
            {
                self.warn(format!(
                    "{name}={value} is not supported; {supported} is used"
                ));
            }
        }
        for name in [
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        ] {
            let value = self.get(name).unwrap_or_default();
            let bad = value
                .split(',')
                .filter(|pair| !pair.trim().is_empty() && !is_header(pair))
                .count();
            if bad > 0 {
                self.warn(format!(
                    "{name}: {bad} entries are not of the form name=value and are ignored"
                ));
            }
        }
        for name in [
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "OTEL_SPAN_LINK_COUNT_LIMIT",
        ] {
            self.number(name, 0..=u32::MAX);
        }
    }
}

fn list(value: &str) -> impl Iterator<Item = String> {
    value
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

fn attribute(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=')?;
    let key = percent_decode_str(key.trim()).decode_utf8().ok()?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    (!key.is_empty()).then(|| (key.into_owned(), value.into_owned()))
}

fn is_header(pair: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    pair.split_once('=').is_some_and(|(name, value)| {
        let name = name.trim();
        !name.is_empty() && name.chars().all(token) && !value.trim().is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(OsString::from(value))
        })
    }

    /// The settings, which must have come without complaint.
    fn accepted(variables: &[(&str, &str)]) -> Settings {
        let settings = read(variables);
        assert_eq!(settings.warnings, Vec::<String>::new(), "{variables:?}");
        settings
    }

    /// The settings, which must have come with one complaint that names the variable.
    fn complained(variable: &str, value: &str) -> Settings {
        let settings = read(&[(variable, value)]);
        assert_eq!(
            settings.warnings.len(),
            1,
            "{variable}={value}: {:?}",
            settings.warnings
        );
        assert!(
            settings.warnings[0].contains(variable),
            "{:?}",
            settings.warnings
        );
        settings
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        let settings = accepted(&[]);
        assert!(!settings.disabled);
        assert!(settings.export);
        assert_eq!(
            settings.propagators,
            [Propagator::TraceContext, Propagator::Baggage]
        );
        assert_eq!(
            settings.sampling,
            Sampling {
                parent_based: true,
                ratio: 1.0
            }
        );
        assert_eq!(settings.endpoint, "http://localhost:4318/v1/traces");
        assert_eq!(settings.export_timeout, Duration::from_secs(10));
        assert_eq!((settings.queue_size, settings.batch_size), (2048, 512));
        assert_eq!(settings.schedule_delay, Duration::from_secs(5));
        assert!(settings.resource.is_empty());
    }

    #[test]
    fn empty_and_blank_values_mean_unset() {
        let names = [
            "OTEL_SDK_DISABLED",
            "OTEL_PROPAGATORS",
            "OTEL_TRACES_EXPORTER",
            "OTEL_TRACES_SAMPLER",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_RESOURCE_ATTRIBUTES",
            "OTEL_SERVICE_NAME",
        ];
        for blank in ["", "  "] {
            let variables: Vec<_> = names.iter().map(|name| (*name, blank)).collect();
            let settings = accepted(&variables);
            assert_eq!(format!("{settings:?}"), format!("{:?}", read(&[])));
        }
    }

    #[test]
    fn disabled_takes_true_in_any_case() {
        for (value, disabled) in [
            ("true", true),
            ("TRUE", true),
            ("false", false),
            ("False", false),
        ] {
            assert_eq!(
                accepted(&[("OTEL_SDK_DISABLED", value)]).disabled,
                disabled,
                "{value}"
            );
        }
        for value in ["1", "yes", "on"] {
            assert!(!complained("OTEL_SDK_DISABLED", value).disabled);
        }
    }

    #[test]
    fn propagators() {
        use Propagator::{Baggage, TraceContext};
        for (value, expected) in [
            ("tracecontext", vec![TraceContext]),
            ("baggage", vec![Baggage]),
            (
                " Baggage , tracecontext,baggage",
                vec![Baggage, TraceContext],
            ),
            ("none", vec![]),
        ] {
            assert_eq!(
                accepted(&[("OTEL_PROPAGATORS", value)]).propagators,
                expected,
                "{value}"
            );
        }
        assert_eq!(
            complained("OTEL_PROPAGATORS", "tracecontext,b3").propagators,
            [TraceContext]
        );
        assert_eq!(
            complained("OTEL_PROPAGATORS", "jaeger").propagators,
            [TraceContext, Baggage]
        );
    }

    #[test]
    fn exporter() {
        assert!(accepted(&[("OTEL_TRACES_EXPORTER", "otlp")]).export);
        assert!(!accepted(&[("OTEL_TRACES_EXPORTER", "None")]).export);
        assert!(complained("OTEL_TRACES_EXPORTER", "zipkin").export);
        assert!(complained("OTEL_TRACES_EXPORTER", "console,otlp").export);
        assert!(!complained("OTEL_TRACES_EXPORTER", "console,none").export);
    }

    #[test]
    fn sampler() {
        for (sampler, argument, parent_based, ratio) in [
            (Some("always_on"), None, false, 1.0),
            (Some("always_off"), None, false, 0.0),
            (Some("traceidratio"), Some("0.25"), false, 0.25),
            (Some("parentbased_always_on"), None, true, 1.0),
            (Some("parentbased_always_off"), None, true, 0.0),
            (Some("parentbased_traceidratio"), Some("0.5"), true, 0.5),
            (Some("ParentBased_TraceIdRatio"), Some("1"), true, 1.0),
            // The argument belongs to ratio samplers; on others it means nothing.
            (Some("parentbased_always_on"), Some("0.5"), true, 1.0),
            // Ours: without a sampler it is the ratio of the default one.
            (None, Some("0.125"), true, 0.125),
            (None, Some("0"), true, 0.0),
        ] {
            let mut variables = Vec::new();
            variables.extend(sampler.map(|value| ("OTEL_TRACES_SAMPLER", value)));
            variables.extend(argument.map(|value| ("OTEL_TRACES_SAMPLER_ARG", value)));
            assert_eq!(
                accepted(&variables).sampling,
                Sampling {
                    parent_based,
                    ratio
                },
                "{variables:?}"
            );
        }
        let default = Sampling {
            parent_based: true,
            ratio: 1.0,
        };
        for sampler in ["jaeger_remote", "xray", "sometimes"] {
            assert_eq!(complained("OTEL_TRACES_SAMPLER", sampler).sampling, default);
        }
        for argument in ["-0.1", "1.1", "NaN", "inf", "half", "0,5"] {
            assert_eq!(
                complained("OTEL_TRACES_SAMPLER_ARG", argument).sampling,
                default
            );
        }
        assert_eq!(
            complained("OTEL_TRACES_SAMPLER", "traceidratio").sampling,
            Sampling {
                parent_based: false,
                ratio: 1.0
            }
        );
    }

    #[test]
    fn endpoint() {
        for (general, traces, expected) in [
            (
                Some("http://collector:4318"),
                None,
                "http://collector:4318/v1/traces",
            ),
            (
                Some("http://collector:4318/"),
                None,
                "http://collector:4318/v1/traces",
            ),
            (
                Some("http://collector/otlp"),
                None,
                "http://collector/otlp/v1/traces",
            ),
            (
                Some("http://collector/otlp/"),
                None,
                "http://collector/otlp/v1/traces",
            ),
            (
                None,
                Some("http://collector:4318/custom"),
                "http://collector:4318/custom",
            ),
            (
                Some("http://general"),
                Some("http://traces:1/"),
                "http://traces:1/",
            ),
        ] {
            let mut variables = Vec::new();
            variables.extend(general.map(|value| ("OTEL_EXPORTER_OTLP_ENDPOINT", value)));
            variables.extend(traces.map(|value| ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value)));
            assert_eq!(accepted(&variables).endpoint, expected);
        }
        for bad in [
            "localhost:4318",
            "collector",
            "ftp://collector",
            "http://",
            "://",
        ] {
            assert_eq!(
                complained("OTEL_EXPORTER_OTLP_ENDPOINT", bad).endpoint,
                DEFAULT_ENDPOINT
            );
            assert_eq!(
                complained("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", bad).endpoint,
                DEFAULT_ENDPOINT
            );
        }
        let secure = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector")]);
        assert_eq!(secure.endpoint, "https://collector/v1/traces");
        assert!(secure.warnings[0].contains("TLS"), "{:?}", secure.warnings);
    }

    #[test]
    fn warnings_never_repeat_what_may_be_secret() {
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_RESOURCE_ATTRIBUTES",
        ] {
            let settings = complained(name, "user:hunter2@collector");
            assert!(
                !settings.warnings[0].contains("hunter2"),
                "{:?}",
                settings.warnings
            );
        }
    }

    #[test]
    fn the_smallest_timeout_counts() {
        let milliseconds = Duration::from_millis;
        for (variables, expected) in [
            (
                vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")],
                milliseconds(1500),
            ),
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
                    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "700"),
                ],
                milliseconds(700),
            ),
            (vec![("OTEL_BSP_EXPORT_TIMEOUT", "300")], milliseconds(300)),
            (
                vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")],
                milliseconds(30_000),
            ),
        ] {
            assert_eq!(
                accepted(&variables).export_timeout,
                expected,
                "{variables:?}"
            );
        }
        for name in [
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_BSP_EXPORT_TIMEOUT",
        ] {
            for bad in ["0", "-1", "10s", "1.5", "18446744073709551615"] {
                assert_eq!(complained(name, bad).export_timeout, milliseconds(10_000));
            }
        }
    }

    #[test]
    fn batching() {
        let settings = accepted(&[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ]);
        assert_eq!((settings.queue_size, settings.batch_size), (100, 10));
        assert_eq!(settings.schedule_delay, Duration::from_millis(250));
        let small = accepted(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]);
        assert_eq!(small.batch_size, 100, "a batch never exceeds the queue");
        for bad in ["0", "-5", "many", "1000000000000"] {
            assert_eq!(complained("OTEL_BSP_MAX_QUEUE_SIZE", bad).queue_size, 2048);
            assert_eq!(
                complained("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", bad).batch_size,
                512
            );
        }
        assert_eq!(
            complained("OTEL_BSP_SCHEDULE_DELAY", "0").schedule_delay,
            Duration::from_secs(5)
        );
    }

    #[test]
    fn resource_attributes_are_decoded_and_the_service_name_wins() {
        let settings = accepted(&[
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                " service.name=a , team=shop%2C%20checkout,token=a=b,",
            ),
            ("OTEL_SERVICE_NAME", "b"),
        ]);
        let pairs: Vec<_> = settings
            .resource
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("service.name", "b"),
                ("team", "shop, checkout"),
                ("token", "a=b")
            ]
        );
        for bad in ["service.name", "=x", "a=1,b", "a=%FF"] {
            assert!(
                complained("OTEL_RESOURCE_ATTRIBUTES", bad)
                    .resource
                    .is_empty()
            );
        }
    }

    #[test]
    fn what_the_exporter_would_ignore_in_silence_is_said() {
        for (name, good, bad) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "HTTP/protobuf",
                "http/json",
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none", "zstd"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Basic%20x,a=b",
                "a=b,c",
            ),
            (
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "x-tenant=shop",
                "bad name=x",
            ),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "64", "lots"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "64", "-1"),
            ("OTEL_SPAN_LINK_COUNT_LIMIT", "0", "4294967296"),
        ] {
            accepted(&[(name, good)]);
            complained(name, bad);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_ignored() {
        use std::os::unix::ffi::OsStringExt;
        let settings = Settings::read(|name| {
            (name == "OTEL_SERVICE_NAME").then(|| OsString::from_vec(vec![0x66, 0xff]))
        });
        assert!(settings.resource.is_empty());
        assert_eq!(settings.warnings.len(), 1);
    }
}
