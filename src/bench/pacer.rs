//! An open loop's clockwork. A thread of its own rings each sender's bell when a message of its is due: the runtime's
//! timers are a millisecond coarse, which is as long as what is to be measured.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::control::{Bell, Stage, Steered};
use crate::clock::Clock;

/// The longest sleep, so that the end of the run is seen soon.
const NAP: Duration = Duration::from_millis(100);

/// A fixed rate over all senders, who take turns.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first message of all is due.
    pub start: Duration,
    /// Messages a second, of all senders together.
    pub rate: f64,
    /// How many take turns.
    pub senders: u32,
}

impl Schedule {
    /// When the `nth` message of a sender is due, from 0.
    #[must_use]
    pub fn due(&self, sender: u32, nth: u64) -> Duration {
        self.at(nth * u64::from(self.senders) + u64::from(sender))
    }

    fn at(&self, message: u64) -> Duration {
        self.start + Duration::from_secs_f64(message as f64 / self.rate)
    }

    /// Rings until the run finishes. Blocks the thread.
    pub fn ring(self, bells: &[Arc<Bell>], steered: &Steered, clock: &Clock) {
        for (message, bell) in (0..).zip(bells.iter().cycle()) {
            loop {
                if steered.stage() >= Stage::Finish {
                    return;
                }
                let wait = self.at(message).saturating_sub(clock.elapsed());
                if wait.is_zero() {
                    break;
                }
                thread::sleep(wait.min(NAP));
            }
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_at_the_rate_of_all() {
        let schedule = Schedule { start: Duration::from_secs(1), rate: 100.0, senders: 4 };
        let due = |sender, nth| schedule.due(sender, nth).as_millis();
        assert_eq!((due(0, 0), due(1, 0), due(3, 0), due(0, 1), due(2, 25)), (1000, 1010, 1030, 1040, 2020));
    }
}
