//! Which receivers Alertmanager would notify, by its documentation: an evaluator of the part of
//! `time_intervals` and of routes that is rendered, read from the rendered text.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Config {
    route: Route,
    time_intervals: Vec<Named>,
}

#[derive(Deserialize)]
struct Route {
    receiver: Option<String>,
    #[serde(default)]
    routes: Vec<Route>,
    group_wait: Option<String>,
    #[serde(default)]
    active_time_intervals: Vec<String>,
    #[serde(default)]
    mute_time_intervals: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    time_intervals: Vec<Interval>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interval {
    years: Vec<String>,
    months: Vec<String>,
    days_of_month: Vec<String>,
    times: Option<Vec<Times>>,
}

#[derive(Deserialize)]
struct Times {
    start_time: String,
    end_time: String,
}

impl Config {
    pub fn read(text: &str) -> Self {
        serde_saphyr::from_str(text).unwrap()
    }

    /// Receivers whose routes count at an instant, each with its own `group_wait` behind a slash.
    pub fn receivers(&self, at: Timestamp) -> BTreeSet<String> {
        let active: BTreeMap<&str, bool> = self
            .time_intervals
            .iter()
            .map(|it| {
                (
                    it.name.as_str(),
                    it.time_intervals.iter().any(|it| it.contains(at)),
                )
            })
            .collect();
        let any = |names: &[String]| names.iter().any(|name| active[name.as_str()]);
        let mut found = BTreeSet::new();
        self.route.visit(&mut |route| {
            if route.active_time_intervals.is_empty() && route.mute_time_intervals.is_empty() {
                return;
            }
            let counts = (route.active_time_intervals.is_empty()
                || any(&route.active_time_intervals))
                && !any(&route.mute_time_intervals);
            if counts {
                let wait = route
                    .group_wait
                    .as_ref()
                    .map_or(String::new(), |wait| format!("/{wait}"));
                found.insert(format!("{}{wait}", route.receiver.as_ref().unwrap()));
            }
        });
        found
    }
}

impl Route {
    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        see(self);
        for route in &self.routes {
            route.visit(see);
        }
    }
}

impl Interval {
    /// All of the given parts hold; a part holds when one of its ranges does. Ranges include both ends, but for
    /// times, which end before their end. Without a location the clock is that of UTC.
    fn contains(&self, at: Timestamp) -> bool {
        let at = TimeZone::UTC.to_datetime(at);
        let minute = i64::from(at.hour()) * 60 + i64::from(at.minute());
        within(&self.years, at.year().into())
            && within(&self.months, at.month().into())
            && within(&self.days_of_month, at.day().into())
            && self.times.as_ref().is_none_or(|times| {
                times
                    .iter()
                    .any(|it| minutes(&it.start_time) <= minute && minute < minutes(&it.end_time))
            })
    }
}

fn within(ranges: &[String], value: i64) -> bool {
    ranges.iter().any(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&value)
    })
}

fn minutes(clock: &str) -> i64 {
    let (hours, minutes) = clock.split_once(':').unwrap();
    hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap()
}
