//! The thread that moves filled segments to sled, one after the other, and gives their slots free.

use std::ops::Bound;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::super::keys;
use super::super::records::{self, Number};
use super::table::Table;
use super::{Filled, Shared};
use crate::store::StoreError;

/// Rows taken from the table under one lock.
const CHUNK_ROWS: usize = 256;

/// How often is looked whether a full disk has room again.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// What sled takes for a byte of rows, at most, before its own housekeeping returns some.
const SLED_FACTOR: u64 = 5;

/// Spills until the journal closes or a write fails; nothing is tried again after that.
pub(super) fn run(shared: &Shared) {
    let _ended = Ended(shared);
    while let Some(filled) = next(shared) {
        let spilled = spill(shared, &filled);
        let mut state = shared.state();
        match spilled {
            Ok(()) => {
                // The rows are below before the table goes: nobody looks into a gap.
                shared.remove_table(&filled.table);
                state.pending.pop_front();
                state.free.push(filled.slot);
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot move rows out of the journal");
                state.failure = Some(error);
            }
        }
        drop(state);
        shared.changed.notify_all();
    }
}

/// Says that nothing will be spilled any more, also when the thread ends by a panic: nobody waits for it in vain.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state().failure = Some(StoreError::Io("the thread that moves rows to sled has panicked".into()));
            self.0.changed.notify_all();
        }
    }
}

/// The oldest filled segment once there is room for it, or `None` when no more is to be spilled.
fn next(shared: &Shared) -> Option<Filled> {
    let mut state = shared.state();
    loop {
        if state.closing || state.failure.is_some() {
            return None;
        }
        let Some(filled) = state.pending.front().cloned() else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let full = lack_of_space(shared, &filled.table);
        state = shared.state();
        if full.is_none() {
            if state.full.take().is_some() {
                tracing::info!("the disk has room again");
            }
            return Some(filled);
        }
        if state.full.is_none() {
            tracing::error!(why = full, "the disk is full: rows stay in the journal until there is room");
        }
        state.full = full;
        shared.changed.notify_all();
        state = shared.changed.wait_timeout(state, FULL_PAUSE).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// sled does not survive a full disk, so it is never driven there.
fn lack_of_space(shared: &Shared, table: &Table) -> Option<String> {
    let needed = table.bytes() * SLED_FACTOR + shared.reserve_bytes;
    let directory = &shared.disk.path();
    match shared.files.free_space(directory) {
        Ok(free) if free >= needed => None,
        Ok(free) => Some(format!("{} has {free} bytes free and {needed} are needed", directory.display())),
        // Whoever cannot be asked is not in the way: a write tells.
        Err(_) => None,
    }
}

/// Writes the rows of a segment that no newer one has changed. A newer segment's rows are on stable storage in the
/// journal, and it is spilled later: what it hides need never reach sled. The number of the segment comes last: sled
/// files that fell behind the journal are told by it.
fn spill(shared: &Shared, filled: &Filled) -> Result<(), StoreError> {
    let newer = shared.newer_than(&filled.table);
    let mut from = Bound::Unbounded;
    loop {
        let rows: Vec<_> = {
            let rows = filled.table.rows();
            let chunk = rows.range::<[u8], _>((from.as_ref().map(|key: &Vec<u8>| &key[..]), Bound::Unbounded));
            chunk.take(CHUNK_ROWS).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let Some((last, _)) = rows.last() else { break };
        from = Bound::Excluded(last.clone());
        for (key, value) in surviving(rows, &newer) {
            shared.disk.write(&key, value.as_deref())?;
        }
    }
    shared.disk.write(&keys::spilled(), Some(&records::seal(&keys::spilled(), &Number(filled.number))))?;
    shared.disk.sync()
}

fn surviving<V>(mut rows: Vec<(Vec<u8>, V)>, newer: &[Arc<Table>]) -> Vec<(Vec<u8>, V)> {
    for table in newer {
        let newer = table.rows();
        rows.retain(|(key, _)| !newer.contains_key(key));
    }
    rows
}
