//! The `OTEL_*` variables in a real process; how each is read in detail is tested beside the code.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::collector::{Answer, Collector};
use crate::program::Program;

#[test]
fn the_name_from_the_environment_wins_in_logs_and_traces() {
    for (variables, name, instance) in [
        (vec![("OTEL_SERVICE_NAME", "other")], "other", None),
        (
            vec![(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=other,service.instance.id=pod-1",
            )],
            "other",
            Some("pod-1"),
        ),
        (
            vec![
                ("OTEL_SERVICE_NAME", "a"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b,team=x%20y"),
            ],
            "a",
            None,
        ),
        (vec![], "shop", None),
    ] {
        let collector = Collector::start(Answer::Accept);
        let mut program =
            Program::new("say x; spans 1; shutdown 5000").export_to(&collector.endpoint());
        for (variable, value) in &variables {
            program = program.env(variable, value);
        }
        let line = program.run().log()[0].clone();
        let resource = collector.requests()[0].resource.clone();
        assert_eq!(line["service.name"], name, "{variables:?}");
        assert_eq!(line["event.dataset"], format!("{name}.app"));
        for field in ["service.name", "service.version", "service.instance.id"] {
            assert_eq!(
                line[field].as_str(),
                resource.get(field).map(String::as_str),
                "{field}"
            );
        }
        if let Some(instance) = instance {
            assert_eq!(line["service.instance.id"], instance);
        }
        assert_eq!(resource["telemetry.sdk.language"], "rust");
        assert!(resource["process.pid"].parse::<u32>().is_ok());
        let team = variables
            .iter()
            .any(|(_, value)| value.contains("team"))
            .then_some("x y");
        assert_eq!(resource.get("team").map(String::as_str), team);
    }
}

#[test]
fn disabled_means_no_traces_at_all() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new("lines; spans 5; propagate 01; metrics; shutdown 5000")
        .export_to(&collector.endpoint())
        .env("OTEL_SDK_DISABLED", "true")
        .run();
    assert!(
        outcome
            .log()
            .iter()
            .all(|line| line.get("trace.id").is_none())
    );
    assert_eq!(outcome.spans(), [0; 5]);
    assert_eq!(outcome.report(), (true, 0));
    assert!(collector.requests().is_empty());
}

#[test]
fn no_exporter_leaves_the_ids() {
    let outcome = Program::new("lines; spans 5; propagate 01; metrics; shutdown 5000").run();
    assert!(
        outcome
            .log()
            .iter()
            .any(|line| line["trace.id"].is_string())
    );
    assert!(outcome.told("outgoing")["traceparent"].is_string());
    assert_eq!(outcome.spans(), [0; 5]);
    assert_eq!(outcome.report(), (true, 0));
}

#[test]
fn samplers_decide_and_parents_overrule() {
    // What becomes of 20 roots, of a span with a sampled parent, of one with an unsampled parent.
    for (variables, roots, sampled_parent, unsampled_parent) in [
        (vec![], 20, true, false),
        (vec![("OTEL_TRACES_SAMPLER", "always_on")], 20, true, true),
        (vec![("OTEL_TRACES_SAMPLER", "always_off")], 0, false, false),
        (
            vec![("OTEL_TRACES_SAMPLER", "parentbased_always_off")],
            0,
            true,
            false,
        ),
        (
            vec![
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ],
            0,
            false,
            false,
        ),
        (
            vec![
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ],
            0,
            true,
            false,
        ),
        (vec![("OTEL_TRACES_SAMPLER_ARG", "0")], 0, true, false),
        (vec![("OTEL_TRACES_SAMPLER_ARG", "1.0")], 20, true, false),
    ] {
        for (flags, expected) in [("01", sampled_parent), ("00", unsampled_parent)] {
            let collector = Collector::start(Answer::Accept);
            let script = format!("spans 20; propagate {flags}; metrics; shutdown 5000");
            let mut program = Program::new(&script).export_to(&collector.endpoint());
            for (variable, value) in &variables {
                program = program.env(variable, value);
            }
            let outcome = program.run();
            assert_eq!(outcome.told("sampled"), expected, "{variables:?} {flags}");
            let spans = collector.spans();
            let (server, work): (Vec<_>, Vec<_>) =
                spans.iter().partition(|(name, ..)| name == "server");
            assert_eq!(
                (work.len(), server.len()),
                (roots, usize::from(expected)),
                "{variables:?} {flags}"
            );
            if let [(_, trace, _)] = server[..] {
                assert_eq!(
                    trace, "0af7651916cd43dd8448eb211c80319c",
                    "the trace goes on"
                );
            }
            assert_eq!(outcome.spans()[0], spans.len() as u64);
        }
    }
}

#[test]
fn a_ratio_samples_a_part() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new("spans 1000; metrics; shutdown 5000")
        .export_to(&collector.endpoint())
        .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
        .run();
    // Outside of this once in 10^40 runs.
    let sampled = outcome.spans()[0];
    assert!((285..=715).contains(&sampled), "{sampled}");
    assert_eq!(collector.spans().len() as u64, sampled);
}

#[test]
fn propagators_decide_what_goes_out() {
    for (value, expected) in [
        (None, vec!["baggage", "traceparent", "tracestate"]),
        (Some("tracecontext"), vec!["traceparent", "tracestate"]),
        (Some("baggage"), vec!["baggage"]),
        (Some("b3,tracecontext"), vec!["traceparent", "tracestate"]),
        (Some("none"), vec![]),
    ] {
        let mut program = Program::new("propagate 01; shutdown 5000");
        if let Some(value) = value {
            program = program.env("OTEL_PROPAGATORS", value);
        }
        let outcome = program.run();
        let outgoing = outcome.told("outgoing");
        let headers: BTreeSet<_> = outgoing
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(headers, BTreeSet::from_iter(expected), "{value:?}");
        if let Some(traceparent) = outgoing["traceparent"].as_str() {
            assert!(
                traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
                "{traceparent}"
            );
        }
        let warned = outcome
            .messages()
            .iter()
            .any(|message| message.contains("b3"));
        assert_eq!(warned, value.is_some_and(|value| value.contains("b3")));
    }
}

#[test]
fn endpoints_and_headers() {
    let (general, traces) = (
        Collector::start(Answer::Accept),
        Collector::start(Answer::Accept),
    );
    let program = || Program::new("spans 1; shutdown 5000").export_to(&general.endpoint());

    program()
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Basic%20c2hvcA==,x-tenant=shop",
        )
        .run()
        .log();
    let request = &general.requests()[0];
    assert_eq!(request.path, "/v1/traces");
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    assert_eq!(request.headers["authorization"], "Basic c2hvcA==");
    assert_eq!(request.headers["x-tenant"], "shop");

    program()
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &format!("{}/custom", traces.endpoint()),
        )
        .run()
        .log();
    assert_eq!(general.requests().len(), 1, "the one for traces counts");
    assert_eq!(traces.requests()[0].path, "/custom");
}

#[test]
fn the_timeout_ends_the_wait_for_a_silent_collector() {
    for variable in [
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_BSP_EXPORT_TIMEOUT",
    ] {
        let collector = Collector::start(Answer::Silence);
        let outcome =
            Program::new("spans 2; await telemetry_spans_failed_total 2; metrics; shutdown 5000")
                .export_to(&collector.endpoint())
                .env("OTEL_BSP_SCHEDULE_DELAY", "10")
                .env(variable, "100")
                .run();
        assert_eq!(outcome.spans(), [2, 0, 2, 0, 0], "{variable}");
    }
}

#[test]
fn batches_are_as_large_as_wanted() {
    let collector = Collector::start(Answer::Accept);
    let outcome = Program::new("spans 20; shutdown 5000")
        .export_to(&collector.endpoint())
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "6")
        .run();
    assert_eq!(outcome.report(), (true, 0));
    let sizes: Vec<_> = collector
        .requests()
        .iter()
        .map(|request| request.spans.len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 20);
    assert!(sizes.iter().all(|size| *size <= 6), "{sizes:?}");
}

#[test]
fn invalid_values_are_warnings_in_the_log_and_change_nothing_else() {
    let variables = [
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_PROPAGATORS", "jaeger"),
        ("OTEL_TRACES_EXPORTER", "zipkin,otlp"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "often"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "no pairs"),
    ];
    let collector = Collector::start(Answer::Accept);
    let mut program = Program::new("spans 3; shutdown 5000").export_to(&collector.endpoint());
    for (variable, value) in variables {
        program = program.env(variable, value);
    }
    let outcome = program.run();
    let log = outcome.log();
    assert_eq!(log.len(), variables.len(), "{log:?}");
    for (variable, _) in variables {
        let warning = log.iter().find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(variable))
        });
        assert_eq!(
            warning.map(|line| &line["log.level"]),
            Some(&Value::from("warn")),
            "{variable}"
        );
    }
    assert!(!outcome.stdout.contains("secret"));
    assert_eq!(collector.spans().len(), 3);
}
