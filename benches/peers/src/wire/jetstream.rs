//! NATS JetStream: messages go into one stream in files, which acks each to its sender; every recipient has a durable
//! consumer of its own subject and acks to it, cumulatively. Receipts are plain NATS.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use super::mqtt::receipt;
use super::nats::{CONNECT, Message, Operation, operation_at, publish};
use super::{Heard, Receipts, Role, Side, Wire, WireError, decimal, put_decimal};

/// One connection.
pub struct JetStream {
    side: Side,
    /// Where the latest message is to be acked.
    reply: BytesMut,
}

impl JetStream {
    /// For this side. An idle one makes the stream, once for everybody.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, reply: BytesMut::new() }
    }

    fn message(&mut self, message: &Message<'_>, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        let Message { subject, subscription, reply, payload } = *message;
        if subscription == INBOX {
            if refuses(payload) {
                return Err(WireError::refused(payload));
            }
            tell(Heard::Ready);
        } else if self.side.role == Role::Recipient {
            self.reply.clear();
            self.reply.extend_from_slice(reply);
            tell(Heard::Message(payload));
        } else if subscription == ACKS {
            let counter = subject.rsplit(|byte| *byte == b'.').next().and_then(decimal);
            let counter = counter.ok_or_else(|| WireError::unknown(subject))?;
            tell(if refuses(payload) { Heard::Refused(counter) } else { Heard::Acked(counter) });
        } else {
            tell(receipt(payload, self.side.receipts)?);
        }
        Ok(())
    }
}

/// The subscriptions.
const DATA: &[u8] = b"1";
const INBOX: &[u8] = b"2";
const ACKS: &[u8] = b"3";

/// Every message for a user is published to `m.` and the user's name.
const STREAM: &str =
    r#"{"name":"M","subjects":["m.>"],"storage":"file","retention":"limits","discard":"old","num_replicas":1}"#;

fn consumer(user: &str) -> String {
    format!(
        r#"{{"stream_name":"M","config":{{"durable_name":"{user}",
"filter_subject":"m.{user}","deliver_subject":"d.{user}","deliver_policy":"all",
"ack_policy":"all","ack_wait":60000000000,"max_ack_pending":1000000,"replay_policy":"instant"}}}}"#
    )
}

fn refuses(answer: &[u8]) -> bool {
    answer.windows(8).any(|part| part == b"\"error\":")
}

impl Wire for JetStream {
    fn open(&mut self, out: &mut BytesMut) {
        let user = &self.side.user;
        out.put_slice(CONNECT);
        let (data, inbox) = (DATA.escape_ascii(), INBOX.escape_ascii());
        match self.side.role {
            Role::Sender => {
                out.put_slice(format!("SUB k.{user} {data}\r\nSUB a.{user}.* 3\r\nPING\r\n").as_bytes());
            }
            Role::Recipient => {
                out.put_slice(format!("SUB d.{user} {data}\r\nSUB i.{user} {inbox}\r\n").as_bytes());
                let (subject, config) = (format!("$JS.API.CONSUMER.DURABLE.CREATE.M.{user}"), consumer(user));
                publish([subject.as_bytes(), b""], [b"i.", user.as_bytes()], config.as_bytes(), out);
            }
            Role::Idle => {
                out.put_slice(format!("SUB i.{user} {inbox}\r\n").as_bytes());
                publish([b"$JS.API.STREAM.CREATE.M", b""], [b"i.", user.as_bytes()], STREAM.as_bytes(), out);
            }
        }
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
                Operation::Message(message) => self.message(&message, tell)?,
                Operation::Ping => out.put_slice(b"PONG\r\n"),
                Operation::Pong => tell(Heard::Ready),
                Operation::Other => {}
            }
            taken += length;
        }
        inbound.advance(taken);
        Ok(())
    }

    fn send(&mut self, counter: u64, content: &[u8], out: &mut BytesMut) {
        let mut number = BytesMut::with_capacity(21);
        number.put_u8(b'.');
        put_decimal(counter, &mut number);
        let ack = [b"a.", self.side.user.as_bytes(), &number].concat();
        publish([b"m.", self.side.other.as_bytes()], [&ack, b""], content, out);
    }

    fn received(&mut self, counters: &[u64], out: &mut BytesMut) {
        publish([&self.reply, b""], [b"", b""], b"", out);
        let due = match self.side.receipts {
            Receipts::Each => counters,
            Receipts::Batched => &counters[counters.len().saturating_sub(1)..],
            Receipts::None => &[],
        };
        for counter in due {
            publish([b"k.", self.side.other.as_bytes()], [b"", b""], &counter.to_be_bytes(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hear, side};
    use super::*;

    #[test]
    fn a_recipient_is_ready_when_it_has_its_consumer() {
        let mut wire = JetStream::new(side(Role::Recipient, Receipts::Each));
        let mut out = BytesMut::new();
        wire.open(&mut out);
        let text = out.escape_ascii().to_string();
        assert!(text.contains(r"SUB d.r7 1\r\nSUB i.r7 2\r\nPUB $JS.API.CONSUMER.DURABLE.CREATE.M.r7 i.r7 "), "{text}");
        assert_eq!(hear(&mut wire, b"MSG i.r7 2 13\r\n{\"type\":\"ok\"}\r\n").0, ["Ready"]);
        let mut no = b"MSG i.r7 2 22\r\n{\"error\":{\"code\":503}}\r\n"[..].into();
        let mut out = BytesMut::new();
        assert!(wire.take(&mut no, &mut out, Duration::ZERO, &mut |_| {}).is_err());
    }

    #[test]
    fn the_stream_acks_by_number_and_the_recipient_acks_the_last_of_a_batch() {
        let mut sender = JetStream::new(side(Role::Sender, Receipts::Batched));
        let mut out = BytesMut::new();
        sender.send(40, b"hi", &mut out);
        assert_eq!(out, b"PUB m.r7 a.s7.40 2\r\nhi\r\n"[..]);
        assert_eq!(hear(&mut sender, b"MSG a.s7.40 3 24\r\n{\"stream\":\"M\", \"seq\":77}\r\n").0, ["Acked(40)"]);
        assert_eq!(hear(&mut sender, b"MSG a.s7.40 3 12\r\n{\"error\":{}}\r\n").0, ["Refused(40)"]);

        let mut recipient = JetStream::new(side(Role::Recipient, Receipts::Batched));
        let messages = b"MSG m.r7 1 $JS.ACK.M.r7.1.1.1.9.0 2\r\nhi\r\nMSG m.r7 1 $JS.ACK.M.r7.1.2.2.9.0 2\r\nho\r\n";
        assert_eq!(hear(&mut recipient, messages).0, ["Message(hi)", "Message(ho)"]);
        out.clear();
        recipient.received(&[40, 41], &mut out);
        assert_eq!(out, b"PUB $JS.ACK.M.r7.1.2.2.9.0 0\r\n\r\nPUB k.s7 8\r\n\0\0\0\0\0\0\0\x29\r\n"[..]);
        assert_eq!(hear(&mut sender, b"MSG k.s7 1 8\r\n\0\0\0\0\0\0\0\x29\r\n").0, ["DeliveredUpTo(41)"]);
    }
}
