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
use crate::store::engine::rows::{Number, unseal};
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
/// [`ToolError`]; the store is as it was. [`crate::store::StoreError::Corrupt`] when a row is not what was written.
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
    let copied = copy_rows(&*files, &disk, &nursery, progress).and_then(|(rows, spilled)| {
        // The last but one of all rows: sled may have lost what is before it, and that without a word.
        let is_whole = spilled == disk.spilled()?;
        if is_whole { Ok(rows) } else { Err(damaged(&path.join("sled"), "not all of it can be read")) }
    });
    let rows = copied.inspect_err(|_| {
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

/// Returns how many there are, and which segment of the journal they say is in sled.
fn copy_rows(
    files: &dyn Files,
    disk: &Disk,
    nursery: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(u64, u64), StoreError> {
    let fresh = Fresh::create(nursery)?;
    let (mut rows, mut spilled) = (0, 0);
    for row in disk.scan_all() {
        let (key, value) = row?;
        fresh.copy(&key, &value, &mut rows, progress)?;
        if *key == *keys::spilled() {
            spilled = unseal::<Number>(&key, value)?.0;
        }
    }
    fresh.close(files)?;
    Ok((rows, spilled))
}
