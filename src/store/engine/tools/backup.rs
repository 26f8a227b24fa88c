//! A copy of a store, taken while it works.
//!
//! Rows are copied from sled while the spill goes on writing there, so the copy may have some of a change and lack the
//! rest. Therefore the journal's segments are kept that are spilled meanwhile, and the one that is being filled at the end:
//! their changes are absolute, so that replaying all of them over the rows ends in the state at the end of the last one.
//! The backup is a data directory: opening it replays them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fresh::Fresh;
use super::staging::Staging;
use super::{ToolError, bytes_in, open, reading};
use crate::store::StoreError;
use crate::store::engine::Engine;
use crate::store::engine::directory::{Directory, failed};
use crate::store::engine::disk::Disk;
use crate::store::engine::files::{Files, SystemFiles};
use crate::store::engine::journal::{Copies, Segments};
use crate::store::engine::keys::{self, Key};
use crate::store::engine::rows::{Number, corrupt, seal, unseal};
use crate::store::engine::spill::Spiller;

/// Rows taken while the spill waits, apart from a long inbox.
const ROWS_AT_ONCE: usize = 256;

/// What a backup has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Rows that were copied.
    pub rows: u64,
    /// Segments of the journal that go with them.
    pub segments: u32,
    /// Bytes in all.
    pub bytes: u64,
}

/// Backs up a store that nobody uses to a directory that does not exist.
///
/// # Errors
/// As [`Engine::back_up`].
pub fn back_up(path: &Path, to: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<BackedUp, ToolError> {
    reading(path, || open(path, salt)?.back_up(to, progress))
}

impl Engine {
    /// Backs up the store to a directory that does not exist; commits and reads go on. Everything that was durable when
    /// this was called is in it, and perhaps more. Blocks; `progress` is told the rows copied, now and then.
    ///
    /// # Errors
    /// [`ToolError`]; no backup is there then. One at a time can be made.
    pub fn back_up(&self, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackedUp, ToolError> {
        let spiller = self.spiller()?;
        let Spiller { shared, segments, disk, .. } = &*spiller;
        let files = &SystemFiles;
        let data = disk.path().parent().map(Path::to_owned).unwrap_or_default();
        let staging = Staging::begin(files, &data, to)?;
        let room = Room::of(&spiller, staging.path())?;
        let directory = Directory::open(files, staging.path())?;
        let journal = directory.journal();
        files.make_directory(&journal).map_err(|error| failed(&journal, &error))?;
        if !segments.begin_copies(&journal) {
            return Err(ToolError::Refused("a backup is being made already; wait for its end".into()));
        }
        let copying = Copying(Some(segments));

        let fresh = Fresh::create(&directory.sled())?;
        let rows = copy_rows(disk, &room, &fresh, progress)?;
        // On another disk it may have gone on while the store's own got full; then nothing can be moved to sled.
        room.of_the_store()?;
        segments.wait_for(shared.end_segment()?)?;
        let (spilled, reach, segments) = copying.end()?.finish(files)?;
        forget_names(&fresh)?;
        fresh.write(&keys::spilled(), &seal(&keys::spilled(), &Number(spilled)))?;
        fresh.write(&keys::reach(), &seal(&keys::reach(), &reach))?;
        fresh.close(files)?;
        staging.take_along(&data)?;
        drop(directory);
        let bytes = bytes_in(staging.path()).1;
        staging.finish()?;
        Ok(BackedUp { rows, segments, bytes })
    }
}

/// Whatever ends a backup, segments are no longer copied.
struct Copying<'a>(Option<&'a Segments>);

impl Copying<'_> {
    fn end(mut self) -> Result<Copies, StoreError> {
        // What begins now is another's.
        self.0.take().and_then(Segments::end_copies).ok_or(StoreError::Closed)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.map(Segments::end_copies);
    }
}

/// Whether a backup may go on.
struct Room<'a> {
    spiller: &'a Spiller,
    /// Whether it takes the space that the store needs.
    shares_the_disk: bool,
}

impl Room<'_> {
    fn of<'a>(spiller: &'a Spiller, staging: &Path) -> Result<Room<'a>, ToolError> {
        let device = |path: &Path| path.metadata().map(|found| found.dev()).map_err(|error| failed(path, &error));
        let shares_the_disk = device(staging)? == device(&spiller.disk.path())?;
        let room = Room { spiller, shares_the_disk };
        room.of_the_store()?;
        Ok(room)
    }

    /// Whether what the journal has can be moved to sled.
    fn of_the_store(&self) -> Result<(), ToolError> {
        self.spiller.why_full().map_or(Ok(()), |why| Err(StoreError::Full(why).into()))
    }

    fn check(&self) -> Result<(), ToolError> {
        if self.spiller.segments.is_closing() {
            return Err(StoreError::Closed.into());
        }
        match self.spiller.why_full().filter(|_| self.shares_the_disk) {
            Some(why) => Err(ToolError::Refused(format!(
                "a backup on the store's own disk would take the space that the store needs: {why}; put it on another one"
            ))),
            None => Ok(()),
        }
    }
}

/// Whatever speaks of others is copied before them, as it is written after them. Where inboxes end must not speak of entries
/// that were spilled after the others had been copied, and superseded since, so that the segments do not bring them back; nor
/// chunks of pieces that were spilled after the others.
fn copy_rows(disk: &Disk, room: &Room<'_>, fresh: &Fresh, progress: &mut dyn FnMut(u64)) -> Result<u64, ToolError> {
    let table = |first: Key| (first.clone(), keys::after_prefix(first));
    let ((ends, after_ends), (pieces, after_pieces)) = (table(keys::all_ends()), table(keys::all_pieces()));
    let between = (after_pieces.clone(), ends.clone());
    let others = [(Vec::new(), pieces.clone()), between, (after_ends.clone(), vec![u8::MAX])];
    let mut rows = 0;
    for (mut from, end) in [(ends, after_ends)].into_iter().chain(others).chain([(pieces, after_pieces)]) {
        loop {
            let taken = take_rows(disk, &from, &end)?;
            let Some((last, _)) = taken.last() else { break };
            from = keys::after(last.to_vec());
            for (key, value) in taken {
                fresh.copy(&key, &value, &mut rows, progress)?;
            }
            room.check()?;
        }
    }
    Ok(rows)
}

/// The next rows before `end`, of one moment; those of one inbox together, since each says where the one before it ends.
fn take_rows(disk: &Disk, from: &[u8], end: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let _alone = disk.alone();
    let mut taken: Vec<(Bytes, Bytes)> = Vec::new();
    for row in disk.scan(from, end) {
        let (key, value) = row?;
        let inbox = |key: &[u8]| key.get(..keys::OWNED_PREFIX_BYTES).map(<[u8]>::to_vec);
        if taken.len() >= ROWS_AT_ONCE && taken.last().is_none_or(|(last, _)| inbox(last) != inbox(&key)) {
            break;
        }
        taken.push((key, value));
    }
    Ok(taken)
}

/// A name whose user was made or removed while rows were copied: the segments make it again if there is such a user.
fn forget_names(fresh: &Fresh) -> Result<(), StoreError> {
    for row in fresh.with_prefix(&keys::all_user_names()) {
        let (key, value) = row?;
        let Number(user) = unseal(&key, Bytes::copy_from_slice(&value))?;
        let app = keys::app_of(&key).ok_or_else(|| corrupt(&key))?;
        if !fresh.has(&keys::user(app, crate::ids::UserId(user)))? {
            fresh.remove(&key)?;
        }
    }
    Ok(())
}
