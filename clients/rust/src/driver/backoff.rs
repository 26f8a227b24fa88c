//! How long to wait before the next attempt.

use std::time::Duration;

/// The first delay is drawn from zero to this.
const FIRST: Duration = Duration::from_millis(200);

/// No delay is longer, but for the server's advice.
const LONGEST: Duration = Duration::from_secs(30);

/// A connection that lasted this long ends the series of failures.
const STABLE: Duration = Duration::from_secs(1);

/// Exponential backoff with full jitter: a server that comes back is not met by all its clients at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure; at least `advice`, which gets jitter on top.
    pub(super) fn next(&mut self, advice: Duration) -> Duration {
        let most = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        advice + most.mul_f64(rand::random::<f64>())
    }

    /// A connection has ended that was logged in for this long.
    pub(super) fn was_connected(&mut self, lasted: Duration) {
        if lasted >= STABLE {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_start_over_after_a_stable_connection() {
        let mut backoff = Backoff::default();
        for failure in 0..100 {
            let most = FIRST.saturating_mul(1 << failure.min(16)).min(LONGEST);
            assert!(backoff.next(Duration::ZERO) <= most);
        }
        assert!(backoff.next(LONGEST) >= LONGEST, "advice is kept");
        backoff.was_connected(STABLE / 2);
        assert_eq!(backoff.failures, 101);
        backoff.was_connected(STABLE);
        assert!(backoff.next(Duration::ZERO) <= FIRST);
    }
}
