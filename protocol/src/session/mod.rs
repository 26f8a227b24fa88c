//! The two sides of a connection as sans-IO state machines: frames and time in, events and frames out.
//!
//! Nothing here waits. The driver feeds what arrived (`handle_*`), takes what there is to do (`poll_*`), and passes the
//! time with each call: a [`Duration`](std::time::Duration) since any fixed moment, never going back.

pub mod client;
pub mod server;
