//! Copies of segments, for a backup: each is taken after it is in sled and before its slot is given free. Rows that are
//! copied from sled meanwhile may have some of these segments' changes and lack others; replaying all of them over the rows
//! ends in the state after the last one.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::super::directory::{damaged, failed};
use super::super::files::Files;
use super::super::rows::Reach;
use super::damage::unsound;
use super::record::{self, Record};
use super::segment::{FoundHead, HEAD_BYTES, Head, Slot};
use super::{Filled, Segments};
use crate::store::StoreError;

/// Segments that were copied, in order and without a gap.
pub(in super::super) struct Copies {
    directory: PathBuf,
    /// The number of the first.
    first: Option<u64>,
    count: u32,
    failure: Option<StoreError>,
}

impl Segments {
    /// From now on every segment is copied to this directory, which exists, before its slot is given free. `false` when
    /// that is done for somebody else.
    pub(in super::super) fn begin_copies(&self, directory: &Path) -> bool {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.is_some() {
            return false;
        }
        *copies = Some(Copies { directory: directory.to_owned(), first: None, count: 0, failure: None });
        true
    }

    /// Takes a copy if that is wanted. That it fails is the backup's misfortune and not the store's.
    pub(in super::super) fn copy(&self, files: &dyn Files, filled: &Filled) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copies) = copies.as_mut().filter(|copies| copies.failure.is_none()) {
            copies.failure = copies.take(files, filled).err();
        }
    }

    /// Nothing is copied any more.
    pub(in super::super) fn end_copies(&self) -> Option<Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Copies {
    fn take(&mut self, files: &dyn Files, filled: &Filled) -> Result<(), StoreError> {
        let from = &filled.slot.path;
        let mut bytes = files.read(from).map_err(|error| failed(from, &error))?.unwrap_or_default();
        let head = match bytes.first_chunk().map(Head::read) {
            Some(FoundHead::Used(head)) if head.seed.number == filled.number => head,
            _ => return Err(damaged(from, "its head is not what was written")),
        };
        // Its slot may be another's at a later copy, and what is older is in the rows.
        let first = *self.first.get_or_insert(filled.number);
        let copy = Head { slot: self.count, seed: head.seed, oldest: first };
        bytes[..HEAD_BYTES].copy_from_slice(&copy.to_bytes());
        let end = end(&bytes, head, from)?;
        bytes[end..].fill(0);
        let to = Slot::path(&self.directory, self.count);
        files.create(&to, &bytes).map_err(|error| failed(&to, &error))?;
        self.count += 1;
        Ok(())
    }

    /// Makes the copies a journal that goes on after the last one, and says which segment the rows have at least, how far the
    /// journal goes, and how many copies there are.
    ///
    /// # Errors
    /// Why a copy could not be taken.
    pub(in super::super) fn finish(self, files: &dyn Files) -> Result<(u64, Reach, u32), StoreError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let (Some(first), Some(last)) = (self.first, self.count.checked_sub(1)) else {
            return Err(StoreError::Closed);
        };
        let path = Slot::path(&self.directory, last);
        let mut bytes = files.read(&path).map_err(|error| failed(&path, &error))?.unwrap_or_default();
        let Some(FoundHead::Used(head)) = bytes.first_chunk().map(Head::read) else {
            return Err(damaged(&path, "its head is not what was written"));
        };
        let mut offset = HEAD_BYTES;
        while let Some((Record::Group(_), next)) = record::read(&bytes, head.seed, offset) {
            offset = next;
        }
        bytes[offset..].fill(0);
        files.create(&path, &bytes).map_err(|error| failed(&path, &error))?;
        files.sync_directory(&self.directory).map_err(|error| failed(&self.directory, &error))?;
        Ok((first - 1, head.seed.at(offset), self.count))
    }
}

/// Where a segment's last record ends.
fn end(bytes: &[u8], head: Head, path: &Path) -> Result<usize, StoreError> {
    let mut offset = HEAD_BYTES;
    loop {
        match record::read(bytes, head.seed, offset) {
            Some((Record::Group(_), next)) => offset = next,
            Some((Record::End(_), next)) => return Ok(next),
            None => return Err(unsound(path, offset, head.seed.number)),
        }
    }
}
