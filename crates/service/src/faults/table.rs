//! Which faults there are, with their parameters and caps: `/chaos`, `lab chaos` and docs/faults.md are
//! made of this table.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

/// One way to break a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// Requests fail.
    Errors,
    /// Requests take longer.
    Latency,
    /// The service that is called is slow, failing or down.
    Dependency,
    /// Somebody holds a lock in the database.
    DatabaseLock,
    /// Threads that compute nothing.
    Cpu,
    /// Memory that grows.
    Memory,
    /// Many log lines.
    LogFlood,
    /// Log lines that are no JSON.
    LogMalformed,
    /// A label whose values have no end.
    LabelBomb,
    /// Spans that never leave.
    SpanDrop,
    /// A trace context that does not arrive.
    TraceBreak,
    /// `/readyz` says no.
    Unready,
    /// The process dies.
    Crash,
}

/// What is to be known of a fault.
#[derive(Debug, Serialize)]
pub struct About {
    /// Its name in URLs, on the command line, and as `fault` label.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What there is to learn from it.
    pub teaches: &'static str,
    /// Where it is seen.
    pub shows: &'static str,
    /// Whether `X-Fault` can ask for it, for one request.
    pub one_request: bool,
    /// What can be set.
    pub parameters: &'static [Parameter],
}

/// One thing that can be set about a fault.
#[derive(Debug, Serialize)]
pub struct Parameter {
    /// Its name, also of the command line's option.
    pub name: &'static str,
    /// What is allowed.
    #[serde(flatten)]
    pub kind: Kind,
    /// When it is not given; empty when there is none.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The values that a parameter takes.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// A time, written `250ms`, `2m`, or as a number of seconds.
    Time {
        /// The shortest.
        #[serde(serialize_with = "time")]
        least: Duration,
        /// The longest.
        #[serde(serialize_with = "time")]
        most: Duration,
    },
    /// A number.
    Number {
        /// The smallest.
        least: f64,
        /// The largest.
        most: f64,
    },
    /// A whole number.
    Count {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// One of a few words.
    Choice {
        /// The words.
        choices: &'static [&'static str],
    },
    /// One of the service's routes.
    Route,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Of [`Kind::Time`].
    Time(#[serde(serialize_with = "time")] Duration),
    /// Of [`Kind::Number`].
    Number(f64),
    /// Of [`Kind::Count`].
    Count(u64),
    /// Of [`Kind::Choice`] and [`Kind::Route`].
    Text(String),
}

fn time<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&written(*time))
}

/// A time as it can be read again.
fn written(time: Duration) -> String {
    match time {
        Duration::ZERO => "0s".to_owned(),
        time => format!("{time:?}"),
    }
}

/// What is wrong with a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The parameter.
    pub field: String,
    /// What it has to be.
    pub message: String,
}

/// The parameters of a fault that is started, the defaults filled in.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<&'static str, Value>);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How long a fault lasts that nobody stops.
const FOR: Parameter = Parameter {
    name: "for",
    kind: Kind::Time {
        least: Duration::from_millis(100),
        most: seconds(3600),
    },
    default: "1m",
    help: "how long it lasts",
};

const PROBABILITY: Parameter = Parameter {
    name: "probability",
    kind: Kind::Number {
        least: 0.0,
        most: 1.0,
    },
    default: "0.1",
    help: "share of the requests it happens to (1 in an X-Fault header)",
};

const ROUTE: Parameter = Parameter {
    name: "route",
    kind: Kind::Route,
    default: "",
    help: "only requests to this route, written as in the route label, /api/orders/{id}",
};

impl Fault {
    /// Whether only some services have it.
    pub(super) const fn is_special(self) -> bool {
        matches!(self, Self::Dependency | Self::DatabaseLock)
    }

    /// Every fault, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::Errors,
        Self::Latency,
        Self::Dependency,
        Self::DatabaseLock,
        Self::Cpu,
        Self::Memory,
        Self::LogFlood,
        Self::LogMalformed,
        Self::LabelBomb,
        Self::SpanDrop,
        Self::TraceBreak,
        Self::Unready,
        Self::Crash,
    ];

    /// The fault of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.about().name == name)
    }

    /// Its row of the table.
    pub fn about(self) -> &'static About {
        &ROWS[self as usize]
    }
}

/// One row for each, in the order of the names above.
static ROWS: [About; Fault::ALL.len()] = [
    About {
        name: "errors",
        summary: "a share of the requests fails",
        teaches: "error rate, error budget and burn rate; 1 % that averages hide and an SLO does not",
        shows: "flask_requests_total with status 5xx, error logs and spans with error.type injected-fault, HighErrorRate and the availability SLO",
        one_request: true,
        parameters: &[
            FOR,
            PROBABILITY,
            Parameter {
                name: "status",
                kind: Kind::Count {
                    least: 500,
                    most: 599,
                },
                default: "500",
                help: "the answer; one of those that the routes have",
            },
            ROUTE,
        ],
    },
    About {
        name: "latency",
        summary: "a share of the requests waits before it is handled",
        teaches: "percentiles against averages, heavy tails, and what a latency SLO counts",
        shows: "flask_http_request_duration_seconds, event.duration in the access log, the server span, the latency SLO",
        one_request: true,
        parameters: &[
            FOR,
            Parameter {
                default: "1",
                ..PROBABILITY
            },
            Parameter {
                name: "distribution",
                kind: Kind::Choice {
                    choices: &["fixed", "uniform", "normal", "lognormal", "pareto"],
                },
                default: "fixed",
                help: "how the times are spread",
            },
            Parameter {
                name: "delay",
                kind: Kind::Time {
                    least: Duration::ZERO,
                    most: seconds(30),
                },
                default: "300ms",
                help: "fixed: the time; uniform, normal: the mean; lognormal: the median; pareto: the least",
            },
            Parameter {
                name: "spread",
                kind: Kind::Time {
                    least: Duration::ZERO,
                    most: seconds(30),
                },
                default: "100ms",
                help: "uniform: from delay - spread to delay + spread; normal: the standard deviation",
            },
            Parameter {
                name: "shape",
                kind: Kind::Number {
                    least: 0.1,
                    most: 10.0,
                },
                default: "1.5",
                help: "lognormal: sigma, the larger the wilder; pareto: alpha, the smaller the wilder",
            },
            Parameter {
                name: "longest",
                kind: Kind::Time {
                    least: Duration::ZERO,
                    most: seconds(30),
                },
                default: "10s",
                help: "no request waits longer, whatever the distribution says",
            },
            ROUTE,
        ],
    },
    About {
        name: "dependency",
        summary: "calls to payments are slow, fail, or find nobody",
        teaches: "time-outs, retries and the circuit breaker; what a failing dependency does to those who depend on it",
        shows: "flask_dependency_requests_total by outcome, client spans with an error and no server span below them, DependencySlow and DependencyFailing",
        one_request: true,
        parameters: &[
            FOR,
            Parameter {
                default: "1",
                help: "share of the calls it happens to (1 in an X-Fault header)",
                ..PROBABILITY
            },
            Parameter {
                name: "mode",
                kind: Kind::Choice {
                    choices: &["slow", "failing", "down"],
                },
                default: "failing",
                help: "slow: the call waits first; failing: the answer is 500; down: nobody listens",
            },
            Parameter {
                name: "delay",
                kind: Kind::Time {
                    least: Duration::ZERO,
                    most: seconds(30),
                },
                default: "1s",
                help: "slow: how long a call waits; longer than --payments-timeout and it times out",
            },
        ],
    },
    About {
        name: "database-lock",
        summary: "another connection holds the lock that every order needs",
        teaches: "waiting for a lock looks like a slow database; reads go on, writes queue, time out and answer 503",
        shows: "flask_db_pool_wait_seconds, spans of the database, 503 of /api/orders, requests in progress",
        one_request: false,
        parameters: &[FOR],
    },
    About {
        name: "cpu",
        summary: "threads that compute nothing take the processor",
        teaches: "saturation: latency rises although nothing is wrong with the code; throttling in a container",
        shows: "process_cpu_seconds_total, container_cpu_usage_seconds_total, node load, request durations",
        one_request: false,
        parameters: &[
            FOR,
            Parameter {
                name: "threads",
                kind: Kind::Count { least: 1, most: 8 },
                default: "1",
                help: "how many",
            },
            Parameter {
                name: "load",
                kind: Kind::Number {
                    least: 0.01,
                    most: 1.0,
                },
                default: "1",
                help: "the share of the time that each computes",
            },
        ],
    },
    About {
        name: "memory",
        summary: "memory grows, as with a leak, and is given back at the end",
        teaches: "a leak in a graph: the slope tells when the limit is reached, before it is",
        shows: "process_resident_memory_bytes, container_memory_working_set_bytes, predict_linear",
        one_request: false,
        parameters: &[
            FOR,
            Parameter {
                name: "mib",
                kind: Kind::Count {
                    least: 1,
                    most: 512,
                },
                default: "128",
                help: "where the growth ends, in MiB",
            },
            Parameter {
                name: "mib-per-second",
                kind: Kind::Number {
                    least: 0.1,
                    most: 512.0,
                },
                default: "4",
                help: "how fast it grows",
            },
        ],
    },
    About {
        name: "log-flood",
        summary: "many log lines that say nothing",
        teaches: "what logs cost, and that a full queue drops lines and counts them instead of blocking requests",
        shows: "the number of documents in Elasticsearch, the lag of the log shipper, telemetry_log_lines_dropped_total",
        one_request: false,
        parameters: &[
            FOR,
            Parameter {
                name: "rate",
                kind: Kind::Count {
                    least: 1,
                    most: 20_000,
                },
                default: "500",
                help: "lines a second",
            },
        ],
    },
    About {
        name: "log-malformed",
        summary: "lines in the log that are no JSON object, or one with the wrong types",
        teaches: "a log route has to keep what it cannot read, and to count it; one line must not spoil the next",
        shows: "dead letters (event.kind pipeline_error, index flask-logs-dead-letter-*) in Elasticsearch",
        one_request: false,
        parameters: &[
            FOR,
            Parameter {
                name: "rate",
                kind: Kind::Count {
                    least: 1,
                    most: 100,
                },
                default: "1",
                help: "malformed pieces a second, of six kinds in turn",
            },
        ],
    },
    About {
        name: "label-bomb",
        summary: "a metric whose label takes a new value all the time, as a customer's id would",
        teaches: "cardinality: each value is a series for as long as Prometheus keeps data; sample_limit is the fuse",
        shows: "chaos_label_bomb in /metrics, scrape_samples_scraped, prometheus_tsdb_head_series; past sample_limit (1000) the scrape fails and TargetDown fires",
        one_request: false,
        parameters: &[
            FOR,
            Parameter {
                name: "series",
                kind: Kind::Count {
                    least: 1,
                    most: 5_000,
                },
                default: "400",
                help: "where the growth ends; over about 600 the whole scrape is refused",
            },
            Parameter {
                name: "series-per-second",
                kind: Kind::Count {
                    least: 1,
                    most: 5_000,
                },
                default: "20",
                help: "how fast it grows",
            },
        ],
    },
    About {
        name: "span-drop",
        summary: "a share of the spans is dropped before it is exported",
        teaches: "traces with holes: orphans, roots that are missing, and how the telemetry tells of its own loss",
        shows: "telemetry_spans_dropped_total, SpansDropped, traces in Jaeger with missing parents",
        one_request: true,
        parameters: &[
            FOR,
            Parameter {
                default: "0.5",
                help: "share of the spans (in an X-Fault header: the request's own server span, and 1)",
                ..PROBABILITY
            },
        ],
    },
    About {
        name: "trace-break",
        summary: "the trace context is ignored when it comes in, and nonsense when it goes out",
        teaches: "what one service that does not propagate does to everybody's traces",
        shows: "traces that start in the middle: flask-api without loadgen, payments without flask-api",
        one_request: true,
        parameters: &[
            FOR,
            Parameter {
                default: "1",
                ..PROBABILITY
            },
            Parameter {
                name: "direction",
                kind: Kind::Choice {
                    choices: &["both", "in", "out"],
                },
                default: "both",
                help: "in: the caller's context is ignored; out: the context sent to others is nonsense",
            },
            ROUTE,
        ],
    },
    About {
        name: "unready",
        summary: "/readyz answers 503, /healthz goes on answering 200",
        teaches: "readiness takes an instance out of the load balancer, liveness restarts it: two questions",
        shows: "/readyz, the endpoints of a Kubernetes service, lab status",
        one_request: false,
        parameters: &[FOR],
    },
    About {
        name: "crash",
        summary: "the process aborts, with all it had in memory",
        teaches: "what a crash costs: requests in flight, spans and log lines not sent yet; the orders that stay pending are swept up later",
        shows: "up, TargetDown, traces without their root, process_start_time_seconds after a restart; the lab does not restart it",
        one_request: false,
        parameters: &[Parameter {
            name: "delay",
            kind: Kind::Time {
                // For the answer to get out.
                least: Duration::from_millis(100),
                most: seconds(3600),
            },
            default: "1s",
            help: "how long until then; stopping the fault in time prevents it",
        }],
    },
];

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().name)
    }
}

impl Parameter {
    /// Reads a value as people and programs write it.
    ///
    /// # Errors
    /// What it has to be.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Time { least, most } => {
                let time = crate::parse_duration(text)?;
                match (least..=most).contains(&time) {
                    true => Ok(Value::Time(time)),
                    false => Err(format!(
                        "has to be from {} to {}",
                        written(least),
                        written(most)
                    )),
                }
            }
            Kind::Number { least, most } => text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .map(Value::Number)
                .ok_or_else(|| format!("has to be a number from {least} to {most}")),
            Kind::Count { least, most } => text
                .parse()
                .ok()
                .filter(|count| (least..=most).contains(count))
                .map(Value::Count)
                .ok_or_else(|| format!("has to be a whole number from {least} to {most}")),
            Kind::Choice { choices } if choices.contains(&text) => Ok(Value::Text(text.into())),
            Kind::Choice { choices } => Err(format!("has to be one of {}", choices.join(", "))),
            Kind::Route if text.starts_with('/') => Ok(Value::Text(text.into())),
            Kind::Route => Err("has to be a route, which starts with /".into()),
        }
    }

    /// The values it takes, in words.
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Time { least, most } => format!("{} to {}", written(least), written(most)),
            Kind::Number { least, most } => format!("{least} to {most}"),
            Kind::Count { least, most } => format!("{least} to {most}"),
            Kind::Choice { choices } => choices.join(", "),
            Kind::Route => "a route".into(),
        }
    }
}

impl Settings {
    /// Reads what was given for a fault, and fills in the rest.
    ///
    /// # Errors
    /// Every mistake, not only the first.
    pub fn read<'a>(
        fault: Fault,
        given: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<Mistake>> {
        let parameters = fault.about().parameters;
        let mut settings = BTreeMap::new();
        let mut mistakes = Vec::new();
        for (name, text) in given {
            let wrong = |message| Mistake {
                field: name.chars().take(64).collect(),
                message,
            };
            let Some(parameter) = parameters.iter().find(|known| known.name == name) else {
                let known: Vec<_> = parameters.iter().map(|known| known.name).collect();
                mistakes.push(wrong(format!(
                    "is no parameter of {}; it has {}",
                    fault.about().name,
                    known.join(", ")
                )));
                continue;
            };
            match parameter.read(text) {
                Ok(value) => {
                    if settings.insert(parameter.name, value).is_some() {
                        mistakes.push(wrong("is given twice".into()));
                    }
                }
                Err(message) => mistakes.push(wrong(message)),
            }
        }
        for parameter in parameters {
            if !parameter.default.is_empty() && !settings.contains_key(parameter.name) {
                let value = parameter
                    .read(parameter.default)
                    .expect("a test reads every default");
                settings.insert(parameter.name, value);
            }
        }
        match mistakes.is_empty() {
            true => Ok(Self(settings)),
            false => Err(mistakes),
        }
    }

    /// How long the fault lasts.
    pub fn lifetime(&self) -> Duration {
        match self.0.get("for").or_else(|| self.0.get("delay")) {
            Some(Value::Time(time)) => *time,
            _ => unreachable!("a test starts every fault"),
        }
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match self.0.get(name) {
            Some(Value::Time(time)) => *time,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn number(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Value::Number(number)) => *number,
            _ => 0.0,
        }
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        match self.0.get(name) {
            Some(Value::Count(count)) => *count,
            _ => 0,
        }
    }

    /// A choice, or a route.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_whole() {
        let mut names = BTreeSet::new();
        for fault in Fault::ALL {
            let about = fault.about();
            assert!(names.insert(about.name), "{} twice", about.name);
            assert_eq!(Fault::find(about.name), Some(fault));
            assert_eq!(Fault::ALL[fault as usize], fault, "the place is the bit");
            let settings = Settings::read(fault, []).expect("the defaults are allowed");
            assert!(settings.lifetime() <= seconds(3600), "{}", about.name);
            let mut parameters = BTreeSet::new();
            for parameter in about.parameters {
                assert!(parameters.insert(parameter.name), "{}", parameter.name);
            }
            assert_eq!(
                about.one_request,
                parameters.contains("probability"),
                "{}: what happens to a request happens to a share of them",
                about.name
            );
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let given = [
            ("for", "2h"),
            ("probability", "1.1"),
            ("status", "five hundred"),
            ("colour", "red"),
            ("route", "/api/orders"),
            ("route", "/api/products"),
        ];
        let mistakes = Settings::read(Fault::Errors, given).expect_err("wrong");
        let fields: Vec<&str> = mistakes.iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, ["for", "probability", "status", "colour", "route"]);
        assert_eq!(mistakes[0].message, "has to be from 100ms to 3600s");
        assert!(
            mistakes[3]
                .message
                .contains("for, probability, status, route")
        );
    }

    #[test]
    fn caps_are_kept_from_both_sides() {
        for (fault, name, good, bad) in [
            (Fault::Errors, "for", "1h", "1h 1s"),
            (Fault::Errors, "for", "0.1", "99ms"),
            (Fault::Errors, "probability", "0", "-0.1"),
            (Fault::Errors, "probability", "1", "NaN"),
            (Fault::Latency, "delay", "30s", "31s"),
            (Fault::Latency, "distribution", "pareto", "cauchy"),
            (Fault::Cpu, "threads", "8", "9"),
            (Fault::Memory, "mib", "512", "513"),
            (Fault::LogFlood, "rate", "20000", "20001"),
            (Fault::LabelBomb, "series", "5000", "5001"),
            (Fault::Crash, "delay", "0.1", "0"),
        ] {
            assert!(
                Settings::read(fault, [(name, good)]).is_ok(),
                "{name} {good}"
            );
            assert!(
                Settings::read(fault, [(name, bad)]).is_err(),
                "{name} {bad}"
            );
        }
    }
}
