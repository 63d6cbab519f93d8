//! Customers who do one thing after another: which journey, with which draws, and what they take from the answers.
//!
//! The journey of a start, and all that is drawn on it, follows from the seed and the number of the start, whatever
//! came before. Only what the answers decide is not known beforehand.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value;
use uuid::Uuid;

use crate::http1::Kept;
use crate::template::{JsonTemplate, Template, Variables};
use crate::traffic::{Draft, Shot, numbered, turn};
use crate::transport::Target;

/// What needs no encoding within a segment of a path (RFC 3986, 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// All journeys of a run, ready to be gone.
#[derive(Debug)]
pub struct Journeys {
    /// By number.
    pub all: Vec<Journey>,
    /// Decides who goes on which.
    pub seed: u64,
    /// Fields of every request, where it does not have them itself.
    pub headers: HeaderMap,
    /// The path of each base URL, without a slash at its end.
    pub bases: Vec<String>,
    /// Whether connections are used again.
    pub keep_alive: bool,
}

/// One journey.
#[derive(Debug, Clone)]
pub struct Journey {
    /// Its name.
    pub name: String,
    /// How often it is gone, among the weights of all.
    pub weight: u32,
    /// Drawn at the begin.
    pub draws: Vec<(String, Draw)>,
    /// Its steps, one at least.
    pub steps: Vec<Step>,
}

/// One step: a request, and what to learn from its answer.
#[derive(Debug, Clone)]
pub struct Step {
    /// How long to think before.
    pub think: Think,
    /// The method.
    pub method: Method,
    /// The path and query.
    pub path: Template,
    /// The same as it is written: the route.
    pub route: Rc<str>,
    /// Its number among the routes of the run.
    pub route_number: usize,
    /// Fields.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body.
    pub body: Body,
    /// Statuses to expect; any below 500 where there are none.
    pub expect: Option<Rc<[u16]>>,
    /// Variables to take from the answer.
    pub take: Vec<(String, Source)>,
}

/// A pause, evenly drawn from the shortest to the longest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Think {
    /// The shortest.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// Always the same.
    Fixed(Bytes),
    /// A text with variables.
    Text(Template),
    /// JSON with variables.
    Json(JsonTemplate),
}

/// How a variable is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// Always the same.
    Value(Value),
    /// One of several.
    OneOf(Vec<Value>),
    /// A whole number, both ends included.
    Range(i64, i64),
    /// A new random UUID. Not from the seed: a second run with it would repeat the first one's keys.
    Uuid,
}

/// Where in an answer a variable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// At a JSON pointer (RFC 6901), whose `*` stands for any element of an array.
    Json(String),
    /// In a field of the head.
    Header(HeaderName),
}

/// A customer on the way.
#[derive(Debug)]
pub struct Walk {
    /// The number of the journey.
    pub journey: usize,
    /// The number of the target that all requests go to: replicas need not share a database.
    pub target: usize,
    variables: Variables,
    rng: SmallRng,
}

impl Journeys {
    /// The customer of the start with this number.
    pub fn set_out(&self, number: u64) -> Walk {
        let mut rng = numbered(self.seed, number);
        let total: u32 = self.all.iter().map(|journey| journey.weight).sum();
        let mut ticket = rng.random_range(0..total);
        let journey = self
            .all
            .iter()
            .position(|journey| {
                let mine = ticket < journey.weight;
                ticket = ticket.wrapping_sub(journey.weight);
                mine
            })
            .expect("the ticket is below the sum of the weights");
        let variables = self.all[journey]
            .draws
            .iter()
            .map(|(name, draw)| (name.clone(), draw.draw(&mut rng)))
            .collect();
        Walk {
            journey,
            target: turn(number, self.bases.len()),
            variables,
            rng,
        }
    }

    /// The request of a step.
    pub fn shot(&self, walk: &Walk, step: &Step, target: &Target) -> Shot {
        let variables = &walk.variables;
        let path = step.path.fill(variables, |value| {
            utf8_percent_encode(value, SEGMENT).to_string()
        });
        let mut headers = self.headers.clone();
        for (name, value) in &step.headers {
            let value = value.fill(variables, str::to_owned);
            // A value that an answer made impossible is sent without what makes it so.
            let value = HeaderValue::from_str(&value).or_else(|_| {
                HeaderValue::from_str(&value.replace(|c: char| c.is_ascii_control(), ""))
            });
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        }
        let body = match &step.body {
            Body::Empty => Bytes::new(),
            Body::Fixed(bytes) => bytes.clone(),
            Body::Text(text) => text.fill(variables, str::to_owned).into(),
            Body::Json(json) => {
                headers
                    .entry(CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("application/json"));
                json.fill(variables).to_string().into()
            }
        };
        Draft {
            target: walk.target,
            method: step.method.clone(),
            path: format!("{}{path}", self.bases[walk.target]),
            template: Some(Rc::clone(&step.route)),
            route: step.route_number,
            headers,
            body,
            keep: !step.take.is_empty(),
            expect: step.expect.clone(),
        }
        .finish(target, self.keep_alive)
    }
}

impl Walk {
    /// Takes what a step wants from its answer.
    ///
    /// # Errors
    /// When it is not there, with what was looked for.
    pub fn learn(&mut self, step: &Step, answer: &Kept) -> Result<(), String> {
        let mut json = None;
        for (name, source) in &step.take {
            let value = match source {
                Source::Header(field) => answer
                    .headers
                    .get(field)
                    .and_then(|value| value.to_str().ok())
                    .map(|value| Value::String(value.to_owned())),
                Source::Json(pointer) => {
                    let json = json.get_or_insert_with(|| {
                        serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()
                    });
                    find(json, pointer, &mut self.rng)
                }
            };
            let Some(value) = value else {
                return Err(format!(
                    "{name}: no {source} in the answer of {} {}",
                    step.method, step.route
                ));
            };
            self.variables.insert(name.clone(), value);
        }
        Ok(())
    }

    /// How long to think before a step.
    pub fn think(&mut self, think: Think) -> Duration {
        if think.longest <= think.shortest {
            return think.shortest;
        }
        self.rng.random_range(think.shortest..=think.longest)
    }
}

impl Draw {
    fn draw(&self, rng: &mut SmallRng) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::OneOf(values) => values[rng.random_range(0..values.len())].clone(),
            Self::Range(low, high) => rng.random_range(*low..=*high).into(),
            Self::Uuid => Uuid::new_v4().to_string().into(),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(pointer) => pointer.fmt(f),
            Self::Header(name) => write!(f, "field {name}"),
        }
    }
}

/// What `pointer` leads to; nothing if that is `null`.
fn find(json: &Value, pointer: &str, rng: &mut SmallRng) -> Option<Value> {
    let mut at = json;
    for token in pointer.split('/').skip(1) {
        at = match at {
            Value::Array(items) if token == "*" => {
                if items.is_empty() {
                    return None;
                }
                &items[rng.random_range(0..items.len())]
            }
            Value::Array(items) => items.get(token.parse::<usize>().ok()?)?,
            Value::Object(fields) => fields.get(&token.replace("~1", "/").replace("~0", "~"))?,
            _ => return None,
        };
    }
    (!at.is_null()).then(|| at.clone())
}

/// How many requests a journey has on average, if none is broken off.
pub fn mean_steps(journeys: &[Journey]) -> f64 {
    let weights: BTreeMap<&str, (u32, usize)> = journeys
        .iter()
        .map(|journey| (journey.name.as_str(), (journey.weight, journey.steps.len())))
        .collect();
    let total: f64 = weights.values().map(|(weight, _)| f64::from(*weight)).sum();
    weights
        .values()
        .map(|(weight, steps)| f64::from(*weight) * *steps as f64)
        .sum::<f64>()
        / total
}
