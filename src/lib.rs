//! The Postrider server and its command line. `ARCHITECTURE.md` beside this file says how it is built.
//!
//! # Layout
//! - [`net`] → [`router`] → [`store`] → [`hub`] → [`net`]: the way of a message
//! - [`tenant`], [`bus`], [`sweeper`], [`admin`]: what stands beside it
//! - [`ids`], [`clock`], `sync`, [`config`], [`telemetry`]: what all of them stand on
//! - [`app`]: puts it together
//! - [`cli`]: the commands; [`mod@bench`] and [`conformance`]: the load generator and the specification's checks behind two of
//!   them

pub mod admin;
pub mod app;
pub mod bench;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conformance;
pub mod hub;
pub mod ids;
pub mod net;
pub mod router;
pub mod store;
pub mod sweeper;
mod sync;
pub mod telemetry;
pub mod tenant;
