//! MQTT 3.1.1 with QoS 1: a message is a publish to the recipient's topic, a receipt one to the sender's. The broker's
//! ack is its PUBACK; a recipient's own PUBACK ends with the broker, so the receipt is the application's.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use super::{Heard, Receipts, Role, Side, Wire, WireError};

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;

/// A PUBLISH with QoS 1.
const PUBLISH_QOS_1: u8 = PUBLISH << 4 | 0b0010;

/// One connection.
pub struct Mqtt {
    side: Side,
    /// Publishes so far: a packet's identifier follows from its number.
    published: u64,
    /// Packet identifier and counter of messages without PUBACK, in the order they were sent.
    unacked: VecDeque<(u16, u64)>,
}

impl Mqtt {
    /// For this side.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, published: 0, unacked: VecDeque::new() }
    }

    fn publish(&mut self, payload: &[u8], out: &mut BytesMut) -> u16 {
        // Never 0 (2.3.1), and used again only after 65,534 others.
        let id = (self.published % 65_535) as u16 + 1;
        self.published += 1;
        let topic_bytes = TOPIC.len() + self.side.other.len();
        out.put_u8(PUBLISH_QOS_1);
        put_length(2 + topic_bytes + 2 + payload.len(), out);
        out.put_u16(topic_bytes as u16);
        out.put_slice(TOPIC.as_bytes());
        out.put_slice(self.side.other.as_bytes());
        out.put_u16(id);
        out.put_slice(payload);
        id
    }

    fn subscribe(&self, out: &mut BytesMut) {
        let topic_bytes = TOPIC.len() + self.side.user.len();
        out.put_u8(8 << 4 | 0b0010);
        put_length(2 + 2 + topic_bytes + 1, out);
        out.put_u16(1);
        out.put_u16(topic_bytes as u16);
        out.put_slice(TOPIC.as_bytes());
        out.put_slice(self.side.user.as_bytes());
        out.put_u8(1);
    }

    fn packet(
        &mut self,
        header: u8,
        body: &[u8],
        out: &mut BytesMut,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        match header >> 4 {
            PUBLISH => {
                let payload = published(header, body, out).ok_or_else(|| WireError::unknown(body))?;
                tell(match self.side.role {
                    Role::Sender => receipt(payload, self.side.receipts)?,
                    Role::Recipient | Role::Idle => Heard::Message(payload),
                });
            }
            PUBACK => {
                let Ok(id) = body.try_into().map(u16::from_be_bytes) else { return Err(WireError::unknown(body)) };
                if self.side.role == Role::Sender
                    && let Some(index) = self.unacked.iter().position(|(unacked, _)| *unacked == id)
                    && let Some((_, counter)) = self.unacked.remove(index)
                {
                    tell(Heard::Acked(counter));
                }
            }
            // What a session that the broker has kept is subscribed to, it knows.
            CONNACK if body == [1, 0] => tell(Heard::Ready),
            CONNACK if body == [0, 0] => self.subscribe(out),
            CONNACK => return Err(WireError::Refused(format!("CONNACK {body:?}"))),
            SUBACK if body == [0, 1, 1] => tell(Heard::Ready),
            SUBACK => return Err(WireError::Refused(format!("SUBACK {body:?}"))),
            PINGRESP => {}
            _ => return Err(WireError::unknown(body)),
        }
        Ok(())
    }
}

const TOPIC: &str = "u/";

impl Wire for Mqtt {
    fn open(&mut self, out: &mut BytesMut) {
        let keep_session = self.side.kept && self.side.role == Role::Recipient;
        out.put_u8(1 << 4);
        put_length(10 + 2 + self.side.user.len(), out);
        out.put_slice(b"\x00\x04MQTT\x04");
        out.put_u8(if keep_session { 0 } else { 0b10 });
        // No keep-alive.
        out.put_u16(0);
        out.put_u16(self.side.user.len() as u16);
        out.put_slice(self.side.user.as_bytes());
    }

    fn take(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        _now: Duration,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        let mut taken = 0;
        while let Some((header, start, end)) = packet_at(&inbound[taken..])? {
            self.packet(header, &inbound[taken + start..taken + end], out, tell)?;
            taken += end;
        }
        inbound.advance(taken);
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.unacked.len() < 65_000
    }

    fn send(&mut self, counter: u64, content: &[u8], out: &mut BytesMut) {
        let id = self.publish(content, out);
        self.unacked.push_back((id, counter));
    }

    fn received(&mut self, counters: &[u64], out: &mut BytesMut) {
        let due = match self.side.receipts {
            Receipts::Each => counters,
            Receipts::Batched => &counters[counters.len().saturating_sub(1)..],
            Receipts::None => &[],
        };
        for counter in due {
            self.publish(&counter.to_be_bytes(), out);
        }
    }
}

/// What a receipt says: the application's own format.
pub fn receipt(payload: &[u8], receipts: Receipts) -> Result<Heard<'static>, WireError> {
    let counter = payload.try_into().map(u64::from_be_bytes).map_err(|_| WireError::unknown(payload))?;
    Ok(if receipts == Receipts::Batched { Heard::DeliveredUpTo(counter) } else { Heard::Delivered(counter) })
}

/// The payload of a PUBLISH; its PUBACK goes out.
fn published<'a>(header: u8, body: &'a [u8], out: &mut BytesMut) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    if header & 0b0110 == 0 {
        return Some(rest);
    }
    let (id, payload) = rest.split_first_chunk::<2>()?;
    out.put_slice(&[PUBACK << 4, 2]);
    out.put_slice(id);
    Some(payload)
}

/// The first whole packet: its first byte, and where its body starts and ends.
fn packet_at(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, WireError> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = index + 2;
            return Ok((bytes.len() >= start + length).then_some((bytes[0], start, start + length)));
        }
    }
    if bytes.len() > 4 { Err(WireError::unknown(bytes)) } else { Ok(None) }
}

/// A packet's remaining length (2.2.3).
fn put_length(mut length: usize, out: &mut BytesMut) {
    while length > 0x7f {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hear, side};
    use super::*;

    #[test]
    fn a_first_visit_subscribes_and_a_later_one_need_not() {
        let mut wire = Mqtt::new(side(Role::Recipient, Receipts::Each));
        let mut out = BytesMut::new();
        wire.open(&mut out);
        assert_eq!(out, b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02r7"[..]);
        assert_eq!(hear(&mut wire, b"\x20\x02\x00\x00"), (vec![], b"\x82\x09\x00\x01\x00\x04u/r7\x01".to_vec()));
        assert_eq!(hear(&mut wire, b"\x90\x03\x00\x01\x01").0, ["Ready"]);
        assert_eq!(hear(&mut wire, b"\x20\x02\x01\x00").0, ["Ready"]);
        let error = wire.take(&mut b"\x20\x02\x00\x05"[..].into(), &mut out, Duration::ZERO, &mut |_| {});
        assert!(matches!(error, Err(WireError::Refused(_))));
    }

    #[test]
    fn a_message_is_acked_to_the_broker_and_receipted_to_its_sender() {
        let mut sender = Mqtt::new(side(Role::Sender, Receipts::Each));
        let mut out = BytesMut::new();
        sender.send(4, b"hi", &mut out);
        assert_eq!(out, b"\x32\x0a\x00\x04u/r7\x00\x01hi"[..]);
        assert_eq!(hear(&mut sender, b"\x40\x02\x00\x01").0, ["Acked(4)"]);

        let mut recipient = Mqtt::new(side(Role::Recipient, Receipts::Each));
        let (heard, answer) = hear(&mut recipient, b"\x32\x0a\x00\x04u/r7\x01\x02hi");
        assert_eq!((heard, answer), (vec!["Message(hi)".into()], b"\x40\x02\x01\x02".to_vec()));
        out.clear();
        recipient.received(&[4, 5], &mut out);
        assert_eq!(
            out,
            b"\x32\x10\x00\x04u/s7\x00\x01\0\0\0\0\0\0\0\x04\x32\x10\x00\x04u/s7\x00\x02\0\0\0\0\0\0\0\x05"[..]
        );
        let told = hear(&mut sender, b"\x32\x10\x00\x04u/s7\x00\x01\0\0\0\0\0\0\0\x04");
        assert_eq!(told, (vec!["Delivered(4)".into()], b"\x40\x02\x00\x01".to_vec()));
    }

    #[test]
    fn a_batched_receipt_speaks_of_everything_before_it() {
        let mut recipient = Mqtt::new(side(Role::Recipient, Receipts::Batched));
        let mut out = BytesMut::new();
        recipient.received(&[4, 5], &mut out);
        let mut sender = Mqtt::new(side(Role::Sender, Receipts::Batched));
        assert_eq!(hear(&mut sender, &out).0, ["DeliveredUpTo(5)"]);
    }

    #[test]
    fn acks_name_the_packet_also_after_identifiers_begin_anew() {
        let mut sender = Mqtt::new(side(Role::Sender, Receipts::Each));
        let mut out = BytesMut::new();
        for counter in 0..70_000_u64 {
            out.clear();
            sender.send(counter, b"", &mut out);
            let id = [out[out.len() - 2], out[out.len() - 1]];
            assert_ne!(id, [0, 0]);
            assert_eq!(hear(&mut sender, &[0x40, 2, id[0], id[1]]).0, [format!("Acked({counter})")]);
        }
    }

    #[test]
    fn lengths_of_every_size_are_read_as_they_are_written() {
        for length in [0, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut packet = BytesMut::from(&b"\x30"[..]);
            put_length(length, &mut packet);
            let start = packet.len();
            assert!(packet_at(&packet[..start - 1]).unwrap().is_none());
            packet.resize(start + length, 0);
            assert_eq!(packet_at(&packet).unwrap(), Some((0x30, start, start + length)));
        }
        assert!(packet_at(b"\x30\xff\xff\xff\xff").is_err());
    }
}
