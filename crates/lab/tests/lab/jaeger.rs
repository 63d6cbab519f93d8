//! The configurations of Jaeger that a lab does not run: where traces are kept, and which.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    running::{TestLab, eventually, everything_is_installed, free_port, program, project, skip},
    shippers::elasticsearch,
};

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Jaeger with `config.yaml` and one fragment; killed when it is dropped.
struct Jaeger {
    process: Child,
    query: String,
    otlp: String,
    metrics: String,
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Jaeger {
    fn start(dir: &Path, fragment: &str, more: &[(&str, &str)]) -> Option<Self> {
        let Some(program) = program("jaeger") else {
            skip("Jaeger is not installed; get it with `lab install jaeger`");
            return None;
        };
        let [query, otlp, metrics, health] = [(); 4].map(|()| free_address());
        let log = || {
            let log = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join("log"));
            Stdio::from(log.unwrap())
        };
        let own_metrics = free_address();
        let process = Command::new(program)
            .arg("--config")
            .arg(project().join("jaeger/config.yaml"))
            .arg("--config")
            .arg(project().join("jaeger").join(fragment))
            .current_dir(dir)
            .env("JAEGER_OTLP_GRPC", free_address())
            .env("JAEGER_OTLP_HTTP", &otlp)
            .env("JAEGER_QUERY_HTTP", &query)
            .env("JAEGER_QUERY_GRPC", free_address())
            .env("JAEGER_SPAN_METRICS", &metrics)
            .env(
                "JAEGER_METRICS_PORT",
                own_metrics.rsplit(':').next().unwrap(),
            )
            .env("JAEGER_HEALTH", &health)
            .env("JAEGER_SAMPLING_HTTP", free_address())
            .env("JAEGER_SAMPLING_GRPC", free_address())
            .env(
                "JAEGER_SAMPLING_STRATEGIES",
                project().join("jaeger/sampling-strategies.json"),
            )
            .envs(more.iter().copied())
            .stdout(log())
            .stderr(log())
            .spawn()
            .unwrap();
        let mut jaeger = Self {
            process,
            query,
            otlp,
            metrics,
        };
        eventually("Jaeger is ready", || {
            if jaeger.process.try_wait().unwrap().is_some() {
                panic!(
                    "Jaeger has ended: {}",
                    std::fs::read_to_string(dir.join("log")).unwrap()
                );
            }
            let answer = block_on(reqwest::get(format!("http://{health}/status")));
            answer.is_ok_and(|it| it.status().is_success())
        });
        Some(jaeger)
    }

    /// Sends a trace of one span: its id, name, length and whether it failed.
    fn send(&self, traces: &[(String, &str, u64, bool)]) {
        let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
        let spans: Vec<Value> = traces
            .iter()
            .map(|(id, name, milliseconds, failed)| {
                json!({
                    "traceId": id, "spanId": &id[16..], "name": name, "kind": 2,
                    "startTimeUnixNano": (now - milliseconds * 1_000_000).to_string(), "endTimeUnixNano": now.to_string(),
                    "status": { "code": if *failed { 2 } else { 0 } },
                })
            })
            .collect();
        let service = json!([{ "key": "service.name", "value": { "stringValue": "shop" } }]);
        let body = json!({ "resourceSpans": [{ "resource": { "attributes": service }, "scopeSpans": [{ "spans": spans }] }] });
        let url = format!("http://{}/v1/traces", self.otlp);
        let answer = block_on(reqwest::Client::new().post(url).json(&body).send()).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    fn has(&self, trace: &str) -> bool {
        let url = format!("http://{}/api/traces/{trace}", self.query);
        block_on(async {
            let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
            answer["data"]
                .as_array()
                .is_some_and(|data| !data.is_empty())
        })
    }
}

fn id(number: u64) -> String {
    // Spread as random ids are: a sampler looks at the bits.
    format!(
        "{:016x}{:016x}",
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        number.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
    )
}

#[test]
fn traces_on_disk_survive_a_kill() {
    let dir = TempDir::new().unwrap();
    let badger = dir.path().join("badger");
    let more = [("JAEGER_BADGER", badger.to_str().unwrap())];
    let Some(jaeger) = Jaeger::start(dir.path(), "storage-badger.yaml", &more) else {
        return;
    };
    jaeger.send(&[(id(1), "before", 1, false)]);
    eventually("it is stored", || jaeger.has(&id(1)));
    drop(jaeger);
    let jaeger = Jaeger::start(dir.path(), "storage-badger.yaml", &more).unwrap();
    assert!(jaeger.has(&id(1)));
    assert!(!jaeger.has(&id(2)));
    jaeger.send(&[(id(2), "after", 1, false)]);
    eventually("it is stored", || jaeger.has(&id(2)));
}

#[test]
fn traces_in_elasticsearch_outlive_jaeger() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let dir = TempDir::new().unwrap();
    let more = [("JAEGER_ELASTICSEARCH_URL", url.as_str())];
    let jaeger = Jaeger::start(dir.path(), "storage-elasticsearch.yaml", &more).unwrap();
    jaeger.send(&[(id(1), "before", 1, false)]);
    eventually("it is stored", || jaeger.has(&id(1)));
    drop(jaeger);
    let jaeger = Jaeger::start(dir.path(), "storage-elasticsearch.yaml", &more).unwrap();
    assert!(jaeger.has(&id(1)));
}

#[test]
fn the_tail_keeps_errors_and_slow_requests_and_counts_all() {
    const OTHERS: u64 = 3000;
    let dir = TempDir::new().unwrap();
    let more = [("JAEGER_TAIL_WAIT", "1s")];
    let Some(jaeger) = Jaeger::start(dir.path(), "tail-sampling.yaml", &more) else {
        return;
    };
    let failed: Vec<_> = (0..20).map(|it| (id(it), "failed", 5, true)).collect();
    let slow: Vec<_> = (20..40).map(|it| (id(it), "slow", 300, false)).collect();
    let others: Vec<_> = (40..40 + OTHERS)
        .map(|it| (id(it), "quick", 5, false))
        .collect();
    jaeger.send(&[failed.clone(), slow.clone(), others.clone()].concat());
    for (trace, ..) in failed.iter().chain(&slow) {
        eventually("what failed or was slow is kept", || jaeger.has(trace));
    }
    let kept = others
        .iter()
        .filter(|(trace, ..)| jaeger.has(trace))
        .count();
    // Four standard deviations of a tenth of 3000.
    assert!((234..=366).contains(&kept), "{kept} of {OTHERS}");
    // The metrics are of all of them.
    let calls = format!("http://{}/metrics", jaeger.metrics);
    eventually("metrics of every trace", || {
        let page = block_on(async { reqwest::get(&calls).await.unwrap().text().await.unwrap() });
        let counts = page
            .lines()
            .filter(|line| line.starts_with("traces_span_metrics_calls_total{"));
        let sum: f64 = counts
            .filter_map(|line| {
                line.split("} ")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse::<f64>()
                    .ok()
            })
            .sum();
        (sum - 3040.0).abs() < 0.5
    });
}
