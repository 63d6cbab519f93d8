//! A trace: which call waited for which, and for how long.

use std::collections::{BTreeMap, HashMap, HashSet};

use maud::{Markup, html};

use crate::{Colour, Unit, axes};

/// More spans are not read by anybody.
const MOST_SPANS: usize = 500;

/// Deeper calls are not moved further to the right.
const DEEPEST: usize = 12;

/// One span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    /// Its id.
    pub id: String,
    /// Whose part it is.
    pub parent: Option<String>,
    /// Who did it.
    pub service: String,
    /// What.
    pub operation: String,
    /// When it began, in seconds since 1970.
    pub start: f64,
    /// Seconds it took.
    pub duration: f64,
    /// Whether it failed.
    pub failed: bool,
    /// All that is known besides.
    pub attributes: Vec<(String, String)>,
    /// What happened meanwhile: seconds since 1970 and text.
    pub events: Vec<(f64, String)>,
}

/// The spans of one trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waterfall {
    /// What it shows, for those who cannot see it.
    pub name: String,
    /// The spans, in any order.
    pub spans: Vec<Span>,
}

impl Waterfall {
    /// A row a span, below the one it is a part of.
    #[must_use]
    pub fn draw(&self) -> Markup {
        let ordered = self.ordered();
        let start = self
            .spans
            .iter()
            .map(|it| it.start)
            .fold(f64::INFINITY, f64::min);
        let end = self
            .spans
            .iter()
            .map(|it| it.start + it.duration)
            .fold(f64::NEG_INFINITY, f64::max);
        let length = if end > start { end - start } else { 1e-6 };
        let share = |at: f64| ((at - start) / length).clamp(0.0, 1.0).max(0.0);
        let services = self.services();
        let ids: HashSet<&str> = self.spans.iter().map(|it| it.id.as_str()).collect();
        let orphans = self.spans.iter().filter(|it| {
            it.parent
                .as_deref()
                .is_some_and(|parent| !ids.contains(parent))
        });
        let orphans = orphans.count();
        let time = Unit::parse("s");
        html! {
            figure.plot {
                ul.plot-services {
                    @for (service, colour) in &services { li { span.(colour.class()) aria-hidden="true" { "■ " } (service) } }
                }
                @if orphans > 0 { p.plot-note { (orphans) " of the spans name a parent that is not there: it was not sampled, got lost, or is still on its way." } }
                ol.plot-waterfall aria-label=(self.name) {
                    @for (depth, span) in ordered.iter().take(MOST_SPANS) {
                        @let colour = services.get(span.service.as_str()).copied().unwrap_or(Colour::Grey);
                        li {
                            details {
                                summary.{ "depth-" ((*depth).min(DEEPEST)) } {
                                    span.plot-span-name { @if span.failed { strong.ink-red { "failed " } } (span.service) " " em { (span.operation) } }
                                    svg.plot-span-bar aria-hidden="true" {
                                        rect.plot-bar-room width="100%" height="100%" {}
                                        rect.(colour.class()) x=(axes::percent(share(span.start))) width=(axes::percent(share(span.start + span.duration) - share(span.start))) height="100%" fill="currentColor" {}
                                        @for (at, _) in &span.events { rect.plot-span-event x=(axes::percent(share(*at))) width="2" height="100%" {} }
                                    }
                                    span.plot-number { (time.show(span.duration, None)) }
                                }
                                dl {
                                    div { dt { "begins after" } dd { (time.show((span.start - start).max(0.0), None)) } }
                                    div { dt { "span" } dd { (span.id) } }
                                    @for (at, text) in &span.events { div { dt { "event after " (time.show((at - start).max(0.0), None)) } dd { (text) } } }
                                    @for (name, value) in &span.attributes { div { dt { (name) } dd { (value) } } }
                                }
                            }
                        }
                    }
                }
                @if ordered.len() > MOST_SPANS { p.plot-note { "The first " (MOST_SPANS) " of " (ordered.len()) " spans." } }
            }
        }
    }

    /// A colour for each, in the order of their first call.
    fn services(&self) -> BTreeMap<&str, Colour> {
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by(|one, other| one.start.total_cmp(&other.start));
        let mut services = BTreeMap::new();
        for span in spans {
            let next = Colour::of_series(services.len());
            services.entry(span.service.as_str()).or_insert(next);
        }
        services
    }

    /// Parents before children, which are in the order of time. Each span once, even where ids repeat or form a circle.
    fn ordered(&self) -> Vec<(usize, &Span)> {
        let ids: HashSet<&str> = self.spans.iter().map(|it| it.id.as_str()).collect();
        let mut children: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
        for (at, span) in self.spans.iter().enumerate() {
            let parent = span.parent.as_deref().filter(|it| ids.contains(it));
            children.entry(parent).or_default().push(at);
        }
        for children in children.values_mut() {
            // The earliest is taken from the end.
            children
                .sort_by(|&one, &other| self.spans[other].start.total_cmp(&self.spans[one].start));
        }
        let mut seen = vec![false; self.spans.len()];
        let mut ordered = Vec::with_capacity(self.spans.len());
        let roots = children.get(&None).cloned().unwrap_or_default();
        let mut rest: Vec<(usize, usize)> = (0..self.spans.len()).rev().map(|at| (0, at)).collect();
        rest.extend(roots.into_iter().map(|at| (0, at)));
        while let Some((depth, at)) = rest.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let span = &self.spans[at];
            ordered.push((depth, span));
            let below = children.get(&Some(span.id.as_str())).into_iter().flatten();
            rest.extend(below.map(|&at| (depth + 1, at)));
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, start: f64, duration: f64) -> Span {
        Span {
            id: id.into(),
            parent: parent.map(Into::into),
            service: format!("service {id}"),
            operation: "GET".into(),
            start,
            duration,
            ..Span::default()
        }
    }

    fn order(spans: Vec<Span>) -> Vec<(usize, String)> {
        let name = String::new();
        let trace = Waterfall { name, spans };
        let ordered = trace.ordered().into_iter();
        ordered.map(|(depth, it)| (depth, it.id.clone())).collect()
    }

    #[test]
    fn children_follow_their_parent_in_the_order_of_time() {
        let spans = vec![
            span("late", Some("root"), 0.5, 0.1),
            span("grandchild", Some("early"), 0.2, 0.1),
            span("root", None, 0.0, 1.0),
            span("early", Some("root"), 0.1, 0.3),
        ];
        let expected = [(0, "root"), (1, "early"), (2, "grandchild"), (1, "late")];
        assert_eq!(order(spans), expected.map(|(depth, id)| (depth, id.into())));
    }

    #[test]
    fn every_span_is_there_once_whatever_its_parent() {
        let spans = vec![
            span("a", Some("b"), 0.0, 1.0),
            span("b", Some("a"), 0.0, 1.0),
            span("self", Some("self"), 0.0, 1.0),
            span("orphan", Some("gone"), 0.0, 1.0),
            span("twice", None, 0.0, 1.0),
            span("twice", None, 0.0, 1.0),
        ];
        let mut ids: Vec<String> = order(spans).into_iter().map(|it| it.1).collect();
        ids.sort();
        assert_eq!(ids, ["a", "b", "orphan", "self", "twice", "twice"]);
    }

    #[test]
    fn a_bar_is_where_and_as_long_as_its_span() {
        let trace = Waterfall {
            name: "trace".into(),
            spans: vec![
                span("root", None, 10.0, 2.0),
                span("child", Some("root"), 10.5, 1.0),
            ],
        };
        let html = trace.draw().into_string();
        assert!(html.contains("x=\"0%\" width=\"100%\""), "{html}");
        assert!(html.contains("x=\"25%\" width=\"50%\""), "{html}");
        assert!(
            html.contains("500 ms") && html.contains("depth-1"),
            "{html}"
        );
    }

    #[test]
    fn what_spans_say_is_text_and_orphans_are_told() {
        let hostile = "</li><script>alert(1)</script>";
        let mut bad = span(hostile, Some(hostile), f64::NAN, f64::INFINITY);
        bad.operation = hostile.into();
        bad.attributes = vec![(hostile.into(), hostile.into())];
        bad.events = vec![(0.0, hostile.into())];
        bad.failed = true;
        let spans = vec![bad, span("orphan", Some("gone"), 0.0, 1.0)];
        let name = hostile.into();
        let html = Waterfall { name, spans }.draw().into_string();
        assert!(
            !html.contains("<script>") && !html.contains("NaN%"),
            "{html}"
        );
        assert!(html.contains("1 of the spans name a parent"), "{html}");
        assert!(html.contains("failed"), "{html}");
    }

    #[test]
    fn spans_are_bounded() {
        let spans = (0..2000).map(|n| span(&n.to_string(), None, f64::from(n), 1.0));
        let spans = spans.collect();
        let html = Waterfall {
            name: String::new(),
            spans,
        }
        .draw()
        .into_string();
        assert!(html.contains("The first 500 of 2000 spans"));
        assert_eq!(html.matches("<summary").count(), 500);
    }
}
