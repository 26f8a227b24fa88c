//! The engine: a journal in front of sled, one thread that commits.
//!
//! # Layout
//! - this file: opening, and the `Store` that the others make up
//! - `committer`: the one thread: groups batches, makes them durable, answers
//! - `sequencer`: decides operations
//! - `view`: a group's changes over the durable rows, and `view::Rows`, the seam to what keeps them
//! - `records`, `keys`: what rows look like
//! - `reads`: reads beside the committer
//! - `journal`: what makes groups durable, and the rows that are not in sled yet
//! - `disk`: rows in sled
//! - `verify`: whether the rows are sound
//! - `directory`, `files`: the data directory and the file system

mod committer;
mod directory;
mod disk;
mod files;
mod journal;
mod keys;
mod reads;
mod records;
mod sequencer;
#[cfg(test)]
pub(super) mod tests;
mod verify;
mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::{BoxFuture, FutureExt, ready};

use self::committer::{Committer, Done};
use self::directory::Directory;
use self::disk::Disk;
use self::files::{Files, SystemFiles};
use self::journal::{Journal, JournalConfig};
pub use self::verify::Verified;
use self::view::Rows;
use super::{App, Batch, Completion, Page, ReadLimit, Store, StoreError, User};
use crate::ids::{AppId, Position, UserId};

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The data directory. Made, with its parents and for its owner alone, if it is missing.
    pub path: PathBuf,
    /// How much sled may keep in memory, in bytes, roughly.
    pub cache_bytes: u64,
    /// How much may wait for the committer, in bytes of operations; above it `commit` waits.
    pub queue_bytes: usize,
    /// Bytes of a journal segment. What a full segment holds takes up to about three times that in memory until it is
    /// in sled.
    pub segment_bytes: usize,
    /// Journal segments at most; two at least. When all are full, commits wait until one is in sled.
    pub segments: usize,
    /// Free space on the disk, in bytes, below which commits are refused rather than sled driven against the wall.
    pub reserve_bytes: u64,
    /// Random bytes, new at each opening: they keep anybody from sending content that looks like the journal's own.
    pub salt: u64,
}

impl EngineConfig {
    /// A cache of 64 MiB, a queue of 16 MiB, four segments of 32 MiB and a reserve of 64 MiB; no salt.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        EngineConfig {
            path: path.to_owned(),
            cache_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            segment_bytes: 32 << 20,
            segments: 4,
            reserve_bytes: 64 << 20,
            salt: 0,
        }
    }

    fn journal(&self) -> JournalConfig {
        let EngineConfig { segment_bytes, segments, reserve_bytes, salt, .. } = *self;
        JournalConfig { segment_bytes, segments, reserve_bytes, salt }
    }
}

/// A store on disk. Dropping it finishes what was taken and closes its files.
pub struct Engine {
    committer: Committer,
    /// `None` once it is closed.
    rows: RwLock<Option<Arc<dyn Rows>>>,
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
        let directory = Directory::open(&*files, &config.path)?;
        if directory.is_new(&*files)? {
            let nursery = directory.nursery(&*files)?;
            Disk::create(&nursery, config.cache_bytes)?;
            Journal::create(&*files, &directory.journal(), &config.journal())?;
            directory.adopt(&*files, &nursery)?;
        }
        let journal = directory.journal();
        let disk = Disk::open(Arc::clone(&files), directory, config.cache_bytes)?;
        let rows: Arc<dyn Rows> = Arc::new(Journal::open(files, disk, journal, config.journal())?);
        let committer = Committer::start(Arc::clone(&rows), config.queue_bytes)?;
        Ok(Engine { committer, rows: RwLock::new(Some(rows)) })
    }

    /// Looks at every row: its checksum, and whether it fits the others. Nobody may write meanwhile. `progress` is told
    /// the rows looked at, now and then.
    ///
    /// # Errors
    /// When the rows cannot be read at all; what is wrong with them is in the answer.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        verify::verify(&*rows, progress)
    }

    /// Reads are short and rarely leave the cache: they run where they are asked for.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Rows) -> Result<T, StoreError>,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        ready(rows.ok_or(StoreError::Closed).and_then(|rows| read(&*rows))).boxed()
    }
}

impl Store for Engine {
    fn commit(&self, batch: Batch, done: Completion) -> BoxFuture<'_, ()> {
        match self.committer.try_submit(batch, Done::new(done)) {
            Ok(()) => ready(()).boxed(),
            Err((batch, done)) => self.committer.submit(batch, done).boxed(),
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
        self.read(|rows| reads::inbox(rows, app, user, after, up_to, limit))
    }

    fn find_user(&self, app: AppId, name: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        self.read(|rows| reads::find_user(rows, app, name))
    }

    fn list_users(&self, app: AppId, after: &str, limit: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        self.read(|rows| reads::list_users(rows, app, after, limit))
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        self.read(reads::list_apps)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            self.committer.close().await;
            let Some(rows) = self.rows.write().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
            // Reads that are under way, on other threads, end by themselves.
            while Arc::strong_count(&rows) > 1 {
                tokio::task::yield_now().await;
            }
            drop(rows);
            Ok(())
        }
        .boxed()
    }
}
