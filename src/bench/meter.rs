//! What is measured while the connections work: messages that are done, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Histograms per [`Latencies`], so that connections on different threads rarely wait for one another.
const SHARDS: usize = 8;

/// The intervals of a run that are measured apart. A message belongs to each that its intended time lies in, so they
/// may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// The one that every scenario has.
    Main,
    /// A scenario's own.
    First,
    /// A scenario's own.
    Second,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Main, Self::First, Self::Second];
}

/// What all connections of a run report to.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    received: AtomicU64,
    finished: AtomicU64,
    returns: AtomicU64,
    retries: AtomicU64,
    phases: [Interval; Phase::ALL.len()],
    logins: Latencies,
}

#[derive(Debug)]
struct Interval {
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    latencies: Latencies,
    lags: Latencies,
}

impl Default for Interval {
    fn default() -> Self {
        let never = || AtomicU64::new(u64::MAX);
        Self { from_ns: never(), to_ns: never(), latencies: Latencies::default(), lags: Latencies::default() }
    }
}

impl Interval {
    /// Of these intended times, how long ago those were that belong here.
    fn ages(&self, now: Duration, intended: impl Iterator<Item = Duration>) -> Option<impl Iterator<Item = Duration>> {
        let from = self.from_ns.load(Ordering::Relaxed);
        let until = Duration::from_nanos(self.to_ns.load(Ordering::Relaxed));
        let begun = from < u64::MAX;
        let from = Duration::from_nanos(from);
        begun.then(|| intended.filter(move |at| (from..until).contains(at)).map(move |at| now.saturating_sub(at)))
    }
}

impl Meter {
    /// From now on what is meant to be sent is measured in this phase.
    pub fn open(&self, phase: Phase, now: Duration) {
        self.phases[phase as usize].from_ns.store(nanoseconds(now), Ordering::Relaxed);
    }

    /// What is meant to be sent from now on is measured no more. What was before is, however long it takes.
    pub fn close(&self, phase: Phase, now: Duration) {
        self.phases[phase as usize].to_ns.store(nanoseconds(now), Ordering::Relaxed);
    }

    /// Since when this phase measures no more; the start of time, if it still does.
    #[must_use]
    pub fn closed(&self, phase: Phase) -> Duration {
        match self.phases[phase as usize].to_ns.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            ns => Duration::from_nanos(ns),
        }
    }

    /// One connection's messages are done: they were meant to be sent at these times.
    pub fn done(&self, shard: usize, now: Duration, intended: impl ExactSizeIterator<Item = Duration> + Clone) {
        self.done.fetch_add(intended.len() as u64, Ordering::Relaxed);
        self.given_up(shard, now, intended);
    }

    /// One connection's messages never were: they took at least until now.
    pub fn given_up(&self, shard: usize, now: Duration, intended: impl Iterator<Item = Duration> + Clone) {
        for phase in &self.phases {
            phase.ages(now, intended.clone()).into_iter().for_each(|ages| phase.latencies.record(shard, ages));
        }
    }

    /// One connection's messages leave now, and were meant to be sent at these times.
    pub fn sent(&self, shard: usize, now: Duration, intended: impl Iterator<Item = Duration> + Clone) {
        for phase in &self.phases {
            phase.ages(now, intended.clone()).into_iter().for_each(|ages| phase.lags.record(shard, ages));
        }
    }

    /// Recipients took so many.
    pub fn took(&self, messages: u64) {
        self.received.fetch_add(messages, Ordering::Relaxed);
    }

    /// A sender knows the fate of all it sent.
    pub fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is back after its break or its absence; the login took so long.
    pub fn returned(&self, shard: usize, login: Duration) {
        self.returns.fetch_add(1, Ordering::Relaxed);
        self.logins.record(shard, std::iter::once(login));
    }

    /// A login failed and will be tried again.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages done since the start, measured or not.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Messages that recipients took since the start.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Senders that know the fate of all they sent.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Connections that came back, and logins that were tried again.
    #[must_use]
    pub fn returns_and_retries(&self) -> (u64, u64) {
        (self.returns.load(Ordering::Relaxed), self.retries.load(Ordering::Relaxed))
    }

    /// From when messages were meant to be sent until they were done.
    #[must_use]
    pub fn latencies(&self, phase: Phase) -> Recorded {
        self.phases[phase as usize].latencies.recorded()
    }

    /// From when messages were meant to be sent until the generator sent them: its own part of the latencies.
    #[must_use]
    pub fn lags(&self, phase: Phase) -> Recorded {
        self.phases[phase as usize].lags.recorded()
    }

    /// How long it took connections to come back.
    #[must_use]
    pub fn logins(&self) -> Recorded {
        self.logins.recorded()
    }
}

/// A histogram that many threads record into, in microseconds with three digits.
#[derive(Debug)]
pub struct Latencies {
    shards: [Mutex<Option<Histogram<u64>>>; SHARDS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
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
        let histogram = histogram.get_or_insert_with(empty);
        for latency in latencies {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// All that was recorded.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        let mut all = Recorded::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let values = shard.iter().flat_map(|histogram| histogram.iter_recorded());
            all.0.extend(values.map(|value| (value.value_iterated_to(), value.count_at_value())));
        }
        all
    }

    /// Over all that was recorded; `None` when nothing was.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        self.recorded().percentiles()
    }
}

/// What a histogram held, as one process tells another: microseconds, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded(Vec<(u64, u64)>);

impl Recorded {
    /// Adds another's.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Over all; `None` when there is nothing.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut all = empty();
        self.0.iter().for_each(|&(us, count)| all.saturating_record_n(us, count));
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
    fn percentiles_are_over_all_shards_and_processes_and_capped_at_the_longest() {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        let other = Latencies::default();
        (1..=500).for_each(|n| latencies.record(n, std::iter::once(ms(n as u64))));
        (501..=1000).for_each(|n| other.record(n, std::iter::once(ms(n as u64))));
        other.record(0, std::iter::once(LONGEST * 9));
        let mut all = latencies.recorded();
        let told = serde_json::to_string(&other.recorded()).unwrap();
        all.merge(serde_json::from_str(&told).unwrap());
        let Percentiles { p50, p99, p999, max } = all.percentiles().unwrap();
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 250.0;
        assert!(near(p50, 500.0) && near(p99, 990.0) && near(p999, 1000.0), "{p50} {p99} {p999}");
        assert!(near(max, LONGEST.as_millis() as f64), "{max}");
    }

    #[test]
    fn only_what_was_meant_to_be_sent_in_the_interval_is_measured_however_late_it_is_done() {
        let meter = Meter::default();
        meter.done(0, ms(5), [ms(1)].into_iter());
        assert_eq!(meter.latencies(Phase::Main), Recorded::default());
        meter.open(Phase::Main, ms(10));
        meter.close(Phase::Main, ms(20));
        meter.open(Phase::First, ms(20));
        meter.done(0, ms(1015), [ms(9), ms(15), ms(20)].into_iter());
        meter.given_up(0, ms(1015), [ms(25)].into_iter());
        let latency = meter.latencies(Phase::Main).percentiles().unwrap();
        assert_eq!((latency.max.round(), latency.p50.round(), meter.messages()), (1000.0, 1000.0, 4));
        let latency = meter.latencies(Phase::First).percentiles().unwrap();
        assert_eq!((latency.max.round(), latency.p50.round()), (995.0, 990.0));
        assert_eq!(meter.latencies(Phase::Second).percentiles(), None);
    }
}
