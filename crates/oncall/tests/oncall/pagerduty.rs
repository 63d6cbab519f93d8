//! The bodies for PagerDuty's REST API, against its published schema and against the rotation.

use jiff::{Timestamp, ToSpan as _, civil::DateTime, tz::TimeZone};
use oncall::{Error, Role, Roster, pagerduty};
use serde_json::{Value, json};

use crate::rosters::{BERLIN, changed, instant, parse};

#[test]
fn a_schedule_has_the_published_shape() {
    let roster = parse(BERLIN).unwrap();
    let user = |id: &str| json!({ "user": { "id": id, "type": "user_reference" } });
    let expected = json!({ "schedule": {
        "type": "schedule",
        "name": "secondary on call",
        "time_zone": "Europe/Berlin",
        "description": "Made by `lab oncall render --pagerduty` of alertmanager/oncall.yaml",
        "schedule_layers": [{
            "name": "behind",
            "start": "2026-11-02T09:00:00+01:00",
            "rotation_virtual_start": "2026-11-02T09:00:00+01:00",
            "rotation_turn_length_seconds": 604_800,
            "users": [user("P2"), user("P3"), user("P4"), user("P1")],
        }],
    }});
    assert_eq!(
        pagerduty::schedule(&roster, Role::Secondary).unwrap(),
        expected
    );
    let primary = pagerduty::schedule(&roster, Role::Primary).unwrap();
    let layers = primary["schedule"]["schedule_layers"].as_array().unwrap();
    let restriction = |day: u8, time: &str, seconds: u32| {
        json!({
            "type": "weekly_restriction", "start_day_of_week": day, "start_time_of_day": time, "duration_seconds": seconds,
        })
    };
    let night = 16 * 3600;
    assert_eq!(
        layers[0]["restrictions"],
        json!([
            restriction(1, "17:00:00", night),
            restriction(2, "17:00:00", night),
            restriction(3, "17:00:00", night),
            restriction(4, "17:00:00", night),
            restriction(5, "17:00:00", night + 2 * 24 * 3600),
        ])
    );
    assert_eq!(
        layers[1]["restrictions"][4],
        restriction(5, "09:00:00", 8 * 3600)
    );
}

#[test]
fn people_without_a_user_id_are_named() {
    let roster = changed(", pagerduty_user: P2", "").unwrap();
    let Err(Error::NoPagerDutyUser(handles)) = pagerduty::schedule(&roster, Role::Primary) else {
        panic!("it made a schedule");
    };
    assert_eq!(handles, ["second"]);
}

/// Layers and overrides together say at every quarter of an hour what the rotation says, by an evaluator of
/// PagerDuty's rules as they are published.
#[test]
fn schedule_and_overrides_say_what_the_rotation_says() {
    let roster = parse(BERLIN).unwrap();
    let from = instant("2026-11-02T09:00+01:00");
    for role in Role::ALL {
        let schedule = pagerduty::schedule(&roster, role).unwrap();
        let overrides = pagerduty::overrides(&roster, role, from, 22).unwrap();
        if role == Role::Primary {
            // The override, and the business hours of Christmas Day.
            assert_eq!(
                overrides["overrides"].as_array().unwrap().len(),
                2,
                "{overrides:#}"
            );
        }
        let mut at = from;
        while at < instant("2027-04-05T09:00+02:00") {
            assert_eq!(
                by_pagerduty(&schedule["schedule"], &overrides, at),
                user_of(&roster, role, at),
                "{role} at {}",
                roster.show(at)
            );
            at = at.checked_add(15.minutes()).unwrap();
        }
    }
}

fn user_of(roster: &Roster, role: Role, at: Timestamp) -> String {
    let handle = roster.who(at).one(role).unwrap().to_owned();
    let users = [
        ("first", "P1"),
        ("second", "P2"),
        ("third", "P3"),
        ("fourth", "P4"),
    ];
    users.iter().find(|it| it.0 == handle).unwrap().1.to_owned()
}

fn by_pagerduty(schedule: &Value, overrides: &Value, at: Timestamp) -> String {
    let time = |value: &Value| instant(value.as_str().unwrap());
    let id = |user: &Value| user["id"].as_str().unwrap().to_owned();
    for it in overrides["overrides"].as_array().unwrap() {
        if time(&it["start"]) <= at && at < time(&it["end"]) {
            return id(&it["user"]);
        }
    }
    let zone = TimeZone::get(schedule["time_zone"].as_str().unwrap()).unwrap();
    let wall_clock = zone.to_datetime(at);
    let claiming: Vec<String> = schedule["schedule_layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| {
            let restrictions = layer["restrictions"].as_array();
            restrictions.is_none_or(|all| all.iter().any(|it| admits(it, wall_clock)))
        })
        .map(|layer| {
            let start = zone.to_datetime(time(&layer["rotation_virtual_start"]));
            let length = layer["rotation_turn_length_seconds"].as_i64().unwrap();
            // Turns change at the same time of day throughout the year.
            let turn = start.duration_until(wall_clock).as_secs() / length;
            let users = layer["users"].as_array().unwrap();
            id(&users[usize::try_from(turn).unwrap() % users.len()]["user"])
        })
        .collect();
    assert_eq!(
        claiming.len(),
        1,
        "layers never overlap: {claiming:?} at {wall_clock}"
    );
    claiming[0].clone()
}

fn admits(restriction: &Value, at: DateTime) -> bool {
    let day = i8::try_from(restriction["start_day_of_week"].as_i64().unwrap()).unwrap();
    let time: jiff::civil::Time = restriction["start_time_of_day"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let back = at
        .weekday()
        .since(jiff::civil::Weekday::from_monday_one_offset(day).unwrap());
    let start = at.date().saturating_sub(back.days()).to_datetime(time);
    let start = if start > at {
        start.saturating_sub(1.week())
    } else {
        start
    };
    start.duration_until(at).as_secs() < restriction["duration_seconds"].as_i64().unwrap()
}
