//! Where the bytes are.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{ToolError, bytes_in, open, reading};
use crate::ids::AppId;
use crate::store::StoreError;
use crate::store::engine::keys;
use crate::store::engine::rows::{AppRow, unseal};

/// Where the bytes of a store are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Rows, by app and table.
    pub tables: Vec<Table>,
    /// Bytes of all rows, with their keys.
    pub row_bytes: u64,
    /// Whether rows that only the journal has are counted, too: not where there is no room to move them to sled.
    pub complete: bool,
    /// Files on disk.
    pub files: Vec<Files>,
    /// The share of sled's files that is no row, 0 to 1: what compacting can bring, but for sled's own needs.
    pub dead_share: f64,
}

/// Rows of one table of one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The app's name; none for what is no app's.
    pub app: Option<String>,
    /// The table.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Their bytes, with their keys.
    pub bytes: u64,
}

/// Files of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    /// What they hold.
    pub of: &'static str,
    /// How many there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Says where the bytes of a store are that nobody uses. What the journal has is moved to sled first, if there is room.
/// `progress` is told the rows looked at, now and then.
///
/// # Errors
/// [`ToolError`].
pub fn stats(path: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Stats, ToolError> {
    reading(path, || measure(path, salt, progress))
}

fn measure(path: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Stats, ToolError> {
    let engine = open(path, salt)?;
    let (disk, complete) = match engine.checkpoint() {
        Ok(disk) => (disk, true),
        Err(StoreError::Full(_)) => (engine.disk()?, false),
        Err(error) => return Err(error.into()),
    };
    let mut names = BTreeMap::new();
    let mut tables: BTreeMap<(AppId, u8), (u64, u64)> = BTreeMap::new();
    let mut rows = 0;
    for row in disk.scan_all() {
        let (key, value) = row?;
        let app = keys::app_of(&key).unwrap_or(AppId(0));
        if key.first() == keys::apps().first() {
            names.insert(app, unseal::<AppRow>(&key, value.clone())?.name);
        }
        let table = tables.entry((app, key.first().copied().unwrap_or(0))).or_default();
        table.0 += 1;
        table.1 += (key.len() + value.len()) as u64;
        rows += 1;
        if rows % super::fresh::PROGRESS_ROWS == 0 {
            progress(rows);
        }
    }
    drop(disk);
    drop(engine);
    let row_bytes = tables.values().map(|(_, bytes)| bytes).sum();
    let name = |table: u8| keys::table_of(&[table]);
    let named =
        |((app, table), (rows, bytes))| Table { app: names.get(&app).cloned(), table: name(table), rows, bytes };
    let tables = tables.into_iter().map(named).collect();
    let found = |of, directory| {
        let (files, bytes) = bytes_in(&path.join(directory));
        Files { of, files, bytes }
    };
    let files = vec![found("sled", "sled"), found("journal", "journal")];
    let sled = files[0].bytes;
    let dead_share = if sled > row_bytes { (sled - row_bytes) as f64 / sled as f64 } else { 0.0 };
    Ok(Stats { tables, row_bytes, complete, files, dead_share })
}
