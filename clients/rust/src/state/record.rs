//! How a [`FileState`](super::FileState) writes a commit: one record, so that it is there as a whole or not at all.
//!
//! A record is length (4 bytes, big endian), CRC32C (4 bytes), payload. The checksum also covers the file's salt and
//! the record's offset, so that bytes which merely look like a record (old disk blocks, message content) are none.

use bytes::Bytes;
use postrider_protocol::wire;
use prost::Message as _;

use super::{Change, Owner, QueuedSend, Saved};
use crate::To;

/// Bytes before a record's payload.
pub(super) const HEAD_BYTES: usize = 8;

/// Appends one record that starts at `offset` of a file salted with `salt`.
pub(super) fn put(changes: &[Change], salt: u64, offset: u64, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let commit = Commit { changes: changes.iter().filter_map(to_record).collect() };
    let payload = commit.encode_to_vec();
    let length = u32::try_from(payload.len()).map_err(|_| "a commit of 4 GiB")?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&checksum(salt, offset, &payload).to_be_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// The record at `offset` of the file's bytes, and where the next one starts; `None` if there is no whole valid record.
pub(super) fn take(file: &Bytes, salt: u64, offset: usize) -> Option<(Vec<Change>, usize)> {
    let head = file.get(offset..offset.checked_add(HEAD_BYTES)?)?;
    let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let stored = u32::from_be_bytes(*head.last_chunk()?);
    let start = offset + HEAD_BYTES;
    let end = start.checked_add(length)?;
    if end > file.len() || checksum(salt, offset as u64, &file[start..end]) != stored {
        return None;
    }
    let commit = Commit::decode(file.slice(start..end)).ok()?;
    let changes = commit.changes.into_iter().map(from_record).collect::<Option<Vec<_>>>()?;
    Some((changes, end))
}

/// The changes that make an empty state into this one; the key is kept elsewhere.
pub(super) fn snapshot(saved: &Saved) -> Vec<Change> {
    let mut changes = Vec::with_capacity(saved.unanswered.len() + 4);
    changes.extend(saved.owner.clone().map(Change::Owner));
    changes.push(Change::DeviceId(saved.device_id));
    changes.push(Change::Cursor(saved.cursor));
    changes.push(Change::HighestSendId(saved.highest_send_id));
    changes.extend(saved.unanswered.iter().cloned().map(Change::Queued));
    changes
}

fn checksum(salt: u64, offset: u64, payload: &[u8]) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&salt.to_be_bytes());
    place[8..16].copy_from_slice(&offset.to_be_bytes());
    place[16..].copy_from_slice(&(payload.len() as u64).to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), payload)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Commit {
    #[prost(message, repeated, tag = "1")]
    changes: Vec<Record>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Owner(OwnerRecord),
    #[prost(uint64, tag = "2")]
    DeviceId(u64),
    #[prost(uint64, tag = "3")]
    Cursor(u64),
    #[prost(uint64, tag = "4")]
    HighestSendId(u64),
    #[prost(message, tag = "5")]
    Queued(wire::Send),
    #[prost(uint64, tag = "6")]
    Answered(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct OwnerRecord {
    #[prost(string, tag = "1")]
    app: String,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(string, tag = "3")]
    device: String,
}

fn to_record(change: &Change) -> Option<Record> {
    let kind = match change.clone() {
        Change::Owner(Owner { app, user, device }) => Kind::Owner(OwnerRecord { app, user, device }),
        Change::DeviceId(id) => Kind::DeviceId(id),
        Change::Cursor(position) => Kind::Cursor(position),
        Change::HighestSendId(id) => Kind::HighestSendId(id),
        Change::Queued(send) => Kind::Queued(send.into_wire()),
        Change::Answered(send_id) => Kind::Answered(send_id),
        // Has a file of its own.
        Change::Key(_) => return None,
    };
    Some(Record { kind: Some(kind) })
}

fn from_record(record: Record) -> Option<Change> {
    Some(match record.kind? {
        Kind::Owner(OwnerRecord { app, user, device }) => Change::Owner(Owner { app, user, device }),
        Kind::DeviceId(id) => Change::DeviceId(id),
        Kind::Cursor(position) => Change::Cursor(position),
        Kind::HighestSendId(id) => Change::HighestSendId(id),
        Kind::Queued(send) => Change::Queued(QueuedSend::from_wire(send)?),
        Kind::Answered(send_id) => Change::Answered(send_id),
    })
}

impl QueuedSend {
    pub(crate) fn into_wire(self) -> wire::Send {
        wire::Send { send_id: self.send_id, to: Some(self.to.into_wire()), content: self.content }
    }

    fn from_wire(send: wire::Send) -> Option<Self> {
        let to = To::from_wire(send.to?);
        Some(Self { send_id: send.send_id, to, content: send.content })
    }
}
