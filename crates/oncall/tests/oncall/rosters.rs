//! Rotations to test with.

use std::path::Path;

use jiff::Timestamp;
use oncall::{Error, Roster};
use proptest::prelude::*;

/// Two roles, four people, business hours in Berlin.
pub const BERLIN: &str = r#"
version: oncall/v1
time_zone: Europe/Berlin
hand_over: { weekday: monday, time: "09:00" }
escalate_after: 15m
people:
  - { handle: first, pagerduty_user: P1 }
  - { handle: second, pagerduty_user: P2 }
  - { handle: third, pagerduty_user: P3 }
  - { handle: fourth, pagerduty_user: P4 }
business_hours:
  weekdays: [monday, tuesday, wednesday, thursday, friday]
  from: "09:00"
  until: "17:00"
holidays:
  - { date: 2026-12-25, name: Christmas Day }
layers:
  - { name: nights, role: primary, hours: outside-business, since: 2026-11-02, people: [first, second, third, fourth] }
  - { name: days, role: primary, hours: business, since: 2026-11-02, people: [third, fourth, first, second] }
  - { name: behind, role: secondary, hours: always, since: 2026-11-02, people: [second, third, fourth, first] }
overrides:
  - { role: primary, person: fourth, from: 2026-11-04T20:00, until: 2026-11-05T06:30 }
"#;

/// The committed one.
pub fn committed() -> Roster {
    let file = project().join("alertmanager/oncall.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    Roster::parse(&file, &text).unwrap()
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

pub fn parse(text: &str) -> Result<Roster, Error> {
    Roster::parse(Path::new("oncall.yaml"), text)
}

/// `BERLIN` with a change that has to be one.
pub fn changed(from: &str, to: &str) -> Result<Roster, Error> {
    assert!(BERLIN.contains(from), "{from}");
    parse(&BERLIN.replacen(from, to, 1))
}

pub fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Zones whose clocks change at midnight, by half an hour, in the south, never, and as usual; each with an
/// instant shortly before a change of 2027, as far as there is one.
pub const ZONES: [(&str, &str); 9] = [
    ("Europe/Berlin", "2027-03-27T00:00:00Z"),
    ("Europe/Berlin", "2026-10-24T00:00:00Z"),
    ("America/New_York", "2027-03-13T00:00:00Z"),
    ("America/St_Johns", "2026-10-31T00:00:00Z"),
    ("Australia/Lord_Howe", "2027-04-03T00:00:00Z"),
    ("Africa/Cairo", "2027-04-29T00:00:00Z"),
    ("America/Santiago", "2026-09-05T00:00:00Z"),
    ("Asia/Kathmandu", "2026-12-30T00:00:00Z"),
    ("UTC", "2027-02-27T00:00:00Z"),
];

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// A rotation of any shape without mistakes, and an instant at which a clock is about to change. Hand-overs and
/// business hours often lie where the clock jumps.
pub fn any_roster() -> impl Strategy<Value = (String, Timestamp)> {
    let time = || {
        prop_oneof![
            (0_u32..5, 0_u32..60).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}")),
            (0_u32..24, 0_u32..60).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}")),
        ]
    };
    let overriding = (
        0_u32..6,
        1_u32..60,
        1_u32..23,
        0_u32..60,
        any::<bool>(),
        0_usize..5,
    );
    (
        prop::sample::select(ZONES.to_vec()),
        (0_usize..7, prop::bool::ANY),
        time(),
        (time(), time()),
        prop::sample::subsequence(WEEKDAYS.to_vec(), 1..=7),
        1_usize..=5,
        prop::collection::vec(overriding, 0..4),
    )
        .prop_map(
            |((zone, near), (weekday, sunday), hand_over, (one, other), days, people, overrides)| {
                // Clocks change on Sundays mostly.
                let weekday = if sunday { 6 } else { weekday };
                let near = instant(near);
                let date = near.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
                let since = date
                    .saturating_sub(jiff::Span::new().days(21))
                    .nth_weekday(1, weekday_of(weekday))
                    .unwrap();
                let (from, until) = match one.cmp(&other) {
                    std::cmp::Ordering::Less => (one, other),
                    std::cmp::Ordering::Equal => ("00:00".to_owned(), "23:59".to_owned()),
                    std::cmp::Ordering::Greater => (other, one),
                };
                let people: Vec<String> = (0..people + 2).map(|n| format!("p{n}")).collect();
                let turns = |by: usize| {
                    let mut turns = people.clone();
                    turns.rotate_left(by);
                    turns.join(", ")
                };
                let handles = people.iter().map(|it| format!("  - {{ handle: {it} }}\n"));
                let overrides = overrides.iter().map(|(day, length, hour, minute, first, person)| {
                    let start = date
                        .at(i8::try_from(*hour).unwrap(), i8::try_from(*minute).unwrap(), 0, 0)
                        .saturating_add(jiff::Span::new().days(i64::from(*day)));
                    let end = start.saturating_add(jiff::Span::new().hours(i64::from(*length)));
                    format!(
                        "  - {{ role: {}, person: {}, from: {}, until: {} }}\n",
                        if *first { "primary" } else { "secondary" },
                        people[person % people.len()],
                        start.strftime("%Y-%m-%dT%H:%M"),
                        end.strftime("%Y-%m-%dT%H:%M"),
                    )
                });
                let overrides: String = overrides.collect();
                let text = format!(
                    "version: oncall/v1\ntime_zone: {zone}\nhand_over: {{ weekday: {}, time: '{hand_over}' }}\nescalate_after: 5m\npeople:\n{}business_hours: {{ weekdays: [{}], from: '{from}', until: '{until}' }}\nholidays: [{{ date: {}, name: a holiday }}]\nlayers:\n  - {{ name: out, role: primary, hours: outside-business, since: {since}, people: [{}] }}\n  - {{ name: in, role: primary, hours: business, since: {since}, people: [{}] }}\n  - {{ name: behind, role: secondary, hours: always, since: {since}, people: [{}] }}\n{}{overrides}",
                    WEEKDAYS[weekday],
                    handles.collect::<String>(),
                    days.join(", "),
                    date.saturating_add(jiff::Span::new().days(1)),
                    turns(0),
                    turns(1),
                    turns(2),
                    if overrides.is_empty() { "" } else { "overrides:\n" },
                );
                (text, near)
            },
        )
}

fn weekday_of(index: usize) -> jiff::civil::Weekday {
    jiff::civil::Weekday::from_monday_zero_offset(i8::try_from(index).unwrap()).unwrap()
}
