//! The rooms whose threads meet, built from the server's own files with the locks and wakers of shuttle: it runs one
//! thread at a time and tries another order at each step, as often as it is told. A lost wake-up is a deadlock there.
//!
//! Shuttle rather than loom, because what is shared here is behind locks, so that the orders of whole critical sections
//! matter and no weak memory does; and because it can schedule whole connections, where loom must enumerate them.

#[path = "../../../src/hub/mod.rs"]
pub mod hub;
#[path = "../../../src/ids.rs"]
pub mod ids;
mod sync;
