//! Turns at key exchanges.
//!
//! A key exchange holds a thread for some 150 µs. Thousands of them, all ready to run, would stand in front of every login
//! that has its own behind it. So no more are ready to run than there are cores, and the others wait here, first come,
//! first served, however many there are: they are bounded by the connections there may be.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::Clock;

pub(super) struct Turns(Semaphore);

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once))
    }

    /// A turn, which ends when it is dropped, and how long it took to come. Not to be held while waiting for a client.
    pub(super) async fn take(&self, clock: &Clock) -> (Option<SemaphorePermit<'_>>, Duration) {
        if let Ok(turn) = self.0.try_acquire() {
            return (Some(turn), Duration::ZERO);
        }
        let since = clock.elapsed();
        let turn = self.0.acquire().await.ok();
        // Whoever is woken by the end of another's turn would run at once; those who were ready before go first.
        tokio::task::yield_now().await;
        (turn, clock.elapsed() - since)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn there_are_as_many_turns_at_once_as_were_made_and_the_wait_for_one_is_told() {
        let (turns, clock) = (Turns::new(2), Clock::system());
        let (one, waited) = turns.take(&clock).await;
        assert_eq!(waited, Duration::ZERO);
        let (_two, _) = turns.take(&clock).await;
        let third = turns.take(&clock);
        tokio::pin!(third);
        let patience = Duration::from_millis(20);
        assert!(tokio::time::timeout(patience, third.as_mut()).await.is_err(), "two have their turn");
        drop(one);
        let (turn, waited) = third.await;
        assert!(turn.is_some() && waited >= patience, "{waited:?}");
    }

    #[tokio::test]
    async fn while_a_storm_takes_its_turns_another_task_runs_between_any_two_of_them() {
        const STORM: usize = 200;
        let (turns, clock, done) = (Arc::new(Turns::new(1)), Clock::system(), Arc::new(AtomicUsize::new(0)));
        let first = turns.take(&clock).await;
        let storm: Vec<_> = (0..STORM)
            .map(|_| {
                let (turns, clock, done) = (Arc::clone(&turns), clock.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    let _turn = turns.take(&clock).await;
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        let mut seen = 0;
        while seen < STORM {
            tokio::task::yield_now().await;
            let now = done.load(Ordering::SeqCst);
            assert!(now - seen <= 2, "{} key exchanges before a peer that was ready", now - seen);
            seen = now;
        }
        for task in storm {
            task.await.expect("no panic");
        }
    }
}
