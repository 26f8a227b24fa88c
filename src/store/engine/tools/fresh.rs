//! New sled files that get rows in the order of their keys.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::store::StoreError;
use crate::store::engine::directory::failed;
use crate::store::engine::disk::{open_database, translate, wait_until_closed};
use crate::store::engine::files::Files;
use crate::store::engine::rows::corrupt;
use crate::store::engine::verify::is_sound;

/// What sled may keep of them in memory, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// How often a tool tells how far it is, in rows.
pub(super) const PROGRESS_ROWS: u64 = if cfg!(test) { 20 } else { 10_000 };

pub(super) struct Fresh {
    tree: sled::Tree,
    database: sled::Db,
    path: PathBuf,
}

impl Fresh {
    /// Makes the files in a directory that does not exist.
    pub(super) fn create(path: &Path) -> Result<Fresh, StoreError> {
        let (database, tree) = open_database(path, CACHE_BYTES)?;
        Ok(Fresh { tree, database, path: path.to_owned() })
    }

    pub(super) fn write(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.tree.insert(key, value).map(drop).map_err(translate)
    }

    /// Copies a row if it is what was written, and counts it; `progress` is told the count now and then.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not; [`StoreError::Io`].
    pub(super) fn copy(
        &self,
        key: &Bytes,
        value: &Bytes,
        rows: &mut u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        if !is_sound(key, value) {
            return Err(corrupt(key));
        }
        self.write(key, value)?;
        *rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            progress(*rows);
        }
        Ok(())
    }

    pub(super) fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.tree.remove(key).map(drop).map_err(translate)
    }

    pub(super) fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.tree.contains_key(key).map_err(translate)
    }

    /// Keys that begin with `prefix` and their values.
    pub(super) fn with_prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<> {
        self.tree.scan_prefix(prefix).map(|row| row.map_err(translate))
    }

    /// Closes the files; they are on stable storage when this returns.
    pub(super) fn close(self, files: &dyn Files) -> Result<(), StoreError> {
        let Fresh { tree, database, path } = self;
        database.flush().map_err(translate)?;
        drop((tree, database));
        wait_until_closed(files, &path)?;
        sync_all(files, &path)
    }
}

/// Returns once every file in a directory and below it is on stable storage, with its name.
pub(super) fn sync_all(files: &dyn Files, directory: &Path) -> Result<(), StoreError> {
    for path in files.list(directory).map_err(|error| failed(directory, &error))? {
        if path.is_dir() {
            sync_all(files, &path)?;
        } else {
            files.open(&path).and_then(|file| files.sync_data(&file)).map_err(|error| failed(&path, &error))?;
        }
    }
    files.sync_directory(directory).map_err(|error| failed(directory, &error))
}
