//! The service itself: rate, errors, duration, what it waits for, and whether its telemetry is whole.

use crate::{
    Error, Facts,
    build::{Draft, Page},
    facts,
    model::{Dashboard, DataSourceKind},
};

/// What links and alerts call it.
pub const UID: &str = "flask-api";

/// The replicas that are looked at.
const HERE: &str = r#"job=~"$job", instance=~"$instance""#;
/// The same, of the routes that are looked at.
const ROUTE: &str = r#"job=~"$job", instance=~"$instance", route=~"$route""#;
/// The same, of its spans: they are counted over all replicas, by Jaeger.
const SPANS: &str =
    r#"service_name="flask-api", span_kind="SPAN_KIND_SERVER", http_route=~"$route""#;

pub(crate) fn dashboard(facts: &Facts) -> Result<Dashboard, Error> {
    let mut page = Page::new(
        UID,
        "Flask API Performance",
        "How many requests, how many fail, how long they take, what they wait for, and whether the telemetry that says so is whole.",
        "now-30m",
    );
    page.data_source(DataSourceKind::Elasticsearch);
    page.data_source(DataSourceKind::Jaeger);
    page.variable(
        "job",
        "Job",
        "label_values(flask_requests_total, job)",
        ".+",
    );
    page.variable(
        "instance",
        "Instance",
        r#"label_values(flask_requests_total{job=~"$job"}, instance)"#,
        ".+",
    );
    page.variable(
        "route",
        "Route",
        r#"label_values(flask_requests_total{job=~"$job"}, route)"#,
        ".+",
    );
    glance(&mut page, facts)?;
    rate(&mut page);
    errors(&mut page, facts)?;
    duration(&mut page, facts)?;
    saturation(&mut page, facts)?;
    dependencies(&mut page, facts)?;
    database(&mut page, facts)?;
    business(&mut page, facts)?;
    telemetry(&mut page);
    logs_and_traces(&mut page, facts)?;
    Ok(page.finish())
}

fn requests(filter: &str) -> String {
    format!("sum(rate(flask_requests_total{{{ROUTE}{filter}}}[$__rate_interval]))")
}

fn quantile(of: f64) -> String {
    format!(
        "histogram_quantile({of}, sum by (le) (rate(flask_http_request_duration_seconds_bucket{{{ROUTE}}}[$__rate_interval]))) >= 0"
    )
}

/// 5xx among all; nothing without requests.
fn error_share(by: &str) -> String {
    format!(
        r#"sum {by} (rate(flask_requests_total{{{ROUTE}, status=~"5.."}}[$__rate_interval])) / (sum {by} (rate(flask_requests_total{{{ROUTE}}}[$__rate_interval])) > 0)"#
    )
}

fn glance(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    let availability = facts.objective("availability")?;
    let (budget, page_at) = (facts::budget(availability), facts::page_at(availability));
    page.row("At a glance");
    page.put(
        4,
        4,
        Draft::stat(
            "Request rate",
            "reqps",
            "Requests answered a second. Nothing at all is NoTraffic.",
        )
        .steps("blue", &[])
        .line(&requests(""), "requests"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Error rate",
            "percentunit",
            "Share answered with 5xx. Yellow: more than the objective allows; red: fast enough to wake somebody.",
        )
        .decimals(2)
        .steps("green", &[(budget, "yellow"), (page_at, "red")])
        .line(&error_share(""), "errors")
        .link("SLO Dashboard", "/d/slo-dashboard"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Response time, p95",
            "s",
            "95 of 100 requests are answered at least as quickly. Yellow: slower than the objective's threshold; red: where HighLatency looks at p99.",
        )
        .steps(
            "green",
            &[(facts.latency_bound("latency")?, "yellow"), (facts.threshold("HighLatency")?, "red")],
        )
        .line(&quantile(0.95), "p95"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Active connections",
            "short",
            "Client connections that are open, over the replicas chosen.",
        )
        .steps("blue", &[])
        .line(
            &format!("sum(flask_connections_active{{{HERE}}})"),
            "connections",
        ),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "In progress",
            "short",
            "Requests being handled. Red: where RequestsPilingUp fires for a replica.",
        )
        .steps("blue", &[(facts.threshold("RequestsPilingUp")?, "red")])
        .line(
            &format!("sum(flask_http_requests_in_progress{{{HERE}}})"),
            "in progress",
        ),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Version",
            "short",
            "Replicas by version and commit; two versions at once is a deployment under way.",
        )
        .option("graphMode", "none")
        .option("textMode", "value_and_name")
        .steps("blue", &[])
        .now(
            &format!("count by (version, commit) (flask_app_info{{{HERE}}})"),
            "{{version}} {{commit}}",
        ),
    );
    Ok(())
}

fn rate(page: &mut Page) {
    page.row("Rate");
    page.put(
        12,
        8,
        Draft::timeseries("Request rate by route", "reqps", "What is asked for; `unmatched` are addresses that are none of ours.")
            .stacked()
            .zero_based()
            .line(
                &format!("sum by (method, route) (rate(flask_requests_total{{{ROUTE}}}[$__rate_interval])) > 0"),
                "{{method}} {{route}}",
            ),
    );
    page.put(
        12,
        8,
        Draft::timeseries(
            "Request rate by status",
            "reqps",
            "What came of it: 2xx good, 4xx the caller's mistake, 5xx ours.",
        )
        .stacked()
        .zero_based()
        .line(
            &format!(
                "sum by (status) (rate(flask_requests_total{{{ROUTE}}}[$__rate_interval])) > 0"
            ),
            "{{status}}",
        ),
    );
}

fn errors(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Errors");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Error rate by route",
            "percentunit",
            "Share answered with 5xx, by route. 0 is what one wants to see.",
        )
        .zero_based()
        .line(&error_share("by (method, route)"), "{{method}} {{route}}"),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Errors a second, as HighErrorRate sees them",
            "reqps",
            "5xx a second of each replica, route and status; the line is where HighErrorRate fires, which looks at five minutes.",
        )
        .zero_based()
        .limit(facts.threshold("HighErrorRate")?)
        .line(
            &format!(r#"max by (instance, method, route) (rate(flask_requests_total{{{ROUTE}, status=~"5.."}}[$__rate_interval]))"#),
            "{{instance}} {{method}} {{route}}",
        ),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Exceptions and refusals",
            "reqps",
            "Requests that ended in an error of the handler or a panic, and those refused before they were looked at.",
        )
        .zero_based()
        .line(
            &format!("sum(rate(flask_http_request_exceptions_total{{{ROUTE}}}[$__rate_interval]))"),
            "exceptions",
        )
        .line(
            &format!("sum by (reason) (rate(flask_http_requests_refused_total{{{HERE}}}[$__rate_interval]))"),
            "refused: {{reason}}",
        ),
    );
    Ok(())
}

fn duration(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Duration");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Response time",
            "s",
            "Half, 95 and 99 of 100 requests are answered at least as quickly. The line is where HighLatency fires, for p99.",
        )
        .zero_based()
        .limit(facts.threshold("HighLatency")?)
        .line(&quantile(0.5), "p50")
        .line(&quantile(0.95), "p95")
        .line(&quantile(0.99), "p99"),
    );
    page.put(
        8,
        8,
        Draft::timeseries("Response time by route, p95", "s", "Which route is slow.")
            .zero_based()
            .line(
                &format!(
                    "histogram_quantile(0.95, sum by (method, route, le) (rate(flask_http_request_duration_seconds_bucket{{{ROUTE}}}[$__rate_interval]))) >= 0"
                ),
                "{{method}} {{route}}",
            ),
    );
    page.put(
        8,
        8,
        Draft::heatmap(
            "Latency heatmap, with traces",
            "s",
            "How many requests took how long, from spans. A point is a request whose trace Jaeger has: one click away.",
        )
        .buckets(&format!(
            "sum by (le) (increase(traces_span_metrics_duration_seconds_bucket{{{SPANS}}}[$__rate_interval]))"
        )),
    );
    Ok(())
}

fn saturation(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Saturation");
    page.put(
        6,
        7,
        Draft::timeseries(
            "Active connections by replica",
            "short",
            "Client connections that are open.",
        )
        .zero_based()
        .line(
            &format!("sum by (instance) (flask_connections_active{{{HERE}}})"),
            "{{instance}}",
        ),
    );
    page.put(
        6,
        7,
        Draft::timeseries(
            "In progress by replica",
            "short",
            "Requests being handled; the line is where RequestsPilingUp fires.",
        )
        .zero_based()
        .limit(facts.threshold("RequestsPilingUp")?)
        .line(
            &format!("sum by (instance) (flask_http_requests_in_progress{{{HERE}}})"),
            "{{instance}}",
        ),
    );
    page.put(
        6,
        7,
        Draft::timeseries(
            "CPU by replica",
            "percentunit",
            "100 % is one core; the line is where ServiceCPUSaturated fires.",
        )
        .zero_based()
        .limit(facts.threshold("ServiceCPUSaturated")?)
        .line(
            &format!(
                "sum by (instance) (rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]))"
            ),
            "{{instance}}",
        ),
    );
    page.put(
        6,
        7,
        Draft::timeseries(
            "Memory by replica",
            "bytes",
            "Resident memory of each process.",
        )
        .zero_based()
        .line(
            &format!("sum by (instance) (process_resident_memory_bytes{{{HERE}}})"),
            "{{instance}}",
        ),
    );
    Ok(())
}

fn dependencies(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Dependencies");
    page.put(
        6,
        7,
        Draft::timeseries("Calls by outcome", "reqps", "Calls to other services: ok, declined, error, timeout. A retry is one of them.")
            .stacked()
            .zero_based()
            .line(
                &format!("sum by (dependency, outcome) (rate(flask_dependency_requests_total{{{HERE}}}[$__rate_interval]))"),
                "{{dependency}} {{outcome}}",
            ),
    );
    page.put(
        6,
        7,
        Draft::timeseries("Call duration", "s", "How long other services take; the line is where DependencySlow fires, for p95.")
            .zero_based()
            .limit(facts.threshold("DependencySlow")?)
            .line(
                &format!(
                    "histogram_quantile(0.5, sum by (dependency, le) (rate(flask_dependency_duration_seconds_bucket{{{HERE}}}[$__rate_interval]))) >= 0"
                ),
                "{{dependency}} p50",
            )
            .line(
                &format!(
                    "histogram_quantile(0.95, sum by (dependency, le) (rate(flask_dependency_duration_seconds_bucket{{{HERE}}}[$__rate_interval]))) >= 0"
                ),
                "{{dependency}} p95",
            ),
    );
    page.put(
        6,
        7,
        Draft::timeseries("Retries and refusals", "reqps", "Calls sent again, and calls that the open circuit breaker did not let out.")
            .zero_based()
            .line(
                &format!("sum by (dependency) (rate(flask_dependency_retries_total{{{HERE}}}[$__rate_interval]))"),
                "{{dependency}} sent again",
            )
            .line(
                &format!("sum by (dependency) (rate(flask_dependency_rejected_total{{{HERE}}}[$__rate_interval]))"),
                "{{dependency}} not let out",
            ),
    );
    page.put(
        6,
        7,
        Draft::bars("Circuit breaker", "short", "Replicas by the state of their circuit breaker; anything but closed is CircuitBreakerOpen.")
            .decimals(0)
            .zero_based()
            .steps("blue", &[])
            .now(
                &format!("sum by (dependency, state) (flask_dependency_breaker_state{{{HERE}}})"),
                "{{dependency}} {{state}}",
            ),
    );
    Ok(())
}

fn database(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Database");
    page.put(
        8,
        7,
        Draft::timeseries(
            "Connections in use",
            "short",
            "Database connections in use, and how many there can be.",
        )
        .zero_based()
        .line(
            &format!(r#"sum by (pool) (flask_db_pool_connections{{{HERE}, state="in_use"}})"#),
            "{{pool}} in use",
        )
        .line(
            &format!("sum by (pool) (flask_db_pool_connections_max{{{HERE}}})"),
            "{{pool}} at most",
        ),
    );
    page.put(
        8,
        7,
        Draft::timeseries(
            "Wait for a connection, p95",
            "s",
            "Time until a connection could be used; the line is where DatabasePoolSaturated fires.",
        )
        .zero_based()
        .limit(facts.threshold("DatabasePoolSaturated")?)
        .line(
            &format!(
                "histogram_quantile(0.95, sum by (pool, le) (rate(flask_db_pool_wait_seconds_bucket{{{HERE}}}[$__rate_interval]))) >= 0"
            ),
            "{{pool}}",
        ),
    );
    page.put(
        8,
        7,
        Draft::timeseries("Statements, p95", "s", "How long each kind of statement takes, from spans.")
            .zero_based()
            .line(
                r#"histogram_quantile(0.95, sum by (span_name, le) (rate(traces_span_metrics_duration_seconds_bucket{service_name="flask-api", span_kind="SPAN_KIND_CLIENT", http_request_method=""}[$__rate_interval]))) >= 0"#,
                "{{span_name}}",
            ),
    );
    Ok(())
}

fn business(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Business, from the custom exporter");
    page.put(
        8,
        6,
        Draft::timeseries(
            "Orders by status",
            "short",
            "Orders in the shop's database, by the status they are in.",
        )
        .zero_based()
        .line("sum by (status) (shop_orders)", "{{status}}"),
    );
    page.put(
        4,
        6,
        Draft::stat(
            "Revenue",
            "currencyEUR",
            "Sum of all orders that are paid and not cancelled.",
        )
        .steps("blue", &[])
        .line("sum(shop_revenue_cents) / 100", "revenue"),
    );
    page.put(
        4,
        6,
        Draft::stat(
            "Oldest pending order",
            "s",
            "How long the oldest order waits for its payment; red: OrdersStuckPending.",
        )
        .steps("green", &[(facts.threshold("OrdersStuckPending")?, "red")])
        .line("max(shop_oldest_pending_order_age_seconds)", "oldest"),
    );
    page.put(
        8,
        6,
        Draft::bars(
            "Stock",
            "short",
            "Units of each product that can still be ordered.",
        )
        .zero_based()
        .decimals(0)
        .steps("red", &[(10.0, "yellow"), (100.0, "green")])
        .now(
            "min by (product_id) (shop_product_stock)",
            "product {{product_id}}",
        ),
    );
    Ok(())
}

fn telemetry(page: &mut Page) {
    page.row("Telemetry health");
    page.put(
        8,
        7,
        Draft::timeseries(
            "Spans",
            "cps",
            "Sampled spans have to be exported; failed and dropped ones are lost (SpansLost).",
        )
        .zero_based()
        .line(
            &format!("sum(rate(telemetry_spans_sampled_total{{{HERE}}}[$__rate_interval]))"),
            "sampled",
        )
        .line(
            &format!("sum(rate(telemetry_spans_exported_total{{{HERE}}}[$__rate_interval]))"),
            "exported",
        )
        .line(
            &format!("sum(rate(telemetry_spans_failed_total{{{HERE}}}[$__rate_interval]))"),
            "failed",
        )
        .line(
            &format!("sum(rate(telemetry_spans_dropped_total{{{HERE}}}[$__rate_interval]))"),
            "dropped",
        ),
    );
    page.put(
        8,
        7,
        Draft::timeseries("Log lines", "cps", "Lines that did not fit in the queue or could not be written (LogLinesDropped). Has to be 0.")
            .zero_based()
            .line(
                &format!("sum by (instance) (rate(telemetry_log_lines_dropped_total{{{HERE}}}[$__rate_interval]))"),
                "{{instance}} dropped",
            ),
    );
    page.put(
        4,
        7,
        Draft::stat("Spans unaccounted for", "short", "Sampled less exported, failed, dropped and queued: 0, or the telemetry itself is wrong.")
            .steps("green", &[(1.0, "red")])
            .line(
                &format!("sum(abs(instance:telemetry_spans_unaccounted:sum{{{HERE}}}))"),
                "unaccounted",
            ),
    );
    page.put(
        4,
        7,
        Draft::stat(
            "Replicas scraped",
            "percentunit",
            "Share of the replicas that answer Prometheus; ReplicaDown and ServiceDown look at it.",
        )
        .decimals(0)
        .steps("red", &[(0.5, "orange"), (1.0, "green")])
        .line(&format!("avg(up{{{HERE}}})"), "answer"),
    );
}

fn logs_and_traces(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Logs and traces");
    page.put(
        8,
        8,
        Draft::timeseries(
            "Log lines by kind",
            "short",
            "Lines that Elasticsearch has: app, access and error, in each step of the graph.",
        )
        .stacked()
        .zero_based()
        .lines_by("service.name:flask-api", "event.dataset"),
    );
    page.put(
        16,
        8,
        Draft::logs(
            "Logs",
            "service.name:flask-api AND NOT (event.dataset:flask-api.access AND log.level:info)",
            "What the service says, newest first; of the access log only what is no mere success. A line's trace.id leads to its trace.",
        ),
    );
    page.put(
        8,
        8,
        Draft::traces(
            "Recent traces",
            &[""],
            "",
            "The newest requests that Jaeger has. A trace id leads to its trace, and from there to its log lines.",
        ),
    );
    page.put(
        8,
        8,
        Draft::traces(
            "Recent traces of failures",
            // Jaeger shows `error` and does not search for it; these are the 5xx that the API answers with.
            &[
                "http.response.status_code=500",
                "http.response.status_code=503",
                "http.response.status_code=504",
            ],
            "",
            "The newest requests answered with 5xx.",
        )
        .when_empty("none failed"),
    );
    page.put(
        8,
        8,
        Draft::traces(
            "Recent slow traces",
            &[""],
            &milliseconds(facts.latency_bound("latency")?),
            "The newest requests of which a span took longer than the latency objective allows.",
        )
        .when_empty("none was slow"),
    );
    Ok(())
}

/// Seconds as Jaeger is told a duration.
fn milliseconds(seconds: f64) -> String {
    format!("{:.0}ms", seconds * 1000.0)
}
