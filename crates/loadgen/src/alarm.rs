//! Waking up on time: a timer of the kernel, exact to tens of microseconds, where the runtime's own go by the
//! millisecond.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Wakes any number of tasks of one thread, each at its time.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<Timer>,
    waiting: RefCell<BinaryHeap<Reverse<Sleeper>>>,
    /// When the timer goes off, if it is set.
    set_for: Cell<Option<Instant>>,
    numbers: Cell<u64>,
}

/// As the runtime wants it.
#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[derive(Debug)]
struct Sleeper {
    due: Instant,
    /// Tells sleepers apart, first come first woken.
    number: u64,
    waker: Waker,
}

impl Alarm {
    /// A new one; it rings while [`Alarm::ring`] is polled.
    ///
    /// # Errors
    /// When the system gives no timer.
    pub fn new() -> io::Result<Rc<Self>> {
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        // SAFETY: the descriptor is the timer's own, always the same, and open until the `AsyncFd` is dropped with it.
        #[expect(
            unsafe_code,
            reason = "tokio asks for a promise about the descriptor; see SAFETY"
        )]
        let timer = unsafe { AsyncFd::register(Timer(timer)) }?;
        Ok(Rc::new(Self {
            timer,
            waiting: RefCell::default(),
            set_for: Cell::new(None),
            numbers: Cell::new(0),
        }))
    }

    /// Wakes sleepers, without end.
    ///
    /// # Errors
    /// When the system's timer fails.
    pub async fn ring(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // Reads the number of times it went off, which does not matter.
            match ready.try_io(|timer| timer.get_ref().0.wait().map_err(Into::into)) {
                Ok(done) => done?,
                Err(_would_block) => continue,
            }
            drop(ready);
            self.set_for.set(None);
            self.wake()?;
        }
    }

    fn wake(&self) -> io::Result<()> {
        let now = Instant::now();
        let mut waiting = self.waiting.borrow_mut();
        while waiting
            .peek()
            .is_some_and(|Reverse(first)| first.due <= now)
        {
            if let Some(Reverse(sleeper)) = waiting.pop() {
                sleeper.waker.wake();
            }
        }
        let next = waiting.peek().map(|Reverse(first)| first.due);
        drop(waiting);
        next.map_or(Ok(()), |next| self.set(next))
    }

    fn set(&self, due: Instant) -> io::Result<()> {
        if self.set_for.get().is_some_and(|before| before <= due) {
            return Ok(());
        }
        // Zero would switch it off.
        let left = due
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
        self.timer.get_ref().0.set(
            Expiration::OneShot(TimeSpec::from_duration(left)),
            TimerSetTimeFlags::empty(),
        )?;
        self.set_for.set(Some(due));
        Ok(())
    }

    /// Ready at `due`, or at once when that is past.
    pub fn at(&self, due: Instant) -> At<'_> {
        At {
            alarm: self,
            due,
            sleeps: false,
        }
    }
}

/// What [`Alarm::at`] gives.
#[derive(Debug)]
pub struct At<'a> {
    alarm: &'a Alarm,
    due: Instant,
    sleeps: bool,
}

impl Future for At<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        // The waker of a task stays the same, so once is enough.
        if !self.sleeps {
            self.sleeps = true;
            let number = self.alarm.numbers.get();
            self.alarm.numbers.set(number + 1);
            self.alarm.waiting.borrow_mut().push(Reverse(Sleeper {
                due: self.due,
                number,
                waker: context.waker().clone(),
            }));
            if self.alarm.set(self.due).is_err() {
                // A timer that cannot be set must not stop the run: look again and again.
                context.waker().wake_by_ref();
                self.sleeps = false;
            }
        }
        Poll::Pending
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_is_woken_in_turn_and_nobody_early() {
        let alarm = Alarm::new().expect("a timer");
        let begin = Instant::now();
        let order = RefCell::new(Vec::new());
        let sleeper = |millis: u64| {
            let (alarm, order) = (&alarm, &order);
            async move {
                let due = begin + Duration::from_millis(millis);
                alarm.at(due).await;
                assert!(Instant::now() >= due, "{millis} ms: not early");
                order.borrow_mut().push(millis);
            }
        };
        tokio::select! {
            result = alarm.ring() => panic!("{result:?}"),
            // The one that is due first comes last, and so moves the timer forward.
            _ = async { tokio::join!(sleeper(30), sleeper(20), sleeper(0), sleeper(10)) } => {}
        }
        assert_eq!(order.into_inner(), [0, 10, 20, 30]);
    }
}
