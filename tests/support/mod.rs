//! What the tests stand on.

mod raw;
mod script;
mod server;

pub use raw::Raw;
pub use script::play;
pub use server::TestServer;
