//! Pictures of what was measured, as SVG and HTML that follow the page's theme: courses over time, histograms, single values,
//! tables, log lines and traces.
//!
//! All of it is computed from its input alone, needs no script and no style attributes, fits any width, has a name and a text
//! alternative, and escapes whatever it is given. [`style`] is what a page needs besides.

mod axes;
mod colour;
mod heatmap;
mod logs;
mod single;
mod table;
mod time_series;
mod unit;
mod values;
mod waterfall;

use std::sync::LazyLock;

pub use colour::Colour;
pub use heatmap::{Bucket, Heatmap};
pub use logs::{Line, Logs};
pub use single::{Painted, Single, Value};
pub use table::{Cell, Column, Table};
pub use time_series::{
    Annotation, Axis, Exemplar, Legend, MOST_SERIES, Series, Stacking, TimeSeries, events,
};
pub use unit::Unit;
pub use values::{Calc, Format, Mapping, Thresholds, Values};
pub use waterfall::{Span, Waterfall};

/// The style sheet of all pictures.
#[must_use]
pub fn style() -> &'static str {
    static STYLE: LazyLock<String> = LazyLock::new(|| Colour::rules() + include_str!("plots.css"));
    &STYLE
}
