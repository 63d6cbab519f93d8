//! What is wrong is said before a single request is sent, with what to do about it.

use std::net::TcpListener;

use clap::Parser as _;
use loadgen::cli::{Args, Command};
use serde_json::Value;

use crate::program::{command, output, summary};
use crate::target::{Answer, Target};

#[test]
fn wrong_usage_ends_with_2_and_advice_and_sends_nothing() {
    let target = Target::start(|_, _| Answer::status(200));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    let url = target.url.as_str();
    let with_query = format!("{url}/?x=1");
    let cases: [(&[&str], &str); 20] = [
        (&[url], "--rate"),
        (&["--rate", "1"], "URL"),
        (&[url, "--rate", "0"], "between 0.000001 and 1000000"),
        (&[url, "--rate", "-1"], "between 0.000001 and 1000000"),
        (&[url, "--rate", "inf"], "between 0.000001 and 1000000"),
        (&[url, "--rate", "many"], "for example 50"),
        (&[url, "--rate", "1", "--pace", "2"], "cannot be used with"),
        (&[url, "--pace", "ramp:1..2"], "for example 10..200/1m"),
        (
            &[url, "--rate", "1", "--shard", "2/2"],
            "the last of 2 is 1/2",
        ),
        (
            &[url, "--pace", "poisson:1", "--shard", "0/2"],
            "needs --seed",
        ),
        (
            &[url, "--rate", "1", "--for", "30"],
            "for example 500ms, 30s",
        ),
        (
            &[url, "--rate", "1", "--timeout", "0s"],
            "more than nothing",
        ),
        (&[url, "--rate", "1", "--max-in-flight", "0"], "1..=1000000"),
        (
            &[url, "--rate", "1", "--trace-ratio", "2"],
            "from 0 (no request) to 1",
        ),
        (
            &[url, "--rate", "1", "--scenario", "space"],
            "one of shop, browse, order, cancel",
        ),
        (
            &[&with_query, "--rate", "1", "--scenario", "shop"],
            "leave it out",
        ),
        (
            &["ftp://127.0.0.1", "--rate", "1"],
            "neither http nor https",
        ),
        (
            &[url, "--rate", "1", "--json", "no/such/folder/result.json"],
            "a folder that exists",
        ),
        (
            &[url, "--rate", "1", "--html", "no/such/folder/result.html"],
            "give --html a file",
        ),
        (
            &[url, "--rate", "1", "--metrics-listen", &taken],
            "port 0 takes a free one",
        ),
    ];
    for (args, advice) in cases {
        let output = output(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(advice), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn every_flag_is_also_an_environment_variable() {
    let target = Target::start(|_, _| Answer::status(200));
    let output = command(&[])
        .env("LOADGEN_URLS", format!("{0}/a {0}/b", target.url))
        .envs([
            ("LOADGEN_RATE", "100"),
            ("LOADGEN_FOR", "100ms"),
            ("LOADGEN_JSON", "-"),
            ("LOADGEN_TIMEOUT", "5s"),
            ("LOADGEN_MAX_IN_FLIGHT", "70"),
            ("LOADGEN_SCENARIO", "browse"),
            ("LOADGEN_CONNECT_TIMEOUT", "5s"),
            ("LOADGEN_HTTP", "1.1"),
            ("LOADGEN_CONNECTIONS", "3"),
            ("LOADGEN_HEADERS", "idempotency-key: one\ntraceparent: two"),
            (
                "LOADGEN_RESOLVE",
                "shop.example:80:127.0.0.1 shop.example:81:127.0.0.1",
            ),
            ("LOADGEN_DNS", "connection"),
            ("LOADGEN_SEED", "1"),
            ("LOADGEN_SHARD", "0/1"),
            ("LOADGEN_TRACE_RATIO", "0"),
            ("LOADGEN_METRICS_LISTEN", "127.0.0.1:0"),
            ("LOADGEN_THRESHOLDS", "p99 < 3600s,dropped <= 0"),
            ("LOADGEN_HTML", "/dev/null"),
            ("LOADGEN_LOG", "error"),
        ])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(summary(&output.stdout).sent, 20);
    assert!(String::from_utf8_lossy(&output.stderr).contains("metrics on http://"));
    let seen = target.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.traceparent.as_deref() == Some("two")
                && seen.idempotency_key.as_deref() == Some("one")
                && seen.path.contains("/api/")),
        "{seen:?}"
    );
}

#[test]
fn the_job_for_kubernetes_shards_one_plan_among_all_its_pods() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s/loadgen-job.yaml");
    let job = std::fs::read_to_string(file).expect("the job");
    let job: Value = serde_saphyr::from_str(&job).expect("YAML");
    let spec = &job["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!(spec["completions"], spec["parallelism"]);
    let pods = spec["completions"].as_u64().expect("a number");
    let container = &spec["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().expect("arguments");
    let args: Vec<_> = args.iter().map(|arg| arg.as_str().expect("text")).collect();
    let (ours, args) = args.split_at(2);
    assert_eq!(ours, ["component", "loadgen"]);
    for pod in 0..pods {
        let of_pod = |arg: &&str| arg.replace("$(JOB_COMPLETION_INDEX)", &pod.to_string());
        let args = ["loadgen".to_owned()]
            .into_iter()
            .chain(args.iter().map(of_pod));
        let Command::Run(args) = Args::try_parse_from(args).expect("good arguments").command else {
            panic!("it does not run");
        };
        assert_eq!(args.shard.to_string(), format!("{pod}/{pods}"));
        assert!(
            args.seed.is_some(),
            "a plan that is random is shared only with its seed"
        );
    }
}
