//! What became of one request: the one record that histograms, metrics and reports are made from.

use std::time::{Duration, Instant};

use http::StatusCode;
use opentelemetry::trace::TraceId;

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When the schedule wanted it sent.
    pub intended: Instant,
    /// When it was sent.
    pub started: Instant,
    /// When the last byte of the answer was there, or the failure, or the time was up.
    pub ended: Instant,
    /// How it ended.
    pub end: End,
    /// The trace it belongs to, when that is recorded and so can be looked up.
    pub trace: Option<TraceId>,
    /// The number of its route.
    pub route: usize,
    /// Whether it is one of those that the pace counts: a plain request, or the first one of a journey.
    pub arrival: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// An answer came, whole.
    Answered {
        /// Its status.
        status: StatusCode,
        /// Whether it is what was asked for: a status below 500, or what the scenario expects.
        good: bool,
    },
    /// No whole answer in the time allowed.
    TimedOut,
    /// The connection failed.
    Failed(Failure, String),
}

/// Where a connection failed: a small closed set, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection broke before the head of an answer was there, or what came was not HTTP.
    Exchange,
    /// The connection broke within the body of an answer.
    Body,
    /// Still on its way when the generator was told a second time to stop.
    Abandoned,
    /// No connection could even be tried: this machine had no port or no file descriptor left.
    Local,
}

impl Failure {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Exchange,
        Self::Body,
        Self::Abandoned,
        Self::Local,
    ];

    /// Its name in metrics, JSON and spans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Exchange => "exchange",
            Self::Body => "body",
            Self::Abandoned => "abandoned",
            Self::Local => "local",
        }
    }
}

/// Names of the classes of status codes, in order.
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The index into [`STATUS_CLASSES`]; codes above 599 count as the server's errors.
pub fn status_class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1
}

impl Outcome {
    /// End − intended start: what a customer who came on time waited.
    pub fn latency(&self) -> Duration {
        self.ended.saturating_duration_since(self.intended)
    }

    /// End − actual start: what the server and the network took.
    pub fn service(&self) -> Duration {
        self.ended.saturating_duration_since(self.started)
    }

    /// Actual − intended start: what the generator itself took.
    pub fn lateness(&self) -> Duration {
        self.started.saturating_duration_since(self.intended)
    }

    /// Whether the server owes something: no whole answer, no answer in time, or one that was not asked for.
    pub fn is_error(&self) -> bool {
        match &self.end {
            End::Answered { good, .. } => !good,
            End::TimedOut | End::Failed(..) => true,
        }
    }

    /// Whether its times say how long the server takes. A refused connection answers in no time and would
    /// flatter; a request that ran out of time waited at least that long, and leaving it out would too.
    pub fn is_timed(&self) -> bool {
        !matches!(self.end, End::Failed(..))
    }
}

#[cfg(test)]
impl End {
    /// An answer to a request that expects a status below 500.
    pub(crate) fn answered(status: u16) -> Self {
        Self::Answered {
            status: StatusCode::from_u16(status).expect("a status"),
            good: status < 500,
        }
    }
}
