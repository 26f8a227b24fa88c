//! An open loop's clockwork. A thread of its own rings each bell when something is due: the runtime's timers are a
//! millisecond coarse, which is as long as what is to be measured.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::control::{Bell, Stage, Steered};
use super::day::Day;
use crate::clock::Clock;

/// The longest sleep, so that the end of the run is seen soon.
const NAP: Duration = Duration::from_millis(100);

/// When what is due.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// A fixed rate.
    Even(Even),
    /// As people do.
    Day(Arc<Day>),
}

impl Schedule {
    /// When the `nth` message of a sender is due, from 0; `None` when it has no so many.
    #[must_use]
    pub fn due(&self, sender: u32, nth: u64) -> Option<Duration> {
        match self {
            Self::Even(even) => Some(even.due(sender, nth)),
            Self::Day(day) => day.due(sender, nth),
        }
    }
}

/// A fixed rate over all senders, who take turns.
#[derive(Clone, Copy, Debug)]
pub struct Even {
    /// When the first message of all is due.
    pub start: Duration,
    /// Messages a second, of all senders together.
    pub rate: f64,
    /// How many take turns.
    pub senders: u32,
}

impl Even {
    fn due(&self, sender: u32, nth: u64) -> Duration {
        self.at(nth * u64::from(self.senders) + u64::from(sender))
    }

    fn at(&self, message: u64) -> Duration {
        self.start + Duration::from_secs_f64(message as f64 / self.rate)
    }

    /// Every message's time, and whose it is; without end.
    pub fn events(self) -> impl Iterator<Item = (Duration, usize)> {
        let senders = u64::from(self.senders);
        (0..).map(move |message| (self.at(message), usize::try_from(message % senders).unwrap_or_default()))
    }
}

/// Rings the bell of each event when its time has come, in their order, until the run finishes. Blocks the thread.
pub fn ring(events: impl Iterator<Item = (Duration, usize)>, bells: &[Arc<Bell>], steered: &Steered, clock: &Clock) {
    for (at, bell) in events {
        loop {
            if steered.stage() >= Stage::Finish {
                return;
            }
            let wait = at.saturating_sub(clock.elapsed());
            if wait.is_zero() {
                break;
            }
            thread::sleep(wait.min(NAP));
        }
        bells[bell].ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_at_the_rate_of_all() {
        let even = Even { start: Duration::from_secs(1), rate: 100.0, senders: 4 };
        let due = |sender, nth| even.due(sender, nth).as_millis();
        assert_eq!((due(0, 0), due(1, 0), due(3, 0), due(0, 1), due(2, 25)), (1000, 1010, 1030, 1040, 2020));
        let first: Vec<_> = even.events().take(6).map(|(at, sender)| (at.as_millis(), sender)).collect();
        assert_eq!(first, [(1000, 0), (1010, 1), (1020, 2), (1030, 3), (1040, 0), (1050, 1)]);
    }
}
