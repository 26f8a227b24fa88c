//! The locks and wakers of what several threads share, named in one place: `tests/models` builds the same rooms with a
//! model checker's in their stead.

pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};

pub use dashmap::DashMap;
pub use futures_util::task::AtomicWaker;
pub use tokio::sync::Notify;
pub use tokio::sync::futures::Notified;
