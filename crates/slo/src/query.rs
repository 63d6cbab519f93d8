//! A query of a specification: PromQL with a hole where the window goes.

use promql_parser::{
    label::MatchOp,
    parser::{Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

use crate::Problem;

/// Stands in for the window while a query is looked into: no query has this range of its own accord.
const PROBE: &str = "73577s";
const PROBE_SECONDS: u64 = 73577;

/// PromQL with a window left open.
#[derive(Debug)]
pub(crate) struct Query {
    /// The text around each `{{.window}}`.
    parts: Vec<String>,
    /// The same, parsed over [`PROBE`].
    expr: Expr,
}

/// What a query counts events with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// `rate()`: events a second.
    PerSecond,
    /// `increase()`: events.
    Each,
}

/// Bucket of a histogram that a query compares with.
pub(crate) struct Threshold {
    pub(crate) metric: String,
    /// `le`, when it is compared with `=`.
    pub(crate) value: Result<String, String>,
}

impl Query {
    pub(crate) fn new(text: &str) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut part = String::new();
        let mut rest = text.trim();
        while let Some((before, after)) = rest.split_once("{{") {
            let (variable, after) = after.split_once("}}").ok_or(Problem::UnknownTemplate)?;
            if variable.trim() != ".window" {
                return Err(Problem::UnknownTemplate);
            }
            part += before;
            parts.push(std::mem::take(&mut part));
            rest = after;
        }
        if parts.is_empty() {
            return Err(Problem::NoWindow);
        }
        parts.push(rest.to_owned());
        let expr = promql_parser::parser::parse(&parts.join(PROBE)).map_err(Problem::PromQl)?;
        Ok(Self { parts, expr })
    }

    /// The query over a window.
    pub(crate) fn over(&self, range: &str) -> String {
        self.parts.join(range)
    }

    /// How it counts events; `None` when that cannot be told.
    pub(crate) fn counts(&self) -> Option<Counts> {
        let mut functions = Functions(Vec::new());
        self.walk(&mut functions);
        let all =
            |name| !functions.0.is_empty() && functions.0.iter().all(|function| *function == name);
        if all("rate") {
            Some(Counts::PerSecond)
        } else if all("increase") {
            Some(Counts::Each)
        } else {
            None
        }
    }

    /// Every comparison with `le`.
    pub(crate) fn thresholds(&self) -> Vec<Threshold> {
        let mut thresholds = Thresholds(Vec::new());
        self.walk(&mut thresholds);
        thresholds.0
    }

    fn walk(&self, visitor: &mut impl ExprVisitor<Error = std::convert::Infallible>) {
        let Ok(_) = walk_expr(visitor, &self.expr);
    }
}

/// Names of the functions that are given the window.
struct Functions(Vec<&'static str>);

impl ExprVisitor for Functions {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::Call(call) = expr {
            let takes_window = call.args.args.iter().any(|arg| match arg.as_ref() {
                Expr::MatrixSelector(selector) => selector.range.as_secs() == PROBE_SECONDS,
                Expr::Subquery(query) => query.range.as_secs() == PROBE_SECONDS,
                _ => false,
            });
            if takes_window {
                self.0.push(call.func.name);
            }
        }
        Ok(true)
    }
}

struct Thresholds(Vec<Threshold>);

impl Thresholds {
    fn add(&mut self, selector: &VectorSelector) {
        let Some(metric) = &selector.name else { return };
        for matcher in selector.matchers.find_matchers("le") {
            let value = match matcher.op {
                MatchOp::Equal => Ok(matcher.value.clone()),
                _ => Err(matcher.to_string()),
            };
            self.0.push(Threshold {
                metric: metric.clone(),
                value,
            });
        }
    }
}

impl ExprVisitor for Thresholds {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.add(selector),
            Expr::MatrixSelector(selector) => self.add(&selector.vs),
            _ => {}
        }
        Ok(true)
    }
}
