//! Whether always one person has each role, and that this is found by boundaries as it would be by stepping.

use jiff::{SignedDuration, ToSpan as _};
use oncall::{Kind, Role};
use proptest::prelude::*;

use crate::rosters::{BERLIN, any_roster, changed, committed, instant, parse};

#[test]
fn the_committed_rotation_covers_a_year_of_26_weeks_from_any_hand_over() {
    let roster = committed();
    for from in [
        "2026-11-25T04:00Z",
        "2027-02-01T00:00Z",
        "2027-08-30T12:34:56Z",
    ] {
        let coverage = roster.coverage(instant(from), 26);
        assert_eq!(coverage.findings, [], "{from}");
        assert_eq!(coverage.clock_changes.len(), 1, "{from}");
    }
}

#[test]
fn clock_changes_are_told_and_lengthen_the_hours() {
    let roster = parse(BERLIN).unwrap();
    let coverage = roster.coverage(instant("2026-11-23T08:00Z"), 26);
    let changes: Vec<_> = coverage
        .clock_changes
        .iter()
        .map(|it| (roster.show(it.at), it.minutes))
        .collect();
    assert_eq!(changes, [("Sun 2027-03-28 03:00 +02:00".to_owned(), 60)]);
    // 09:00 by the clock on both ends: an hour less than 26 weeks.
    let hours: f64 = coverage.load.iter().map(|it| it.primary_hours).sum();
    assert!((hours - (26.0 * 168.0 - 1.0)).abs() < 1e-9, "{hours}");
    let secondary: f64 = coverage.load.iter().map(|it| it.secondary_hours).sum();
    assert!((secondary - hours).abs() < 1e-9);
}

#[test]
fn a_gap_is_named_with_its_times() {
    // Nobody has the business hours of the second week.
    let roster = changed(
        "name: days, role: primary, hours: business, since: 2026-11-02,",
        "name: days, role: primary, hours: business, since: 2026-11-02, until: 2026-11-09,",
    )
    .unwrap();
    let coverage = roster.coverage(instant("2026-11-02T09:00+01:00"), 2);
    let told: Vec<String> = coverage.findings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(
        told[0],
        "Mon 2026-11-09 09:00 +01:00 to Mon 2026-11-09 17:00 +01:00: nobody is primary; let a layer or an override cover it"
    );
    assert!(
        coverage
            .findings
            .iter()
            .all(|it| it.kind == Kind::Gap && it.role == Some(Role::Primary))
    );
}

#[test]
fn an_overlap_and_one_person_in_both_roles_are_named() {
    let roster = changed("hours: outside-business", "hours: always").unwrap();
    let coverage = roster.coverage(instant("2026-11-02T09:00+01:00"), 1);
    let overlaps: Vec<_> = coverage
        .findings
        .iter()
        .filter(|it| it.kind == Kind::Overlap)
        .collect();
    assert_eq!(overlaps.len(), 5, "{overlaps:?}");
    assert_eq!(
        overlaps[0].people,
        ["first (layer nights)", "third (layer days)"]
    );
    assert_eq!(
        overlaps[0].from.duration_until(overlaps[0].until),
        SignedDuration::from_hours(8)
    );

    // The override makes the secondary primary.
    let roster = changed("person: fourth", "person: second").unwrap();
    let coverage = roster.coverage(instant("2026-11-02T09:00+01:00"), 26);
    let told: Vec<String> = coverage.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Wed 2026-11-04 20:00 +01:00 to Thu 2026-11-05 06:30 +01:00: second is primary and secondary at once; give one role to somebody else"
        ]
    );
}

#[test]
fn two_overrides_of_one_role_at_once_are_an_overlap() {
    let text = format!(
        "{BERLIN}  - {{ role: primary, person: third, from: 2026-11-05T00:00, until: 2026-11-05T08:00 }}\n"
    );
    let coverage = parse(&text)
        .unwrap()
        .coverage(instant("2026-11-02T09:00+01:00"), 1);
    let [finding] = &coverage.findings[..] else {
        panic!("{:?}", coverage.findings);
    };
    assert_eq!(finding.people, ["fourth (override)", "third (override)"]);
    assert_eq!(finding.until, instant("2026-11-05T06:30+01:00"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Every minute of nine days around a change of the clock, one after the other.
    #[test]
    fn segments_are_what_stepping_by_minutes_finds((text, near) in any_roster()) {
        // An override at a time that comes twice or never is refused; another case will do.
        let Ok(roster) = parse(&text) else { return Ok(()) };
        let from = near.checked_sub((4 * 24).hours()).unwrap();
        let until = near.checked_add((5 * 24).hours()).unwrap();
        let segments = roster.segments(from, until);
        prop_assert_eq!(segments[0].from, from);
        prop_assert_eq!(segments.last().unwrap().until, until);
        for pair in segments.windows(2) {
            prop_assert_eq!(pair[0].until, pair[1].from);
        }
        let mut segments = segments.iter();
        let mut current = segments.next().unwrap();
        let mut at = from;
        while at < until {
            if at >= current.until {
                current = segments.next().unwrap();
                prop_assert_eq!(current.from, at, "a boundary between two minutes");
            }
            prop_assert_eq!(&roster.who(at), &current.on_call, "{} in\n{}", at, text);
            at = at.checked_add(1.minute()).unwrap();
        }
        // Layers in and out of business hours leave no gap, whatever the clock does.
        let coverage = roster.coverage(from, 3);
        prop_assert!(coverage.findings.iter().all(|it| it.kind != Kind::Gap), "{:?}", coverage.findings);
    }
}
