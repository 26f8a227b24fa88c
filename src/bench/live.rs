//! How a run is going, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::meter::Meter;

/// Written by the run, read by a progress line.
#[derive(Debug, Default)]
pub struct Live {
    doing: Mutex<Doing>,
}

/// What a run is at.
#[derive(Clone, Debug, Default)]
pub struct Doing {
    /// In a word or two.
    pub phase: String,
    /// Of what the count is.
    pub unit: String,
    counter: Counter,
}

#[derive(Clone, Debug, Default)]
enum Counter {
    #[default]
    None,
    Of(Arc<AtomicU64>),
    Messages(Arc<Meter>),
    Told(u64),
}

impl Live {
    /// The run begins something else, and counts it here.
    pub fn count(&self, phase: &str, unit: &str, counter: &Arc<AtomicU64>) {
        self.set(Doing { phase: phase.into(), unit: unit.into(), counter: Counter::Of(Arc::clone(counter)) });
    }

    /// The run begins something else, and its messages are counted by the meter.
    pub fn messages(&self, phase: &str, meter: &Arc<Meter>) {
        self.set(Doing { phase: phase.into(), unit: "messages".into(), counter: Counter::Messages(Arc::clone(meter)) });
    }

    /// Other processes are at this, and have come so far.
    pub fn tell(&self, phase: String, unit: String, count: u64) {
        self.set(Doing { phase, unit, counter: Counter::Told(count) });
    }

    fn set(&self, doing: Doing) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    /// What it is at.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Doing {
    /// How many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.counter {
            Counter::None => 0,
            Counter::Of(counter) => counter.load(Ordering::Relaxed),
            Counter::Messages(meter) => meter.messages(),
            Counter::Told(count) => *count,
        }
    }
}
