//! From a trace to its log lines and metrics and back; searching logs; asking Prometheus.

mod logs;
mod metrics;
mod trace;

pub(crate) use metrics::{link, written};

use actix_web::{HttpResponse, http::header, web};
use jiff::Timestamp;
use maud::{Markup, html};
use plots::{Cell, Column, Format, Table, Unit};

use crate::{
    Console, choice,
    choice::Range,
    jaeger::{self, Trace},
    page::{Page, Place},
};

/// Traces that are offered to click on.
const RECENT: &str = "20";

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route("/explore", web::get().to(explore))
        .route("/explore/trace", web::get().to(find_trace))
        .route("/explore/trace/{id}", web::get().to(trace::page))
        .route("/explore/logs", web::get().to(logs::page))
        .route("/explore/metrics", web::get().to(metrics::page));
}

/// What can be asked for, above every answer.
pub(super) fn forms(trace: &str, query: &str) -> Markup {
    html! {
        div.explore-forms {
            form action="/explore/trace" {
                label { "Trace id" input name="id" value=(trace) required placeholder="32 hexadecimal digits" size="34" autocomplete="off" spellcheck="false"; }
                button { "Show trace" }
            }
            form action="/explore/metrics" {
                label { "PromQL" input name="query" value=(query) required placeholder="sum by (route) (rate(flask_requests_total[1m]))" size="44" autocomplete="off" spellcheck="false"; }
                button { "Ask Prometheus" }
            }
        }
    }
}

async fn explore(console: web::Data<Console>) -> HttpResponse {
    let now = Timestamp::now().as_microsecond();
    let (start, end) = ((now - 3_600_000_000).to_string(), now.to_string());
    let search = |tags: &'static str| {
        let mut parameters = vec![
            ("service", "flask-api"),
            ("limit", RECENT),
            ("start", &start),
            ("end", &end),
        ];
        if !tags.is_empty() {
            parameters.push(("tags", tags));
        }
        let console = &console;
        async move { jaeger::search(&console.jaeger, &parameters).await }
    };
    let (recent, failed) = futures::join!(search(""), search(r#"{"error":"true"}"#));
    let list = |name: &str, traces: &Result<Vec<Trace>, crate::backend::Trouble>| {
        html! {
            h2 { (name) }
            @match traces {
                Ok(traces) => (traces_table(name, traces)),
                Err(trouble) => (trouble),
            }
        }
    };
    let main = html! {
        h1 { "Explore" }
        p.quiet { "From a trace to its log lines and the metrics of its route, and back." }
        (forms("", ""))
        h2 { "Search log lines" }
        (logs::form(&logs::Search::default()))
        div.explore-lists {
            section { (list("Recent traces", &recent)) }
            section { (list("Recent traces with an error", &failed)) }
        }
    };
    Page::new(Place::Explore, "Explore", main).wide().respond()
}

#[derive(serde::Deserialize)]
struct Id {
    #[serde(default)]
    id: String,
}

/// The form's way to a trace's page.
async fn find_trace(wanted: web::Query<Id>) -> HttpResponse {
    match jaeger::trace_id(&wanted.id) {
        Ok(id) => HttpResponse::SeeOther()
            .insert_header((header::LOCATION, jaeger::page(&id)))
            .finish(),
        Err(why) => trace::wrong(&wanted.id, &why),
    }
}

/// Traces to click on.
pub(crate) fn traces_table(name: &str, traces: &[Trace]) -> Markup {
    let column = |name: &str, unit: &str| Column {
        name: name.into(),
        format: Format {
            unit: Unit::parse(unit),
            ..Format::default()
        },
        ..Column::default()
    };
    let rows = traces.iter().map(|trace| {
        let root = trace.root();
        #[expect(clippy::cast_precision_loss, reason = "no trace is that long")]
        let spans = trace.spans.len() as f64;
        vec![
            Cell::Link {
                href: jaeger::page(&trace.id),
                text: trace.id.chars().take(8).collect(),
            },
            Cell::Text(format!(
                "{}{}",
                root.map_or("", |it| it.operation.as_str()),
                if trace.failed() { ", failed" } else { "" }
            )),
            Cell::Text(
                Unit::parse("dateTimeAsIso")
                    .show(trace.start() * 1000.0, None)
                    .chars()
                    .skip(11)
                    .collect(),
            ),
            Cell::Number(trace.duration()),
            Cell::Number(spans),
        ]
    });
    let table = Table {
        name: name.into(),
        columns: vec![
            column("Trace", ""),
            column("Request", ""),
            column("Start", ""),
            column("Took", "s"),
            column("Spans", ""),
        ],
        rows: rows.collect(),
        empty: Some("No trace in this time".into()),
    };
    table.draw()
}

/// Choosing a time range, within a form.
pub(super) fn times(range: &Range) -> Markup {
    html! {
        label { "From" input name="from" value=(range.from) list="ranges" size="12" autocomplete="off"; }
        label { "To" input name="to" value=(range.to) size="12" autocomplete="off"; }
        datalist #ranges { @for it in choice::RANGES { option value={ "now-" (it) } {} } }
    }
}

/// Something that was typed and cannot be meant.
pub(super) fn mistake(why: &str) -> Markup {
    html! { p.trouble role="alert" { (why) } }
}
