//! What the tests stand on.

mod actor;
mod audit;
mod crashes;
mod image;
mod meddler;
mod process;
mod proxy;
mod raw;
mod script;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;

use postrider_client::{Options, Trust};

pub use actor::{Cast, Plan, open_state};
pub use audit::{Audit, Kind, Verdict, Witness};
pub use crashes::{Catastrophe, Kill, Outcome, survive};
pub use image::Image;
pub use meddler::{Meddler, Meddling};
pub use process::{Finished, Program, ServerProcess, called};
pub use proxy::{Faults, Proxy};
pub use raw::Raw;
pub use script::play;
pub use server::TestServer;

/// A server, in this process or another.
pub trait Target {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The certificate to trust.
    fn ca(&self) -> PathBuf;

    /// How our own client connects to it.
    fn options(&self, user: &str, device: &str) -> Options {
        self.options_at(self.address(), user, device)
    }

    /// The same, where something stands in between.
    fn options_at(&self, address: SocketAddr, user: &str, device: &str) -> Options {
        Options::new(address.to_string(), "dev", user).device(device).trust(Trust::CaFile(self.ca()))
    }
}

/// Where chance comes from: `POSTRIDER_TEST_SEED`, or something new each time. It is printed, so that a failure can be
/// tried again.
pub fn seed() -> u64 {
    let given = std::env::var("POSTRIDER_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(rand::random);
    println!("POSTRIDER_TEST_SEED={seed}");
    seed
}
