//! What the tests stand on.

mod raw;
mod server;

pub use raw::{Raw, body};
pub use server::{FakeTime, TestServer};
