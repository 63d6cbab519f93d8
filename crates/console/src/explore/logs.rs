//! Searching log lines.

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use maud::{Markup, html};
use plots::Logs;

use super::{mistake, times};
use crate::{
    Console,
    choice::{Pairs, Range, last},
    elasticsearch::{self, Wanted},
    jaeger,
    page::{Page, Place},
};

/// Lines that are shown.
const MOST: u32 = 200;

const SERVICES: [&str; 4] = ["flask-api", "payments", "loadgen", "custom-flask-exporter"];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What was typed.
#[derive(Debug)]
pub(crate) struct Search {
    service: String,
    level: String,
    words: String,
    trace: String,
    range: Range,
}

impl Default for Search {
    fn default() -> Self {
        let (range, _) = Range::read(&Pairs::new(), ("now-15m", "now"), Timestamp::now());
        Self {
            service: String::new(),
            level: String::new(),
            words: String::new(),
            trace: String::new(),
            range,
        }
    }
}

pub(crate) async fn page(console: web::Data<Console>, pairs: web::Query<Pairs>) -> HttpResponse {
    let text = |name: &str| last(&pairs, name).unwrap_or_default().trim().to_owned();
    let (range, why) = Range::read(&pairs, ("now-15m", "now"), Timestamp::now());
    let search = Search {
        service: text("service"),
        level: text("level"),
        words: text("text"),
        trace: text("trace"),
        range,
    };
    let mut mistakes: Vec<String> = why.into_iter().collect();
    let trace = match search.trace.as_str() {
        "" => String::new(),
        trace => jaeger::trace_id(trace).unwrap_or_else(|why| {
            mistakes.push(why);
            String::new()
        }),
    };
    let found = if mistakes.is_empty() {
        let wanted = Wanted {
            service: search.service.clone(),
            levels: Vec::from_iter(Some(search.level.clone()).filter(|it| !it.is_empty())),
            words: search.words.clone(),
            trace,
            from: Some(search.range.from_ms),
            to: Some(search.range.to_ms),
            most: MOST,
            ..Wanted::default()
        };
        Some(elasticsearch::search(&console.elasticsearch, &wanted).await)
    } else {
        None
    };
    let main = html! {
        h1 { "Log lines" }
        (form(&search))
        @for why in &mistakes { (mistake(why)) }
        @match found {
            None => {},
            Some(Err(trouble)) => (trouble),
            Some(Ok(found)) => {
                p.quiet role="status" {
                    (found.total) @if found.total == 1 { " line" } @else { " lines" }
                    @if found.total > found.lines.len() as u64 { "; the newest " (found.lines.len()) " are shown" } "."
                }
                section.panel.tall { (Logs { name: "Log lines".into(), lines: found.lines }.draw()) }
            },
        }
    };
    Page::new(Place::Explore, "Log lines", main)
        .wide()
        .respond()
}

/// What can be searched for.
pub(crate) fn form(search: &Search) -> Markup {
    let select = |name: &str, label: &str, all: &[&str], chosen: &str| {
        html! {
            label { (label)
                select name=(name) {
                    option value="" { "any" }
                    @for it in all { option value=(it) selected[*it == chosen] { (it) } }
                    @if !chosen.is_empty() && !all.contains(&chosen) { option value=(chosen) selected { (chosen) } }
                }
            }
        }
    };
    html! {
        form action="/explore/logs" {
            (select("service", "Service", &SERVICES, &search.service))
            (select("level", "Level", &LEVELS, &search.level))
            label { "Words" input name="text" value=(search.words) placeholder="order -info \"a phrase\" prefix*" size="24" autocomplete="off"; }
            label { "Trace id" input name="trace" value=(search.trace) size="34" autocomplete="off" spellcheck="false"; }
            (times(&search.range))
            button { "Search" }
        }
    }
}
