//! Which faults are active, and until when.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::http::StatusCode;
use jiff::Timestamp;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use telemetry::Sabotage;
use tokio::sync::watch;

use super::{
    Fault, Mistake, Settings, Token,
    effects::{self, LabelBomb},
};
use crate::{Condition, Problem, Readiness, Route, red::Red};

/// The faults of one service; clones share them.
///
/// Without a token there are none: `/chaos` answers 404, `X-Fault` means nothing, and `flask_chaos_active`
/// does not exist.
#[derive(Clone)]
pub struct Faults(Option<Arc<Inner>>);

pub(super) struct Inner {
    pub(super) token: Token,
    sabotage: Sabotage,
    /// One bit for each active fault, so that a request looks once when there is none.
    active: AtomicU32,
    offers: Vec<Offer>,
    routes: Vec<Route>,
    unready: Mutex<Option<Condition>>,
    /// Held while a fault starts or ends, so that slot, bit and gauge agree.
    change: Mutex<()>,
}

struct Offer {
    fault: Fault,
    gauge: IntGauge,
    slot: watch::Sender<Option<Arc<Active>>>,
}

/// A fault from its start to its end.
pub struct Active {
    fault: Fault,
    settings: Settings,
    started_at: Timestamp,
    until: Instant,
    ended: Mutex<bool>,
    wake: Condvar,
}

impl Faults {
    /// No faults, whatever is asked for.
    pub fn off() -> Self {
        Self(None)
    }

    /// The faults that every service has, and those of `special` that this one has too. Without a
    /// token there are none. `sabotage` is what spoils this process' telemetry. Adds `{prefix}_chaos_active` to `registry`, at 0 for each.
    ///
    /// # Errors
    /// When `registry` already holds metrics of these names.
    pub fn new(
        token: Option<Token>,
        sabotage: Sabotage,
        registry: &Registry,
        prefix: &str,
        routes: &[Route],
        special: &[Fault],
    ) -> Result<Self, prometheus::Error> {
        let Some(token) = token else {
            return Ok(Self::off());
        };
        // One request may ask for its span to be lost.
        sabotage.arm();
        let gauges = IntGaugeVec::new(
            Opts::new(
                format!("{prefix}_chaos_active"),
                "Whether a fault is active that somebody asked for.",
            ),
            &["fault"],
        )?;
        registry.register(Box::new(gauges.clone()))?;
        let offers: Vec<_> = Fault::ALL
            .into_iter()
            .filter(|fault| !fault.is_special() || special.contains(fault))
            .map(|fault| Offer {
                fault,
                gauge: gauges.with_label_values(&[fault.about().name]),
                slot: watch::Sender::new(None),
            })
            .collect();
        let faults = Self(Some(Arc::new(Inner {
            token,
            sabotage,
            active: AtomicU32::new(0),
            offers,
            routes: routes.to_vec(),
            unready: Mutex::default(),
            change: Mutex::default(),
        })));
        registry.register(Box::new(LabelBomb::new(faults.clone(), prefix)?))?;
        Ok(faults)
    }

    pub(super) fn inner(&self) -> Option<&Inner> {
        self.0.as_deref()
    }

    /// The fault if it is active now. Costs one load while it is not.
    pub fn active(&self, fault: Fault) -> Option<Arc<Active>> {
        let inner = self.inner()?;
        if inner.active.load(Ordering::Relaxed) & bit(fault) == 0 {
            return None;
        }
        let active = inner.offer(fault)?.slot.borrow().clone();
        active.filter(|active| !active.left().is_zero())
    }

    /// Tells when a fault starts and ends; nothing when this service does not have it.
    pub fn watch(&self, fault: Fault) -> Option<watch::Receiver<Option<Arc<Active>>>> {
        Some(self.inner()?.offer(fault)?.slot.subscribe())
    }

    /// Faults this service has.
    pub(super) fn offered(&self) -> impl Iterator<Item = Fault> + Clone {
        let offers = self.inner().map(|inner| inner.offers.as_slice());
        offers.unwrap_or_default().iter().map(|offer| offer.fault)
    }

    /// Whether any fault is active.
    pub(super) fn any(&self) -> bool {
        self.inner()
            .is_some_and(|inner| inner.active.load(Ordering::Relaxed) != 0)
    }

    /// Lets the unready fault have its say about `/readyz`.
    pub(crate) fn hold(&self, readiness: &Readiness) {
        if let Some(inner) = self.inner() {
            let condition = readiness.condition("chaos");
            condition.set(true);
            *lock(&inner.unready) = Some(condition);
        }
    }

    pub(super) fn sabotage(&self) -> Sabotage {
        self.inner()
            .map(|inner| inner.sabotage.clone())
            .unwrap_or_default()
    }

    pub(super) fn set_ready(&self, ready: bool) {
        if let Some(condition) = self.inner().and_then(|inner| lock(&inner.unready).clone()) {
            condition.set(ready);
        }
    }

    /// What the settings ask for that this service cannot do.
    pub(super) fn check(&self, fault: Fault, settings: &Settings) -> Result<(), Vec<Mistake>> {
        let Some(inner) = self.inner() else {
            return Ok(());
        };
        let mut mistakes = Vec::new();
        let mut wrong = |field: &str, message| {
            mistakes.push(Mistake {
                field: field.to_owned(),
                message,
            });
        };
        let route = settings.text("route");
        let mut patterns: Vec<_> = inner.routes.iter().map(Route::pattern).collect();
        patterns.dedup();
        if let Some(route) = route
            && !patterns.contains(&route)
        {
            wrong("route", format!("has to be one of {}", patterns.join(", ")));
        } else if fault == Fault::Errors {
            // Others would be series that no rule knows, and more of them than were counted on.
            let statuses = Red::failures(&inner.routes, route);
            if !statuses.contains(&settings.status().as_u16()) {
                let statuses: Vec<_> = statuses.iter().map(u16::to_string).collect();
                wrong(
                    "status",
                    format!(
                        "has to be one that these routes have: {}",
                        statuses.join(", ")
                    ),
                );
            }
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(mistakes),
        }
    }

    /// Starts a fault, in the place of the same one with other settings.
    ///
    /// # Errors
    /// When there is no thread to be had for it.
    pub(super) fn start(&self, fault: Fault, settings: Settings) -> Result<Arc<Active>, Problem> {
        let (inner, offer) = self
            .inner()
            .and_then(|inner| Some((inner, inner.offer(fault)?)))
            .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND))?;
        let active = Arc::new(Active::new(fault, settings));
        tracing::warn!(
            {
                chaos.fault = fault.about().name,
                chaos.settings = serde_json::to_string(&active.settings).unwrap_or_default(),
            },
            "fault started"
        );
        {
            let _change = lock(&inner.change);
            let before = offer.slot.send_replace(Some(Arc::clone(&active)));
            inner.active.fetch_or(bit(fault), Ordering::Relaxed);
            offer.gauge.set(1);
            if let Some(before) = before {
                before.end();
            }
        }
        let (faults, told) = (self.clone(), Arc::clone(&active));
        let work = move || {
            effects::run(&faults, &told);
            faults.ended(&told);
        };
        let name = format!("chaos-{}", fault.about().name);
        if let Err(error) = thread::Builder::new().name(name).spawn(work) {
            self.ended(&active);
            return Err(Problem::internal("thread", error));
        }
        Ok(active)
    }

    /// Stops a fault; false when it was not active.
    pub(super) fn stop(&self, fault: Fault) -> bool {
        let active = self.active(fault);
        if let Some(active) = &active {
            active.end();
            self.ended(active);
        }
        active.is_some()
    }

    fn ended(&self, active: &Arc<Active>) {
        let fault = active.fault;
        let Some((inner, offer)) = self
            .inner()
            .and_then(|inner| Some((inner, inner.offer(fault)?)))
        else {
            return;
        };
        let _change = lock(&inner.change);
        let is_current = offer
            .slot
            .borrow()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, active));
        if is_current {
            offer.slot.send_replace(None);
            inner.active.fetch_and(!bit(fault), Ordering::Relaxed);
            offer.gauge.set(0);
            tracing::warn!(chaos.fault = fault.about().name, "fault ended");
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(Fault::ALL.into_iter().filter(|f| self.active(*f).is_some()))
            .finish()
    }
}

impl Inner {
    fn offer(&self, fault: Fault) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.fault == fault)
    }

    pub(super) fn has_route(&self, pattern: &str) -> bool {
        self.routes.iter().any(|route| route.pattern() == pattern)
    }
}

impl Active {
    fn new(fault: Fault, settings: Settings) -> Self {
        Self {
            fault,
            until: Instant::now() + settings.lifetime(),
            settings,
            started_at: Timestamp::now(),
            ended: Mutex::new(false),
            wake: Condvar::new(),
        }
    }

    /// Which fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Time until its end.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Waits; true when the fault is over.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let ended = lock(&self.ended);
        let until = at_most.min(self.left());
        let (ended, _) = self
            .wake
            .wait_timeout_while(ended, until, |ended| !*ended)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *ended || self.left().is_zero()
    }

    /// Whether it was told to end before its time.
    pub(super) fn is_stopped(&self) -> bool {
        *lock(&self.ended)
    }

    fn end(&self) {
        *lock(&self.ended) = true;
        self.wake.notify_all();
    }
}

fn bit(fault: Fault) -> u32 {
    1 << fault as u32
}

/// What these locks protect is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
