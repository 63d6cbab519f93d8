//! Everything on one page: is it well, and where to look when not.

use crate::{
    Error, Facts,
    build::{Draft, Page},
    facts,
    model::{Dashboard, DataSourceKind},
};

/// What links call it.
pub const UID: &str = "overview";

pub(crate) fn dashboard(facts: &Facts) -> Result<Dashboard, Error> {
    let mut page = Page::new(
        UID,
        "Three Pillars",
        "Is the shop well, is its telemetry, and where to look when not: metrics, logs and traces on one page, and the state of every component.",
        "now-30m",
    );
    page.data_source(DataSourceKind::Elasticsearch);
    page.data_source(DataSourceKind::Jaeger);
    now(&mut page, facts)?;
    components(&mut page, facts)?;
    metrics(&mut page, facts)?;
    logs(&mut page, facts)?;
    traces(&mut page);
    alerts(&mut page);
    Ok(page.finish())
}

fn now(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    let availability = facts.objective("availability")?;
    let budget = facts::budget(availability);
    let slow = facts.latency_bound("latency")?;
    let page_at = facts::page_at(availability);
    page.row("Now");
    page.put(
        4,
        4,
        Draft::stat(
            "Requests",
            "reqps",
            "Requests a second that the shop answers, over a minute. Nothing at all is NoTraffic.",
        )
        .steps("blue", &[])
        .line(
            r#"service:flask_requests:rate1m{service="flask-api"}"#,
            "requests",
        )
        .link("Flask API Performance", "/d/flask-api"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Errors",
            "percentunit",
            "Share of requests answered with 5xx, over a minute. Yellow: more than the objective allows; red: fast enough to wake somebody.",
        )
        .decimals(2)
        .steps("green", &[(budget, "yellow"), (page_at, "red")])
        .line(r#"service:flask_requests_errors:ratio_rate1m{service="flask-api"}"#, "errors")
        .link("Flask API Performance", "/d/flask-api"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Latency, p95",
            "s",
            "95 of 100 requests are answered at least as quickly, over a minute. Yellow: slower than the objective's threshold; red: where HighLatency looks at p99.",
        )
        .steps("green", &[(slow, "yellow"), (facts.threshold("HighLatency")?, "red")])
        .line(
            r#"service:flask_http_request_duration_seconds:p95_rate1m{service="flask-api"}"#,
            "p95",
        )
        .link("Flask API Performance", "/d/flask-api"),
    );
    page.put(
        4,
        4,
        Draft::gauge(
            "Error budget left",
            "percentunit",
            "What is left of the period's error budget, for each objective. At 0 the objective is missed.",
        )
        .between(0.0, 1.0)
        .decimals(1)
        .steps("red", &[(0.1, "orange"), (0.5, "green")])
        .now(r#"slo:period_error_budget_remaining:ratio{service="flask-api"}"#, "{{sloth_slo}}")
        .link("SLO Dashboard", "/d/slo-dashboard"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Alerts firing",
            "short",
            "Alerts that fire now; the Watchdog, which always does, is left out.",
        )
        .steps("green", &[(1.0, "red")])
        .line(
            r#"count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)"#,
            "alerts",
        ),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Targets up",
            "percentunit",
            "Share of what Prometheus scrapes or has probed that answers.",
        )
        .decimals(0)
        .steps("red", &[(0.9, "orange"), (1.0, "green")])
        .line(&format!("avg({ANSWERS})"), "up"),
    );
    Ok(())
}

/// 1 for each thing that answers: what is scraped, and what is probed. That a prober answers says nothing
/// of what it probes.
const ANSWERS: &str = r#"up{job!~"blackbox-(http|tcp|tls)"} or probe_success"#;

fn components(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Every component");
    page.put(
        16,
        7,
        Draft::stat(
            "State",
            "none",
            "Every component by its scrape targets and by its pages and ports seen from outside: up, down, or in part, when one of several answers.",
        )
        .up_or_down()
        .option("colorMode", "background")
        .option("graphMode", "none")
        .option("textMode", "value_and_name")
        .steps("red", &[(0.0001, "orange"), (1.0, "green")])
        .now(&format!("avg by (service) ({ANSWERS})"), "{{service}}"),
    );
    page.put(
        8,
        7,
        Draft::bars(
            "Memory",
            "bytes",
            "Resident memory of each component; of Elasticsearch the used heap.",
        )
        .steps("blue", &[])
        .now(
            "sum by (service) (process_resident_memory_bytes or otelcol_process_memory_rss_bytes or jvm_memory_heap_used_bytes)",
            "{{service}}",
        ),
    );
    page.put(
        12,
        6,
        Draft::table(
            "Does not answer",
            "none",
            "Targets that cannot be scraped, and pages and ports that do not answer a probe.",
        )
        .when_empty("everything answers")
        .columns(&format!("max by (service, job, instance) ({ANSWERS}) == 0"))
        .named(
            &[
                ("service", "Component"),
                ("job", "Job"),
                ("instance", "Address"),
            ],
            &["Time", "Value"],
        ),
    );
    page.put(
        12,
        6,
        Draft::timeseries(
            "Answer to a probe",
            "s",
            "How long pages and ports take to answer from outside; ProbeSlow looks at a mean over 5 minutes.",
        )
        .zero_based()
        .limit(facts.threshold("ProbeSlow")?)
        .line("max by (service, instance) (probe_duration_seconds)", "{{service}} {{instance}}"),
    );
    Ok(())
}

fn metrics(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Metrics");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Requests by route",
            "reqps",
            "What the shop is asked for, over a minute.",
        )
        .stacked()
        .zero_based()
        .line(
            r#"sum by (route) (service_route:flask_requests:rate1m{service="flask-api"})"#,
            "{{route}}",
        ),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Latency",
            "s",
            "Half, 95 and 99 of 100 requests are answered at least as quickly. The line is where HighLatency fires.",
        )
        .zero_based()
        .limit(facts.threshold("HighLatency")?)
        .line(r#"service:flask_http_request_duration_seconds:p50_rate1m{service="flask-api"}"#, "p50")
        .line(r#"service:flask_http_request_duration_seconds:p95_rate1m{service="flask-api"}"#, "p95")
        .line(r#"service:flask_http_request_duration_seconds:p99_rate1m{service="flask-api"}"#, "p99"),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Samples taken in",
            "cps",
            "Samples a second that Prometheus stores, rules included. A step down is a target that went away.",
        )
        .zero_based()
        .line("instance:prometheus_head_samples_appended:rate1m", "samples"),
    );
    Ok(())
}

fn logs(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Logs");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Log lines by level",
            "short",
            "Lines of all services that Elasticsearch has, by level, in each step of the graph.",
        )
        .stacked()
        .zero_based()
        .lines_by("*", "log.level"),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Log lines delivered",
            "cps",
            "Lines a second that the shipper delivers to Elasticsearch. Right axis: how full its queue is; LogShipperBehind fires at the line.",
        )
        .zero_based()
        .limit(facts.threshold("LogShipperBehind")?)
        .line("sum(instance:otelcol_log_records_delivered:rate1m)", "delivered")
        .line("max(instance:otelcol_exporter_queue:ratio)", "queue in use")
        .field(
            "queue in use",
            &[("unit", "percentunit".into()), ("max", 1.into()), ("custom.axisPlacement", "right".into())],
        ),
    );
    page.put(
        8,
        8,
        Draft::logs(
            "Latest lines",
            "event.dataset:flask-api.app",
            "What the shop says it does, newest first. A line's trace.id leads to its trace.",
        ),
    );
    Ok(())
}

fn traces(page: &mut Page) {
    page.row("Traces");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Requests by service, from spans",
            "reqps",
            "Requests that each traced service answers, counted by Jaeger from spans rather than by the service itself.",
        )
        .zero_based()
        .line(
            r#"service_name_span_kind:traces_span_metrics_calls:rate1m{span_kind="SPAN_KIND_SERVER"}"#,
            "{{service_name}}",
        ),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Spans received and lost",
            "cps",
            "Spans a second that Jaeger takes in, and that services failed to deliver or dropped. Lost has to be 0.",
        )
        .zero_based()
        .line("sum(instance:jaeger_spans_received:rate1m)", "received")
        .line("sum(instance:telemetry_spans_lost:rate5m)", "lost"),
    );
    page.put(
        8,
        8,
        Draft::traces(
            "Latest traces",
            &[""],
            "",
            "Requests to the shop that Jaeger has, newest first. A trace id leads to its trace.",
        ),
    );
}

fn alerts(page: &mut Page) {
    page.row("Alerts");
    page.put(
        8,
        8,
        Draft::table(
            "Firing and pending",
            "none",
            "What is wrong now, and what will be if it goes on; the alerting playbook says what to do about each.",
        )
        .when_empty("nothing is wrong")
        .columns(r#"max by (alertname, severity, service, alertstate) (ALERTS{severity!="none"})"#)
        .named(
            &[("alertname", "Alert"), ("severity", "Severity"), ("service", "Service"), ("alertstate", "State")],
            &["Time", "Value"],
        ),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Alerts firing, by severity",
            "short",
            "Severity none is the Watchdog: it always fires, and when it does not, alerting itself is broken.",
        )
        .zero_based()
        .decimals(0)
        .line(r#"count by (severity) (ALERTS{alertstate="firing"})"#, "{{severity}}"),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Notifications",
            "short",
            "Notifications sent and failed in each step, by way of sending; webhook is the dead man's switch.",
        )
        .zero_based()
        .line(
            r#"sum by (integration) (increase(alertmanager_notifications_total{integration=~"slack|pagerduty|email|webhook"}[$__rate_interval]))"#,
            "{{integration}} sent",
        )
        .line(
            r#"sum by (integration) (increase(alertmanager_notifications_failed_total{integration=~"slack|pagerduty|email|webhook"}[$__rate_interval]))"#,
            "{{integration}} failed",
        ),
    );
}
