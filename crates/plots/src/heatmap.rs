//! How measurements are spread, and how that changes: one row a bucket of a histogram, one column a moment.

use std::{collections::BTreeMap, ops::Range};

use maud::{Markup, html};
use plotters::style::Color as _;

use crate::{
    Colour, Exemplar, Format,
    axes::{self, Plane, Tick},
    time_series::points,
};

/// A classic bucket: how many were at most this large.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    /// The upper bound, `le`.
    pub upper: f64,
    /// At times in seconds since 1970: how many, those of smaller buckets included.
    pub counts: Vec<(f64, f64)>,
}

/// A picture of a histogram over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heatmap {
    /// What it shows, for those who cannot see it.
    pub name: String,
    /// From when to when, in seconds since 1970.
    pub times: Range<f64>,
    /// Seconds between two counts.
    pub step: f64,
    /// The buckets, in any order.
    pub buckets: Vec<Bucket>,
    /// How bounds are written.
    pub format: Format,
    /// Requests to click on.
    pub exemplars: Vec<Exemplar>,
}

/// What lies between two bounds.
#[derive(Debug, PartialEq)]
struct Row {
    lower: f64,
    upper: f64,
    /// By milliseconds since 1970.
    counts: BTreeMap<i64, f64>,
}

impl Row {
    fn total(&self) -> f64 {
        self.counts.values().sum()
    }
}

impl Heatmap {
    /// Picture and a note on what its shades mean.
    #[must_use]
    pub fn draw(&self) -> Markup {
        let rows = self.rows();
        let most = rows
            .iter()
            .flat_map(|it| it.counts.values())
            .copied()
            .fold(0.0, f64::max);
        html! {
            figure.plot {
                @if most > 0.0 {
                    (self.picture(&rows, most))
                    p.plot-note { "Darker is more; the fullest cell has " (crate::Unit::parse("short").show(most, None)) "." }
                } @else {
                    p.plot-empty { "No data" }
                }
            }
        }
    }

    /// Counts of each bucket alone, without the empty ones at both ends.
    fn rows(&self) -> Vec<Row> {
        let mut buckets: Vec<&Bucket> = self
            .buckets
            .iter()
            .filter(|it| !it.upper.is_nan())
            .collect();
        buckets.sort_by(|one, other| one.upper.total_cmp(&other.upper));
        let mut below = BTreeMap::new();
        let mut lower = f64::NEG_INFINITY;
        let mut rows: Vec<Row> = Vec::new();
        for bucket in buckets {
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            let key = |at: f64| (at * 1000.0) as i64;
            let finite = bucket.counts.iter().filter(|it| it.1.is_finite());
            let upto: BTreeMap<i64, f64> = finite.map(|&(at, count)| (key(at), count)).collect();
            let counts = upto.iter().map(|(at, count)| {
                let below = below.get(at).copied().unwrap_or(0.0);
                // Scrapes are not atomic: a larger bucket can have missed what a smaller one has.
                (*at, (count - below).max(0.0))
            });
            rows.push(Row {
                lower,
                upper: bucket.upper,
                counts: counts.collect(),
            });
            lower = bucket.upper;
            below = upto;
        }
        let first = rows.iter().position(|it| it.total() > 0.0);
        let last = rows.iter().rposition(|it| it.total() > 0.0);
        match (first, last) {
            (Some(first), Some(last)) => rows.drain(first..=last).collect(),
            _ => Vec::new(),
        }
    }

    fn picture(&self, rows: &[Row], most: f64) -> Markup {
        #[expect(clippy::cast_precision_loss, reason = "few rows")]
        let place = |row: usize| row as f64;
        let plane = Plane::new(self.times.clone(), 0.0..place(rows.len()));
        let every = rows.len().div_ceil(8).max(1);
        let edges = rows.iter().enumerate().skip(every - 1).step_by(every);
        let values: Vec<Tick> = edges
            .map(|(row, it)| {
                (
                    plane.share(0.0, place(row + 1)).1,
                    self.format.show(Some(it.upper)),
                )
            })
            .collect();
        let times = plane.time_ticks();
        let drawing = axes::picture(&plane, |canvas| {
            for (row, it) in rows.iter().enumerate() {
                for (&at, &count) in &it.counts {
                    if count > 0.0 {
                        #[expect(clippy::cast_precision_loss, reason = "exact for 200,000 years")]
                        let at = at as f64 / 1000.0;
                        // The root, or the many hide the few.
                        let style = Colour::Blue.rgb().mix(0.08 + 0.92 * (count / most).sqrt());
                        canvas.rectangle(
                            (at - self.step, place(row)),
                            (at, place(row + 1)),
                            style.filled(),
                        );
                    }
                }
            }
            axes::grid(canvas, &values, &times);
        });
        let exemplars = self.exemplars.iter();
        let placed = exemplars.filter_map(|it| Some((it, height(rows, it.value)?)));
        let links = points(&plane, placed);
        axes::framed(
            &self.alternative(rows),
            &drawing,
            [&values, &[]],
            &times,
            &links,
        )
    }

    fn alternative(&self, rows: &[Row]) -> String {
        let fullest = rows
            .iter()
            .max_by(|one, other| one.total().total_cmp(&other.total()));
        let all: f64 = rows.iter().map(Row::total).sum();
        let told = fullest.map_or_else(String::new, |row| {
            let share = crate::Unit::parse("percentunit").show(row.total() / all, Some(0));
            let upper = self.format.show(Some(row.upper));
            if row.lower.is_finite() {
                format!(
                    "{share} between {} and {upper}",
                    self.format.show(Some(row.lower))
                )
            } else {
                format!("{share} at most {upper}")
            }
        });
        format!("{}: {told}.", self.name)
    }
}

/// Where a value is among the rows.
fn height(rows: &[Row], value: f64) -> Option<f64> {
    let row = rows
        .iter()
        .position(|it| it.lower < value && value <= it.upper)?;
    let Row { lower, upper, .. } = rows[row];
    let lower = if lower.is_finite() { lower } else { 0.0 };
    let within = if upper.is_finite() && upper > lower {
        (value - lower) / (upper - lower)
    } else {
        0.5
    };
    #[expect(clippy::cast_precision_loss, reason = "few rows")]
    Some(row as f64 + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unit;

    fn of(buckets: &[(f64, &[f64])]) -> Heatmap {
        Heatmap {
            name: "Latency".into(),
            times: 0.0..30.0,
            step: 10.0,
            buckets: buckets
                .iter()
                .map(|&(upper, counts)| Bucket {
                    upper,
                    counts: counts
                        .iter()
                        .zip(1_u32..)
                        .map(|(&it, n)| (f64::from(n) * 10.0, it))
                        .collect(),
                })
                .collect(),
            format: Format {
                unit: Unit::parse("s"),
                ..Format::default()
            },
            exemplars: Vec::new(),
        }
    }

    fn cells(html: &str) -> usize {
        html.matches("<rect").count()
    }

    #[test]
    fn counts_are_those_of_the_bucket_alone() {
        let plot = of(&[
            (f64::INFINITY, &[10.0, 12.0]),
            (0.1, &[0.0, 0.0]),
            (0.25, &[4.0, 6.0]),
            (0.5, &[10.0, 11.0]),
        ]);
        let rows = plot.rows();
        let shown: Vec<(f64, Vec<f64>)> = rows
            .iter()
            .map(|it| (it.upper, it.counts.values().copied().collect()))
            .collect();
        assert_eq!(
            shown,
            [
                (0.25, vec![4.0, 6.0]),
                (0.5, vec![6.0, 5.0]),
                (f64::INFINITY, vec![0.0, 1.0])
            ]
        );
        let html = plot.draw().into_string();
        assert_eq!(cells(&html), 5);
        assert!(
            html.contains("Latency: 50% between 250 ms and 500 ms."),
            "{html}"
        );
        assert!(html.contains("+Inf"), "{html}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        for plot in [
            of(&[]),
            of(&[(0.1, &[0.0])]),
            of(&[(f64::NAN, &[1.0]), (1.0, &[f64::NAN])]),
        ] {
            let html = plot.draw().into_string();
            assert!(html.contains("No data") && cells(&html) == 0, "{html}");
        }
    }

    #[test]
    fn a_bucket_smaller_than_the_one_below_counts_nothing() {
        let rows = of(&[(0.1, &[5.0]), (0.2, &[4.0])]).rows();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].counts.values().copied().collect::<Vec<_>>(), [5.0]);
    }

    #[test]
    fn an_exemplar_lies_within_its_bucket() {
        let mut plot = of(&[(0.1, &[5.0]), (0.3, &[9.0])]);
        plot.exemplars.push(Exemplar {
            at: 15.0,
            value: 0.2,
            href: "/explore/trace/abc".into(),
            label: "200 ms <i>".into(),
        });
        let html = plot.draw().into_string();
        assert!(html.contains("x=\"50%\" y=\"25%\""), "{html}");
        assert!(html.contains("200 ms &lt;i&gt;"), "{html}");
        plot.exemplars[0].value = 7.0;
        assert!(!plot.draw().into_string().contains("/explore"));
    }
}
