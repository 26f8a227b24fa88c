//! Rows in sled: what the journal spilled, on stable storage once `sync` returns.
//!
//! sled's own `flush` ends in `sync_file_range`, which survives a killed process but not a power loss; so each spill
//! ends in an `fdatasync` on a descriptor of our own, and `barrier` has sled sync what it writes in between. Its periodic flusher is off and `flush_async` is never called:
//! concurrent flushes deadlock. All writes come from one thread.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::barrier;
use super::directory::{Directory, damaged, failed};
use super::files::Files;
use super::keys;
use super::progress;
use super::rows::{Number, Reach, Record, unseal};
use crate::store::StoreError;

/// How often opening is tried while the sled of a store that this process just closed gives its files free.
const OPEN_ATTEMPTS: u32 = 500;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// The fields are dropped in this order: the directory is free only when sled is closed.
pub(super) struct Disk {
    tree: sled::Tree,
    database: sled::Db,
    /// sled's data file, for syncing.
    data: File,
    directory: Directory,
    files: Arc<dyn Files>,
    /// Whoever has it sees all rows of one object as of one moment.
    alone: Mutex<()>,
    /// So many more rows are written before the next one fails.
    #[cfg(test)]
    pub(super) writes_left: std::sync::atomic::AtomicU64,
}

impl Disk {
    /// Makes sled's files of a new store.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn create(path: &Path, cache_bytes: u64) -> Result<(), StoreError> {
        open_database(path, cache_bytes).map(drop)
    }

    /// Opens the rows in a directory.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when sled finds its files damaged, [`StoreError::Io`].
    pub(super) fn open(files: Arc<dyn Files>, directory: Directory, cache_bytes: u64) -> Result<Disk, StoreError> {
        let path = directory.sled().join("db");
        let data = files.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(&path, "sled's file is not there beside the rest"),
            _ => failed(&path, &error),
        })?;
        // sled reads what was written since it was opened last, and says nothing meanwhile.
        let mib = data.metadata().map_or(0, |data| data.len() >> 20);
        let say = |taken: Duration| tracing::info!(seconds = taken.as_secs(), mib, "sled is reading its files");
        let (database, tree) = progress::telling(say, || {
            files.settle(&data).map_err(|error| failed(&path, &error))?;
            // sled panics over some kinds of damage.
            let opened = catch_unwind(AssertUnwindSafe(|| open_database(&directory.sled(), cache_bytes)));
            opened.unwrap_or_else(|_| Err(does_not_open(&directory.sled())))
        })?;
        directory.sync(&*files)?;
        Ok(Disk {
            tree,
            database,
            data,
            directory,
            files,
            alone: Mutex::new(()),
            #[cfg(test)]
            writes_left: u64::MAX.into(),
        })
    }

    /// Closes sled's files and keeps the directory.
    ///
    /// # Errors
    /// [`StoreError::Io`] when sled does not let go of them.
    pub(super) fn close(self) -> Result<Directory, StoreError> {
        let Disk { tree, database, data, directory, files, .. } = self;
        drop((tree, database, data));
        wait_until_closed(&*files, &directory.sled())?;
        Ok(directory)
    }

    /// Every key and value, in order.
    pub(super) fn scan_all(&self) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        self.scan(&[], &[u8::MAX])
    }

    /// Where sled's files are.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.sled()
    }

    /// Keeps others from writing the rows of an object meanwhile.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row under a key.
    pub(super) fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let value = self.tree.get(key).map_err(translate)?;
        value.map(|value| unseal(key, Bytes::copy_from_slice(&value))).transpose()
    }

    /// Keys and values with `from ≤ key < end`, in order.
    pub(super) fn scan(
        &self,
        from: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        let copy = |row: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = row.map_err(translate)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        };
        // sled does not take an empty range that is the wrong way round.
        let end = if from <= end { end } else { from };
        self.tree.range(from..end).map(copy)
    }

    /// Rows with `from ≤ key < end`, in order.
    pub(super) fn rows_between<R: Record>(
        &self,
        from: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, R), StoreError>> + use<R> {
        self.scan(from, end).map(|row| {
            let (key, value) = row?;
            let record = unseal(&key, value)?;
            Ok((key, record))
        })
    }

    /// Rows whose keys begin with `prefix`, in order.
    pub(super) fn rows<R: Record>(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, R), StoreError>> + use<R> {
        self.rows_between(prefix, &keys::after_prefix(prefix.to_vec()))
    }

    /// The last key that begins with `prefix`.
    pub(super) fn last_key(&self, prefix: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.last_key_between(prefix, &keys::after_prefix(prefix.to_vec()))
    }

    /// The last key with `from ≤ key < end`.
    pub(super) fn last_key_between(&self, from: &[u8], end: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let last = self.tree.range(from..end).next_back().transpose().map_err(translate)?;
        Ok(last.map(|(key, _)| Bytes::copy_from_slice(&key)))
    }

    /// The newest segment of the journal that was spilled.
    pub(super) fn spilled(&self) -> Result<u64, StoreError> {
        Ok(self.get::<Number>(&keys::spilled())?.map_or(0, |Number(spilled)| spilled))
    }

    /// How far the journal goes at least; earlier versions did not keep that.
    pub(super) fn reach(&self) -> Result<Reach, StoreError> {
        Ok(self.get(&keys::reach())?.unwrap_or_default())
    }

    /// Deletes rows with `from ≤ key < end`.
    pub(super) fn clear(&self, from: &[u8], end: &[u8]) -> Result<(), StoreError> {
        for row in self.scan(from, end) {
            self.write(&row?.0, None)?;
        }
        Ok(())
    }

    /// Writes a row, or deletes it; not on stable storage yet.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::SeqCst;
            let counted = self.writes_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            counted.map_err(|_| StoreError::Io("the test wants no more rows".into()))?;
        }
        match value {
            Some(value) => self.tree.insert(key, value).map_err(translate)?,
            None => self.tree.remove(key).map_err(translate)?,
        };
        Ok(())
    }

    /// Returns once everything written is on stable storage.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database.flush().map_err(translate)?;
        self.files.sync_data(&self.data).map_err(|error| failed(&self.directory.sled(), &error))
    }
}

fn does_not_open(path: &Path) -> StoreError {
    damaged(path, "sled cannot read its own files")
}

/// The lock of the data directory is ours, so whoever still holds sled's own is a store that this process closed a
/// moment ago: sled's threads let go a little later than its handles.
pub(super) fn open_database(path: &Path, cache_bytes: u64) -> Result<(sled::Db, sled::Tree), StoreError> {
    barrier::raise();
    let config = sled::Config::default()
        .path(path)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None);
    let mut attempts = 1;
    let database = loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && attempts < OPEN_ATTEMPTS => {
                attempts += 1;
                thread::sleep(OPEN_PAUSE);
            }
            opened => break opened.map_err(translate)?,
        }
    };
    let tree = database.open_tree("rows").map_err(translate)?;
    database.flush().map_err(translate)?;
    Ok((database, tree))
}

/// Returns once sled has let go of files whose handles are dropped.
///
/// # Errors
/// [`StoreError::Io`] when it does not within some seconds.
pub(super) fn wait_until_closed(files: &dyn Files, path: &Path) -> Result<(), StoreError> {
    let data = path.join("db");
    let mut attempts = 1;
    loop {
        match files.lock(&data) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempts < OPEN_ATTEMPTS => {
                attempts += 1;
                thread::sleep(OPEN_PAUSE);
            }
            Err(error) => return Err(failed(&data, &error)),
        }
    }
}

fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

pub(super) fn translate(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { at, .. } => {
            let place = at.map_or_else(|| "a place that it does not name".to_owned(), |at| at.to_string());
            StoreError::Corrupt(format!(
                "sled has found {place} in its files that is not what it wrote; restore a backup, or get out what is sound with \
                 `postrider store salvage`"
            ))
        }
        sled::Error::Io(error) => StoreError::Io(format!("sled's files: {error}")),
        other => StoreError::Io(other.to_string()),
    }
}
