//! Tables.

use maud::{Markup, html};

use crate::{Colour, Format, Painted, Thresholds, axes};

/// More rows are not read by anybody.
const MOST_ROWS: usize = 200;

/// What one column has in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// How its numbers are written.
    pub format: Format,
    /// What colour they have.
    pub thresholds: Thresholds,
    /// What has it.
    pub painted: Painted,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A time, in seconds since 1970.
    Time(f64),
    /// A text that leads somewhere.
    Link {
        /// Where.
        href: String,
        /// The text.
        text: String,
    },
}

/// Rows of columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows.
    pub name: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; what a short one lacks is empty.
    pub rows: Vec<Vec<Cell>>,
    /// What to say when there is none.
    pub empty: Option<String>,
}

impl Table {
    /// The table, of bounded length.
    #[must_use]
    pub fn draw(&self) -> Markup {
        html! {
            figure.plot {
                @if self.rows.is_empty() {
                    p.plot-empty { (self.empty.as_deref().unwrap_or("No data")) }
                } @else {
                    div.plot-scroll tabindex="0" role="group" aria-label=(self.name) {
                        table.plot-table {
                            thead { tr { @for column in &self.columns { th scope="col" { (column.name) } } } }
                            tbody {
                                @for row in self.rows.iter().take(MOST_ROWS) {
                                    tr { @for (at, column) in self.columns.iter().enumerate() { (cell(row.get(at).unwrap_or(&Cell::Empty), column)) } }
                                }
                            }
                        }
                    }
                }
                @if self.rows.len() > MOST_ROWS { p.plot-note { "The first " (MOST_ROWS) " of " (self.rows.len()) " rows." } }
            }
        }
    }
}

fn cell(cell: &Cell, column: &Column) -> Markup {
    let class = |colour: Option<Colour>| match (colour, column.painted) {
        (Some(colour), Painted::Text) => Some(colour.class()),
        (Some(colour), Painted::Background) => Some(colour.background()),
        _ => None,
    };
    match cell {
        Cell::Empty => html! { td {} },
        Cell::Number(value) => {
            let colour = column.format.colour(Some(*value), &column.thresholds);
            html! { td.plot-number.(class(colour).unwrap_or_default()) { (column.format.show(Some(*value))) } }
        }
        Cell::Text(text) => {
            let (text, colour) = column.format.text(text);
            html! { td class=[class(colour)] { (text) } }
        }
        Cell::Time(at) => {
            let at = axes::moment(*at).map(|at| at.strftime("%F %T").to_string());
            html! { td.plot-number { (at.unwrap_or_default()) } }
        }
        Cell::Link { href, text } => html! { td { a href=(href) { (text) } } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: Vec<Vec<Cell>>) -> String {
        let column = |name: &str| Column {
            name: name.into(),
            thresholds: Thresholds::new(vec![(1.0, Some(Colour::Red))]),
            ..Column::default()
        };
        let table = Table {
            name: "Targets".into(),
            columns: vec![column("job"), column("up")],
            rows,
            empty: None,
        };
        table.draw().into_string()
    }

    #[test]
    fn cells_are_written_by_what_they_are() {
        let link = Cell::Link {
            href: "/explore/trace/1?a=1&b=\"".into(),
            text: "1".into(),
        };
        let html = of(vec![
            vec![Cell::Text("flask-api<br>".into()), Cell::Number(1.0)],
            vec![Cell::Time(1_700_000_000.0), Cell::Number(f64::NAN)],
            vec![link],
        ]);
        for part in [
            "<td>flask-api&lt;br&gt;</td>",
            "<td class=\"plot-number ink-red\">1</td>",
            "2023-11-14 22:13:20",
            "NaN",
            "href=\"/explore/trace/1?a=1&amp;b=&quot;\"",
            "<td></td>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }

    #[test]
    fn none_and_too_many_rows_are_said() {
        assert!(of(Vec::new()).contains("No data"));
        let html = of(vec![vec![Cell::Number(0.0)]; 1000]);
        assert!(html.contains("The first 200 of 1000 rows"));
        assert_eq!(html.matches("<tr>").count(), 201);
    }
}
