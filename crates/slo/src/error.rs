//! What can be wrong with a specification or a clock, each with its cause and its cure.

use std::path::PathBuf;

use crate::clock::promql;

/// Why no rules can be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not YAML of the expected shape. The reason has the line and what would be right there.
    #[error("{}: {reason}", .file.display())]
    Yaml {
        /// The specification.
        file: PathBuf,
        /// What the parser said, with line, column and an excerpt.
        reason: String,
    },

    /// The shape is right and what it says is not.
    #[error("{}:{line}:{column}: {problem}", .file.display())]
    Invalid {
        /// The specification.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        problem: Problem,
    },

    /// Two SLOs would write the same series.
    #[error("{} and {} both define the SLO {id}; give one another service or name", .first.display(), .second.display())]
    Duplicate {
        /// `{service}-{name}`.
        id: String,
        /// Where it was first.
        first: PathBuf,
        /// Where it is again.
        second: PathBuf,
    },

    /// The clock cannot be used with this scrape interval.
    #[error(
        "clock {factor} cannot be used: {reason}; with a scrape every {} the usable clocks are {}",
        promql(*.scrape_interval), list(.usable)
    )]
    Clock {
        /// As asked.
        factor: u32,
        /// What does not fit.
        reason: String,
        /// Seconds between two scrapes.
        scrape_interval: u64,
        /// The clocks that fit, in order.
        usable: Vec<u32>,
    },
}

/// What is wrong at one place of a specification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Another format, or another version of it.
    #[error("version `{0}` is not supported; write `version: prometheus/v1`")]
    Version(String),

    /// No SLO.
    #[error("`slos` is empty, so there is nothing to render; describe at least one SLO")]
    NoSlo,

    /// A service or SLO name that cannot be part of an id.
    #[error(
        "`{0}` is not a name; use letters, digits, `-`, `_` and `.`, with a letter or digit first and last"
    )]
    Name(String),

    /// The same name twice in a file.
    #[error("the SLO {0} is described twice; give one another name")]
    Twice(String),

    /// Not a share of requests that can be kept and missed.
    #[error(
        "objective {0} is not a percentage between 0 and 100; 100 would leave no budget, and a burn rate of \
         nothing cannot be told; write 99.9 for 99.9 %"
    )]
    Objective(f64),

    /// So low that everything failing would not burn fast enough.
    #[error(
        "objective {objective} leaves {budget} % of the requests to fail, and {factor} times that is {ratio} %: no \
         error ratio can be above it, so the {severity} alert at burn rate {factor} could never fire; \
         choose an objective above {least}, or set {severity}_alert.disable"
    )]
    CannotFire {
        /// Per cent.
        objective: f64,
        /// Per cent.
        budget: f64,
        /// Burn rate of the alert.
        factor: f64,
        /// Per cent.
        ratio: f64,
        /// `page` or `ticket`.
        severity: &'static str,
        /// Per cent, rounded up to what works.
        least: f64,
    },

    /// Both kinds of indicator, or none.
    #[error("an SLI is either `events` or `raw`, exactly one of them")]
    OneSli,

    /// Code of Sloth's own, which only Sloth can run.
    #[error(
        "plugins are Go programs that run inside Sloth and are not supported; write the query itself under \
         `sli.events` or `sli.raw`"
    )]
    Plugin,

    /// A query without its window.
    #[error(
        "the query has no {{{{.window}}}}, so it would be the same over every window; write for example rate(requests_total[{{{{.window}}}}])"
    )]
    NoWindow,

    /// Another template variable.
    #[error(
        "the query has a template other than {{{{.window}}}}, and there is no other; write the value itself"
    )]
    UnknownTemplate,

    /// Not PromQL.
    #[error("the query is no PromQL: {0}")]
    PromQl(String),

    /// Every request would be an error.
    #[error(
        "error_query and total_query are the same; error_query counts the bad events among all"
    )]
    SameQueries,

    /// Alerts have no name.
    #[error(
        "`alerting.name` is missing; name the alerts, or set page_alert.disable and ticket_alert.disable"
    )]
    NoAlertName,

    /// A label's name that Prometheus refuses, or that the rules need for themselves.
    #[error(
        "`{0}` cannot be a label; use letters, digits and `_`, not a digit first, and neither `__` nor `sloth_` in front"
    )]
    Label(String),

    /// A latency threshold that no bucket ends at.
    #[error(
        "{metric} has no bucket that ends at le=\"{value}\", so the query would find nothing; its bounds are {}",
        .bounds.join(", ")
    )]
    NoBucket {
        /// The histogram's series.
        metric: String,
        /// As written.
        value: String,
        /// The bounds there are, as Prometheus writes them.
        bounds: Vec<String>,
    },

    /// A matcher on `le` that is more than an equality.
    #[error("the threshold of {metric} cannot be checked in {matcher}; compare le with = and one of {}", .bounds.join(", "))]
    LooseThreshold {
        /// The histogram's series.
        metric: String,
        /// As written.
        matcher: String,
        /// The bounds there are, as Prometheus writes them.
        bounds: Vec<String>,
    },
}

fn list(numbers: &[u32]) -> String {
    match numbers {
        [] => "none".into(),
        numbers => numbers
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
