//! Whether always exactly one person has each role.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::Serialize;

use crate::{Role, Roster, Segment};

/// What a stretch of weeks looks like.
#[derive(Debug)]
pub struct Coverage {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// Everything that is wrong, in order; empty when each minute has one primary and one secondary, two people.
    pub findings: Vec<Finding>,
    /// When the clock is put forward or back.
    pub clock_changes: Vec<ClockChange>,
    /// How long everybody has each role, in the order of the file.
    pub load: Vec<Load>,
}

/// A stretch of time that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The role; none where it is both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Who has the role, with what gives it to them: `first (layer nights)`.
    pub people: Vec<String>,
    /// `from` and `until` in the rotation's time zone, for people.
    #[serde(skip)]
    shown: [String; 2],
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nobody has the role.
    Gap,
    /// Several people have it.
    Overlap,
    /// One person has both roles, so nobody stands behind them.
    Both,
}

/// The clock is put forward or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockChange {
    /// When.
    pub at: Timestamp,
    /// By how many minutes; negative for back.
    pub minutes: i64,
}

/// How long somebody is on call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// The person.
    pub handle: String,
    /// Hours as primary.
    pub primary_hours: f64,
    /// Hours as secondary.
    pub secondary_hours: f64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, until] = &self.shown;
        let role = self.role.map_or("", Role::name);
        let people = self.people.join(" and ");
        write!(f, "{from} to {until}: ")?;
        match self.kind {
            Kind::Gap => write!(f, "nobody is {role}; let a layer or an override cover it"),
            Kind::Overlap => write!(f, "{people} are {role} at once; take it from all but one"),
            Kind::Both => write!(
                f,
                "{people} is primary and secondary at once; give one role to somebody else"
            ),
        }
    }
}

impl Roster {
    /// Looks at every minute of some weeks (of seven days by the calendar), by the stretches between
    /// boundaries.
    #[must_use]
    pub fn coverage(&self, from: Timestamp, weeks: u32) -> Coverage {
        let until = self.after_weeks(from, weeks);
        let segments = self.segments(from, until);
        Coverage {
            from,
            until,
            findings: self.findings(&segments),
            clock_changes: self.clock_changes(from, until),
            load: self.load(&segments),
        }
    }

    /// The same reading of the wall clock some weeks later.
    pub(crate) fn after_weeks(&self, from: Timestamp, weeks: u32) -> Timestamp {
        self.instant(
            self.zone
                .to_datetime(from)
                .saturating_add(i64::from(weeks).weeks()),
        )
    }

    fn findings(&self, segments: &[Segment]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for segment in segments {
            for (kind, role, people) in mistakes(segment) {
                let open = findings.iter_mut().rev().find(|finding| {
                    (finding.kind, finding.role, finding.until) == (kind, role, segment.from)
                        && finding.people == people
                });
                match open {
                    Some(finding) => finding.until = segment.until,
                    None => findings.push(Finding {
                        kind,
                        role,
                        from: segment.from,
                        until: segment.until,
                        people,
                        shown: <[String; 2]>::default(),
                    }),
                }
            }
        }
        for finding in &mut findings {
            finding.shown = [finding.from, finding.until].map(|at| self.show(at));
        }
        findings
    }

    fn clock_changes(&self, from: Timestamp, until: Timestamp) -> Vec<ClockChange> {
        let minutes = |at: Timestamp| i64::from(self.zone.to_offset(at).seconds()) / 60;
        self.zone
            .following(from)
            .map(|change| change.timestamp())
            .take_while(|at| *at < until)
            .map(|at| ClockChange {
                at,
                minutes: minutes(at) - minutes(at.saturating_sub(1.second()).unwrap_or(at)),
            })
            // A zone can also change its name alone.
            .filter(|change| change.minutes != 0)
            .collect()
    }

    fn load(&self, segments: &[Segment]) -> Vec<Load> {
        let mut sums: BTreeMap<(&str, Role), SignedDuration> = BTreeMap::new();
        for segment in segments {
            for role in Role::ALL {
                for handle in segment.on_call.handles(role) {
                    let sum = sums.entry((handle, role)).or_default();
                    *sum = sum.saturating_add(segment.from.duration_until(segment.until));
                }
            }
        }
        self.people
            .iter()
            .map(|person| {
                let hours = |role| {
                    sums.get(&(person.handle.as_str(), role))
                        .map_or(0.0, |sum| sum.as_secs_f64() / 3600.0)
                };
                Load {
                    handle: person.handle.clone(),
                    primary_hours: hours(Role::Primary),
                    secondary_hours: hours(Role::Secondary),
                }
            })
            .collect()
    }
}

fn mistakes(segment: &Segment) -> Vec<(Kind, Option<Role>, Vec<String>)> {
    let on_call = &segment.on_call;
    let mut found = Vec::new();
    for role in Role::ALL {
        let kind = match on_call.handles(role).len() {
            0 => Kind::Gap,
            1 => continue,
            _ => Kind::Overlap,
        };
        let people = on_call.claims(role).iter();
        let people = people.map(|claim| format!("{} ({})", claim.handle, claim.by));
        found.push((kind, Some(role), people.collect()));
    }
    let secondary = on_call.handles(Role::Secondary);
    let both = on_call.handles(Role::Primary).into_iter();
    let both: Vec<String> = both
        .filter(|handle| secondary.contains(handle))
        .map(str::to_owned)
        .collect();
    if !both.is_empty() {
        found.push((Kind::Both, None, both));
    }
    found
}
