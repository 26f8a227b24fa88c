//! Events as JSON: one object a line, with the specification's names. These shapes are a promise to scripts.
//!
//! | event | fields |
//! |---|---|
//! | `ack` | `send_id`, `conversation`, `seq`, `time` (milliseconds since 1970) |
//! | `refused` | `send_id`, `code`, `name`, `detail`, `retry` |
//! | `message` | `conversation`, `seq`, `sender`, `recipient`, `time`, and `text`, or `content_base64` if it is no text |
//! | `delivered`, `read`, `expired` | `conversation`, `seq`, `user` |
//! | `caught_up` | none: what was waiting has all been printed |
//! | `connected` | `device`, `resumed` |
//! | `disconnected` | `reason`, `retry_in_ms` |

use std::borrow::Cow;

use postrider_client::{Ack, Message, Receipt, SendError};
use serde::Serialize;

/// An event as a line of JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Line<'e> {
    Ack {
        send_id: u64,
        conversation: u64,
        seq: u64,
        time: u64,
    },
    Refused {
        send_id: u64,
        code: u32,
        name: Cow<'e, str>,
        detail: Cow<'e, str>,
        retry: bool,
    },
    Message {
        conversation: u64,
        seq: u64,
        sender: &'e str,
        recipient: &'e str,
        time: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'e str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content_base64: Option<String>,
    },
    Delivered {
        conversation: u64,
        seq: u64,
        user: &'e str,
    },
    Read {
        conversation: u64,
        seq: u64,
        user: &'e str,
    },
    Expired {
        conversation: u64,
        seq: u64,
        user: &'e str,
    },
    CaughtUp,
    Connected {
        device: &'e str,
        resumed: bool,
    },
    Disconnected {
        reason: &'e str,
        retry_in_ms: u64,
    },
}

impl<'e> Line<'e> {
    /// A message.
    #[must_use]
    pub fn message(message: &'e Message) -> Self {
        let text = message.text();
        Line::Message {
            conversation: message.conversation,
            seq: message.seq,
            sender: &message.sender,
            recipient: &message.recipient,
            time: message.time,
            text,
            content_base64: text.is_none().then(|| data_encoding::BASE64.encode(&message.content)),
        }
    }

    /// An ack.
    #[must_use]
    pub fn ack(ack: &Ack) -> Self {
        let Ack { send_id, conversation, seq, time } = *ack;
        Line::Ack { send_id, conversation, seq, time }
    }

    /// A refusal by the server; other errors of sending are no event.
    #[must_use]
    pub fn refused(error: &'e SendError) -> Option<Self> {
        match error {
            SendError::Refused { send_id, code, name, detail, retry, .. } => Some(Line::Refused {
                send_id: *send_id,
                code: *code,
                name: name.into(),
                detail: detail.into(),
                retry: *retry,
            }),
            _ => None,
        }
    }

    /// A `delivered` watermark.
    #[must_use]
    pub fn delivered(Receipt { conversation, seq, user, .. }: &'e Receipt) -> Self {
        Line::Delivered { conversation: *conversation, seq: *seq, user }
    }

    /// A `read` watermark.
    #[must_use]
    pub fn read(Receipt { conversation, seq, user, .. }: &'e Receipt) -> Self {
        Line::Read { conversation: *conversation, seq: *seq, user }
    }

    /// An `expired` watermark.
    #[must_use]
    pub fn expired(Receipt { conversation, seq, user, .. }: &'e Receipt) -> Self {
        Line::Expired { conversation: *conversation, seq: *seq, user }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_client::content;

    use super::*;
    use crate::cli::print::to_json;

    fn json(line: Line<'_>) -> String {
        to_json(&line).unwrap()
    }

    fn message(content: impl Into<bytes::Bytes>) -> Message {
        let (sender, recipient) = ("alice".into(), "bob".into());
        Message { position: 9, conversation: 1, seq: 2, sender, recipient, time: 3, content: content.into() }
    }

    #[test]
    fn messages_have_text_or_base64() {
        assert_eq!(
            json(Line::message(&message(content::text("hi")))),
            r#"{"event":"message","conversation":1,"seq":2,"sender":"alice","recipient":"bob","time":3,"text":"hi"}"#
        );
        assert_eq!(
            json(Line::message(&message(&b"\xff\x00"[..]))),
            r#"{"event":"message","conversation":1,"seq":2,"sender":"alice","recipient":"bob","time":3,"content_base64":"/wA="}"#
        );
    }

    #[test]
    fn answers_have_their_send_id() {
        let ack = Ack { send_id: 1, conversation: 2, seq: 3, time: 4 };
        assert_eq!(json(Line::ack(&ack)), r#"{"event":"ack","send_id":1,"conversation":2,"seq":3,"time":4}"#);
        let (name, detail) = ("NOT_ACCEPTED".to_owned(), "no".to_owned());
        let refused =
            SendError::Refused { send_id: 5, code: 300, name, detail, retry: false, retry_after: Duration::ZERO };
        assert_eq!(
            json(Line::refused(&refused).unwrap()),
            r#"{"event":"refused","send_id":5,"code":300,"name":"NOT_ACCEPTED","detail":"no","retry":false}"#
        );
        assert!(Line::refused(&SendError::Closed).is_none());
    }

    #[test]
    fn receipts_have_conversation_seq_and_user() {
        let receipt = Receipt { position: 9, conversation: 1, user: "bob".into(), seq: 7 };
        for (line, name) in [
            (Line::delivered(&receipt), "delivered"),
            (Line::read(&receipt), "read"),
            (Line::expired(&receipt), "expired"),
        ] {
            assert_eq!(json(line), format!(r#"{{"event":"{name}","conversation":1,"seq":7,"user":"bob"}}"#));
        }
    }

    #[test]
    fn the_connection_has_events_too() {
        assert_eq!(json(Line::CaughtUp), r#"{"event":"caught_up"}"#);
        assert_eq!(
            json(Line::Connected { device: "cli-1", resumed: true }),
            r#"{"event":"connected","device":"cli-1","resumed":true}"#
        );
        assert_eq!(
            json(Line::Disconnected { reason: "gone", retry_in_ms: 5 }),
            r#"{"event":"disconnected","reason":"gone","retry_in_ms":5}"#
        );
    }
}
