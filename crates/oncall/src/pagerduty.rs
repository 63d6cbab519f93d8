//! The rotation in PagerDuty's words: bodies for its REST API v2.
//!
//! A schedule has one person on call, so each role is a schedule; an escalation policy names them in order.
//! Layers never overlap here, so that it does not matter which one PagerDuty puts on top. A schedule knows no
//! holidays and no overrides: they are sent after it, for a stretch of time.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Weekday};
use serde_json::{Value, json};

use crate::{
    Error, Role, Roster,
    roster::{BusinessHours, Hours, Layer},
};

const WEEK: i64 = 7 * 24 * 3600;

/// The body of `POST /schedules` for a role.
///
/// # Errors
/// When somebody in it has no PagerDuty user id.
pub fn schedule(roster: &Roster, role: Role) -> Result<Value, Error> {
    let layers: Vec<&Layer> = roster.layers.iter().filter(|it| it.role == role).collect();
    let users = users(
        roster,
        layers
            .iter()
            .flat_map(|layer| layer.people.iter().map(String::as_str)),
    )?;
    let layers: Vec<Value> = layers
        .into_iter()
        .map(|layer| {
            let start = time(roster, roster.instant(layer.since.to_datetime(roster.hand_over.time)));
            let people = layer.people.iter();
            let mut body = json!({
                "name": layer.name,
                "start": start,
                "rotation_virtual_start": start,
                "rotation_turn_length_seconds": WEEK,
                "users": people.map(|handle| json!({ "user": users[handle.as_str()] })).collect::<Vec<_>>(),
            });
            if let Some(until) = layer.until {
                let until = roster.instant(until.to_datetime(roster.hand_over.time));
                body["end"] = time(roster, until).into();
            }
            if let Some(hours) = &roster.business {
                let restrictions = match layer.hours {
                    Hours::Always => Vec::new(),
                    Hours::Business => business(hours),
                    Hours::OutsideBusiness => outside(hours),
                };
                if !restrictions.is_empty() {
                    body["restrictions"] = restrictions.into();
                }
            }
            body
        })
        .collect();
    Ok(json!({
        "schedule": {
            "type": "schedule",
            "name": format!("{role} on call"),
            "time_zone": roster.zone(),
            "description": "Made by `lab oncall render --pagerduty` of alertmanager/oncall.yaml",
            "schedule_layers": layers,
        }
    }))
}

/// The body of `POST /schedules/{id}/overrides`: where the rotation differs from its layers, because of an
/// override or because a holiday has no business hours.
///
/// # Errors
/// When somebody in it has no PagerDuty user id, or the rotation does not say who is on call.
pub fn overrides(roster: &Roster, role: Role, from: Timestamp, weeks: u32) -> Result<Value, Error> {
    let coverage = roster.coverage(from, weeks);
    if !coverage.findings.is_empty() {
        return Err(Error::NotCovered(coverage.findings));
    }
    let mut differing: Vec<(Timestamp, Timestamp, String)> = Vec::new();
    for segment in roster.segments(from, coverage.until) {
        let overridden = segment
            .on_call
            .claims(role)
            .iter()
            .any(|it| it.by == "override");
        for (from, until) in unlike_layers(roster, segment.from, segment.until, overridden) {
            let handle = segment.on_call.one(role).unwrap_or_default().to_owned();
            match differing.last_mut() {
                Some(last) if last.1 == from && last.2 == handle => last.1 = until,
                _ => differing.push((from, until, handle)),
            }
        }
    }
    let users = users(roster, differing.iter().map(|it| it.2.as_str()))?;
    let overrides: Vec<Value> = differing
        .iter()
        .map(|(from, until, handle)| {
            json!({
                "start": time(roster, *from),
                "end": time(roster, *until),
                "user": users[handle.as_str()],
            })
        })
        .collect();
    Ok(json!({ "overrides": overrides }))
}

/// The parts of a stretch in which PagerDuty would go by other hours: all of it when it is overridden, the usual
/// business hours of a holiday otherwise.
fn unlike_layers(
    roster: &Roster,
    from: Timestamp,
    until: Timestamp,
    overridden: bool,
) -> Vec<(Timestamp, Timestamp)> {
    if overridden {
        return vec![(from, until)];
    }
    let holidays = roster.holidays.keys();
    holidays
        .filter_map(|day| roster.usual_business_hours_of(*day))
        .map(|(begin, end)| (begin.max(from), end.min(until)))
        .filter(|(begin, end)| begin < end)
        .collect()
}

fn users<'a>(
    roster: &'a Roster,
    handles: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<&'a str, Value>, Error> {
    let mut users = BTreeMap::new();
    let mut unknown = Vec::new();
    for handle in handles {
        if users.contains_key(handle) {
            continue;
        }
        let person = roster.people.iter().find(|person| person.handle == handle);
        let id = person.and_then(|person| person.pagerduty_user.as_deref());
        if id.is_none() {
            unknown.push(handle.to_owned());
        }
        users.insert(handle, json!({ "id": id, "type": "user_reference" }));
    }
    if unknown.is_empty() {
        Ok(users)
    } else {
        Err(Error::NoPagerDutyUser(unknown))
    }
}

/// ISO 8601 with the offset that the zone has then.
fn time(roster: &Roster, at: Timestamp) -> String {
    at.to_zoned_datetime(roster.zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

fn business(hours: &BusinessHours) -> Vec<Value> {
    let length = hours.from.duration_until(hours.until).as_secs();
    let days = hours.weekdays.iter();
    days.map(|day| restriction(*day, hours.from, length))
        .collect()
}

/// From the end of each day's hours to the beginning of the next day's that has some.
fn outside(hours: &BusinessHours) -> Vec<Value> {
    let days = &hours.weekdays;
    days.iter()
        .zip(days.iter().cycle().skip(1))
        .map(|(day, next)| {
            let apart = match next.since(*day) {
                0 => 7,
                days => days,
            };
            let length =
                i64::from(apart) * 24 * 3600 - hours.from.duration_until(hours.until).as_secs();
            restriction(*day, hours.until, length)
        })
        .collect()
}

fn restriction(day: Weekday, from: jiff::civil::Time, seconds: i64) -> Value {
    json!({
        "type": "weekly_restriction",
        "start_day_of_week": day.to_monday_one_offset(),
        "start_time_of_day": from.strftime("%H:%M:%S").to_string(),
        "duration_seconds": seconds,
    })
}
