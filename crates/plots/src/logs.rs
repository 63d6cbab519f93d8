//! Log lines.

use maud::{Markup, html};

use crate::Colour;

/// Longer messages are cut; their whole text is in the fields.
const LONGEST: usize = 400;

/// One line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    /// When, as it is written.
    pub at: String,
    /// How bad.
    pub level: String,
    /// Who says it.
    pub service: String,
    /// What.
    pub message: String,
    /// The trace it belongs to, and the page of it.
    pub trace: Option<(String, String)>,
    /// All that is known besides.
    pub fields: Vec<(String, String)>,
}

/// Log lines, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logs {
    /// What they are.
    pub name: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Logs {
    /// The lines, each with its fields folded away.
    #[must_use]
    pub fn draw(&self) -> Markup {
        html! {
            figure.plot {
                @if self.lines.is_empty() {
                    p.plot-empty { "No log line" }
                } @else {
                    div.plot-scroll tabindex="0" role="group" aria-label=(self.name) {
                        ol.plot-lines {
                            @for line in &self.lines { (one(line)) }
                        }
                    }
                }
            }
        }
    }
}

fn one(line: &Line) -> Markup {
    let colour = match line.level.to_ascii_lowercase().as_str() {
        "error" | "fatal" | "critical" => Colour::Red,
        "warn" | "warning" => Colour::Orange,
        "info" => Colour::Blue,
        _ => Colour::Grey,
    };
    let message: String = line.message.chars().take(LONGEST).collect();
    let cut = message.len() < line.message.len();
    html! {
        li {
            details {
                summary {
                    time { (line.at) } " "
                    span.plot-level.(colour.class()) { (line.level) } " "
                    span.plot-service { (line.service) } " "
                    span.plot-message { (message) @if cut { "…" } }
                }
                dl {
                    @for (name, value) in &line.fields { div { dt { (name) } dd { (value) } } }
                }
            }
            @if let Some((id, href)) = &line.trace {
                a.plot-trace href=(href) title={ "trace " (id) } { "trace" span.plot-hidden { " " (id) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_whatever_it_says() {
        let hostile = "\u{1b}[31m</summary><script>alert(1)</script>";
        let logs = Logs {
            name: hostile.into(),
            lines: vec![Line {
                at: hostile.into(),
                level: "error".into(),
                service: hostile.into(),
                message: hostile.repeat(100),
                trace: Some((hostile.into(), format!("/explore/trace/{hostile}"))),
                fields: vec![(hostile.into(), hostile.into())],
            }],
        };
        let html = logs.draw().into_string();
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("ink-red") && html.contains("…"), "{html}");
    }

    #[test]
    fn no_line_is_said_to_be_none() {
        assert!(Logs::default().draw().into_string().contains("No log line"));
    }
}
