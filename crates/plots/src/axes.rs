//! A plane of time and value: plotters draws what is in it, SVG text of its own says what it means.
//!
//! The drawing is stretched to whatever room there is, on a phone too; words and strokes keep their size, because they are
//! placed by percent outside of what is stretched. No style attributes: a strict content security policy forbids them.

use std::ops::Range;

use jiff::Timestamp;
use maud::{Markup, PreEscaped, html};
use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::{Shift, cartesian::Cartesian2d, types::RangedCoordf64},
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::{DashedPathElement, Drawable, PathElement, PointCollection, Polygon, Rectangle},
    style::{Color as _, ShapeStyle},
};
use plotters_svg::SVGBackend;

use crate::Colour;

/// Fine enough that rounding to whole units is not seen.
const SIZE: (u32, u32) = (2000, 1000);

/// A mark on an axis: where, as a share of its length from the origin, and what it says.
pub(crate) type Tick = (f64, String);

/// What is seen: times in seconds since 1970, and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane {
    times: Range<f64>,
    values: Range<f64>,
}

impl Plane {
    /// Ranges of nothing, or without a length, get one; numbers too large to compute with are cut off.
    pub(crate) fn new(times: Range<f64>, values: Range<f64>) -> Self {
        Self {
            times: sane(times),
            values: sane(values),
        }
    }

    /// Where a point is, as shares of width and height from the lower left; outside of it as well.
    pub(crate) fn share(&self, at: f64, value: f64) -> (f64, f64) {
        let share = |it: f64, range: &Range<f64>| (it - range.start) / (range.end - range.start);
        (share(at, &self.times), share(value, &self.values))
    }

    /// As text for an attribute, for what is inside.
    pub(crate) fn percent(&self, at: f64, value: f64) -> Option<(String, String)> {
        let (x, y) = self.share(at, value);
        let inside = (-0.001..=1.001).contains(&x) && (-0.001..=1.001).contains(&y);
        inside.then(|| (percent(x), percent(1.0 - y)))
    }

    pub(crate) fn values(&self) -> &Range<f64> {
        &self.values
    }

    /// About five times that people would have chosen.
    pub(crate) fn time_ticks(&self) -> Vec<Tick> {
        const STEPS: [u32; 20] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
            86_400, 172_800, 604_800,
        ];
        let length = self.times.end - self.times.start;
        let step = STEPS.into_iter().map(f64::from);
        let step = step.into_iter().find(|step| length / step <= 5.5);
        let Some(step) = step else {
            return Vec::new();
        };
        let format = match (step, length) {
            (86_400.0.., _) => "%m-%d",
            (_, 86_400.0..) => "%d. %H:%M",
            (60.0.., _) => "%H:%M",
            _ => "%H:%M:%S",
        };
        let ticks = multiples(&self.times, step).into_iter();
        let ticks = ticks.filter_map(|at| {
            let text = moment(at)?.strftime(format).to_string();
            Some((self.share(at, 0.0).0, text))
        });
        ticks.collect()
    }
}

/// A time in UTC.
pub(crate) fn moment(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is checked")]
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}

pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}%", if text == "-0" { "0" } else { text })
}

fn sane(range: Range<f64>) -> Range<f64> {
    const MOST: f64 = 1e300;
    let bound = |it: f64| {
        if it.is_nan() {
            0.0
        } else {
            it.clamp(-MOST, MOST)
        }
    };
    let (start, end) = (bound(range.start), bound(range.end));
    let size = start.abs().max(end.abs());
    if end - start > size * 1e-9 {
        return start..end;
    }
    let room = if size == 0.0 { 1.0 } else { size * 0.1 };
    start - room..start + room
}

/// About four round numbers within a range, and what lies between two of them. `base` is what they are multiples of: 1024 in a range
/// of kibibytes.
pub(crate) fn round_numbers(range: &Range<f64>, base: f64) -> (Vec<f64>, f64) {
    let rough = (range.end - range.start) / base / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|it| it * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough)
        * base;
    (multiples(range, step), step)
}

fn multiples(range: &Range<f64>, step: f64) -> Vec<f64> {
    /// More than any axis shows: rounding of huge numbers must not become a long list.
    const MOST: usize = 20;
    if !(step.is_finite() && step > 0.0) {
        return Vec::new();
    }
    let first = (range.start / step - 1e-9).ceil();
    (0..MOST)
        .map(|n| {
            #[expect(clippy::cast_precision_loss, reason = "at most 20")]
            let n = n as f64;
            (first + n) * step
        })
        .take_while(|it| *it <= range.end + step * 1e-9)
        .collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where series are drawn.
pub(crate) struct Canvas<'a, 'b> {
    plane: &'b Plane,
    chart: ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
}

impl<'a> Canvas<'a, '_> {
    /// plotters computes in whole numbers of 32 bits: what is far outside is brought near.
    fn near(&self, (at, value): (f64, f64)) -> (f64, f64) {
        let (x, y) = self.plane.share(at, value);
        (x.clamp(-1.0, 2.0), y.clamp(-1.0, 2.0))
    }

    /// A line through points. A single one becomes a dot: its stroke has round ends.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], style: impl Into<ShapeStyle>) {
        let mut points: Vec<_> = points.iter().map(|&it| self.near(it)).collect();
        if let [only] = points[..] {
            points.push(only);
        }
        self.draw(PathElement::new(points, style));
    }

    /// A line with gaps.
    pub(crate) fn dashes(&mut self, points: &[(f64, f64)], style: impl Into<ShapeStyle>) {
        const LENGTH: i32 = 20;
        let points: Vec<_> = points.iter().map(|&it| self.near(it)).collect();
        self.draw(DashedPathElement::new(points, LENGTH, LENGTH, style));
    }

    /// What a closed line surrounds.
    pub(crate) fn fill(&mut self, points: &[(f64, f64)], style: impl Into<ShapeStyle>) {
        let points: Vec<_> = points.iter().map(|&it| self.near(it)).collect();
        self.draw(Polygon::new(points, style));
    }

    /// From corner to corner.
    pub(crate) fn rectangle(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        style: impl Into<ShapeStyle>,
    ) {
        let corners = [self.near(from), self.near(to)];
        self.draw(Rectangle::new(corners, style));
    }

    fn draw<E>(&mut self, element: E)
    where
        for<'e> &'e E: PointCollection<'e, (f64, f64)>,
        E: Drawable<SVGBackend<'a>>,
    {
        // Writing to a string cannot fail.
        let _ = self.chart.plotting_area().draw(&element);
    }
}

/// plotters' picture of a plane.
pub(crate) fn picture(plane: &Plane, draw: impl FnOnce(&mut Canvas<'_, '_>)) -> PreEscaped<String> {
    let mut svg = String::new();
    {
        let root: Area<'_> = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Without labels and margins there is always room.
        if let Ok(chart) = ChartBuilder::on(&root).build_cartesian_2d(0.0..1.0, 0.0..1.0) {
            draw(&mut Canvas { plane, chart });
        }
        let _ = root.present();
    }
    // Numbers and colours only: no text of anybody's gets in there.
    PreEscaped(svg)
}

/// The drawing between its two axes.
pub(crate) fn framed(
    name: &str,
    drawing: &PreEscaped<String>,
    [values, right]: [&[Tick]; 2],
    times: &[Tick],
    links: &Markup,
) -> Markup {
    html! {
        div.plot-area.plot-two-axes[!right.is_empty()] {
            div.plot-plane role="img" aria-label=(name) {
                (stretched(drawing, "plot-drawing"))
                svg.plot-words {
                    @for (y, text) in values { text.plot-y x="-6" y=(percent(1.0 - y)) dy=".35em" { (text) } }
                    @for (y, text) in right { text.plot-right x="100%" dx="6" y=(percent(1.0 - y)) dy=".35em" { (text) } }
                    @for (x, text) in times { text.plot-x x=(percent(*x)) y="100%" dy="16" { (text) } }
                }
            }
            @if !links.0.is_empty() { div.plot-plane.plot-links { svg { (links) } } }
        }
    }
}

/// The drawing, in whatever room there is.
pub(crate) fn stretched(drawing: &PreEscaped<String>, class: &str) -> Markup {
    html! {
        svg.(class) aria-hidden="true" viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } preserveAspectRatio="none" { (drawing) }
    }
}

/// Lines at the ticks of both axes.
pub(crate) fn grid(canvas: &mut Canvas<'_, '_>, values: &[Tick], times: &[Tick]) {
    let style = Colour::Grey.rgb().mix(0.25).stroke_width(1);
    let plane = canvas.plane.clone();
    let place = |x: f64, y: f64| {
        let at = plane.times.start + x * (plane.times.end - plane.times.start);
        let value = plane.values.start + y * (plane.values.end - plane.values.start);
        (at, value)
    };
    for (y, _) in values {
        canvas.line(&[place(0.0, *y), place(1.0, *y)], style);
    }
    for (x, _) in times {
        canvas.line(&[place(*x, 0.0), place(*x, 1.0)], style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_numbers_are_round() {
        assert_eq!(
            round_numbers(&(0.0..10.0), 1.0).0,
            [0.0, 2.5, 5.0, 7.5, 10.0]
        );
        let (ticks, _) = round_numbers(&(0.0..3.5 * 1024.0), 1024.0);
        assert_eq!(ticks, [0.0, 1024.0, 2048.0, 3072.0]);
    }

    #[test]
    fn times_are_those_of_a_clock() {
        let noon = 1_700_000_000.0 - 1_700_000_000.0 % 3600.0;
        let plane = Plane::new(noon..noon + 900.0, 0.0..1.0);
        let words: Vec<String> = plane.time_ticks().into_iter().map(|it| it.1).collect();
        assert_eq!(words, ["22:00", "22:05", "22:10", "22:15"]);
    }

    #[test]
    fn a_range_without_length_gets_one() {
        assert_eq!(Plane::new(0.0..1.0, 5.0..5.0).values, 4.5..5.5);
        assert_eq!(Plane::new(0.0..1.0, 0.0..0.0).values, -1.0..1.0);
        assert_eq!(Plane::new(0.0..1.0, f64::NAN..f64::NAN).values, -1.0..1.0);
    }

    proptest! {
        #[test]
        fn no_number_breaks_a_plane(start: f64, end: f64, value: f64, base in 1e-9..1e9) {
            let plane = Plane::new(start..end, end..start);
            let (ticks, _) = round_numbers(plane.values(), base);
            prop_assert!(ticks.len() <= 20);
            prop_assert!(plane.time_ticks().len() <= 20);
            let svg = picture(&plane, |canvas| {
                canvas.line(&[(start, value), (end, -value)], Colour::Red.rgb().stroke_width(1));
            });
            prop_assert!(!svg.0.contains("NaN"));
        }
    }
}
