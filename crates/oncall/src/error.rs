//! What can be wrong, each with its cause and its cure.

use std::{fmt, path::PathBuf};

use crate::Finding;

/// Why a rotation cannot be read or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not YAML of the expected shape. The reason has the line and what would be right there.
    #[error("{}: {reason}", .file.display())]
    Yaml {
        /// The file.
        file: PathBuf,
        /// What the parser said, with line, column and an excerpt.
        reason: String,
    },

    /// The shape is right and what it says is not: every mistake there is.
    #[error("{}", lines(.mistakes.iter().map(|mistake| format!("{}:{mistake}", .file.display()))))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// All of them, in the order of the file.
        mistakes: Vec<Mistake>,
    },

    /// Somebody would be missing, or two would be called.
    #[error("the rotation cannot be rendered, because a minute would not have exactly one person in each role:\n{}", first_of(.0))]
    NotCovered(Vec<Finding>),

    /// Alertmanager's configuration has no place for what is rendered.
    #[error("{}", lines(.0.iter()))]
    Region(Vec<String>),

    /// PagerDuty knows people by an id of its own.
    #[error("PagerDuty needs the user id of {}: give each a `pagerduty_user` (it stands at the end of the user's address in PagerDuty, as PXPGF42)", .0.join(", "))]
    NoPagerDutyUser(Vec<String>),
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong there and what to write instead.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.problem)
    }
}

/// The first few; a mistake in a layer is found again every day.
fn first_of(findings: &[Finding]) -> String {
    const FEW: usize = 5;
    let shown = findings
        .iter()
        .take(FEW)
        .map(|finding| format!("  {finding}"));
    let more = findings.len().saturating_sub(FEW);
    let rest = (more > 0).then(|| format!("  and {more} more; `lab oncall check` lists them"));
    lines(shown.chain(rest))
}

fn lines(items: impl Iterator<Item = impl fmt::Display>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join("\n")
}
