//! The client crate as an application sees it.
//!
//! # Layout
//! - `support`: a scripted server over real TLS
//! - `driver`: connecting, sending, receiving, resuming, closing
//! - `durability`: what is durable before what
//! - `bulk`: many messages through a connection that keeps breaking
//! - `file_state`: the state on disk against cuts and flipped bits

mod bulk;
mod driver;
mod durability;
mod file_state;
mod support;
