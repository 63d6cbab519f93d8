//! Readiness as latches: the service is ready when every named condition is, and no longer once it drains.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{HttpResponse, web};
use serde::Serialize;

/// The readiness of a service; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    conditions: RwLock<Vec<(&'static str, Arc<AtomicBool>)>>,
}

/// One condition of readiness; it holds its last value when dropped.
#[derive(Debug, Clone)]
pub struct Condition(Arc<AtomicBool>);

#[derive(Serialize)]
struct Report {
    ready: bool,
    not_ready: Vec<&'static str>,
}

impl Readiness {
    /// Ready at once, until a condition is added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not fulfilled yet; `/readyz` names it while it is not.
    pub fn condition(&self, name: &'static str) -> Condition {
        let flag = Arc::new(AtomicBool::new(false));
        let mut conditions = self
            .0
            .conditions
            .write()
            .expect("no holder of this lock panics");
        conditions.push((name, Arc::clone(&flag)));
        Condition(flag)
    }

    /// From now on never ready again.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    fn not_ready(&self) -> Vec<&'static str> {
        let conditions = self
            .0
            .conditions
            .read()
            .expect("no holder of this lock panics");
        let open = conditions
            .iter()
            .filter(|(_, ready)| !ready.load(Ordering::Acquire));
        let draining = self
            .0
            .draining
            .load(Ordering::Acquire)
            .then_some("draining");
        open.map(|(name, _)| *name).chain(draining).collect()
    }
}

impl Condition {
    /// Says whether the condition is fulfilled now.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

/// `/healthz` answers 200 as long as the process can answer at all; `/readyz` follows `readiness`.
pub(crate) fn probes(readiness: Readiness) -> impl FnOnce(&mut web::ServiceConfig) {
    let readyz = move || {
        let not_ready = readiness.not_ready();
        let report = Report {
            ready: not_ready.is_empty(),
            not_ready,
        };
        let mut response = match report.ready {
            true => HttpResponse::Ok(),
            false => HttpResponse::ServiceUnavailable(),
        };
        std::future::ready(response.json(report))
    };
    |pages| {
        pages
            .route("/healthz", web::get().to(async || "ok\n"))
            .route("/healthz", web::head().to(async || "ok\n"))
            .route("/readyz", web::get().to(readyz.clone()))
            .route("/readyz", web::head().to(readyz));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfulfilled_conditions_and_draining_are_named() {
        let readiness = Readiness::new();
        assert!(readiness.not_ready().is_empty());
        let (database, cache) = (
            readiness.condition("database"),
            readiness.condition("cache"),
        );
        assert_eq!(readiness.not_ready(), ["database", "cache"]);
        database.set(true);
        cache.set(true);
        assert!(readiness.not_ready().is_empty());
        database.set(false);
        assert_eq!(
            readiness.not_ready(),
            ["database"],
            "a condition can be lost again"
        );
        database.set(true);
        readiness.drain();
        assert_eq!(readiness.not_ready(), ["draining"]);
    }
}
