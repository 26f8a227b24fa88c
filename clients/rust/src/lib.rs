//! The Rust client for Postrider: durable sends, receipts, reconnect and resume.
//!
//! ```no_run
//! use postrider_client::{Client, Event, FileState, Options, To, Trust, content};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new("127.0.0.1:7222", "dev", "alice")
//!     .device("laptop")
//!     .trust(Trust::CaFile("postrider-data/ca.pem".into()));
//! let (client, mut events) = Client::connect(options, FileState::open("alice-state")?).await?;
//!
//! let sending = client.send(To::user("bob"), content::text("hello")).await?; // queued, and safe from a crash of ours
//! let ack = sending.await?; // on the server's stable storage
//! println!("message {} of conversation {}", ack.seq, ack.conversation);
//!
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {}", message.sender, message.text().unwrap_or("(not text)"));
//!         client.read(message.conversation, message.seq).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client connects again by itself, with growing, jittered delays; sends again what had no answer; and gives the
//! application each inbox entry once, across its own restarts too if its state ([`StateStore`]) lasts.
//!
//! # Layout
//! - [`Client`] and [`Sending`]: what an application does
//! - [`Events`] and [`Event`]: what it is told
//! - [`Options`]: where to connect, as whom, and how
//! - [`StateStore`]: what is kept across restarts; [`FileState`], [`MemoryState`]
//! - [`content`]: the format of text messages
//! - `driver`: the one task behind a client: it drives the protocol's sans-IO session, commits state, reconnects

mod client;
pub mod content;
mod driver;
mod error;
mod events;
mod key;
mod options;
mod state;
mod tls;

pub use client::{Ack, Client, LinkCode, Sending, To};
pub use error::{Error, SendError, ServerError};
pub use events::{Answer, Event, Events, Message, Receipt};
pub use options::{DEFAULT_WINDOW, Login, Options, Trust};
pub use postrider_protocol::error::{CodedError, ErrorCode};
pub use postrider_protocol::{limits, name};
pub use state::{Change, FileState, Key, MemoryState, Owner, QueuedSend, Saved, StateError, StateStore};
