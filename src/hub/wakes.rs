//! One wake-up a connection for all that one commit brings it: its acks, its receipts, what others sent to it.
//!
//! The store's thread holds back the wake-ups that its completions cause, and lets them go after the last completion of a
//! group. What a connection is woken for lies in its outbox by then, and leaves in one write. Elsewhere wake-ups happen
//! at once.

use std::cell::RefCell;
use std::task::Waker;

use crate::sync::AtomicWaker;

thread_local! {
    /// `None` while nothing is held back on this thread.
    static HELD: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Holds back the wake-ups that this thread causes, until [`release`].
pub fn hold() {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_default();
    });
}

/// Lets go what this thread has held back.
pub fn release() {
    for waker in HELD.take().into_iter().flatten() {
        waker.wake();
    }
}

/// Wakes whoever waits there, now or when this thread lets go.
pub(super) fn wake(waiting: &AtomicWaker) {
    if HELD.with_borrow(Option::is_none) {
        waiting.wake();
    } else if let Some(waker) = waiting.take() {
        // A second wake-up finds nobody waiting any more.
        HELD.with_borrow_mut(|held| held.get_or_insert_default().push(waker));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_held_back_wakes_once_when_it_is_let_go() {
        let counter = Arc::new(Counter::default());
        let woken = || counter.0.load(Ordering::SeqCst);
        let waiting = AtomicWaker::new();
        waiting.register(&Waker::from(Arc::clone(&counter)));
        hold();
        wake(&waiting);
        wake(&waiting);
        assert_eq!(woken(), 0);
        release();
        assert_eq!(woken(), 1);
        waiting.register(&Waker::from(Arc::clone(&counter)));
        wake(&waiting);
        assert_eq!(woken(), 2, "at once when nothing is held back");
    }
}
