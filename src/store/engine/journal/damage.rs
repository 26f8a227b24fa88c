//! What is said of a journal that is not as it was written.

use std::path::Path;

use crate::store::StoreError;

/// A record of a segment is not what was written.
pub(super) fn unsound(path: &Path, offset: usize, number: u64) -> StoreError {
    damaged(path, &format!("the record at byte {offset} (segment {number}) is not what was written"))
}

/// Something of the journal is not what was written: says what, and what to do.
pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{}: {what}; no crash does this. Nothing was changed: keep a copy of the data directory, check the disk, and \
         restore a backup, or get out what is sound with `postrider store salvage`",
        path.display()
    ))
}
