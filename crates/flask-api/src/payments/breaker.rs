//! A circuit breaker: after a row of failures nobody is asked for a while, then one request may try.
//!
//! It spares callers the wait for an answer that will not come, and a struggling service the requests
//! that keep it down. It has no clock of its own: whoever calls says what time it is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When to stop asking, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Failures in a row after which it opens, at least 1.
    pub failures: u32,
    /// How long it stays open before one request may try.
    pub pause: Duration,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Requests pass.
    Closed,
    /// Requests are rejected.
    Open,
    /// One request is trying; the others are rejected.
    HalfOpen,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// As in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A request is not to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// When one may try; zero while one is trying.
    pub retry_in: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    standing: Standing,
    /// Counts the changes: what was admitted before the last one has nothing to say any more.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

impl Breaker {
    /// A closed one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                standing: Standing::Closed { failures: 0 },
                epoch: 0,
            }),
        }
    }

    /// Where it stands. An open one stays so until somebody may try and does.
    pub fn phase(&self) -> Phase {
        match self.state().standing {
            Standing::Closed { .. } => Phase::Closed,
            Standing::Open { .. } => Phase::Open,
            Standing::HalfOpen => Phase::HalfOpen,
        }
    }

    /// Leave to send one request, whose outcome is to be reported.
    ///
    /// # Errors
    /// [`Rejected`] while it is open, or another request is trying.
    pub fn admit(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let mut state = self.state();
        match state.standing {
            Standing::Closed { .. } => {}
            Standing::Open { until } if now >= until => state.change(Standing::HalfOpen),
            Standing::Open { until } => {
                return Err(Rejected {
                    retry_in: until - now,
                });
            }
            Standing::HalfOpen => {
                return Err(Rejected {
                    retry_in: Duration::ZERO,
                });
            }
        }
        Ok(Permit {
            breaker: self,
            epoch: state.epoch,
            reported: false,
        })
    }

    /// No line that holds this lock can panic halfway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, standing: Standing) {
        self.standing = standing;
        self.epoch += 1;
    }
}

/// Leave to send one request. Dropped without a report, it lets another one try.
#[derive(Debug)]
#[must_use = "a request is sent with it, and its outcome reported"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    epoch: u64,
    reported: bool,
}

impl Permit<'_> {
    /// Tells whether the request was answered as by somebody in good health. Returns the phase that
    /// this leads to, if it is another one.
    pub fn report(mut self, healthy: bool, now: Instant) -> Option<Phase> {
        self.reported = true;
        let Breaker { limits, .. } = self.breaker;
        let mut state = self.breaker.state();
        if state.epoch != self.epoch {
            return None;
        }
        let until = now + limits.pause;
        match (state.standing, healthy) {
            (Standing::Closed { .. }, true) => {
                state.standing = Standing::Closed { failures: 0 };
                None
            }
            (Standing::Closed { failures }, false) if failures + 1 < limits.failures => {
                state.standing = Standing::Closed {
                    failures: failures + 1,
                };
                None
            }
            (Standing::HalfOpen, true) => {
                state.change(Standing::Closed { failures: 0 });
                Some(Phase::Closed)
            }
            // Of an open one there is no permit.
            (_, _) => {
                state.change(Standing::Open { until });
                Some(Phase::Open)
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let mut state = self.breaker.state();
        if state.epoch == self.epoch && matches!(state.standing, Standing::HalfOpen) {
            let until = Instant::now();
            state.change(Standing::Open { until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn breaker() -> (Breaker, Instant) {
        let limits = Limits {
            failures: 3,
            pause: PAUSE,
        };
        (Breaker::new(limits), Instant::now())
    }

    fn fail(breaker: &Breaker, now: Instant) -> Option<Phase> {
        breaker.admit(now).expect("admitted").report(false, now)
    }

    fn open(breaker: &Breaker, now: Instant) {
        assert_eq!(fail(breaker, now), None);
        assert_eq!(fail(breaker, now), None);
        assert_eq!(fail(breaker, now), Some(Phase::Open));
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = breaker();
        for _ in 0..10 {
            assert_eq!(fail(&breaker, now), None);
            assert_eq!(fail(&breaker, now), None);
            let healthy = breaker.admit(now).expect("closed").report(true, now);
            assert_eq!(healthy, None);
        }
        open(&breaker, now);
        assert_eq!(breaker.phase(), Phase::Open);
        let later = now + Duration::from_secs(2);
        let rejected = breaker.admit(later).expect_err("open");
        assert_eq!(rejected.retry_in, Duration::from_secs(3));
    }

    #[test]
    fn after_the_pause_one_request_tries_for_all() {
        let (breaker, now) = breaker();
        open(&breaker, now);
        let later = now + PAUSE;
        let trial = breaker.admit(later).expect("the pause is over");
        assert_eq!(breaker.phase(), Phase::HalfOpen);
        let rejected = breaker.admit(later).expect_err("one is trying");
        assert_eq!(rejected.retry_in, Duration::ZERO);
        assert_eq!(trial.report(false, later), Some(Phase::Open));
        assert!(breaker.admit(later + PAUSE / 2).is_err(), "a pause anew");

        let trial = breaker.admit(later + PAUSE).expect("the pause is over");
        assert_eq!(trial.report(true, later + PAUSE), Some(Phase::Closed));
        assert_eq!(fail(&breaker, later + PAUSE), None, "counting starts anew");
    }

    #[test]
    fn what_was_sent_before_it_changed_changes_nothing() {
        let (breaker, now) = breaker();
        let [late_success, late_failure] = [(); 2].map(|()| breaker.admit(now).expect("closed"));
        open(&breaker, now);
        assert_eq!(late_success.report(true, now), None);
        assert_eq!(breaker.phase(), Phase::Open);
        let trial = breaker.admit(now + PAUSE).expect("the pause is over");
        assert_eq!(late_failure.report(false, now + PAUSE), None);
        assert_eq!(trial.report(true, now + PAUSE), Some(Phase::Closed));
    }

    #[test]
    fn a_trial_that_is_given_up_lets_another_try() {
        let (breaker, now) = breaker();
        open(&breaker, now);
        let later = now + PAUSE;
        drop(breaker.admit(later).expect("the pause is over"));
        assert_eq!(breaker.phase(), Phase::Open);
        let trial = breaker.admit(Instant::now() + PAUSE).expect("nobody tries");
        assert_eq!(trial.report(true, later), Some(Phase::Closed));
    }
}
