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
    pub phase: &'static str,
    /// Of what the count is.
    pub unit: &'static str,
    counter: Counter,
}

#[derive(Clone, Debug, Default)]
enum Counter {
    #[default]
    None,
    Of(Arc<AtomicU64>),
    Messages(Arc<Meter>),
}

impl Live {
    /// The run begins something else, and counts it here.
    pub fn count(&self, phase: &'static str, unit: &'static str, counter: &Arc<AtomicU64>) {
        self.set(Doing { phase, unit, counter: Counter::Of(Arc::clone(counter)) });
    }

    /// The run begins something else, and its messages are counted by the meter.
    pub fn messages(&self, phase: &'static str, meter: &Arc<Meter>) {
        self.set(Doing { phase, unit: "messages", counter: Counter::Messages(Arc::clone(meter)) });
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
        }
    }
}
