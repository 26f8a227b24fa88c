//! Random histories: the engine must agree with the model on every outcome, every publication and every inbox, also
//! when it is closed and opened between any two batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::wire;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost::Message as _;

use super::world::{EVERYTHING, World, gathering, tiny};
use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::{
    Admission, Attach, Attached, Batch, Committed, Item, Operation, Outcome, ReadUpTo, Received, Recipient, Refusal,
    Send, Sweep,
};

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "bad\nname"];
const DEVICES: [&str; 4] = ["phone", "laptop", "tablet", "watch"];

/// An operation before it is known which numbers exist: `dice` choose among what does, and sometimes what does not.
#[derive(Clone, Debug)]
enum Step {
    Operation {
        kind: u8,
        dice: [u8; 6],
    },
    EndOfBatch,
    /// The engine gets all batches since the last one at once: several go to the disk in one group.
    Together,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u8..100, any::<[u8; 6]>()).prop_map(|(kind, dice)| Step::Operation { kind, dice }),
        6 => Just(Step::EndOfBatch),
        1 => Just(Step::Together),
        1 => Just(Step::Restart),
    ]
}

/// What a client would know by now, so that most operations make sense.
#[derive(Default)]
struct Known {
    now: u64,
    attached: Vec<(AppId, String, String, Attached)>,
    next_send_id: BTreeMap<(AppId, DeviceId), u64>,
    heads: BTreeMap<(AppId, UserId), u64>,
    /// The newest message that came to somebody's inbox.
    heard: BTreeMap<(AppId, UserId), (u64, u64)>,
}

impl Known {
    fn learn(&mut self, batch: &Batch, committed: &Committed) {
        for (operation, outcome) in batch.iter().zip(&committed.outcomes) {
            if let (Operation::Attach(attach), Outcome::Attached(attached)) = (operation, outcome) {
                self.attached.push((attach.app, attach.user.clone(), attach.device.clone(), attached.clone()));
                self.next_send_id.insert((attach.app, attached.device), attached.highest_send_id.0 + 1);
            }
        }
        for (operation, outcome) in batch.iter().zip(&committed.outcomes) {
            if let (Operation::Send(send), Outcome::Refused(Refusal::DeviceExpired)) = (operation, outcome) {
                self.attached.retain(|(app, _, _, known)| (*app, known.device) != (send.app, send.device));
            }
        }
        for published in &committed.published {
            let inbox = (published.app, published.user);
            self.heads.insert(inbox, published.entry.position.0);
            if let Item::Message(encoded) = &published.entry.item {
                let message = wire::Message::decode(encoded.clone()).expect("a message");
                self.heard.insert(inbox, (message.conversation, message.seq));
            }
        }
    }

    fn operation(&mut self, kind: u8, dice: [u8; 6]) -> Operation {
        self.now += u64::from(dice[5] % 4);
        let now = self.now;
        let app = AppId(if dice[0] < 10 {
            2
        } else if dice[0] == 10 {
            3
        } else {
            1
        });
        let name = NAMES[usize::from(dice[1]) % 4].to_owned();
        let device_name = DEVICES[usize::from(dice[2]) % DEVICES.len()].to_owned();
        // Mostly a device that has logged in, as late as possible; else any number.
        let wild = Attached {
            user: UserId(u64::from(dice[1] % 6)),
            device: DeviceId(u64::from(dice[2] % 8)),
            highest_send_id: SendId(0),
            cursor: Position(0),
            head: Position(0),
        };
        let back = usize::from(dice[3]) % 6;
        let latest = self.attached.iter().rev().nth(back).or(self.attached.last());
        let (app_of, device) = match latest {
            Some((app, _, _, attached)) if dice[4] > 12 => (*app, attached.clone()),
            _ => (app, wild),
        };
        let (user, device) = (device.user, device.device);
        let head = self.heads.get(&(app_of, user)).copied().unwrap_or(0);
        let near_head = |die: u8| Position((head + 1).saturating_sub(u64::from(die % 5)));
        match kind {
            0..=39 => {
                let next = self.next_send_id.entry((app_of, device)).or_insert(1);
                let send_id = match dice[0] {
                    0..=199 => *next,
                    200..=245 => next.saturating_sub(u64::from(dice[0] % 4) + 1),
                    _ => *next + 1,
                };
                *next = (*next).max(send_id + 1).min(*next + 1);
                let conversation = Recipient::Conversation(ConversationId(u64::from(dice[1] % 6)));
                Operation::Send(Send {
                    app: app_of,
                    user,
                    device,
                    send_id: SendId(send_id),
                    to: if dice[2] < 40 {
                        conversation
                    } else {
                        Recipient::User(NAMES[usize::from(dice[1]) % NAMES.len()].to_owned())
                    },
                    content: Bytes::from(vec![dice[5] % 2; usize::from(dice[5] / 64) * 3_000]),
                    refuse: (dice[5] == 7).then_some(Refusal::ContentTooLarge),
                    create_recipient: dice[4].is_multiple_of(2),
                    inbox_limit: if dice[4] < 60 { u64::from(dice[4] % 6) } else { 1_000 },
                    now,
                })
            }
            40..=57 => Operation::Received(Received { app: app_of, user, device, position: near_head(dice[5]), now }),
            58..=69 => {
                let (conversation, seq) = match self.heard.get(&(app_of, user)) {
                    Some(&(conversation, seq)) if dice[0] > 40 => {
                        (conversation, seq.saturating_sub(u64::from(dice[1] % 3)))
                    }
                    _ => (u64::from(dice[0] % 6), u64::from(dice[1] % 9)),
                };
                let (conversation, seq) = (ConversationId(conversation), Seq(seq));
                Operation::ReadUpTo(ReadUpTo { app: app_of, user, device, conversation, seq })
            }
            70..=85 => {
                let key = [dice[5] % 2; 32];
                let admission = match dice[4] % 8 {
                    0 => Admission::Key(key),
                    1 | 2 => Admission::Enroll { code_hash: [dice[3] % 2; 32], key },
                    _ => Admission::Open,
                };
                let fresh = dice[3] < 190;
                let again = self
                    .attached
                    .iter()
                    .rev()
                    .find(|(at, user, device, _)| (*at, user, device) == (app, &name, &device_name));
                let device_id = match again {
                    Some((.., attached)) if !fresh => attached.device,
                    _ if dice[3] > 250 => device,
                    _ => DeviceId(0),
                };
                let cursor = near_head(dice[5]);
                Operation::Attach(Attach { app, user: name, device: device_name, device_id, cursor, admission, now })
            }
            86 => Operation::EnsureApp(["one", "two"][usize::from(dice[0] % 2)].to_owned()),
            87 => Operation::AddUser { app, name },
            88 => Operation::RemoveUser { app, name },
            89..=91 => {
                Operation::AddCode { app, user: name, hash: [dice[3] % 2; 32], expires: now + u64::from(dice[4]) }
            }
            92..=95 => Operation::RevokeDevice { app, user: name, device: device_name },
            _ => {
                let before = now.saturating_sub(u64::from(dice[3]) / 4);
                let connected =
                    if dice[4].is_multiple_of(4) { [device].into() } else { (0..30).map(DeviceId).collect() };
                let connected = Arc::new(connected);
                let after = UserId(u64::from(dice[1] % 3));
                Operation::Sweep(Sweep { app, after, limit: usize::from(dice[2] % 5), before, connected })
            }
        }
    }
}

/// Three users with two devices each.
fn first_logins(world: &World) -> Batch {
    let devices = NAMES[..3].iter().flat_map(|name| DEVICES[..2].iter().map(move |device| (name, device)));
    devices.map(|(name, device)| Operation::Attach(world.open_login(name, device))).collect()
}

/// What the model has decided, and the engine is to.
#[derive(Default)]
struct Ahead(Vec<(Batch, Committed)>);

impl Ahead {
    fn decide(&mut self, model: &World, batch: Batch, known: &mut Known) {
        if batch.is_empty() {
            return;
        }
        let wanted = model.commit(batch.clone());
        known.learn(&batch, &wanted);
        self.0.push((batch, wanted));
    }

    fn agree(&mut self, engine: &World) {
        let on_their_way: Vec<_> = self.0.iter().map(|(batch, _)| engine.submit(batch.clone())).collect();
        for ((batch, wanted), on_its_way) in self.0.drain(..).zip(on_their_way) {
            assert_eq!(on_its_way.wait(), wanted, "after {batch:?}");
        }
    }
}

fn same_contents(model: &mut World, engine: &mut World) {
    engine.audit();
    assert_eq!(engine.apps(), model.apps());
    for (app, ..) in model.apps() {
        (model.app, engine.app) = (AppId(app), AppId(app));
        let users = model.users("", usize::MAX);
        assert_eq!(engine.users("", usize::MAX), users);
        for user in users {
            assert_eq!(engine.user(&user.name), model.user(&user.name));
            for (after, limit) in
                [(0, EVERYTHING), (user.head.0 / 2, crate::store::ReadLimit { entries: 3, bytes: 4_000 })]
            {
                let page = |world: &World| world.page(user.id, after, user.head.0, limit);
                assert_eq!(page(engine), page(model), "the inbox of {}", user.name);
            }
        }
    }
}

/// A history as batches, with what the model makes of it: the same every time.
pub struct History {
    pub batches: Vec<Batch>,
    pub committed: Vec<Committed>,
    /// What the store has after each number of batches, as [`contents`] tells it.
    pub contents: Vec<String>,
}

impl History {
    /// Of about `steps` operations, the `number`-th of its kind.
    pub fn new(number: usize, steps: usize) -> History {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = prop::collection::vec(step(), steps);
        for _ in 0..number {
            strategy.new_tree(&mut runner).expect("steps");
        }
        let steps = strategy.new_tree(&mut runner).expect("steps").current();
        let mut model = World::in_memory();
        let mut known = Known { now: 1_000, ..Known::default() };
        let mut history = History { batches: Vec::new(), committed: Vec::new(), contents: vec![contents(&mut model)] };
        let mut commit = |batch: Batch, known: &mut Known| {
            let committed = model.commit(batch.clone());
            known.learn(&batch, &committed);
            history.batches.push(batch);
            history.committed.push(committed);
            history.contents.push(contents(&mut model));
        };
        commit(vec![Operation::EnsureApp("dev".into())], &mut known);
        commit(first_logins(&World::in_memory()), &mut known);
        let mut batch = Vec::new();
        for step in steps {
            match step {
                Step::Operation { kind, dice } => batch.push(known.operation(kind, dice)),
                _ if batch.is_empty() => {}
                _ => commit(std::mem::take(&mut batch), &mut known),
            }
        }
        history
    }
}

/// Everything that can be read from a store.
pub fn contents(world: &mut World) -> String {
    use std::fmt::Write as _;
    let app_before = world.app;
    let mut text = format!("{:?}", world.apps());
    for (app, ..) in world.apps() {
        world.app = AppId(app);
        for user in world.users("", usize::MAX) {
            let page = world.page(user.id, 0, user.head.0, EVERYTHING);
            write!(text, "\n{user:?}\n{page:?}").expect("a string takes everything");
        }
    }
    world.app = app_before;
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_agrees_with_the_model(gathers: bool, steps in prop::collection::vec(step(), 1..250)) {
        let (mut model, mut engine) = (World::in_memory(), World::configured(if gathers { gathering } else { tiny }));
        let mut known = Known { now: 1_000, ..Known::default() };
        let (mut batch, mut ahead) = (first_logins(&model), Ahead::default());
        for step in steps {
            if let Step::Operation { kind, dice } = step {
                batch.push(known.operation(kind, dice));
                continue;
            }
            ahead.decide(&model, std::mem::take(&mut batch), &mut known);
            if !matches!(step, Step::EndOfBatch) {
                ahead.agree(&engine);
            }
            if matches!(step, Step::Restart) {
                engine.restart();
                same_contents(&mut model, &mut engine);
            }
        }
        ahead.decide(&model, batch, &mut known);
        ahead.agree(&engine);
        same_contents(&mut model, &mut engine);
    }
}

/// A history that reaches little proves little: this one counts what it reached.
#[test]
fn histories_reach_most_outcomes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let steps = prop::collection::vec(step(), 250).new_tree(&mut runner).expect("steps").current();
        let model = World::in_memory();
        let mut known = Known { now: 1_000, ..Known::default() };
        let logins = first_logins(&model);
        known.learn(&logins, &model.commit(logins.clone()));
        for step in steps {
            let Step::Operation { kind, dice } = step else { continue };
            let batch = vec![known.operation(kind, dice)];
            let committed = model.commit(batch.clone());
            known.learn(&batch, &committed);
            let words = format!("{committed:?}");
            for word in WANTED.iter().filter(|word| words.contains(**word)) {
                *seen.entry((*word).to_owned()).or_default() += 1;
            }
        }
    }
    for word in WANTED {
        assert!(seen.get(word).copied().unwrap_or(0) >= 5, "{word} is too rare: {seen:?}");
    }
}

const WANTED: [&str; 22] = [
    "Ack",
    "Answer(Refused",
    "Message(",
    "Delivered(",
    "Read(Receipt",
    "Expired(",
    "NotAccepted",
    "InboxFull",
    "SendIdReused",
    "SendIdGap",
    "DeviceExpired",
    "LoginFailed",
    "CursorAhead",
    "PositionNotDelivered",
    "UnknownConversation",
    "SeqNotSent",
    "Revoked",
    "devices: 1",
    "entries: 1",
    "next: Some",
    "Received(",
    "Done",
];
