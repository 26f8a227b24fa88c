//! The Postrider wire protocol, for servers and clients alike.
//!
//! Pure: bytes in, bytes out. Nothing here opens a socket, reads a clock or draws a random number; time is a parameter
//! and randomness is the caller's. `SPEC.md` beside this crate is the protocol; this crate is one rendering of it.
//!
//! # Layout
//! - [`wire`]: the protobuf types, made from `schema/postrider.proto`
//! - [`frame`]: length prefix ↔ frame, incremental, never trusting the length
//! - [`encode`]: the two hot server frames written straight into an output buffer
//! - [`session`]: sans-IO state machines of both sides
//! - [`name`]: what a user, device or app may be called
//! - [`error`]: coded errors, made from `errors.toml`
//! - [`limits`]: every bound

pub mod encode;
pub mod error;
pub mod frame;
pub mod limits;
pub mod name;
pub mod proof;
pub mod session;

/// The specification itself, in Markdown: for tools that quote it.
pub const SPEC: &str = include_str!("../SPEC.md");

/// The protobuf types, made from `schema/postrider.proto`; fields are documented there.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    include!("generated/wire.rs");
}
