//! Gives back the space that sled's files never do: live rows go to new files, which take the place of the old ones.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::fresh::Fresh;
use super::{ToolError, bytes_in, config, open, reading};
use crate::store::StoreError;
use crate::store::engine::directory::{Directory, damaged};
use crate::store::engine::disk::Disk;
use crate::store::engine::files::{Files, SystemFiles};
use crate::store::engine::rows::Reach;
use crate::store::engine::{Verified, keys};

/// What compacting has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Rows there are.
    pub rows: u64,
    /// Bytes of sled's files before.
    pub before_bytes: u64,
    /// Bytes of sled's files now.
    pub after_bytes: u64,
}

/// Copies all rows of a store that nobody uses to new files, which take the place of the old ones at once: a crash at any
/// moment leaves the old or the new. Takes as much free space as the live rows need. `progress` is told the rows copied.
///
/// # Errors
/// [`ToolError`]; the store is as it was. [`crate::store::StoreError::Corrupt`] when something is wrong with the rows.
pub fn compact(path: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Compacted, ToolError> {
    reading(path, || compact_with(Arc::new(SystemFiles), path, salt, progress))
}

pub(in crate::store::engine) fn compact_with(
    files: Arc<dyn Files>,
    path: &Path,
    salt: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Compacted, ToolError> {
    let before_bytes = bytes_in(&path.join("sled")).1;
    must_be_in_place(path)?;
    // What the journal says is dead need not be copied. Where there is no room to move that to sled, space matters most.
    match open(path, salt)?.verify(progress) {
        Ok(found) => must_be_sound(&found)?,
        Err(StoreError::Full(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = Directory::open(&*files, path)?;
    let nursery = directory.nursery(&*files)?;
    let disk = Disk::open(Arc::clone(&files), directory, config(path, salt)?.cache_bytes / 2)?;
    let rows = copy_rows(&*files, &disk, &nursery, progress).inspect_err(|_| {
        // If it stays, the next opening removes it.
        let _ = files.remove_directory(&nursery);
    })?;
    disk.close()?.exchange(&*files, &nursery)?;
    Ok(Compacted { rows, before_bytes, after_bytes: bytes_in(&path.join("sled")).1 })
}

/// What is damaged would be made to look sound.
fn must_be_sound(found: &Verified) -> Result<(), ToolError> {
    let Some(first) = found.problems.first() else { return Ok(()) };
    Err(StoreError::Corrupt(format!(
        "{} problems, the first: {first}; restore a backup, or get out what is sound with `postrider store salvage`",
        found.problem_count
    ))
    .into())
}

/// Files that lie elsewhere would be left there, and the new ones made here.
fn must_be_in_place(path: &Path) -> Result<(), ToolError> {
    let sled = path.join("sled");
    if sled.is_symlink() {
        let what = "is a link, in whose place the new files would come; put the directory there that it leads to";
        return Err(ToolError::Refused(format!("{} {what}", sled.display())));
    }
    Ok(())
}

/// Returns how many there are.
fn copy_rows(files: &dyn Files, disk: &Disk, nursery: &Path, progress: &mut dyn FnMut(u64)) -> Result<u64, StoreError> {
    let fresh = Fresh::create(nursery)?;
    let mut rows = 0;
    for row in disk.scan_all() {
        let (key, value) = row?;
        fresh.copy(&key, &value, &mut rows, progress)?;
    }
    // Where sled has lost pages it may end early, and without a word. These come last, or nearly.
    let lacks_spilled = disk.spilled()? > 0 && !fresh.has(&keys::spilled())?;
    let lacks_reach = disk.reach()? != Reach::default() && !fresh.has(&keys::reach())?;
    if lacks_spilled || lacks_reach {
        return Err(damaged(&disk.path(), "not all of its rows can be read"));
    }
    fresh.close(files)?;
    Ok(rows)
}
