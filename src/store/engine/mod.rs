//! The engine: typed state in memory, a journal that makes its changes durable, sled for what outlives the journal.
//!
//! ```text
//! commit ─▶ sequencer decides on state ─▶ group ─▶ journal: write, sync ─▶ completions
//!                                │                    │ segment full
//!                                ▼ miss               ▼
//!                              sled  ◀────────────  spill
//! ```
//!
//! # Layout
//! - this file: opening, and the `Store` that the others make up
//! - `committer`: decides under one lock, makes groups durable, answers
//! - `sequencer`: decides operations
//! - `state`: what it decides on; loading, the group, replay, eviction
//! - `journal`: what makes groups durable
//! - `spill`: moves what outlives a segment to sled
//! - `reads`: reads beside the committer
//! - `disk`, `cold`: rows in sled, and what they say of a user; `barrier`: what makes sled's writes safe
//! - `rows`, `keys`: what rows look like
//! - `verify`: whether the rows are sound
//! - [`tools`]: what operators do to a data directory
//! - `directory`, `files`: the data directory and the file system; `progress`: what is said while it takes long

mod barrier;
mod cold;
mod committer;
mod directory;
mod disk;
mod files;
mod journal;
mod keys;
mod progress;
mod reads;
mod rows;
mod sequencer;
mod spill;
mod state;
#[cfg(test)]
pub(super) mod tests;
pub mod tools;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::watch;

use self::committer::{Committer, Done, Shared};
use self::directory::Directory;
use self::disk::Disk;
use self::files::{Files, SystemFiles};
use self::journal::{Journal, JournalConfig};
use self::spill::Spiller;
use self::state::State;
pub use self::verify::Verified;
use super::{App, Batch, Completion, Health, Page, ReadLimit, Store, StoreError, Taking, User, taken};
use crate::ids::{AppId, Position, UserId};

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The data directory. Made, with its parents and for its owner alone, if it is missing.
    pub path: PathBuf,
    /// Whether a store is made where there is none yet. Otherwise what is missing has been lost.
    pub makes_new: bool,
    /// How much may stay in memory of what can be read again, in bytes, roughly: half of it for users and conversations,
    /// half of it for sled.
    pub cache_bytes: u64,
    /// How much may wait to be durable, in bytes of operations; above it `commit` waits. At most a fifth of a segment.
    pub queue_bytes: usize,
    /// Bytes of a journal segment. What a full segment holds and is still needed takes up to about three times that in
    /// memory until it is in sled. Also full is one in which an object changed for every 512 bytes.
    pub segment_bytes: usize,
    /// Journal segments at most; two at least. Full ones stay until their slots are needed; when all are full, commits wait
    /// until one is in sled.
    pub segments: usize,
    /// Free space on the disk, in bytes, below which commits are refused rather than sled driven against the wall.
    pub reserve_bytes: u64,
    /// Whether a store that cannot write any more answers what rests on stable storage and needs no change: logins,
    /// confirmations (which are not kept), sends that were answered before. Otherwise it answers reads alone.
    pub serves_after_failure: bool,
    /// Random bytes, new at each opening: they keep anybody from sending content that looks like the journal's own.
    pub salt: u64,
    /// Called on the store's thread around all completions of a group.
    pub around_completions: Option<Around>,
}

/// What is to be done around all completions of a group: whoever they wake can be woken once.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// Before the first.
    pub before: fn(),
    /// After the last.
    pub after: fn(),
}

impl EngineConfig {
    /// A cache of 64 MiB, a queue of 16 MiB, four segments of 32 MiB and a reserve of 64 MiB; no salt. After a
    /// failure it answers reads alone.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        EngineConfig {
            path: path.to_owned(),
            makes_new: true,
            cache_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            segment_bytes: 32 << 20,
            segments: 4,
            reserve_bytes: 64 << 20,
            serves_after_failure: false,
            salt: 0,
            around_completions: None,
        }
    }

    fn journal(&self) -> JournalConfig {
        let EngineConfig { segment_bytes, segments, salt, .. } = *self;
        JournalConfig { segment_bytes, segments, salt }
    }
}

/// A store on disk. Dropping it finishes what was taken and closes its files.
pub struct Engine {
    committer: Committer,
    health: watch::Receiver<Health>,
    spilling: RwLock<Option<Spilling>>,
}

/// What lives until the store is closed.
struct Spilling {
    spiller: Arc<Spiller>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Opens the store in a directory, making it if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has the directory, [`StoreError::Format`] when another version wrote
    /// it, [`StoreError::Corrupt`] when it is damaged, [`StoreError::Io`].
    pub fn open(config: &EngineConfig) -> Result<Engine, StoreError> {
        Engine::open_with(config, Arc::new(SystemFiles))
    }

    fn open_with(config: &EngineConfig, files: Arc<dyn Files>) -> Result<Engine, StoreError> {
        if config.makes_new && !directory::has_rows(&*files, &config.path)? {
            Journal::check_place(&*files, &config.path.join(directory::JOURNAL))?;
        }
        let directory = Directory::open(&*files, &config.path)?;
        if directory.is_new(&*files)? {
            if !config.makes_new {
                return Err(directory::damaged(&directory.sled(), "sled's files are not there beside the rest"));
            }
            let nursery = directory.nursery(&*files)?;
            Disk::create(&nursery, config.cache_bytes / 2)?;
            Journal::create(&*files, &directory.journal(), &config.journal())?;
            directory.adopt(&*files, &nursery)?;
        }
        let path = directory.journal();
        let disk = Arc::new(Disk::open(Arc::clone(&files), directory, config.cache_bytes / 2)?);
        let limit = usize::try_from(config.cache_bytes / 2).unwrap_or(usize::MAX);
        let mut state = State::open(&disk, limit)?;
        let journal = Journal::open(Arc::clone(&files), &disk, &mut state, path, config.journal())?;
        state.end_replay();
        // Half a segment is kept for what is queued when the other half is full, and content may be written twice.
        let queue_bytes = config.queue_bytes.min(journal.segment_bytes() / 5);
        let shared = Arc::new(Shared::new(state, queue_bytes, config.serves_after_failure));
        let spiller = Arc::new(Spiller {
            shared: Arc::clone(&shared),
            segments: journal.segments(),
            disk,
            files,
            segment_bytes: journal.segment_bytes() as u64,
            reserve_bytes: config.reserve_bytes,
        });
        let committer = Committer::start(Arc::clone(&shared), journal, config.around_completions)?;
        let thread = thread::Builder::new()
            .name("store-spill".into())
            .spawn({
                let spiller = Arc::clone(&spiller);
                move || spiller.run()
            })
            .map_err(|error| StoreError::Io(error.to_string()))?;
        let health = shared.health();
        Ok(Engine { committer, health, spilling: RwLock::new(Some(Spilling { spiller, thread })) })
    }

    /// Looks at every row: its checksum, and whether it fits the others. What the journal has is moved to sled first.
    /// Nobody may write meanwhile. `progress` is told the rows looked at, now and then.
    ///
    /// # Errors
    /// When the rows cannot be read at all; what is wrong with them is in the answer. [`StoreError::Full`] when there is no
    /// room to move what the journal has.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
        let disk = self.checkpoint()?;
        verify::verify(&disk, progress)
    }

    /// Moves all that is durable to sled.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room for that; nothing was begun then.
    fn checkpoint(&self) -> Result<Arc<Disk>, StoreError> {
        let spiller = self.spiller()?;
        if let Some(why) = spiller.why_full() {
            return Err(StoreError::Full(why));
        }
        let Spiller { shared, segments, disk, .. } = &*spiller;
        // Each look at a store that rests would make another segment.
        let is_at_rest = !shared.core().state.has_changed_in_segment();
        match segments.newest_filled() {
            newest if is_at_rest => newest.map_or(Ok(()), |newest| segments.wait_for(newest))?,
            _ => segments.wait_for(shared.end_segment()?)?,
        }
        Ok(Arc::clone(disk))
    }

    /// The rows in sled, as they are.
    fn disk(&self) -> Result<Arc<Disk>, StoreError> {
        self.spiller().map(|spiller| Arc::clone(&spiller.disk))
    }

    fn shared(&self) -> Result<Arc<Shared>, StoreError> {
        self.spiller().map(|spiller| Arc::clone(&spiller.shared))
    }

    fn spiller(&self) -> Result<Arc<Spiller>, StoreError> {
        let spilling = self.spilling.read().unwrap_or_else(PoisonError::into_inner);
        spilling.as_ref().map(|spilling| Arc::clone(&spilling.spiller)).ok_or(StoreError::Closed)
    }

    /// Reads are short and rarely leave the memory: they run where they are asked for.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError>,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        ready(self.shared().and_then(|shared| read(&shared))).boxed()
    }

    /// Lets the spill end where it is, and gives the files free.
    fn stop(&self) {
        let taken = self.spilling.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Spilling { spiller, thread }) = taken else { return };
        spiller.segments.close();
        // The last handle of a store may be dropped by a completion, on a thread that this one waits for.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
        let disk = Arc::clone(&spiller.disk);
        drop(spiller);
        // Reads that are under way, on other threads, end by themselves.
        while Arc::strong_count(&disk) > 1 {
            thread::yield_now();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The spill must end before the committer, whom it waits for.
        self.stop();
    }
}

impl Store for Engine {
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_> {
        match self.committer.try_submit(batch, Done::new(done)) {
            Ok(()) => taken(),
            Err((batch, done)) => Taking::Right(self.committer.submit(batch, done).boxed()),
        }
    }

    fn read_inbox(
        &self,
        app: AppId,
        user: UserId,
        after: Position,
        up_to: Position,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(error) => return ready(Err(error)).boxed(),
        };
        match reads::inbox(&shared, (app, user), after, up_to, limit) {
            Ok(reads::Read { page, durable: None }) => ready(Ok(page)).boxed(),
            Ok(reads::Read { page, durable: Some(durable) }) => {
                async move { durable.await.unwrap_or(Err(StoreError::Closed)).map(|_| page) }.boxed()
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn find_user(&self, app: AppId, name: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        self.read(|shared| reads::find_user(shared, app, name))
    }

    fn list_users(&self, app: AppId, after: &str, limit: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        self.read(|shared| reads::list_users(shared, app, after, limit))
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        self.read(|shared| Ok(reads::list_apps(shared)))
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            self.committer.close().await;
            self.stop();
            Ok(())
        }
        .boxed()
    }
}
