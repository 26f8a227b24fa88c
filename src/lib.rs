//! The Postrider server.

pub mod admin;
pub mod app;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod hub;
pub mod ids;
pub mod net;
pub mod router;
pub mod store;
pub mod sweeper;
pub mod telemetry;
pub mod tenant;
