//! One trace: its waterfall, its log lines, and how its route did at the time.

use actix_web::{HttpResponse, http::StatusCode, web};
use jiff::Timestamp;
use maud::{Markup, html};
use plots::{
    Annotation, Calc, Colour, Format, Legend, Logs, Span, Thresholds, TimeSeries, Unit, Waterfall,
};

use super::{forms, mistake};
use crate::{
    Console,
    backend::Trouble,
    elasticsearch::{self, Found, Wanted},
    jaeger::{self, Trace},
    page::{Page, Place},
    prometheus::{Labels, Series},
};

/// Log lines of one trace.
const MOST_LINES: u32 = 200;

/// Seconds before and after a trace whose metrics are shown.
const AROUND: f64 = 600.0;

/// Points of a picture.
const STEP: f64 = 5.0;

pub(crate) async fn page(console: web::Data<Console>, id: web::Path<String>) -> HttpResponse {
    let id = match jaeger::trace_id(&id) {
        Ok(id) => id,
        Err(why) => return wrong(&id, &why),
    };
    let wanted = Wanted {
        trace: id.clone(),
        oldest_first: true,
        most: MOST_LINES,
        ..Wanted::default()
    };
    let (trace, lines) = futures::join!(
        jaeger::trace(&console.jaeger, &id),
        elasticsearch::search(&console.elasticsearch, &wanted)
    );
    let metrics = match &trace {
        Ok(Some(trace)) => Some(metrics(&console, trace).await),
        _ => None,
    };
    // Log lines alone are worth a page: the trace may have been forgotten, or not been sampled.
    let nowhere = matches!(&trace, Ok(None)) && !lines.as_ref().is_ok_and(|it| it.total > 0);
    let main = html! {
        h1 { "Trace " code { (id) } }
        (forms(&id, ""))
        @match &trace {
            Ok(Some(trace)) => (waterfall(trace)),
            Ok(None) => p.trouble role="status" {
                "Jaeger has no trace " code { (id) } ": it was not sampled, is still on its way (a few seconds), or was forgotten since."
            },
            Err(trouble) => (trouble),
        }
        h2 #logs { "Log lines" }
        (log_lines(&lines))
        h2 #metrics { "Metrics of its route" }
        @match metrics {
            Some(metrics) => (metrics),
            None => p.quiet { "Without the trace it is not known which route it took." },
        }
    };
    let status = if nowhere {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    let title = format!("Trace {}", &id[..8]);
    Page::new(Place::Explore, title, main)
        .with_status(status)
        .wide()
        .respond()
}

/// The page for what is no id.
pub(crate) fn wrong(text: &str, why: &str) -> HttpResponse {
    let main = html! {
        h1 { "Trace" }
        (mistake(why))
        (forms(text, ""))
    };
    Page::new(Place::Explore, "Trace", main)
        .with_status(StatusCode::BAD_REQUEST)
        .respond()
}

fn waterfall(trace: &Trace) -> Markup {
    let seconds = Unit::parse("s");
    let services: Vec<&str> = trace.services().into_iter().collect();
    let began = Unit::parse("dateTimeAsIso").show(trace.start() * 1000.0, None);
    let root = trace.root();
    let name = root.map_or_else(String::new, |it| format!("{} {}", it.service, it.operation));
    html! {
        p {
            strong { (name) } " took " strong { (seconds.show(trace.duration(), None)) } ", began " time { (began) } " UTC, "
            (trace.spans.len()) @if trace.spans.len() == 1 { " span of " } @else { " spans of " } (services.join(", "))
            @if trace.failed() { ", " strong.ink-red { "failed" } }
            ". " a href="#logs" { "Log lines" } " · " a href="#metrics" { "Metrics" }
        }
        (Waterfall { name: format!("Spans of {name}"), spans: trace.spans.clone() }.draw())
    }
}

fn log_lines(lines: &Result<Found, Trouble>) -> Markup {
    match lines {
        Err(trouble) => html! { (trouble) },
        Ok(found) => html! {
            @if found.lines.is_empty() {
                p.empty { "No log line names this trace; a new one takes up to five seconds to get to Elasticsearch." }
            } @else {
                p.quiet {
                    (found.total) @if found.total == 1 { " line" } @else { " lines" } ", the oldest first"
                    @if found.total > u64::from(MOST_LINES) { "; the first " (MOST_LINES) " are shown" } "."
                }
                (Logs { name: "Log lines of the trace".into(), lines: without_trace(found) }.draw())
            }
        },
    }
}

/// Here every line would lead to this page.
fn without_trace(found: &Found) -> Vec<plots::Line> {
    let lines = found.lines.iter().cloned();
    lines
        .map(|line| plots::Line {
            trace: None,
            ..line
        })
        .collect()
}

/// The span by which the service's own metrics counted the request: route and method.
fn route(trace: &Trace) -> Option<(String, String)> {
    let of = |span: &Span, name: &str| {
        let found = span.attributes.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.clone())
    };
    let mut spans: Vec<&Span> = trace.spans.iter().collect();
    spans.sort_by(|one, other| one.start.total_cmp(&other.start));
    let served = spans.into_iter().filter(|span| {
        span.service == "flask-api" && of(span, "span.kind").as_deref() == Some("server")
    });
    served
        .filter_map(|span| Some((of(span, "http.route")?, of(span, "http.request.method")?)))
        .next()
}

async fn metrics(console: &Console, trace: &Trace) -> Markup {
    let Some((route, method)) = route(trace) else {
        return html! { p.quiet { "No span of flask-api in this trace says which route it took." } };
    };
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let of = format!(
        r#"route="{}", method="{}""#,
        quoted(&route),
        quoted(&method)
    );
    let rate = format!("sum by (status) (rate(flask_requests_total{{{of}}}[1m])) > 0");
    let errors = format!(
        r#"sum(rate(flask_requests_total{{{of}, status=~"5.."}}[1m])) / sum(rate(flask_requests_total{{{of}}}[1m]))"#
    );
    let latency = |of_all: f64| {
        format!(
            "histogram_quantile({of_all}, sum by (le) (rate(flask_http_request_duration_seconds_bucket{{{of}}}[1m])))"
        )
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are far below 2^53"
    )]
    let now = Timestamp::now().as_millisecond() as f64 / 1000.0;
    let (start, end) = (trace.start() - AROUND, (trace.start() + AROUND).min(now));
    let (median, slow) = (latency(0.5), latency(0.95));
    let ask = |query: &str| {
        let query = query.to_owned();
        async move { console.prometheus.range(&query, start, end, STEP).await }
    };
    let (rates, shares, medians, slows) =
        futures::join!(ask(&rate), ask(&errors), ask(&median), ask(&slow));
    let latencies = medians.and_then(|medians| {
        let name = |series: Vec<Series>, name: &str| {
            let named: Vec<(String, Series)> =
                series.into_iter().map(|it| (name.into(), it)).collect();
            named
        };
        Ok([name(medians, "p50"), name(slows?, "p95")].concat())
    });
    let by_status = rates.map(|rates| named(rates, "status"));
    let share = shares.map(|shares| {
        shares
            .into_iter()
            .map(|it| ("5xx".to_owned(), it))
            .collect()
    });
    let when = Annotation {
        from: trace.start(),
        to: trace.start(),
        text: "this trace".into(),
        colour: Colour::Purple,
    };
    let draw = |title: &str,
                unit: &str,
                series: Result<Vec<(String, Series)>, Trouble>,
                queries: &[&str]| {
        html! {
            section.panel.w-8.h-8 {
                h3 { (title) }
                @match series {
                    Err(trouble) => (trouble),
                    Ok(series) => (TimeSeries {
                        name: format!("{title} of {method} {route}"),
                        times: start..end,
                        series: series.into_iter().map(|(name, it)| plots::Series { name, points: it.points, ..plots::Series::default() }).collect(),
                        format: Format { unit: Unit::parse(unit), ..Format::default() },
                        min: Some(0.0),
                        thresholds: Thresholds::default(),
                        gap: Some(STEP * 3.0),
                        annotations: vec![when.clone()],
                        legend: Legend::Table(vec![Calc::Mean, Calc::Max, Calc::Last]),
                        ..TimeSeries::default()
                    }.draw()),
                }
                (queries_of(queries))
            }
        }
    };
    html! {
        p.quiet { strong { (method) " " (route) } ", ten minutes before and after; the line marks this trace." }
        div.grid {
            (draw("Requests", "reqps", by_status, &[&rate]))
            (draw("Errors", "percentunit", share, &[&errors]))
            (draw("Response time", "s", latencies, &[&median, &slow]))
        }
    }
}

fn named(series: Vec<Series>, label: &str) -> Vec<(String, Series)> {
    let name = |labels: &Labels| labels.get(label).cloned().unwrap_or_default();
    series
        .into_iter()
        .map(|it| (name(&it.labels), it))
        .collect()
}

fn queries_of(queries: &[&str]) -> Markup {
    html! {
        details.query {
            summary { "Query" }
            @for query in queries { pre { code { (query) } } a href=(super::metrics::link(query)) { "Explore" } }
        }
    }
}
