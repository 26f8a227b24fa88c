//! What is sound in sled's files, which are read from a copy: opening them may change them.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;

use super::super::fresh::{Fresh, PROGRESS_ROWS};
use super::super::staging::copy;
use super::super::{ToolError, found, in_short};
use super::{Loss, Salvaged};
use crate::store::StoreError;
use crate::store::engine::directory::{Directory, failed};
use crate::store::engine::disk::{open_database, wait_until_closed};
use crate::store::engine::files::{Files, SystemFiles};
use crate::store::engine::keys::{self, Table};
use crate::store::engine::rows::{Number, unseal};
use crate::store::engine::verify::is_sound;

/// What sled may keep in memory, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// What has become of sled's files.
pub(super) enum Sled {
    /// They could be opened; the newest segment that is in them, if that is known.
    Opened {
        spilled: Option<u64>,
    },
    /// They had segments of the journal, and the row that says which is lost.
    OfUnknownSegments,
    Lost,
}

/// Keeps everybody else from the damaged store.
pub(super) fn lock(from: &Path) -> Result<Option<File>, ToolError> {
    let path = from.join("LOCK");
    // It may lie where nothing can be written.
    match found(&path)?.map(|_| File::open(&path).and_then(|file| SystemFiles.hold(file))) {
        None => Ok(None),
        Some(Ok(lock)) => Ok(Some(lock)),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(StoreError::Locked(from.display().to_string()).into())
        }
        Some(Err(error)) => Err(failed(&path, &error).into()),
    }
}

/// Writes the sound rows to new sled files in a directory.
pub(super) fn save(
    from: &Path,
    staging: &Path,
    to: &Directory,
    salvaged: &mut Salvaged,
    progress: &mut dyn FnMut(u64),
) -> Result<Sled, ToolError> {
    let fresh = Fresh::create(&to.sled())?;
    let damaged = staging.join("sled.damaged");
    // An exchange of sled's files that was cut short has left its new ones, which are whole.
    let places = ["sled", "sled.next", "sled.old"].map(|name| from.join(name));
    let Some(place) = places.into_iter().find(|place| place.join("db").exists()) else {
        salvaged.damaged(format!("{}: sled's files are not there", from.join("sled").display()));
        lose_all(salvaged);
        fresh.close(&SystemFiles)?;
        return Ok(Sled::Lost);
    };
    copy(&SystemFiles, &place, &damaged)?;
    remove_unfinished(&damaged);
    // sled panics over some kinds of damage.
    let read = catch_unwind(AssertUnwindSafe(|| read(&damaged, &fresh, salvaged, progress)));
    let sled = match read {
        Ok(Ok(sled)) => sled,
        Ok(Err(error)) => {
            salvaged.damaged(format!("{}: sled's files do not open: {}", place.display(), in_short(error)));
            lose_all(salvaged);
            Sled::Lost
        }
        Err(_) => {
            salvaged.damaged(format!("{}: sled's files cannot be read to their end", place.display()));
            lose_all(salvaged);
            if fresh.has(&keys::spilled())? { Sled::OfUnknownSegments } else { Sled::Lost }
        }
    };
    fresh.close(&SystemFiles)?;
    // Whatever sled still has open there goes with it.
    SystemFiles.remove_directory(&damaged).map_err(|error| failed(&damaged, &error))?;
    Ok(sled)
}

fn lose_all(salvaged: &mut Salvaged) {
    let what = "all that was in sled's files and was not found is lost: users, devices and messages that the journal does not have \
                any more; restore a backup if there is one";
    salvaged.lost(Loss { what: what.to_owned(), ..Loss::default() });
}

fn remove_unfinished(sled: &Path) {
    for path in SystemFiles.list(sled).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            // If it stays, sled says that it does not open.
            let _ = SystemFiles.remove(&path);
        }
    }
}

fn read(
    damaged: &Path,
    fresh: &Fresh,
    salvaged: &mut Salvaged,
    progress: &mut dyn FnMut(u64),
) -> Result<Sled, StoreError> {
    let (database, tree) = open_database(damaged, CACHE_BYTES)?;
    let mut sled = Sled::Opened { spilled: None };
    let mut rows = 0;
    let mut take = |key: &[u8], value: &[u8], salvaged: &mut Salvaged| {
        rows += 1;
        if rows % PROGRESS_ROWS == 0 {
            progress(rows);
        }
        let value = Bytes::copy_from_slice(value);
        if !is_sound(key, &value) {
            salvaged.damaged(describe(key));
            if Table::of(key) == Some(Table::Spilled) {
                sled = Sled::OfUnknownSegments;
            }
            return Ok(());
        }
        if Table::of(key) == Some(Table::Spilled) {
            let spilled = unseal::<Number>(key, value.clone()).ok().map(|Number(number)| number);
            sled = Sled::Opened { spilled };
        }
        fresh.write(key, &value)
    };
    let mut last = Vec::new();
    let mut failure = None;
    for row in tree.iter() {
        match row {
            Ok((key, value)) => {
                take(&key, &value, salvaged)?;
                last = key.to_vec();
            }
            Err(error) => {
                failure = Some(error.to_string());
                break;
            }
        }
    }
    if let Some(failure) = failure {
        // What lies behind the damage is reached from the other end.
        let mut first = None;
        for row in tree.iter().rev() {
            match row {
                Ok((key, value)) if *key > *last => {
                    take(&key, &value, salvaged)?;
                    first = Some(key.to_vec());
                }
                _ => break,
            }
        }
        let hex = |key: &[u8]| data_encoding::HEXLOWER.encode(key);
        let to = first.map_or_else(|| "the end".to_owned(), |first| hex(&first));
        salvaged.damaged(format!("sled's rows between {} and {to} cannot be read: {failure}", hex(&last)));
    }
    drop((tree, database));
    // A sled that does not let go keeps nobody: its files are a copy.
    let _ = wait_until_closed(&SystemFiles, damaged);
    Ok(sled)
}

/// A row that is not what was written, for a person.
fn describe(key: &[u8]) -> String {
    let table = keys::table_of(key);
    let app = keys::app_of(key).map_or(0, |app| app.0);
    let hex = data_encoding::HEXLOWER.encode(key);
    format!("the row {hex} (table {table}, app {app}) is not what was written")
}
