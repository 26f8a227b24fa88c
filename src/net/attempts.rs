//! Failed logins, counted by where they come from, so that guessing is slow.
//!
//! Two counts: what an address fails for one user, which is little, and what it fails in all, which may be more, because
//! many people can have one address. Each lets some failures through at once and more of them as time goes by. What is
//! counted are failures, after they have happened: whoever logs in rightly costs nothing, however many stand behind one
//! address; and whoever guesses on many connections at once waits the longer afterwards.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_protocol::error::{CodedError, ErrorCode};

/// The time in which the bounds are counted.
const PERIOD: Duration = Duration::from_secs(60);

/// Nobody waits longer than this for what was done, so that a shared address is not lost for a day.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// Sources remembered at once, some 100 bytes each. When there are more, those who owe least are forgotten.
const MAX_SOURCES: usize = 65_536;

/// How many logins may fail a minute; 0 is without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For one user, from one address.
    pub per_user: u32,
    /// From one address.
    pub per_address: u32,
}

/// The failures of late.
pub struct Attempts {
    bounds: Bounds,
    hasher: RandomState,
    /// When each source's failures will be forgotten; the further ahead, the more there were.
    debts: Mutex<HashMap<Source, Duration>>,
}

/// An address, alone or with a user for whom it tries.
type Source = (Ipv6Addr, Option<u64>);

impl Attempts {
    /// No failures yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, hasher: RandomState::new(), debts: Mutex::default() }
    }

    /// Whether `from` may try to log in as `user` now.
    ///
    /// # Errors
    /// `TOO_MANY_ATTEMPTS` with the time until it may.
    pub fn check(&self, from: IpAddr, app: &str, user: &str, now: Duration) -> Result<(), CodedError> {
        let debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.sources(from, app, user).filter_map(|(source, bound)| {
            let debt = debts.get(&source)?.saturating_sub(now);
            // One more must fit into what a whole period forgives.
            let wait = (debt + PERIOD / bound).saturating_sub(PERIOD);
            (!wait.is_zero()).then_some(wait)
        });
        let Some(wait) = wait.max() else { return Ok(()) };
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
        Err(CodedError::new(ErrorCode::TooManyAttempts).after_ms(wait_ms))
    }

    /// Counts a login of `user` from `from` that has failed.
    pub fn failed(&self, from: IpAddr, app: &str, user: &str, now: Duration) {
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, bound) in self.sources(from, app, user) {
            if debts.len() >= MAX_SOURCES {
                forget_the_least(&mut debts, now);
            }
            let until = debts.entry(source).or_insert(now);
            *until = ((*until).max(now) + PERIOD / bound).min(now + LONGEST_WAIT);
        }
    }

    /// What an attempt counts for, each with its bound.
    fn sources(&self, from: IpAddr, app: &str, user: &str) -> impl Iterator<Item = (Source, u32)> {
        let address = network(from);
        let user = self.hasher.hash_one((app, user));
        let counted = [((address, Some(user)), self.bounds.per_user), ((address, None), self.bounds.per_address)];
        counted.into_iter().filter(|(_, bound)| *bound > 0)
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    }
}

/// Forgets who owes nothing any more, and of the others, if they are too many, who owes less than the average.
fn forget_the_least(debts: &mut HashMap<Source, Duration>, now: Duration) {
    debts.retain(|_, until| *until > now);
    if debts.len() < MAX_SOURCES / 2 {
        return;
    }
    let owed: Duration = debts.values().map(|until| until.saturating_sub(now)).sum();
    let average = owed / u32::try_from(debts.len()).unwrap_or(u32::MAX);
    debts.retain(|_, until| until.saturating_sub(now) > average);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn attempts(per_user: u32, per_address: u32) -> Attempts {
        Attempts::new(Bounds { per_user, per_address })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_fails_so_often_for_one_user_and_then_waits_as_it_is_told() {
        let (attempts, thief) = (attempts(6, 0), address("192.0.2.1"));
        for _ in 0..6 {
            assert!(attempts.check(thief, "dev", "alice", NOW).is_ok());
            attempts.failed(thief, "dev", "alice", NOW);
        }
        let told = attempts.check(thief, "dev", "alice", NOW).expect_err("six a minute");
        assert_eq!((told.code, told.retry_after_ms), (ErrorCode::TooManyAttempts, 10_000));
        assert!(attempts.check(thief, "dev", "alice", NOW + Duration::from_millis(9_999)).is_err());
        assert!(attempts.check(thief, "dev", "alice", NOW + Duration::from_secs(10)).is_ok());
        for (from, app, user) in
            [("192.0.2.2", "dev", "alice"), ("192.0.2.1", "dev", "bob"), ("192.0.2.1", "x", "alice")]
        {
            assert!(attempts.check(address(from), app, user, NOW).is_ok(), "{from} {app} {user} has done nothing");
        }
    }

    #[test]
    fn an_address_that_tries_many_users_is_stopped_by_its_own_count() {
        let (attempts, thief) = (attempts(6, 30), address("192.0.2.1"));
        for number in 0..30 {
            let user = format!("user {number}");
            assert!(attempts.check(thief, "dev", &user, NOW).is_ok(), "{user}");
            attempts.failed(thief, "dev", &user, NOW);
        }
        assert!(attempts.check(thief, "dev", "one more", NOW).is_err());
        assert!(attempts.check(address("192.0.2.2"), "dev", "one more", NOW).is_ok());
    }

    #[test]
    fn guesses_at_once_are_paid_for_afterwards_and_nobody_waits_for_ever() {
        let (attempts, thief) = (attempts(6, 0), address("192.0.2.1"));
        for _ in 0..1_000 {
            attempts.failed(thief, "dev", "alice", NOW);
        }
        assert!(attempts.check(thief, "dev", "alice", NOW + PERIOD).is_err());
        assert!(attempts.check(thief, "dev", "alice", NOW + LONGEST_WAIT).is_ok());
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_an_ipv4_address_is_the_same_however_it_is_written() {
        let attempts = attempts(1, 0);
        attempts.failed(address("2001:db8:1:2::3"), "dev", "alice", NOW);
        assert!(attempts.check(address("2001:db8:1:2:ffff::"), "dev", "alice", NOW).is_err());
        assert!(attempts.check(address("2001:db8:1:3::3"), "dev", "alice", NOW).is_ok());
        attempts.failed(address("192.0.2.1"), "dev", "alice", NOW);
        assert!(attempts.check(address("::ffff:192.0.2.1"), "dev", "alice", NOW).is_err());
    }

    #[test]
    fn zero_is_without_bound() {
        let (attempts, thief) = (attempts(0, 0), address("192.0.2.1"));
        for _ in 0..100 {
            attempts.failed(thief, "dev", "alice", NOW);
        }
        assert!(attempts.check(thief, "dev", "alice", NOW).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_who_failed_most_is_remembered() {
        let (attempts, thief) = (attempts(6, 0), address("192.0.2.1"));
        for _ in 0..50 {
            attempts.failed(thief, "dev", "alice", NOW);
        }
        for number in 0..150_000 {
            attempts.failed(IpAddr::V4(number.into()), "dev", "alice", NOW);
        }
        assert!(attempts.debts.lock().expect("unbroken").len() <= MAX_SOURCES);
        assert!(attempts.check(thief, "dev", "alice", NOW).is_err());
    }
}
