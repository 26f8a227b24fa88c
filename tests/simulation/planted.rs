//! Bugs on purpose: what the simulation must find to be believed.
//!
//! None of them is in the server. Those of the store change what goes into or comes out of it; those of the connection and
//! the client are switches in this harness's own tasks.

use std::collections::{BTreeMap, BTreeSet};

use postrider::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use postrider::store::{
    Answer, Attach, Batch, Committed, InboxEntry, Item, Operation, Outcome, Page, Publication, ReadLimit, ReadUpTo,
    Received, StoreError,
};
use postrider_protocol::{encode, wire};
use prost::Message as _;

use crate::truth::Truth;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The store does not look whether a `send_id` was answered before.
    ForgetsSendIds,
    /// A repeated `send_id` gets another answer than the first time.
    AnswersARepetitionAnew,
    /// The store calls completions before it has synced.
    AcksBeforeTheSync,
    /// What was synced last is not there after a restart.
    LosesTheLastBatch,
    /// After a restart a conversation gives its last `seq` once more.
    ReusesASeqAfterARestart,
    /// Streaming resumes one position too late.
    ResumesOnePositionLate,
    /// A page of the inbox that was cut short counts as the whole backlog.
    TakesACutPageForTheWhole,
    /// Inboxes are read beyond what is durable.
    ReadsWhatIsNotDurable,
    /// A device's confirmation moves the cursors of the user's other devices.
    ConfirmsForTheOtherDevices,
    /// A user's `read` moves the other member's watermark, too.
    MovesTheOthersWatermark,
    /// A refusal uses the `send_id` up and is not told.
    RefusesInSilence,
    /// Messages expire and nobody is told.
    ExpiresInSilence,
    /// A device is told of its own doing.
    TellsTheOrigin,
    /// Messages of a page are in the order of their times.
    OrdersByTheWallClock,
    /// Of several `delivered` receipts only the last is kept, whatever their conversations.
    CoalescesAcrossConversations,
    /// What is published in an app reaches the users with the same numbers in others.
    PublishesAcrossApps,
    /// The connection looks for output first and asks to be woken afterwards, and not at all when it has just written.
    LosesWakeUps,
    /// The connection confirms for the client what it has written.
    ConfirmsWhatItWrote,
    /// `CaughtUp` is said before the backlog is through.
    IsCaughtUpTooEarly,
    /// The client's window is ignored.
    IgnoresTheWindow,
    /// The connection closes without saying why.
    ClosesInSilence,
    /// A connection that ends keeps its seat in the hub.
    KeepsItsSeat,
    /// The client confirms before the entry is safe.
    ClientConfirmsTooEarly,
    /// The client sends what has no answer again under new numbers.
    ClientRenumbers,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 24] = [
        Bug::ForgetsSendIds,
        Bug::AnswersARepetitionAnew,
        Bug::AcksBeforeTheSync,
        Bug::LosesTheLastBatch,
        Bug::ReusesASeqAfterARestart,
        Bug::ResumesOnePositionLate,
        Bug::TakesACutPageForTheWhole,
        Bug::ReadsWhatIsNotDurable,
        Bug::ConfirmsForTheOtherDevices,
        Bug::MovesTheOthersWatermark,
        Bug::RefusesInSilence,
        Bug::ExpiresInSilence,
        Bug::TellsTheOrigin,
        Bug::OrdersByTheWallClock,
        Bug::CoalescesAcrossConversations,
        Bug::PublishesAcrossApps,
        Bug::LosesWakeUps,
        Bug::ConfirmsWhatItWrote,
        Bug::IsCaughtUpTooEarly,
        Bug::IgnoresTheWindow,
        Bug::ClosesInSilence,
        Bug::KeepsItsSeat,
        Bug::ClientConfirmsTooEarly,
        Bug::ClientRenumbers,
    ];
}

/// Stands before the true store and, if there is a bug in it, makes it.
pub struct Tamper {
    bug: Option<Bug>,
    users: BTreeMap<String, UserId>,
    devices: BTreeMap<UserId, BTreeSet<DeviceId>>,
    /// By number: the names of the two members.
    members: BTreeMap<ConversationId, [String; 2]>,
    heads: BTreeMap<ConversationId, Seq>,
    heads_at_restart: BTreeMap<ConversationId, Seq>,
    /// What was decided and what was asked, for each device.
    counts: BTreeMap<DeviceId, (u64, u64)>,
    answered: BTreeSet<(DeviceId, SendId)>,
}

impl Tamper {
    /// Nothing is changed without a bug.
    pub fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            users: BTreeMap::new(),
            devices: BTreeMap::new(),
            members: BTreeMap::new(),
            heads: BTreeMap::new(),
            heads_at_restart: BTreeMap::new(),
            counts: BTreeMap::new(),
            answered: BTreeSet::new(),
        }
    }

    /// What was decided so far was replayed from the disk.
    pub fn restarted(&mut self) {
        self.heads_at_restart.clone_from(&self.heads);
    }

    /// Decides a batch.
    pub fn decide(&mut self, truth: &Truth, batch: Batch) -> Committed {
        let Some(bug) = self.bug else { return truth.commit(batch) };
        let (asked, mut more) = (batch.clone(), Vec::new());
        let mut batch = batch;
        for operation in &mut batch {
            match (bug, operation) {
                (Bug::ForgetsSendIds, Operation::Send(send)) => {
                    let (decided, _) = self.counts.entry(send.device).or_default();
                    *decided += 1;
                    send.send_id = SendId(*decided);
                }
                (Bug::ConfirmsForTheOtherDevices, Operation::Received(received)) => {
                    for &device in self.devices.get(&received.user).into_iter().flatten() {
                        more.push(Operation::Received(Received { device, ..received.clone() }));
                    }
                }
                (Bug::MovesTheOthersWatermark, Operation::ReadUpTo(read)) => more.extend(self.others_read(read)),
                _ => {}
            }
        }
        batch.extend(more);
        let mut committed = truth.commit(batch);
        committed.outcomes.truncate(asked.len());
        self.learn(&asked, &committed);
        self.change(bug, &asked, &mut committed);
        committed
    }

    /// Reads a page of an inbox.
    pub fn read(
        &mut self,
        truth: &Truth,
        (app, user): (AppId, UserId),
        (after, up_to): (Position, Position),
        limit: ReadLimit,
    ) -> Result<Page, StoreError> {
        let up_to = if self.bug == Some(Bug::ReadsWhatIsNotDurable) { Position(u64::MAX) } else { up_to };
        let mut page = truth.ask(|store| store.read_inbox(app, user, after, up_to, limit))?;
        match self.bug {
            Some(Bug::TakesACutPageForTheWhole) => page.complete = true,
            Some(Bug::ExpiresInSilence) => page.entries.retain(|entry| !matches!(entry.item, Item::Expired(_))),
            Some(Bug::TellsTheOrigin) => page.entries.iter_mut().for_each(|entry| entry.origin = DeviceId(0)),
            Some(Bug::OrdersByTheWallClock) => order_by_time(&mut page.entries),
            Some(Bug::CoalescesAcrossConversations) => {
                let last = page.entries.iter().rev().find(|entry| matches!(entry.item, Item::Delivered(_)));
                let last = last.map(|entry| entry.position);
                let is_last = |entry: &InboxEntry| Some(entry.position) == last;
                page.entries.retain(|entry| !matches!(entry.item, Item::Delivered(_)) || is_last(entry));
            }
            Some(Bug::ReusesASeqAfterARestart) => {
                page.entries.iter_mut().for_each(|entry| self.shift(entry));
            }
            _ => {}
        }
        Ok(page)
    }

    fn learn(&mut self, asked: &Batch, committed: &Committed) {
        for (operation, outcome) in asked.iter().zip(&committed.outcomes) {
            if let (Operation::Attach(Attach { user, .. }), Outcome::Attached(attached)) = (operation, outcome) {
                self.users.insert(user.clone(), attached.user);
                self.devices.entry(attached.user).or_default().insert(attached.device);
            }
        }
        for publication in &committed.published {
            if let Item::Message(encoded) = &publication.entry.item {
                let message = wire::Message::decode(encoded.clone()).expect("a message");
                let conversation = ConversationId(message.conversation);
                self.heads.insert(conversation, Seq(message.seq));
                self.members.insert(conversation, [message.sender, message.recipient]);
            }
        }
    }

    fn change(&mut self, bug: Bug, asked: &Batch, committed: &mut Committed) {
        for (operation, outcome) in asked.iter().zip(&mut committed.outcomes) {
            let device = match operation {
                Operation::Send(send) => send.device,
                _ => DeviceId(0),
            };
            match (bug, operation, &mut *outcome) {
                (Bug::ForgetsSendIds, Operation::Send(send), Outcome::Answer(answer)) => {
                    let (_, highest) = self.counts.entry(device).or_default();
                    *highest = (*highest).max(send.send_id.0);
                    match answer {
                        Answer::Ack { send_id, .. } | Answer::Refused { send_id, .. } => *send_id = send.send_id,
                    }
                }
                (Bug::ForgetsSendIds, _, Outcome::Attached(attached)) => {
                    attached.highest_send_id = SendId(self.counts.get(&attached.device).map_or(0, |(_, told)| *told));
                }
                (Bug::AnswersARepetitionAnew, _, Outcome::Answer(Answer::Ack { send_id, seq, .. })) => {
                    seq.0 += u64::from(!self.answered.insert((device, *send_id)));
                }
                (Bug::ReusesASeqAfterARestart, _, Outcome::Answer(Answer::Ack { conversation, seq, .. })) => {
                    let known = self.heads_at_restart.get(conversation);
                    if known.is_some_and(|known| *seq > *known) {
                        seq.0 -= 1;
                    }
                }
                (Bug::ResumesOnePositionLate, _, Outcome::Attached(attached)) if attached.cursor < attached.head => {
                    attached.cursor.0 += 1;
                }
                (Bug::RefusesInSilence, _, Outcome::Answer(Answer::Refused { .. })) => *outcome = Outcome::Done,
                _ => {}
            }
        }
        match bug {
            Bug::ExpiresInSilence => committed.published.retain(|new| !matches!(new.entry.item, Item::Expired(_))),
            Bug::PublishesAcrossApps => {
                let other = |new: &Publication| Publication { app: AppId(3 - new.app.0), ..new.clone() };
                let copies: Vec<Publication> = committed.published.iter().map(other).collect();
                committed.published.extend(copies);
            }
            Bug::TellsTheOrigin => committed.published.iter_mut().for_each(|new| new.entry.origin = DeviceId(0)),
            Bug::ReusesASeqAfterARestart => committed.published.iter_mut().for_each(|new| self.shift(&mut new.entry)),
            _ => {}
        }
    }

    /// The same read mark, said for the other member.
    fn others_read(&self, read: &ReadUpTo) -> Option<Operation> {
        let members = self.members.get(&read.conversation)?;
        let other = members.iter().filter_map(|name| self.users.get(name)).find(|user| **user != read.user)?;
        let device = *self.devices.get(other)?.first()?;
        Some(Operation::ReadUpTo(ReadUpTo { user: *other, device, ..read.clone() }))
    }

    fn shift(&self, entry: &mut InboxEntry) {
        let Item::Message(encoded) = &mut entry.item else { return };
        let mut message = wire::Message::decode(encoded.clone()).expect("a message");
        let known = self.heads_at_restart.get(&ConversationId(message.conversation));
        if known.is_some_and(|known| message.seq > known.0) {
            message.seq -= 1;
            *encoded = encode::message(&message);
        }
    }
}

/// Messages keep their places in time instead of in order.
fn order_by_time(entries: &mut [InboxEntry]) {
    let time = |item: &Item| match item {
        Item::Message(encoded) => wire::Message::decode(encoded.clone()).map_or(0, |message| message.time),
        _ => 0,
    };
    let mut messages: Vec<(Position, DeviceId, Item)> = entries
        .iter()
        .filter(|entry| matches!(entry.item, Item::Message(_)))
        .map(|entry| (entry.position, entry.origin, entry.item.clone()))
        .collect();
    messages.sort_by_key(|(.., item)| time(item));
    let places = entries.iter_mut().filter(|entry| matches!(entry.item, Item::Message(_)));
    for (place, (_, origin, item)) in places.zip(messages) {
        (place.origin, place.item) = (origin, item);
    }
}
