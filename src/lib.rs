//! The Postrider server.

pub mod bus;
pub mod clock;
pub mod hub;
pub mod ids;
pub mod net;
pub mod router;
pub mod store;
pub mod tenant;
