//! A PromQL query, with its course and its values.

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use maud::{Markup, html};
use plots::{Calc, Cell, Column, Format, Legend, Table, TimeSeries, Unit};

use super::{forms, mistake, times};
use crate::{
    Console,
    choice::{Pairs, Range, last},
    page::{Page, Place},
    prometheus::{Labels, Sample, Series},
};

/// Points of a picture.
const POINTS: f64 = 240.0;

pub(crate) async fn page(console: web::Data<Console>, pairs: web::Query<Pairs>) -> HttpResponse {
    let query = last(&pairs, "query").unwrap_or_default().trim();
    let (range, why) = Range::read(&pairs, ("now-15m", "now"), Timestamp::now());
    let answer = if query.is_empty() {
        html! {}
    } else {
        answer(&console, query, &range).await
    };
    let main = html! {
        h1 { "Ask Prometheus" }
        form action="/explore/metrics" {
            label.grow { "PromQL" input name="query" value=(query) required autocomplete="off" spellcheck="false"; }
            (times(&range))
            button { "Ask" }
        }
        @if let Some(why) = why { (mistake(&why)) }
        (answer)
        @if query.is_empty() { (forms("", "")) }
    };
    Page::new(Place::Explore, "Ask Prometheus", main)
        .wide()
        .respond()
}

/// Where a query is asked.
pub(crate) fn link(query: &str) -> String {
    let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
    format!("/explore/metrics?query={query}")
}

async fn answer(console: &Console, query: &str, range: &Range) -> Markup {
    let std::ops::Range { start, end } = range.seconds();
    let step = ((end - start) / POINTS).ceil().max(1.0);
    let (courses, values) = futures::join!(
        console.prometheus.range(query, start, end, step),
        console.prometheus.instant(query, Some(end))
    );
    html! {
        @match (&courses, &values) {
            // A text and a range of samples have no course: Prometheus says so.
            (Err(trouble), values) => {
                (trouble)
                @if let Ok(values) = values && !values.is_empty() { (table(values)) }
            },
            (Ok(courses), _) => {
                section.panel.tall { (plot(query, range, courses, step)) }
                h2 { "Values at the end" }
                @match &values {
                    Ok(values) => (table(values)),
                    Err(trouble) => (trouble),
                }
            },
        }
    }
}

fn plot(query: &str, range: &Range, courses: &[Series], step: f64) -> Markup {
    let series = courses.iter().map(|it| plots::Series {
        name: written(&it.labels),
        points: it.points.clone(),
        ..plots::Series::default()
    });
    let plot = TimeSeries {
        name: query.into(),
        times: range.seconds(),
        series: series.collect(),
        format: Format {
            unit: Unit::parse("short"),
            ..Format::default()
        },
        gap: Some(step * 1.5),
        legend: Legend::Table(vec![Calc::Min, Calc::Mean, Calc::Max, Calc::Last]),
        ..TimeSeries::default()
    };
    plot.draw()
}

fn table(values: &[Sample]) -> Markup {
    let column = |name: &str| Column {
        name: name.into(),
        ..Column::default()
    };
    let rows = values.iter().map(|it| {
        // In full, as Prometheus has it.
        vec![
            Cell::Text(written(&it.labels)),
            Cell::Text(it.value.to_string()),
        ]
    });
    let table = Table {
        name: "Values at the end".into(),
        columns: vec![column("Series"), column("Value")],
        rows: rows.collect(),
        empty: Some("No series matches at the end of the range".into()),
    };
    table.draw()
}

/// A series as Prometheus writes it: `name{label="value"}`.
pub(crate) fn written(labels: &Labels) -> String {
    let name = labels.get("__name__").map_or("", String::as_str);
    let rest = labels.iter().filter(|(label, _)| *label != "__name__");
    let rest: Vec<String> = rest
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    match (name, rest.is_empty()) {
        (name, true) if !name.is_empty() => name.to_owned(),
        (_, _) => format!("{name}{{{}}}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_as_prometheus_writes_them() {
        let of = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            written(&labels.collect())
        };
        assert_eq!(
            of(&[("__name__", "up"), ("job", "a\"b")]),
            r#"up{job="a\"b"}"#
        );
        assert_eq!(of(&[("__name__", "up")]), "up");
        assert_eq!(of(&[("job", "x")]), r#"{job="x"}"#);
        assert_eq!(of(&[]), "{}");
    }

    #[test]
    fn a_query_survives_its_address() {
        assert_eq!(
            link("a{b=\"c\"}&d"),
            "/explore/metrics?query=a%7Bb%3D%22c%22%7D%26d"
        );
    }
}
