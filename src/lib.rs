//! The Postrider server.

pub mod ids;
pub mod store;
