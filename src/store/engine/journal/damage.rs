//! What is said of a journal that is not as it was written.

use std::path::Path;

use super::super::directory::damaged;
use crate::store::StoreError;

/// A record of a segment is not what was written.
pub(super) fn unsound(path: &Path, offset: usize, number: u64) -> StoreError {
    damaged(path, &format!("the record at byte {offset} (segment {number}) is not what was written"))
}
