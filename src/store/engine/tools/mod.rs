//! What operators do to a data directory: look whether it is sound, see where the bytes are, give back space, back up,
//! restore, and save what can be saved.
//!
//! # What holds
//! - A directory that is made (a backup, a restored or a salvaged one) has its name when it is whole and on stable storage;
//!   until then it lies beside it under a name that says so.
//! - Nothing is ever written over: what is made goes to a place where nothing is.
//! - A directory that is salvaged or restored from is not changed.
//!
//! # Layout
//! - this file: what the tools have in common, and [`verify`]
//! - `fresh`: new sled files; `staging`: a directory that gets its name when it is whole
//! - `stats`, `compact`, `backup`, `restore`, `salvage`: one tool each

mod backup;
mod compact;
mod fresh;
mod restore;
mod salvage;
mod staging;
mod stats;

use std::path::Path;

use super::directory::failed;
use super::files::{Files, SystemFiles};
use super::keys::Table;
use super::rows::{Answers, AppRow, Chunk, ConversationRow, Number, Piece, Reach, UserRow, unseal};
use super::{Engine, EngineConfig};
use crate::store::StoreError;

pub use self::backup::{BackedUp, back_up};
#[cfg(test)]
pub(super) use self::compact::compact_with;
pub use self::compact::{Compacted, compact};
pub use self::restore::restore;
pub use self::salvage::{Loss, Salvaged, salvage};
pub use self::stats::{Files as FileStats, Stats, Table as TableStats, stats};
pub use super::verify::Verified;

/// Why a tool did not do what it was asked: one line.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The directories are not what the tool is for; what to do instead.
    #[error("{0}")]
    Refused(String),
    /// A file could not be read or written.
    #[error("{0}; nothing was changed but what this command had begun to make")]
    Io(String),
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl ToolError {
    /// Whether the store is damaged so that it cannot be opened.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, ToolError::Store(StoreError::Corrupt(_)))
    }
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io(what) => ToolError::Io(what),
            other => ToolError::Store(other),
        }
    }
}

/// Looks at every row of a store that nobody uses: its checksum, and whether it fits the others. `salt`: random bytes.
/// `progress` is told the rows looked at, now and then.
///
/// # Errors
/// [`ToolError`]; what is wrong with the rows is in the answer.
pub fn verify(path: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Verified, ToolError> {
    Ok(open(path, salt)?.verify(progress)?)
}

/// Opens a store that exists.
fn open(path: &Path, salt: u64) -> Result<Engine, ToolError> {
    must_hold_a_store(path)?;
    Ok(Engine::open(&config(path, salt)?)?)
}

fn must_hold_a_store(path: &Path) -> Result<(), ToolError> {
    if path.join("FORMAT").exists() || path.join("sled").exists() || path.join("journal").exists() {
        return Ok(());
    }
    Err(ToolError::Refused(format!("{} holds no store; name the data directory of a server", path.display())))
}

/// As the store there was opened: its segments have the size that they have.
fn config(path: &Path, salt: u64) -> Result<EngineConfig, StoreError> {
    let journal = path.join("journal");
    let mut config = EngineConfig { salt, ..EngineConfig::new(path) };
    let Ok(found) = SystemFiles.list(&journal) else { return Ok(config) };
    let segments = found.iter().filter(|path| path.extension().is_some_and(|ending| ending == "segment"));
    let lengths = segments.map(|path| path.metadata().map(|found| found.len()).map_err(|error| failed(path, &error)));
    let smallest = lengths.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|length| *length > 0).min();
    if let Some(length) = smallest.and_then(|length| usize::try_from(length).ok()) {
        config.segment_bytes = length;
    }
    Ok(config)
}

/// Whether a row is what was written, and of its table's kind.
fn is_sound(key: &[u8], value: &bytes::Bytes) -> bool {
    let value = value.clone();
    match Table::of(key) {
        Some(Table::App) => unseal::<AppRow>(key, value).is_ok(),
        Some(Table::User) => unseal::<UserRow>(key, value).is_ok(),
        Some(Table::Answers) => unseal::<Answers>(key, value).is_ok(),
        Some(Table::Conversation) => unseal::<ConversationRow>(key, value).is_ok(),
        Some(Table::Chunk) => unseal::<Chunk>(key, value).is_ok(),
        Some(Table::Piece) => unseal::<Piece>(key, value).is_ok(),
        Some(Table::AppName | Table::UserName | Table::Direct | Table::Newest | Table::Spilled | Table::End) => {
            unseal::<Number>(key, value).is_ok()
        }
        Some(Table::Reach) => unseal::<Reach>(key, value).is_ok(),
        None => false,
    }
}

/// Bytes of all files in a directory and below it.
fn bytes_in(directory: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for path in SystemFiles.list(directory).unwrap_or_default() {
        let Ok(found) = path.symlink_metadata() else { continue };
        let (more_files, more_bytes) = if found.is_dir() { bytes_in(&path) } else { (1, found.len()) };
        files += more_files;
        bytes += more_bytes;
    }
    (files, bytes)
}
