//! The result for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::summary::{Generator, Percentiles, Summary, Traced};

/// The result as text: counts, percentiles, what to make of them. Ends in a line break.
pub fn text(summary: &Summary) -> String {
    let mut sections = vec![counts(summary), percentiles(summary)];
    if summary.routes.len() > 1 {
        sections.push(routes(summary));
    }
    if !summary.journeys.is_empty() {
        sections.push(journeys(summary));
    }
    if !summary.errors.is_empty() {
        sections.push(errors(summary));
    }
    for (title, traces) in [
        ("slowest traces", &summary.slowest),
        ("failed traces", &summary.failures),
    ] {
        if !traces.is_empty() {
            sections.push(traced(title, traces));
        }
    }
    if !summary.thresholds.is_empty() {
        sections.push(thresholds(summary));
    }
    sections.push(verdict(summary));
    sections.join("\n\n") + "\n"
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn counts(summary: &Summary) -> String {
    let mut table = table();
    let rate = format!(
        "{} /s wanted, {} /s achieved{}",
        summary.wanted_rate,
        summary.achieved_rate,
        if summary.journeys.is_empty() {
            ""
        } else {
            " (journeys)"
        }
    );
    let length = format!(
        "{} s{}",
        summary.elapsed_seconds,
        if summary.interrupted {
            ", interrupted"
        } else {
            ""
        }
    );
    let classes: Vec<_> = summary
        .status
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(class, n)| format!("{n} x {class}"))
        .collect();
    table
        .add_row(vec!["rate".to_owned(), rate])
        .add_row(vec!["length".to_owned(), length])
        .add_row(vec!["sent".to_owned(), summary.sent.to_string()])
        .add_row(vec!["received".to_owned(), summary.received.to_string()])
        .add_row(vec!["failed".to_owned(), summary.failed.to_string()])
        .add_row(vec!["timed out".to_owned(), summary.timed_out.to_string()])
        .add_row(vec!["dropped".to_owned(), summary.dropped.to_string()])
        .add_row(vec![
            "answers".to_owned(),
            if classes.is_empty() {
                "none".to_owned()
            } else {
                classes.join(", ")
            },
        ])
        .add_row(vec!["generator".to_owned(), generator(&summary.generator)]);
    table.trim_fmt()
}

fn generator(used: &Generator) -> String {
    format!(
        "{:.0} % of a core, {:.0} MiB, {} connections, {} at a time",
        used.cpu_share * 100.0,
        used.max_rss_bytes as f64 / f64::from(1 << 20),
        used.connections,
        used.max_connections
    )
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn routes(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["routes, ms", "sent", "errors", "p50", "p99", "max"]);
    for (name, route) in &summary.routes {
        let of = &route.latency_ms;
        let mut row = vec![
            name.clone(),
            route.sent.to_string(),
            route.errors.to_string(),
        ];
        row.extend([of.p50, of.p99, of.max].map(number));
        table.add_row(row);
    }
    right(&mut table, 1..=5);
    table.trim_fmt()
}

fn thresholds(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["thresholds", "", "measured"]);
    for checked in &summary.thresholds {
        table.add_row(vec![
            checked.threshold.clone(),
            if checked.ok { "good" } else { "FAILED" }.to_owned(),
            checked
                .value
                .map_or_else(|| "nothing".to_owned(), |value| format!("{value:.6}")),
        ]);
    }
    table.trim_fmt()
}

fn right(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn percentiles(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["ms", "p50", "p90", "p99", "p99.9", "max", ""]);
    let mut row = |name: &str, of: &Percentiles, meaning: &str| {
        let numbers = [of.p50, of.p90, of.p99, of.p99_9, of.max].map(number);
        table.add_row(
            [
                vec![name.to_owned()],
                numbers.to_vec(),
                vec![meaning.to_owned()],
            ]
            .concat(),
        );
    };
    row("latency", &summary.latency_ms, "intended start to end");
    row("service", &summary.service_ms, "actual start to end");
    row("lateness", &summary.lateness_ms, "intended to actual start");
    right(&mut table, 1..=5);
    table.trim_fmt()
}

fn errors(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["failed connections", "", "the first one"]);
    for (kind, errors) in &summary.errors {
        table.add_row(vec![
            kind.clone(),
            errors.count.to_string(),
            errors.example.clone(),
        ]);
    }
    table.trim_fmt()
}

fn traced(title: &str, traces: &[Traced]) -> String {
    let mut table = table();
    table.set_header(vec![title, "ms", "", ""]);
    for traced in traces.iter().take(3) {
        table.add_row(vec![
            traced.trace_id.clone(),
            format!("{:.3}", traced.latency_ms),
            traced.request.clone(),
            traced.outcome.clone(),
        ]);
    }
    table.trim_fmt()
}

fn journeys(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["journeys", "begun", "completed", "broken off"]);
    for (name, journey) in &summary.journeys {
        let reasons = journey.broken_off.iter();
        let reasons: Vec<_> = reasons
            .map(|(why, count)| format!("{count} x {why}"))
            .collect();
        table.add_row(vec![
            name.clone(),
            journey.begun.to_string(),
            journey.completed.to_string(),
            reasons.join(", "),
        ]);
    }
    right(&mut table, 1..=2);
    table.trim_fmt()
}

fn verdict(summary: &Summary) -> String {
    match &summary.limited_because {
        Some(because) => format!("Limited by the generator: {because}."),
        None => {
            "Not limited by the generator: it was on time, had time to spare, and dropped nothing."
                .to_owned()
        }
    }
}
