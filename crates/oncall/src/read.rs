//! `alertmanager/oncall.yaml`, read strictly. Values are read as text first, so that every mistake is found in
//! one go, each where it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use serde_saphyr::Spanned;

use crate::{
    Error, Mistake, Role, Roster,
    roster::{BusinessHours, HandOver, Hours, Layer, Override, Person},
};

const VERSION: &str = "oncall/v1";

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

const ROLES: [(&str, Role); 2] = [("primary", Role::Primary), ("secondary", Role::Secondary)];

const HOURS: [(&str, Hours); 3] = [
    ("always", Hours::Always),
    ("business", Hours::Business),
    ("outside-business", Hours::OutsideBusiness),
];

impl Roster {
    /// Reads a rotation; `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not in the format, or says what cannot be; then with all mistakes at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let written: written::Roster =
            serde_saphyr::from_str(text).map_err(|error| Error::Yaml {
                file: file.into(),
                reason: error.to_string(),
            })?;
        let mut reader = Reader::default();
        let roster = reader.roster(&written);
        match roster {
            Some(roster) if reader.mistakes.is_empty() => Ok(roster),
            _ => {
                reader.mistakes.sort_by_key(|it| (it.line, it.column));
                Err(Error::Invalid {
                    file: file.into(),
                    mistakes: reader.mistakes,
                })
            }
        }
    }
}

/// Collects mistakes. What returns `Option` has noted one when it returns none.
#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
}

/// What the rest of the file refers to.
struct Frame {
    zone: TimeZone,
    hand_over: HandOver,
    handles: BTreeSet<String>,
    has_business_hours: bool,
}

impl Reader {
    fn mistake<T>(&mut self, place: &Spanned<T>, problem: String) {
        self.mistakes.push(Mistake {
            line: place.referenced.line(),
            column: place.referenced.column(),
            problem,
        });
    }

    fn roster(&mut self, written: &written::Roster) -> Option<Roster> {
        if written.version.value != VERSION {
            let problem = format!(
                "version `{}` is not known; this program reads `{VERSION}`",
                written.version.value
            );
            self.mistake(&written.version, problem);
        }
        let zone = self.zone(&written.time_zone);
        let hand_over = self.hand_over(&written.hand_over);
        let escalate_after = self.duration(&written.escalate_after);
        let people = self.people(&written.people);
        let business = written.business_hours.as_ref();
        let has_business_hours = business.is_some();
        let business = business.map(|business| self.business_hours(business));
        let holidays = self.holidays(&written.holidays);
        // Without these the rest would be full of mistakes that are none.
        let frame = Frame {
            zone: zone?,
            hand_over: hand_over?,
            handles: people.iter().map(|it| it.handle.clone()).collect(),
            has_business_hours,
        };
        let layers = self.layers(&written.layers, &frame);
        let overrides = written
            .overrides
            .iter()
            .filter_map(|it| self.overriding(it, &frame))
            .collect();
        Some(Roster {
            zone: frame.zone,
            zone_name: written.time_zone.value.clone(),
            hand_over: frame.hand_over,
            escalate_after: escalate_after?,
            people,
            business: match business {
                Some(business) => Some(business?),
                None => None,
            },
            holidays,
            layers,
            overrides,
        })
    }

    fn zone(&mut self, name: &Spanned<String>) -> Option<TimeZone> {
        let zone = TimeZone::get(&name.value);
        if zone.is_err() {
            let problem = format!(
                "`{}` is no time zone; write the name that IANA gives it, as Europe/Berlin or UTC",
                name.value
            );
            self.mistake(name, problem);
        }
        zone.ok()
    }

    fn hand_over(&mut self, written: &written::HandOver) -> Option<HandOver> {
        let weekday = self.one_of(&written.weekday, "weekday", &WEEKDAYS);
        let time = self.time(&written.time);
        Some(HandOver {
            weekday: weekday?,
            time: time?,
        })
    }

    fn one_of<T: Copy>(
        &mut self,
        text: &Spanned<String>,
        what: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == text.value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let problem = format!(
                "`{}` is no {what}; write one of {}",
                text.value,
                names.join(", ")
            );
            self.mistake(text, problem);
        }
        found.map(|(_, value)| *value)
    }

    fn time(&mut self, text: &Spanned<String>) -> Option<Time> {
        let time = hours_and_minutes(&text.value);
        if time.is_none() {
            let problem = format!(
                "`{}` is no time of day; write hours and minutes, 00:00 to 23:59, as \"09:00\"",
                text.value
            );
            self.mistake(text, problem);
        }
        time
    }

    fn date(&mut self, text: &Spanned<String>) -> Option<Date> {
        let date = text.value.parse::<Date>().ok();
        // jiff reads `2026-12-25T10:00` as a date too; here it would be cut off in silence.
        let date = date.filter(|date| text.value == date.to_string() && date.year() >= 1970);
        if date.is_none() {
            let problem = format!("`{}` is no date; write it as 2026-12-25", text.value);
            self.mistake(text, problem);
        }
        date
    }

    fn duration(&mut self, text: &Spanned<String>) -> Option<String> {
        let units = [("s", 1), ("m", 60), ("h", 3600)];
        let good = units.into_iter().any(|(unit, seconds)| {
            let number = text.value.strip_suffix(unit);
            let number = number.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
            let number = number.and_then(|it| it.parse::<u64>().ok());
            number.is_some_and(|it| (1..86_400).contains(&it.saturating_mul(seconds)))
        });
        if !good {
            let problem = format!(
                "`{}` is no duration; write a whole number of s, m or h, less than a day, as 15m",
                text.value
            );
            self.mistake(text, problem);
        }
        good.then(|| text.value.clone())
    }

    fn people(&mut self, written: &Spanned<Vec<written::Person>>) -> Vec<Person> {
        if written.value.is_empty() {
            self.mistake(written, "there are no people; name at least two".into());
        }
        let mut handles = BTreeSet::new();
        for person in &written.value {
            let handle = &person.handle.value;
            let begins = handle
                .bytes()
                .next()
                .is_some_and(|it| it.is_ascii_lowercase());
            let good =
                |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_".contains(&it);
            if !begins || !handle.bytes().all(good) {
                let problem = format!(
                    "`{handle}` is no handle; write small letters, digits, `-` and `_`, a letter first: it becomes part of names in Alertmanager's configuration"
                );
                self.mistake(&person.handle, problem);
            }
            if !handles.insert(handle) {
                let problem = format!("`{handle}` is there twice; leave one out");
                self.mistake(&person.handle, problem);
            }
            if let Some(user) = &person.pagerduty_user
                && user.value.trim().is_empty()
            {
                let problem = "the user id is empty; write it, or leave the line out".into();
                self.mistake(user, problem);
            }
        }
        let people = written.value.iter().map(|person| Person {
            handle: person.handle.value.clone(),
            pagerduty_user: person
                .pagerduty_user
                .as_ref()
                .map(|user| user.value.clone()),
        });
        people.collect()
    }

    fn business_hours(&mut self, written: &written::BusinessHours) -> Option<BusinessHours> {
        let mut weekdays = BTreeSet::new();
        if written.weekdays.value.is_empty() {
            let problem = "there is no weekday; name some, or leave business_hours out".into();
            self.mistake(&written.weekdays, problem);
        }
        for text in &written.weekdays.value {
            if let Some(weekday) = self.one_of(text, "weekday", &WEEKDAYS)
                && !weekdays.insert(weekday.to_monday_one_offset())
            {
                let problem = format!("`{}` is there twice; leave one out", text.value);
                self.mistake(text, problem);
            }
        }
        let from = self.time(&written.from);
        let until = self.time(&written.until);
        let (from, until) = (from?, until?);
        if from >= until {
            let problem = format!(
                "business hours end at {} and begin at {}; they have to begin and end on one day",
                written.until.value, written.from.value
            );
            self.mistake(&written.until, problem);
        }
        Some(BusinessHours {
            weekdays: weekdays
                .into_iter()
                .filter_map(|day| Weekday::from_monday_one_offset(day).ok())
                .collect(),
            from,
            until,
        })
    }

    fn holidays(&mut self, written: &[written::Holiday]) -> BTreeMap<Date, String> {
        let mut holidays = BTreeMap::new();
        for holiday in written {
            let Some(date) = self.date(&holiday.date) else {
                continue;
            };
            if let Some(before) = holidays.insert(date, holiday.name.clone()) {
                let problem = format!("{date} is there already, as {before}; leave one out");
                self.mistake(&holiday.date, problem);
            }
        }
        holidays
    }

    fn layers(&mut self, written: &Spanned<Vec<written::Layer>>, frame: &Frame) -> Vec<Layer> {
        let mut names = BTreeSet::new();
        let mut layers = Vec::new();
        if written.value.is_empty() {
            let problem = "there is no layer, so nobody is ever on call; write one for each role";
            self.mistake(written, problem.into());
        }
        for layer in &written.value {
            let name = &layer.name.value;
            if name.trim().is_empty() || !names.insert(name) {
                let problem = format!("`{name}` is no name of its own; give each layer another");
                self.mistake(&layer.name, problem);
            }
            layers.extend(self.layer(layer, frame));
        }
        layers
    }

    fn layer(&mut self, written: &written::Layer, frame: &Frame) -> Option<Layer> {
        let role = self.one_of(&written.role, "role", &ROLES);
        let hours = self.one_of(&written.hours, "kind of hours", &HOURS);
        if hours.is_some_and(|hours| hours != Hours::Always) && !frame.has_business_hours {
            let problem = format!(
                "hours are `{}`, but the file has no business_hours; write those, or `always`",
                written.hours.value
            );
            self.mistake(&written.hours, problem);
        }
        let since = self.hand_over_day(&written.since, frame);
        let until = written.until.as_ref();
        let until = until.map(|until| self.hand_over_day(until, frame));
        if let (Some(since), Some(Some(until)), Some(place)) = (since, until, &written.until)
            && until <= since
        {
            let problem =
                format!("the layer ends on {until} and begins on {since}; it has to end later");
            self.mistake(place, problem);
        }
        if written.people.value.is_empty() {
            let problem = "nobody takes turns; name people".into();
            self.mistake(&written.people, problem);
        }
        for handle in &written.people.value {
            self.known(handle, frame);
        }
        let people = written.people.value.iter();
        Some(Layer {
            name: written.name.value.clone(),
            role: role?,
            hours: hours?,
            since: since?,
            until: match until {
                Some(until) => Some(until?),
                None => None,
            },
            people: people.map(|handle| handle.value.clone()).collect(),
        })
    }

    fn hand_over_day(&mut self, text: &Spanned<String>, frame: &Frame) -> Option<Date> {
        let date = self.date(text)?;
        let weekday = frame.hand_over.weekday;
        if date.weekday() != weekday {
            let before = date.saturating_sub(date.weekday().since(weekday).days());
            let problem = format!(
                "{date} is a {}, but weeks begin with the hand-over on {}; write {before} or {}",
                name_of(date.weekday()),
                name_of(weekday),
                before.saturating_add(1.week()),
            );
            self.mistake(text, problem);
            return None;
        }
        Some(date)
    }

    fn known(&mut self, handle: &Spanned<String>, frame: &Frame) {
        if !frame.handles.contains(&handle.value) {
            let known: Vec<&str> = frame.handles.iter().map(String::as_str).collect();
            let problem = format!(
                "`{}` is not among the people ({}); add them there, or write one of those",
                handle.value,
                known.join(", ")
            );
            self.mistake(handle, problem);
        }
    }

    fn overriding(&mut self, written: &written::Override, frame: &Frame) -> Option<Override> {
        let role = self.one_of(&written.role, "role", &ROLES);
        self.known(&written.person, frame);
        let from = self.wall_clock(&written.from, frame);
        let until = self.wall_clock(&written.until, frame);
        let (from, until) = (from?, until?);
        if from >= until {
            let problem = format!(
                "the override ends at {} and begins at {}; it has to end later",
                written.until.value, written.from.value
            );
            self.mistake(&written.until, problem);
        }
        Some(Override {
            role: role?,
            person: written.person.value.clone(),
            from,
            until,
        })
    }

    fn wall_clock(&mut self, text: &Spanned<String>, frame: &Frame) -> Option<Timestamp> {
        let read = text.value.split_once('T').and_then(|(date, time)| {
            let date: Date = date.parse().ok()?;
            (date.year() >= 1970).then_some(())?;
            Some(DateTime::from_parts(date, hours_and_minutes(time)?))
        });
        let Some(wall_clock) = read else {
            let problem = format!(
                "`{}` is no time; write date, hours and minutes in the rotation's time zone, as 2026-12-24T18:00",
                text.value
            );
            self.mistake(text, problem);
            return None;
        };
        let instant = frame.zone.to_ambiguous_timestamp(wall_clock).unambiguous();
        if instant.is_err() {
            let problem = format!(
                "{} does not name one instant, because the clock is put forward or back then; take a time before or after that",
                text.value
            );
            self.mistake(text, problem);
        }
        instant.ok()
    }
}

/// `09:00`, and nothing that is only like it.
fn hours_and_minutes(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| match text.as_bytes() {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            i8::try_from((tens - b'0') * 10 + ones - b'0').ok()
        }
        _ => None,
    };
    Time::new(number(hours)?, number(minutes)?, 0, 0).ok()
}

fn name_of(weekday: Weekday) -> &'static str {
    WEEKDAYS
        .iter()
        .find(|(_, it)| *it == weekday)
        .map_or("day", |(name, _)| name)
}

/// The file as it is written.
mod written {
    use serde::Deserialize;
    use serde_saphyr::Spanned;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Roster {
        pub(super) version: Spanned<String>,
        pub(super) time_zone: Spanned<String>,
        pub(super) hand_over: HandOver,
        pub(super) escalate_after: Spanned<String>,
        pub(super) people: Spanned<Vec<Person>>,
        pub(super) business_hours: Option<BusinessHours>,
        #[serde(default)]
        pub(super) holidays: Vec<Holiday>,
        pub(super) layers: Spanned<Vec<Layer>>,
        #[serde(default)]
        pub(super) overrides: Vec<Override>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct HandOver {
        pub(super) weekday: Spanned<String>,
        pub(super) time: Spanned<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Person {
        pub(super) handle: Spanned<String>,
        pub(super) pagerduty_user: Option<Spanned<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct BusinessHours {
        pub(super) weekdays: Spanned<Vec<Spanned<String>>>,
        pub(super) from: Spanned<String>,
        pub(super) until: Spanned<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Holiday {
        pub(super) date: Spanned<String>,
        pub(super) name: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Layer {
        pub(super) name: Spanned<String>,
        pub(super) role: Spanned<String>,
        pub(super) hours: Spanned<String>,
        pub(super) since: Spanned<String>,
        pub(super) until: Option<Spanned<String>>,
        pub(super) people: Spanned<Vec<Spanned<String>>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Override {
        pub(super) role: Spanned<String>,
        pub(super) person: Spanned<String>,
        pub(super) from: Spanned<String>,
        pub(super) until: Spanned<String>,
        /// For people.
        #[serde(rename = "reason")]
        pub(super) _reason: Option<String>,
    }
}
