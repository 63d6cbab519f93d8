//! How the values of a panel are written and coloured: unit, decimals, words for numbers, thresholds.

use crate::{Colour, Unit};

/// How a value is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// Its unit.
    pub unit: Unit,
    /// Digits behind the point; as many as count when `None`.
    pub decimals: Option<usize>,
    /// Words for values; the first that fits counts.
    pub mappings: Vec<Mapping>,
    /// What stands for no value.
    pub no_value: Option<String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            unit: Unit::parse(""),
            decimals: None,
            mappings: Vec::new(),
            no_value: None,
        }
    }
}

/// A word, a colour or both for some values.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// For which.
    pub of: Values,
    /// The word; the number itself when `None`.
    pub text: Option<String>,
    /// The colour; that of the thresholds when `None`.
    pub colour: Option<Colour>,
}

/// Which values a mapping is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// One.
    Is(f64),
    /// These and all between.
    Between(f64, f64),
    /// Not a number, or none at all.
    Nothing,
    /// A text.
    Text(String),
}

impl Format {
    fn mapping(&self, value: Option<f64>) -> Option<&Mapping> {
        let value = value.filter(|it| !it.is_nan());
        self.mappings.iter().find(|mapping| match mapping.of {
            Values::Is(is) => value == Some(is),
            Values::Between(from, to) => value.is_some_and(|it| (from..=to).contains(&it)),
            Values::Nothing => value.is_none(),
            Values::Text(_) => false,
        })
    }

    /// A value as a panel shows it.
    #[must_use]
    pub fn show(&self, value: Option<f64>) -> String {
        let mapped = self.mapping(value).and_then(|it| it.text.clone());
        mapped.unwrap_or_else(|| match value {
            Some(value) => self.unit.show(value, self.decimals),
            None => self.no_value.clone().unwrap_or_else(|| "no data".into()),
        })
    }

    /// The colour of a value: that of its word, or of the threshold it has passed.
    #[must_use]
    pub fn colour(&self, value: Option<f64>, thresholds: &Thresholds) -> Option<Colour> {
        let mapped = self.mapping(value).and_then(|it| it.colour);
        mapped.or_else(|| thresholds.colour(value?))
    }

    /// Word and colour for a text.
    #[must_use]
    pub fn text(&self, text: &str) -> (String, Option<Colour>) {
        let found = self.mappings.iter().find(|mapping| match &mapping.of {
            Values::Text(it) => it == text,
            Values::Is(is) => text.parse() == Ok(*is),
            _ => false,
        });
        match found {
            Some(mapping) => (
                mapping.text.clone().unwrap_or_else(|| text.into()),
                mapping.colour,
            ),
            None => (text.into(), None),
        }
    }
}

/// From which value on which colour, rising; `None` is a colour that says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thresholds(Vec<(f64, Option<Colour>)>);

impl Thresholds {
    /// Sorts them.
    #[must_use]
    pub fn new(mut steps: Vec<(f64, Option<Colour>)>) -> Self {
        steps.retain(|(from, _)| !from.is_nan());
        steps.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(steps)
    }

    /// The colour at a value.
    #[must_use]
    pub fn colour(&self, value: f64) -> Option<Colour> {
        let passed = self.0.iter().rev().find(|(from, _)| value >= *from);
        passed.and_then(|(_, colour)| *colour)
    }

    /// Those that are a line: the first colour holds from the beginning.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (f64, Option<Colour>)> + '_ {
        let steps = self.0.iter().copied();
        steps.filter(|(from, _)| from.is_finite())
    }

    pub(crate) fn steps(&self) -> &[(f64, Option<Colour>)] {
        &self.0
    }
}

/// One number out of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calc {
    /// The newest that is a number.
    Last,
    /// The mean.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// All together.
    Sum,
    /// How many.
    Count,
    /// The oldest that is a number.
    First,
    /// Newest less oldest.
    Difference,
}

impl Calc {
    /// As Grafana calls it.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Some(match id {
            "last" | "lastNotNull" => Self::Last,
            "mean" => Self::Mean,
            "min" => Self::Min,
            "max" => Self::Max,
            "sum" => Self::Sum,
            "count" => Self::Count,
            "first" | "firstNotNull" => Self::First,
            "diff" | "delta" => Self::Difference,
            _ => return None,
        })
    }

    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "Last",
            Self::Mean => "Mean",
            Self::Min => "Min",
            Self::Max => "Max",
            Self::Sum => "Sum",
            Self::Count => "Count",
            Self::First => "First",
            Self::Difference => "Change",
        }
    }

    /// The number; infinities are passed over but for the newest and oldest, what is no number always.
    #[must_use]
    pub fn of(self, points: &[(f64, f64)]) -> Option<f64> {
        let numbers = points.iter().map(|it| it.1).filter(|it| !it.is_nan());
        let finite = numbers.clone().filter(|it| it.is_finite());
        let count = finite.clone().count();
        let (mut first_and_last, some) = (numbers, count > 0);
        #[expect(clippy::cast_precision_loss, reason = "no series is that long")]
        let count = count as f64;
        match self {
            Self::Last => first_and_last.next_back(),
            Self::First => first_and_last.next(),
            Self::Mean => some.then(|| finite.map(|it| it / count).sum()),
            Self::Min => finite.reduce(f64::min),
            Self::Max => finite.reduce(f64::max),
            Self::Sum => some.then(|| finite.sum()),
            Self::Count => Some(count),
            Self::Difference => Some(first_and_last.clone().next_back()? - first_and_last.next()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_in_place_of_its_number() {
        let word = |of, text: &str, colour| Mapping {
            of,
            text: Some(text.into()),
            colour,
        };
        let format = Format {
            mappings: vec![
                word(Values::Is(1.0), "up", Some(Colour::Green)),
                word(Values::Between(2.0, 3.0), "many", None),
                word(Values::Nothing, "never seen", None),
            ],
            ..Format::default()
        };
        assert_eq!(format.show(Some(1.0)), "up");
        assert_eq!(format.show(Some(2.5)), "many");
        assert_eq!(format.show(Some(0.0)), "0");
        assert_eq!(format.show(None), "never seen");
        assert_eq!(format.show(Some(f64::NAN)), "never seen");
        let red = Thresholds::new(vec![(f64::NEG_INFINITY, Some(Colour::Red))]);
        assert_eq!(format.colour(Some(1.0), &red), Some(Colour::Green));
        assert_eq!(format.colour(Some(0.0), &red), Some(Colour::Red));
    }

    #[test]
    fn a_threshold_counts_from_its_value_on() {
        let steps = Thresholds::new(vec![
            (0.9, Some(Colour::Red)),
            (f64::NEG_INFINITY, Some(Colour::Green)),
            (0.5, None),
        ]);
        assert_eq!(steps.colour(0.4), Some(Colour::Green));
        assert_eq!(steps.colour(0.5), None);
        assert_eq!(steps.colour(0.9), Some(Colour::Red));
        assert_eq!(steps.colour(f64::NAN), None);
        assert_eq!(Thresholds::default().colour(1.0), None);
    }

    #[test]
    fn a_course_becomes_a_number() {
        let points = [
            (0.0, 4.0),
            (1.0, f64::NAN),
            (2.0, 1.0),
            (3.0, 7.0),
            (4.0, f64::NAN),
        ];
        let of = |calc: Calc| calc.of(&points);
        assert_eq!(of(Calc::Last), Some(7.0));
        assert_eq!(of(Calc::First), Some(4.0));
        assert_eq!(of(Calc::Mean), Some(4.0));
        assert_eq!((of(Calc::Min), of(Calc::Max)), (Some(1.0), Some(7.0)));
        assert_eq!((of(Calc::Sum), of(Calc::Count)), (Some(12.0), Some(3.0)));
        assert_eq!(of(Calc::Difference), Some(3.0));
        for calc in [
            Calc::Last,
            Calc::Mean,
            Calc::Min,
            Calc::Sum,
            Calc::Difference,
        ] {
            assert_eq!(calc.of(&[]), None);
            assert_eq!(calc.of(&[(0.0, f64::NAN)]), None);
        }
        assert_eq!(Calc::Mean.of(&[(0.0, 1e308), (1.0, 1e308)]), Some(1e308));
        assert_eq!(Calc::Last.of(&[(0.0, f64::INFINITY)]), Some(f64::INFINITY));
    }
}
