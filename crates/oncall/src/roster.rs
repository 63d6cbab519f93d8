//! The rotation and what it says of an instant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use serde::Serialize;

/// What somebody is on call as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Paged at once.
    Primary,
    /// Paged when the trouble lasts.
    Secondary,
}

impl Role {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who is on call when; see [`Roster::parse`].
#[derive(Debug)]
pub struct Roster {
    pub(crate) zone: TimeZone,
    pub(crate) zone_name: String,
    pub(crate) hand_over: HandOver,
    /// A duration as Prometheus and Alertmanager write it: `15m`.
    pub(crate) escalate_after: String,
    pub(crate) people: Vec<Person>,
    pub(crate) business: Option<BusinessHours>,
    /// Days without business hours.
    pub(crate) holidays: BTreeMap<Date, String>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) overrides: Vec<Override>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct HandOver {
    pub(crate) weekday: Weekday,
    pub(crate) time: Time,
}

#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) handle: String,
    pub(crate) pagerduty_user: Option<String>,
}

#[derive(Debug)]
pub(crate) struct BusinessHours {
    /// In order, from Monday.
    pub(crate) weekdays: Vec<Weekday>,
    pub(crate) from: Time,
    pub(crate) until: Time,
}

/// The hours in which a layer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hours {
    Always,
    Business,
    OutsideBusiness,
}

/// People who take weekly turns in a role.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) hours: Hours,
    /// The first of `people` has the week that begins with the hand-over of this day.
    pub(crate) since: Date,
    /// Ends with the hand-over of this day.
    pub(crate) until: Option<Date>,
    pub(crate) people: Vec<String>,
}

/// Somebody takes a role for a while, whatever the layers say.
#[derive(Debug)]
pub(crate) struct Override {
    pub(crate) role: Role,
    pub(crate) person: String,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// Somebody who has a role, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The person's handle.
    pub handle: String,
    /// `layer NAME` or `override`.
    pub by: String,
}

/// What the rotation says of an instant. A rotation without mistakes has one claim for each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnCall {
    /// Whether it is within business hours; never on a holiday.
    pub business_hours: bool,
    claims: [Vec<Claim>; 2],
}

impl OnCall {
    /// Everybody who has the role.
    #[must_use]
    pub fn claims(&self, role: Role) -> &[Claim] {
        &self.claims[role as usize]
    }

    /// The handles of those who have the role, each once.
    #[must_use]
    pub fn handles(&self, role: Role) -> Vec<&str> {
        let all: BTreeSet<&str> = self
            .claims(role)
            .iter()
            .map(|claim| claim.handle.as_str())
            .collect();
        all.into_iter().collect()
    }

    /// The one person who has the role; none when nobody or several have.
    #[must_use]
    pub fn one(&self, role: Role) -> Option<&str> {
        match self.handles(role)[..] {
            [handle] => Some(handle),
            _ => None,
        }
    }
}

/// A stretch of time in which the same people are on call throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant that is not in it any more.
    pub until: Timestamp,
    /// Who is on call.
    pub on_call: OnCall,
}

impl Roster {
    /// Who is on call at an instant.
    #[must_use]
    pub fn who(&self, at: Timestamp) -> OnCall {
        let business_hours = self.in_business_hours(at);
        let turn = self.turn(at);
        OnCall {
            business_hours,
            claims: Role::ALL.map(|role| self.claims(role, at, turn, business_hours)),
        }
    }

    /// Everything from one instant to another, cut where anything can change. Found by boundaries, not
    /// by stepping.
    #[must_use]
    pub fn segments(&self, from: Timestamp, until: Timestamp) -> Vec<Segment> {
        let mut starts = self.boundaries(from, until);
        starts.insert(from);
        let ends: Vec<Timestamp> = starts.iter().copied().skip(1).chain([until]).collect();
        starts
            .into_iter()
            .zip(ends)
            .filter(|(from, until)| from < until)
            .map(|(from, until)| Segment {
                from,
                until,
                on_call: self.who(from),
            })
            .collect()
    }

    /// From when until when whoever has the role at this instant has it without a break; no limit is given
    /// where it is further away than five weeks.
    #[must_use]
    pub fn turn_of(&self, role: Role, at: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let reach = (5 * 7 * 24).hours();
        let (first, last) = (at.saturating_sub(reach), at.saturating_add(reach));
        let (Ok(first), Ok(last)) = (first, last) else {
            return (None, None);
        };
        let now = self.who(at);
        let segments = self.segments(first, last);
        let other = |segment: &&Segment| segment.on_call.handles(role) != now.handles(role);
        let since = segments
            .iter()
            .rev()
            .skip_while(|segment| segment.from > at)
            .find(other)
            .map(|segment| segment.until);
        let until = segments
            .iter()
            .skip_while(|segment| segment.until <= at)
            .find(other)
            .map(|segment| segment.from);
        (since, until)
    }

    /// The instant of a wall clock reading. One that the clock skips counts as much later as the clock is
    /// put forward; of one that comes twice the first counts.
    #[must_use]
    pub fn instant(&self, wall_clock: DateTime) -> Timestamp {
        // Only the ends of the calendar have no instant.
        self.zone
            .to_timestamp(wall_clock)
            .unwrap_or(if wall_clock.year() < 0 {
                Timestamp::MIN
            } else {
                Timestamp::MAX
            })
    }

    /// The day of the hand-over that began the turn an instant lies in.
    #[must_use]
    pub fn turn(&self, at: Timestamp) -> Date {
        let today = self.zone.to_datetime(at).date();
        let back = today.weekday().since(self.hand_over.weekday);
        let day = today.saturating_sub(back.days());
        if self.hand_over_of(day) <= at {
            day
        } else {
            day.saturating_sub(1.week())
        }
    }

    /// The name of the time zone, as IANA has it.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// An instant in the rotation's time zone, for people: `Mon 2026-11-23 09:00 +01:00`.
    #[must_use]
    pub fn show(&self, at: Timestamp) -> String {
        at.to_zoned_datetime(self.zone.clone())
            .strftime("%a %Y-%m-%d %H:%M %:z")
            .to_string()
    }

    /// An instant that somebody typed: RFC 3339, or a wall clock reading in the rotation's time zone.
    ///
    /// # Errors
    /// When it is neither, with examples of both.
    pub fn parse_instant(&self, text: &str) -> Result<Timestamp, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(at);
        }
        match text.parse::<DateTime>() {
            Ok(wall_clock) => Ok(self.instant(wall_clock)),
            Err(_) => Err(format!(
                "`{text}` is no time; write 2026-12-24T18:00 ({}) or 2026-12-24T17:00:00Z",
                self.zone_name
            )),
        }
    }

    fn hand_over_of(&self, day: Date) -> Timestamp {
        self.instant(day.to_datetime(self.hand_over.time))
    }

    fn claims(&self, role: Role, at: Timestamp, turn: Date, business: bool) -> Vec<Claim> {
        let overriding: Vec<Claim> = self
            .overrides
            .iter()
            .filter(|it| it.role == role && it.from <= at && at < it.until)
            .map(|it| Claim {
                handle: it.person.clone(),
                by: "override".into(),
            })
            .collect();
        if !overriding.is_empty() {
            return overriding;
        }
        self.layers
            .iter()
            .filter(|layer| layer.role == role && layer.hours.include(business))
            .filter_map(|layer| {
                Some(Claim {
                    handle: layer.person(turn)?.to_owned(),
                    by: format!("layer {}", layer.name),
                })
            })
            .collect()
    }

    fn in_business_hours(&self, at: Timestamp) -> bool {
        let today = self.zone.to_datetime(at).date();
        // Where the clock jumps over midnight, hours of the day before can reach into this one.
        [today.saturating_sub(1.day()), today]
            .into_iter()
            .filter_map(|day| self.business_hours_of(day))
            .any(|(from, until)| from <= at && at < until)
    }

    /// The business hours of a day, if it has any.
    pub(crate) fn business_hours_of(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if self.holidays.contains_key(&day) {
            return None;
        }
        self.usual_business_hours_of(day)
    }

    /// The business hours that a day would have if it were no holiday.
    pub(crate) fn usual_business_hours_of(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let hours = self.business.as_ref()?;
        hours.weekdays.contains(&day.weekday()).then(|| {
            let at = |time| self.instant(day.to_datetime(time));
            (at(hours.from), at(hours.until))
        })
    }

    /// Every instant between two at which somebody else can be on call, or business hours begin or end.
    fn boundaries(&self, from: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
        let day = |at| self.zone.to_datetime(at).date();
        // A day more on either side: an instant of one day can belong to the hours of another.
        let first = day(from).saturating_sub(1.day());
        let last = day(until).saturating_add(1.day());
        let mut found = BTreeSet::new();
        for day in first.series(1.day()).take_while(|day| *day <= last) {
            if day.weekday() == self.hand_over.weekday {
                found.insert(self.hand_over_of(day));
            }
            if let Some((begin, end)) = self.business_hours_of(day) {
                found.extend([begin, end]);
            }
        }
        found.extend(self.overrides.iter().flat_map(|it| [it.from, it.until]));
        found.retain(|at| from < *at && *at < until);
        found
    }
}

impl Hours {
    fn include(self, business: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Business => business,
            Self::OutsideBusiness => !business,
        }
    }
}

impl Layer {
    /// Whose turn it is in the week that began with the hand-over of this day.
    fn person(&self, turn: Date) -> Option<&str> {
        if turn < self.since || self.until.is_some_and(|until| turn >= until) {
            return None;
        }
        let weeks = turn.duration_since(self.since).as_hours() / (7 * 24);
        let turns = i64::try_from(self.people.len()).ok()?;
        let index = usize::try_from(weeks.checked_rem(turns)?).ok()?;
        self.people.get(index).map(String::as_str)
    }
}
