//! The judge: sees what clients see, and holds it against the guarantee (protocol/SPEC.md §1), clause by clause.
//!
//! It looks at nothing inside the server. What it is told: every frame that reaches a client, every send that leaves one,
//! and what an application has durably taken or read.
//!
//! # Layout
//! - `mod`: what it knows, and what a fault is
//! - [`wire`]: what one connection carried
//! - [`end`]: what must be true when everything has come to rest

pub mod end;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider_protocol::wire::{Message, Send, deliver::Entry, send};

use crate::runtime::Micros;

/// The clauses of the guarantee, and what serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// An acked message survives, and reaches every device entitled to it.
    AckedSurvives,
    /// Re-sending returns the first answer.
    FirstAnswer,
    /// An application sees each message exactly once.
    ExactlyOnce,
    /// In a conversation everyone sees one order, without gaps; an inbox keeps its entries at their positions.
    OneOrder,
    /// `delivered` and `read` are never false, and never go back.
    ReceiptsAreTrue,
    /// … and come in the end.
    ReceiptsCome,
    /// Refusal is told: every send is answered, no connection is closed without a word.
    RefusalIsTold,
    /// Expiry is told.
    ExpiryIsTold,
    /// What the spec says of a connection's stream (SEND-2, SEND-5, DLVR-1, DLVR-6, SYNC-3, SYNC-4).
    Stream,
    /// A client that keeps the rules is told it broke one.
    WrongError,
    /// Something should have happened by now.
    Stuck,
    /// Something was not given back.
    Leak,
}

/// The guarantee was broken.
#[derive(Clone, Debug)]
pub struct Fault {
    pub clause: Clause,
    pub what: String,
}

/// What has been done to the server, and excuses some of its answers.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    pub disk_failed: bool,
    pub unreadable: bool,
    pub stopped: bool,
    pub twins: bool,
    /// Devices, by user and name, that gave up a connection before they got an answer: the `Hello` may arrive later than
    /// that of the next connection, which is then replaced by a dead one.
    pub abandoned: BTreeSet<(String, String)>,
    /// Messages committed before this moment of the wall clock may have expired.
    pub swept_before: u64,
    pub swept: bool,
    /// Users of whom a device was revoked, or was away at a sweep: what it alone was entitled to may have gone with it.
    pub lost_devices: BTreeSet<String>,
}

/// A place in a conversation.
pub type Place = (u64, u64);

/// A message as everybody must see it.
#[derive(Clone, Debug)]
struct Fact {
    content: Bytes,
    sender: String,
    recipient: String,
    /// The server's.
    time: u64,
}

/// What was written to the server, for the first time.
#[derive(Clone, Debug)]
struct Sent {
    send: Send,
    at: Micros,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Ack { place: Place, time: u64 },
    Refused { code: u32 },
}

/// A device as the server numbers it.
#[derive(Debug)]
struct Device {
    user: String,
    /// Where it was linked.
    start: u64,
    /// When it was first welcomed.
    welcomed: Micros,
    gone: bool,
    took: BTreeSet<Place>,
    /// The highest position it was ever told.
    heard: u64,
    /// By conversation and user.
    delivered: BTreeMap<(u64, String), u64>,
    read: BTreeMap<(u64, String), u64>,
    expired: BTreeMap<(u64, String), u64>,
}

/// One life of an application: from a start without state on.
#[derive(Debug, Default)]
struct Life {
    position: u64,
    seqs: BTreeMap<u64, u64>,
}

/// What it counts, for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub messages: u64,
    pub repeats: u64,
    pub refusals: u64,
    pub receipts: u64,
    pub expiries: u64,
    pub taken: u64,
    pub logins: u64,
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, other: &Counts) {
        self.messages += other.messages;
        self.repeats += other.repeats;
        self.refusals += other.refusals;
        self.receipts += other.receipts;
        self.expiries += other.expiries;
        self.taken += other.taken;
        self.logins += other.logins;
    }
}

/// See the module.
#[derive(Default)]
pub struct Judge {
    pub now: Micros,
    pub excuses: Excuses,
    pub counts: Counts,
    pub seen: BTreeMap<String, u64>,
    /// Of every frame that reached a client so far, and the last of them in words.
    pub heard: u64,
    pub last: String,
    /// Whether words are wanted.
    pub tell: bool,
    fault: Option<Fault>,
    messages: BTreeMap<Place, Fact>,
    places: BTreeMap<Bytes, Place>,
    refused: BTreeSet<Bytes>,
    conversations: BTreeMap<[String; 2], u64>,
    sent: BTreeMap<(u64, u64), Sent>,
    /// Which device sent it, and under which number.
    origins: BTreeMap<Bytes, (u64, u64)>,
    answers: BTreeMap<(u64, u64), Answer>,
    entries: BTreeMap<(String, u64), Entry>,
    positions: BTreeMap<(String, Place), u64>,
    devices: BTreeMap<u64, Device>,
    /// By user and name: the device it is now.
    names: BTreeMap<(String, String), u64>,
    lives: BTreeMap<u64, Life>,
    /// By user: what some device of theirs has durably taken.
    taken: BTreeMap<String, BTreeSet<Place>>,
    /// By conversation and user: the highest `delivered` that anybody was told.
    claimed: BTreeMap<(u64, String), u64>,
    /// By conversation and user: what an application said it has read.
    marked: BTreeMap<(u64, String), u64>,
}

impl Judge {
    /// The first fault, if there was one.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The guarantee is broken; the first time counts.
    pub fn find(&mut self, clause: Clause, what: impl Into<String>) {
        self.fault.get_or_insert_with(|| Fault { clause, what: what.into() });
    }

    /// Counts something that happened.
    pub fn see(&mut self, what: &str) {
        match self.seen.get_mut(what) {
            Some(times) => *times += 1,
            None => drop(self.seen.insert(what.into(), 1)),
        }
    }

    fn check(&mut self, holds: bool, clause: Clause, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            self.find(clause, what);
        }
    }

    /// A device was told that it is no more.
    pub fn device_is_gone(&mut self, device: u64) {
        self.see("device gone");
        if let Some(device) = self.devices.get_mut(&device) {
            device.gone = true;
        }
    }

    /// The newest message to a user in each conversation that a device of theirs has taken.
    pub fn newest_taken(&self, user: &str) -> BTreeMap<u64, u64> {
        let to_user = |place: &&Place| self.messages.get(*place).is_some_and(|fact| fact.recipient == user);
        self.taken.get(user).into_iter().flatten().filter(to_user).copied().collect()
    }

    /// An application says that it has read.
    pub fn marked_read(&mut self, user: &str, conversation: u64, seq: u64) {
        let marked = self.marked.entry((conversation, user.into())).or_default();
        *marked = seq.max(*marked);
    }

    /// An application has durably taken an entry.
    pub fn took(&mut self, life: u64, device: u64, position: u64, entry: Option<&Entry>) {
        let state = self.lives.entry(life).or_default();
        let before = std::mem::replace(&mut state.position, position);
        self.check(position > before, Clause::ExactlyOnce, || format!("position {position} after {before}"));
        let Some(Entry::Message(message)) = entry else { return };
        self.counts.taken += 1;
        let place = (message.conversation, message.seq);
        let state = self.lives.entry(life).or_default();
        let before = state.seqs.insert(place.0, place.1).unwrap_or(0);
        let once = || format!("device {device} took {place:?} after seq {before}");
        self.check(place.1 > before, Clause::ExactlyOnce, once);
        let Some(state) = self.devices.get_mut(&device) else { return };
        state.took.insert(place);
        let user = state.user.clone();
        let first = self.taken.entry(user.clone()).or_default().insert(place);
        let claimed = self.claimed.get(&(place.0, user.clone())).copied().unwrap_or(0);
        if first && message.recipient == user && place.1 <= claimed && !self.is_excused(place) {
            self.find(
                Clause::ReceiptsAreTrue,
                format!("{user} takes {place:?} only now; {claimed} was told as delivered before"),
            );
        }
    }

    /// A send leaves its client.
    pub fn writes(&mut self, device: u64, send: &Send) -> bool {
        self.origins.entry(send.content.clone()).or_insert((device, send.send_id));
        let new = !self.sent.contains_key(&(device, send.send_id));
        if new {
            self.sent.insert((device, send.send_id), Sent { send: send.clone(), at: self.now });
        } else {
            self.counts.repeats += 1;
            self.see("repeated send");
        }
        new
    }

    fn answered(&mut self, device: u64, send_id: u64, answer: Answer) {
        let first = self.answers.entry((device, send_id)).or_insert_with(|| answer.clone()).clone();
        let differs = || format!("send {send_id} of device {device}: first {first:?}, now {answer:?}");
        self.check(first == answer, Clause::FirstAnswer, differs);
        let Some(Sent { send, .. }) = self.sent.get(&(device, send_id)).cloned() else {
            return self.find(Clause::FirstAnswer, format!("device {device} never sent {send_id}: {answer:?}"));
        };
        match answer {
            Answer::Refused { .. } => {
                self.counts.refusals += 1;
                let content = send.content.clone();
                self.refused.insert(send.content);
                let there = self.places.get(&content).copied();
                self.check(there.is_none(), Clause::RefusalIsTold, || format!("refused, and there: {there:?}"));
            }
            Answer::Ack { place, time } => {
                let sender = self.devices.get(&device).map(|device| device.user.clone()).unwrap_or_default();
                let recipient = match send.to {
                    Some(send::To::User(name)) => name,
                    _ => String::new(),
                };
                self.learn(place, Fact { content: send.content, sender, recipient, time });
            }
        }
    }

    fn saw(&mut self, message: &Message) {
        let Message { conversation, seq, sender, recipient, time, content } = message.clone();
        self.learn((conversation, seq), Fact { content, sender, recipient, time });
    }

    /// A message at its place: everybody must see the same one, and no other place may have it.
    fn learn(&mut self, place: Place, fact: Fact) {
        let mut pair = [fact.sender.clone(), fact.recipient.clone()];
        pair.sort();
        let known = *self.conversations.entry(pair).or_insert(place.0);
        self.check(known == place.0, Clause::OneOrder, || format!("two conversations, {known} and {place:?}"));
        self.check(place.1 > 0, Clause::OneOrder, || format!("no seq: {place:?}"));
        let refused = self.refused.contains(&fact.content);
        self.check(!refused, Clause::RefusalIsTold, || format!("{fact:?} was refused and is there: {place:?}"));
        let written = self.origins.contains_key(&fact.content);
        self.check(written, Clause::OneOrder, || format!("nobody wrote {fact:?} at {place:?}"));
        let elsewhere = *self.places.entry(fact.content.clone()).or_insert(place);
        let twice = || format!("{:?} is at {elsewhere:?} and at {place:?}", fact.content);
        self.check(elsewhere == place, Clause::ExactlyOnce, twice);
        let Some(first) = self.messages.get(&place) else {
            self.counts.messages += 1;
            self.messages.insert(place, fact);
            return;
        };
        let same = first.content == fact.content && first.sender == fact.sender && first.recipient == fact.recipient;
        if !same || first.time != fact.time {
            let what = format!("at {place:?} was {first:?}, now is {fact:?}");
            self.find(Clause::OneOrder, what);
        }
    }

    /// Whether a message may have expired, or gone with a device.
    fn is_excused(&self, place: Place) -> bool {
        let Some(fact) = self.messages.get(&place) else { return false };
        fact.time < self.excuses.swept_before || self.excuses.lost_devices.contains(&fact.recipient)
    }
}
