//! `docs/alerting-playbook.md`: complete, and true: every query evaluates, every command exists and does what it is there for.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
};

use promql_parser::{
    parser::{self, Expr, VectorSelector, token},
    util::{ExprVisitor, walk_expr},
};
use serde_json::Value;
use stack::table::COMPONENTS;

use crate::{
    rules::NOT_IN_A_LAB,
    running::{TestLab, eventually, lab, program, project, promtool, text},
};

/// Recordings of what is not in a lab.
const RECORDED_FROM: &str = "container:container_cpu_cfs_throttled_periods";

/// What a section has, in this order.
const PARTS: [&str; 6] = [
    "Means", "Impact", "Look at", "Mitigate", "Provoke", "Escalate",
];

/// Programs; what begins otherwise is a query.
const PROGRAMS: [&str; 10] = [
    "lab", "curl", "amtool", "promtool", "kubectl", "ps", "df", "cat", "dmesg", "date",
];

fn playbook() -> String {
    std::fs::read_to_string(project().join("docs/alerting-playbook.md")).unwrap()
}

/// Sections by their title.
fn sections(page: &str) -> BTreeMap<&str, &str> {
    let sections = page.split("\n## ").skip(1);
    sections
        .map(|section| section.split_once('\n').unwrap())
        .collect()
}

/// `lab drill --list`, by alert.
fn drills() -> BTreeMap<String, Value> {
    let output = lab(&["drill", "--list", "--json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = list["drills"].as_array().unwrap().iter();
    rows.map(|row| (row["alert"].as_str().unwrap().to_owned(), row.clone()))
        .collect()
}

/// The three things to look at: code spans at the ends of numbered lines.
fn looks(section: &str) -> Vec<&str> {
    // General sections have none.
    let after = section.split("**Look at:**").nth(1).unwrap_or_default();
    let part = after.split("**Mitigate:**").next().unwrap_or_default();
    let numbered = |line: &&str| ["1. ", "2. ", "3. "].iter().any(|n| line.starts_with(n));
    part.lines()
        .filter(numbered)
        .map(|line| {
            let (_, code) = line
                .strip_suffix('`')
                .and_then(|it| it.split_once(": `"))
                .unwrap_or_else(|| panic!("no code at the end of {line}"));
            code
        })
        .collect()
}

fn is_command(code: &str) -> bool {
    PROGRAMS.contains(&code.split_whitespace().next().unwrap())
}

#[test]
fn every_alert_has_a_complete_section() {
    let page = playbook();
    let sections = sections(&page);
    for (alert, row) in drills() {
        let section = sections
            .get(alert.as_str())
            .unwrap_or_else(|| panic!("no section {alert}"));
        let mut rest = *section;
        for part in PARTS {
            let (_, after) = rest
                .split_once(&format!("**{part}:**"))
                .unwrap_or_else(|| panic!("{alert}: no {part}, or not there"));
            assert!(
                !after.trim_start().starts_with("**"),
                "{alert}: nothing in {part}"
            );
            rest = after;
        }
        assert_eq!(looks(section).len(), 3, "{alert}");
        let provoke = section.split("**Provoke:**").nth(1).unwrap();
        let provoke = provoke.split("**Escalate:**").next().unwrap();
        let provoke = provoke.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = match (row["reason"].as_str(), row["what"].as_str()) {
            (Some(reason), _) => format!("not here: {reason}."),
            (None, what) => format!("`lab drill {alert}`: {}.", what.unwrap()),
        };
        assert_eq!(
            provoke, expected,
            "{alert}: not what `lab drill --list` says"
        );
    }
}

#[test]
fn every_link_leads_somewhere() {
    let page = playbook();
    let anchors: Vec<String> = sections(&page)
        .into_keys()
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    for link in page.split("](").skip(1) {
        let link = link.split(')').next().unwrap();
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|it| it == anchor), "{link}"),
            None => assert!(project().join("docs").join(link).is_file(), "{link}"),
        }
    }
}

#[test]
fn every_command_of_lab_and_kubectl_exists() {
    let page = playbook();
    let mut asked = 0;
    let kubectl = program("kubectl");
    for code in sections(&page).into_values().flat_map(looks) {
        let mut words = code.split_whitespace();
        let mut command = match (words.next(), &kubectl) {
            (Some("lab"), _) => lab(&words.collect::<Vec<_>>()),
            (Some("kubectl"), Some(program)) => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
            _ => continue,
        };
        // An unknown command or option is refused before help is given.
        let output = command.arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{code}: {}", text(&output));
        asked += 1;
    }
    assert!(asked > 20);
}

/// Whether a query compares, and so may rightly find nothing.
fn compares(expr: &Expr) -> bool {
    struct Compares(bool);
    impl ExprVisitor for Compares {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            if let Expr::Binary(binary) = expr {
                self.0 |= binary.op.is_comparison_operator() || binary.op.id() == token::T_LUNLESS;
            }
            Ok(true)
        }
    }
    let mut found = Compares(false);
    let Ok(_) = walk_expr(&mut found, expr);
    found.0
}

fn metrics(expr: &Expr) -> Vec<String> {
    struct Names(Vec<String>);
    impl Names {
        fn add(&mut self, selector: &VectorSelector) {
            self.0.extend(selector.name.clone());
        }
    }
    impl ExprVisitor for Names {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            match expr {
                Expr::VectorSelector(selector) => self.add(selector),
                Expr::MatrixSelector(selector) => self.add(&selector.vs),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut found = Names(Vec::new());
    let Ok(_) = walk_expr(&mut found, expr);
    found.0
}

/// The commands and queries of every section do what they are there for, in a lab that runs everything.
pub fn assert_playbook_holds(lab: &TestLab) {
    let page = playbook();
    for (alert, section) in sections(&page) {
        for code in looks(section) {
            if is_command(code) {
                if let Some(output) = run(lab, code) {
                    assert!(
                        output.status.success(),
                        "{alert}: {code}: {}",
                        text(&output)
                    );
                }
                continue;
            }
            let expr =
                parser::parse(code).unwrap_or_else(|error| panic!("{alert}: {code}: {error}"));
            let elsewhere = metrics(&expr).iter().any(|metric| {
                metric.starts_with(RECORDED_FROM)
                    || NOT_IN_A_LAB
                        .iter()
                        .any(|(start, _)| metric.starts_with(start))
            });
            let may_be_empty = elsewhere || compares(&expr);
            eventually(&format!("{alert}: data for {code}"), || {
                let answer = query(lab, code);
                assert_eq!(answer["status"], "success", "{alert}: {code}: {answer:#}");
                let series = answer["data"]["result"].as_array().unwrap();
                may_be_empty || !series.is_empty()
            });
        }
    }
    assert_silencing_works(lab, &page);
}

pub fn query(lab: &TestLab, query: &str) -> Value {
    let url = format!(
        "http://127.0.0.1:{}/api/v1/query",
        lab.port("prometheus", "http")
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let request = reqwest::Client::new().get(url).query(&[("query", query)]);
        request.send().await.unwrap().json().await.unwrap()
    })
}

/// A command with the ports of this lab; `None` where it needs what is not here.
fn run(lab: &TestLab, code: &str) -> Option<Output> {
    let mut words = code.split_whitespace();
    match words.next().unwrap() {
        "lab" => return Some(lab.run(&words.collect::<Vec<_>>())),
        // A cluster; a log that not every kernel shows to everybody.
        "kubectl" | "dmesg" => return None,
        _ => {}
    }
    let mut code = code.to_owned();
    for port in COMPONENTS.iter().flat_map(|component| component.ports) {
        for host in ["localhost", "127.0.0.1"] {
            for end in ["/", " ", "'"] {
                let usual = format!("{host}:{}{end}", port.default);
                // Marked, or a moved port could be moved again.
                code = code.replace(
                    &usual,
                    &format!("{host}:~{}{end}", port.default + lab.offset),
                );
            }
            let usual = format!("{host}:{}", port.default);
            if code.ends_with(&usual) {
                code.truncate(code.len() - usual.len());
                code += &format!("{host}:~{}", port.default + lab.offset);
            }
        }
    }
    let mut path: Vec<PathBuf> = vec![promtool().parent().unwrap().into()];
    let amtool = program("alertmanager-0.25");
    match amtool {
        Some(program) => path.push(program.parent().unwrap().into()),
        None if code.starts_with("amtool") => return None,
        None => {}
    }
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let output = Command::new("sh")
        .arg("-c")
        .arg(
            code.replace('~', "")
                .replacen("curl ", "curl --fail --max-time 20 ", 1),
        )
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("USER", "somebody")
        .env("NO_PROXY", "*")
        .current_dir(project())
        .output()
        .unwrap();
    Some(output)
}

/// The commands for silences, in the order in which the page has them: made, seen, ended.
fn assert_silencing_works(lab: &TestLab, page: &str) {
    let amtool: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("amtool "))
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(amtool.len(), 5, "{amtool:?}");
    let mut made = Vec::new();
    for line in amtool {
        let line = match made.last() {
            Some(id) => line.replace(" ID ", &format!(" {id} ")),
            None => line.to_owned(),
        };
        let Some(output) = run(lab, &line) else {
            return;
        };
        assert!(output.status.success(), "{line}: {}", text(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        if line.contains(" silence add ") {
            made.push(said.trim().to_owned());
        } else if line.contains(" silence query ") {
            assert!(made.iter().all(|id| said.contains(id)), "{said}");
        }
    }
    let [first, second] = &made[..] else {
        panic!("two silences are made: {made:?}");
    };
    let left = run(
        lab,
        "amtool silence query -q --alertmanager.url=http://localhost:9093",
    )
    .unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    assert!(left.contains(first) && !left.contains(second), "{left}");
}
