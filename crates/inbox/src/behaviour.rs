//! How a channel answers, for a while: as providers do on their bad days.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::Channel;

/// The longest that a channel may be broken for.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The time that a slow channel takes for an answer. Alertmanager gives up after about ten seconds.
pub const SLOW: Duration = Duration::from_secs(4);

/// What is wrong with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Answers, four seconds late.
    Slow,
    /// 429 with Retry-After; SMTP: 450.
    TooMany,
    /// 500; SMTP: 451.
    Broken,
    /// Cuts every connection.
    Down,
}

impl Trouble {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::TooMany => "too-many",
            Self::Broken => "broken",
            Self::Down => "down",
        }
    }
}

/// What is wrong with which channel, and until when.
#[derive(Debug, Default)]
pub struct Behaviour([Mutex<Option<(Trouble, Instant)>>; Channel::ALL.len()]);

impl Behaviour {
    /// Breaks a channel for a while, or mends it.
    pub fn set(&self, channel: Channel, trouble: Option<(Trouble, Duration)>) {
        let until = trouble.map(|(trouble, time)| (trouble, Instant::now() + time.min(LONGEST)));
        *self
            .of_channel(channel)
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// What is wrong now, and for how long.
    pub fn of(&self, channel: Channel) -> Option<(Trouble, Duration)> {
        let now = Instant::now();
        let set = *self
            .of_channel(channel)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        set.filter(|(_, until)| *until > now)
            .map(|(trouble, until)| (trouble, until - now))
    }

    fn of_channel(&self, channel: Channel) -> &Mutex<Option<(Trouble, Instant)>> {
        &self.0[channel as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_ends_by_itself_and_stays_in_its_channel() {
        let behaviour = Behaviour::default();
        behaviour.set(Channel::Slack, Some((Trouble::Down, Duration::MAX)));
        let (trouble, left) = behaviour.of(Channel::Slack).unwrap();
        assert_eq!(trouble, Trouble::Down);
        assert!(left <= LONGEST);
        assert_eq!(behaviour.of(Channel::Email), None);
        behaviour.set(Channel::Slack, Some((Trouble::Slow, Duration::ZERO)));
        assert_eq!(behaviour.of(Channel::Slack), None);
        behaviour.set(Channel::Email, Some((Trouble::Slow, LONGEST)));
        behaviour.set(Channel::Email, None);
        assert_eq!(behaviour.of(Channel::Email), None);
    }
}
