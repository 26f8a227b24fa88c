//! The Postrider server.

pub mod admin;
pub mod config;
pub mod ids;
pub mod store;
