//! What is refused, and in which words.

use oncall::Error;

use crate::rosters::{BERLIN, changed, parse};

#[track_caller]
fn assert_refused(from: &str, to: &str, parts: &[&str]) {
    let error = changed(from, to).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(error.lines().count(), 1, "one mistake, one line: {error}");
}

#[test]
fn each_mistake_is_named_with_its_place_and_cure() {
    for (from, to, parts) in [
        (
            "oncall/v1",
            "oncall/v2",
            &["oncall.yaml:2:10:", "`oncall/v2`", "`oncall/v1`"][..],
        ),
        (
            "Europe/Berlin",
            "Europe/Atlantis",
            &["3:12:", "IANA", "Europe/Berlin"],
        ),
        (
            "weekday: monday",
            "weekday: mon",
            &["`mon` is no weekday", "monday, tuesday"],
        ),
        (
            "time: \"09:00\"",
            "time: \"9:00\"",
            &["`9:00` is no time of day", "\"09:00\""],
        ),
        (
            "time: \"09:00\"",
            "time: \"24:00\"",
            &["`24:00` is no time of day"],
        ),
        (
            "escalate_after: 15m",
            "escalate_after: 15 minutes",
            &["`15 minutes`", "as 15m"],
        ),
        ("escalate_after: 15m", "escalate_after: 0m", &["`0m`"]),
        (
            "escalate_after: 15m",
            "escalate_after: 24h",
            &["`24h`", "less than a day"],
        ),
        (
            "handle: fourth",
            "handle: third",
            &["`third` is there twice", "not among the people"],
        ),
        (
            "pagerduty_user: P1",
            "pagerduty_user: ''",
            &["user id is empty", "leave the line out"],
        ),
        (
            "until: \"17:00\"",
            "until: \"08:00\"",
            &["end at 08:00", "begin at 09:00"],
        ),
        (
            "[monday, tuesday,",
            "[monday, monday,",
            &["`monday` is there twice"],
        ),
        (
            "date: 2026-12-25",
            "date: 25.12.2026",
            &["`25.12.2026` is no date", "2026-12-25"],
        ),
        (
            "date: 2026-12-25",
            "date: 2026-02-29",
            &["`2026-02-29` is no date"],
        ),
        (
            "name: days",
            "name: nights",
            &["`nights` is no name of its own"],
        ),
        (
            "role: secondary",
            "role: tertiary",
            &["`tertiary` is no role", "primary, secondary"],
        ),
        (
            "hours: always",
            "hours: sometimes",
            &["`sometimes`", "outside-business"],
        ),
        (
            "since: 2026-11-02",
            "since: 2026-11-03",
            &[
                "2026-11-03 is a tuesday",
                "on monday",
                "write 2026-11-02 or 2026-11-09",
            ],
        ),
        (
            "since: 2026-11-02,",
            "since: 2026-11-02, until: 2026-11-02,",
            &["ends on 2026-11-02", "has to end later"],
        ),
        (
            "people: [second, third, fourth, first]",
            "people: []",
            &["nobody takes turns"],
        ),
        (
            "person: fourth",
            "person: fith",
            &["`fith` is not among the people (first, fourth,"],
        ),
        (
            "until: 2026-11-05T06:30",
            "until: 2026-11-04T20:00",
            &["has to end later"],
        ),
        (
            "from: 2026-11-04T20:00",
            "from: 2026-11-04",
            &["`2026-11-04` is no time", "2026-12-24T18:00"],
        ),
        (
            "from: 2026-11-04T20:00, until: 2026-11-05T06:30",
            "from: 2027-03-28T02:30, until: 2027-03-29T06:30",
            &["does not name one instant", "the clock"],
        ),
        (
            "from: 2026-11-04T20:00, until: 2026-11-05T06:30",
            "from: 2026-10-24T02:30, until: 2026-10-25T02:30",
            &["does not name one instant"],
        ),
    ] {
        if parts[0].contains("there twice") && parts.len() == 2 {
            // Taking a handle away also leaves its uses without one.
            let error = changed(from, to).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        } else {
            assert_refused(from, to, parts);
        }
    }
}

#[test]
fn hours_of_business_need_business_hours() {
    let start = BERLIN.find("business_hours:").unwrap();
    let end = BERLIN.find("holidays:").unwrap();
    let text = format!("{}{}", &BERLIN[..start], &BERLIN[end..]);
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(error.matches("has no business_hours").count(), 2, "{error}");
}

#[test]
fn a_key_that_is_not_known_is_refused_with_those_that_are() {
    for (from, to) in [
        ("escalate_after:", "escalate_afer:"),
        ("handle: first", "handel: first"),
        ("hours: always", "hour: always"),
    ] {
        let error = changed(from, to).unwrap_err();
        assert!(matches!(error, Error::Yaml { .. }), "{error:?}");
        let error = error.to_string();
        let wrong = to.split(':').next().unwrap();
        assert!(
            error.contains(wrong) && error.contains("oncall.yaml"),
            "{error}"
        );
        assert!(
            error.contains("expected") && error.contains("line"),
            "{error}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = BERLIN
        .replace("time: \"09:00\"", "time: \"09:00:00\"")
        .replace("date: 2026-12-25", "date: soon");
    let Error::Invalid { mistakes, .. } = parse(&text).unwrap_err() else {
        panic!("not the mistakes");
    };
    // Days of hand-over cannot be judged without a hand-over, so nothing is said of them.
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    let text = BERLIN
        .replace("escalate_after: 15m", "escalate_after: soon")
        .replace("role: secondary", "role: other")
        .replace("person: fourth", "person: fifth");
    let Error::Invalid { mistakes, .. } = parse(&text).unwrap_err() else {
        panic!("not the mistakes");
    };
    let lines: Vec<u64> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [5, 20, 22], "{mistakes:?}");
}
