//! Judging, adding up and comparing results.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadgen::summary::Summary;
use serde_json::Value;

use crate::program::{output, summary};
use crate::target::{Answer, Target};

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .env_clear()
        .args(args)
        .output()
        .expect("the program runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs against `target` and returns the file with the result.
fn measured(folder: &Path, name: &str, target: &Target, more: &[&str]) -> PathBuf {
    let file = folder.join(name);
    let args = [&[target.url.as_str(), "--json", text(&file)], more].concat();
    let output = output(&args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    file
}

fn read(file: &Path) -> Summary {
    summary(&std::fs::read(file).expect("the result"))
}

#[test]
fn a_threshold_decides_how_it_ends() {
    let target = Target::start(|n, _| Answer::status(if n % 10 == 0 { 500 } else { 200 }));
    for (thresholds, code) in [
        (&["error_rate < 11%", "p50 < 1h", "dropped <= 0"][..], 2),
        (&["error_rate < 11%", "p50 < 3600s", "dropped <= 0"][..], 0),
        (&["error_rate < 9%"][..], 1),
        (&["error_rate < 11%", "p50 < 0us"][..], 1),
        (&["error_rate{GET /} <= 10%", "p99{GET /} > 0us"][..], 0),
        // What was not measured is not good.
        (&["p99{GET /nothing} < 3600s"][..], 1),
    ] {
        let mut args = vec![
            target.url.as_str(),
            "--rate",
            "100",
            "--for",
            "100ms",
            "--json",
            "-",
        ];
        args.extend(
            thresholds
                .iter()
                .flat_map(|threshold| ["--threshold", threshold]),
        );
        let output = output(&args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{thresholds:?}: {output:?}"
        );
        let said = String::from_utf8_lossy(&output.stderr);
        if code == 2 {
            assert!(said.contains("us, ms or s"), "{said}");
            continue;
        }
        let json = summary(&output.stdout);
        assert_eq!(json.thresholds.len(), thresholds.len());
        assert_eq!(json.is_good(), code == 0, "{json:?}");
        assert_eq!(said.contains("FAILED"), code == 1, "{said}");
    }
}

#[test]
fn results_of_shards_add_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::start(|n, _| Answer::status([200, 200, 404, 500][n % 4]));
    let files: Vec<_> = ["0/3", "1/3", "2/3"]
        .iter()
        .enumerate()
        .map(|(n, shard)| {
            let plan = ["--rate", "300", "--for", "500ms", "--shard", shard];
            measured(folder.path(), &format!("{n}.json"), &target, &plan)
        })
        .collect();
    let all = folder.path().join("all.json");
    let mut args = vec![
        "merge",
        "--json",
        text(&all),
        "--threshold",
        "error_rate <= 25.5%",
    ];
    args.extend(files.iter().map(|file| text(file)));
    let output = loadgen(&args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let sum = read(&all);
    assert_eq!((sum.planned, sum.sent, sum.wanted_rate), (150, 150, 300.0));
    assert_eq!(target.seen().len(), 150);
    let parts: Vec<_> = files.iter().map(|file| read(file)).collect();
    let total = |of: fn(&Summary) -> u64| parts.iter().map(of).sum::<u64>();
    assert_eq!(sum.received, total(|part| part.received));
    assert_eq!(
        sum.histograms.latency.count(),
        total(|part| part.histograms.latency.count())
    );
    let slowest = parts.iter().filter_map(|part| part.latency_ms.max);
    let slowest = slowest.max_by(f64::total_cmp);
    assert_eq!(sum.latency_ms.max, slowest);
    assert!(String::from_utf8_lossy(&output.stdout).contains("error_rate <= 25.5%"));

    let page = folder.path().join("all.html");
    let args = [
        "merge",
        text(&all),
        "--html",
        text(&page),
        "--threshold",
        "error_rate < 1%",
    ];
    assert_eq!(loadgen(&args).status.code(), Some(1));
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(
        page.contains("<svg") && page.contains("error_rate &lt; 1%"),
        "{page}"
    );
}

#[test]
fn a_comparison_says_which_is_worse() {
    let folder = tempfile::tempdir().expect("a folder");
    let well = Target::start(|_, _| Answer::status(200));
    let ill = Target::start(|n, _| Answer::status(if n % 3 == 0 { 503 } else { 200 }));
    let plan = ["--rate", "200", "--for", "2s"];
    let a = measured(folder.path(), "a.json", &well, &plan);
    let b = measured(folder.path(), "b.json", &ill, &plan);
    // However much slower this machine was meanwhile, it did not matter.
    let compare = |a: &Path, b: &Path| {
        loadgen(&[
            "compare",
            text(a),
            text(b),
            "--percentile",
            "p50",
            "--margin",
            "1000%",
            "--json",
            "-",
        ])
    };
    let worse = compare(&a, &b);
    assert_eq!(worse.status.code(), Some(1), "{worse:?}");
    let json: Value = serde_json::from_slice(&worse.stdout).expect("JSON");
    assert_eq!(json["worse"], true);
    assert_eq!(json["error_rate"]["verdict"], "worse");
    assert!(String::from_utf8_lossy(&worse.stderr).contains("failing more"));
    let better = compare(&b, &a);
    assert_eq!(better.status.code(), Some(0), "{better:?}");
    assert!(String::from_utf8_lossy(&better.stderr).contains("failing less"));
    let same = compare(&a, &a);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

#[test]
fn what_is_no_result_is_said_to_be_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::start(|_, _| Answer::status(200));
    let good = measured(
        folder.path(),
        "good.json",
        &target,
        &["--rate", "100", "--for", "200ms"],
    );
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("it is writable");
        path
    };
    let content = std::fs::read_to_string(&good).expect("the result");
    let broken = file("broken.json", &content.replace("HISTFAAA", "AISTFAAA"));
    let odd = file(
        "odd.json",
        &content.replace("\"interval_ms\": 100", "\"interval_ms\": 70"),
    );
    let none = file("none.json", "{}");
    let gone = folder.path().join("gone.json");
    for (args, said) in [
        (vec!["merge"], "FILE"),
        (
            vec!["merge", text(&good), text(&gone)],
            "gone.json: No such file",
        ),
        (vec!["merge", text(&none)], "no result of this version"),
        (
            vec!["merge", text(&broken)],
            "not an HdrHistogram in base64",
        ),
        (vec!["merge", text(&odd)], "timeline is none"),
        (
            vec!["merge", text(&good), "--threshold", "fast"],
            "thresholds look like",
        ),
        (vec!["compare", text(&good)], "<B>"),
        (
            vec!["compare", text(&good), text(&good)],
            "good.json has 2 intervals",
        ),
        (
            vec!["compare", text(&good), text(&good), "--percentile", "99"],
            "such as p50",
        ),
        (
            vec!["compare", text(&good), text(&good), "--confidence", "95"],
            "0.5 to 0.999",
        ),
        (
            vec!["compare", text(&good), text(&good), "--margin", "5"],
            "such as 5%",
        ),
    ] {
        let output = loadgen(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
}
