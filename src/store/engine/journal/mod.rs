//! The journal in front of sled: an ack waits for it, and sled gets only what outlives it.
//!
//! A group is one record in the active segment, on stable storage before `append` returns. A full segment waits until its
//! slot is needed. Then it is spilled: what changed in it and in no newer one, and what is new in it and still alive, goes
//! to sled; when that is on stable storage there, its file is used again under a new number. What is gone before its
//! segment is spilled never touches sled: messages that were delivered, answers that newer ones have replaced.
//!
//! # What holds
//! - A segment's slot is given free after all that sled lacks of it is on stable storage in sled, or is in a newer
//!   segment.
//! - sled and all segments from the oldest that is not spilled, in order, are the whole truth. Replaying a segment that
//!   was spilled before, wholly or half, changes nothing.
//! - sled has nothing that was not on stable storage here, and knows up to where that was, and where the journal ended when
//!   the store was closed: one that ends before is damaged, whatever its tail looks like.
//! - Segments, and with them the memory of what is in them, are bounded, in bytes and in objects: when all are filled,
//!   nothing is decided until one is spilled.
//! - Spilling begins while there is half a segment left for what is decided meanwhile.
//! - What is taken from the operating system: a sector of 512 bytes is written whole or not at all, and a synced write
//!   stays.
//!
//! # Layout
//! - this file: appending
//! - `record`, `segment`: what lies on disk; `blocks`: how it gets there
//! - `opening`: replay, and what it refuses; `ahead`: the reading of it, beside
//! - `copies`: segments that a backup takes along
//! - `sound`: what is sound in a damaged journal; `damage`: what is said of one

mod ahead;
mod blocks;
mod copies;
mod damage;
mod opening;
mod record;
mod segment;
mod sound;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use self::blocks::Blocks;
pub(super) use self::copies::Copies;
use self::record::{ALIGNMENT, END_BYTES, MARK_BYTES, Next, Seed};
use self::segment::{HEAD_BYTES, Head, Slot};
pub(super) use self::sound::{Found, Needed, sound_groups};
use super::directory::{damaged, failed};
use super::disk::Disk;
use super::files::{BLOCK_BYTES, Files};
use super::rows::Reach;
use super::state::{Ended, State};
use crate::store::StoreError;

/// What tests know of the files.
#[cfg(test)]
pub(super) mod layout {
    pub const FIRST_RECORD: usize = super::segment::HEAD_BYTES;
    pub const HEADER_BYTES: usize = super::record::HEADER_BYTES;

    /// Where a record's payload ends, and where the next record begins; without looking whether it is sound.
    pub fn ends(segment: &[u8], record: usize) -> (usize, usize) {
        let length = segment[record..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let end = record + HEADER_BYTES + length as usize;
        (end, end.next_multiple_of(super::record::ALIGNMENT))
    }

    /// Makes the record of a group sound, whatever its payload is now.
    pub fn seal(segment: &mut [u8], record: usize) {
        let head = segment.first_chunk().map(super::Head::read);
        let Some(super::segment::FoundHead::Used(head)) = head else { panic!("a segment that was never used") };
        let mut sealed = segment[record..ends(segment, record).0].to_vec();
        super::record::finish_group(&mut sealed, head.seed, record);
        segment[record..][..sealed.len()].copy_from_slice(&sealed);
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

/// A segment is full, too, when so many objects changed in it as if each had taken this many bytes: what changed is in memory
/// until it is spilled, and spilled in one go.
const OBJECT_BYTES: usize = 512;

/// However small a segment is, so many objects may change in it.
const LEAST_OBJECTS: usize = 64;

/// Room that groups leave in a segment: for a mark and for the end.
const TRAILER_BYTES: usize = MARK_BYTES + END_BYTES;

/// How large a journal is.
#[derive(Clone, Copy, Debug)]
pub(super) struct JournalConfig {
    /// Bytes of a segment. A group that does not fit gets a segment of its own.
    pub segment_bytes: usize,
    /// Segments at most, two at least.
    pub segments: usize,
    /// Random: what new segments are salted with.
    pub salt: u64,
}

/// What appends: used by one thread.
pub(super) struct Journal {
    active: Active,
    /// The slot of the next segment, taken in time.
    next: Option<Slot>,
    config: JournalConfig,
    directory: PathBuf,
    /// Slots there are.
    slots: usize,
    next_id: u32,
    /// The record that is being made.
    buffer: Vec<u8>,
    segments: Arc<Segments>,
    files: Arc<dyn Files>,
}

/// What becomes of segments that are full: the journal fills them, the spill gives their slots free.
pub(super) struct Segments {
    state: Mutex<SegmentsState>,
    changed: Condvar,
    /// While a backup is made.
    copies: Mutex<Option<Copies>>,
}

struct SegmentsState {
    free: Vec<Slot>,
    /// To be spilled, oldest first. The first may be at it.
    pending: VecDeque<Arc<Filled>>,
    /// Segments up to this one are to be spilled now.
    due: u64,
    /// Up to where records are on stable storage.
    reach: Reach,
    /// Why nothing can be spilled now.
    full: Option<String>,
    /// Nothing will be spilled any more.
    ended: bool,
    closing: bool,
}

/// A segment that takes no more records.
pub(super) struct Filled {
    pub number: u64,
    slot: Slot,
    /// What there is to spill of it.
    pub ended: Ended,
}

/// The segment that records are appended to.
struct Active {
    slot: Slot,
    seed: Seed,
    /// Where the next record goes.
    offset: usize,
    blocks: Blocks,
    /// Whether it got a record since it was opened.
    appended: bool,
    /// Objects that have changed in it, by when the last record was made.
    changed: usize,
}

/// Whether what is decided from now on has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// As soon as the spill has given a slot free.
    Behind,
    Full(String),
}

impl Journal {
    /// Makes the journal of a new store, whose directory does not exist or is what a first start left that was cut
    /// short.
    ///
    /// # Errors
    /// As [`Journal::check_place`], and [`StoreError::Full`].
    pub(super) fn create(files: &dyn Files, directory: &Path, config: &JournalConfig) -> Result<(), StoreError> {
        Self::check_place(files, directory)?;
        remake_directory(files, directory).map_err(|error| failed(directory, &error))?;
        let slot = Slot::create(files, directory, 0, config.segment_bytes())?;
        Active::begin(files, slot, Seed { number: 1, salt: config.salt }, 1).map(drop)
    }

    /// Whether a journal may be made in a directory, which is emptied for it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there are records, [`StoreError::Occupied`] when there is what is no journal's,
    /// [`StoreError::Io`].
    pub(super) fn check_place(files: &dyn Files, directory: &Path) -> Result<(), StoreError> {
        match opening::is_unused(files, directory)? {
            true => Ok(()),
            false => Err(damaged(directory, "there are records, and the rest of the store is missing")),
        }
    }

    /// Opens the journal and replays it into the state.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with a report of what is wrong and where, [`StoreError::Io`].
    pub(super) fn open(
        files: Arc<dyn Files>,
        disk: &Disk,
        state: &mut State,
        directory: PathBuf,
        config: JournalConfig,
    ) -> Result<Journal, StoreError> {
        let found = opening::open(&*files, &directory, disk, state)?;
        let ids = || found.free.iter().chain(found.filled.iter().map(|filled| &filled.slot)).map(|slot| slot.id);
        let slots = 1 + ids().count();
        let next_id = 1 + ids().chain([found.active.slot.id]).max().unwrap_or(0);
        let pending = found.filled.into_iter().map(Arc::new).collect();
        let (free, reach) = (found.free, found.active.reach());
        let segments = SegmentsState { free, pending, due: 0, reach, full: None, ended: false, closing: false };
        let segments =
            Arc::new(Segments { state: Mutex::new(segments), changed: Condvar::new(), copies: Mutex::new(None) });
        let (active, buffer, next) = (found.active, Vec::new(), None);
        let mut journal = Journal { active, next, config, directory, slots, next_id, buffer, segments, files };
        while journal.slots < LEAST_SLOTS {
            let slot = journal.make_slot(config.segment_bytes())?;
            journal.segments.state().free.push(slot);
        }
        journal.make_due(&mut journal.segments.state());
        Ok(journal)
    }

    pub(super) fn segments(&self) -> Arc<Segments> {
        Arc::clone(&self.segments)
    }

    /// Bytes of a segment.
    pub(super) fn segment_bytes(&self) -> usize {
        self.config.segment_bytes()
    }

    /// Begins a record: the group's changes are to be appended.
    pub(super) fn record(&mut self) -> &mut Vec<u8> {
        record::begin(&mut self.buffer);
        &mut self.buffer
    }

    /// The segment that a record goes to whose payload has `bytes` at most, when so many objects have changed in the active
    /// one.
    pub(super) fn place(&mut self, bytes: usize, changed: usize) -> u64 {
        self.active.changed = changed;
        // Without a slot it is not ended early: one would have to be made.
        let ends_early = self.next.is_some() && changed >= self.most_objects();
        self.active.seed.number + u64::from(ends_early || !self.fits(bytes))
    }

    /// Objects that may change in a segment.
    fn most_objects(&self) -> usize {
        (self.config.segment_bytes() / OBJECT_BYTES).max(LEAST_OBJECTS)
    }

    fn fits(&self, bytes: usize) -> bool {
        self.active.offset + record::length(bytes) + TRAILER_BYTES <= self.active.slot.length
    }

    /// Puts the record on stable storage. `ended`: what there is to spill of the segment before, when its place is a new one.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing may be appended any more.
    pub(super) fn append(&mut self, ended: Option<Ended>) -> Result<(), StoreError> {
        if u32::try_from(self.buffer.len()).is_err() {
            return Err(StoreError::Io("a group is above 4 GiB".into()));
        }
        if let Some(ended) = ended {
            let payload = self.buffer.len() - record::HEADER_BYTES;
            self.rotate(HEAD_BYTES + record::length(payload) + TRAILER_BYTES, ended)?;
        }
        let active = &mut self.active;
        record::finish_group(&mut self.buffer, active.seed, active.offset);
        final_error(active.write(&*self.files, &self.buffer))?;
        active.slot.sync(&*self.files)?;
        active.appended = true;
        self.segments.state().reach = active.reach();
        Ok(())
    }

    /// Ends the active segment and begins one that has room for `bytes` in all.
    fn rotate(&mut self, bytes: usize, ended: Ended) -> Result<(), StoreError> {
        let slot = final_error(self.reserve(bytes))?;
        let files = &*self.files;
        let full = &mut self.active;
        let seed = full.seed;
        let next = Next { slot: slot.id, salt: self.config.salt };
        let mut end = Vec::new();
        record::write_end(&mut end, seed, full.offset, next);
        final_error(full.write(files, &end))?;
        full.slot.sync(files)?;

        let filled = Filled { number: seed.number, slot: full.slot.clone(), ended };
        let seed = Seed { number: seed.number + 1, salt: next.salt };
        let (oldest, surplus) = {
            let segments = Arc::clone(&self.segments);
            let mut state = segments.state();
            let oldest = state.pending.front().map_or(filled.number, |oldest| oldest.number);
            // What is free now was spilled before `oldest`, so the new head does not need it.
            (oldest, self.surplus(&mut state.free))
        };
        self.active = final_error(Active::begin(&*self.files, slot, seed, oldest))?;
        {
            let mut state = self.segments.state();
            state.pending.push_back(Arc::new(filled));
            self.make_due(&mut state);
        }
        for slot in surplus {
            if let Err(error) = self.files.remove(&slot.path) {
                tracing::warn!(%error, path = %slot.path.display(), "a surplus segment cannot be removed");
            }
        }
        Ok(())
    }

    /// Whether the next segment has its slot.
    pub(super) fn next_is_taken(&self) -> bool {
        self.next.is_some()
    }

    /// Takes the slot of the next segment before the active one is full.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`]; the journal is as it was.
    pub(super) fn take_next(&mut self) -> Result<(), StoreError> {
        self.next = Some(self.reserve(self.config.segment_bytes())?);
        Ok(())
    }

    /// Ends the active segment, whatever is in it, so that all of it can be spilled.
    ///
    /// # Errors
    /// As `append`.
    pub(super) fn end_segment(&mut self, ended: Ended) -> Result<(), StoreError> {
        self.rotate(self.config.segment_bytes(), ended)
    }

    /// The number of the segment that is being filled.
    pub(super) fn number(&self) -> u64 {
        self.active.seed.number
    }

    /// Whether it is time to look for the next slot.
    pub(super) fn is_tight(&self) -> bool {
        let Active { slot, offset, changed, .. } = &self.active;
        self.next.is_none() && (offset * 2 > slot.length || changed * 2 > self.most_objects())
    }

    /// Leaves full segments alone as long as there are slots for the active one, the next, and one that is free when the
    /// next is half full.
    fn make_due(&self, state: &mut SegmentsState) {
        let others = if self.next.is_some() { 3 } else { 2 };
        let may_wait = self.most_slots().saturating_sub(others);
        if let Some(last) = state.pending.len().checked_sub(may_wait + 1) {
            self.segments.make_due(state, state.pending[last].number);
        }
    }

    fn most_slots(&self) -> usize {
        self.config.segments.max(LEAST_SLOTS)
    }

    /// Whether what is decided from now on has a place; takes the slot of the next segment when it is time.
    pub(super) fn room(&mut self) -> Room {
        if !self.is_tight() {
            return Room::Enough;
        }
        let segments = Arc::clone(&self.segments);
        let mut state = segments.state();
        let bytes = self.config.segment_bytes();
        if let Some(at) = state.free.iter().position(|slot| slot.length >= bytes) {
            self.next = Some(state.free.swap_remove(at));
            self.make_due(&mut state);
            return Room::Enough;
        }
        let (nothing_pending, full) = (state.pending.is_empty(), state.full.clone());
        // Free ones are of the time when segments were smaller: they go when the next segment begins.
        let used = self.slots - state.free.len();
        drop(state);
        let made = match used < self.most_slots() {
            true => self.make_slot(bytes),
            false => Err(StoreError::Closed),
        };
        match (made, full) {
            (Ok(slot), _) => {
                self.next = Some(slot);
                self.make_due(&mut segments.state());
                Room::Enough
            }
            (_, Some(full)) => Room::Full(full),
            (Err(StoreError::Full(why) | StoreError::Io(why)), None) if nothing_pending => Room::Full(why),
            (Err(_), None) => {
                let mut state = segments.state();
                if let Some(oldest) = state.pending.front().map(|oldest| oldest.number) {
                    segments.make_due(&mut state, oldest);
                }
                Room::Behind
            }
        }
    }

    /// A slot of at least `bytes`: the one that was taken, another free one, or a new one. It is never waited for the spill
    /// here, which may wait for what is to be appended.
    fn reserve(&mut self, bytes: usize) -> Result<Slot, StoreError> {
        let mut state = self.segments.state();
        state.free.extend(self.next.take());
        if let Some(at) = state.free.iter().position(|slot| slot.length >= bytes) {
            return Ok(state.free.swap_remove(at));
        }
        drop(state);
        self.make_slot(bytes.max(self.config.segment_bytes()))
    }

    fn make_slot(&mut self, length: usize) -> Result<Slot, StoreError> {
        let slot = Slot::create(&*self.files, &self.directory, self.next_id, length.next_multiple_of(ALIGNMENT))?;
        self.next_id += 1;
        self.slots += 1;
        Ok(slot)
    }

    /// Groups that were too large for any slot, or another configuration, made more slots than there should be: the free
    /// ones go whose length is furthest from what it should be.
    fn surplus(&mut self, free: &mut Vec<Slot>) -> Vec<Slot> {
        let surplus = self.slots.saturating_sub(self.most_slots()).min(free.len());
        let wanted = self.config.segment_bytes();
        free.sort_by_key(|slot| slot.length.abs_diff(wanted));
        self.slots -= surplus;
        free.split_off(free.len() - surplus)
    }

    /// Marks that all records were on stable storage: from here on, an unsound record is damage and never a torn tail.
    pub(super) fn close(&mut self) {
        let active = &mut self.active;
        if active.appended {
            record::begin(&mut self.buffer);
            record::finish_group(&mut self.buffer, active.seed, active.offset);
            let files = &*self.files;
            let marked = active.write(files, &self.buffer).and_then(|()| active.slot.sync(files));
            if let Err(error) = marked {
                tracing::warn!(%error, "the journal could not be marked as closed; nothing is lost by that");
            }
        }
    }
}

impl Segments {
    fn state(&self) -> MutexGuard<'_, SegmentsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Segments up to this one are to be spilled now.
    fn make_due(&self, state: &mut SegmentsState, number: u64) {
        if state.due < number {
            state.due = number;
            self.changed.notify_all();
        }
    }

    /// The oldest segment, when it is to be spilled now; `None` when no more is to be spilled.
    pub(super) fn next(&self) -> Option<Arc<Filled>> {
        let mut state = self.state();
        loop {
            if state.closing {
                return None;
            }
            if let Some(filled) = state.pending.front().filter(|filled| filled.number <= state.due) {
                return Some(Arc::clone(filled));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The oldest segment is on stable storage in sled: its slot may be used again.
    pub(super) fn spilled(&self) {
        let mut state = self.state();
        if let Some(filled) = state.pending.pop_front() {
            state.free.push(filled.slot.clone());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Says why nothing can be spilled now, or that it can; returns whether that is news. Then it may be waited a moment.
    pub(super) fn set_full(&self, full: Option<String>) -> bool {
        let mut state = self.state();
        let news = state.full.is_some() != full.is_some();
        state.full = full;
        drop(state);
        self.changed.notify_all();
        news
    }

    /// Waits a moment, or until no more is to be spilled.
    pub(super) fn pause(&self, pause: std::time::Duration) {
        let state = self.state();
        let waiting = self.changed.wait_timeout_while(state, pause, |state| !state.closing);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// How far the journal goes at least.
    pub(super) fn reach(&self) -> Reach {
        self.state().reach
    }

    /// Nothing is spilled any more.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// The spill has ended: nobody waits for it.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// The newest segment that is not in sled yet, of those that are full.
    pub(super) fn newest_filled(&self) -> Option<u64> {
        self.state().pending.back().map(|newest| newest.number)
    }

    /// Has every segment up to this one spilled, and waits for that.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room for it in sled, [`StoreError::Io`] when nothing is spilled any more.
    pub(super) fn wait_for(&self, number: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        self.make_due(&mut state, number);
        while state.pending.front().is_some_and(|oldest| oldest.number <= number) {
            if let Some(full) = &state.full {
                return Err(StoreError::Full(full.clone()));
            }
            if state.ended || state.closing {
                return Err(StoreError::Io("nothing moves rows to sled any more".into()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl JournalConfig {
    fn segment_bytes(&self) -> usize {
        // Whole blocks, so that they can be written as such; smaller ones are for tests.
        let unit = if self.segment_bytes < BLOCK_BYTES { ALIGNMENT } else { BLOCK_BYTES };
        self.segment_bytes.max(HEAD_BYTES + TRAILER_BYTES).next_multiple_of(unit)
    }
}

impl Active {
    /// Begins a segment. Its head is on stable storage when this returns: records without a head are no crash's doing.
    fn begin(files: &dyn Files, slot: Slot, seed: Seed, oldest: u64) -> Result<Active, StoreError> {
        let head = Head { slot: slot.id, seed, oldest }.to_bytes();
        // Alone: until it is there, the records behind it may be needed that the file had before.
        slot.write(files, 0, &head)?;
        slot.sync(files)?;
        Ok(Active::behind(slot, seed, HEAD_BYTES, head.to_vec()))
    }

    /// Goes on in a segment at an offset; in the block there, this much is written.
    fn behind(slot: Slot, seed: Seed, offset: usize, begun: Vec<u8>) -> Active {
        Active { slot, seed, offset, blocks: Blocks::behind(begun), appended: false, changed: 0 }
    }

    /// Up to where records are. They are on stable storage when it was synced.
    fn reach(&self) -> Reach {
        self.seed.at(self.offset)
    }

    /// Writes the next record.
    fn write(&mut self, files: &dyn Files, record: &[u8]) -> Result<(), StoreError> {
        let (at, blocks) = self.blocks.around(self.offset, record, self.slot.length);
        self.slot.write_blocks(files, at, blocks)?;
        self.offset += record.len();
        Ok(())
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
