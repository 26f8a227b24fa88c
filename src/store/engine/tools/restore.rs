//! A data directory from a backup.

use std::io;
use std::path::Path;

use super::staging::Staging;
use super::{ToolError, config, found, must_hold_a_store, reading};
use crate::store::StoreError;
use crate::store::engine::files::{Files, SystemFiles};
use crate::store::engine::{Engine, Verified};

/// Copies a backup to a data directory that does not exist or is empty, and verifies every row of it before it gets its
/// name. The backup is not changed. `salt`: random bytes. `progress` is told the rows looked at.
///
/// # Errors
/// [`ToolError`]; nothing is there then. A backup with problems is refused with the first of them.
pub fn restore(from: &Path, to: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Verified, ToolError> {
    let files = &SystemFiles;
    if found(&from.join("FORMAT"))?.is_none() {
        return Err(ToolError::Refused(format!("{} is no backup; name what `store backup` has made", from.display())));
    }
    must_hold_a_store(from)?;
    let staging = Staging::begin(files, from, to)?;
    // A store that is in use would be copied in the middle of a change. A backup may lie where nothing can be written.
    let lock = match from.join("LOCK").exists().then(|| files.lock(&from.join("LOCK"))) {
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(StoreError::Locked(from.display().to_string()).into());
        }
        lock => lock.and_then(Result::ok),
    };
    staging.copy_all(from, &["LOCK"])?;
    drop(lock);
    let looked_at = reading(staging.path(), || Ok(Engine::open(&config(staging.path(), salt)?)?.verify(progress)?));
    let verified = looked_at.map_err(|error| match error {
        // By its own name: the copy is gone when this is read.
        ToolError::Store(StoreError::Corrupt(what)) => {
            let (copy, backup) = (staging.path().display().to_string(), from.display().to_string());
            StoreError::Corrupt(what.replace(&copy, &backup)).into()
        }
        other => other,
    })?;
    if let Some(first) = verified.problems.first() {
        let problems = verified.problem_count;
        return Err(ToolError::Store(StoreError::Corrupt(format!(
            "the backup has {problems} problems, the first: {first}; restore an older one, or salvage this one"
        ))));
    }
    staging.finish()?;
    Ok(verified)
}
