//! Scenarios: what customers do, in a small YAML file that says exactly what is meant or is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use http::{HeaderMap, HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::journey::{self, Body, Draw, Journeys, Source, Think};
use crate::pace::{self, Pace};
use crate::template::{JsonTemplate, Template, is_name};
use crate::threshold::Threshold;
use crate::traffic::Routes;

/// The scenarios for the demo API that come with loadgen, by name.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("shop", include_str!("../scenarios/shop.yaml")),
    ("browse", include_str!("../scenarios/browse.yaml")),
    ("order", include_str!("../scenarios/order.yaml")),
    ("cancel", include_str!("../scenarios/cancel.yaml")),
];

/// What customers do, how often, and how well it is to go.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "A scenario of loadgen")]
pub struct Scenario {
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Repeats journeys, draws and random arrivals; --seed wins over it. A new one each time where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How journeys arrive.
    #[serde(default, skip_serializing_if = "Arrivals::is_even")]
    pub arrivals: Arrivals,
    /// One after the other; --rate and --pace win over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// What the result is to come up to, such as `p99 < 50ms` or `error_rate{POST /api/orders} < 0.1%`; those of
    /// --threshold come on top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<String>,
    /// Fields of every request; `{name}` stands for a variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Drawn at the begin of every journey.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// What customers do, by name.
    #[schemars(extend("minProperties" = 1))]
    pub journeys: BTreeMap<String, Journey>,
}

/// How journeys arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Even,
    /// At random and independently of each other, as people come.
    Poisson,
}

impl Arrivals {
    fn is_even(&self) -> bool {
        *self == Self::Even
    }
}

/// A stretch of time with a pace of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Journeys per second, or a form of --pace but poisson and replay, such as `ramp:10..200/1m`.
    pub pace: PaceText,
    /// How long it lasts, such as 30s or 5m; ramps and steps need not say.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
}

/// A number or a text.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PaceText {
    /// Journeys per second.
    Rate(f64),
    /// A form of --pace.
    Form(String),
}

impl fmt::Display for PaceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => rate.fmt(f),
            Self::Form(text) => text.fmt(f),
        }
    }
}

/// How a variable is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// Always this.
    Value(Value),
    /// One of these, each as often.
    #[schemars(extend("minItems" = 1))]
    OneOf(Vec<Value>),
    /// A whole number from the first to the second, both included.
    Range([i64; 2]),
    /// A random UUID, never the same again, whatever the seed.
    Uuid,
}

/// What customers do one after the other.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Journey {
    /// How often it is gone, among the weights of all.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: u32,
    /// Drawn at its begin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// Its requests.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
}

fn one() -> u32 {
    1
}

/// A request. The journey ends when it fails, or when its answer lacks what is to be taken from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Method and path, such as `GET /api/orders/{order}`, in which `{name}` stands for a variable. As written, it is the
    /// name of the route in results and thresholds.
    pub request: String,
    /// How long to think before, such as 500ms or 200ms..2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<String>,
    /// Fields; `{name}` stands for a variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A JSON body; a string that is nothing but `{name}` becomes the variable's value with its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// A body as text; `{name}` stands for a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the body, sent as it is; its path counts from the scenario's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_file: Option<PathBuf>,
    /// The statuses to expect. Another one is a failure; where there are none, 500 and above are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 100, max = 999)))]
    pub expect: Vec<u16>,
    /// Variables to take from the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub take: BTreeMap<String, Take>,
}

/// Where in an answer a variable is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// At a JSON pointer such as `/id`; a `*` in it, as in `/items/*/id`, stands for any element of an array.
    #[schemars(extend("pattern" = "^(/|$)"))]
    Json(String),
    /// In this field of the head.
    Header(String),
}

/// Why a scenario is refused: every mistake, not the first one only.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file cannot be read.
    #[error(
        "cannot read scenario {name}: {source}; give a file, or one of {}",
        names()
    )]
    Unreadable {
        /// The file.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It has not the form of one.
    #[error(
        "{name} is no scenario: {why}\n(`loadgen scenario schema` has the form, `loadgen scenario show shop` an example)"
    )]
    Form {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It means nothing that could be done.
    #[error("{name} cannot be run:{}", .mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect::<String>())]
    Meaning {
        /// The file.
        name: String,
        /// Each mistake.
        mistakes: Vec<String>,
    },
}

fn names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}

/// A scenario that can be run.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The seed it asks for.
    pub seed: Option<u64>,
    /// The pace it asks for, if it has phases.
    pub pace: Option<Pace>,
    /// What the result is to come up to.
    pub thresholds: Vec<Threshold>,
    /// Its journeys.
    pub journeys: Vec<journey::Journey>,
    /// The routes of their requests.
    pub routes: Routes,
}

impl Checked {
    /// Its journeys below the paths of `bases`, which take turns.
    pub fn journeys(
        &self,
        bases: &[Url],
        seed: u64,
        headers: HeaderMap,
        keep_alive: bool,
    ) -> Journeys {
        Journeys {
            all: self.journeys.clone(),
            seed,
            headers,
            bases: bases
                .iter()
                .map(|base| base.path().trim_end_matches('/').to_owned())
                .collect(),
            keep_alive,
        }
    }

    /// Whether chance has a say in it.
    pub fn is_random(&self) -> bool {
        self.journeys.len() > 1
            || self.journeys.iter().any(|journey| {
                !journey.draws.is_empty() || journey.steps.iter().any(|step| !step.take.is_empty())
            })
    }
}

/// The scenario that is built in under `name`, or that the file of this name has.
///
/// # Errors
/// When there is none, or it cannot be run.
pub fn load(name: &str) -> Result<Checked, Refused> {
    match built_in(name) {
        Some(text) => read(name, text, Path::new("")),
        None => {
            let path = Path::new(name);
            let text = std::fs::read_to_string(path).map_err(|source| Refused::Unreadable {
                name: name.to_owned(),
                source,
            })?;
            read(name, &text, path.parent().unwrap_or(Path::new("")))
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .journeys
            .iter()
            .map(|journey| journey.name.as_str())
            .collect();
        write!(
            f,
            "good; journeys {}, {:.2} requests each on average",
            names.join(", "),
            journey::mean_steps(&self.journeys)
        )
    }
}

/// The scenarios that come with loadgen, a line each.
pub fn list() -> String {
    let line = |(name, text): (&str, &str)| {
        let about = serde_saphyr::from_str::<Scenario>(text).ok();
        let about = about
            .and_then(|scenario| scenario.description)
            .unwrap_or_default();
        format!("{name:8}{}\n", about.trim())
    };
    BUILT_IN.map(line).concat()
}

/// The text of a scenario that comes with loadgen.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// Reads a scenario; files it names are in `folder`.
///
/// # Errors
/// When it cannot be run.
pub fn read(name: &str, text: &str, folder: &Path) -> Result<Checked, Refused> {
    let scenario: Scenario = serde_saphyr::from_str(text).map_err(|error| Refused::Form {
        name: name.to_owned(),
        why: error.to_string(),
    })?;
    let mut checker = Checker {
        folder,
        mistakes: Vec::new(),
        routes: Routes::default(),
    };
    let checked = checker.scenario(&scenario);
    if checker.mistakes.is_empty() {
        Ok(checked)
    } else {
        Err(Refused::Meaning {
            name: name.to_owned(),
            mistakes: checker.mistakes,
        })
    }
}

/// The JSON schema of a scenario, for editors and other programs.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Scenario);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

/// Turns what is written into what can be done, and gathers what cannot.
struct Checker<'a> {
    folder: &'a Path,
    mistakes: Vec<String>,
    routes: Routes,
}

impl Checker<'_> {
    /// The value, or `None` and one mistake more.
    fn good<T>(&mut self, at: &str, result: Result<T, impl fmt::Display>) -> Option<T> {
        result
            .map_err(|error| self.mistakes.push(format!("{at}: {error}")))
            .ok()
    }

    fn wrong(&mut self, at: &str, why: &str) {
        self.mistakes.push(format!("{at}: {why}"));
    }

    fn scenario(&mut self, scenario: &Scenario) -> Checked {
        let thresholds = scenario.thresholds.iter().enumerate();
        let thresholds = thresholds
            .filter_map(|(n, text)| {
                self.good(&format!("thresholds[{n}]"), text.parse::<Threshold>())
            })
            .collect();
        if scenario.journeys.is_empty() {
            self.wrong("journeys", "there is none; give one at least");
        }
        let pace = self.phases(scenario);
        let common = self.draws("variables", &scenario.variables);
        let headers = self.headers("headers", &scenario.headers);
        let journeys = scenario
            .journeys
            .iter()
            .map(|(name, journey)| self.journey(name, journey, &common, &headers))
            .collect();
        Checked {
            seed: scenario.seed,
            pace,
            thresholds,
            journeys,
            routes: std::mem::take(&mut self.routes),
        }
    }

    fn phases(&mut self, scenario: &Scenario) -> Option<Pace> {
        let phases: Vec<_> = scenario
            .phases
            .iter()
            .enumerate()
            .filter_map(|(n, phase)| {
                let at = format!("phases[{n}]");
                let length = match &phase.length {
                    Some(text) => Some(self.good(&format!("{at}.for"), pace::length(text))?),
                    None => None,
                };
                let text = phase.pace.to_string();
                let pace = self.good(
                    &format!("{at}.pace"),
                    Pace::parse(&text, |_| {
                        Err(std::io::Error::other("a phase replays nothing; use --pace replay:FILE instead of phases"))
                    }),
                )?;
                if pace.is_random() {
                    self.wrong(&at, "random arrivals are for all phases: write `arrivals: poisson` beside them, and the pace without it");
                    return None;
                }
                Some((at, pace, length))
            })
            .collect();
        if scenario.phases.is_empty() || phases.len() < scenario.phases.len() {
            return None;
        }
        let poisson = scenario.arrivals == Arrivals::Poisson;
        match Pace::phases(
            phases.iter().map(|(_, pace, length)| (pace, *length)),
            poisson,
        ) {
            Ok(pace) => Some(pace),
            Err((n, error)) => {
                let at = phases.get(n).map_or("phases", |(at, ..)| at.as_str());
                self.mistakes.push(format!("{at}: {error}"));
                None
            }
        }
    }

    fn draws(&mut self, at: &str, variables: &BTreeMap<String, Variable>) -> Vec<(String, Draw)> {
        let mut draws = Vec::new();
        for (name, variable) in variables {
            let at = format!("{at}.{name}");
            if !is_name(name) {
                self.wrong(&at, "a name has letters, digits, _ and -");
            }
            let draw = match variable {
                Variable::Value(value) => Draw::Value(value.clone()),
                Variable::OneOf(values) => {
                    if values.is_empty() {
                        self.wrong(&at, "one_of needs a value at least");
                    }
                    Draw::OneOf(values.clone())
                }
                Variable::Range([low, high]) => {
                    if low > high {
                        self.wrong(&at, "a range goes from the lower number to the higher one");
                    }
                    Draw::Range(*low, *high)
                }
                Variable::Uuid => Draw::Uuid,
            };
            draws.push((name.clone(), draw));
        }
        draws
    }

    fn headers(
        &mut self,
        at: &str,
        headers: &BTreeMap<String, String>,
    ) -> Vec<(HeaderName, Template)> {
        headers
            .iter()
            .filter_map(|(name, value)| {
                let at = format!("{at}.{name}");
                let name = self.good(&at, field_name(name));
                let value = self.good(&at, field_value(value));
                Some((name?, value?))
            })
            .collect()
    }

    fn journey(
        &mut self,
        name: &str,
        journey: &Journey,
        common: &[(String, Draw)],
        headers: &[(HeaderName, Template)],
    ) -> journey::Journey {
        let at = format!("journeys.{name}");
        if !(1..=1_000_000).contains(&journey.weight) {
            self.wrong(
                &at,
                "a weight is 1 to 1000000; leave out a journey that nobody is to go",
            );
        }
        if journey.steps.is_empty() {
            self.wrong(&at, "it has no steps; give one at least");
        }
        let own = self.draws(&format!("{at}.variables"), &journey.variables);
        let mut draws: Vec<_> = common
            .iter()
            .filter(|(name, _)| !journey.variables.contains_key(name))
            .cloned()
            .collect();
        draws.extend(own);
        let mut known: BTreeSet<String> = draws.iter().map(|(name, _)| name.clone()).collect();
        let steps = journey.steps.iter().enumerate();
        let steps = steps
            .filter_map(|(n, step)| {
                if n == 0 && step.think.is_some() {
                    self.wrong(
                        &at,
                        "its first step is due when the customer arrives; leave out its think",
                    );
                }
                self.step(&format!("{at}.steps[{n}]"), step, headers, &mut known)
            })
            .collect();
        journey::Journey {
            name: name.to_owned(),
            weight: journey.weight,
            draws,
            steps,
        }
    }

    fn step(
        &mut self,
        at: &str,
        step: &Step,
        common: &[(HeaderName, Template)],
        known: &mut BTreeSet<String>,
    ) -> Option<journey::Step> {
        let request = self.good(&format!("{at}.request"), request(&step.request));
        let think = match &step.think {
            Some(text) => self.good(&format!("{at}.think"), think(text)),
            None => Some(Think::default()),
        };
        let mut headers = self.headers(&format!("{at}.headers"), &step.headers);
        let inherited = common
            .iter()
            .filter(|(name, _)| !headers.iter().any(|(own, _)| own == name));
        headers.extend(inherited.cloned().collect::<Vec<_>>());
        let body = self.body(at, step);
        if step
            .expect
            .iter()
            .any(|status| !(100..=999).contains(status))
        {
            self.wrong(
                &format!("{at}.expect"),
                "a status has three digits, for example 201",
            );
        }
        let mut used: Vec<&str> = headers
            .iter()
            .flat_map(|(_, value)| value.variables())
            .collect();
        used.extend(request.iter().flat_map(|(_, path)| path.variables()));
        used.extend(match &body {
            Some(Body::Text(text)) => text.variables().collect(),
            Some(Body::Json(json)) => json.variables(),
            _ => Vec::new(),
        });
        for name in used {
            if !known.contains(name) {
                let all: Vec<_> = known.iter().map(String::as_str).collect();
                let all = if all.is_empty() {
                    "none".to_owned()
                } else {
                    all.join(", ")
                };
                self.mistakes.push(format!(
                    "{at}: {{{name}}} is not known at this step; draw it under variables, or take it from an earlier answer (known: {all})"
                ));
            }
        }
        let take = step.take.iter();
        let take: Vec<_> = take
            .filter_map(|(name, take)| {
                Some((
                    name.clone(),
                    self.source(&format!("{at}.take.{name}"), name, take)?,
                ))
            })
            .collect();
        known.extend(step.take.keys().cloned());
        let (method, path) = request?;
        let (_, written) = step.request.trim().split_once(char::is_whitespace)?;
        // A route is a path: what follows its question mark would tell apart what belongs together.
        let route = written.trim().split('?').next().unwrap_or_default();
        Some(journey::Step {
            think: think?,
            route_number: self.routes.number(&method, route),
            route: route.into(),
            method,
            path,
            headers,
            body: body?,
            expect: (!step.expect.is_empty()).then(|| Rc::from(step.expect.as_slice())),
            take,
        })
    }

    fn body(&mut self, at: &str, step: &Step) -> Option<Body> {
        match (&step.json, &step.body, &step.body_file) {
            (None, None, None) => Some(Body::Empty),
            (Some(json), None, None) => self
                .good(&format!("{at}.json"), JsonTemplate::parse(json))
                .map(Body::Json),
            (None, Some(text), None) => self
                .good(&format!("{at}.body"), Template::parse(text))
                .map(Body::Text),
            (None, None, Some(file)) => {
                let path = self.folder.join(file);
                let read = std::fs::read(&path);
                let read = read.map_err(|error| format!("cannot read {}: {error}", path.display()));
                self.good(&format!("{at}.body_file"), read)
                    .map(|bytes| Body::Fixed(bytes.into()))
            }
            _ => {
                self.wrong(at, "a request has one body: json, body or body_file");
                None
            }
        }
    }

    fn source(&mut self, at: &str, name: &str, take: &Take) -> Option<Source> {
        if !is_name(name) {
            self.wrong(at, "a name has letters, digits, _ and -");
        }
        match take {
            Take::Json(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                Some(Source::Json(pointer.clone()))
            }
            Take::Json(_) => {
                self.wrong(
                    at,
                    "a JSON pointer begins with a slash, for example /id or /items/*/id",
                );
                None
            }
            Take::Header(field) => self.good(at, field_name(field)).map(Source::Header),
        }
    }
}

fn field_name(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| format!("{text:?} is no name of a field"))?;
    if [
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::CONNECTION,
    ]
    .contains(&name)
    {
        return Err(format!("loadgen itself says the {name}"));
    }
    Ok(name)
}

fn field_value(text: &str) -> Result<Template, String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a field has one line".to_owned());
    }
    Template::parse(text)
}

fn request(text: &str) -> Result<(Method, Template), String> {
    let wrong =
        || format!("{text:?} is not of the form METHOD /PATH, for example GET /api/products");
    let (method, path) = text
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(wrong)?;
    let path = path.trim();
    if !path.starts_with('/')
        || path.contains(|c: char| c.is_whitespace() || c.is_control())
        || !path.is_ascii()
        || path.contains('#')
    {
        return Err(wrong());
    }
    let upper = method.chars().all(|c| c.is_ascii_uppercase());
    let method = upper
        .then(|| method.parse().ok())
        .flatten()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(wrong)?;
    Ok((method, Template::parse(path)?))
}

fn think(text: &str) -> Result<Think, String> {
    let (shortest, longest) = text.split_once("..").unwrap_or((text, text));
    let zero = |text: &str| match text.trim() {
        "0" | "0s" | "0ms" => Ok(std::time::Duration::ZERO),
        text => pace::length(text),
    };
    let wrong = |error| format!("{text:?} is {error}; or a range such as 200ms..2s");
    let think = Think {
        shortest: zero(shortest).map_err(wrong)?,
        longest: zero(longest).map_err(wrong)?,
    };
    if think.shortest > think.longest {
        return Err(format!(
            "{text:?} goes from the longer time to the shorter one"
        ));
    }
    Ok(think)
}
