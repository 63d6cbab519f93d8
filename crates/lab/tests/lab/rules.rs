//! The alerts and recording rules of `prometheus/`: complete, documented, tested, and about series
//! that exist. Also the mutation check that `just mutate` runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use serde::Deserialize;
use serde_json::Value;

use crate::running::{TestLab, eventually, everything_is_installed, project, promtool, text};

/// The seed's alert, word for word; further annotations may follow.
const SEED: &str = r#"      - alert: HighErrorRate
        expr: rate(flask_requests_total{status=~"5.."}[5m]) > 0.05
        for: 5m
        labels:
          severity: critical
        annotations:
          summary: "High error rate detected"
          description: "Error rate is {{ $value }} errors/sec"
"#;

/// Selectors of rules that match nothing in a lab, by how they begin, and why.
pub const NOT_IN_A_LAB: &[(&str, &str)] = &[
    ("kube_", "kube-state-metrics: Kubernetes only"),
    ("kubelet_", "the kubelet: Kubernetes only"),
    (
        "container_cpu_cfs_",
        "only a container with a CPU quota has it: Kubernetes only",
    ),
];

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    hold: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn read(file: &str) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}

fn rules(file: &str) -> Vec<Rule> {
    let file: RuleFile = serde_saphyr::from_str(&read(file)).unwrap();
    file.groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

#[test]
fn the_seeds_alert_stands_word_for_word() {
    assert!(read("prometheus/alerts.yml").contains(SEED));
}

#[test]
fn every_alert_says_how_bad_what_and_what_to_do() {
    let playbook = read("docs/alerting-playbook.md");
    let sections: BTreeSet<String> = playbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_lowercase)
        .collect();
    let mut seen = BTreeSet::new();
    for rule in rules("prometheus/alerts.yml") {
        let name = rule.alert.expect("only alerts in alerts.yml");
        assert!(seen.insert(name.clone()), "{name} twice");
        let severity = rule.labels["severity"].as_str();
        let severities: &[&str] = if name == "Watchdog" {
            &["none"]
        } else {
            &["critical", "warning", "info"]
        };
        assert!(severities.contains(&severity), "{name}: {severity}");
        let said = |key: &str| {
            let text = rule
                .annotations
                .get(key)
                .unwrap_or_else(|| panic!("{name}: no {key}"));
            assert!(!text.trim().is_empty(), "{name}: empty {key}");
            text
        };
        said("summary");
        assert!(
            said("description").contains("$value"),
            "{name}: no value in its description"
        );
        let section = said("runbook_url")
            .strip_prefix("docs/alerting-playbook.md#")
            .unwrap_or_else(|| panic!("{name}: its runbook is elsewhere"));
        assert_eq!(section, name.to_lowercase());
        assert!(
            sections.contains(section),
            "{name}: the playbook has no section for it"
        );
        let dashboard = said("dashboard_url");
        assert!(
            dashboard.starts_with("http://localhost:3000/d/")
                || dashboard.starts_with("{{ $externalURL }}"),
            "{name}: {dashboard}"
        );
    }
    assert!(seen.contains("Watchdog"));
}

/// Seconds of `14m45s`.
fn seconds(time: &str) -> u32 {
    let mut total = 0;
    let mut number = 0;
    for c in time.chars() {
        match c.to_digit(10) {
            Some(digit) => number = number * 10 + digit,
            None => {
                total += number * BTreeMap::from([('s', 1), ('m', 60), ('h', 3600)])[&c];
                number = 0;
            }
        }
    }
    total
}

/// Each alert is seen silent one evaluation before it fires and one after it ends, and where there is no
/// series. Thresholds, counter resets and zero traffic are in the same tests, and the mutants show that
/// nothing is missing.
#[test]
fn every_alert_is_seen_coming_and_going() {
    let tests: Vec<Value> = std::fs::read_dir(project().join("prometheus/tests"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("alerts-"))
        .flat_map(|name| {
            let file: Value =
                serde_saphyr::from_str(&read(&format!("prometheus/tests/{name}"))).unwrap();
            file["tests"].as_array().unwrap().clone()
        })
        .collect();
    for rule in rules("prometheus/alerts.yml") {
        let name = rule.alert.unwrap();
        let (mut comes, mut goes, mut silent) = (false, false, false);
        for test in &tests {
            let checks: Vec<(u32, usize)> = test["alert_rule_test"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|check| check["alertname"] == name.as_str())
                .map(|check| {
                    (
                        seconds(check["eval_time"].as_str().unwrap()),
                        check["exp_alerts"].as_array().map_or(0, Vec::len),
                    )
                })
                .collect();
            let fewer = |(at, firing): &(u32, usize)| {
                checks
                    .iter()
                    .any(|(other, others)| other == at && others < firing)
            };
            for (at, firing) in &checks {
                comes |= *at >= STEP && fewer(&(at - STEP, *firing));
                goes |= fewer(&(at + STEP, *firing));
            }
            let unrelated = test["input_series"]
                .as_array()
                .is_some_and(|series| series.iter().all(|series| series["series"] == "unrelated"));
            silent |= unrelated && checks.iter().any(|(_, firing)| *firing == 0);
        }
        // One always fires, one is about series that are missing.
        let silent = silent || name == "ServiceMissing";
        assert!(
            (comes && goes && silent) || name == "Watchdog",
            "{name}: seen coming: {comes}, going: {goes}, silent without series: {silent}"
        );
    }
}

#[test]
fn recording_rules_are_named_level_metric_operations() {
    for rule in rules("prometheus/recording-rules.yml") {
        let name = rule.record.expect("only recordings");
        let parts: Vec<&str> = name.split(':').collect();
        assert!(
            parts.len() == 3 && parts.iter().all(|part| !part.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    if !everything_is_installed() {
        return;
    }
    let promtool = promtool();
    let check = |args: &[&str]| {
        let output = Command::new(&promtool)
            .args(args)
            .current_dir(project().join("prometheus"))
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "promtool {args:?}\n{text}");
    };
    check(&["check", "config", "prometheus.yml"]);
    check(&["check", "rules", "alerts.yml", "recording-rules.yml"]);
    let tests: Vec<_> = std::fs::read_dir(project().join("prometheus/tests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            // The tests of the objectives' rules are run beside those.
            path.file_name()
                .is_some_and(|name| !name.to_string_lossy().starts_with("slo-"))
        })
        .collect();
    assert!(tests.len() > 5);
    in_parallel(&tests, |file| {
        check(&["test", "rules", file.to_str().unwrap()]);
    });
}

/// Does `work` for each item on as many threads as there are CPUs.
fn in_parallel<'a, T: Sync>(items: &'a [T], work: impl Fn(&'a T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Every selector of an expression, as it is written.
fn selectors(expr: &str) -> BTreeSet<String> {
    struct Selectors(BTreeSet<String>);
    impl ExprVisitor for Selectors {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            let mut add = |selector: &VectorSelector| {
                // What was an hour ago, a lab does not know yet.
                let now = VectorSelector {
                    offset: None,
                    ..selector.clone()
                };
                self.0.insert(now.to_string());
            };
            match expr {
                Expr::VectorSelector(selector) => add(selector),
                Expr::MatrixSelector(matrix) => add(&matrix.vs),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut found = Selectors(BTreeSet::new());
    let expr = parser::parse(expr).unwrap_or_else(|error| panic!("{expr}: {error}"));
    let _ = walk_expr(&mut found, &expr);
    found.0
}

/// Every selector of every rule finds a series in a running lab, or is on the list of those that do
/// not; nothing fails to evaluate; and the guide lists the metrics that our programs show.
pub fn assert_rules_are_about_something(lab: &TestLab) {
    let prometheus = format!("http://127.0.0.1:{}", lab.port("prometheus", "http"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let get = |path: &str, query: &str| -> Value {
        runtime.block_on(async {
            let url = format!("{prometheus}/api/v1/{path}");
            let request = reqwest::Client::new().get(url).query(&[("query", query)]);
            request.send().await.unwrap().json().await.unwrap()
        })
    };
    let known: BTreeSet<String> = rules("prometheus/alerts.yml")
        .iter()
        .chain(&rules("prometheus/recording-rules.yml"))
        .flat_map(|rule| selectors(&rule.expr))
        .filter(|selector| {
            !NOT_IN_A_LAB
                .iter()
                .any(|(start, _)| selector.starts_with(start))
        })
        .collect();
    // Series that the first failure brings into being.
    provoke_failures(lab);
    for selector in known {
        eventually(&format!("a series for {selector}"), || {
            get("query", &selector)["data"]["result"]
                .as_array()
                .is_some_and(|series| !series.is_empty())
        });
    }
    assert_our_metrics_are_in_order(lab);
    let groups = get("rules", "");
    for rule in groups["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
}

/// One request that fails, for a failed span, and one line that Elasticsearch has to refuse.
fn provoke_failures(lab: &TestLab) {
    let fault = lab.run(&[
        "chaos",
        "start",
        "errors",
        "--probability",
        "1",
        "--for",
        "5s",
    ]);
    assert!(fault.status.success(), "{}", text(&fault));
    // Our template takes any value, so the indices have to demand something of a field that only this line has.
    let indices = format!(
        "http://127.0.0.1:{}/flask-logs-*/_mapping",
        lab.port("elasticsearch", "http")
    );
    let demand = serde_json::json!({ "properties": { "labels.refused": { "type": "ip", "ignore_malformed": false } } });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(reqwest::Client::new().put(indices).json(&demand).send());
    answer.unwrap().error_for_status().unwrap();
    let line = r#"{"@timestamp":"2026-01-01T00:00:00Z","labels.refused":"no address"}"#;
    let file = lab.data.path().join("logs/app/refused.log");
    std::fs::write(file, format!("{line}\n")).unwrap();
}

// --- docs/metrics-guide.md ----------------------------------------------------

const GUIDE: &str = "docs/metrics-guide.md";

/// The guide with one of its generated tables replaced.
fn with_table(guide: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let start = guide.find(&begin).unwrap() + begin.len();
    let stop = guide.find(&end).unwrap();
    format!("{}{table}{}", &guide[..start], &guide[stop..])
}

/// Compares a generated table of the guide with the committed one; `UPDATE_GUIDE=1` writes it.
fn assert_guide_has(name: &str, table: &str) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let guide = read(GUIDE);
    let wanted = with_table(&guide, name, table);
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        std::fs::write(project().join(GUIDE), wanted).unwrap();
    } else {
        assert!(
            guide == wanted,
            "{GUIDE} is not what code and rules say; UPDATE_GUIDE=1 cargo test -p lab writes it. \
             Table {name} has to be:\n{table}"
        );
    }
}

#[test]
fn the_guide_lists_every_recording_rule() {
    let mut table = String::from("| Series | Is |\n|---|---|\n");
    for rule in rules("prometheus/recording-rules.yml") {
        let expr = rule.expr.split_whitespace().collect::<Vec<_>>().join(" ");
        let expr = expr.replace('|', "\\|");
        writeln!(table, "| `{}` | `{expr}` |", rule.record.unwrap()).unwrap();
    }
    assert_guide_has("recordings", &table);
}

/// Name, type, labels and help of every metric of ours, as the programs themselves tell them, are those
/// of the guide, and promtool finds nothing to complain about.
fn assert_our_metrics_are_in_order(lab: &TestLab) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let programs = [
        ("flask-api-1", "admin"),
        ("payments", "admin"),
        ("custom-flask-exporter", "http"),
        ("loadgen", "metrics"),
    ];
    for (program, port) in programs {
        let url = format!("http://127.0.0.1:{}/metrics", lab.port(program, port));
        let read =
            || runtime.block_on(async { reqwest::get(&url).await.unwrap().text().await.unwrap() });
        // While the provoked failures last, the exporter cannot ask the API for all its figures.
        let mut page = String::new();
        eventually(&format!("every figure of {program}"), || {
            page = read();
            !page
                .lines()
                .any(|line| line.starts_with("shop_collector_success{") && line.ends_with(" 0"))
        });
        assert_guide_has(program, &table_of(&page));
        let mut lint = Command::new(promtool())
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = lint.stdin.take().unwrap();
        stdin.write_all(page.as_bytes()).unwrap();
        drop(stdin);
        let lint = lint.wait_with_output().unwrap();
        assert!(
            lint.status.success() && lint.stderr.is_empty(),
            "{program}: {}",
            text(&lint)
        );
    }
}

fn table_of(page: &str) -> String {
    let mut help = BTreeMap::new();
    let mut kind = BTreeMap::new();
    let mut labels = BTreeMap::<&str, BTreeSet<&str>>::new();
    for line in page.lines() {
        if let Some((name, text)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            help.insert(name, text);
        } else if let Some((name, text)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            kind.insert(name, text);
        } else if let Some((series, rest)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| {
                    series
                        .strip_suffix(suffix)
                        .filter(|name| kind.contains_key(name))
                })
                .unwrap_or(series);
            // A label's value may hold anything but an unescaped quote.
            let found = labels.entry(name).or_default();
            let mut quoted = false;
            let mut start = 0;
            for (at, c) in rest.char_indices() {
                match c {
                    '"' if !rest[..at].ends_with('\\') => {
                        quoted = !quoted;
                        start = at + 1;
                    }
                    '=' if !quoted => {
                        found.insert(rest[start..at].trim_start_matches(','));
                    }
                    '}' if !quoted => break,
                    _ => {}
                }
            }
            found.remove("le");
        }
    }
    let mut table = String::from("| Metric | Type | Labels | |\n|---|---|---|---|\n");
    for (name, kind) in &kind {
        let labels = labels.get(name).into_iter().flatten();
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let help = help.get(name).copied().unwrap_or_default();
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .unwrap();
    }
    table
}

// --- mutants -----------------------------------------------------------------

/// One change of one rule: what it is, and the changed file.
struct Mutant {
    rule: String,
    change: String,
    expr: String,
    hold: Option<u32>,
}

/// Seconds between two evaluations in the tests: the smallest change of a `for` that they can see.
const STEP: u32 = 15;

/// Mutants that say the same as their original: rule (or its end), change, why.
const EQUIVALENT: &[(&str, &str, &str)] = &[
    ("_rate1m", ">= -> >", "a quantile is above 0 or NaN"),
    ("_rate1m", "0 -> -1", "a quantile is above 0 or NaN"),
    (
        "_calls_errors:ratio_rate1m",
        "* -> /",
        "0 either way, where there is a rate",
    ),
    (
        "HighErrorRate",
        "> -> >=",
        "no rate of whole requests is the binary 0.05",
    ),
    (
        "DependencySlow",
        "> -> >=",
        "nor is a quantile exactly its bound",
    ),
    ("DatabasePoolSaturated", "> -> >=", "the same"),
    ("NodeNetworkErrors", "> -> >=", "the same"),
    (
        "CertificateExpiresSoon",
        "< -> <=",
        "true for a second of the ten minutes",
    ),
    ("NodeDiskFillingUp", "< -> <=", "a byte more or less"),
    ("NodeDiskFillingUp", "0 -> 2", "a byte more or less"),
    ("NodeDiskFillingUp", "0 -> -1", "a byte more or less"),
    (
        "ContainerMemoryNearLimit",
        "0 -> 2",
        "no limit is below a page",
    ),
    (":limit_ratio", "0 -> 2", "no limit is below a page"),
];

fn equivalent(mutant: &Mutant) -> bool {
    EQUIVALENT
        .iter()
        .any(|(rule, change, _)| mutant.rule.ends_with(rule) && mutant.change == *change)
}

/// Each comparison, number, arithmetic or set operator, matcher and range of an expression, changed.
fn changes(expr: &str) -> Vec<(String, String)> {
    let mut mutants = Vec::new();
    let bytes = expr.as_bytes();
    let mut change = |at: usize, len: usize, to: &str| {
        let mut text = expr.to_owned();
        text.replace_range(at..at + len, to);
        mutants.push((format!("{} -> {to}", &expr[at..at + len]), text));
    };
    let (mut at, mut in_braces) = (0, false);
    while at < bytes.len() {
        let rest = &expr[at..];
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_:.".contains(c)))
            .unwrap_or(rest.len());
        let mut len = 1;
        match bytes[at] {
            b'"' => len = 2 + rest[1..].find('"').unwrap(),
            b'{' => in_braces = true,
            b'}' => in_braces = false,
            b'=' | b'!' | b'<' | b'>' => {
                len = if rest[1..].starts_with(['=', '~']) {
                    2
                } else {
                    1
                };
                let to: &[&str] = match (&rest[..len], in_braces) {
                    ("=", _) => &["!="],
                    ("!=", true) => &["="],
                    ("=~", _) => &["!~"],
                    ("!~", _) => &["=~"],
                    ("==", _) => &["!="],
                    (">", _) => &["<", ">="],
                    (">=", _) => &["<", ">"],
                    ("<", _) => &[">", "<="],
                    ("<=", _) => &[">", "<"],
                    (other, _) => panic!("{other} in {expr}"),
                };
                for to in to {
                    change(at, len, to);
                }
            }
            b'+' => change(at, 1, "-"),
            b'-' => change(at, 1, "+"),
            b'*' => change(at, 1, "/"),
            b'/' => change(at, 1, "*"),
            b'0'..=b'9' => {
                len = word;
                let text = &rest[..len];
                if let Some(minutes) = text.strip_suffix('m') {
                    let seconds = 60 * minutes.parse::<u32>().unwrap();
                    change(at, len, &format!("{}s", seconds * 2));
                    change(at, len, &format!("{}s", seconds / 2));
                } else if let Some(hours) = text.strip_suffix('h') {
                    let minutes = 60 * hours.parse::<u32>().unwrap();
                    change(at, len, &format!("{}m", minutes * 2));
                    change(at, len, &format!("{}m", minutes / 2));
                } else {
                    let number: f64 = text.parse().unwrap();
                    if number == 0.0 {
                        change(at, len, "2");
                        change(at, len, "-1");
                    } else if number <= 10.0 && number.fract() == 0.0 {
                        change(at, len, &(number + 1.0).to_string());
                        change(at, len, &(number - 1.0).to_string());
                    } else {
                        change(at, len, &(number * 1.2).to_string());
                        change(at, len, &(number * 0.8).to_string());
                    }
                }
            }
            letter if letter.is_ascii_alphabetic() || letter == b'_' => {
                len = word;
                match &rest[..len] {
                    "and" => change(at, len, "unless"),
                    "unless" | "or" => change(at, len, "and"),
                    // A restart in the window tells the two apart.
                    "increase" => change(at, len, "delta"),
                    "by" | "on" => {
                        // Their labels are words and nothing to change.
                        len += rest[len..].find(')').unwrap();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        at += len;
    }
    mutants
}

/// Every mutant of a rule; its `for` is a step shorter and a step longer.
fn mutants(rule: &Rule) -> Vec<Mutant> {
    let name = rule.alert.as_ref().or(rule.record.as_ref()).unwrap();
    let mutant = |change, expr, hold| Mutant {
        rule: name.clone(),
        change,
        expr,
        hold,
    };
    let mut mutants: Vec<Mutant> = changes(&rule.expr)
        .into_iter()
        .map(|(change, expr)| mutant(change, expr, None))
        .collect();
    if let Some(hold) = &rule.hold {
        let (number, unit) = hold.split_at(hold.len() - 1);
        let seconds = number.parse::<u32>().unwrap()
            * BTreeMap::from([("s", 1), ("m", 60), ("h", 3600)])[unit];
        for other in [seconds - STEP, seconds + STEP] {
            let change = format!("for: {hold} -> {other}s");
            mutants.push(mutant(change, rule.expr.clone(), Some(other)));
        }
    }
    mutants
}

/// The rules as promtool should see them: of the alerts only the one in question, of the recordings
/// all, because they build on each other.
fn mutated(rules: &Value, mutant: &Mutant) -> Value {
    let mut rules = rules.clone();
    for group in rules["groups"].as_array_mut().unwrap() {
        group["rules"]
            .as_array_mut()
            .unwrap()
            .retain(|rule| rule["alert"].is_null() || rule["alert"] == mutant.rule.as_str());
        for rule in group["rules"].as_array_mut().unwrap() {
            if rule["alert"] == mutant.rule.as_str() || rule["record"] == mutant.rule.as_str() {
                rule["expr"] = mutant.expr.as_str().into();
                if let Some(hold) = mutant.hold {
                    rule["for"] = format!("{hold}s").into();
                }
            }
        }
    }
    rules
}

/// The tests that say something about a rule, and only what they say about it.
fn tests_of(tests: &[Value], rule: &str) -> Value {
    let mut chosen = Vec::new();
    for test in tests {
        let mut test = test.clone();
        let mut says_something = false;
        for (kind, key) in [
            ("alert_rule_test", "alertname"),
            ("promql_expr_test", "expr"),
        ] {
            if let Some(checks) = test[kind].as_array_mut() {
                checks.retain(|check| check[key] == rule);
                says_something |= !checks.is_empty();
            }
        }
        test.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        if says_something {
            chosen.push(test);
        }
    }
    serde_json::json!({ "rule_files": ["rules.json"], "evaluation_interval": "15s", "tests": chosen })
}

/// Whether promtool's verdict on these rules is good.
fn passes(promtool: &Path, rules: &Value, tests: &Value) -> bool {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.json"), rules.to_string()).unwrap();
    std::fs::write(dir.path().join("tests.json"), tests.to_string()).unwrap();
    Command::new(promtool)
        .args(["test", "rules", "tests.json"])
        .current_dir(dir.path())
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
#[ignore = "minutes long: `just mutate`"]
fn every_mutant_is_killed() {
    if !everything_is_installed() {
        return;
    }
    let promtool = promtool();
    let yaml = |file: &str| -> Value { serde_saphyr::from_str(&read(file)).unwrap() };
    let tests: Vec<Value> = std::fs::read_dir(project().join("prometheus/tests"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("slo-"))
        .flat_map(|name| {
            let file = yaml(&format!("prometheus/tests/{name}"));
            file["tests"].as_array().unwrap().clone()
        })
        .collect();
    let work: Vec<(Value, Mutant)> = ["alerts", "recording-rules"]
        .into_iter()
        .flat_map(|file| {
            let file = format!("prometheus/{file}.yml");
            let all = yaml(&file);
            let mutants = rules(&file).iter().flat_map(mutants).collect::<Vec<_>>();
            mutants
                .into_iter()
                .filter(|mutant| !equivalent(mutant))
                .map(move |mutant| (all.clone(), mutant))
        })
        .collect();
    // Unchanged, each must pass: a mutant that fails with its original is not killed.
    let originals: BTreeMap<&str, &(Value, Mutant)> = work
        .iter()
        .map(|pair| (pair.1.rule.as_str(), pair))
        .collect();
    for rule in ["alerts", "recording-rules"]
        .into_iter()
        .flat_map(|file| rules(&format!("prometheus/{file}.yml")))
    {
        let name = rule.alert.or(rule.record).unwrap();
        if let Some((all, _)) = originals.get(name.as_str()) {
            let unchanged = Mutant {
                rule: name.clone(),
                change: String::new(),
                expr: rule.expr,
                hold: None,
            };
            let good = passes(
                &promtool,
                &mutated(all, &unchanged),
                &tests_of(&tests, &name),
            );
            assert!(good, "{name} fails unchanged");
        }
    }
    let survivors = std::sync::Mutex::new(Vec::new());
    in_parallel(&work, |(all, mutant)| {
        if passes(
            &promtool,
            &mutated(all, mutant),
            &tests_of(&tests, &mutant.rule),
        ) {
            survivors.lock().unwrap().push(mutant);
        }
    });
    let survivors = survivors.into_inner().unwrap();
    let mut table = BTreeMap::<&str, (usize, usize)>::new();
    for (_, mutant) in &work {
        table.entry(&mutant.rule).or_default().0 += 1;
    }
    for mutant in &survivors {
        table.entry(&mutant.rule).or_default().1 += 1;
    }
    let mut text = String::from("mutants  killed  rule\n");
    for (rule, (all, survived)) in table {
        writeln!(text, "{all:7}  {:6}  {rule}", all - survived).unwrap();
    }
    writeln!(
        text,
        "{:7}  {:6}  in all",
        work.len(),
        work.len() - survivors.len()
    )
    .unwrap();
    println!("{text}");
    println!("Not run, because they say the same as their original:");
    for (rule, change, why) in EQUIVALENT {
        println!("  {rule}: {change}: {why}");
    }
    let mut list = String::new();
    for mutant in &survivors {
        writeln!(
            list,
            "{}: {}\n    {}",
            mutant.rule, mutant.change, mutant.expr
        )
        .unwrap();
    }
    assert!(survivors.is_empty(), "these live on:\n{list}");
}
