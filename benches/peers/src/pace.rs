//! When messages are meant to be sent, when they are done, and what is counted of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use postrider::bench::control::{Bell, Stage, Steered};
use postrider::bench::meter::Latencies;
use postrider::clock::Clock;

/// The longest sleep, so that the end of the run is seen soon.
const NAP: Duration = Duration::from_millis(100);

/// When a sender's next message is due.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As soon as fewer than this many are in flight: a closed loop.
    Window(usize),
    /// At its times, whatever became of the messages before: an open loop. It begins when there is a schedule.
    Schedule(Arc<OnceLock<Schedule>>),
}

/// When a message of a sender counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The server acked it.
    Acked,
    /// The recipient has it, and the sender was told.
    Delivered,
}

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

    /// Rings each sender's bell when a message of its is due, until the run finishes. Blocks the thread: the runtime's
    /// timers are a millisecond coarse, which is as long as what is to be measured.
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

/// What all connections of a run report to.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    received: AtomicU64,
    from: OnceLock<Duration>,
    until: OnceLock<Duration>,
    latencies: Latencies,
}

impl Meter {
    /// From now on what is meant to be sent is measured. Once.
    pub fn open(&self, now: Duration) {
        self.from.get_or_init(|| now);
    }

    /// What is meant to be sent from now on is measured no more. What was before is, however long it takes. Once.
    pub fn close(&self, now: Duration) {
        self.until.get_or_init(|| now);
    }

    /// One connection's messages are done: they were meant to be sent at these times.
    pub fn done(&self, shard: usize, now: Duration, intended: impl ExactSizeIterator<Item = Duration>) {
        self.done.fetch_add(intended.len() as u64, Ordering::Relaxed);
        self.given_up(shard, now, intended);
    }

    /// One connection's messages never were: they took at least until now.
    pub fn given_up(&self, shard: usize, now: Duration, intended: impl Iterator<Item = Duration>) {
        let Some(from) = self.from.get() else { return };
        let until = self.until.get().unwrap_or(&Duration::MAX);
        let measured = intended.filter(|at| (from..until).contains(&at));
        self.latencies.record(shard, measured.map(|at| now.saturating_sub(at)));
    }

    /// Recipients have taken so many more.
    pub fn took(&self, messages: u64) {
        self.received.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages done since the start, measured or not.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Messages that recipients have taken since the start.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// From when messages were meant to be sent until they were done.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn senders_take_turns_at_the_rate_of_all() {
        let schedule = Schedule { start: Duration::from_secs(1), rate: 100.0, senders: 4 };
        let due = |sender, nth| schedule.due(sender, nth).as_millis();
        assert_eq!((due(0, 0), due(1, 0), due(3, 0), due(0, 1), due(2, 25)), (1000, 1010, 1030, 1040, 2020));
    }

    #[test]
    fn only_what_was_meant_to_be_sent_in_the_interval_is_measured_however_late_it_is_done() {
        let meter = Meter::default();
        meter.done(0, ms(5), [ms(1)].into_iter());
        assert_eq!(meter.latencies().percentiles(), None);
        meter.open(ms(10));
        meter.close(ms(20));
        meter.done(0, ms(1015), [ms(9), ms(15), ms(20)].into_iter());
        meter.given_up(0, ms(1015), [ms(25)].into_iter());
        let latency = meter.latencies().percentiles().unwrap();
        assert_eq!((latency.max.round(), latency.p50.round(), meter.messages()), (1000.0, 1000.0, 4));
    }
}
