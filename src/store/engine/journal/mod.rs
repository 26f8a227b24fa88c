//! The journal in front of sled: an ack waits for it, and sled gets only what outlives it.
//!
//! A group is one record in the active segment, on stable storage before `apply` returns, and then in the active
//! segment's table. Reads look into the tables, newest first, then into sled. A segment that is full is spilled: the rows
//! that no newer segment has changed go to sled, and when they are on stable storage there, its file is used again under
//! a new number. A row that is deleted before its segment is spilled never touches sled.
//!
//! # What holds
//! - A table has only rows whose record is on stable storage.
//! - A segment's slot is given free after its rows are on stable storage in sled (or are hidden by a newer segment), and
//!   its table is dropped after they are there.
//! - sled and all segments from the oldest that is not spilled, in order, are the whole truth. Replaying a segment that
//!   was spilled before, wholly or half, changes nothing.
//! - Segments, and with them the memory of the tables, are bounded: when all are filled, groups wait for the spill.
//! - What is taken from the operating system: a sector of 512 bytes is written whole or not at all, and a synced write
//!   stays.
//!
//! # Layout
//! - this file: appending and reading
//! - `record`, `segment`: what lies on disk
//! - `table`: rows in memory
//! - `opening`: replay, and what it refuses
//! - `spill`: the thread that moves rows to sled

mod opening;
mod record;
mod segment;
mod spill;
mod table;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use self::record::{ALIGNMENT, END_BYTES, MARK_BYTES, Next, Seed};
use self::segment::{HEAD_BYTES, Head, Slot};
use self::table::{Table, merge};
use super::directory::failed;
use super::disk::Disk;
use super::files::Files;
use super::keys;
use super::records::{self, Number};
use super::view::{Changes, Rows, Scan};
use crate::store::StoreError;

/// What tests know of the files.
#[cfg(test)]
pub(super) mod layout {
    pub const FIRST_RECORD: usize = super::segment::HEAD_BYTES;

    /// Where a record's payload ends, and where the next record begins; without looking whether it is sound.
    pub fn ends(segment: &[u8], record: usize) -> (usize, usize) {
        let length = segment[record..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let end = record + super::record::HEADER_BYTES + length as usize;
        (end, end.next_multiple_of(super::record::ALIGNMENT))
    }

    /// Whether a byte only fills up the space between two records.
    pub fn is_filling(segment: &[u8], byte: usize) -> bool {
        let mut record = FIRST_RECORD;
        while record < segment.len() && record <= byte {
            let (end, next) = ends(segment, record);
            if (end..next).contains(&byte) {
                return true;
            }
            record = next;
        }
        false
    }
}

/// Slots a journal has at least: one is filled while the other is spilled.
const LEAST_SLOTS: usize = 2;

/// Room that groups leave in a segment: for a mark and for the end.
const TRAILER_BYTES: usize = MARK_BYTES + END_BYTES;

/// How large a journal is.
#[derive(Clone, Copy, Debug)]
pub(super) struct JournalConfig {
    /// Bytes of a segment. A group that does not fit gets a segment of its own.
    pub segment_bytes: usize,
    /// Segments at most, two at least.
    pub segments: usize,
    /// Free space, in bytes, that a spill leaves on the disk.
    pub reserve_bytes: u64,
    /// Random: what new segments are salted with.
    pub salt: u64,
}

/// Rows in the journal and in sled.
pub(super) struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    spilling: Option<JoinHandle<()>>,
}

struct Shared {
    /// Newest first; the first is the active segment's.
    tables: RwLock<Vec<Arc<Table>>>,
    state: Mutex<State>,
    changed: Condvar,
    reserve_bytes: u64,
    disk: Disk,
    files: Arc<dyn Files>,
}

struct State {
    free: Vec<Slot>,
    /// To be spilled, oldest first. The first is being spilled.
    pending: VecDeque<Filled>,
    /// Why nothing can be spilled now.
    full: Option<String>,
    /// Why nothing will be spilled any more.
    failure: Option<StoreError>,
    closing: bool,
}

/// A segment that takes no more records.
#[derive(Clone)]
struct Filled {
    number: u64,
    slot: Slot,
    table: Arc<Table>,
}

/// The segment that records are appended to.
struct Active {
    slot: Slot,
    seed: Seed,
    /// Where the next record goes.
    offset: usize,
    table: Arc<Table>,
    /// Whether it got a record since it was opened.
    appended: bool,
}

/// What appends: used by one thread at a time.
struct Writer {
    active: Active,
    config: JournalConfig,
    directory: PathBuf,
    /// Slots there are.
    slots: usize,
    next_id: u32,
    /// Kept for its allocation.
    buffer: Vec<u8>,
}

impl Journal {
    /// Makes the journal of a new store, whose directory does not exist or is what a first start left that was cut
    /// short.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there are records, [`StoreError::Io`], [`StoreError::Full`].
    pub(super) fn create(files: &dyn Files, directory: &Path, config: &JournalConfig) -> Result<(), StoreError> {
        if !opening::is_unused(files, directory)? {
            return Err(opening::damaged(directory, "there are records, and the rest of the store is missing"));
        }
        remake_directory(files, directory).map_err(|error| failed(directory, &error))?;
        let slot = Slot::create(files, directory, 0, config.segment_bytes())?;
        Active::begin(files, slot, Seed { number: 1, salt: config.salt }, 1).map(drop)
    }

    /// Opens the journal in front of `disk`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with a report of what is wrong and where, [`StoreError::Io`].
    pub(super) fn open(
        files: Arc<dyn Files>,
        disk: Disk,
        directory: PathBuf,
        config: JournalConfig,
    ) -> Result<Journal, StoreError> {
        let found = opening::open(&*files, &directory)?;
        let spilled = disk.get(&keys::spilled())?.map(|row| records::unseal(&keys::spilled(), &row)).transpose()?;
        let spilled = spilled.map_or(0, |Number(spilled)| spilled);
        if spilled < found.spilled {
            let what = format!("it has the journal's segments up to {spilled} and not up to {}", found.spilled);
            return Err(opening::damaged(&disk.path(), &what));
        }
        let mut tables = vec![Arc::clone(&found.active.table)];
        tables.extend(found.filled.iter().rev().map(|filled| Arc::clone(&filled.table)));
        let ids = || found.free.iter().chain(found.filled.iter().map(|filled| &filled.slot)).map(|slot| slot.id);
        let slots = 1 + ids().count();
        let next_id = 1 + ids().chain([found.active.slot.id]).max().unwrap_or(0);
        let state = State { free: found.free, pending: found.filled.into(), full: None, failure: None, closing: false };
        let reserve_bytes = config.reserve_bytes;
        let shared = Arc::new(Shared {
            tables: RwLock::new(tables),
            state: Mutex::new(state),
            changed: Condvar::new(),
            reserve_bytes,
            disk,
            files,
        });
        let mut writer = Writer { active: found.active, config, directory, slots, next_id, buffer: Vec::new() };
        while writer.slots < LEAST_SLOTS {
            let slot = writer.make_slot(&*shared.files, config.segment_bytes())?;
            shared.state().free.push(slot);
        }
        let for_thread = Arc::clone(&shared);
        let spilling = thread::Builder::new()
            .name("store-spill".into())
            .spawn(move || spill::run(&for_thread))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Journal { shared, writer: Mutex::new(writer), spilling: Some(spilling) })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for Journal {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.shared.tables().iter().find_map(|table| table.get(key));
        match found {
            Some(value) => Ok(value),
            // A table is dropped after its rows are below, so what no table has is there.
            None => self.shared.disk.get(key),
        }
    }

    fn scan(&self, from: &[u8], end: &[u8]) -> Scan<'_> {
        // The tables that are there now are kept until the scan ends, whatever is spilled meanwhile.
        let tables = self.shared.tables().clone();
        merge(&tables, self.shared.disk.scan(from, end), from, end)
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let appended = writer.append(&self.shared, &changes);
        if let Err(error) = &appended
            && !matches!(error, StoreError::Full(_))
        {
            self.shared.state().failure = Some(error.clone());
        }
        appended?;
        let exact = |value: Vec<u8>| Bytes::from(value.into_boxed_slice());
        writer.active.table.insert(changes.into_iter().map(|(key, value)| (key, value.map(exact))));
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.spilling.take() {
            let _ = thread.join();
        }
        if self.shared.state().failure.is_none() {
            self.writer().close(&*self.shared.files);
        }
    }
}

impl Shared {
    fn tables(&self) -> RwLockReadGuard<'_, Vec<Arc<Table>>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn newer_than(&self, table: &Arc<Table>) -> Vec<Arc<Table>> {
        self.tables().iter().take_while(|newer| !Arc::ptr_eq(newer, table)).cloned().collect()
    }

    fn add_table(&self, table: Arc<Table>) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(0, table);
    }

    fn remove_table(&self, table: &Arc<Table>) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, table));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JournalConfig {
    fn segment_bytes(&self) -> usize {
        self.segment_bytes.max(HEAD_BYTES + TRAILER_BYTES).next_multiple_of(ALIGNMENT)
    }
}

impl Active {
    /// Begins a segment. Its head is on stable storage when this returns: records without a head are no crash's doing.
    fn begin(files: &dyn Files, slot: Slot, seed: Seed, oldest: u64) -> Result<Active, StoreError> {
        slot.write(files, 0, &Head { slot: slot.id, seed, oldest }.to_bytes())?;
        slot.sync(files)?;
        Ok(Active { slot, seed, offset: HEAD_BYTES, table: Arc::default(), appended: false })
    }
}

impl Writer {
    /// Puts a group on stable storage.
    ///
    /// # Errors
    /// [`StoreError::Full`] when nothing was changed and a later group may fit; anything else is final.
    fn append(&mut self, shared: &Shared, changes: &Changes) -> Result<(), StoreError> {
        if let Some(failure) = &shared.state().failure {
            return Err(failure.clone());
        }
        let bytes = record::group_bytes(changes).ok_or_else(|| StoreError::Io("a group is above 4 GiB".into()))?;
        if self.active.offset + bytes + TRAILER_BYTES > self.active.slot.length {
            self.rotate(shared, HEAD_BYTES + bytes + TRAILER_BYTES)?;
        }
        let active = &mut self.active;
        record::write_group(&mut self.buffer, active.seed, active.offset, changes);
        active.slot.write(&*shared.files, active.offset, &self.buffer)?;
        active.slot.sync(&*shared.files)?;
        active.offset += bytes;
        active.appended = true;
        Ok(())
    }

    /// Ends the active segment and begins one that has room for `bytes` in all.
    fn rotate(&mut self, shared: &Shared, bytes: usize) -> Result<(), StoreError> {
        let slot = self.reserve(shared, bytes)?;
        let files = &*shared.files;
        let Active { slot: ended, seed, offset, table, .. } = &self.active;
        let next = Next { slot: slot.id, salt: self.config.salt };
        record::write_end(&mut self.buffer, *seed, *offset, next);
        final_error(ended.write(files, *offset, &self.buffer))?;
        ended.sync(files)?;

        let filled = Filled { number: seed.number, slot: ended.clone(), table: Arc::clone(table) };
        let seed = Seed { number: seed.number + 1, salt: next.salt };
        let (oldest, surplus) = {
            let mut state = shared.state();
            let oldest = state.pending.front().map_or(filled.number, |oldest| oldest.number);
            // What is free now was spilled before `oldest`, so the new head does not need it.
            (oldest, self.surplus(&mut state.free))
        };
        self.active = final_error(Active::begin(files, slot, seed, oldest))?;
        shared.add_table(Arc::clone(&self.active.table));
        shared.state().pending.push_back(filled);
        shared.changed.notify_all();
        for slot in surplus {
            if let Err(error) = files.remove(&slot.path) {
                tracing::warn!(%error, path = %slot.path.display(), "a surplus segment cannot be removed");
            }
        }
        Ok(())
    }

    /// A slot of at least `bytes`: a free one, a new one, or the next that the spill gives free.
    fn reserve(&mut self, shared: &Shared, bytes: usize) -> Result<Slot, StoreError> {
        let mut cannot_make: Option<StoreError> = None;
        let mut state = shared.state();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if let Some(at) = state.free.iter().position(|slot| slot.length >= bytes) {
                return Ok(state.free.swap_remove(at));
            }
            let may_make = self.slots < self.config.segments.max(LEAST_SLOTS) || bytes > self.config.segment_bytes();
            match &cannot_make {
                None if may_make => {
                    drop(state);
                    let made = self.make_slot(&*shared.files, bytes.max(self.config.segment_bytes()));
                    state = shared.state();
                    match made {
                        Ok(slot) => return Ok(slot),
                        Err(error) => cannot_make = Some(error),
                    }
                }
                Some(error) if state.pending.is_empty() => return Err(StoreError::Full(error.to_string())),
                _ => match &state.full {
                    Some(full) => return Err(StoreError::Full(full.clone())),
                    None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                },
            }
        }
    }

    fn make_slot(&mut self, files: &dyn Files, length: usize) -> Result<Slot, StoreError> {
        let slot = Slot::create(files, &self.directory, self.next_id, length.next_multiple_of(ALIGNMENT))?;
        self.next_id += 1;
        self.slots += 1;
        Ok(slot)
    }

    /// Groups that were too large for any slot made more slots than there should be: the largest free ones go.
    fn surplus(&mut self, free: &mut Vec<Slot>) -> Vec<Slot> {
        let most = self.config.segments.max(LEAST_SLOTS);
        let surplus = self.slots.saturating_sub(most).min(free.len());
        free.sort_by_key(|slot| slot.length);
        self.slots -= surplus;
        free.split_off(free.len() - surplus)
    }

    /// Marks that all records were on stable storage: from here on, an unsound record is damage and never a torn tail.
    fn close(&mut self, files: &dyn Files) {
        let Active { slot, seed, offset, appended, .. } = &self.active;
        if *appended {
            record::write_group(&mut self.buffer, *seed, *offset, &Changes::new());
            let marked = slot.write(files, *offset, &self.buffer).and_then(|()| slot.sync(files));
            if let Err(error) = marked {
                tracing::warn!(%error, "the journal could not be marked as closed; nothing is lost by that");
            }
        }
    }
}

/// An empty directory whose name is on stable storage.
fn remake_directory(files: &dyn Files, directory: &Path) -> io::Result<()> {
    match files.remove_directory(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => files.make_directory(directory)?,
    }
    files.sync_directory(directory.parent().unwrap_or(directory))
}

/// Where a record may be half-written, a full disk is as final as a broken one.
fn final_error<T>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        StoreError::Full(why) => StoreError::Io(why),
        other => other,
    })
}
