//! [`FileState`]: a directory with a lock, a key and one small log.
//!
//! The log is a header, a snapshot, and a record for each commit since. It is made as a whole (written aside, synced,
//! renamed), and made anew when it has grown; in between it only grows. A torn last record was never promised to anyone
//! and is cut; damage anywhere else is an error.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Change, Key, QueuedSend, Saved, StateError, StateStore, record};

const LOCK: &str = "lock";
const KEY: &str = "device.key";
const LOG: &str = "state.log";
const NEW_SUFFIX: &str = ".new";

/// The log's first bytes, with the format's version; 8 bytes of salt follow.
const MAGIC: &[u8; 8] = b"PRSTATE1";
const HEADER_BYTES: usize = MAGIC.len() + 8;

/// The log is made anew when it is larger than this, in bytes, and than four times its last snapshot.
const COMPACT_BYTES: u64 = 1024 * 1024;

/// Client state in a directory of its own, readable by its owner only. One process at a time.
#[derive(Debug)]
pub struct FileState {
    dir: PathBuf,
    log: File,
    salt: u64,
    /// The log's length: where the next record goes.
    end: u64,
    snapshot_end: u64,
    /// The state as committed; the next snapshot.
    saved: Saved,
    /// A write or sync failed: what is on disk is no longer known, so nothing more is promised.
    failed: bool,
    /// Held locked as long as the state is open.
    _lock: File,
}

impl FileState {
    /// Opens the state in `dir`, making the directory if need be.
    ///
    /// # Errors
    /// [`StateError::InUse`] while another process has it open, [`StateError::Damaged`], [`StateError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StateError> {
        let dir = dir.into();
        make_private_dir(&dir).map_err(|error| io_error("make", &dir, &error))?;
        let lock = lock(&dir)?;
        let mut saved = match read_if_there(&dir.join(LOG))? {
            Some(bytes) => replay(&dir.join(LOG), bytes)?,
            None => Saved::default(),
        };
        saved.key = read_if_there(&dir.join(KEY))?.map(|key| Key(key.to_vec()));
        // Opening makes the log anew: that cuts a torn tail, and shows at once whether the directory can be written.
        let (log, salt, end) = write_log(&dir, &saved)?;
        Ok(Self { dir, log, salt, end, snapshot_end: end, saved, failed: false, _lock: lock })
    }

    /// Forgets the device, its key included, so that the next login makes a new one: what a client does after
    /// `DEVICE_EXPIRED` (SYNC-8). Returns what had no answer; whether it arrived is not known.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn forget(&mut self) -> Result<Vec<QueuedSend>, StateError> {
        let key = self.dir.join(KEY);
        match fs::remove_file(&key) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &key, &error)),
            _ => {}
        }
        let (log, salt, end) = write_log(&self.dir, &Saved::default())?;
        (self.log, self.salt, self.end, self.snapshot_end) = (log, salt, end, end);
        Ok(std::mem::take(&mut self.saved).unanswered)
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), StateError> {
        for change in changes {
            if let Change::Key(Key(key)) = change {
                replace_file(&self.dir, KEY, key)?;
            }
        }
        let mut bytes = Vec::new();
        let path = self.dir.join(LOG);
        record::put(changes, self.salt, self.end, &mut bytes)
            .map_err(|detail| StateError::Io { action: format!("write {}", path.display()), detail: detail.into() })?;
        self.log.write_all(&bytes).map_err(|error| io_error("write", &path, &error))?;
        if !changes.iter().all(|change| matches!(change, Change::Answered(_))) {
            self.log.sync_data().map_err(|error| io_error("sync", &path, &error))?;
        }
        self.end += bytes.len() as u64;
        changes.iter().for_each(|change| self.saved.apply(change));
        if self.end > COMPACT_BYTES.max(4 * self.snapshot_end) {
            let (log, salt, end) = write_log(&self.dir, &self.saved)?;
            (self.log, self.salt, self.end, self.snapshot_end) = (log, salt, end, end);
        }
        Ok(())
    }
}

impl StateStore for FileState {
    fn load(&mut self) -> Result<Saved, StateError> {
        Ok(self.saved.clone())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StateError> {
        if self.failed {
            let action = format!("write {}", self.dir.join(LOG).display());
            return Err(StateError::Io { action, detail: "an earlier write failed".into() });
        }
        let result = self.append(changes);
        self.failed = result.is_err();
        result
    }
}

fn replay(path: &Path, bytes: Bytes) -> Result<Saved, StateError> {
    let damaged = |offset: usize, detail: &str| StateError::Damaged {
        path: path.display().to_string(),
        offset: offset as u64,
        detail: detail.to_owned(),
    };
    let (magic, salt) = match bytes.first_chunk::<HEADER_BYTES>() {
        Some(header) => header.split_at(MAGIC.len()),
        None => return Err(damaged(bytes.len(), "the header is cut")),
    };
    if magic != MAGIC {
        return Err(damaged(0, "not a client state, or of a later version"));
    }
    let salt = salt.first_chunk().map_or(0, |salt| u64::from_be_bytes(*salt));
    let mut saved = Saved::default();
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Some((changes, next)) = record::take(&bytes, salt, offset) else { break };
        changes.iter().for_each(|change| saved.apply(change));
        offset = next;
    }
    if offset == HEADER_BYTES {
        // The snapshot was synced before the file got its name, so it cannot be torn.
        return Err(damaged(offset, "the snapshot is not whole"));
    }
    let valid_after = |start: &usize| record::take(&bytes, salt, *start).is_some();
    // A record may be its head alone.
    if (offset + 1..(bytes.len() + 1).saturating_sub(record::HEAD_BYTES)).any(|start| valid_after(&start)) {
        return Err(damaged(offset, "a record before the last is not what was written"));
    }
    Ok(saved)
}

/// Writes the whole log anew; the old one stays in force until the new one is durable.
fn write_log(dir: &Path, saved: &Saved) -> Result<(File, u64, u64), StateError> {
    let salt = rand::random::<u64>();
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&salt.to_be_bytes());
    record::put(&record::snapshot(saved), salt, HEADER_BYTES as u64, &mut bytes).map_err(|detail| StateError::Io {
        action: format!("write {}", dir.join(LOG).display()),
        detail: detail.into(),
    })?;
    let file = replace_file(dir, LOG, &bytes)?;
    Ok((file, salt, bytes.len() as u64))
}

/// Write aside, sync, rename, sync the directory. The file stays open, at its end.
fn replace_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, StateError> {
    let path = dir.join(name);
    let aside = dir.join(format!("{name}{NEW_SUFFIX}"));
    let replace = || {
        let mut file = private_file(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        sync_dir(dir)?;
        Ok(file)
    };
    replace().map_err(|error| io_error("write", &path, &error))
}

fn read_if_there(path: &Path) -> Result<Option<Bytes>, StateError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, &error)),
    }
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = private(&mut options).open(&path).map_err(|error| io_error("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, &error)),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create(true).truncate(true)).open(path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes a rename last. Elsewhere than on Unix a directory cannot be opened, and renames are journaled.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

fn io_error(action: &str, path: &Path, error: &io::Error) -> StateError {
    StateError::Io { action: format!("{action} {}", path.display()), detail: error.to_string() }
}
