//! Lab 10: a rotation of the learner's own, and a page that reached whoever was on call.

use ::oncall::{Role, Roster};
use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp, civil::Date};
use serde_json::Value;

use super::grader::{Graded, Grader, Seen, graded};
use crate::committed;

/// The learner's rotation.
const FILE: &str = "oncall.yaml";
/// Months ahead, as far as `lab oncall check` looks by itself.
const WEEKS: u32 = 26;
/// The fewest that can take turns and still sleep.
const PEOPLE: usize = 3;
/// The longest that anybody is woken first without a break.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The busiest has so much more than the one with least, at most: turns are weeks, and holidays move hours about.
const UNEVEN: f64 = 1.5;
/// A day that somebody wants off.
const DAY_OFF: (i8, i8) = (12, 24);

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "It is a rotation of your own team",
            "oncall.yaml with three people or more, who are not those of alertmanager/oncall.yaml; docs/oncall.md explains every key",
            it.is_own(),
        ),
        graded(
            "Always exactly one is primary and another stands behind",
            "lab oncall check --file labs/10-oncall/work/oncall.yaml names every gap",
            it.is_covered(),
        ),
        graded(
            "It is fair",
            "hand over at least once a week, and let every layer have the same people in the same order, moved",
            it.is_fair(),
        ),
        graded(
            "Somebody has Christmas Eve off",
            "an override gives the role of whoever's turn it is at noon of December 24th to somebody else",
            it.is_swapped(),
        ),
        graded(
            "A page reached whoever is on call in this lab",
            "provoke a critical alert, see in `lab inbox` which handle was paged, and ask `lab oncall who --at` that time",
            it.paged().await,
        ),
    ]
}

impl Grader<'_> {
    fn roster(&self) -> anyhow::Result<Roster> {
        Ok(Roster::parse(&self.file(FILE), &self.read(FILE)?)?)
    }

    /// The rotation of the lab that runs.
    fn theirs(&self) -> anyhow::Result<Roster> {
        let file = self.layout.config(crate::oncall::ROTATION);
        Ok(Roster::parse(&file, &committed::read(&file)?)?)
    }

    fn is_own(&self) -> Seen {
        let people = |roster: &Roster| -> Vec<String> {
            let coverage = roster.coverage(Timestamp::now(), WEEKS);
            coverage.load.into_iter().map(|load| load.handle).collect()
        };
        let own = people(&self.roster()?);
        let theirs = people(&self.theirs()?);
        ensure!(
            own.len() >= PEOPLE,
            "{} people are too few to take turns: {PEOPLE} or more",
            own.len()
        );
        if let Some(same) = own.iter().find(|handle| theirs.contains(handle)) {
            anyhow::bail!("{same} is in the lab's own rotation; name people of yours");
        }
        Ok(vec![format!("{} take turns", own.join(", "))])
    }

    fn is_covered(&self) -> Seen {
        let roster = self.roster()?;
        let coverage = roster.coverage(Timestamp::now(), WEEKS);
        if let Some(finding) = coverage.findings.first() {
            anyhow::bail!(
                "{} stretches are not covered, for one {finding}",
                coverage.findings.len()
            );
        }
        Ok(vec![format!(
            "every minute until {}, through {} changes of the clock",
            roster.show(coverage.until),
            coverage.clock_changes.len()
        )])
    }

    fn is_fair(&self) -> Seen {
        let roster = self.roster()?;
        let coverage = roster.coverage(Timestamp::now(), WEEKS);
        let mut run: Option<(String, Timestamp)> = None;
        for segment in roster.segments(coverage.from, coverage.until) {
            let handle = segment
                .on_call
                .one(Role::Primary)
                .unwrap_or_default()
                .to_owned();
            let since = match &run {
                Some((before, since)) if *before == handle => *since,
                _ => segment.from,
            };
            // The clock may be put back in a week.
            let longest = LONGEST + SignedDuration::from_hours(1);
            ensure!(
                segment.until.duration_since(since) <= longest,
                "{handle} is primary for more than a week from {}",
                roster.show(since)
            );
            run = Some((handle, since));
        }
        let hours = coverage.load.iter().map(|load| load.primary_hours);
        let least = hours.clone().fold(f64::INFINITY, f64::min);
        let most = hours.fold(0.0, f64::max);
        ensure!(
            most <= UNEVEN * least,
            "somebody is primary for {most:.0} hours of half a year, somebody else for {least:.0}"
        );
        let load = coverage.load.iter();
        Ok(load
            .map(|load| {
                format!(
                    "{}: {:.0} hours as primary in {WEEKS} weeks",
                    load.handle, load.primary_hours
                )
            })
            .collect())
    }

    fn is_swapped(&self) -> Seen {
        let roster = self.roster()?;
        let noon = |date: Date| roster.instant(date.at(12, 0, 0, 0));
        let (month, day) = DAY_OFF;
        let now = Timestamp::now();
        let year = now.strftime("%Y").to_string().parse()?;
        let this = noon(Date::new(year, month, day)?);
        let at = if this > now {
            this
        } else {
            noon(Date::new(year + 1, month, day)?)
        };
        let on_call = roster.who(at);
        let claims = on_call.claims(Role::Primary);
        let swapped = claims.iter().find(|claim| claim.by == "override");
        let swapped = swapped.with_context(|| {
            format!(
                "nobody has taken {} over: whose turn it is has it",
                roster.show(at)
            )
        })?;
        let before = self.read(FILE)?;
        let without = Roster::parse(&self.file(FILE), &without_overrides(&before)?)?;
        let due = without.who(at);
        let due = due.one(Role::Primary).unwrap_or("nobody").to_owned();
        ensure!(
            due != swapped.handle,
            "{due} takes over from {due} on {}",
            roster.show(at)
        );
        Ok(vec![format!(
            "{}: {} instead of {due}",
            roster.show(at),
            swapped.handle
        )])
    }

    async fn paged(&self) -> Seen {
        let answers = self.answers()?;
        let (paged, behind) = (answers.text("paged")?, answers.text("behind")?);
        let theirs = self.theirs()?;
        self.endpoints.need(&["console"])?;
        let inbox = self.endpoints.inbox.as_deref();
        let inbox = inbox.context("the file of endpoints names no inbox")?;
        let url = format!("{inbox}/inbox/api/messages");
        let wanted = [("channel", "pagerduty"), ("status", "firing")];
        let answer = self.probe.get(&url, &wanted).await?;
        let messages = answer["messages"].as_array().into_iter().flatten();
        let pages: Vec<(&Value, Timestamp)> = messages
            .filter_map(|it| Some((it, it["received_at"].as_str()?.parse().ok()?)))
            .collect();
        let (page, at) = pages
            .iter()
            .max_by_key(|(_, at)| *at)
            .context("nobody has been paged yet")?;
        let who = theirs.who(*at);
        let receiver = page["receiver"].as_str().unwrap_or_default();
        ensure!(
            who.one(Role::Primary) == Some(&paged),
            "`paged`: {paged} was not on call when the newest page came, at {}",
            theirs.show(*at)
        );
        ensure!(
            who.one(Role::Secondary) == Some(&behind),
            "`behind`: {behind} did not stand behind {paged} then"
        );
        Ok(vec![format!(
            "{} went to {receiver} at {}",
            page["alerts"],
            theirs.show(*at)
        )])
    }
}

/// The same rotation as if nobody had swapped.
fn without_overrides(text: &str) -> anyhow::Result<String> {
    let mut rotation: Value = serde_saphyr::from_str(text).context("a rotation is YAML")?;
    if let Some(rotation) = rotation.as_object_mut() {
        rotation.remove("overrides");
    }
    Ok(rotation.to_string())
}
