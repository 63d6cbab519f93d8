//! Raises the alarm when nobody says any more that all is well.
//!
//! Alertmanager sends the alert that always fires here, again and again. When it stops coming, or says that it ended, then
//! Prometheus, Alertmanager or the way between them is broken, and no other notification can tell.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Status, message::Notification};

/// The receiver's name, in `alertmanager.yml` too.
pub const RECEIVER: &str = "dead-mans-switch";
/// The name under which its alarm is shown.
pub const ALARM: &str = "DeadMansSwitch";

/// As people and machines see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing has come yet, and it is not time yet.
    Waiting,
    /// The last sign of life is younger than the interval.
    Alive,
    /// It is not, or the watchdog said that it ended.
    Silent,
}

/// The switch; its owner asks it in time.
#[derive(Debug)]
pub struct DeadMansSwitch {
    interval: Duration,
    state: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    deadline: Instant,
    last: Option<Timestamp>,
}

/// What the switch says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Now.
    pub state: State,
    /// Silence that is too long, in seconds.
    pub interval_seconds: u64,
    /// The last sign of life.
    pub last_heard: Option<Timestamp>,
}

impl DeadMansSwitch {
    /// A switch that waits for its first sign of life, for no longer than for any other.
    pub fn new(interval: Duration, now: Instant) -> Self {
        let state = Inner {
            state: State::Waiting,
            deadline: now + interval,
            last: None,
        };
        Self {
            interval,
            state: Mutex::new(state),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What it says now.
    pub fn report(&self) -> Report {
        let inner = self.inner();
        Report {
            state: inner.state,
            interval_seconds: self.interval.as_secs(),
            last_heard: inner.last,
        }
    }

    /// A webhook of Alertmanager came in; `None` when it is not one. Gives what is to be kept of it: the end of an alarm, or the
    /// beginning of one.
    pub(crate) fn hear(&self, body: &[u8], now: Instant) -> Option<Option<Notification>> {
        let webhook: Value = serde_json::from_slice(body).ok()?;
        // Alertmanager's webhook payload, version 4.
        webhook["alerts"].as_array()?;
        match webhook["status"].as_str()? {
            "firing" => {
                let mut inner = self.inner();
                inner.deadline = now + self.interval;
                inner.last = Some(Timestamp::now());
                let before = std::mem::replace(&mut inner.state, State::Alive);
                Some(
                    (before == State::Silent)
                        .then(|| notification(Status::Resolved, "the watchdog is heard again")),
                )
            }
            "resolved" => {
                Some(self.alarm("the watchdog stopped: Prometheus no longer sends alerts"))
            }
            _ => None,
        }
    }

    /// When to ask again.
    pub(crate) fn deadline(&self) -> Instant {
        self.inner().deadline
    }

    /// The alarm, once, when it is due.
    pub(crate) fn check(&self, now: Instant) -> Option<Notification> {
        let due = {
            let mut inner = self.inner();
            let due = now >= inner.deadline;
            if due {
                inner.deadline = now + self.interval;
            }
            due
        };
        due.then(|| {
            let seconds = self.interval.as_secs();
            self.alarm(&format!(
                "nothing heard from the watchdog for {seconds} s: Alertmanager or the way from it is broken"
            ))
        })?
    }

    fn alarm(&self, why: &str) -> Option<Notification> {
        let before = std::mem::replace(&mut self.inner().state, State::Silent);
        (before != State::Silent).then(|| notification(Status::Firing, why))
    }
}

fn notification(status: Status, why: &str) -> Notification {
    Notification {
        receiver: RECEIVER.into(),
        status,
        alerts: vec![ALARM.into()],
        payload: json!({ "text": why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(90);
    const ALIVE: &[u8] = br#"{"status":"firing","alerts":[{}]}"#;
    const ENDED: &[u8] = br#"{"status":"resolved","alerts":[{}]}"#;

    fn status(found: Option<Notification>) -> Option<Status> {
        found.map(|it| it.status)
    }

    #[test]
    fn says_once_that_it_is_silent_and_once_that_it_is_not() {
        let start = Instant::now();
        let switch = DeadMansSwitch::new(INTERVAL, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(switch.report().state, State::Waiting);
        assert_eq!(status(switch.check(after(89))), None);
        assert_eq!(status(switch.hear(ALIVE, after(89)).unwrap()), None);
        assert_eq!(switch.report().state, State::Alive);
        assert_eq!(status(switch.check(after(178))), None);
        assert_eq!(status(switch.check(after(179))), Some(Status::Firing));
        assert_eq!(switch.report().state, State::Silent);
        assert_eq!(status(switch.check(after(400))), None);
        assert_eq!(
            status(switch.hear(ALIVE, after(401)).unwrap()),
            Some(Status::Resolved)
        );
        assert_eq!(status(switch.hear(ALIVE, after(402)).unwrap()), None);
    }

    #[test]
    fn never_heard_of_is_silent_too() {
        let start = Instant::now();
        let switch = DeadMansSwitch::new(INTERVAL, start);
        assert_eq!(status(switch.check(start + INTERVAL)), Some(Status::Firing));
    }

    #[test]
    fn an_end_of_the_watchdog_is_an_alarm_at_once() {
        let start = Instant::now();
        let switch = DeadMansSwitch::new(INTERVAL, start);
        switch.hear(ALIVE, start).unwrap();
        assert_eq!(
            status(switch.hear(ENDED, start).unwrap()),
            Some(Status::Firing)
        );
        assert_eq!(status(switch.hear(ENDED, start).unwrap()), None);
        assert!(switch.hear(b"hello", start).is_none());
        assert!(switch.hear(b"{}", start).is_none());
    }
}
