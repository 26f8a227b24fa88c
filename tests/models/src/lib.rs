//! The rooms whose threads meet, built from the server's own files with the locks and wakers of shuttle: it runs one
//! thread at a time and tries another order at each step, as often as it is told. A lost wake-up is a deadlock there.
//!
//! Shuttle rather than loom, because what is shared here is behind locks, so that the orders of whole critical sections
//! matter and no weak memory does; and because it can schedule whole connections, where loom must enumerate them.

#[path = "../../../src/hub/mod.rs"]
pub mod hub;
#[path = "../../../src/ids.rs"]
pub mod ids;
#[path = "../../../src/store/engine/committer/queue.rs"]
pub mod queue;
mod sync;

pub use sync::{MutexGuard, let_time_pass, stop_time, time_has_passed};

const ORDERS: usize = 2_000;

/// Random orders, then orders with few but well-placed switches: each finds what the other misses.
pub fn in_many_orders(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), ORDERS);
    shuttle::check_pct(model, ORDERS, 3);
}
