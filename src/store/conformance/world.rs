//! A store under test, with the few words that the checks are written in.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::wire;
use prost::Message as _;

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::engine::tests::audit::audit;
use crate::store::engine::{Around, Engine, EngineConfig};
use crate::store::memory::Memory;
use crate::store::{
    Admission, Answer, Attach, Attached, Batch, Committed, Completion, InboxEntry, Item, Operation, Outcome, Page,
    Publication, ReadLimit, ReadUpTo, Received, Recipient, Refusal, Send, Store, StoreError, Sweep, User,
};

pub struct World {
    pub store: Arc<dyn Store>,
    /// The same store, if it is one that can be closed and opened again.
    on_disk: Option<OnDisk>,
    runtime: tokio::runtime::Runtime,
    pub app: AppId,
    pub now: u64,
}

struct OnDisk {
    engine: Arc<Engine>,
    directory: tempfile::TempDir,
    config: fn(&Path) -> EngineConfig,
}

/// A batch that is decided, and answered when it is durable.
pub struct OnItsWay(Receiver<Result<Committed, StoreError>>);

impl OnItsWay {
    pub fn wait(self) -> Committed {
        self.0.recv().expect("done is always called").expect("the store works")
    }
}

pub const EVERYTHING: ReadLimit = ReadLimit { entries: usize::MAX, bytes: usize::MAX };

impl World {
    pub fn in_memory() -> World {
        World::around(Arc::new(Memory::new()))
    }

    pub fn on_disk() -> World {
        World::configured(tiny)
    }

    /// In a new directory, which it is opened in again when it was closed.
    pub fn configured(config: fn(&Path) -> EngineConfig) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = Arc::new(Engine::open(&config(directory.path())).expect("opens"));
        World::new(Arc::<Engine>::clone(&engine), Some(OnDisk { engine, directory, config }))
    }

    /// Around a store that somebody else opened.
    pub fn around(store: Arc<dyn Store>) -> World {
        World::new(store, None)
    }

    fn new(store: Arc<dyn Store>, on_disk: Option<OnDisk>) -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut world = World { store, on_disk, runtime, app: AppId(0), now: 1_000 };
        world.app = world.app_named("dev");
        world
    }

    /// Closes and opens again; a store in memory just goes on.
    pub fn restart(&mut self) {
        self.audit();
        let Some(OnDisk { engine, directory, config }) = &mut self.on_disk else { return };
        self.runtime.block_on(engine.close()).expect("closes");
        *engine = Arc::new(Engine::open(&config(directory.path())).expect("opens again"));
        self.store = Arc::<Engine>::clone(engine);
    }

    /// Whether what is on disk fits together.
    pub fn audit(&self) {
        if let Some(OnDisk { engine, .. }) = &self.on_disk {
            audit(engine);
        }
    }

    pub fn commit(&self, batch: Batch) -> Committed {
        self.submit(batch).wait()
    }

    /// Has a batch decided, and does not wait for more.
    pub fn submit(&self, batch: Batch) -> OnItsWay {
        let (answer, wait) = sync_channel(1);
        let done = move |committed| answer.send(committed).expect("somebody waits");
        self.runtime.block_on(self.store.commit(batch, Completion::once(done)));
        OnItsWay(wait)
    }

    pub fn step(&self, operation: Operation) -> (Outcome, Vec<Publication>) {
        let mut committed = self.commit(vec![operation]);
        assert_eq!(committed.outcomes.len(), 1);
        (committed.outcomes.remove(0), committed.published.into_vec())
    }

    pub fn outcome(&self, operation: Operation) -> Outcome {
        self.step(operation).0
    }

    /// What an operation publishes, as `user number: entry`.
    pub fn published(&self, operation: Operation) -> Vec<String> {
        let show = |publication: &Publication| format!("{}: {}", publication.user, show(&publication.entry));
        self.step(operation).1.iter().map(show).collect()
    }

    pub fn app_named(&self, name: &str) -> AppId {
        match self.outcome(Operation::EnsureApp(name.into())) {
            Outcome::App(app) => app,
            other => panic!("{other:?}"),
        }
    }

    pub fn open_login(&self, user: &str, device: &str) -> Attach {
        Attach {
            app: self.app,
            user: user.into(),
            device: device.into(),
            device_id: DeviceId(0),
            cursor: Position(0),
            admission: Admission::Open,
            now: self.now,
        }
    }

    pub fn attach(&self, user: &str, device: &str) -> Attached {
        self.login(self.open_login(user, device)).expect("an open login")
    }

    pub fn login(&self, attach: Attach) -> Result<Attached, Refusal> {
        match self.outcome(Operation::Attach(attach)) {
            Outcome::Attached(attached) => Ok(attached),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// A send to a user who must exist.
    pub fn sending(&self, from: &Attached, send_id: u64, to: &str, text: &str) -> Send {
        Send {
            app: self.app,
            user: from.user,
            device: from.device,
            send_id: SendId(send_id),
            to: Recipient::User(to.into()),
            content: Bytes::copy_from_slice(text.as_bytes()),
            refuse: None,
            create_recipient: false,
            inbox_limit: 1_000_000,
            now: self.now,
        }
    }

    pub fn send(&self, from: &Attached, send_id: u64, to: &str, text: &str) -> Outcome {
        self.outcome(Operation::Send(self.sending(from, send_id, to, text)))
    }

    /// What was answered to a send that must be acked: conversation and seq.
    pub fn acked(&self, from: &Attached, send_id: u64, to: &str, text: &str) -> (u64, u64) {
        match self.send(from, send_id, to, text) {
            Outcome::Answer(Answer::Ack { conversation, seq, .. }) => (conversation.0, seq.0),
            other => panic!("{other:?}"),
        }
    }

    pub fn receiving(&self, device: &Attached, position: u64) -> Operation {
        let Attached { user, device, .. } = *device;
        Operation::Received(Received { app: self.app, user, device, position: Position(position), now: self.now })
    }

    pub fn received(&self, device: &Attached, position: u64) -> Outcome {
        self.outcome(self.receiving(device, position))
    }

    pub fn reading(&self, device: &Attached, conversation: u64, seq: u64) -> Operation {
        let Attached { user, device, .. } = *device;
        let conversation = ConversationId(conversation);
        Operation::ReadUpTo(ReadUpTo { app: self.app, user, device, conversation, seq: Seq(seq) })
    }

    pub fn read(&self, device: &Attached, conversation: u64, seq: u64) -> Outcome {
        self.outcome(self.reading(device, conversation, seq))
    }

    pub fn revoking(&self, user: &str, device: &str) -> Operation {
        Operation::RevokeDevice { app: self.app, user: user.into(), device: device.into() }
    }

    pub fn sweeping(&self, before: u64, connected: &[DeviceId]) -> Operation {
        let connected = Arc::new(connected.iter().copied().collect());
        Operation::Sweep(Sweep { app: self.app, after: UserId(0), limit: 100, before, connected })
    }

    /// The whole inbox of a user, as `position item`, with `-device` where the origin needs not be told.
    pub fn inbox(&self, user: &Attached) -> Vec<String> {
        let page = self.page(user.user, 0, u64::MAX, EVERYTHING);
        assert!(page.complete);
        page.entries.iter().map(show).collect()
    }

    pub fn page(&self, user: UserId, after: u64, up_to: u64, limit: ReadLimit) -> Page {
        let read = self.store.read_inbox(self.app, user, Position(after), Position(up_to), limit);
        self.runtime.block_on(read).expect("the store works")
    }

    pub fn user(&self, name: &str) -> Option<User> {
        self.runtime.block_on(self.store.find_user(self.app, name)).expect("the store works")
    }

    pub fn users(&self, after: &str, limit: usize) -> Vec<User> {
        self.runtime.block_on(self.store.list_users(self.app, after, limit)).expect("the store works")
    }

    pub fn apps(&self) -> Vec<(u32, String, u64)> {
        let apps = self.runtime.block_on(self.store.list_apps()).expect("the store works");
        apps.into_iter().map(|app| (app.id.0, app.name, app.users)).collect()
    }
}

/// A journal of segments so small that every few groups one is spilled and used again, and some groups need one of
/// their own.
pub fn tiny(path: &Path) -> EngineConfig {
    EngineConfig { segment_bytes: 4096, segments: 3, cache_bytes: 4 << 20, ..EngineConfig::new(path) }
}

/// Room for several batches in a group, and so slow to answer that they come together.
pub fn gathering(path: &Path) -> EngineConfig {
    let pause = || thread::sleep(Duration::from_micros(500));
    let around_completions = Some(Around { before: pause, after: || {} });
    EngineConfig { segment_bytes: 64 << 10, around_completions, ..tiny(path) }
}

/// An answer that consumes its `send_id`.
pub fn refused(send_id: u64, refusal: Refusal) -> Outcome {
    Outcome::Answer(Answer::Refused { send_id: SendId(send_id), refusal })
}

fn show(entry: &InboxEntry) -> String {
    let item = match &entry.item {
        Item::Message(encoded) => {
            let message = wire::Message::decode(encoded.clone()).expect("a message");
            let text = String::from_utf8_lossy(&message.content);
            let wire::Message { conversation, seq, sender, recipient, .. } = message;
            format!("{conversation}.{seq} {sender}>{recipient} {text}")
        }
        Item::Delivered(receipt) => format!("{}.{} {} delivered", receipt.conversation, receipt.seq, receipt.user),
        Item::Read(receipt) => format!("{}.{} {} read", receipt.conversation, receipt.seq, receipt.user),
        Item::Expired(receipt) => format!("{}.{} {} expired", receipt.conversation, receipt.seq, receipt.user),
    };
    match entry.origin {
        DeviceId(0) => format!("{} {item}", entry.position),
        origin => format!("{} -{origin} {item}", entry.position),
    }
}
