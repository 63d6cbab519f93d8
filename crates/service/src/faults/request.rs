//! What faults do to a request: those that are active, and those its own `X-Fault` header asks for.

use std::time::Duration;

use actix_web::{
    dev::ServiceRequest,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use opentelemetry::Context;
use telemetry::BrokenContext;

use super::{Fault, Faults, Mistake, Settings, latency};
use crate::Problem;

/// `errors;status=503, latency;delay=200ms`
const X_FAULT: HeaderName = HeaderName::from_static("x-fault");
const X_FAULT_TOKEN: HeaderName = HeaderName::from_static("x-fault-token");
/// On the response, when `X-Fault` did nothing.
const X_FAULT_IGNORED: HeaderName = HeaderName::from_static("x-fault-ignored");

const NOT_SHOWN: HeaderValue = HeaderValue::from_static("X-Fault-Token is missing or wrong");

/// What is to happen to one request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    delay: Duration,
    refusal: Option<Problem>,
    dependency: Option<BrokenDependency>,
    ignore_parent: bool,
    break_context: bool,
    lose_span: bool,
    ignored: bool,
}

/// How a call to another service goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenDependency {
    /// It waits so long before it is made.
    Slow(Duration),
    /// The answer is 500.
    Failing,
    /// Nobody listens.
    Down,
}

impl Settings {
    /// Of the errors fault.
    pub(super) fn status(&self) -> StatusCode {
        u16::try_from(self.count("status"))
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether it is this request's turn.
    fn hits(&self, pattern: &str) -> bool {
        self.text("route").is_none_or(|route| route == pattern) && self.draw()
    }

    fn draw(&self) -> bool {
        let probability = self.number("probability");
        probability >= 1.0 || rand::random::<f64>() < probability
    }

    /// Of the dependency fault.
    fn dependency(&self) -> BrokenDependency {
        match self.text("mode") {
            Some("slow") => BrokenDependency::Slow(self.time("delay")),
            Some("down") => BrokenDependency::Down,
            _ => BrokenDependency::Failing,
        }
    }
}

impl Faults {
    /// What is to happen to a request, which nearly always is nothing. A request that no route
    /// answers is left alone.
    pub(crate) fn plan(&self, request: &ServiceRequest) -> Option<Plan> {
        let inner = self.inner()?;
        let asked = request.headers().contains_key(X_FAULT);
        if !asked && !self.any() {
            return None;
        }
        let pattern = request
            .match_pattern()
            .filter(|pattern| inner.has_route(pattern))?;
        let mut plan = Plan::default();
        for fault in [Fault::Errors, Fault::Latency, Fault::TraceBreak] {
            if let Some(active) = self.active(fault) {
                plan.add(fault, active.settings(), &pattern);
            }
        }
        if asked {
            self.asked(request.headers(), &pattern, &mut plan);
        }
        Some(plan)
    }

    /// What is to happen to a call of another service that is made now, for every call or for the request it is made for.
    pub fn dependency(&self) -> Option<BrokenDependency> {
        self.inner()?;
        let asked = Context::map_current(|context| context.get::<BrokenDependency>().copied());
        asked.or_else(|| {
            let active = self.active(Fault::Dependency)?;
            let settings = active.settings();
            settings.draw().then(|| settings.dependency())
        })
    }

    /// Adds what the request's own headers ask for.
    fn asked(&self, headers: &HeaderMap, pattern: &str, plan: &mut Plan) {
        let shown = headers.get(X_FAULT_TOKEN);
        let known = self.inner().zip(shown);
        if !known.is_some_and(|(inner, shown)| inner.token.is(shown.as_bytes())) {
            plan.ignored = true;
            return;
        }
        match self.read(headers) {
            Ok(asked) => {
                for (fault, settings) in &asked {
                    plan.add(*fault, settings, pattern);
                }
            }
            Err(mistakes) => {
                plan.refusal = Some(
                    Problem::new(StatusCode::BAD_REQUEST)
                        .kind("invalid-fault")
                        .title("The X-Fault header is not valid")
                        .with("errors", mistakes),
                );
            }
        }
    }

    fn read(&self, headers: &HeaderMap) -> Result<Vec<(Fault, Settings)>, Vec<Mistake>> {
        let (mut asked, mut mistakes) = (Vec::new(), Vec::new());
        let texts = headers
            .get_all(X_FAULT)
            .map(|value| value.to_str().unwrap_or("?"));
        for text in texts.flat_map(|text| text.split(',')) {
            let mut parts = text.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let known = self.offered().filter(|fault| fault.about().one_request);
            let Some(fault) = known.clone().find(|fault| fault.about().name == name) else {
                let names: Vec<_> = known.map(|fault| fault.about().name).collect();
                mistakes.push(Mistake {
                    field: "X-Fault".to_owned(),
                    message: format!(
                        "has to name faults that can be asked for on one request: {}",
                        names.join(", ")
                    ),
                });
                continue;
            };
            let given: Vec<_> = parts
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .collect();
            // The request asks for it to happen, not for a draw, unless it says so.
            let certain = (!given.iter().any(|(name, _)| *name == "probability"))
                .then_some(("probability", "1"));
            let read = Settings::read(fault, given.into_iter().chain(certain))
                .and_then(|settings| self.check(fault, &settings).map(|()| settings));
            match read {
                Ok(settings) => asked.push((fault, settings)),
                Err(wrong) => mistakes.extend(wrong),
            }
        }
        match mistakes.is_empty() {
            true => Ok(asked),
            false => Err(mistakes),
        }
    }
}

impl Plan {
    fn add(&mut self, fault: Fault, settings: &Settings, pattern: &str) {
        if !settings.hits(pattern) {
            return;
        }
        match fault {
            Fault::Errors => {
                let error = anyhow::anyhow!("the fault errors is active, or was asked for");
                self.refusal = Some(
                    Problem::new(settings.status())
                        .kind("injected-fault")
                        .detail("this failure was asked for")
                        .cause("injected-fault", error),
                );
            }
            Fault::Latency => self.delay += latency::sample(settings),
            Fault::Dependency => self.dependency = Some(settings.dependency()),
            Fault::SpanDrop => self.lose_span = true,
            Fault::TraceBreak => {
                self.ignore_parent |= settings.text("direction") != Some("out");
                self.break_context |= settings.text("direction") != Some("in");
            }
            _ => {}
        }
    }

    /// The context in which the request's span is to start, in place of its caller's; what the request
    /// calls finds in it what is to go wrong there.
    pub(crate) fn parent(&self, callers: Context) -> Context {
        let mut parent = match self.ignore_parent {
            true => Context::new(),
            false => callers,
        };
        if self.break_context {
            parent = parent.with_value(BrokenContext);
        }
        if let Some(dependency) = self.dependency {
            parent = parent.with_value(dependency);
        }
        parent
    }

    /// Whether the request's span is to get lost.
    pub(crate) fn loses_span(&self) -> bool {
        self.lose_span
    }

    /// Waits as long as it is to wait, and fails if it is to fail.
    ///
    /// # Errors
    /// The failure to answer with.
    pub(crate) async fn before(&mut self) -> Result<(), Problem> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.refusal.take().map_or(Ok(()), Err)
    }

    /// Says on the response that the request's own fault did not happen.
    pub(crate) fn after(&self, headers: &mut HeaderMap) {
        if self.ignored {
            headers.insert(X_FAULT_IGNORED, NOT_SHOWN);
        }
    }
}
