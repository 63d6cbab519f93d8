//! Readiness as latches: the service is ready when every named condition is, and no longer once it drains.
//! What it wishes for but can do without degrades it.

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
    conditions: RwLock<Vec<Named>>,
}

#[derive(Debug)]
struct Named {
    name: &'static str,
    holds: Arc<AtomicBool>,
    /// Whether the service can do without.
    wish: bool,
}

/// One condition of readiness; it holds its last value when dropped.
#[derive(Debug, Clone)]
pub struct Condition(Arc<AtomicBool>);

#[derive(Serialize)]
struct Report {
    ready: bool,
    not_ready: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<&'static str>,
}

impl Readiness {
    /// Ready at once, until a condition is added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not fulfilled yet; `/readyz` names it under `not_ready` while it is not.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.add(name, false)
    }

    /// Adds a condition without which the service is ready all the same, only degraded: other replicas
    /// would fare no better. `/readyz` names it under `degraded` while it is not fulfilled.
    pub fn wish(&self, name: &'static str) -> Condition {
        self.add(name, true)
    }

    fn add(&self, name: &'static str, wish: bool) -> Condition {
        let holds = Arc::new(AtomicBool::new(false));
        let mut conditions = self
            .0
            .conditions
            .write()
            .expect("no holder of this lock panics");
        conditions.push(Named {
            name,
            holds: Arc::clone(&holds),
            wish,
        });
        Condition(holds)
    }

    /// From now on never ready again.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    fn report(&self) -> Report {
        let conditions = self
            .0
            .conditions
            .read()
            .expect("no holder of this lock panics");
        let open = |wish: bool| {
            conditions
                .iter()
                .filter(move |named| named.wish == wish && !named.holds.load(Ordering::Acquire))
                .map(|named| named.name)
        };
        let draining = self
            .0
            .draining
            .load(Ordering::Acquire)
            .then_some("draining");
        let not_ready: Vec<_> = open(false).chain(draining).collect();
        Report {
            ready: not_ready.is_empty(),
            not_ready,
            degraded: open(true).collect(),
        }
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
        let report = readiness.report();
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
        assert!(readiness.report().not_ready.is_empty());
        let (database, cache) = (
            readiness.condition("database"),
            readiness.condition("cache"),
        );
        assert_eq!(readiness.report().not_ready, ["database", "cache"]);
        database.set(true);
        cache.set(true);
        assert!(readiness.report().not_ready.is_empty());
        database.set(false);
        assert_eq!(
            readiness.report().not_ready,
            ["database"],
            "a condition can be lost again"
        );
        database.set(true);
        let payments = readiness.wish("payments");
        let Report {
            ready, degraded, ..
        } = readiness.report();
        assert_eq!((ready, degraded), (true, vec!["payments"]));
        payments.set(true);
        assert!(readiness.report().degraded.is_empty());
        readiness.drain();
        assert_eq!(readiness.report().not_ready, ["draining"]);
    }
}
