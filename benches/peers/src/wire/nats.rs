//! NATS core: a message is a publish to the recipient's subject that names the sender's as where to reply; the reply is
//! the receipt. Nothing is stored, and the server acks nothing.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use super::mqtt::receipt;
use super::{Heard, Receipts, Role, Side, Wire, WireError, decimal, put_decimal};

/// One connection.
pub struct Nats {
    side: Side,
    /// Where the latest message asked for its receipt.
    reply: BytesMut,
}

impl Nats {
    /// For this side.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, reply: BytesMut::new() }
    }
}

impl Wire for Nats {
    fn open(&mut self, out: &mut BytesMut) {
        let subject = if self.side.role == Role::Sender { 'k' } else { 'm' };
        out.put_slice(CONNECT);
        out.put_slice(format!("SUB {subject}.{} 1\r\nPING\r\n", self.side.user).as_bytes());
    }

    fn take(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        _now: Duration,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        let mut taken = 0;
        while let Some((operation, length)) = operation_at(&inbound[taken..])? {
            match operation {
                Operation::Message(Message { payload, .. }) if self.side.role == Role::Sender => {
                    tell(receipt(payload, self.side.receipts)?);
                }
                Operation::Message(Message { payload, reply, .. }) => {
                    if self.reply != reply {
                        self.reply = reply.into();
                    }
                    tell(Heard::Message(payload));
                }
                Operation::Ping => out.put_slice(b"PONG\r\n"),
                Operation::Pong => tell(Heard::Ready),
                Operation::Other => {}
            }
            taken += length;
        }
        inbound.advance(taken);
        Ok(())
    }

    fn send(&mut self, _counter: u64, content: &[u8], out: &mut BytesMut) {
        publish([b"m.", self.side.other.as_bytes()], [b"k.", self.side.user.as_bytes()], content, out);
    }

    fn received(&mut self, counters: &[u64], out: &mut BytesMut) {
        let due = match self.side.receipts {
            Receipts::Each => counters,
            Receipts::Batched => &counters[counters.len().saturating_sub(1)..],
            Receipts::None => &[],
        };
        for counter in due {
            publish([&self.reply, b""], [b"", b""], &counter.to_be_bytes(), out);
        }
    }
}

/// What a client says first.
pub const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\
\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\n";

/// Something that the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// MSG.
    Message(Message<'a>),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// INFO and +OK.
    Other,
}

/// A message of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// As it was published to.
    pub subject: &'a [u8],
    /// Of which subscription.
    pub subscription: &'a [u8],
    /// Where an answer goes; empty when none is wanted.
    pub reply: &'a [u8],
    /// The content.
    pub payload: &'a [u8],
}

/// The first whole operation, and its length.
///
/// # Errors
/// When it is an error, or none that is known.
pub fn operation_at(bytes: &[u8]) -> Result<Option<(Operation<'_>, usize)>, WireError> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let length = end + 1;
    let line = bytes[..end].trim_ascii_end();
    let Some(rest) = line.strip_prefix(b"MSG ") else {
        let operation = match line {
            b"PING" => Operation::Ping,
            b"PONG" => Operation::Pong,
            b"+OK" => Operation::Other,
            _ if line.starts_with(b"INFO ") => Operation::Other,
            _ if line.starts_with(b"-ERR") => return Err(WireError::refused(line)),
            _ => return Err(WireError::unknown(line)),
        };
        return Ok(Some((operation, length)));
    };
    let mut words = rest.split(|byte| *byte == b' ');
    let (subject, subscription) = words.next().zip(words.next()).ok_or_else(|| WireError::unknown(line))?;
    let (third, fourth) = (words.next().unwrap_or_default(), words.next());
    let (reply, size) = fourth.map_or((&b""[..], third), |size| (third, size));
    let size = decimal(size).and_then(|size| usize::try_from(size).ok()).ok_or_else(|| WireError::unknown(line))?;
    if bytes.len() < length + size + 2 {
        return Ok(None);
    }
    let payload = &bytes[length..length + size];
    Ok(Some((Operation::Message(Message { subject, subscription, reply, payload }), length + size + 2)))
}

/// A PUB. Subject and reply come in two parts; a reply of nothing is none.
pub fn publish(subject: [&[u8]; 2], reply: [&[u8]; 2], payload: &[u8], out: &mut BytesMut) {
    out.put_slice(b"PUB ");
    subject.iter().for_each(|part| out.put_slice(part));
    out.put_u8(b' ');
    if reply.iter().any(|part| !part.is_empty()) {
        reply.iter().for_each(|part| out.put_slice(part));
        out.put_u8(b' ');
    }
    put_decimal(payload.len() as u64, out);
    out.put_slice(b"\r\n");
    out.put_slice(payload);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hear, side};
    use super::*;

    #[test]
    fn a_connection_is_ready_when_the_server_has_its_subscription() {
        let mut wire = Nats::new(side(Role::Sender, Receipts::Each));
        let mut out = BytesMut::new();
        wire.open(&mut out);
        assert!(out.starts_with(CONNECT) && out.ends_with(b"SUB k.s7 1\r\nPING\r\n"));
        assert_eq!(hear(&mut wire, b"+OK\r\nPONG\r\n").0, ["Ready"]);
        assert_eq!(hear(&mut wire, b"PING\r\n").1, b"PONG\r\n");
    }

    #[test]
    fn the_reply_to_a_message_is_its_receipt() {
        let mut sender = Nats::new(side(Role::Sender, Receipts::Each));
        let mut out = BytesMut::new();
        sender.send(4, b"a\r\nb", &mut out);
        assert_eq!(out, b"PUB m.r7 k.s7 4\r\na\r\nb\r\n"[..]);

        let mut recipient = Nats::new(side(Role::Recipient, Receipts::Each));
        assert_eq!(hear(&mut recipient, b"MSG m.r7 1 k.s7 4\r\na\r\nb\r\n").0, [r"Message(a\r\nb)"]);
        out.clear();
        recipient.received(&[4, 5], &mut out);
        assert_eq!(out, b"PUB k.s7 8\r\n\0\0\0\0\0\0\0\x04\r\nPUB k.s7 8\r\n\0\0\0\0\0\0\0\x05\r\n"[..]);
        let told = hear(&mut sender, b"MSG k.s7 1 8\r\n\0\0\0\0\0\0\0\x04\r\n").0;
        assert_eq!(told, ["Delivered(4)"]);
    }

    #[test]
    fn an_error_of_the_server_ends_the_connection() {
        assert!(matches!(operation_at(b"-ERR 'no'\r\n"), Err(WireError::Refused(_))));
        assert!(matches!(operation_at(b"HMSG x\r\n"), Err(WireError::Unknown(_))));
        assert!(matches!(operation_at(b"MSG a 1 x\r\n"), Err(WireError::Unknown(_))));
    }
}
