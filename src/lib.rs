//! The Postrider server.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod ids;
pub mod store;
