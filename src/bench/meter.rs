//! What is measured while the connections work: messages that are done, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Histograms per [`Latencies`], so that connections on different threads rarely wait for one another.
const SHARDS: usize = 8;

/// What all connections of a run report to.
#[derive(Debug)]
pub struct Meter {
    done: AtomicU64,
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    latencies: Latencies,
    lags: Latencies,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            done: AtomicU64::new(0),
            from_ns: AtomicU64::new(u64::MAX),
            to_ns: AtomicU64::new(u64::MAX),
            latencies: Latencies::default(),
            lags: Latencies::default(),
        }
    }
}

impl Meter {
    /// From now on what is meant to be sent is measured.
    pub fn open(&self, now: Duration) {
        self.from_ns.store(nanoseconds(now), Ordering::Relaxed);
    }

    /// What is meant to be sent from now on is measured no more. What was before is, however long it takes.
    pub fn close(&self, now: Duration) {
        self.to_ns.store(nanoseconds(now), Ordering::Relaxed);
    }

    /// One connection's messages are done: they were meant to be sent at these times.
    pub fn done(&self, shard: usize, now: Duration, intended: impl ExactSizeIterator<Item = Duration>) {
        self.done.fetch_add(intended.len() as u64, Ordering::Relaxed);
        self.record(&self.latencies, shard, now, intended);
    }

    /// One connection's messages never were: they took at least until now.
    pub fn given_up(&self, shard: usize, now: Duration, intended: impl Iterator<Item = Duration>) {
        self.record(&self.latencies, shard, now, intended);
    }

    /// One connection's messages leave now, and were meant to be sent at these times.
    pub fn sent(&self, shard: usize, now: Duration, intended: impl Iterator<Item = Duration>) {
        self.record(&self.lags, shard, now, intended);
    }

    fn record(&self, to: &Latencies, shard: usize, now: Duration, intended: impl Iterator<Item = Duration>) {
        let from = Duration::from_nanos(self.from_ns.load(Ordering::Relaxed));
        let until = Duration::from_nanos(self.to_ns.load(Ordering::Relaxed));
        to.record(shard, intended.filter(|at| (from..until).contains(at)).map(|at| now.saturating_sub(at)));
    }

    /// Messages done since the start, measured or not.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// From when messages were meant to be sent until they were done.
    #[must_use]
    pub fn latencies(&self) -> Option<Percentiles> {
        self.latencies.percentiles()
    }

    /// From when messages were meant to be sent until the generator sent them: its own part of the latencies.
    #[must_use]
    pub fn lags(&self) -> Option<Percentiles> {
        self.lags.percentiles()
    }
}

/// A histogram that many threads record into, in microseconds with three digits.
#[derive(Debug)]
pub struct Latencies {
    shards: [Mutex<Histogram<u64>>; SHARDS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(empty())) }
    }
}

impl Latencies {
    /// Records some, under one lock.
    pub fn record(&self, shard: usize, latencies: impl Iterator<Item = Duration>) {
        let mut latencies = latencies.peekable();
        if latencies.peek().is_none() {
            return;
        }
        let mut histogram = self.shards[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        for latency in latencies {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Over all that was recorded; `None` when nothing was.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut all = empty();
        for shard in &self.shards {
            // All have the same bounds: there is nothing that could not be added.
            let _ = all.add(&*shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile| ms(all.value_at_quantile(quantile).min(all.max()));
        (!all.is_empty()).then(|| Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: ms(all.max()) })
    }
}

/// The usual percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of all took at most this.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest, to three digits.
    pub max: f64,
}

fn empty() -> Histogram<u64> {
    let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, longest, 3).expect("these bounds are allowed")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_over_all_shards_and_capped_at_the_longest() {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|n| latencies.record(n, std::iter::once(ms(n as u64))));
        latencies.record(0, std::iter::once(LONGEST * 9));
        let Percentiles { p50, p99, p999, max } = latencies.percentiles().unwrap();
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 250.0;
        assert!(near(p50, 500.0) && near(p99, 990.0) && near(p999, 1000.0), "{p50} {p99} {p999}");
        assert!(near(max, LONGEST.as_millis() as f64), "{max}");
    }

    #[test]
    fn only_what_was_meant_to_be_sent_in_the_interval_is_measured_however_late_it_is_done() {
        let meter = Meter::default();
        meter.done(0, ms(5), [ms(1)].into_iter());
        assert_eq!(meter.latencies(), None);
        meter.open(ms(10));
        meter.close(ms(20));
        meter.done(0, ms(1015), [ms(9), ms(15), ms(20)].into_iter());
        meter.given_up(0, ms(1015), [ms(25)].into_iter());
        let latency = meter.latencies().unwrap();
        assert_eq!((latency.max.round(), latency.p50.round(), meter.messages()), (1000.0, 1000.0, 4));
    }
}
