//! The bodies of the fuzz targets: each takes any bytes and panics when something that must hold does not. They are plain
//! functions, so that ordinary tests call them too; `README.md` beside this crate says how to run a fuzzer on them.
//!
//! # Layout
//! - one file a target, with what must hold at its top
//! - `dice`, `frames`: bytes read as choices, and as well-formed frames
//! - `scratch`, `world`, `history`: directories in memory, stores in them, and what happens to those

mod canary;
mod client_session;
mod client_state;
mod config_file;
mod dice;
mod enrolment;
mod frame_decoder;
mod frames;
mod history;
mod journal;
mod message_round_trip;
mod scratch;
mod server_session;
mod session_pair;
mod store_history;
mod world;

pub use canary::canary;
pub use client_session::client_session;
pub use client_state::client_state;
pub use config_file::config_file;
pub use enrolment::enrolment;
pub use frame_decoder::frame_decoder;
pub use frames::RAW;
pub use journal::{journal_damage, journal_replay};
pub use message_round_trip::{MESSAGE_TYPES, message_round_trip};
pub use server_session::server_session;
pub use session_pair::session_pair;
pub use store_history::store_history;

/// What a fuzzer calls.
pub type Body = fn(&[u8]);

/// Every target that must hold, by name; [`canary`] is the one that must not.
pub const TARGETS: &[(&str, Body)] = &[
    ("frame_decoder", frame_decoder),
    ("message_round_trip", message_round_trip),
    ("server_session", server_session),
    ("client_session", client_session),
    ("session_pair", session_pair),
    ("config_file", config_file),
    ("enrolment", enrolment),
    ("client_state", client_state),
    ("store_history", store_history),
    ("journal_replay", journal_replay),
    ("journal_damage", journal_damage),
];
