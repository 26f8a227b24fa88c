//! The words of the store's interface.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::error::ErrorCode;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};

/// One thing asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The number of the app of this name, which is made if it is new → [`Outcome::App`].
    EnsureApp(String),
    /// A device logs in → [`Outcome::Attached`].
    Attach(Attach),
    /// A message → [`Outcome::Answer`].
    Send(Send),
    /// A device confirms → [`Outcome::Received`].
    Received(Received),
    /// A user has read → [`Outcome::Read`].
    ReadUpTo(ReadUpTo),
    /// Makes a user who has no device yet → [`Outcome::Done`]; nothing happens if it exists.
    AddUser {
        /// In which app.
        app: AppId,
        /// Checked by the caller (NAME-1).
        name: String,
    },
    /// Removes a user with devices, inbox and codes → [`Outcome::Done`], or `Refused(NotAccepted)` if there is none.
    /// What no device had taken expires, and senders are told.
    /// Conversations stay, so that the others keep their `seq`; a later user of that name is another user.
    RemoveUser {
        /// In which app.
        app: AppId,
        /// The user's name.
        name: String,
    },
    /// Keeps the hash of a one-time enrolment code of a user → [`Outcome::Done`], or `Refused(NotAccepted)` if there is
    /// no such user. A user has at most [`MAX_CODES`] codes; the oldest gives way.
    AddCode {
        /// In which app.
        app: AppId,
        /// The user's name.
        user: String,
        /// SHA-256 of the code.
        hash: [u8; 32],
        /// The first moment at which it is no longer good, in milliseconds since 1970.
        expires: u64,
    },
    /// Revokes a device by name → [`Outcome::Revoked`], or `Refused(NotAccepted)` if there is none.
    RevokeDevice {
        /// In which app.
        app: AppId,
        /// The user's name.
        user: String,
        /// The device's name.
        device: String,
    },
    /// Expires devices and entries → [`Outcome::Swept`].
    Sweep(Sweep),
}

impl Operation {
    /// The app it is about; `None` for [`Operation::EnsureApp`], which names one.
    #[must_use]
    pub fn app(&self) -> Option<AppId> {
        match self {
            Operation::EnsureApp(_) => None,
            Operation::Attach(Attach { app, .. })
            | Operation::Send(Send { app, .. })
            | Operation::Received(Received { app, .. })
            | Operation::ReadUpTo(ReadUpTo { app, .. })
            | Operation::AddUser { app, .. }
            | Operation::RemoveUser { app, .. }
            | Operation::AddCode { app, .. }
            | Operation::RevokeDevice { app, .. }
            | Operation::Sweep(Sweep { app, .. }) => Some(*app),
        }
    }
}

/// Codes a user may have waiting at once.
pub const MAX_CODES: usize = 8;

/// A device logs in: it is found or made, its cursor moves up to what the client says, and it counts as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// In which app.
    pub app: AppId,
    /// The user's name, checked by the caller (NAME-1).
    pub user: String,
    /// The device's name, checked by the caller (NAME-1).
    pub device: String,
    /// The device's number as the client knows it; `DeviceId(0)` when the client holds no state.
    pub device_id: DeviceId,
    /// What the client has durably taken.
    pub cursor: Position,
    /// How the client showed who it is.
    pub admission: Admission,
    /// Now, in milliseconds since 1970.
    pub now: u64,
}

/// How a client was let in. The proofs themselves were checked before; what must be decided atomically is decided here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Any name: user and device are made if they are new.
    Open,
    /// The device has proved that it holds this key; refused if the device's key is another by now.
    Key([u8; 32]),
    /// The code with this hash is used up, and the device of that name, made if it is new, gets this key. Refused if it
    /// has another; if it has this one, the code is not looked at.
    Enroll {
        /// SHA-256 of the code.
        code_hash: [u8; 32],
        /// The device's Ed25519 public key.
        key: [u8; 32],
    },
}

/// What [`Attach`] found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The user's number.
    pub user: UserId,
    /// The device's number.
    pub device: DeviceId,
    /// The highest accepted `send_id`.
    pub highest_send_id: SendId,
    /// The device's cursor: streaming starts after it.
    pub cursor: Position,
    /// The newest position of the inbox, durable.
    pub head: Position,
}

/// A message to be sequenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// In which app.
    pub app: AppId,
    /// Who sends.
    pub user: UserId,
    /// From which of its devices.
    pub device: DeviceId,
    /// The device's counter.
    pub send_id: SendId,
    /// To whom.
    pub to: Recipient,
    /// Opaque.
    pub content: Bytes,
    /// A refusal decided before the store saw it (a bad name, content too large): it consumes the `send_id` all the same.
    pub refuse: Option<Refusal>,
    /// Whether a recipient that does not exist is made (open apps).
    pub create_recipient: bool,
    /// Entries an inbox may hold; a send into a fuller one is refused.
    pub inbox_limit: u64,
    /// Now, in milliseconds since 1970.
    pub now: u64,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The direct conversation with the user of this name.
    User(String),
    /// A conversation the sender is a member of.
    Conversation(ConversationId),
}

/// A device has durably taken every entry up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// In which app.
    pub app: AppId,
    /// Whose inbox.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Everything up to here. Lower than the cursor is ignored; never above what the session delivered.
    pub position: Position,
    /// Now, in milliseconds since 1970.
    pub now: u64,
}

/// A user has read a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadUpTo {
    /// In which app.
    pub app: AppId,
    /// Who read.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Which conversation.
    pub conversation: ConversationId,
    /// Everything up to here; lowered to what this user's devices have confirmed (RCPT-6).
    pub seq: Seq,
}

/// A slice of housekeeping: the users of `app` after `after`, in the order of their numbers, `limit` at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// In which app.
    pub app: AppId,
    /// Continue after this user.
    pub after: UserId,
    /// How many users to look at.
    pub limit: usize,
    /// Devices last seen before this moment, and message entries committed before it, are expired. Milliseconds since
    /// 1970. A connected device counts as seen (`connected`).
    pub before: u64,
    /// Devices that are connected now.
    pub connected: Arc<HashSet<DeviceId>>,
}

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The app's number.
    App(AppId),
    /// The device is attached.
    Attached(Attached),
    /// The answer to a send: the first one, however often it is sent.
    Answer(Answer),
    /// The device's cursor after the confirmation.
    Received(Position),
    /// The user's `read` watermark after the operation.
    Read(Seq),
    /// The device that is no more.
    Revoked(DeviceId),
    /// Housekeeping: where to go on (`None`: the app is done), and the devices expired.
    Swept {
        /// The last user looked at, if there are more.
        next: Option<UserId>,
        /// How many devices expired.
        devices: u64,
        /// How many message entries expired.
        entries: u64,
    },
    /// It is done.
    Done,
    /// It was refused, and nothing changed.
    Refused(Refusal),
}

/// What a sender is told, kept for the last 256 `send_id`s of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message is committed.
    Ack {
        /// Which send.
        send_id: SendId,
        /// Its conversation.
        conversation: ConversationId,
        /// Its number there.
        seq: Seq,
        /// When, in milliseconds since 1970.
        time: u64,
    },
    /// The message was refused and its `send_id` consumed.
    Refused {
        /// Which send.
        send_id: SendId,
        /// Why.
        refusal: Refusal,
    },
}

/// Why an operation was refused: one of the protocol's codes, so that nothing is translated twice.
///
/// The store itself decides: `NotAccepted`, `InboxFull` (consume the `send_id`); `SendIdReused`, `SendIdGap`,
/// `SendIdTooOld` (do not: they are [`Outcome::Refused`] and close the connection); `LoginFailed`, `DeviceExpired`,
/// `TooManyDevices`, `CursorAhead` (attach; `DeviceExpired` also for any operation of a device that is gone);
/// `UnknownApp` (attach and add a user in an app that was never made); `UnknownConversation`, `SeqNotSent` (read); `PositionNotDelivered` (received above the inbox's head).
pub type Refusal = ErrorCode;

/// A committed batch: one outcome per operation, in order, and what is to be published, in order of position per inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each operation, in their order.
    pub outcomes: Few<Outcome>,
    /// New inbox entries.
    pub published: Few<Publication>,
}

/// Most batches have one operation, and most operations have one thing to tell: that takes no memory of its own, which the
/// store's thread would have to give back to another's.
pub type Few<T> = SmallVec<[T; 1]>;

/// A new entry of somebody's inbox. Positions are given one after the other; they get gaps when entries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// In which app.
    pub app: AppId,
    /// Whose inbox.
    pub user: UserId,
    /// The entry.
    pub entry: InboxEntry,
}

/// One entry of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxEntry {
    /// Where.
    pub position: Position,
    /// The device whose doing this is and which therefore needs not be told; `DeviceId(0)` when all are told.
    pub origin: DeviceId,
    /// What.
    pub item: Item,
}

/// What an inbox entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message, as the protobuf encoding of `wire::Message`: encoded once, sent many times.
    Message(Bytes),
    /// Somebody's devices have taken messages.
    Delivered(Receipt),
    /// Somebody has read messages.
    Read(Receipt),
    /// Messages expired before somebody took them.
    Expired(Receipt),
}

/// A watermark of one member of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Whose watermark, by name.
    pub user: SmolStr,
    /// Up to here.
    pub seq: Seq,
}

/// How much [`read_inbox`](super::Store::read_inbox) may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Entries at most.
    pub entries: usize,
    /// Bytes of message encodings, roughly, at most.
    pub bytes: usize,
}

/// A piece of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub entries: Vec<InboxEntry>,
    /// Whether there is nothing more up to the position asked for.
    pub complete: bool,
}

/// An app as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its number.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// How many users it has.
    pub users: u64,
}

/// A user as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// Its devices, oldest first.
    pub devices: Vec<Device>,
    /// The newest position of the inbox.
    pub head: Position,
    /// Entries in the inbox.
    pub entries: u64,
}

/// A device as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// Its key, when it was enrolled with one.
    pub key: Option<[u8; 32]>,
    /// Its cursor.
    pub cursor: Position,
    /// When it was made, in milliseconds since 1970.
    pub linked: u64,
    /// When it last logged in or confirmed, in milliseconds since 1970.
    pub seen: u64,
}
