//! What was received, in the form in which it is kept and shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The way a notification came.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Slack's incoming webhooks.
    Slack,
    /// PagerDuty's Events API v2.
    Pagerduty,
    /// Mail over SMTP.
    Email,
    /// Alertmanager's own webhook: the dead man's switch.
    Webhook,
}

impl Channel {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Slack, Self::Pagerduty, Self::Email, Self::Webhook];

    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }
}

/// Whether a message tells of a problem or of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one of its alerts fires.
    Firing,
    /// All of its alerts have ended.
    Resolved,
}

/// A notification that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Counts up.
    pub id: u64,
    /// The way it came.
    pub channel: Channel,
    /// Whom it was for: the receiver of `alertmanager.yml`.
    pub receiver: String,
    /// What it tells.
    pub status: Status,
    /// Names of its alerts.
    pub alerts: Vec<String>,
    /// When it was here in full.
    pub received_at: Timestamp,
    /// What was sent, without the secret that let it in.
    pub payload: Value,
}

/// A notification that was not taken, as its provider would not have taken it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Counts up together with the messages.
    pub id: u64,
    /// The way it came.
    pub channel: Channel,
    /// Whom it was for, where that could be told.
    pub receiver: Option<String>,
    /// When.
    pub received_at: Timestamp,
    /// The status code, of HTTP or SMTP; 0 when the connection was cut.
    pub answer: u16,
    /// The provider's own words for it.
    pub reason: String,
    /// What was sent, without secrets; cut when long.
    pub payload: Value,
}

/// What a provider's format makes of a request that is well formed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notification {
    pub(crate) receiver: String,
    pub(crate) status: Status,
    pub(crate) alerts: Vec<String>,
    pub(crate) payload: Value,
}

/// Status and alert of a title as `alertmanager/templates` begin it: `[FIRING:2] HighErrorRate (flask-api)`. What
/// anybody else sends is taken for a problem without a name.
pub(crate) fn of_title(title: &str) -> (Status, Vec<String>) {
    let found = title
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let Some((status, rest)) = found else {
        return (Status::Firing, Vec::new());
    };
    let status = match status.split(':').next() {
        Some("FIRING") => Status::Firing,
        Some("RESOLVED") => Status::Resolved,
        _ => return (Status::Firing, Vec::new()),
    };
    let name = rest.split_whitespace().next();
    (status, name.map(str::to_owned).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_say_status_and_alert() {
        let firing = |names: &[&str]| {
            (
                Status::Firing,
                names.iter().map(|it| (*it).into()).collect(),
            )
        };
        assert_eq!(
            of_title("[FIRING:2] HighErrorRate (flask-api)"),
            firing(&["HighErrorRate"])
        );
        assert_eq!(
            of_title("[RESOLVED] ServiceDown"),
            (Status::Resolved, vec!["ServiceDown".into()])
        );
        assert_eq!(of_title("[FIRING:1]"), firing(&[]));
        assert_eq!(of_title("[hello] world"), firing(&[]));
        assert_eq!(of_title("hello"), firing(&[]));
    }
}
