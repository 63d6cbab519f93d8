//! What the generator itself uses.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::summary::Generator;

/// CPU time of a thread up to a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    cpu: Duration,
}

impl Usage {
    /// Of the thread that asks.
    pub fn of_this_thread() -> Self {
        let microseconds = getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| {
            (usage.user_time() + usage.system_time()).num_microseconds()
        });
        Self {
            cpu: Duration::from_micros(u64::try_from(microseconds).unwrap_or_default()),
        }
    }

    /// What was used since `before`, which took `time`.
    pub fn since(&self, before: &Self, time: Duration) -> Generator {
        let cpu = self.cpu.saturating_sub(before.cpu).as_secs_f64();
        let share = if time.is_zero() {
            0.0
        } else {
            cpu / time.as_secs_f64()
        };
        Generator {
            cpu_seconds: rounded(cpu),
            cpu_share: rounded(share.min(1.0)),
            max_rss_bytes: max_rss_bytes(),
            ..Generator::default()
        }
    }
}

/// The most memory that was resident at a time.
fn max_rss_bytes() -> u64 {
    let kibibytes = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
    u64::try_from(kibibytes).unwrap_or_default() * 1024
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn a_thread_that_computes_is_seen_to() {
        let before = Usage::of_this_thread();
        let mut after = before;
        // As long as it takes: the clock of a thread stands still while others run.
        while after.cpu < before.cpu + Duration::from_millis(20) {
            black_box((0..10_000_u64).sum::<u64>());
            after = Usage::of_this_thread();
        }
        let used = after.since(&before, Duration::from_millis(40));
        assert!(used.cpu_seconds >= 0.02, "{used:?}");
        assert!(used.cpu_share >= 0.5, "{used:?}");
        assert!(used.max_rss_bytes > 1 << 20, "{used:?}");
    }
}
