//! Who is on call at an instant, by hand.

use oncall::{Role, Roster};

use crate::rosters::{BERLIN, changed, instant, parse};

#[track_caller]
fn assert_who(roster: &Roster, at: &str, primary: &str, secondary: &str) {
    let on_call = roster.who(instant(at));
    let found = (on_call.one(Role::Primary), on_call.one(Role::Secondary));
    assert_eq!(found, (Some(primary), Some(secondary)), "{at} {on_call:?}");
}

#[test]
fn turns_layers_holidays_and_overrides() {
    let roster = parse(BERLIN).unwrap();
    for (at, primary, secondary) in [
        // The first instant of the rotation, within business hours.
        ("2026-11-02T09:00+01:00", "third", "second"),
        ("2026-11-02T16:59:59.999+01:00", "third", "second"),
        ("2026-11-02T17:00+01:00", "first", "second"),
        // An override wins over the layers, to the minute.
        ("2026-11-04T19:59+01:00", "first", "second"),
        ("2026-11-04T20:00+01:00", "fourth", "second"),
        ("2026-11-05T06:29:59+01:00", "fourth", "second"),
        ("2026-11-05T06:30+01:00", "first", "second"),
        // The hand-over.
        ("2026-11-09T08:59:59+01:00", "first", "second"),
        ("2026-11-09T09:00+01:00", "fourth", "third"),
        ("2026-11-14T12:00+01:00", "second", "third"),
        // Four weeks on, the first one again.
        ("2026-11-30T18:00+01:00", "first", "second"),
        // Christmas Day is a Friday without business hours; the day before has some.
        ("2026-12-24T12:00+01:00", "second", "first"),
        ("2026-12-25T12:00+01:00", "fourth", "first"),
    ] {
        assert_who(&roster, at, primary, secondary);
    }
    let before = roster.who(instant("2026-11-02T08:59:59+01:00"));
    assert!(before.claims(Role::Primary).is_empty());
    assert_eq!(before.one(Role::Primary), None);
    assert!(roster.who(instant("2026-11-02T09:00+01:00")).business_hours);
    assert!(!roster.who(instant("2026-12-25T12:00+01:00")).business_hours);
}

/// Summer time begins on 2027-03-28 at 02:00, which is 03:00, and ends on 2026-10-25 at 03:00, which is 02:00.
#[test]
fn a_hand_over_where_the_clock_changes_happens_once() {
    let text = BERLIN
        .replace(
            "weekday: monday, time: \"09:00\"",
            "weekday: sunday, time: \"02:30\"",
        )
        .replace("since: 2026-11-02", "since: 2026-10-04");
    let roster = parse(&text).unwrap();
    // 02:30 of summer time; the second 02:30, an hour later, hands nothing over.
    assert_who(&roster, "2026-10-25T00:29:59Z", "third", "fourth");
    assert_who(&roster, "2026-10-25T00:30:00Z", "fourth", "first");
    assert_who(&roster, "2026-10-25T01:10:00Z", "fourth", "first");
    assert_who(&roster, "2026-10-25T01:30:00Z", "fourth", "first");
    // There is no 02:30: 03:30, half an hour after the jump.
    assert_who(&roster, "2027-03-28T01:29:59Z", "first", "second");
    assert_who(&roster, "2027-03-28T01:30:00Z", "second", "third");
}

#[test]
fn a_turn_is_told_with_its_ends() {
    let roster = parse(BERLIN).unwrap();
    let turn = |role, at| {
        let (since, until) = roster.turn_of(role, instant(at));
        [since, until].map(|at| at.map(|at| roster.show(at)))
    };
    let shown = |text: &str| Some(text.to_owned());
    assert_eq!(
        turn(Role::Primary, "2026-11-10T03:00+01:00"),
        [
            shown("Mon 2026-11-09 17:00 +01:00"),
            shown("Tue 2026-11-10 09:00 +01:00")
        ]
    );
    assert_eq!(
        turn(Role::Secondary, "2026-11-10T03:00+01:00"),
        [
            shown("Mon 2026-11-09 09:00 +01:00"),
            shown("Mon 2026-11-16 09:00 +01:00")
        ]
    );
    let alone = changed("people: [second, third, fourth, first]", "people: [second]").unwrap();
    assert_eq!(
        alone.turn_of(Role::Secondary, instant("2027-02-01T00:00Z")),
        (None, None)
    );
}

#[test]
fn an_instant_is_read_in_the_rotations_zone_unless_it_says_otherwise() {
    let roster = parse(BERLIN).unwrap();
    for text in [
        "2026-12-24T18:00",
        "2026-12-24T17:00:00Z",
        "2026-12-24T12:00-05:00",
    ] {
        assert_eq!(
            roster.parse_instant(text),
            Ok(instant("2026-12-24T17:00Z")),
            "{text}"
        );
    }
    let error = roster.parse_instant("tomorrow").unwrap_err();
    assert!(
        error.contains("`tomorrow`") && error.contains("Europe/Berlin"),
        "{error}"
    );
}
