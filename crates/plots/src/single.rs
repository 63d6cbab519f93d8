//! Single values: as large text with their course, as a dial, as bars.

use maud::{Markup, html};
use plotters::style::Color as _;

use crate::{
    Colour, Format, Thresholds,
    axes::{self, Plane},
};

/// More of them are a table.
const MOST_VALUES: usize = 60;

/// What is longer is written smaller where there is little room, and its neighbours with it.
const SHORT: usize = 6;

/// A value with its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Value {
    /// Of what.
    pub name: String,
    /// Nothing when there is no data.
    pub value: Option<f64>,
    /// A text instead of a number.
    pub text: Option<String>,
    /// The course it comes from, drawn behind it.
    pub course: Vec<(f64, f64)>,
}

/// What takes the colour of the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Painted {
    /// Nothing.
    Nothing,
    /// The text.
    #[default]
    Text,
    /// What is behind it.
    Background,
}

/// Values to be read from afar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Single {
    /// What they show, for those who cannot see it.
    pub name: String,
    /// The values.
    pub values: Vec<Value>,
    /// How they are written.
    pub format: Format,
    /// What colour they have.
    pub thresholds: Thresholds,
    /// What has it.
    pub painted: Painted,
    /// The lower end of dials and bars; that of the data when `None`.
    pub min: Option<f64>,
    /// The upper end.
    pub max: Option<f64>,
    /// Whether names are shown; otherwise only when there are several values.
    pub named: bool,
}

impl Single {
    fn framed(&self, each: impl Fn(&Value) -> Markup, class: &str) -> Markup {
        let is_long = |value: &Value| self.shown(value).0.chars().count() > SHORT;
        let long = self.values.iter().any(is_long);
        html! {
            figure.plot {
                @if self.values.is_empty() { p.plot-empty { (self.format.no_value.as_deref().unwrap_or("No data")) } }
                div.(class).plot-long[long] { @for it in self.values.iter().take(MOST_VALUES) { (each(it)) } }
                @if self.values.len() > MOST_VALUES {
                    p.plot-note { "The first " (MOST_VALUES) " of " (self.values.len()) " values." }
                }
            }
        }
    }

    fn shown(&self, value: &Value) -> (String, Option<Colour>) {
        if let Some(text) = &value.text {
            let (text, colour) = self.format.text(text);
            return (text, colour.or_else(|| self.thresholds.colour(0.0)));
        }
        (
            self.format.show(value.value),
            self.format.colour(value.value, &self.thresholds),
        )
    }

    fn name_of<'a>(&self, value: &'a Value) -> Option<&'a str> {
        let named = (self.named || self.values.len() > 1) && !value.name.is_empty();
        named.then_some(value.name.as_str())
    }

    /// Large text, with the course below where there is one.
    #[must_use]
    pub fn stat(&self) -> Markup {
        let each = |value: &Value| {
            let (text, colour) = self.shown(value);
            let paint = match self.painted {
                Painted::Nothing => None,
                Painted::Text => colour.map(Colour::class),
                Painted::Background => colour.map(Colour::background),
            };
            html! {
                div.plot-stat.(paint.unwrap_or_default()) {
                    @if let Some(name) = self.name_of(value) { span.plot-stat-name { (name) } }
                    strong.plot-stat-value { (text) }
                    (course(&value.course, colour.unwrap_or(Colour::Blue)))
                }
            }
        };
        self.framed(each, "plot-stats")
    }

    /// The ends of dials and bars.
    fn ends(&self) -> (f64, f64) {
        let values = self.values.iter().filter_map(|it| it.value);
        let (low, high) = values
            .filter(|it| it.is_finite())
            .fold((0.0, f64::NEG_INFINITY), |(low, high): (f64, f64), it| {
                (low.min(it), high.max(it))
            });
        let percent = [("percentunit", 1.0), ("percent", 100.0)];
        let of_unit = percent
            .iter()
            .find(|(id, _)| self.format.unit == crate::Unit::parse(id));
        let low = self.min.unwrap_or(low);
        let high = self.max.or(of_unit.map(|it| it.1)).unwrap_or(high);
        (low, if high > low { high } else { low + 1.0 })
    }

    /// A half circle for each, filled as far as the value reaches; the thresholds around it.
    #[must_use]
    pub fn gauge(&self) -> Markup {
        let (low, high) = self.ends();
        let share = |value: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let steps = self.thresholds.steps();
        let ring = steps.iter().enumerate().map(|(n, (from, colour))| {
            let to = steps.get(n + 1).map_or(1.0, |next| share(next.0));
            (share(*from), to, *colour)
        });
        let ring: Vec<_> = ring.filter(|(from, to, _)| to > from).collect();
        let each = |value: &Value| {
            let (text, colour) = self.shown(value);
            let filled = value.value.filter(|it| !it.is_nan()).map(share);
            html! {
                div.plot-gauge {
                    svg viewBox="0 0 200 112" aria-hidden="true" {
                        path.plot-dial d=(arc(0.0, 1.0, 78)) {}
                        @if let Some(filled) = filled.filter(|it| *it > 0.0) {
                            path.plot-filled.(colour.unwrap_or(Colour::Blue).class()) d=(arc(0.0, filled, 78)) {}
                        }
                        @for (from, to, colour) in &ring {
                            @if let Some(colour) = colour { path.plot-ring.(colour.class()) d=(arc(*from, *to, 95)) {} }
                        }
                    }
                    strong.plot-gauge-value.(colour.map(Colour::class).unwrap_or_default()) { (text) }
                    span.plot-gauge-ends { (self.format.unit.show(low, None)) " to " (self.format.unit.show(high, None)) }
                    @if let Some(name) = self.name_of(value) { span.plot-stat-name { (name) } }
                }
            }
        };
        self.framed(each, "plot-gauges")
    }

    /// A bar for each.
    #[must_use]
    pub fn bars(&self) -> Markup {
        let (low, high) = self.ends();
        let each = |value: &Value| {
            let (text, colour) = self.shown(value);
            let share = value
                .value
                .map_or(0.0, |it| ((it - low) / (high - low)).clamp(0.0, 1.0));
            let share = if share.is_nan() { 0.0 } else { share };
            html! {
                div.plot-bar {
                    span.plot-bar-name { (value.name) }
                    svg aria-hidden="true" {
                        rect.plot-bar-room width="100%" height="100%" rx="2" {}
                        rect.(colour.unwrap_or(Colour::Blue).class()) width=(axes::percent(share)) height="100%" rx="2" fill="currentColor" {}
                    }
                    strong.plot-number.(colour.map(Colour::class).unwrap_or_default()) { (text) }
                }
            }
        };
        self.framed(each, "plot-bars")
    }
}

/// A part of a half circle that goes from left (0) over the top to right (1).
fn arc(from: f64, to: f64, radius: u32) -> String {
    let point = |share: f64| {
        let angle = std::f64::consts::PI * (1.0 - share);
        let radius = f64::from(radius);
        (100.0 + radius * angle.cos(), 104.0 - radius * angle.sin())
    };
    let ((x1, y1), (x2, y2)) = (point(from), point(to));
    format!("M{x1:.2} {y1:.2}A{radius} {radius} 0 0 1 {x2:.2} {y2:.2}")
}

/// A course without axes.
fn course(points: &[(f64, f64)], colour: Colour) -> Markup {
    let points: Vec<_> = points
        .iter()
        .copied()
        .filter(|it| it.1.is_finite())
        .collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! {};
    };
    if points.len() < 2 {
        return html! {};
    }
    let values = points.iter().map(|it| it.1);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| {
        (low.min(it), high.max(it))
    });
    let room = (high - low) * 0.05;
    let plane = Plane::new(first.0..last.0, low - room..high + room);
    let drawing = axes::picture(&plane, |canvas| {
        let bottom = plane.values().start;
        let mut edge = points.clone();
        edge.extend([(last.0, bottom), (first.0, bottom)]);
        canvas.fill(&edge, colour.rgb().mix(0.15));
        canvas.line(&points, colour.rgb().stroke_width(1));
    });
    axes::stretched(&drawing, "plot-course")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mapping, Unit, Values};

    fn of(values: &[Option<f64>]) -> Single {
        Single {
            name: "Availability".into(),
            values: values
                .iter()
                .map(|&value| Value {
                    name: "api".into(),
                    value,
                    ..Value::default()
                })
                .collect(),
            format: Format {
                unit: Unit::parse("percentunit"),
                ..Format::default()
            },
            thresholds: Thresholds::new(vec![
                (f64::NEG_INFINITY, Some(Colour::Red)),
                (0.99, Some(Colour::Green)),
            ]),
            ..Single::default()
        }
    }

    #[test]
    fn a_value_has_its_unit_and_the_colour_of_its_threshold() {
        let html = of(&[Some(0.995)]).stat().into_string();
        assert!(html.contains("<div class=\"plot-stat ink-green\"><strong class=\"plot-stat-value\">99.5%</strong>"), "{html}");
        let html = of(&[Some(0.5)]).stat().into_string();
        assert!(html.contains("ink-red") && html.contains("50%"), "{html}");
        let mut painted = of(&[Some(0.5)]);
        painted.painted = Painted::Background;
        assert!(painted.stat().into_string().contains("back-red"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        for html in [of(&[]).stat(), of(&[]).gauge(), of(&[]).bars()] {
            assert!(html.into_string().contains("No data"));
        }
        for value in [None, Some(f64::NAN), Some(f64::INFINITY), Some(1e308)] {
            for html in [
                of(&[value]).stat(),
                of(&[value]).gauge(),
                of(&[value]).bars(),
            ] {
                let html = html.into_string();
                assert!(
                    !html.contains("NaN%") && !html.contains("A78 78 0 0 1 NaN"),
                    "{html}"
                );
            }
        }
        assert!(of(&[None]).stat().into_string().contains("no data"));
    }

    #[test]
    fn words_stand_for_values_and_texts() {
        let mut plot = of(&[Some(0.0)]);
        plot.format.mappings = vec![Mapping {
            of: Values::Is(0.0),
            text: Some("Down <b>".into()),
            colour: Some(Colour::Orange),
        }];
        let html = plot.stat().into_string();
        assert!(
            html.contains("Down &lt;b&gt;") && html.contains("ink-orange"),
            "{html}"
        );
        plot.values[0].text = Some("2.42.0<script>".into());
        assert!(plot.stat().into_string().contains("2.42.0&lt;script&gt;"));
    }

    #[test]
    fn a_dial_is_filled_as_far_as_the_value_reaches() {
        let html = of(&[Some(0.5)]).gauge().into_string();
        assert!(
            html.contains("d=\"M22.00 104.00A78 78 0 0 1 100.00 26.00\""),
            "{html}"
        );
        assert!(html.contains("0% to 100%"), "{html}");
        let html = of(&[Some(7.0)]).gauge().into_string();
        assert_eq!(
            html.matches("A78 78 0 0 1 178.00 104.00").count(),
            2,
            "{html}"
        );
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let mut plot = of(&[Some(1.0), Some(4.0), None]);
        plot.format.unit = Unit::parse("short");
        let html = plot.bars().into_string();
        for width in ["25%", "100%", "0%"] {
            assert!(html.contains(&format!("width=\"{width}\"")), "{html}");
        }
    }

    #[test]
    fn a_course_is_drawn_where_there_is_one() {
        let mut plot = of(&[Some(1.0)]);
        assert!(!plot.stat().into_string().contains("<svg"));
        plot.values[0].course = vec![(0.0, 1.0)];
        assert!(!plot.stat().into_string().contains("<svg"));
        plot.values[0].course = vec![(0.0, 1.0), (1.0, 1.0), (2.0, f64::NAN)];
        assert!(plot.stat().into_string().contains("<polyline"));
    }

    #[test]
    fn values_are_bounded() {
        let html = of(&[Some(1.0); 300]).stat().into_string();
        assert!(html.contains("The first 60 of 300 values"));
    }
}
