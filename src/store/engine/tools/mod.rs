//! What operators do to a data directory: look whether it is sound, see where the bytes are, give back space, back up,
//! restore, and save what can be saved.
//!
//! # What holds
//! - A directory that is made (a backup, a restored or a salvaged one) has its name when it is whole and on stable storage;
//!   until then it lies beside it under a name that says so, with a mark in it that whoever makes it holds. Nobody else makes
//!   it meanwhile, and nothing goes that has not got the mark.
//! - Nothing is ever written over: what is made goes to a place where nothing is.
//! - A directory that is salvaged or restored from is not changed, and one that holds no store is not touched. Of one that
//!   lacks a part none is made anew.
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

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::directory::{UNFINISHED, damaged, failed};
use super::files::{Files, SystemFiles};
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
            StoreError::Full(why) => ToolError::Refused(format!("there is too little space: {why}; make room first")),
            other => ToolError::Store(other),
        }
    }
}

/// What went wrong, without what it means for a store that is at work.
fn in_short(error: StoreError) -> String {
    match error {
        StoreError::Io(what) | StoreError::Corrupt(what) | StoreError::Full(what) => what,
        other => other.to_string(),
    }
}

/// Looks at every row of a store that nobody uses: its checksum, and whether it fits the others. `salt`: random bytes.
/// `progress` is told the rows looked at, now and then.
///
/// # Errors
/// [`ToolError`]; what is wrong with the rows is in the answer.
pub fn verify(path: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Verified, ToolError> {
    reading(path, || Ok(open(path, salt)?.verify(progress)?))
}

/// Does what reads the rows of a store: sled panics over some kinds of damage.
fn reading<T>(path: &Path, work: impl FnOnce() -> Result<T, ToolError>) -> Result<T, ToolError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(damaged(&path.join("sled"), "sled cannot read its own files").into()))
}

/// Opens a store that exists.
fn open(path: &Path, salt: u64) -> Result<Engine, ToolError> {
    must_hold_a_store(path)?;
    must_be_its_owner(path)?;
    Ok(Engine::open(&config(path, salt)?)?)
}

/// Looks for what only a store has, so that no other directory is taken for one.
fn must_hold_a_store(path: &Path) -> Result<(), ToolError> {
    let has = |name: &str| found(&path.join(name)).map(|found| found.is_some());
    if has(UNFINISHED)? {
        let what = "is what an interrupted backup, restore or salvage has left, and not whole; begin that again";
        return Err(ToolError::Refused(format!("{} {what}", path.display())));
    }
    let has_segments =
        || SystemFiles.list(&path.join("journal")).is_ok_and(|found| found.iter().any(|path| is_segment(path)));
    if has("FORMAT")? || has("sled/db")? || has_segments() {
        return Ok(());
    }
    Err(ToolError::Refused(format!("{} holds no store; name the data directory of a server", path.display())))
}

/// What is under a path, if there is something; whoever may not look there is told so.
fn found(path: &Path) -> Result<Option<Metadata>, StoreError> {
    match path.metadata() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        found => found.map(Some).map_err(|error| failed(path, &error)),
    }
}

/// What root makes in a directory of the server's, the server may not open.
fn must_be_its_owner(path: &Path) -> Result<(), ToolError> {
    // Who made the store, whoever made the directory.
    let Some(owner) = found(&path.join("FORMAT"))?.map(|found| found.uid()) else { return Ok(()) };
    if owner != 0 && rustix::process::geteuid().is_root() {
        let what = format!("belongs to user {owner}, and root would make files there that the server may not open");
        return Err(ToolError::Refused(format!(
            "{} {what}; run this as that user: sudo -u '#{owner}' …",
            path.display()
        )));
    }
    Ok(())
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "segment")
}

/// As the store there was opened: its segments have the size that they have.
fn config(path: &Path, salt: u64) -> Result<EngineConfig, StoreError> {
    let journal = path.join("journal");
    let mut config = EngineConfig { salt, makes_new: false, ..EngineConfig::new(path) };
    let Ok(found) = SystemFiles.list(&journal) else { return Ok(config) };
    let segments = found.iter().filter(|path| is_segment(path));
    let lengths = segments.map(|path| path.metadata().map(|found| found.len()).map_err(|error| failed(path, &error)));
    let smallest = lengths.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|length| *length > 0).min();
    if let Some(length) = smallest.and_then(|length| usize::try_from(length).ok()) {
        config.segment_bytes = length;
    }
    Ok(config)
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
