//! Courses over time: lines, areas, stacks; with thresholds, annotations, exemplars and a legend.

use std::{collections::BTreeMap, ops::Range};

use maud::{Markup, html};
use plotters::style::Color as _;

use crate::{
    Calc, Colour, Format, Thresholds,
    axes::{self, Plane, Tick},
};

/// How many series are drawn: more are a carpet, and a page that no browser opens.
pub const MOST_SERIES: usize = 60;

/// Longer names are cut.
const LONGEST_NAME: usize = 160;

/// One course.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// As in the legend.
    pub name: String,
    /// Times in seconds since 1970, rising, with their values; what is no number is a gap.
    pub points: Vec<(f64, f64)>,
    /// A colour other than the next free one.
    pub colour: Option<Colour>,
    /// Dashes in place of a line.
    pub dashed: bool,
    /// Measured by the axis on the right.
    pub right: bool,
}

/// An axis of its own, for what is not comparable with the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// How its values are written.
    pub format: Format,
    /// Its lower end.
    pub min: Option<f64>,
    /// Its upper end.
    pub max: Option<f64>,
}

/// Whether series are put on top of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stacking {
    /// Each for itself.
    #[default]
    Off,
    /// Their sum is the upper edge.
    Sum,
    /// Their shares of the sum.
    Share,
}

/// What stands below the picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Legend {
    /// Nothing.
    Hidden,
    /// Names and newest values.
    #[default]
    List,
    /// A table of these numbers.
    Table(Vec<Calc>),
}

/// One request that was measured, with the page of its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Seconds since 1970.
    pub at: f64,
    /// What was measured.
    pub value: f64,
    /// Where a click leads.
    pub href: String,
    /// What it is.
    pub label: String,
}

/// Something that happened, or went on for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// Seconds since 1970.
    pub from: f64,
    /// Seconds since 1970; as `from` for a moment.
    pub to: f64,
    /// What it was.
    pub text: String,
    /// Its colour.
    pub colour: Colour,
}

/// A picture of courses over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimeSeries {
    /// What it shows, for those who cannot see it.
    pub name: String,
    /// From when to when, in seconds since 1970.
    pub times: Range<f64>,
    /// The courses.
    pub series: Vec<Series>,
    /// How values are written.
    pub format: Format,
    /// The lower end of the axis, where it is not that of the data.
    pub min: Option<f64>,
    /// Its upper end.
    pub max: Option<f64>,
    /// Drawn as lines with what lies beyond.
    pub thresholds: Thresholds,
    /// How much of the area below a line is filled: 0 to 1.
    pub fill: f64,
    /// On top of each other or not.
    pub stacking: Stacking,
    /// Dots instead of lines.
    pub points_only: bool,
    /// Bars instead of lines.
    pub bars: bool,
    /// Longer silence is a gap; `None` joins whatever is far apart.
    pub gap: Option<f64>,
    /// Requests to click on.
    pub exemplars: Vec<Exemplar>,
    /// What happened meanwhile.
    pub annotations: Vec<Annotation>,
    /// Below the picture.
    pub legend: Legend,
    /// The axis on the right.
    pub right: Axis,
}

/// One series as it is drawn: lower edge, value and upper edge at each time, in pieces without gap.
struct Drawn {
    colour: Colour,
    dashed: bool,
    right: bool,
    pieces: Vec<Vec<(f64, f64, f64)>>,
}

impl TimeSeries {
    /// Picture, note and legend.
    #[must_use]
    pub fn draw(&self) -> Markup {
        let shown = self.shown();
        let total = self.series.len();
        html! {
            figure.plot {
                @if shown.iter().all(|(_, series)| Calc::Last.of(&series.points).is_none()) {
                    p.plot-empty { (self.format.no_value.as_deref().unwrap_or("No data")) }
                } @else {
                    (self.picture(&shown))
                }
                @if shown.len() < total {
                    p.plot-note { "The " (shown.len()) " of " (total) " series with the largest mean; narrow the query to see the others." }
                }
                (self.legend(&shown))
            }
        }
    }

    /// Those that are drawn, with their colours.
    fn shown(&self) -> Vec<(Colour, &Series)> {
        let mut chosen: Vec<usize> = (0..self.series.len()).collect();
        if chosen.len() > MOST_SERIES {
            let mean = |it: &usize| Calc::Mean.of(&self.series[*it].points).unwrap_or(f64::MIN);
            chosen.sort_by(|one, other| mean(other).total_cmp(&mean(one)));
            chosen.truncate(MOST_SERIES);
            chosen.sort_unstable();
        }
        let coloured = chosen.iter().enumerate().map(|(place, &it)| {
            let series = &self.series[it];
            (
                series.colour.unwrap_or_else(|| Colour::of_series(place)),
                series,
            )
        });
        coloured.collect()
    }

    fn drawn(&self, shown: &[(Colour, &Series)]) -> Vec<Drawn> {
        let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        let key = |at: f64| (at * 1000.0) as i64;
        let mut totals: BTreeMap<i64, f64> = BTreeMap::new();
        if self.stacking == Stacking::Share {
            for (at, value) in shown.iter().flat_map(|(_, series)| &series.points) {
                if value.is_finite() {
                    *totals.entry(key(*at)).or_default() += value.max(0.0);
                }
            }
        }
        let drawn = shown.iter().map(|(colour, series)| {
            let mut pieces = vec![Vec::new()];
            let mut before = None;
            for &(at, value) in &series.points {
                let apart = before.is_some_and(|it| self.gap.is_some_and(|gap| at - it > gap));
                if (apart || !value.is_finite()) && pieces.last().is_some_and(|it| !it.is_empty()) {
                    pieces.push(Vec::new());
                }
                if !value.is_finite() {
                    continue;
                }
                before = Some(at);
                let (low, high) = match self.stacking {
                    Stacking::Off => (0.0, value),
                    _ if series.right => (0.0, value),
                    stacking => {
                        let value = match totals.get(&key(at)) {
                            Some(total) if stacking == Stacking::Share && *total > 0.0 => {
                                value.max(0.0) / total
                            }
                            _ => value,
                        };
                        let sum = sums.entry(key(at)).or_default();
                        let low = *sum;
                        *sum += value;
                        (low, *sum)
                    }
                };
                if let Some(piece) = pieces.last_mut() {
                    piece.push((at, low, high));
                }
            }
            pieces.retain(|piece| !piece.is_empty());
            Drawn {
                colour: *colour,
                dashed: series.dashed,
                right: series.right,
                pieces,
            }
        });
        drawn.collect()
    }

    /// What is seen by the axis on the left, or by that on the right.
    fn plane(&self, drawn: &[Drawn], right: bool) -> Plane {
        let (min, max) = match right {
            false => (self.min, self.max),
            true => (self.right.min, self.right.max),
        };
        let drawn = drawn.iter().filter(|it| it.right == right);
        let points = drawn.flat_map(|it| it.pieces.iter().flatten());
        let seen = points.map(|it| it.2);
        let exemplars = self.exemplars.iter().filter(|_| !right).map(|it| it.value);
        let seen = seen.chain(exemplars.filter(|it| it.is_finite()));
        let (mut low, mut high) = seen
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| {
                (low.min(it), high.max(it))
            });
        // Bars, stacks and what is near zero anyway start at zero: a small change must not look large.
        let from_zero = self.bars || self.stacking != Stacking::Off;
        if low > 0.0 && (from_zero || low < high * 0.5 || low == high) {
            low = 0.0;
        }
        if high < 0.0 && from_zero {
            high = 0.0;
        }
        let room = (high - low) * 0.05;
        let low_end = if low == 0.0 { 0.0 } else { low - room };
        let (low, high) = (min.unwrap_or(low_end), max.unwrap_or(high + room));
        let high = if high > low {
            high
        } else {
            low + low.abs().max(1.0)
        };
        Plane::new(self.times.clone(), low..high)
    }

    fn picture(&self, shown: &[(Colour, &Series)]) -> Markup {
        let mut drawn = self.drawn(shown);
        let plane = self.plane(&drawn, false);
        let values = marks(&plane, &self.format);
        let right = drawn
            .iter()
            .any(|it| it.right)
            .then(|| self.plane(&drawn, true));
        if let Some(right) = &right {
            // One drawing has one scale: what the other axis measures is put where it is by that one.
            let (low, high) = (plane.values().start, plane.values().end);
            let place = |it: f64| low + right.share(0.0, it).1 * (high - low);
            let points = drawn
                .iter_mut()
                .filter(|it| it.right)
                .flat_map(|it| it.pieces.iter_mut().flatten());
            for (_, from, to) in points {
                (*from, *to) = (place(*from), place(*to));
            }
        }
        let right = right.map_or_else(Vec::new, |it| marks(&it, &self.right.format));
        let times = plane.time_ticks();
        let drawing = axes::picture(&plane, |canvas| {
            axes::grid(canvas, &values, &times);
            for it in &self.annotations {
                // A line where it begins and a band above while it lasts: a whole picture in red would hide what is in it.
                let (low, high) = (plane.values().start, plane.values().end);
                let style = it.colour.rgb().mix(0.7);
                if it.to > it.from {
                    let band = high - (high - low) * 0.03;
                    canvas.rectangle((it.from, band), (it.to, high), style.filled());
                }
                if it.from > self.times.start {
                    canvas.line(&[(it.from, low), (it.from, high)], style.stroke_width(1));
                }
            }
            let bar = self
                .gap
                .unwrap_or_else(|| (self.times.end - self.times.start) / 100.0)
                * 0.4;
            for it in drawn.iter().rev() {
                let fill = if self.bars {
                    self.fill.max(0.6)
                } else {
                    self.fill
                };
                for piece in &it.pieces {
                    if self.bars {
                        for &(at, low, high) in piece {
                            let style = it.colour.rgb().mix(fill).filled();
                            canvas.rectangle((at - bar / 2.0, low), (at + bar / 2.0, high), style);
                        }
                    } else if fill > 0.0 && piece.len() > 1 && !self.points_only {
                        let up = piece.iter().map(|&(at, _, high)| (at, high));
                        let down = piece.iter().rev().map(|&(at, low, _)| (at, low));
                        let edge: Vec<_> = up.chain(down).collect();
                        canvas.fill(&edge, it.colour.rgb().mix(fill.min(1.0)));
                    }
                }
            }
            for (value, colour) in self.thresholds.lines() {
                if let Some(colour) = colour {
                    let ends = [(self.times.start, value), (self.times.end, value)];
                    canvas.dashes(&ends, colour.rgb().stroke_width(1));
                }
            }
            for it in drawn.iter().filter(|_| !self.bars) {
                let style = it.colour.rgb().stroke_width(2);
                for piece in &it.pieces {
                    let line: Vec<_> = piece.iter().map(|&(at, _, high)| (at, high)).collect();
                    if self.points_only {
                        for point in line {
                            canvas.line(&[point], it.colour.rgb().stroke_width(4));
                        }
                    } else if let [only] = line[..] {
                        canvas.line(&[only], it.colour.rgb().stroke_width(5));
                    } else if it.dashed {
                        canvas.dashes(&line, style);
                    } else {
                        canvas.line(&line, style);
                    }
                }
            }
        });
        let links = points(&plane, self.exemplars.iter().map(|it| (it, it.value)));
        axes::framed(
            &self.alternative(shown),
            &drawing,
            [&values, &right],
            &times,
            &links,
        )
    }

    fn format_of(&self, series: &Series) -> &Format {
        if series.right {
            &self.right.format
        } else {
            &self.format
        }
    }

    /// What somebody hears who cannot see the picture: the newest values. All of them are in the legend.
    fn alternative(&self, shown: &[(Colour, &Series)]) -> String {
        const TOLD: usize = 5;
        let told: Vec<String> = shown
            .iter()
            .take(TOLD)
            .map(|(_, series)| {
                let last = self.format_of(series).show(Calc::Last.of(&series.points));
                format!("{} {last}", cut(&series.name))
            })
            .collect();
        let more = match self.series.len() {
            all if all > TOLD => format!(" and {} more", all - TOLD),
            _ => String::new(),
        };
        let (from, to) = (clock(self.times.start), clock(self.times.end));
        let (name, told) = (&self.name, told.join(", "));
        format!("{name}, {from} to {to}. Newest: {told}{more}.")
    }

    fn legend(&self, shown: &[(Colour, &Series)]) -> Markup {
        let value = |calc: Calc, series: &Series| match calc {
            Calc::Count => format!("{}", calc.of(&series.points).unwrap_or(0.0)),
            _ => match calc.of(&series.points) {
                Some(value) => self.format_of(series).show(Some(value)),
                None => "–".into(),
            },
        };
        match &self.legend {
            Legend::Hidden => html! {},
            _ if shown.is_empty() => html! {},
            Legend::Table(calcs) if !calcs.is_empty() => html! {
                div.plot-legend tabindex="0" role="group" aria-label={ "Legend of " (self.name) } {
                    table {
                        thead { tr { th scope="col" { "Name" } @for calc in calcs { th.plot-number scope="col" { (calc.name()) } } } }
                        tbody {
                            @for (colour, series) in shown {
                                tr {
                                    th scope="row" { (key(*colour)) (cut(&series.name)) }
                                    @for calc in calcs { td.plot-number { (value(*calc, series)) } }
                                }
                            }
                        }
                    }
                }
            },
            _ => html! {
                ul.plot-legend tabindex="0" aria-label={ "Legend of " (self.name) } {
                    @for (colour, series) in shown {
                        li { (key(*colour)) (cut(&series.name)) " " span.plot-last { (value(Calc::Last, series)) } }
                    }
                }
            },
        }
    }
}

/// What happened, in words: pictures only mark when.
#[must_use]
pub fn events(of: &[Annotation]) -> Markup {
    /// Longer lists are not read.
    const MOST: usize = 50;
    html! {
        @if !of.is_empty() {
            details.plot.plot-events #plot-events {
                summary { (of.len()) @if of.len() == 1 { " event in this time" } @else { " events in this time" } }
                ul {
                    @for it in of.iter().rev().take(MOST) {
                        li { span.(it.colour.class()) aria-hidden="true" { "● " } time { (clock(it.from)) @if it.to > it.from { "–" (clock(it.to)) } } " " (it.text) }
                    }
                }
                @if of.len() > MOST { p.plot-note { "The newest " (MOST) " of them." } }
            }
        }
    }
}

/// Links at their places. One too near to another could not be hit (WCAG 2.2, 2.5.8: 24 pixels, on a phone): the first stays.
pub(crate) fn points<'a>(
    plane: &Plane,
    exemplars: impl Iterator<Item = (&'a Exemplar, f64)>,
) -> Markup {
    const APART: (f64, f64) = (0.085, 0.22);
    let mut placed: Vec<(f64, f64)> = Vec::new();
    let mut far = |at: f64, value: f64| {
        let (x, y) = plane.share(at, value);
        let near = |it: &(f64, f64)| (it.0 - x).abs() < APART.0 && (it.1 - y).abs() < APART.1;
        let far = !placed.iter().any(near);
        placed.extend(far.then_some((x, y)));
        far
    };
    html! {
        @for (it, height) in exemplars {
            @if let Some((x, y)) = plane.percent(it.at, height) {
                @if far(it.at, height) {
                    a href=(it.href) aria-label=(it.label) { rect.plot-exemplar x=(x) y=(y) width="9" height="9" { title { (it.label) } } }
                }
            }
        }
    }
}

/// Round numbers on an axis, words where values have them.
fn marks(plane: &Plane, format: &Format) -> Vec<Tick> {
    let size = plane.values().start.abs().max(plane.values().end.abs());
    let (numbers, step) = axes::round_numbers(plane.values(), format.unit.axis_base(size));
    let label = |value: f64| {
        let shown = format.show(Some(value));
        if shown == format.unit.show(value, format.decimals) {
            format.unit.show_tick(value, step)
        } else {
            shown
        }
    };
    let numbers = numbers.into_iter();
    numbers
        .map(|value| (plane.share(0.0, value).1, label(value)))
        .collect()
}

/// A patch of colour before a name.
fn key(colour: Colour) -> Markup {
    html! { span.plot-key.(colour.class()) aria-hidden="true" { "■ " } }
}

fn cut(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.into();
    }
    let start: String = name.chars().take(LONGEST_NAME).collect();
    format!("{start}…")
}

fn clock(seconds: f64) -> String {
    let at = axes::moment(seconds);
    at.map_or_else(|| "?".into(), |at| at.strftime("%T").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unit;

    fn of(values: &[f64]) -> TimeSeries {
        let points = values.iter().zip(0_u32..);
        TimeSeries {
            name: "Rate".into(),
            times: 0.0..f64::from(u32::try_from(values.len()).expect("short")),
            series: vec![Series {
                name: "GET".into(),
                points: points.map(|(&value, at)| (f64::from(at), value)).collect(),
                ..Series::default()
            }],
            format: Format {
                unit: Unit::parse("reqps"),
                ..Format::default()
            },
            legend: Legend::Table(vec![Calc::Min, Calc::Mean, Calc::Last]),
            ..TimeSeries::default()
        }
    }

    /// Lines of series, not those of grid and axes: the only ones two wide.
    fn lines(html: &str) -> usize {
        html.matches("stroke-width=\"2\"").count()
    }

    #[test]
    fn a_course_has_a_line_and_its_numbers() {
        let html = of(&[1.0, 2.0, 6.0]).draw().into_string();
        assert_eq!(lines(&html), 1);
        assert!(
            html.contains("<td class=\"plot-number\">1 req/s</td>"),
            "{html}"
        );
        assert!(
            html.contains("<td class=\"plot-number\">3 req/s</td>"),
            "{html}"
        );
        assert!(html.contains("Newest: GET 6 req/s."), "{html}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        for empty in [of(&[]), of(&[f64::NAN, f64::NAN])] {
            let html = empty.draw().into_string();
            assert!(html.contains("No data"), "{html}");
            assert!(!html.contains("<svg"), "{html}");
        }
    }

    #[test]
    fn what_is_no_number_is_a_gap() {
        let whole = of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(lines(&whole.draw().into_string()), 1);
        for nothing in [f64::NAN, f64::INFINITY] {
            let torn = of(&[1.0, 2.0, nothing, 4.0, 5.0]);
            assert_eq!(lines(&torn.draw().into_string()), 2);
        }
    }

    #[test]
    fn silence_is_a_gap_unless_told_otherwise() {
        let mut plot = of(&[1.0, 2.0]);
        plot.series[0].points.extend([(60.0, 1.0), (61.0, 1.0)]);
        assert_eq!(lines(&plot.draw().into_string()), 1);
        plot.gap = Some(5.0);
        assert_eq!(lines(&plot.draw().into_string()), 2);
    }

    #[test]
    fn a_single_point_is_a_dot() {
        let html = of(&[3.0]).draw().into_string();
        assert_eq!(lines(&html), 0);
        assert_eq!(html.matches("stroke-width=\"5\"").count(), 1);
    }

    #[test]
    fn infinities_and_huge_values_are_written_and_break_nothing() {
        let html = of(&[1.0, f64::INFINITY]).draw().into_string();
        assert!(html.contains("+Inf"), "{html}");
        let html = of(&[-1e308, 1e308, 5e-324]).draw().into_string();
        assert!(!html.contains("NaN") && lines(&html) == 1, "{html}");
    }

    #[test]
    fn events_are_told_with_their_times() {
        let of = |from, to| Annotation {
            from,
            to,
            text: "Alert <b>".into(),
            colour: Colour::Red,
        };
        let html = events(&[of(0.0, 60.0), of(3600.0, 3600.0)]).into_string();
        assert!(
            html.contains("2 events") && html.contains("Alert &lt;b&gt;"),
            "{html}"
        );
        assert!(
            html.contains("<time>00:00:00–00:01:00</time>")
                && html.contains("<time>01:00:00</time>"),
            "{html}"
        );
        assert!(events(&[]).into_string().is_empty());
    }

    #[test]
    fn hostile_names_are_text() {
        let mut plot = of(&[1.0]);
        let hostile = "</text><script>alert(1)</script>\" onload=\"x";
        plot.series[0].name = hostile.into();
        plot.name = hostile.into();
        plot.annotations.push(Annotation {
            from: 0.5,
            to: 0.5,
            text: hostile.into(),
            colour: Colour::Red,
        });
        plot.exemplars.push(Exemplar {
            at: 0.5,
            value: 1.0,
            href: format!("/explore/trace/{hostile}"),
            label: hostile.into(),
        });
        plot.series.push(Series {
            name: "x".repeat(10_000),
            points: vec![(0.0, 1.0)],
            ..Series::default()
        });
        let html = plot.draw().into_string();
        assert!(
            !html.contains("<script") && !html.contains("\" onload"),
            "{html}"
        );
        assert!(html.contains("&lt;script&gt;") && html.len() < 20_000);
    }

    #[test]
    fn hundreds_of_series_are_bounded_and_the_largest_stay() {
        let mut plot = of(&[]);
        plot.times = 0.0..2.0;
        plot.series = (0..400_u32)
            .map(|it| Series {
                name: format!("series {it}"),
                points: vec![(0.0, f64::from(it)), (1.0, f64::from(it))],
                ..Series::default()
            })
            .collect();
        let html = plot.draw().into_string();
        assert_eq!(lines(&html), MOST_SERIES);
        assert!(html.contains("The 60 of 400 series"), "{html}");
        assert!(html.contains("series 399") && !html.contains("series 339<"));
    }

    #[test]
    fn a_stack_ends_at_the_sum_and_shares_at_one() {
        let mut plot = of(&[1.0, 1.0]);
        plot.series.push(Series {
            name: "POST".into(),
            points: vec![(0.0, 3.0), (1.0, f64::NAN), (2.0, 5.0)],
            ..Series::default()
        });
        let top = |stacking| {
            let plot = TimeSeries {
                stacking,
                ..plot.clone()
            };
            let drawn = plot.drawn(&plot.shown());
            let upper = drawn[1].pieces.iter().flatten().map(|it| it.2);
            upper.collect::<Vec<_>>()
        };
        assert_eq!(top(Stacking::Off), [3.0, 5.0]);
        assert_eq!(top(Stacking::Sum), [4.0, 5.0]);
        assert_eq!(top(Stacking::Share), [1.0, 1.0]);
    }

    #[test]
    fn a_small_change_does_not_look_large() {
        let plot = of(&[10.0, 11.0]);
        let from = |plot: &TimeSeries| plot.plane(&plot.drawn(&plot.shown()), false).values().start;
        assert!(from(&plot) > 9.0);
        let filled = TimeSeries { bars: true, ..plot };
        assert_eq!(from(&filled), 0.0);
        let forced = TimeSeries {
            min: Some(-5.0),
            ..filled
        };
        assert_eq!(from(&forced), -5.0);
    }

    #[test]
    fn what_has_an_axis_of_its_own_is_measured_by_it() {
        let mut plot = of(&[1.0, 1000.0]);
        plot.series.push(Series {
            name: "share".into(),
            points: vec![(0.0, 0.0), (1.0, 0.5)],
            right: true,
            ..Series::default()
        });
        plot.max = Some(1000.0);
        plot.min = Some(0.0);
        plot.right = Axis {
            format: Format {
                unit: Unit::parse("percentunit"),
                ..Format::default()
            },
            min: Some(0.0),
            max: Some(1.0),
        };
        let html = plot.draw().into_string();
        assert!(
            html.contains("points=\"0,999 999,500 \"") || html.contains("999,500"),
            "{html}"
        );
        assert!(
            html.contains("class=\"plot-right\"") && html.contains(">100%<"),
            "{html}"
        );
        assert!(html.contains("share 50%"), "{html}");
    }

    #[test]
    fn an_exemplar_is_a_link_with_a_name_where_it_was_measured() {
        let mut plot = of(&[1.0, 2.0, 3.0, 4.0]);
        let exemplar = Exemplar {
            at: 2.0,
            value: 4.0,
            href: "/explore/trace/abc".into(),
            label: "trace abc".into(),
        };
        plot.min = Some(0.0);
        plot.max = Some(8.0);
        let outside = Exemplar {
            value: 80.0,
            href: "/outside".into(),
            ..exemplar.clone()
        };
        plot.exemplars = vec![exemplar, outside];
        let html = plot.draw().into_string();
        assert!(html.contains("<a href=\"/explore/trace/abc\" aria-label=\"trace abc\"><rect class=\"plot-exemplar\" x=\"50%\" y=\"50%\""), "{html}");
        assert!(!html.contains("/outside"));
        let near = Exemplar {
            at: 2.1,
            value: 4.2,
            href: "/near".into(),
            ..plot.exemplars[0].clone()
        };
        let far = Exemplar {
            at: 3.0,
            href: "/far".into(),
            ..near.clone()
        };
        plot.exemplars.extend([near, far]);
        let html = plot.draw().into_string();
        assert!(!html.contains("/near") && html.contains("/far"), "{html}");
    }
}
