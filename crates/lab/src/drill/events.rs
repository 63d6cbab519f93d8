//! What happens in a drill, told as it happens: for whoever shows it to people.

use std::{cell::RefCell, collections::BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::measure::Sought;

/// Tells each event once.
#[derive(Debug, Default)]
pub(super) struct Events {
    told: RefCell<BTreeSet<String>>,
}

/// A moment, and what happened then.
#[derive(Debug, Serialize)]
struct Event<'a> {
    /// `fault`, `pending`, `firing`, `inhibited`, `told`, `mended`, `ended`, `told-of-end`.
    event: &'a str,
    exercise: &'a str,
    alert: Option<&'a str>,
    /// Channel and receiver.
    receiver: Option<&'a str>,
    at: Timestamp,
    /// Since the fault, or since its end.
    seconds: f64,
    /// The latest that theory allows.
    theory: Option<u64>,
}

impl Events {
    /// Something is broken, or mended.
    pub(super) fn act(&self, event: &str, exercise: &str, what: &str, at: Timestamp) {
        println!(
            "{}",
            json!({ "event": event, "exercise": exercise, "what": what, "at": at, "seconds": 0.0 })
        );
    }

    /// What has been seen of an alert since its exercise began and, perhaps, ended.
    pub(super) fn seen(
        &self,
        exercise: &str,
        sought: &Sought,
        begin: Timestamp,
        end: Option<Timestamp>,
    ) {
        let (measured, theory) = (&sought.measured, &sought.theory);
        let mut seen = vec![
            ("pending", None, begin, measured.pending, theory.pending),
            ("firing", None, begin, measured.firing, theory.firing),
            ("inhibited", None, begin, measured.inhibited, theory.active),
        ];
        let told =
            |event, since, receivers: &'_ std::collections::BTreeMap<String, f64>, theory| {
                let each = receivers.iter();
                each.map(|(to, seconds)| (event, Some(to.clone()), since, Some(*seconds), theory))
                    .collect::<Vec<_>>()
            };
        seen.extend(told("told", begin, &measured.notified, theory.notified));
        if let Some(end) = end {
            seen.push(("ended", None, end, measured.ended, theory.ended));
            seen.extend(told(
                "told-of-end",
                end,
                &measured.resolved,
                theory.resolved,
            ));
        }
        for (event, receiver, since, seconds, theory) in seen {
            let Some(seconds) = seconds else { continue };
            let alert = sought.drill.alert;
            let severity = &sought.alert.severity;
            let key = format!("{exercise} {alert} {severity} {event} {receiver:?}");
            if !self.told.borrow_mut().insert(key) {
                continue;
            }
            let span = jiff::SignedDuration::from_secs_f64(seconds);
            let event = Event {
                event,
                exercise,
                alert: Some(alert),
                receiver: receiver.as_deref(),
                at: since + span,
                seconds,
                theory: Some(theory),
            };
            println!("{}", json!(event));
        }
    }
}
