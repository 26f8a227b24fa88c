//! One file a command.

pub mod bench;
pub mod chat;
pub mod config;
pub mod conformance;
pub mod context;
pub mod device;
pub mod enroll;
pub mod listen;
pub mod send;
pub mod serve;
pub mod status;
pub mod store;
pub mod user;
