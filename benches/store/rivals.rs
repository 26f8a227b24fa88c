//! What the store is held against: sled alone, the bare disk, and nothing at all, which shows what the load itself costs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider::bench::meter::Latencies;
use postrider::ids::{AppId, ConversationId, DeviceId, Position, Seq, UserId};
use postrider::store::{
    Answer, App, Attached, Batch, Committed, Completion, Few, InboxEntry, Item, Operation, Outcome, Page, Publication,
    ReadLimit, Recipient, Store, StoreError, Taking, User, taken,
};

use crate::load::Run;
use crate::people::APP;

/// What one message takes in a bare append: its content, and numbers and a checksum around it.
pub const BARE_BYTES: usize = 128;

/// The file that the bare loop writes round and round.
const BARE_FILE_BYTES: usize = 64 << 20;

/// Batches that wait for a rival's thread.
const QUEUE: usize = 8_192;

/// Keeps messages, one thread for all, a sync for each group. It decides nothing: no permission, no dedup, no receipts.
pub struct Rival {
    queue: Mutex<Option<SyncSender<(Batch, Completion)>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where a rival keeps messages.
trait Keeper: Send {
    fn insert(&mut self, key: [u8; 16], message: &Bytes);
    fn remove(&mut self, key: [u8; 16]);
    fn sync(&mut self);
}

impl Rival {
    /// sled, made as safe as the store: each group ends in `flush` and an `fdatasync` of sled's file.
    pub fn sled(directory: &Path) -> Arc<dyn Store> {
        let path = directory.join("sled");
        let config = sled::Config::default().path(&path).cache_capacity(64 << 20);
        let database = config.mode(sled::Mode::HighThroughput).flush_every_ms(None).open().unwrap();
        Self::start(Sled { database, data: File::open(path.join("db")).unwrap() })
    }

    /// Answers at once and keeps nothing.
    pub fn nothing() -> Arc<dyn Store> {
        Self::start(Nothing)
    }

    fn start(keeper: impl Keeper + 'static) -> Arc<dyn Store> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = thread::spawn(move || Desk { keeper, users: HashMap::new(), heads: Vec::new() }.serve(&jobs));
        Arc::new(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }
}

/// A rival's thread.
struct Desk<K> {
    keeper: K,
    users: HashMap<String, u64>,
    /// The newest position of each user's inbox, by number.
    heads: Vec<u64>,
}

impl<K: Keeper> Desk<K> {
    fn serve(mut self, jobs: &Receiver<(Batch, Completion)>) {
        let mut answers = Vec::new();
        while let Ok(first) = jobs.recv() {
            for (batch, done) in std::iter::once(first).chain(jobs.try_iter()) {
                answers.push((self.apply(batch), done));
            }
            self.keeper.sync();
            answers.drain(..).for_each(|(committed, done)| done.call(Ok(committed)));
        }
    }

    fn apply(&mut self, batch: Batch) -> Committed {
        let mut published = Few::new();
        let outcomes = batch.into_iter().map(|operation| self.decide(operation, &mut published)).collect();
        Committed { outcomes, published }
    }

    fn decide(&mut self, operation: Operation, published: &mut Few<Publication>) -> Outcome {
        match operation {
            Operation::EnsureApp(_) => Outcome::App(APP),
            Operation::Attach(attach) => {
                let user = self.heads.len() as u64;
                self.heads.push(0);
                self.users.insert(attach.user, user);
                Outcome::Attached(Attached {
                    user: UserId(user),
                    device: DeviceId(1),
                    highest_send_id: Default::default(),
                    cursor: Position(0),
                    head: Position(0),
                })
            }
            Operation::Send(send) => {
                let Recipient::User(name) = send.to else { unreachable!("the load names users") };
                let user = self.users[&name];
                let head = &mut self.heads[user as usize];
                *head += 1;
                let (position, seq) = (*head, Seq(*head));
                self.keeper.insert(key(user, position), &send.content);
                let entry =
                    InboxEntry { position: Position(position), origin: send.device, item: Item::Message(send.content) };
                published.push(Publication { app: APP, user: UserId(user), entry });
                let conversation = ConversationId(user);
                Outcome::Answer(Answer::Ack { send_id: send.send_id, conversation, seq, time: send.now })
            }
            Operation::Received(received) => {
                self.keeper.remove(key(received.user.0, received.position.0));
                Outcome::Received(received.position)
            }
            other => unreachable!("the load does not ask for {other:?}"),
        }
    }
}

fn key(user: u64, position: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&user.to_be_bytes());
    key[8..].copy_from_slice(&position.to_be_bytes());
    key
}

struct Sled {
    database: sled::Db,
    data: File,
}

impl Keeper for Sled {
    fn insert(&mut self, key: [u8; 16], message: &Bytes) {
        self.database.insert(key, &message[..]).unwrap();
    }

    fn remove(&mut self, key: [u8; 16]) {
        self.database.remove(key).unwrap();
    }

    fn sync(&mut self) {
        self.database.flush().unwrap();
        self.data.sync_data().unwrap();
    }
}

struct Nothing;

impl Keeper for Nothing {
    fn insert(&mut self, _: [u8; 16], _: &Bytes) {}
    fn remove(&mut self, _: [u8; 16]) {}
    fn sync(&mut self) {}
}

impl Store for Rival {
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().unwrap().send((batch, done)).unwrap();
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
        ready(Err(StoreError::Closed)).boxed()
    }

    fn find_user(&self, _: AppId, _: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }

    fn list_users(&self, _: AppId, _: &str, _: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.into_iter().for_each(|thread| thread.join().unwrap());
        ready(Ok(())).boxed()
    }
}

/// The limit of the disk for groups of this size: one write and one `fdatasync` for all producers at once, into a file
/// that has its blocks already.
pub fn bare(directory: &Path, producers: usize, time: Duration) -> Run {
    let group = vec![b'x'; producers * BARE_BYTES];
    let path = directory.join("bare");
    fs::write(&path, vec![0; BARE_FILE_BYTES]).unwrap();
    let mut file = File::options().write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    let latencies = Latencies::default();
    let started = Instant::now();
    let (mut groups, mut offset) = (0, 0);
    while started.elapsed() < time {
        if offset + group.len() > BARE_FILE_BYTES {
            file.rewind().unwrap();
            offset = 0;
        }
        let asked = Instant::now();
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
        latencies.record(0, std::iter::once(asked.elapsed()));
        offset += group.len();
        groups += 1;
    }
    let acked = groups * producers as u64;
    Run { acked, took: started.elapsed(), latency: latencies.percentiles().unwrap() }
}
