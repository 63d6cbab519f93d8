//! Watches alerts come and go, from Prometheus to whoever is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{
    act::Scene,
    events::Events,
    journal::Owner,
    rules::{Alert, Theory},
    table::{Drill, Exercise, How, Told},
};
use crate::{verify::Probe, view::Steps};
use ::inbox::ALARM;

/// How often is looked.
const BEAT: Duration = Duration::from_millis(500);
/// How much later than in theory something may be seen: the machine may be busy.
const SLACK: u64 = 60;
/// An alert that fires already is waited for, for so long.
const QUIET_WITHIN: u64 = 60;
/// Prometheus says of an alert that it ends in four times the interval in which it is told of again.
const WATCHDOG_FORGOTTEN: u64 = 60;

/// What was seen of one alert: seconds from the fault, or from its end.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Measured {
    pub(super) pending: Option<f64>,
    pub(super) firing: Option<f64>,
    /// In Alertmanager.
    pub(super) active: Option<f64>,
    /// Silenced by another alert.
    pub(super) inhibited: Option<f64>,
    /// By channel and receiver.
    pub(super) notified: BTreeMap<String, f64>,
    pub(super) ended: Option<f64>,
    pub(super) resolved: BTreeMap<String, f64>,
}

/// One alert's drill.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) alert: &'static str,
    pub(super) severity: String,
    pub(super) exercise: &'static str,
    pub(super) what: &'static str,
    pub(super) ok: bool,
    /// What was not seen.
    pub(super) missing: Vec<String>,
    pub(super) note: Option<String>,
    pub(super) theory: Theory,
    pub(super) measured: Measured,
}

/// An alert that is looked for during an exercise.
#[derive(Clone)]
pub(super) struct Sought {
    pub(super) drill: &'static Drill,
    pub(super) alert: Alert,
    pub(super) theory: Theory,
    pub(super) measured: Measured,
    /// Its alerts that fired before, which are not the exercise's.
    before: BTreeSet<String>,
}

impl Sought {
    pub(super) fn new(drill: &'static Drill, alert: Alert, theory: Theory) -> Self {
        Self {
            drill,
            alert,
            theory,
            measured: Measured::default(),
            before: BTreeSet::new(),
        }
    }

    fn told(&self) -> Told {
        match self.drill.how {
            How::Provoked { told, .. } => told,
            How::Ended { .. } | How::NotHere(_) => Told::Receivers,
        }
    }

    fn is_mine(&self, labels: &Value) -> bool {
        labels["alertname"] == self.alert.name.as_str()
            && labels["severity"] == self.alert.severity.as_str()
    }

    /// Channels that shall tell of it.
    fn channels(&self, has_inbox: bool) -> &'static [&'static str] {
        match self.told() {
            Told::Receivers if has_inbox => channels(&self.alert.severity),
            _ => &[],
        }
    }

    fn all_told(&self, told: &BTreeMap<String, f64>, has_inbox: bool) -> bool {
        let mut channels = self.channels(has_inbox).iter();
        channels.all(|channel| was_told(told, channel))
    }

    /// Whether all that happens while the fault is active has happened.
    fn is_up(&self, has_inbox: bool) -> bool {
        let reached = match self.told() {
            Told::Receivers => self.measured.active.is_some(),
            Told::Inhibited(_) => self.measured.inhibited.is_some(),
            Told::Nobody(_) => true,
        };
        self.measured.firing.is_some()
            && reached
            && self.all_told(&self.measured.notified, has_inbox)
    }

    fn is_down(&self, has_inbox: bool) -> bool {
        self.measured.firing.is_none()
            || self.measured.ended.is_some()
                && (!self.is_up(has_inbox) || self.all_told(&self.measured.resolved, has_inbox))
    }

    fn outcome(self, by: &'static Exercise, has_inbox: bool) -> Outcome {
        let mut missing = Vec::new();
        let measured = &self.measured;
        if measured.firing.is_none() {
            missing.push(match measured.pending {
                Some(_) => "it was pending and did not fire".to_owned(),
                None => "it did not become pending".to_owned(),
            });
        } else {
            match self.told() {
                Told::Receivers if measured.active.is_none() => {
                    missing.push("it did not reach Alertmanager".to_owned());
                }
                Told::Inhibited(cause) if measured.inhibited.is_none() => {
                    missing.push(format!("{cause} did not silence it"));
                }
                _ => {}
            }
            for channel in self.channels(has_inbox) {
                if !was_told(&measured.notified, channel) {
                    missing.push(format!("{channel} was not told"));
                } else if !was_told(&measured.resolved, channel) {
                    missing.push(format!("{channel} was not told of its end"));
                }
            }
            if measured.ended.is_none() {
                missing.push("it did not end".to_owned());
            }
        }
        let note = match self.told() {
            Told::Receivers => None,
            Told::Inhibited(cause) => Some(format!("silenced by {cause}, its cause")),
            Told::Nobody(why) => Some(why.to_owned()),
        };
        Outcome {
            alert: self.drill.alert,
            severity: self.alert.severity,
            exercise: by.name,
            what: by.what,
            ok: missing.is_empty(),
            missing,
            note,
            theory: self.theory,
            measured: self.measured,
        }
    }
}

/// How `alertmanager.yml` tells of a severity.
fn channels(severity: &str) -> &'static [&'static str] {
    match severity {
        "critical" => &["pagerduty", "slack"],
        "warning" => &["slack"],
        "info" => &["email"],
        _ => &["webhook"],
    }
}

fn was_told(told: &BTreeMap<String, f64>, channel: &str) -> bool {
    told.keys().any(|receiver| {
        receiver
            .split_once('/')
            .is_some_and(|(by, _)| by == channel)
    })
}

/// Prometheus, Alertmanager and the inbox of a lab.
pub(super) struct Sight {
    probe: Probe,
    prometheus: String,
    alertmanager: String,
    /// Where there is one.
    inbox: Option<String>,
}

impl Sight {
    pub(super) fn new(scene: &Scene) -> anyhow::Result<Self> {
        let inbox = match scene.board.get("console") {
            Some(_) => Some(scene.url("console", "http")? + "/inbox/api/messages"),
            None => None,
        };
        Ok(Self {
            probe: Probe::new()?,
            prometheus: scene.url("prometheus", "http")?,
            alertmanager: scene.url("alertmanager", "http")?,
            inbox,
        })
    }

    pub(super) fn has_inbox(&self) -> bool {
        self.inbox.is_some()
    }

    async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/api/v1/alerts", self.prometheus);
        let answer = self.probe.get(&url, &[]).await?;
        Ok(list(&answer["data"]["alerts"]))
    }

    async fn in_alertmanager(&self) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts", self.alertmanager);
        Ok(list(&self.probe.get(&url, &[]).await?))
    }

    async fn messages(&self, after: u64) -> anyhow::Result<Vec<Value>> {
        let Some(url) = &self.inbox else {
            return Ok(Vec::new());
        };
        let after = after.to_string();
        let answer = self.probe.get(url, &[("after", &after)]).await?;
        Ok(list(&answer["messages"]))
    }

    /// The number of the last message.
    async fn last_message(&self) -> anyhow::Result<u64> {
        let messages = self.messages(0).await?;
        Ok(messages
            .last()
            .and_then(|it| it["id"].as_u64())
            .unwrap_or(0))
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn since(begin: Timestamp, moment: Timestamp) -> f64 {
    let seconds = moment.duration_since(begin).as_secs_f64().max(0.0);
    (seconds * 10.0).round() / 10.0
}

/// An exercise that is carried out.
pub(super) struct Rehearsal<'a> {
    pub(super) scene: &'a Scene,
    pub(super) sight: &'a Sight,
    pub(super) exercise: &'static Exercise,
    /// Where what is waited for is shown.
    pub(super) steps: Option<&'a Steps>,
    /// Where what happens is told.
    pub(super) events: Option<&'a Events>,
}

/// An exercise that is over, and whose alerts may still fire.
pub(super) struct Aftermath {
    sought: Vec<Sought>,
    broken: anyhow::Result<Broken>,
}

/// From when until when something was broken.
struct Broken {
    begin: Timestamp,
    end: Timestamp,
    last_message: u64,
}

impl Rehearsal<'_> {
    fn say(&self, text: &str) {
        if let Some(steps) = self.steps {
            steps.show(self.exercise.name, text, None);
        }
    }

    fn tell(&self, event: &str, at: Timestamp) {
        if let Some(events) = self.events {
            events.act(event, self.exercise.name, self.exercise.what, at);
        }
    }

    /// Breaks, watches, mends. What cannot be done is the outcome of this exercise, and no reason to leave out the others.
    pub(super) async fn run(&self, mut sought: Vec<Sought>) -> Aftermath {
        let broken = self.break_and_mend(&mut sought).await;
        Aftermath { sought, broken }
    }

    async fn break_and_mend(&self, sought: &mut [Sought]) -> anyhow::Result<Broken> {
        self.wait_for_quiet(sought).await?;
        let last_message = self.sight.last_message().await?;
        let longest = sought.iter().map(|it| it.theory.notified).max();
        let up_within = longest.unwrap_or(0) + SLACK;

        let mut stage = self.scene.stage(Owner::Exercise(self.exercise.name));
        let begin = Timestamp::now();
        self.tell("fault", begin);
        let acted = async {
            for act in self.exercise.acts {
                // Whoever is killed before the end leaves a fault that ends by itself.
                stage.act(act, up_within + SLACK).await?;
            }
            self.watch(sought, begin, None, last_message, up_within)
                .await
        };
        let acted: anyhow::Result<()> = acted.await;
        self.say("mending");
        let end = Timestamp::now();
        stage.clear().await?;
        self.tell("mended", end);
        acted?;
        Ok(Broken {
            begin,
            end,
            last_message,
        })
    }

    /// Watches until everything is well again.
    pub(super) async fn finish(&self, aftermath: Aftermath) -> Vec<Outcome> {
        let Aftermath { mut sought, broken } = aftermath;
        let longest = sought.iter().map(|it| it.theory.resolved).max();
        let within = longest.unwrap_or(0) + SLACK;
        let watched = match broken {
            Ok(Broken {
                begin,
                end,
                last_message,
            }) => {
                self.watch(&mut sought, begin, Some(end), last_message, within)
                    .await
            }
            Err(error) => Err(error),
        };
        let trouble = watched.err().map(|error| format!("{error:#}"));
        let has_inbox = self.sight.has_inbox();
        let outcomes = sought.into_iter();
        outcomes
            .map(|it| {
                let mut outcome = it.outcome(self.exercise, has_inbox);
                if let Some(trouble) = &trouble {
                    (outcome.ok, outcome.missing) = (false, vec![trouble.clone()]);
                }
                outcome
            })
            .collect()
    }

    /// Alerts that fire already would be taken for those of the exercise.
    async fn wait_for_quiet(&self, sought: &mut [Sought]) -> anyhow::Result<()> {
        let longest = sought.iter().map(|it| it.theory.ended).max().unwrap_or(0);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(longest + QUIET_WITHIN);
        loop {
            let alerts = self.sight.alerts().await?;
            let mut noisy = None;
            for it in sought.iter_mut() {
                let mine = alerts.iter().filter(|alert| it.is_mine(&alert["labels"]));
                it.before = mine.map(|alert| alert["labels"].to_string()).collect();
                if !it.before.is_empty() {
                    noisy = Some(it.drill.name());
                }
            }
            match noisy {
                Some(name) if tokio::time::Instant::now() < deadline => {
                    self.say(&format!("waiting for {name}, which fires already, to end"));
                }
                _ => return Ok(()),
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Looks until everything has been seen, or the time is over.
    async fn watch(
        &self,
        sought: &mut [Sought],
        begin: Timestamp,
        end: Option<Timestamp>,
        last_message: u64,
        within: u64,
    ) -> anyhow::Result<()> {
        let has_inbox = self.sight.has_inbox();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(within);
        loop {
            // One that stands still for the exercise's sake does not answer.
            let alerts = self.sight.alerts().await.ok();
            let in_alertmanager = self.sight.in_alertmanager().await.unwrap_or_default();
            let messages = self.sight.messages(last_message).await.unwrap_or_default();
            let now = Timestamp::now();
            for it in sought.iter_mut() {
                if let Some(alerts) = &alerts {
                    see_in_prometheus(it, alerts, begin, end, now);
                }
                see_in_alertmanager(it, &in_alertmanager, begin, now);
                see_in_inbox(it, &messages, begin, end);
                if let Some(events) = self.events {
                    events.seen(self.exercise.name, it, begin, end);
                }
            }
            let waiting: Vec<_> = sought
                .iter()
                .filter(|it| match end {
                    None => !it.is_up(has_inbox),
                    Some(_) => !it.is_down(has_inbox),
                })
                .map(|it| it.drill.name())
                .collect();
            if waiting.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(());
            }
            let what = match end {
                None => "broken, waiting for",
                Some(_) => "mended, waiting for the end of",
            };
            self.say(&format!("{what} {}", waiting.join(", ")));
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Watchdog's end is the alarm.
    pub(super) async fn run_watchdog(&self, sought: Vec<Sought>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for it in sought {
            outcomes.push(self.outcome_of_watchdog(it).await);
        }
        outcomes
    }

    async fn outcome_of_watchdog(&self, mut sought: Sought) -> Outcome {
        let watched = self.watch_watchdog(&mut sought).await;
        let mut missing = Vec::new();
        if let Err(error) = watched {
            missing.push(format!("{error:#}"));
        } else if sought.measured.firing.is_none() {
            missing.push("the dead man's switch did not tell of its end".to_owned());
        } else if sought.measured.ended.is_none() {
            missing.push("it did not come back".to_owned());
        }
        Outcome {
            alert: sought.drill.alert,
            severity: sought.alert.severity,
            exercise: self.exercise.name,
            what: self.exercise.what,
            ok: missing.is_empty(),
            missing,
            note: Some("it always fires: its end is the alarm, its return the all-clear".into()),
            theory: sought.theory,
            measured: sought.measured,
        }
    }

    async fn watch_watchdog(&self, sought: &mut Sought) -> anyhow::Result<()> {
        if !self.sight.has_inbox() {
            bail!("this lab has no console, and so no dead man's switch");
        }
        let last = self.sight.last_message().await?;
        let mut stage = self.scene.stage(Owner::Exercise(self.exercise.name));
        let begin = Timestamp::now();
        let within = sought.theory.notified + SLACK;
        let broken = async {
            for act in self.exercise.acts {
                stage.act(act, within).await?;
            }
            self.say("broken, waiting for the dead man's switch");
            let ended = |message: &Value| is_of_switch(message, "firing");
            self.first_message(last, within, ended).await
        };
        let alarm = broken.await;
        let end = Timestamp::now();
        stage.clear().await?;
        if let Some((receiver, at)) = alarm? {
            sought.measured.firing = Some(since(begin, at));
            sought.measured.notified.insert(receiver, since(begin, at));
        }
        self.say("mended, waiting for a sign of life");
        let alive = |message: &Value| is_of_switch(message, "resolved");
        let within = sought.theory.resolved + SLACK;
        if let Some((receiver, at)) = self.first_message(last, within, alive).await? {
            sought.measured.ended = Some(since(end, at));
            sought.measured.resolved.insert(receiver, since(end, at));
        }
        Ok(())
    }

    async fn first_message(
        &self,
        last: u64,
        within: u64,
        is_it: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Option<(String, Timestamp)>> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(within);
        loop {
            let messages = self.sight.messages(last).await?;
            if let Some(message) = messages.iter().find(|message| is_it(message)) {
                let at = time(&message["received_at"]).context("a message without a time")?;
                return Ok(Some((receiver(message), at)));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// Whether the dead man's switch says that it hears nothing (firing), or something again (resolved).
fn is_of_switch(message: &Value, status: &str) -> bool {
    message["channel"] == "webhook" && message["alerts"][0] == ALARM && message["status"] == status
}

/// What theory says of Watchdog: Alertmanager forgets it, and hears of it again.
pub(super) fn watchdog_theory() -> Theory {
    let told = WATCHDOG_FORGOTTEN + 15;
    Theory {
        pending: 0,
        firing: told,
        active: told,
        notified: told,
        ended: 30,
        resolved: 30,
    }
}

fn receiver(message: &Value) -> String {
    let text = |key: &str| message[key].as_str().unwrap_or("?").to_owned();
    format!("{}/{}", text("channel"), text("receiver"))
}

fn see_in_prometheus(
    it: &mut Sought,
    alerts: &[Value],
    begin: Timestamp,
    end: Option<Timestamp>,
    now: Timestamp,
) {
    let mine: Vec<_> = alerts
        .iter()
        .filter(|alert| it.is_mine(&alert["labels"]))
        .filter(|alert| !it.before.contains(&alert["labels"].to_string()))
        .collect();
    let measured = &mut it.measured;
    if measured.pending.is_none() {
        let first = mine
            .iter()
            .filter_map(|alert| time(&alert["activeAt"]))
            .min();
        measured.pending = first.map(|at| since(begin, at));
    }
    let fires = mine.iter().any(|alert| alert["state"] == "firing");
    if fires && measured.firing.is_none() && end.is_none() {
        measured.firing = Some(since(begin, now));
    }
    if let Some(end) = end {
        // One that comes back has not ended.
        measured.ended = match (fires, measured.ended) {
            (true, _) => None,
            (false, Some(ended)) => Some(ended),
            (false, None) => measured.firing.map(|_| since(end, now)),
        };
    }
}

fn see_in_alertmanager(it: &mut Sought, alerts: &[Value], begin: Timestamp, now: Timestamp) {
    let mine = alerts.iter().filter(|alert| {
        it.is_mine(&alert["labels"]) && time(&alert["startsAt"]).is_some_and(|at| at >= begin)
    });
    let states: Vec<_> = mine.map(|alert| &alert["status"]["state"]).collect();
    if states.is_empty() {
        return;
    }
    let at = Some(since(begin, now));
    it.measured.active = it.measured.active.or(at);
    if states.iter().any(|state| **state == "suppressed") {
        it.measured.inhibited = it.measured.inhibited.or(at);
    }
}

fn see_in_inbox(it: &mut Sought, messages: &[Value], begin: Timestamp, end: Option<Timestamp>) {
    // A message names its alerts, and not their severity: it is about the one that silences this one.
    if it.told() == Told::Inhibited(it.drill.alert) {
        return;
    }
    for message in messages {
        let Some(at) = time(&message["received_at"]).filter(|at| *at >= begin) else {
            continue;
        };
        let channel = message["channel"].as_str().unwrap_or_default();
        if !channels(&it.alert.severity).contains(&channel) {
            continue;
        }
        for (name, resolved) in told_of(message, begin) {
            if name != it.alert.name {
                continue;
            }
            let (told, from) = match (resolved, end) {
                (false, _) => (&mut it.measured.notified, begin),
                // It ended before the fault was ended, as one does that looks at a single moment.
                (true, None) => (&mut it.measured.resolved, at),
                (true, Some(end)) => (&mut it.measured.resolved, end),
            };
            told.entry(receiver(message))
                .or_insert_with(|| since(from, at));
        }
    }
}

/// The alerts of a message, and whether it tells of their end. A mail is about all of a team, some of which may have ended:
/// each has a line of its own.
fn told_of(message: &Value, begin: Timestamp) -> Vec<(String, bool)> {
    if let Some(text) = message["payload"]["text"].as_str()
        && message["channel"] == "email"
    {
        return text
            .lines()
            .filter_map(|line| {
                let (resolved, rest) = match line.strip_prefix("FIRING since ") {
                    Some(rest) => (false, rest),
                    None => (true, line.strip_prefix("RESOLVED ")?),
                };
                let (moment, name) = rest.split_once(" UTC: ")?;
                let moment: Timestamp = format!("{moment}Z").parse().ok()?;
                // Of earlier ones it tells once more.
                (moment.as_second() >= begin.as_second())
                    .then(|| (name.trim().to_owned(), resolved))
            })
            .collect();
    }
    let resolved = message["status"] == "resolved";
    list(&message["alerts"])
        .iter()
        .filter_map(|name| Some((name.as_str()?.to_owned(), resolved)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mail_tells_of_each_alert_apart() {
        let text = "[FIRING:1] Old (shop)\r\n\r\nFIRING since 2026-11-25 08:00:58 UTC: ScrapeSlow\r\n  x\r\n\r\nRESOLVED 2026-11-25 08:01:01 UTC: NoTraffic\r\nRESOLVED 2026-11-25 07:58:37 UTC: Old\r\n";
        let mail = json!({"channel": "email", "status": "firing", "alerts": ["Old"], "payload": {"text": text}});
        let begin = "2026-11-25T08:00:58.9Z".parse().unwrap();
        let told = told_of(&mail, begin);
        assert_eq!(
            told,
            [
                ("ScrapeSlow".to_owned(), false),
                ("NoTraffic".to_owned(), true)
            ]
        );
        let slack =
            json!({"channel": "slack", "status": "resolved", "alerts": ["Old"], "payload": {}});
        assert_eq!(told_of(&slack, begin), [("Old".to_owned(), true)]);
    }
}
