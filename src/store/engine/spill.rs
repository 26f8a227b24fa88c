//! The thread that moves filled segments to sled, one after the other, and gives their slots free.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::committer::Shared;
use super::disk::Disk;
use super::files::Files;
use super::journal::{Filled, Segments};
use super::keys;
use super::rows::{AnswerWords, Answers, Number, Reach, Record as _, UserRow, seal};
use super::state::{Changed, Spill, SpilledAnswers, Written};
use crate::ids::{AppId, SendId, UserId};
use crate::store::{Completion, StoreError};

/// Objects looked at under one lock.
const CHUNK: usize = 64;

/// How often is looked whether a full disk has room again.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// How often is looked whether the store closes.
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

/// What sled takes for a byte of rows, at most, before its own housekeeping returns some.
const SLED_FACTOR: u64 = 5;

/// Moves segments to sled.
pub(super) struct Spiller {
    pub shared: Arc<Shared>,
    pub segments: Arc<Segments>,
    pub disk: Arc<Disk>,
    pub files: Arc<dyn Files>,
    /// Bytes of a segment: what one may have for sled.
    pub segment_bytes: u64,
    /// Free space, in bytes, that is left on the disk.
    pub reserve_bytes: u64,
}

/// Why a segment was not spilled.
enum Stop {
    /// The store closes.
    Closing,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Failed(error)
    }
}

impl Spiller {
    /// Spills until the store closes or a write fails; nothing is tried again after that.
    pub(super) fn run(&self) {
        let _ended = Ended(self);
        while let Some(filled) = self.segments.next() {
            if self.is_full() {
                self.segments.pause(FULL_PAUSE);
                continue;
            }
            match self.spill(&filled) {
                Ok(()) => {
                    self.segments.copy(&*self.files, &filled);
                    self.segments.spilled();
                    self.shared.look_at_gate();
                }
                Err(Stop::Closing) => break,
                Err(Stop::Failed(error)) => {
                    tracing::error!(%error, "the store cannot move rows out of the journal");
                    self.shared.fail(error);
                    return;
                }
            }
        }
        self.close();
    }

    /// Has sled know where the journal ends: at rest none of it can be lost without a trace.
    fn close(&self) {
        if self.shared.core().failure.is_some() || self.is_full() {
            return;
        }
        let closed = self.write_reach(self.segments.reach()).and_then(|()| self.disk.sync());
        if let Err(error) = closed {
            tracing::warn!(%error, "where the journal ends could not be kept; nothing is lost by that");
        }
    }

    fn write_reach(&self, reach: Reach) -> Result<(), StoreError> {
        self.disk.write(&keys::reach(), Some(&seal(&keys::reach(), &reach)))
    }

    /// sled does not survive a full disk, so it is never driven there. Why nothing is to be written to it now.
    pub(super) fn why_full(&self) -> Option<String> {
        let needed = self.segment_bytes * SLED_FACTOR + self.reserve_bytes;
        let directory = &self.disk.path();
        match self.files.free_space(directory) {
            Ok(free) if free >= needed => None,
            Ok(free) => Some(format!("{} has {free} bytes free and {needed} are needed", directory.display())),
            // Whoever cannot be asked is not in the way: a write tells.
            Err(_) => None,
        }
    }

    fn is_full(&self) -> bool {
        let full = self.why_full();
        let is_full = full.is_some();
        match (self.segments.set_full(full.clone()), full) {
            (true, Some(why)) => tracing::error!(why, "the disk is full: rows stay in the journal until there is room"),
            (true, None) => tracing::info!("the disk has room again"),
            (false, _) => return is_full,
        }
        self.shared.look_at_gate();
        is_full
    }

    /// Writes what sled lacks of a segment. How far the journal goes comes before the rows that rest on it: a journal that has
    /// lost its end is told by it. The number of the segment comes last: sled files that fell behind the journal are told by
    /// that.
    fn spill(&self, filled: &Filled) -> Result<(), Stop> {
        let mut changed = filled.ended.changed.clone();
        changed.sort_unstable();
        let mut written: Vec<(Changed, Written)> = Vec::with_capacity(changed.len());
        let mut told = Reach::default();
        for chunk in changed.chunks(CHUNK) {
            if self.segments.is_closing() {
                return Err(Stop::Closing);
            }
            let spills = self.collect(chunk, filled)?;
            let reach = self.segments.reach();
            if mem::replace(&mut told, reach) != reach {
                self.write_reach(reach)?;
            }
            for (changed, mut spill) in chunk.iter().zip(spills) {
                written.push((*changed, mem::take(&mut spill.written)));
                write(&self.disk, spill)?;
            }
        }
        self.disk.write(&keys::spilled(), Some(&seal(&keys::spilled(), &Number(filled.number))))?;
        self.disk.sync()?;
        let mut written = written.into_iter().peekable();
        while written.peek().is_some() {
            let mut core = self.shared.core();
            for (changed, written) in written.by_ref().take(CHUNK) {
                core.state.spilled(changed, written, filled.number, filled.ended.last_group);
            }
            core.state.evict();
        }
        Ok(())
    }

    /// What is to be written for some objects, which is durable when this returns: sled must not be ahead of the journal.
    fn collect(&self, chunk: &[Changed], of: &Filled) -> Result<Vec<Spill>, Stop> {
        let mut core = self.shared.core();
        let spills = chunk.iter().map(|changed| core.state.spill(*changed, of.number, of.ended.last_group)).collect();
        let (durable, wait) = sync_channel(1);
        let done = move |result: Result<_, StoreError>| drop(durable.send(result.map(drop)));
        self.shared.after_all(core, Completion::once(done));
        loop {
            match wait.recv_timeout(CLOSING_PAUSE) {
                Ok(Ok(())) => return Ok(spills),
                Ok(Err(StoreError::Closed)) | Err(RecvTimeoutError::Disconnected) => return Err(Stop::Closing),
                Ok(Err(error)) => return Err(Stop::Failed(error)),
                // Whoever closes may do it on the thread that is waited for here.
                Err(RecvTimeoutError::Timeout) if self.segments.is_closing() => return Err(Stop::Closing),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Does in sled what is to be done for one object; not on stable storage yet.
pub(super) fn write(disk: &Disk, spill: Spill) -> Result<(), StoreError> {
    let _alone = disk.alone();
    if let Some((app, user)) = spill.nameless {
        forget_name(disk, app, user)?;
    }
    for prefix in spill.prefixes {
        let end = keys::after_prefix(prefix.clone());
        disk.clear(&prefix, &end)?;
    }
    for (from, end) in spill.ranges {
        disk.clear(&from, &end)?;
    }
    for (key, value) in spill.rows {
        disk.write(&key, value.as_deref())?;
    }
    for SpilledAnswers { key, first, words } in spill.answers {
        let number = keys::answer_group(first);
        // The row may have earlier answers of its number, unless these begin with its first; else it has what no repetition
        // may ask for any more.
        let lacks_some = keys::answer_group(SendId(first.0.saturating_sub(1))) == number;
        let kept = lacks_some.then(|| disk.get(&key)).transpose()?.flatten();
        let words = match kept {
            None => words,
            Some(Answers(mut kept)) => {
                kept.retain(|kept| keys::answer_group(kept.send_id()) == number && kept.send_id() < first);
                let mut all = Vec::new();
                Answers(kept).write(&mut all);
                all.extend_from_slice(&words.0);
                AnswerWords(all)
            }
        };
        disk.write(&key, Some(&seal(&key, &words)))?;
    }
    Ok(())
}

/// Deletes the row of a removed user's name, unless it is another's by now.
fn forget_name(disk: &Disk, app: AppId, user: UserId) -> Result<(), StoreError> {
    let Some(row) = disk.get::<UserRow>(&keys::user(app, user))? else { return Ok(()) };
    let key = keys::user_name(app, &row.name);
    match disk.get(&key)? {
        Some(Number(owner)) if owner == user.0 => disk.write(&key, None),
        _ => Ok(()),
    }
}

/// Says that nothing will be spilled any more, also when the thread ends by a panic: nobody waits for it in vain.
struct Ended<'a>(&'a Spiller);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shared.fail(StoreError::Io("the thread that moves rows to sled has panicked".into()));
        }
        self.0.segments.end();
    }
}
