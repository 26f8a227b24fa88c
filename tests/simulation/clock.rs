//! The server's clock and randomness in a simulation.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use postrider::clock::{Clock, Source};

use crate::dice::Dice;
use crate::runtime::Runtime;

/// 2026, in milliseconds since 1970.
const START_MS: u64 = 1_767_225_600_000;

/// Simulated time, and a wall clock that can be set wrong.
pub struct SimClock {
    runtime: Arc<Runtime>,
    wrong_by_ms: AtomicI64,
    dice: Dice,
}

impl SimClock {
    /// A clock that is right.
    pub fn new(seed: u64, runtime: &Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self { runtime: Arc::clone(runtime), wrong_by_ms: AtomicI64::new(0), dice: Dice::new(seed, 2) })
    }

    /// As the server takes it.
    pub fn handle(self: &Arc<Self>) -> Clock {
        Clock::from_source(Arc::<Self>::clone(self))
    }

    /// The wall clock is wrong by so much from now on.
    pub fn set_wrong_by(&self, ms: i64) {
        self.wrong_by_ms.store(ms, Ordering::Relaxed);
    }
}

impl Source for SimClock {
    fn wall_ms(&self) -> u64 {
        let right = START_MS + self.runtime.now() / 1_000;
        right.saturating_add_signed(self.wrong_by_ms.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.runtime.now())
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.dice.any().to_le_bytes()[0];
        }
    }
}
