//! A program with telemetry, in a process of its own: `init` sets what is global to a process, and most of what
//! matters happens at its end. The process is this test binary once more, told to run [`program`] only.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, global};
use prometheus::Registry;
use serde_json::{Value, json};
use telemetry::{LogOutput, Options, ShutdownReport, Telemetry};
use tracing::{debug, error, info, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;

const SCRIPT: &str = "TELEMETRY_TEST_SCRIPT";
const FILTER: &str = "TELEMETRY_TEST_FILTER";
const OUTPUT: &str = "TELEMETRY_TEST_OUTPUT";
/// Far more than anything here takes: a process still there after that hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs the script when started by [`Program`]; nothing otherwise.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the harness must not write its summary among the log lines"
)]
fn program() {
    if let Ok(script) = std::env::var(SCRIPT) {
        run(&script);
        std::process::exit(0);
    }
}

/// Tells the test something; on stderr, since stdout belongs to the log.
fn tell(what: &Value) {
    writeln!(std::io::stderr(), "{what}").expect("stderr works");
}

fn options() -> Options {
    Options {
        service_name: "shop",
        service_version: "1.2.3",
        log_filter: std::env::var(FILTER).unwrap_or_else(|_| "info".to_owned()),
        log_output: match std::env::var(OUTPUT).as_deref() {
            Ok("stderr") => LogOutput::Stderr,
            _ => LogOutput::Stdout,
        },
    }
}

fn run(script: &str) {
    let mut telemetry = match telemetry::init(options()) {
        Ok(telemetry) => Some(telemetry),
        Err(error) => return tell(&json!({"error": error.to_string()})),
    };
    let registry = Registry::new();
    telemetry
        .as_ref()
        .expect("set")
        .register(&registry)
        .expect("a fresh registry");
    for step in script.split(';').map(str::trim) {
        let (verb, argument) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "spans" => {
                (0..argument.parse().expect("a number")).for_each(|_| drop(info_span!("work")))
            }
            "flood" => {
                (0..argument.parse().expect("a number")).for_each(|n: u64| info!(n, "flood"))
            }
            "lines" => lines(),
            "say" => info!("{argument}"),
            "propagate" => propagate(argument),
            "level" => {
                let result = telemetry
                    .as_ref()
                    .expect("running")
                    .log_level()
                    .set(argument);
                tell(&json!({"level": argument, "result": result.err()}));
            }
            "await" => await_metric(&registry, argument),
            "metrics" => tell(&json!({"metrics": metrics(&registry)})),
            "pause" => pause(),
            "init" => tell(
                &json!({"second": telemetry::init(options()).err().map(|error| error.to_string())}),
            ),
            "register" => tell(
                &json!({"registered": register(telemetry.as_ref().expect("running"), &registry)}),
            ),
            "drop" => telemetry = None,
            "shutdown" => {
                let (how, deadline) = argument.split_once(' ').unwrap_or(("plain", argument));
                let deadline = Duration::from_millis(deadline.parse().expect("milliseconds"));
                let telemetry = telemetry.take().expect("running");
                let report = match how {
                    "plain" => telemetry.shutdown(deadline),
                    "current-thread" => {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build();
                        runtime
                            .expect("a runtime")
                            .block_on(async move { telemetry.shutdown(deadline) })
                    }
                    "multi-thread" => {
                        let runtime = tokio::runtime::Builder::new_multi_thread()
                            .worker_threads(1)
                            .enable_all()
                            .build();
                        let runtime = runtime.expect("a runtime");
                        let task = runtime.spawn(async move { telemetry.shutdown(deadline) });
                        runtime.block_on(task).expect("no panic")
                    }
                    other => panic!("no such runtime: {other}"),
                };
                let ShutdownReport {
                    spans_flushed,
                    spans_lost,
                    logs_flushed,
                } = report;
                tell(
                    &json!({"spans_flushed": spans_flushed, "spans_lost": spans_lost, "logs_flushed": logs_flushed}),
                );
            }
            other => panic!("no such step: {other}"),
        }
    }
}

fn lines() {
    info!("outside");
    info_span!("request").in_scope(|| {
        info!(
            target: "access",
            {
                http.request.method = "GET",
                http.route = "/api/orders/{id}",
                url.path = "/api/orders/7",
                http.response.status_code = 200,
                event.duration = 1_234_567_u64,
                client.address = "127.0.0.1",
            },
            "GET /api/orders/7"
        );
        error!(error.type = "timeout", error.message = "payments did not answer", "order failed");
    });
    debug!("detail");
    tracing_log::log::warn!(target: "old_library", "from the log crate");
    tracing_log::log::debug!(target: "old_library", "detail from the log crate");
    warn!(attack = "x\n{\"log.level\":\"forged\"}\u{2028}", "hostile");
}

/// Answers a request that came with trace context: tells which headers go out to the next service.
fn propagate(flags: &str) {
    let incoming: std::collections::HashMap<String, String> = [
        (
            "traceparent".to_owned(),
            format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"),
        ),
        ("baggage".to_owned(), "customer=7".to_owned()),
    ]
    .into();
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&incoming));
    let span = info_span!("server");
    // Refused if traces are disabled, which some tests want.
    let _ = span.set_parent(parent);
    span.in_scope(|| {
        let mut outgoing = std::collections::HashMap::new();
        let context = Context::current();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut outgoing)
        });
        let sampled = context.span().span_context().is_sampled();
        tell(&json!({"outgoing": outgoing, "sampled": sampled}));
    });
}

fn metrics(registry: &Registry) -> BTreeMap<String, f64> {
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .expect("it is text");
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '));
    samples
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn await_metric(registry: &Registry, condition: &str) {
    let (name, least) = condition.split_once(' ').expect("a name and a number");
    let least: f64 = least.parse().expect("a number");
    // The watchdog of the test ends a wait in vain.
    while metrics(registry)[name] < least {
        thread::yield_now();
    }
}

/// Waits until the test closes stdin.
fn pause() {
    tell(&json!({"paused": true}));
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("stdin works");
}

fn register(telemetry: &Telemetry, first: &Registry) -> Value {
    let second = Registry::new_custom(Some("other".to_owned()), None).expect("a prefix");
    json!([
        telemetry.register(&second).is_ok(),
        telemetry.register(first).is_ok()
    ])
}

pub struct Program {
    command: Command,
}

/// A finished program.
pub struct Outcome {
    pub status: ExitStatus,
    /// Log lines; all of stdout but the greeting of the test harness.
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// A program that does these steps. Nothing is exported unless the test says where to.
    pub fn new(script: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args([
                "--exact",
                "program::program",
                "--nocapture",
                "--quiet",
                "--test-threads=2",
            ])
            .env(SCRIPT, script);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("OTEL_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("OTEL_TRACES_EXPORTER", "none");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn filter(self, directives: &str) -> Self {
        self.env(FILTER, directives)
    }

    pub fn log_to_stderr(self) -> Self {
        self.env(OUTPUT, "stderr")
    }

    pub fn export_to(self, endpoint: &str) -> Self {
        self.env("OTEL_TRACES_EXPORTER", "otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    }

    pub fn run(self) -> Outcome {
        let mut running = self.start();
        running.resume();
        running.finish()
    }

    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("this binary starts");
        let stderr = read(child.stderr.take().expect("piped"));
        Running { child, stderr }
    }
}

pub struct Running {
    child: Child,
    stderr: mpsc::Receiver<String>,
}

impl Running {
    /// Ends a `pause`.
    pub fn resume(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for something to happen outside of the program, which must go on meanwhile.
    pub fn wait_until(&mut self, condition: impl Fn() -> bool) {
        let give_up = Instant::now() + WATCHDOG;
        while !condition() {
            if Instant::now() > give_up {
                self.hangs();
            }
            thread::yield_now();
        }
    }

    /// Closes our end of its stdout. The script must start with a `pause`.
    pub fn close_stdout(&mut self) {
        // The harness in there writes before the script does, and would fail if it could not.
        let mut stdout = self.child.stdout.take().expect("piped");
        let mut greeting = [0; "\nrunning 1 test\n".len()];
        stdout
            .read_exact(&mut greeting)
            .expect("the greeting of the harness");
    }

    /// Waits for the end, and only then reads what went to stdout.
    pub fn finish_unread(mut self) -> Outcome {
        let stderr = self
            .stderr
            .recv_timeout(WATCHDOG)
            .unwrap_or_else(|_| self.hangs());
        let status = self.child.wait().expect("it was started");
        let stdout = self.child.stdout.take().map(|mut stdout| {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            text
        });
        Outcome {
            status,
            stdout: without_greeting(stdout.unwrap_or_default()),
            stderr,
        }
    }

    pub fn finish(mut self) -> Outcome {
        let stdout = read(self.child.stdout.take().expect("piped"));
        let stderr = self
            .stderr
            .recv_timeout(WATCHDOG)
            .unwrap_or_else(|_| self.hangs());
        let stdout = stdout
            .recv_timeout(WATCHDOG)
            .unwrap_or_else(|_| self.hangs());
        let status = self.child.wait().expect("it was started");
        Outcome {
            status,
            stdout: without_greeting(stdout),
            stderr,
        }
    }

    fn hangs(&mut self) -> String {
        self.child.kill().expect("it runs");
        panic!("the program hangs");
    }
}

fn without_greeting(stdout: String) -> String {
    stdout
        .trim_start()
        .strip_prefix("running 1 test\n")
        .unwrap_or(&stdout)
        .to_owned()
}

fn read(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("UTF-8");
        // Nobody may wait for it any more.
        let _ = sender.send(text);
    });
    receiver
}

impl Outcome {
    /// The log; every line of it must be a JSON object.
    pub fn log(&self) -> Vec<Value> {
        self.assert_success();
        self.stdout.lines().map(object).collect()
    }

    pub fn messages(&self) -> Vec<String> {
        self.log()
            .iter()
            .map(|line| line["message"].as_str().expect("a string").to_owned())
            .collect()
    }

    /// What the program told under this name, the last time it did.
    pub fn told(&self, name: &str) -> Value {
        self.assert_success();
        let told = self
            .stderr
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(object);
        let value = told
            .filter_map(|value| value.get(name).cloned())
            .next_back();
        value.unwrap_or_else(|| panic!("{name} was not told: {}", self.stderr))
    }

    /// `telemetry_spans_*`: sampled, exported, failed, dropped, queued.
    pub fn spans(&self) -> [u64; 5] {
        let metrics = self.told("metrics");
        [
            "sampled_total",
            "exported_total",
            "failed_total",
            "dropped_total",
            "queued",
        ]
        .map(|name| {
            let value = metrics[format!("telemetry_spans_{name}")]
                .as_f64()
                .expect("a number");
            value as u64
        })
    }

    /// Of the shutdown: spans flushed, spans lost.
    pub fn report(&self) -> (bool, u64) {
        let flushed = self.told("spans_flushed").as_bool().expect("yes or no");
        (flushed, self.told("spans_lost").as_u64().expect("a number"))
    }

    fn assert_success(&self) {
        assert!(
            self.status.success(),
            "{}: {}\n{}",
            self.status,
            self.stderr,
            self.stdout
        );
    }
}

fn object(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(value.is_object(), "{line}");
    value
}
