//! Randomness of a simulation: everything it draws comes from its seed.

use std::sync::Mutex;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, SeedableRng as _};

/// One stream of a seed. Streams are apart, so that a plan that lost an action still draws the same delays elsewhere.
pub struct Dice(Mutex<Xoshiro256PlusPlus>);

impl Dice {
    /// The stream of this number.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream)))
    }

    /// Any number.
    pub fn any(&self) -> u64 {
        self.0.lock().expect("one thread").next_u64()
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.any() % end }
    }

    /// A number within both ends.
    pub fn between(&self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("small")]
    }
}
