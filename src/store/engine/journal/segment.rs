//! Segments: pre-written files, each in a numbered slot, used again and again under new numbers.
//!
//! The first [`HEAD_BYTES`] say which segment the file holds; records follow. A head is one sector and on stable storage
//! before the first record behind it is written. All zeros mean that the slot was never used.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::directory::failed;
use super::super::files::{BLOCK_BYTES, Files};
use super::record::Seed;
use crate::store::StoreError;

/// Where the first record begins: the head has a sector of its own.
pub(super) const HEAD_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"postride";
const FILE_ENDING: &str = "segment";

/// A file of the journal.
#[derive(Clone)]
pub(super) struct Slot {
    /// Its number, which is in its name.
    pub id: u32,
    pub path: PathBuf,
    pub file: Arc<File>,
    /// The same, for writes past the system's cache, where that is possible.
    direct: Option<Arc<File>>,
    /// Bytes, all of them written.
    pub length: usize,
}

/// What the head of a used slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The slot this was written to.
    pub slot: u32,
    pub seed: Seed,
    /// The oldest segment that may hold rows which are nowhere else.
    pub oldest: u64,
}

/// A head as it was found.
pub(super) enum FoundHead {
    NeverUsed,
    Used(Head),
    Damaged,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.slot.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seed.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.seed.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.oldest.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEAD_BYTES - 4]);
        bytes[HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> FoundHead {
        if bytes.iter().all(|byte| *byte == 0) {
            return FoundHead::NeverUsed;
        }
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let head = Head {
            slot: (number(8) & u64::from(u32::MAX)) as u32,
            seed: Seed { number: number(16), salt: number(24) },
            oldest: number(32),
        };
        if head.to_bytes() == *bytes { FoundHead::Used(head) } else { FoundHead::Damaged }
    }
}

impl Slot {
    /// Makes a slot: its bytes and its name are on stable storage when this returns.
    pub(super) fn create(files: &dyn Files, directory: &Path, id: u32, length: usize) -> Result<Slot, StoreError> {
        let path = Slot::path(directory, id);
        let unfinished = path.with_extension("new");
        let made = files
            .create(&unfinished, &vec![0; length])
            .and_then(|()| files.rename(&unfinished, &path))
            .and_then(|()| files.sync_directory(directory))
            .and_then(|()| files.open(&path));
        match made {
            Ok(file) => Ok(Slot::of(files, path, id, file, length)),
            Err(error) => {
                // What is left of it only takes space, and the next opening removes it.
                let _ = files.remove(&unfinished);
                Err(translate(&path, &error))
            }
        }
    }

    /// Opens a slot that exists, on what is truly on the disk.
    pub(super) fn open(files: &dyn Files, path: &Path, id: u32) -> io::Result<Slot> {
        let file = files.open(path)?;
        files.settle(&file)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Slot::of(files, path.to_owned(), id, file, length))
    }

    fn of(files: &dyn Files, path: PathBuf, id: u32, file: File, length: usize) -> Slot {
        // Without it, everything is as sound and a little slower.
        let direct = if length.is_multiple_of(BLOCK_BYTES) { files.open_direct(&path).ok() } else { None };
        Slot { id, path, file: Arc::new(file), direct: direct.map(Arc::new), length }
    }

    /// Where it is.
    pub(super) fn path(directory: &Path, id: u32) -> PathBuf {
        directory.join(format!("{id}.{FILE_ENDING}"))
    }

    /// The slot's number in a file's name; `None` when the file is no slot.
    pub(super) fn id_of(path: &Path) -> Option<u32> {
        let is_slot = path.extension().is_some_and(|extension| extension == FILE_ENDING);
        path.file_stem().filter(|_| is_slot)?.to_str()?.parse().ok()
    }

    /// Writes at an offset.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`].
    pub(super) fn write(&self, files: &dyn Files, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        files.write_at(&self.file, offset as u64, bytes).map_err(|error| translate(&self.path, &error))
    }

    /// Writes whole blocks at an offset.
    ///
    /// # Errors
    /// As `write`.
    pub(super) fn write_blocks(&self, files: &dyn Files, offset: usize, blocks: &[u8]) -> Result<(), StoreError> {
        let file = self.direct.as_ref().unwrap_or(&self.file);
        files.write_at(file, offset as u64, blocks).map_err(|error| translate(&self.path, &error))
    }

    /// All its bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn read(&self, files: &dyn Files) -> Result<Vec<u8>, StoreError> {
        Ok(files.read(&self.path).map_err(|error| failed(&self.path, &error))?.unwrap_or_default())
    }

    /// What is written of the block in which an offset lies, up to it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn block_before(&self, files: &dyn Files, offset: usize) -> Result<Vec<u8>, StoreError> {
        let mut begun = vec![0; offset % BLOCK_BYTES];
        let start = (offset - begun.len()) as u64;
        files.read_at(&self.file, start, &mut begun).map_err(|error| failed(&self.path, &error))?;
        Ok(begun)
    }

    /// Returns once everything written is on stable storage.
    ///
    /// # Errors
    /// [`StoreError::Io`]: what was written since the last sync may be lost, whatever a later sync says.
    pub(super) fn sync(&self, files: &dyn Files) -> Result<(), StoreError> {
        files.sync_data(&self.file).map_err(|error| failed(&self.path, &error))
    }
}

/// A full disk is told from a broken one: it is nobody's loss, and it passes.
fn translate(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("{}: {error}", path.display()))
        }
        _ => failed(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_any_flipped_bit_is_damage() {
        let head = Head { slot: 3, seed: Seed { number: 9, salt: u64::MAX }, oldest: 7 };
        let bytes = head.to_bytes();
        assert!(matches!(Head::read(&bytes), FoundHead::Used(found) if found == head));
        for bit in 0..HEAD_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Head::read(&flipped), FoundHead::Damaged), "bit {bit}");
        }
        assert!(matches!(Head::read(&[0; HEAD_BYTES]), FoundHead::NeverUsed));
    }
}
