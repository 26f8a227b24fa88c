//! The only source of time and randomness, so that tests and simulations can be their own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time and randomness come from.
pub trait Source: Send + Sync + 'static {
    /// Milliseconds since 1970. It may jump either way: it decides no order.
    fn wall_ms(&self) -> u64;
    /// Time since a fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
    /// Fills `bytes` with what no one can predict.
    fn fill_random(&self, bytes: &mut [u8]);
}

/// A handle to the source; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Source>);

impl Clock {
    /// The machine's clock and the operating system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(System { started: Instant::now() }))
    }

    /// A clock of the caller's making.
    #[must_use]
    pub fn from_source(source: Arc<dyn Source>) -> Self {
        Self(source)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }

    /// Time since a fixed moment; never goes back.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// `N` bytes that no one can predict.
    #[must_use]
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_random(&mut bytes);
        bytes
    }

    /// A number from 0 up to and including `max`, for spreading things out.
    #[must_use]
    pub fn random_up_to(&self, max: u32) -> u32 {
        let draw = u64::from(u32::from_le_bytes(self.random_bytes()));
        let scaled = (draw * (u64::from(max) + 1)) >> 32;
        u32::try_from(scaled).unwrap_or(max)
    }
}

struct System {
    started: Instant,
}

impl Source for System {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_stays_within_its_bound() {
        let clock = Clock::system();
        assert!((0..1000).all(|_| clock.random_up_to(3) <= 3));
        assert_eq!(clock.random_up_to(0), 0);
    }
}
