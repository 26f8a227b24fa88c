//! Inbox entries: one by one in the journal, in chunks in sled.

use bytes::Bytes;
use smol_str::SmolStr;

use super::{Reader, Record, put_bytes, put_number};
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{Item, Receipt};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub position: Position,
    /// The device whose doing this is; `DeviceId(0)` for none.
    pub origin: DeviceId,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Content {
    Message(MessageFacts, Body),
    Receipt(ReceiptFacts),
}

/// What the sequencer must know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct MessageFacts {
    pub conversation: ConversationId,
    pub seq: Seq,
    pub sender: UserId,
    pub time: u64,
}

/// A message's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Body {
    Here(Bytes),
    /// In so many pieces, under keys of their own.
    Pieces(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ReceiptFacts {
    pub kind: ReceiptKind,
    pub conversation: ConversationId,
    pub user: UserId,
    /// The user may be gone when this is read.
    pub name: SmolStr,
    pub seq: Seq,
}

/// Never renumbered: they are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(in super::super) enum ReceiptKind {
    Delivered = 1,
    Read = 2,
    Expired = 3,
}

/// On disk beside the kinds of receipts.
const MESSAGE: u8 = 0;
const MESSAGE_IN_PIECES: u8 = 4;

/// Entries that lie in one row, in the order of their positions.
#[derive(Debug, Default)]
pub(in super::super) struct Chunk {
    /// Where the entries before these end that sled had or got with these: a row that is gone would leave a gap.
    pub before: Position,
    pub entries: Vec<Entry>,
}

impl ReceiptKind {
    pub(in super::super) fn from_number(number: u8) -> Option<ReceiptKind> {
        match number {
            1 => Some(ReceiptKind::Delivered),
            2 => Some(ReceiptKind::Read),
            3 => Some(ReceiptKind::Expired),
            _ => None,
        }
    }
}

impl ReceiptFacts {
    /// What an inbox is told.
    pub(in super::super) fn item(&self) -> Item {
        let receipt = Receipt { conversation: self.conversation, user: self.name.clone(), seq: self.seq };
        match self.kind {
            ReceiptKind::Delivered => Item::Delivered(receipt),
            ReceiptKind::Read => Item::Read(receipt),
            ReceiptKind::Expired => Item::Expired(receipt),
        }
    }
}

impl Record for Entry {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.position.0);
        put_number(out, self.origin.0);
        match &self.content {
            Content::Message(MessageFacts { conversation, seq, sender, time }, body) => {
                out.push(if let Body::Here(_) = body { MESSAGE } else { MESSAGE_IN_PIECES });
                for number in [conversation.0, seq.0, sender.0, *time] {
                    put_number(out, number);
                }
                match body {
                    Body::Here(encoded) => put_bytes(out, encoded),
                    Body::Pieces(pieces) => put_number(out, u64::from(*pieces)),
                }
            }
            Content::Receipt(ReceiptFacts { kind, conversation, user, name, seq }) => {
                out.push(*kind as u8);
                for number in [conversation.0, seq.0, user.0] {
                    put_number(out, number);
                }
                put_bytes(out, name.as_bytes());
            }
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let (position, origin) = (Position(from.number()?), DeviceId(from.number()?));
        let kind = from.u8()?;
        let (conversation, seq) = (ConversationId(from.number()?), Seq(from.number()?));
        let user = UserId(from.number()?);
        let content = match kind {
            MESSAGE | MESSAGE_IN_PIECES => {
                let facts = MessageFacts { conversation, seq, sender: user, time: from.number()? };
                let body = match kind {
                    MESSAGE => Body::Here(from.bytes()?),
                    _ => Body::Pieces(u32::try_from(from.number()?).ok()?),
                };
                Content::Message(facts, body)
            }
            receipt => {
                let kind = ReceiptKind::from_number(receipt)?;
                Content::Receipt(ReceiptFacts { kind, conversation, user, name: from.text()?.into(), seq })
            }
        };
        Some(Entry { position, origin, content })
    }
}

impl Record for Chunk {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.before.0);
        for entry in &self.entries {
            entry.write(out);
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let before = Position(from.number()?);
        let mut entries = Vec::new();
        while !from.is_empty() {
            entries.push(Entry::read(from)?);
        }
        Some(Chunk { before, entries })
    }
}
