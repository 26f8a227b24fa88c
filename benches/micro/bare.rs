//! A store that agrees to everything and keeps next to nothing, so that what is measured around it is not the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use postrider::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use postrider::store::{
    Answer, App, Attached, Batch, Committed, Completion, Few, InboxEntry, Item, Operation, Outcome, Page, Publication,
    ReadLimit, Receipt, Recipient, Send, Store, StoreError, Taking, User, taken,
};
use postrider_protocol::encode::{self, MessageParts};
use smol_str::SmolStr;

/// Users in pairs, in the order of their logins: the first with the second, the third with the fourth …
#[derive(Default)]
pub struct Bare(Mutex<State>);

/// In ordered maps: they cost the same in every run.
#[derive(Default)]
struct State {
    users: Vec<Person>,
    numbers: BTreeMap<String, usize>,
}

struct Person {
    name: SmolStr,
    head: Position,
    /// Messages that were sent to this user.
    received: Seq,
}

impl Bare {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Store for Bare {
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_> {
        let mut committed =
            Committed { outcomes: Few::with_capacity(batch.len()), published: Few::with_capacity(batch.len()) };
        {
            let mut state = self.state();
            for operation in batch {
                let outcome = state.decide(operation, &mut committed.published);
                committed.outcomes.push(outcome);
            }
        }
        done.call(Ok(committed));
        taken()
    }

    fn read_inbox(
        &self,
        _: AppId,
        _: UserId,
        _: Position,
        _: Position,
        _: ReadLimit,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        panic!("nothing is kept: a connection that falls behind measures something else")
    }

    fn find_user(&self, _: AppId, _: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        ready(Ok(None)).boxed()
    }

    fn list_users(&self, _: AppId, _: &str, _: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }
}

impl State {
    fn decide(&mut self, operation: Operation, published: &mut Few<Publication>) -> Outcome {
        match operation {
            Operation::EnsureApp(_) => Outcome::App(AppId(1)),
            Operation::Attach(attach) => self.attach(attach.user),
            Operation::Send(send) => Outcome::Answer(self.send(&send, published)),
            Operation::Received(received) => {
                let index = index(received.user);
                let Person { name, received: seq, .. } = &self.users[index];
                // Of the two of a pair one only sends, and no receipt is owed to anybody for what it was told.
                if seq.0 > 0 {
                    let receipt = Receipt { conversation: conversation(index), user: name.clone(), seq: *seq };
                    self.append(index ^ 1, received.app, Item::Delivered(receipt), published);
                }
                Outcome::Received(received.position)
            }
            other => panic!("not part of what is measured: {other:?}"),
        }
    }

    fn attach(&mut self, name: String) -> Outcome {
        let number = self.users.len();
        self.numbers.insert(name.clone(), number);
        self.users.push(Person { name: name.into(), head: Position(0), received: Seq(0) });
        let user = UserId(number as u64);
        let (device, highest_send_id) = (DeviceId(number as u64 + 1), SendId(0));
        Outcome::Attached(Attached { user, device, highest_send_id, cursor: Position(0), head: Position(0) })
    }

    fn send(&mut self, send: &Send, published: &mut Few<Publication>) -> Answer {
        let Recipient::User(name) = &send.to else { panic!("messages go to users here") };
        let recipient = self.numbers[name];
        let person = &mut self.users[recipient];
        person.received.0 += 1;
        let (seq, conversation) = (person.received, conversation(recipient));
        let message = encode::message_of(MessageParts {
            conversation: conversation.0,
            seq: seq.0,
            sender: &self.users[index(send.user)].name,
            recipient: name,
            time: send.now,
            content: &send.content,
        });
        self.append(recipient, send.app, Item::Message(message), published);
        Answer::Ack { send_id: send.send_id, conversation, seq, time: send.now }
    }

    fn append(&mut self, index: usize, app: AppId, item: Item, published: &mut Few<Publication>) {
        let person = &mut self.users[index];
        person.head.0 += 1;
        let entry = InboxEntry { position: person.head, origin: DeviceId(0), item };
        published.push(Publication { app, user: UserId(index as u64), entry });
    }
}

fn index(user: UserId) -> usize {
    usize::try_from(user.0).unwrap()
}

fn conversation(member: usize) -> ConversationId {
    ConversationId(member as u64 / 2 + 1)
}
