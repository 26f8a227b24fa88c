//! How a run steers its connections: a stage that all of them see, and a bell for each that wakes it up.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

/// What connections are to do. Only ever moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Connected; nothing is sent yet.
    Hold,
    /// Work.
    Run,
    /// Send nothing new; finish what is on its way.
    Finish,
    /// End now.
    Halt,
}

/// The run's side.
#[derive(Debug, Default)]
pub struct Control {
    stage: Arc<AtomicU8>,
    bells: Mutex<Vec<Arc<Bell>>>,
}

impl Control {
    /// For one more connection.
    #[must_use]
    pub fn steer(&self) -> Steered {
        let bell = Arc::new(Bell::default());
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&bell));
        Steered { stage: Arc::clone(&self.stage), bell }
    }

    /// Moves on, and tells every connection.
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Release);
        for bell in self.bells.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            bell.ring();
        }
    }
}

/// A connection's side.
#[derive(Clone, Debug)]
pub struct Steered {
    stage: Arc<AtomicU8>,
    bell: Arc<Bell>,
}

impl Steered {
    /// What to do.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Hold,
            1 => Stage::Run,
            2 => Stage::Finish,
            _ => Stage::Halt,
        }
    }

    /// What wakes this connection up.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Whether the bell rang since this was last asked; else `waker` is woken when it does.
    #[must_use]
    pub fn was_rung(&self, waker: &Waker) -> bool {
        self.bell.waker.register(waker);
        self.bell.rung.swap(false, Ordering::AcqRel)
    }

    /// Until the bell rings. It may have, before this was called.
    pub async fn rung(&self) {
        poll_fn(|cx| if self.was_rung(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Until this stage or a later one.
    pub async fn reached(&self, stage: Stage) {
        while self.stage() < stage {
            self.rung().await;
        }
    }
}

/// Wakes one connection up.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_move_on_only_and_ring_every_bell_once() {
        let control = Control::default();
        let steered = control.steer();
        assert_eq!(steered.stage(), Stage::Hold);
        control.enter(Stage::Finish);
        control.enter(Stage::Run);
        assert_eq!(steered.stage(), Stage::Finish);
        assert!(steered.was_rung(Waker::noop()));
        assert!(!steered.was_rung(Waker::noop()));
    }
}
