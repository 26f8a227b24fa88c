//! Hostile clients against the real server, in a process of its own.
//!
//! Each test is a [`Siege`]: while the attack lasts, a pair of bystanders talks. At its end the pair has lost nothing and
//! was never kept waiting for long, the server is the same process, and its memory is what it was.
//!
//! The numbers are small, so that the tests are quick. `POSTRIDER_TEST_SIEGE=full cargo test --test server hostile` runs
//! them in full, 15,000 slow connections and 10,000 logins among them; it wants 20,000 descriptors (`ulimit -n`) and some
//! minutes.
//!
//! # Layout
//! - [`siege`]: the server, the bystanders, what must hold at the end
//! - [`frames`]: what is no frame, and what is one too large, too deep, too short
//! - [`names`]: names that are none
//! - [`slow`]: who says nothing, or a byte at a time
//! - [`floods`]: too many connections, messages, receipts; too few descriptors
//! - [`handshakes`]: TLS as it must not be
//! - [`taken_apart`]: clients whose TLS can be taken apart
//! - [`logins`]: proofs and codes that are forged or replayed
//! - [`guesses`]: how often, and what the time it takes gives away
//! - [`forgery`]: clients that claim what is not theirs

mod floods;
mod forgery;
mod frames;
mod guesses;
mod handshakes;
mod logins;
mod names;
mod siege;
mod slow;
mod taken_apart;

use siege::Siege;

/// A number of something: the first by default, the second in full.
fn scaled(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

fn is_full() -> bool {
    std::env::var("POSTRIDER_TEST_SIEGE").is_ok_and(|siege| siege == "full")
}
