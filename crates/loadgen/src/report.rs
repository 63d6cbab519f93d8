//! The result for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::summary::{Percentiles, Summary};

/// The result as text: counts, percentiles, what to make of them. Ends in a line break.
pub fn text(summary: &Summary) -> String {
    let mut sections = vec![counts(summary), percentiles(summary)];
    if !summary.errors.is_empty() {
        sections.push(errors(summary));
    }
    if !summary.slowest.is_empty() {
        sections.push(slowest(summary));
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
        "{} /s wanted, {} /s achieved",
        summary.wanted_rate, summary.achieved_rate
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
        ]);
    table.trim_fmt()
}

fn percentiles(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["ms", "p50", "p90", "p99", "p99.9", "max", ""]);
    let mut row = |name: &str, of: &Percentiles, meaning: &str| {
        let number = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
        };
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
    for column in 1..=5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
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

fn slowest(summary: &Summary) -> String {
    let mut table = table();
    table.set_header(vec!["slowest traces", "ms", "", ""]);
    for slow in summary.slowest.iter().take(3) {
        table.add_row(vec![
            slow.trace_id.clone(),
            format!("{:.3}", slow.latency_ms),
            slow.request.clone(),
            slow.outcome.clone(),
        ]);
    }
    table.trim_fmt()
}

fn verdict(summary: &Summary) -> String {
    match &summary.limited_because {
        Some(because) => format!("Limited by the generator: {because}."),
        None => "Not limited by the generator: it was on time, and dropped nothing.".to_owned(),
    }
}
