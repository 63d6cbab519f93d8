//! What can be wrong, each with its cause and its cure.

use std::path::PathBuf;

/// Why dashboards cannot be rendered, read or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that the dashboards are made from is not what it should be.
    #[error("{}: {reason}", .file.display())]
    Source {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A panel takes its threshold from an alert that there is not, or that compares with no number.
    #[error(
        "prometheus/alerts.yml has no alert {0} that compares with a number; a dashboard takes its threshold from there"
    )]
    Threshold(String),

    /// A panel shows a recorded series that nothing records.
    #[error(
        "panel `{panel}` of {dashboard} shows {series}, which neither prometheus/recording-rules.yml nor an objective records"
    )]
    Recording {
        /// Uid of the dashboard.
        dashboard: String,
        /// Title of the panel.
        panel: String,
        /// The series.
        series: String,
    },

    /// A query names a variable that there is not.
    #[error("`{text}` names ${name}; the variables are {}", .known.join(", "))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The query.
        text: String,
        /// Those that there are.
        known: Vec<String>,
    },

    /// A time that is neither now nor so long ago.
    #[error("`{0}` is not understood as a time; `now` and `now-30m` are")]
    Time(String),

    /// A variable asks something else than `label_values(selector, label)`.
    #[error("variable {name} asks `{query}`; only label_values(selector, label) is understood")]
    Variable {
        /// The variable.
        name: String,
        /// Its query.
        query: String,
    },
}
