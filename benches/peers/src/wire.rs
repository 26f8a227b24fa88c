//! What the generator speaks with a server: one small protocol driver each, without IO. Only what the scenarios need.
//!
//! # Layout
//! - [`mqtt`]: MQTT 3.1.1, QoS 1
//! - [`nats`], [`jetstream`]: NATS core, and its streams
//! - [`xmpp`], [`xml`]: XMPP with receipts (XEP-0184) and stream management (XEP-0198)
//! - [`postrider`]: the protocol crate's own client session

pub mod jetstream;
pub mod mqtt;
pub mod nats;
pub mod postrider;
pub mod xml;
pub mod xmpp;

use std::time::Duration;

use bytes::BytesMut;

/// One connection's side of a protocol: bytes in, what they mean out, and the other way round.
pub trait Wire: Send {
    /// The first bytes of the connection, once TLS is up.
    fn open(&mut self, out: &mut BytesMut);

    /// Takes everything that is whole out of `inbound`, puts the protocol's own answers into `out`, tells the rest.
    ///
    /// # Errors
    /// When the server refuses, or says what this driver does not understand.
    fn take(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        now: Duration,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError>;

    /// Whether one more message can be sent now.
    fn has_room(&self) -> bool {
        true
    }

    /// Sends message number `counter` of this connection to the other side of the pair.
    fn send(&mut self, counter: u64, content: &[u8], out: &mut BytesMut);

    /// These messages, the numbers of the sender in order, have been taken: confirms them, and has the sender told.
    fn received(&mut self, counters: &[u64], out: &mut BytesMut);

    /// Everything for this wake-up has been sent and confirmed. Called until it adds nothing more.
    fn flush(&mut self, _out: &mut BytesMut, _now: Duration) {}
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The login is through, and what is meant for this user comes here.
    Ready,
    /// The server has taken responsibility for this message of ours.
    Acked(u64),
    /// The server will not deliver this message of ours.
    Refused(u64),
    /// A message for this user.
    Message(&'a [u8]),
    /// The recipient has this message of ours.
    Delivered(u64),
    /// The recipient has every message of ours up to this one.
    DeliveredUpTo(u64),
}

/// Why a connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It said no.
    #[error("the server refused: {0}")]
    Refused(String),
    /// Its protocol is not what the driver expects.
    #[error("the server sent what the driver does not understand: {0}")]
    Unknown(String),
}

impl WireError {
    /// Not understood: the start of it, as text.
    #[must_use]
    pub fn unknown(bytes: &[u8]) -> Self {
        Self::Unknown(excerpt(bytes))
    }

    /// Refused in these words.
    #[must_use]
    pub fn refused(bytes: &[u8]) -> Self {
        Self::Refused(excerpt(bytes))
    }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).escape_debug().to_string()
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends, and hears of receipts.
    Sender,
    /// It takes messages.
    Recipient,
    /// It is only there: a recipient to whom nobody writes.
    Idle,
}

/// Whether recipients have the sender told, where that is the application's business and not the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Receipts {
    /// A receipt for each message.
    Each,
    /// One for everything that arrived at once, where the protocol leaves that to the application.
    Batched,
    /// None.
    #[value(skip)]
    None,
}

/// Who is at this end of a connection, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Side {
    /// What for.
    pub role: Role,
    /// Who.
    pub user: String,
    /// The other of the pair.
    pub other: String,
    /// Whether the sender is told.
    pub receipts: Receipts,
    /// Whether messages wait for a recipient who is away, and the server acks them to the sender.
    pub kept: bool,
}

/// Appends a number in decimal digits.
fn put_decimal(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A number in decimal digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What tests of drivers have in common.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// The sender or recipient of a pair that keeps messages.
    pub fn side(role: Role, receipts: Receipts) -> Side {
        let (user, other) = if role == Role::Sender { ("s7", "r7") } else { ("r7", "s7") };
        Side { role, user: user.into(), other: other.into(), receipts, kept: true }
    }

    /// What the wire makes of these bytes, given one at a time: what it tells, and what it answers.
    pub fn hear(wire: &mut dyn Wire, bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
        let (mut inbound, mut out, mut heard) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for byte in bytes {
            inbound.extend_from_slice(&[*byte]);
            let mut tell = |what: Heard<'_>| {
                heard.push(match what {
                    Heard::Message(content) => format!("Message({})", content.escape_ascii()),
                    other => format!("{other:?}"),
                });
            };
            wire.take(&mut inbound, &mut out, Duration::ZERO, &mut tell).unwrap();
        }
        assert!(inbound.is_empty(), "left over: {}", inbound.escape_ascii());
        (heard, out.to_vec())
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = BytesMut::new();
            put_decimal(number, &mut out);
            assert_eq!(decimal(&out), Some(number));
        }
        assert_eq!((decimal(b""), decimal(b"1x"), decimal(b"99999999999999999999")), (None, None, None));
    }
}
