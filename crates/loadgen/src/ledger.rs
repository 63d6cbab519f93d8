//! The one place that counts, on the thread that sends: whatever happens to a request is entered here once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metrics::{Metrics, Tally};
use crate::outcome::Outcome;
use crate::pulse::Wrist;
use crate::summary::{Generator, Paced, Recorder, Summary};

/// What is sent, what is on its way, and what came of it.
#[derive(Debug)]
pub struct Ledger {
    recorder: RefCell<Recorder>,
    /// Counts for Prometheus that it has not been told yet.
    tally: RefCell<Tally>,
    metrics: Arc<Metrics>,
    wrist: RefCell<Wrist>,
    arrived: Cell<u64>,
    planned: Cell<u64>,
    dropped: Cell<u64>,
    in_flight: Cell<u64>,
    /// Journeys that have begun and not ended.
    walking: Cell<u64>,
    connections: Cell<Connections>,
    quiet: Notify,
}

/// Connections made, open, and open at most.
#[derive(Debug, Clone, Copy, Default)]
struct Connections {
    made: u64,
    open: u64,
    most: u64,
}

impl Ledger {
    /// For a run over these routes and journeys.
    pub fn new(routes: &[String], journeys: &[String], metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            recorder: RefCell::new(Recorder::new(Instant::now(), routes, journeys)),
            tally: RefCell::new(metrics.tally()),
            metrics,
            wrist: RefCell::new(Wrist::new(Instant::now())),
            arrived: Cell::new(0),
            planned: Cell::new(0),
            dropped: Cell::new(0),
            in_flight: Cell::new(0),
            walking: Cell::new(0),
            connections: Cell::default(),
            quiet: Notify::new(),
        })
    }

    /// The first start is due at `begin`.
    pub fn begin(&self, begin: Instant) {
        self.recorder.borrow_mut().begin(begin);
        self.wrist.replace(Wrist::new(begin));
    }

    /// A start of the schedule came due; it takes its first request to [`Ledger::admit`], too.
    pub fn arrived(&self) {
        self.arrived.set(self.arrived.get() + 1);
    }

    /// A request came due. Whether there is room for it among `max` requests in flight; otherwise it is dropped.
    pub fn admit(&self, max: u64) -> bool {
        self.planned.set(self.planned.get() + 1);
        let room = self.in_flight.get() < max;
        if !room {
            self.dropped.set(self.dropped.get() + 1);
            self.tally.borrow_mut().dropped();
        }
        room
    }

    /// A request is on its way.
    pub fn sent(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.tally.borrow_mut().sent();
    }

    /// A request has ended.
    pub fn ended(&self, outcome: Outcome) {
        self.tally.borrow_mut().observe(&outcome);
        let latency = outcome.is_timed().then(|| outcome.latency());
        self.wrist.borrow_mut().ended(latency, outcome.arrival);
        self.recorder.borrow_mut().record(outcome);
        self.in_flight.set(self.in_flight.get() - 1);
        self.notice();
    }

    /// A connection has been made.
    pub fn connected(&self) {
        let mut connections = self.connections.get();
        connections.made += 1;
        connections.open += 1;
        connections.most = connections.most.max(connections.open);
        self.connections.set(connections);
    }

    /// A connection has ended.
    pub fn disconnected(&self) {
        let mut connections = self.connections.get();
        connections.open -= 1;
        self.connections.set(connections);
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> u64 {
        self.connections.get().open
    }

    /// A journey begins.
    pub fn begins(&self, journey: usize) {
        self.walking.set(self.walking.get() + 1);
        self.recorder.borrow_mut().journey_begins(journey);
    }

    /// A journey has ended; `why` it did before its last step.
    pub fn ends(&self, journey: usize, why: Option<String>) {
        self.recorder.borrow_mut().journey_ends(journey, why);
        self.walking.set(self.walking.get() - 1);
        self.notice();
    }

    fn notice(&self) {
        if self.is_quiet() {
            self.quiet.notify_waiters();
        }
    }

    fn is_quiet(&self) -> bool {
        self.in_flight.get() == 0 && self.walking.get() == 0
    }

    /// Waits until nothing is on its way.
    pub async fn quiet(&self) {
        while !self.is_quiet() {
            self.quiet.notified().await;
        }
    }

    /// Tells Prometheus, and who watches, how things are.
    pub fn publish(&self, wanted_rate: f64) {
        self.tally.borrow_mut().flush();
        self.metrics
            .in_flight
            .set(i64::try_from(self.in_flight.get()).unwrap_or(i64::MAX));
        self.metrics.wanted_rate.set(wanted_rate);
        let pulse =
            self.wrist
                .borrow_mut()
                .pulse(Instant::now(), wanted_rate, self.connections.get().open);
        self.metrics.feel(pulse, self.arrived.get());
    }

    /// The result, at the end. What is still on its way counts as abandoned.
    pub fn close(
        &self,
        span: Duration,
        wanted_rate: f64,
        interrupted: bool,
        generator: Generator,
    ) -> Summary {
        let recorder = self.recorder.take();
        let paced = Paced {
            planned: self.planned.get(),
            dropped: self.dropped.get(),
            span,
            wanted_rate,
        };
        let abandoned = paced.planned - paced.dropped - recorder.outcomes();
        self.tally.borrow_mut().abandon(abandoned);
        self.publish(0.0);
        let connections = self.connections.get();
        recorder.finish(paced, interrupted).used(Generator {
            connections: connections.made,
            max_connections: connections.most,
            ..generator
        })
    }
}
