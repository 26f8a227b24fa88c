//! XMPP over TLS from the first byte: a message carries a request for a receipt (XEP-0184), which the recipient's client
//! answers. Where messages are kept for those who are away, the server's ack is that of stream management (XEP-0198).

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use postrider::bench::label;

use super::xml::{Item, attribute, child, item_at, name, text};
use super::{Heard, Receipts, Role, Side, Wire, WireError, decimal, put_decimal};

/// The password of every account.
pub const PASSWORD: &str = "x";

/// The one domain.
pub const DOMAIN: &str = "localhost";

/// One connection.
pub struct Xmpp {
    side: Side,
    state: State,
    /// Stream management: the counters of messages that the server has not acked, from `acked` on.
    acked: u64,
    sent: u64,
    /// Something was sent since the server was last asked what it has.
    ask: bool,
    /// Stanzas of the server since stream management was on: it asks, too.
    heard: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Waits for what the server offers before authentication.
    Features,
    /// Waits for `<success/>`.
    Authentication,
    /// Waits for what the server offers after it.
    BindFeatures,
    /// Waits for the address.
    Bind,
    /// Waits for stream management.
    Enable,
    /// Waits for the server to show its own presence to it.
    Presence,
    Live,
}

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'>";
const BIND: &str =
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>p</resource></bind></iq>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";

impl Xmpp {
    /// For this side.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, state: State::Features, acked: 0, sent: 0, ask: false, heard: 0 }
    }

    /// Whether the server is asked to ack what this side sends.
    fn is_acked(&self) -> bool {
        self.side.kept && self.side.role == Role::Sender
    }

    fn stanza(&mut self, stanza: &[u8], out: &mut BytesMut, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        if self.state >= State::Presence && matches!(name(stanza), b"message" | b"presence" | b"iq") {
            self.heard += 1;
        }
        match (self.state, name(stanza)) {
            (_, b"failure" | b"stream:error" | b"failed") => return Err(WireError::refused(stanza)),
            (State::Features, b"stream:features") => {
                let secret = BASE64.encode(format!("\0{}\0{PASSWORD}", self.side.user).as_bytes());
                let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
                out.put_slice(format!("{auth}{secret}</auth>").as_bytes());
                self.state = State::Authentication;
            }
            (State::Authentication, b"success") => {
                out.put_slice(HEADER.as_bytes());
                self.state = State::BindFeatures;
            }
            (State::BindFeatures, b"stream:features") => {
                out.put_slice(BIND.as_bytes());
                self.state = State::Bind;
            }
            (State::Bind, b"iq") if attribute(stanza, "type") == Some(b"result") && self.is_acked() => {
                out.put_slice(ENABLE.as_bytes());
                self.state = State::Enable;
            }
            (State::Bind, b"iq") if attribute(stanza, "type") == Some(b"result") => self.announce(out),
            (State::Enable, b"enabled") => self.announce(out),
            (State::Presence, b"presence") => {
                self.state = State::Live;
                tell(Heard::Ready);
            }
            (_, b"message") => self.message(stanza, tell)?,
            (_, b"a") => self.acks(stanza, tell)?,
            (_, b"r") => out.put_slice(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.heard).as_bytes()),
            (_, b"presence" | b"iq") if self.state >= State::Presence => {}
            _ => return Err(WireError::unknown(stanza)),
        }
        Ok(())
    }

    fn announce(&mut self, out: &mut BytesMut) {
        out.put_slice(b"<presence/>");
        self.state = State::Presence;
    }

    fn message(&mut self, stanza: &[u8], tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        let number = |element| attribute(element, "id").and_then(decimal).ok_or_else(|| WireError::unknown(stanza));
        if attribute(stanza, "type") == Some(b"error") {
            tell(Heard::Refused(number(stanza)?));
        } else if let Some(received) = child(stanza, "received") {
            tell(Heard::Delivered(number(received)?));
        } else if let Some(body) = child(stanza, "body") {
            let start = text(body).get(..2 * label::MIN_BYTES);
            let mut content = [0; label::MIN_BYTES];
            let decoded = start.map(|start| HEXLOWER_PERMISSIVE.decode_mut(start, &mut content));
            decoded.and_then(Result::ok).ok_or_else(|| WireError::unknown(stanza))?;
            tell(Heard::Message(&content));
        }
        Ok(())
    }

    /// The server counts what it took since stream management was on: the presence, then messages only.
    fn acks(&mut self, stanza: &[u8], tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        let taken = attribute(stanza, "h").and_then(decimal).ok_or_else(|| WireError::unknown(stanza))?;
        let messages = taken.saturating_sub(1).min(self.sent);
        (self.acked..messages).for_each(|counter| tell(Heard::Acked(counter)));
        self.acked = self.acked.max(messages);
        Ok(())
    }

    /// `<message to='…' id='…'`, to the one connection of the other or to wherever the other may be.
    fn put_message(&self, counter: u64, out: &mut BytesMut) {
        out.put_slice(b"<message to='");
        out.put_slice(self.side.other.as_bytes());
        out.put_slice(b"@localhost");
        if !self.side.kept {
            out.put_slice(b"/p");
        }
        out.put_slice(b"' type='chat' id='");
        put_decimal(counter, out);
        out.put_slice(b"'>");
    }
}

impl Wire for Xmpp {
    fn open(&mut self, out: &mut BytesMut) {
        out.put_slice(HEADER.as_bytes());
    }

    fn take(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        _now: Duration,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        let mut taken = 0;
        while let Some((item, length)) = item_at(&inbound[taken..])? {
            match item {
                Item::Framing => {}
                Item::Stanza(stanza) => self.stanza(stanza, out, tell)?,
                Item::End => return Err(WireError::Refused("the server ended the stream".into())),
            }
            taken += length;
        }
        inbound.advance(taken);
        Ok(())
    }

    /// A body is text: of the content's bytes the label goes as hexadecimal digits, and the whole is as long.
    fn send(&mut self, counter: u64, content: &[u8], out: &mut BytesMut) {
        self.put_message(counter, out);
        out.put_slice(b"<body>");
        let start = out.len();
        let (label, _) = content.split_at(content.len().min(label::MIN_BYTES));
        for byte in label {
            out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        out.resize((start + content.len()).max(out.len()), b'.');
        out.put_slice(b"</body>");
        if self.side.receipts != Receipts::None {
            out.put_slice(b"<request xmlns='urn:xmpp:receipts'/>");
        }
        out.put_slice(b"</message>");
        self.sent += 1;
        self.ask = self.is_acked();
    }

    /// The extension has a receipt for each message.
    fn received(&mut self, counters: &[u64], out: &mut BytesMut) {
        if self.side.receipts == Receipts::None {
            return;
        }
        for counter in counters {
            self.put_message(*counter, out);
            out.put_slice(b"<received xmlns='urn:xmpp:receipts' id='");
            put_decimal(*counter, out);
            out.put_slice(b"'/></message>");
        }
    }

    fn flush(&mut self, out: &mut BytesMut, _now: Duration) {
        if std::mem::take(&mut self.ask) {
            out.put_slice(ASK.as_bytes());
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use postrider::bench::label::{Label, RunId};

    use super::super::testing::{hear, side};
    use super::*;

    fn live(role: Role, kept: bool) -> Xmpp {
        Xmpp { state: State::Live, ..Xmpp::new(Side { kept, ..side(role, Receipts::Each) }) }
    }

    #[test]
    fn a_login_is_through_when_the_presence_comes_back() {
        let mut wire = Xmpp::new(side(Role::Sender, Receipts::Each));
        let steps: [(&str, &str); 5] = [
            (
                "<?xml version='1.0'?><stream:stream id='1'><stream:features><mechanisms/></stream:features>",
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHM3AHg=</auth>",
            ),
            ("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", HEADER),
            ("<?xml version='1.0'?><stream:stream id='2'><stream:features><bind/></stream:features>", BIND),
            ("<iq id='b' type='result'><bind><jid>s7@localhost/p</jid></bind></iq>", ENABLE),
            ("<enabled xmlns='urn:xmpp:sm:3'/>", "<presence/>"),
        ];
        for (said, answer) in steps {
            assert_eq!(hear(&mut wire, said.as_bytes()), (vec![], answer.as_bytes().to_vec()), "{said}");
        }
        assert_eq!(hear(&mut wire, b"<presence from='s7@localhost/p' to='s7@localhost/p'/>").0, ["Ready"]);
        assert_eq!(hear(&mut wire, b"<r xmlns='urn:xmpp:sm:3'/>").1, b"<a xmlns='urn:xmpp:sm:3' h='1'/>");
        let mut no = b"<failure><not-authorized/></failure>"[..].into();
        assert!(wire.take(&mut no, &mut BytesMut::new(), Duration::ZERO, &mut |_| {}).is_err());
    }

    #[test]
    fn a_message_has_as_many_bytes_as_its_content_and_its_label_comes_back() {
        let label = Label { run: RunId(9), pair: 7, counter: 4, intended: Duration::from_nanos(3) };
        let (mut sender, mut out) = (live(Role::Sender, false), BytesMut::new());
        sender.send(4, &label.to_content(100), &mut out);
        let stanza = out.clone();
        assert_eq!(text(child(&stanza, "body").unwrap()).len(), 100);
        assert!(stanza.starts_with(b"<message to='r7@localhost/p' type='chat' id='4'>"));
        let mut recipient = live(Role::Recipient, false);
        let mut found = None;
        let mut tell = |heard: Heard<'_>| {
            if let Heard::Message(content) = heard {
                found = Label::of_content(content);
            }
        };
        recipient.take(&mut out, &mut BytesMut::new(), Duration::ZERO, &mut tell).unwrap();
        assert_eq!(found, Some(label));
    }

    #[test]
    fn receipts_and_errors_are_told_by_the_number_of_the_message() {
        let mut out = BytesMut::new();
        live(Role::Recipient, false).received(&[4], &mut out);
        assert_eq!(hear(&mut live(Role::Sender, false), &out).0, ["Delivered(4)"]);
        let error = b"<message type='error' id='5'><body>x</body><error/></message>";
        assert_eq!(hear(&mut live(Role::Sender, false), error).0, ["Refused(5)"]);
    }

    #[test]
    fn the_server_is_asked_once_a_wake_up_what_it_took_and_acks_by_count() {
        let (mut sender, mut out) = (live(Role::Sender, true), BytesMut::new());
        (0..3).for_each(|counter| sender.send(counter, &[0; 100], &mut out));
        out.clear();
        sender.flush(&mut out, Duration::ZERO);
        sender.flush(&mut out, Duration::ZERO);
        assert_eq!(out, ASK.as_bytes());
        assert!(hear(&mut sender, b"<a xmlns='urn:xmpp:sm:3' h='1'/>").0.is_empty(), "that was the presence");
        assert_eq!(hear(&mut sender, b"<a xmlns='urn:xmpp:sm:3' h='3'/>").0, ["Acked(0)", "Acked(1)"]);
        assert_eq!(hear(&mut sender, b"<a xmlns='urn:xmpp:sm:3' h='4'/>").0, ["Acked(2)"]);
    }
}
