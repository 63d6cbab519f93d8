//! One event, followed through metrics, logs and traces of a running lab, in every direction; and the names that spans and
//! resources carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_semantic_conventions::{attribute, resource};
use serde_json::{Value, json};

use crate::{
    dashboards::{assert_legends_tell_series_apart, assert_ways_lead_to_each_other},
    running::{TestLab, eventually, everything_is_installed, text},
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

struct Linked {
    lab: TestLab,
}

impl Linked {
    fn get(&self, component: &str, port: &str, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.lab.port(component, port));
        block_on(async {
            let request = reqwest::Client::new().get(url).query(query);
            request
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap_or_default()
        })
    }

    /// The services that have spans in a trace.
    fn services(&self, trace: &str) -> BTreeSet<String> {
        let answer = self.get("jaeger", "http", &format!("/api/traces/{trace}"), &[]);
        let processes = answer["data"][0]["processes"].as_object().cloned();
        let processes = processes.unwrap_or_default();
        processes
            .values()
            .map(|it| it["serviceName"].as_str().unwrap().to_owned())
            .collect()
    }

    fn logs(&self, args: &[&str]) -> Vec<Value> {
        let output = self.lab.run(&[&["logs", "--json"], args].concat());
        assert!(output.status.success(), "{}", text(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect()
    }

    /// Trace and log line of an event are both there, and name each other.
    fn follow(&self, trace: &str, what: &str) {
        eventually(&format!("a trace of {what}: {trace}"), || {
            self.services(trace).contains("flask-api")
        });
        eventually(&format!("log lines of {what}: {trace}"), || {
            let lines = self.logs(&["--trace", trace]);
            lines.iter().any(|line| {
                line["trace.id"] == trace && line["event.dataset"] == "flask-api.access"
            })
        });
    }

    /// A request of our own: status and body.
    fn request(&self, path: &str) -> (u16, Value) {
        let url = format!(
            "http://127.0.0.1:{}{path}",
            self.lab.port("flask-api-1", "http")
        );
        block_on(async {
            let answer = reqwest::get(url).await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        })
    }
}

#[test]
fn metrics_logs_and_traces_lead_to_each_other() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    let it = Linked { lab };

    // From a latency in Prometheus: its exemplar names a trace, the trace its lines.
    let mut trace = String::new();
    eventually("an exemplar of flask-api", || {
        let query = r#"traces_span_metrics_duration_seconds_bucket{service_name="flask-api", span_kind="SPAN_KIND_SERVER"}"#;
        let now = jiff::Timestamp::now();
        let (start, end) = (
            (now.as_second() - 600).to_string(),
            now.as_second().to_string(),
        );
        let arguments = [("query", query), ("start", &start), ("end", &end)];
        let answer = it.get("prometheus", "http", "/api/v1/query_exemplars", &arguments);
        let exemplars = answer["data"].as_array().unwrap().iter();
        let mut exemplars = exemplars.flat_map(|series| series["exemplars"].as_array().unwrap());
        exemplars.next().is_some_and(|exemplar| {
            trace = exemplar["labels"]["trace_id"].as_str().unwrap().to_owned();
            true
        })
    });
    it.follow(&trace, "an exemplar");

    // From a log line to its trace, across the services that took part.
    let mut line = Value::Null;
    eventually("a line of payments", || {
        let found = it.logs(&["--service", "payments", "--kind", "access", "-n", "1"]);
        found.into_iter().next().is_some_and(|found| {
            line = found;
            true
        })
    });
    let trace = line["trace.id"].as_str().unwrap();
    eventually("its trace from the client to payments", || {
        let services: Vec<String> = it.services(trace).into_iter().collect();
        services == ["flask-api", "loadgen", "payments"]
    });

    // From an error that a client was given.
    let (status, problem) = it.request("/api/orders/999999999");
    assert_eq!(status, 404, "{problem}");
    it.follow(problem["trace_id"].as_str().unwrap(), "an error");

    // From the load generator's result.
    let file = it.lab.data.path().join("result.json");
    let target = format!(
        "http://127.0.0.1:{}/api/products",
        it.lab.port("flask-api-1", "http")
    );
    let traces = format!("http://127.0.0.1:{}", it.lab.port("jaeger", "otlp-http"));
    let json = format!("--json={}", file.display());
    let output = crate::running::lab(&["component", "loadgen", "run", &target])
        .args(["--rate", "20", "--for", "2s", &json])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", traces)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let result: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let slowest = result["slowest"][0]["trace_id"].as_str().unwrap();
    it.follow(slowest, "the slowest request");

    // Who calls whom.
    eventually("loadgen calls flask-api, which calls payments", || {
        let now = jiff::Timestamp::now().as_millisecond().to_string();
        let arguments = [("endTs", now.as_str()), ("lookback", "3600000")];
        let answer = it.get("jaeger", "http", "/api/dependencies", &arguments);
        let edges = answer["data"].as_array().cloned().unwrap_or_default();
        let has = |parent: &str, child: &str| {
            edges
                .iter()
                .any(|it| it["parent"] == parent && it["child"] == child)
        };
        has("loadgen", "flask-api") && has("flask-api", "payments")
    });

    let failed = kinds_of_log_are_told_apart(&it);
    assert_ways_lead_to_each_other(&it.lab, &failed);
    assert_legends_tell_series_apart(&it.lab);
    following_shows_what_comes_in(&it);
    every_name_is_a_convention(&it);
}

/// Gives the trace in which something went wrong.
fn kinds_of_log_are_told_apart(it: &Linked) -> String {
    // One request in which something goes wrong, for a line of the third kind.
    let fault = [
        "chaos",
        "start",
        "errors",
        "--probability",
        "1",
        "--for",
        "30s",
        "--route",
        "/api/products",
    ];
    let started = it.lab.run(&fault);
    assert!(started.status.success(), "{}", text(&started));
    let (status, problem) = it.request("/api/products");
    assert_eq!(status, 500, "{problem}");
    let trace = problem["trace_id"].as_str().unwrap();
    let stopped = it.lab.run(&["chaos", "stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    let of = |args: &[&str]| it.logs(&[&["--trace", trace], args].concat());
    eventually("access and error lines of it", || {
        !of(&["--kind", "access"]).is_empty() && !of(&["--kind", "error"]).is_empty()
    });
    for kind in ["app", "access", "error"] {
        for line in of(&["--kind", kind]) {
            assert_eq!(line["event.dataset"], format!("flask-api.{kind}"));
        }
    }
    let levels: BTreeSet<String> = it
        .logs(&["--level", "warn", "-n", "1000"])
        .iter()
        .map(|line| line["log.level"].as_str().unwrap().to_owned())
        .collect();
    assert!(levels.contains("error"), "{levels:?}");
    assert!(!levels.contains("info"), "{levels:?}");
    assert_eq!(of(&["no line says this"]), [] as [Value; 0]);
    assert_eq!(of(&["--service", "payments"]), [] as [Value; 0]);
    // For people: kind, message and reason on a line of their own.
    let shown = it.lab.run(&["logs", "--trace", trace, "--kind", "error"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("error flask-api.error"), "{shown}");
    trace.to_owned()
}

fn following_shows_what_comes_in(it: &Linked) {
    let mut child = it
        .lab
        .command(&[
            "logs",
            "--follow",
            "--json",
            "-n",
            "0",
            "--kind",
            "access",
            "--service",
            "flask-api",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let started = jiff::Timestamp::now();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // Once each, and none of those from before.
        let id = (line["span.id"].to_string(), line["@timestamp"].to_string());
        assert!(seen.insert(id), "{line}");
        let at: jiff::Timestamp = line["@timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at > started - jiff::SignedDuration::from_secs(10), "{line}");
    }
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    child.wait().unwrap();
}

// --- semantic conventions ----------------------------------------------------------

/// What spans may carry: names of the published registry, by the constants made of it.
const OF_SPANS: &[&str] = &[
    attribute::CLIENT_ADDRESS,
    attribute::DB_COLLECTION_NAME,
    attribute::DB_NAMESPACE,
    attribute::DB_OPERATION_NAME,
    attribute::DB_QUERY_SUMMARY,
    attribute::DB_RESPONSE_STATUS_CODE,
    attribute::DB_SYSTEM_NAME,
    attribute::ERROR_TYPE,
    attribute::EXCEPTION_MESSAGE,
    attribute::EXCEPTION_TYPE,
    attribute::HTTP_REQUEST_METHOD,
    attribute::HTTP_REQUEST_METHOD_ORIGINAL,
    attribute::HTTP_REQUEST_RESEND_COUNT,
    attribute::HTTP_RESPONSE_STATUS_CODE,
    attribute::HTTP_ROUTE,
    attribute::NETWORK_PROTOCOL_VERSION,
    attribute::OTEL_SCOPE_NAME,
    attribute::OTEL_SCOPE_VERSION,
    attribute::OTEL_STATUS_CODE,
    attribute::OTEL_STATUS_DESCRIPTION,
    attribute::SERVER_ADDRESS,
    attribute::SERVER_PORT,
    attribute::URL_FULL,
    attribute::URL_PATH,
    attribute::URL_SCHEME,
    attribute::URL_TEMPLATE,
    attribute::USER_AGENT_ORIGINAL,
];

/// What resources may carry.
const OF_RESOURCES: &[&str] = &[
    resource::HOST_NAME,
    resource::PROCESS_PID,
    resource::SERVICE_INSTANCE_ID,
    resource::SERVICE_NAME,
    resource::SERVICE_VERSION,
    resource::TELEMETRY_SDK_LANGUAGE,
    resource::TELEMETRY_SDK_NAME,
    resource::TELEMETRY_SDK_VERSION,
];

/// What Jaeger itself puts beside the attributes when it shows a span.
const OF_JAEGER: &[&str] = &["span.kind", "error"];

/// What the conventions require of a span, by its kind; database spans have a name of their own for what they speak to.
const REQUIRED: &[(&str, &[&str])] = &[
    (
        "server",
        &[
            attribute::HTTP_REQUEST_METHOD,
            attribute::URL_PATH,
            attribute::URL_SCHEME,
        ],
    ),
    (
        "client",
        &[
            attribute::HTTP_REQUEST_METHOD,
            attribute::SERVER_ADDRESS,
            attribute::SERVER_PORT,
            attribute::URL_FULL,
        ],
    ),
];

fn every_name_is_a_convention(it: &Linked) {
    let mut seen = BTreeMap::<String, usize>::new();
    for service in ["loadgen", "flask-api", "payments"] {
        let arguments = [("service", service), ("limit", "200"), ("lookback", "1h")];
        let answer = it.get("jaeger", "http", "/api/traces", &arguments);
        for trace in answer["data"].as_array().unwrap() {
            for process in trace["processes"].as_object().unwrap().values() {
                for tag in process["tags"].as_array().unwrap() {
                    let name = tag["key"].as_str().unwrap();
                    assert!(
                        OF_RESOURCES.contains(&name),
                        "a resource with {name}: {process:#}"
                    );
                }
            }
            for span in trace["spans"].as_array().unwrap() {
                let tags: BTreeMap<&str, &Value> = span["tags"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|tag| (tag["key"].as_str().unwrap(), &tag["value"]))
                    .collect();
                for name in tags.keys() {
                    let known = OF_SPANS.contains(name) || OF_JAEGER.contains(name);
                    assert!(known, "a span with {name}: {span:#}");
                }
                let kind = tags["span.kind"].as_str().unwrap();
                if tags.contains_key(attribute::DB_SYSTEM_NAME) {
                    assert_eq!(kind, "client", "{span:#}");
                    *seen.entry("database".into()).or_default() += 1;
                    continue;
                }
                for (of, required) in REQUIRED.iter().filter(|(of, _)| *of == kind) {
                    for name in *required {
                        assert!(
                            tags.contains_key(name),
                            "a {of} span without {name}: {span:#}"
                        );
                    }
                }
                // 5xx is an error of the server, and its span says what kind of one.
                if kind == "server"
                    && tags[attribute::HTTP_RESPONSE_STATUS_CODE].as_i64() >= Some(500)
                {
                    assert!(tags.contains_key(attribute::ERROR_TYPE), "{span:#}");
                }
                *seen.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }
    // Each kind was there, or nothing was shown.
    for kind in ["server", "client", "database"] {
        assert!(seen.contains_key(kind), "{}", json!(seen));
    }
}
