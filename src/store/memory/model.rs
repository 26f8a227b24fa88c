//! What there is, and the operations on users, devices and messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_protocol::{encode, limits, name, wire};

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::record::MAX_CODES;
use crate::store::{
    Answer, Committed, Few, Item, Operation, Outcome, Publication, ReadUpTo, Received, Recipient, Refusal, Send,
};

#[derive(Default)]
pub(super) struct Model {
    pub(super) apps: BTreeMap<AppId, AppState>,
}

#[derive(Default)]
pub(super) struct AppState {
    pub(super) name: String,
    pub(super) last_user: u64,
    pub(super) last_device: u64,
    pub(super) last_conversation: u64,
    pub(super) users: BTreeMap<UserId, UserState>,
    pub(super) conversations: BTreeMap<ConversationId, ConversationState>,
}

#[derive(Default)]
pub(super) struct UserState {
    pub(super) name: String,
    /// Hash and expiry, oldest first.
    pub(super) codes: Vec<([u8; 32], u64)>,
    pub(super) devices: BTreeMap<DeviceId, DeviceState>,
    pub(super) head: Position,
    /// Every entry up to here was confirmed by some device, or expired.
    pub(super) confirmed: Position,
    pub(super) inbox: BTreeMap<Position, Entry>,
}

pub(super) struct DeviceState {
    pub(super) name: String,
    pub(super) key: Option<[u8; 32]>,
    /// Where it was linked: it covers what comes after.
    pub(super) start: Position,
    pub(super) cursor: Position,
    pub(super) linked: u64,
    pub(super) seen: u64,
    pub(super) highest: SendId,
    pub(super) answers: BTreeMap<SendId, (Recipient, Bytes, Answer)>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) origin: DeviceId,
    pub(super) item: Item,
    /// What the model must know of a message without decoding it; `None` for receipts.
    pub(super) message: Option<Facts>,
}

#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) conversation: ConversationId,
    pub(super) seq: Seq,
    pub(super) sender: UserId,
    pub(super) time: u64,
}

pub(super) struct ConversationState {
    /// The same user twice for notes to oneself.
    pub(super) members: [UserId; 2],
    pub(super) head: Seq,
    pub(super) marks: BTreeMap<UserId, Marks>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    pub(super) delivered: Seq,
    pub(super) read: Seq,
    /// What the user's devices said they have read, however much of it is confirmed.
    pub(super) wanted: Seq,
}

/// One operation's view of its app.
pub(super) struct Deciding<'a> {
    pub(super) id: AppId,
    pub(super) app: &'a mut AppState,
    pub(super) published: &'a mut Few<Publication>,
}

impl Model {
    pub(super) fn decide(&mut self, batch: &[Operation]) -> Committed {
        let mut committed = Committed::default();
        for operation in batch {
            let outcome = self.decide_one(operation, &mut committed.published).unwrap_or_else(Outcome::Refused);
            committed.outcomes.push(outcome);
        }
        committed
    }

    pub(super) fn user(&self, app: AppId, user: UserId) -> Option<&UserState> {
        self.apps.get(&app)?.users.get(&user)
    }

    pub(super) fn users(&self, app: AppId) -> impl Iterator<Item = (UserId, &UserState)> {
        self.apps.get(&app).into_iter().flat_map(|app| app.users.iter().map(|(&id, user)| (id, user)))
    }

    fn decide_one(&mut self, operation: &Operation, published: &mut Few<Publication>) -> Result<Outcome, Refusal> {
        let id = match operation {
            Operation::EnsureApp(name) => return Ok(Outcome::App(self.ensure_app(name))),
            within => within.app().unwrap_or_default(),
        };
        match self.apps.get_mut(&id) {
            Some(app) => Deciding { id, app, published }.decide(operation),
            None => without_app(operation),
        }
    }

    fn ensure_app(&mut self, name: &str) -> AppId {
        if let Some((&id, _)) = self.apps.iter().find(|(_, app)| app.name == name) {
            return id;
        }
        let id = AppId(self.apps.len() as u32 + 1);
        self.apps.insert(id, AppState { name: name.to_owned(), ..AppState::default() });
        id
    }
}

/// What is answered in an app that does not exist.
fn without_app(operation: &Operation) -> Result<Outcome, Refusal> {
    match operation {
        Operation::Send(_) | Operation::Received(_) | Operation::ReadUpTo(_) => Err(Refusal::DeviceExpired),
        Operation::RemoveUser { .. } | Operation::AddCode { .. } | Operation::RevokeDevice { .. } => {
            Err(Refusal::NotAccepted)
        }
        Operation::Sweep(_) => Ok(Outcome::Swept { next: None, devices: 0, entries: 0 }),
        Operation::EnsureApp(_) | Operation::Attach(_) | Operation::AddUser { .. } => Err(Refusal::UnknownApp),
    }
}

impl AppState {
    pub(super) fn user_named(&self, name: &str) -> Option<UserId> {
        self.users.iter().find(|(_, user)| user.name == name).map(|(&id, _)| id)
    }

    pub(super) fn device_named(&self, user: UserId, name: &str) -> Option<DeviceId> {
        self.users.get(&user)?.devices.iter().find(|(_, device)| device.name == name).map(|(&id, _)| id)
    }

    /// A user that is known to exist.
    pub(super) fn user(&mut self, id: UserId) -> &mut UserState {
        self.users.get_mut(&id).expect("the caller has seen this user")
    }

    /// A device of that user, if both exist.
    pub(super) fn device(&mut self, user: UserId, device: DeviceId) -> Option<&mut DeviceState> {
        self.users.get_mut(&user)?.devices.get_mut(&device)
    }

    pub(super) fn make_user(&mut self, name: &str) -> UserId {
        self.last_user += 1;
        let id = UserId(self.last_user);
        self.users.insert(id, UserState { name: name.to_owned(), ..UserState::default() });
        id
    }

    fn direct(&mut self, a: UserId, b: UserId) -> ConversationId {
        let of_both = |known: &ConversationState| known.members == [a, b] || known.members == [b, a];
        if let Some((&id, _)) = self.conversations.iter().find(|(_, known)| of_both(known)) {
            return id;
        }
        self.last_conversation += 1;
        let id = ConversationId(self.last_conversation);
        let marks = [(a, Marks::default()), (b, Marks::default())].into();
        self.conversations.insert(id, ConversationState { members: [a, b], head: Seq(0), marks });
        id
    }
}

impl UserState {
    pub(super) fn message_count(&self) -> u64 {
        self.inbox.values().filter(|entry| entry.message.is_some()).count() as u64
    }
}

impl ConversationState {
    /// The other member; oneself in notes to oneself. `None` for who is not a member.
    pub(super) fn other(&self, user: UserId) -> Option<UserId> {
        match self.members {
            [a, b] if a == user => Some(b),
            [a, b] if b == user => Some(a),
            _ => None,
        }
    }
}

impl Deciding<'_> {
    fn decide(&mut self, operation: &Operation) -> Result<Outcome, Refusal> {
        match operation {
            Operation::EnsureApp(_) => unreachable!("made before there is an app to decide in"),
            Operation::Attach(attach) => self.attach(attach).map(Outcome::Attached),
            Operation::Send(send) => self.send(send).map(Outcome::Answer),
            Operation::Received(received) => self.received(received),
            Operation::ReadUpTo(read) => self.read_up_to(read),
            Operation::AddUser { name, .. } => {
                if self.app.user_named(name).is_none() {
                    self.app.make_user(name);
                }
                Ok(Outcome::Done)
            }
            Operation::RemoveUser { name, .. } => {
                let user = self.app.user_named(name).ok_or(Refusal::NotAccepted)?;
                self.remove_user(user);
                Ok(Outcome::Done)
            }
            Operation::AddCode { user, hash, expires, .. } => {
                let user = self.app.user_named(user).ok_or(Refusal::NotAccepted)?;
                let codes = &mut self.app.user(user).codes;
                codes.retain(|(known, _)| known != hash);
                codes.push((*hash, *expires));
                if codes.len() > MAX_CODES {
                    codes.remove(0);
                }
                Ok(Outcome::Done)
            }
            Operation::RevokeDevice { user, device, .. } => {
                let user = self.app.user_named(user).ok_or(Refusal::NotAccepted)?;
                let device = self.app.device_named(user, device).ok_or(Refusal::NotAccepted)?;
                self.remove_device(user, device);
                Ok(Outcome::Revoked(device))
            }
            Operation::Sweep(sweep) => Ok(self.sweep(sweep)),
        }
    }

    fn send(&mut self, send: &Send) -> Result<Answer, Refusal> {
        let device = self.app.device(send.user, send.device).ok_or(Refusal::DeviceExpired)?;
        let id = send.send_id;
        if id.0 == 0 || id.0 > device.highest.0 + 1 {
            return Err(Refusal::SendIdGap);
        }
        if id <= device.highest {
            let (to, content, answer) = device.answers.get(&id).ok_or(Refusal::SendIdTooOld)?;
            return if (to, content) == (&send.to, &send.content) { Ok(*answer) } else { Err(Refusal::SendIdReused) };
        }
        let answer = match self.accept(send) {
            Ok((conversation, seq)) => Answer::Ack { send_id: id, conversation, seq, time: send.now },
            Err(refusal) => Answer::Refused { send_id: id, refusal },
        };
        let device = self.app.device(send.user, send.device).expect("seen above");
        device.highest = id;
        device.answers.insert(id, (send.to.clone(), send.content.clone(), answer));
        if device.answers.len() > limits::KEPT_ANSWERS {
            device.answers.pop_first();
        }
        Ok(answer)
    }

    fn accept(&mut self, send: &Send) -> Result<(ConversationId, Seq), Refusal> {
        if let Some(refusal) = send.refuse {
            return Err(refusal);
        }
        // `None`: to be made, once nothing can refuse the message any more.
        let recipient = match &send.to {
            Recipient::User(name) => self.app.user_named(name),
            Recipient::Conversation(id) => {
                let conversation = self.app.conversations.get(id).ok_or(Refusal::NotAccepted)?;
                let other = conversation.other(send.user).ok_or(Refusal::NotAccepted)?;
                Some(self.app.users.contains_key(&other).then_some(other).ok_or(Refusal::NotAccepted)?)
            }
        };
        let waiting = recipient.map_or(0, |recipient| self.app.users[&recipient].message_count());
        let recipient = match (recipient, &send.to) {
            (Some(recipient), _) if waiting < send.inbox_limit => recipient,
            (Some(_), _) => return Err(Refusal::InboxFull),
            (None, Recipient::User(new)) if send.create_recipient && name::check("recipient", new).is_ok() => {
                if send.inbox_limit == 0 {
                    return Err(Refusal::InboxFull);
                }
                self.app.make_user(new)
            }
            (None, _) => return Err(Refusal::NotAccepted),
        };

        let id = self.app.direct(send.user, recipient);
        let conversation = self.app.conversations.get_mut(&id).expect("made if it was new");
        conversation.head.0 += 1;
        let seq = conversation.head;
        let message = encode::message(&wire::Message {
            conversation: id.0,
            seq: seq.0,
            sender: self.app.user(send.user).name.clone(),
            recipient: self.app.user(recipient).name.clone(),
            time: send.now,
            content: send.content.clone(),
        });
        let facts = Facts { conversation: id, seq, sender: send.user, time: send.now };
        let entry = Entry { origin: DeviceId(0), item: Item::Message(message), message: Some(facts) };
        self.append(recipient, entry.clone());
        if recipient != send.user && self.app.user(send.user).devices.len() > 1 {
            self.append(send.user, Entry { origin: send.device, ..entry });
        }
        Ok((id, seq))
    }

    fn received(&mut self, received: &Received) -> Result<Outcome, Refusal> {
        let cursor = self.app.device(received.user, received.device).ok_or(Refusal::DeviceExpired)?.cursor;
        if received.position > self.app.user(received.user).head {
            return Err(Refusal::PositionNotDelivered);
        }
        if received.position <= cursor {
            return Ok(Outcome::Received(cursor));
        }
        self.confirm(received.user, received.device, received.position, received.now);
        Ok(Outcome::Received(received.position))
    }

    fn read_up_to(&mut self, read: &ReadUpTo) -> Result<Outcome, Refusal> {
        self.app.device(read.user, read.device).ok_or(Refusal::DeviceExpired)?;
        let conversation = self.app.conversations.get_mut(&read.conversation).ok_or(Refusal::UnknownConversation)?;
        let marks = conversation.marks.get_mut(&read.user).ok_or(Refusal::UnknownConversation)?;
        if read.seq > conversation.head {
            return Err(Refusal::SeqNotSent);
        }
        marks.wanted = marks.wanted.max(read.seq);
        self.raise_read(read.user, read.conversation, read.device);
        Ok(Outcome::Read(self.app.conversations[&read.conversation].marks[&read.user].read))
    }
}
