//! The data directory: `LOCK` (one process), `FORMAT` (one version), `journal/` and `sled/`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::files::Files;
use crate::store::StoreError;

/// The format this build writes.
pub(super) const FORMAT: u32 = 5;

/// The oldest that it reads. What it adds to such a directory, older builds cannot read: opening makes it [`FORMAT`].
const OLDEST: u32 = 3;

/// Where the journal's files are.
pub(super) const JOURNAL: &str = "journal";

/// Where sled's files are; where they are made; made and whole; and those that they take the place of.
const SLED: &str = "sled";
const NURSERY: &str = "sled.new";
const NEXT: &str = "sled.next";
const OLD: &str = "sled.old";

/// A data directory that is ours for as long as this value lives.
pub(super) struct Directory {
    path: PathBuf,
    /// Held, never read: closing it gives the directory free.
    _lock: File,
}

impl Directory {
    /// Makes the directory if it is missing, locks it and checks its format.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Format`], [`StoreError::Corrupt`] when the format cannot be told,
    /// [`StoreError::Io`].
    pub(super) fn open(files: &dyn Files, path: &Path) -> Result<Directory, StoreError> {
        files.make_directory(path).map_err(|error| failed(path, &error))?;
        let lock = lock(files, path)?;
        let directory = Directory { path: path.to_owned(), _lock: lock };
        directory.finish_exchange(files)?;
        directory.check_format(files)?;
        directory.remove_leftovers(files)?;
        Ok(directory)
    }

    /// Where sled's files are.
    pub(super) fn sled(&self) -> PathBuf {
        self.path.join(SLED)
    }

    /// Where the journal's files are.
    pub(super) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Whether rows were ever kept here.
    pub(super) fn is_new(&self, files: &dyn Files) -> Result<bool, StoreError> {
        let sled = self.sled();
        match files.list(&sled) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(failed(&sled, &error)),
        }
    }

    /// Where sled's files are made the first time. They get their place when they and the journal are whole: a crash
    /// during the first start leaves a directory that the second start can use.
    pub(super) fn nursery(&self, files: &dyn Files) -> Result<PathBuf, StoreError> {
        let nursery = self.path.join(NURSERY);
        match files.remove_directory(&nursery) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&nursery, &error)),
            _ => Ok(nursery),
        }
    }

    /// Gives what was made in the nursery its place.
    pub(super) fn adopt(&self, files: &dyn Files, nursery: &Path) -> Result<(), StoreError> {
        for name in ["conf", "db"] {
            let path = nursery.join(name);
            files.open(&path).and_then(|file| files.sync_data(&file)).map_err(|error| failed(&path, &error))?;
        }
        files.sync_directory(nursery).map_err(|error| failed(nursery, &error))?;
        files.rename(nursery, &self.sled()).map_err(|error| failed(nursery, &error))
    }

    /// Puts sled files that are whole and on stable storage in the place of those there are, which are closed. A crash at
    /// any moment leaves the old or the new: the next opening goes on with it.
    pub(super) fn exchange(&self, files: &dyn Files, nursery: &Path) -> Result<(), StoreError> {
        let sled = self.sled();
        for (from, to) in [(nursery, &self.path.join(NEXT)), (&*sled, &self.path.join(OLD))] {
            files.rename(from, to).map_err(|error| failed(from, &error))?;
            files.sync_directory(&self.path).map_err(|error| failed(&self.path, &error))?;
        }
        self.finish_exchange(files)
    }

    /// Goes on where an exchange of sled's files was cut short, and removes what it has left.
    fn finish_exchange(&self, files: &dyn Files) -> Result<(), StoreError> {
        let found = files.list(&self.path).map_err(|error| failed(&self.path, &error))?;
        let has = |name: &str| found.iter().any(|path| path.ends_with(name));
        let (sled, next) = (self.sled(), self.path.join(NEXT));
        let is_next = !has(SLED) && has(NEXT);
        if is_next {
            files.rename(&next, &sled).map_err(|error| failed(&next, &error))?;
            files.sync_directory(&self.path).map_err(|error| failed(&self.path, &error))?;
        }
        if !is_next && !has(SLED) {
            return Ok(());
        }
        for name in [NEXT, OLD, NURSERY].into_iter().filter(|name| has(name) && !(is_next && *name == NEXT)) {
            let left = self.path.join(name);
            files.remove_directory(&left).map_err(|error| failed(&left, &error))?;
        }
        Ok(())
    }

    /// Returns once all names that opening may have made are on stable storage.
    pub(super) fn sync(&self, files: &dyn Files) -> Result<(), StoreError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for directory in [&*self.sled(), &self.path, parent] {
            files.sync_directory(directory).map_err(|error| failed(directory, &error))?;
        }
        Ok(())
    }

    fn check_format(&self, files: &dyn Files) -> Result<(), StoreError> {
        let path = self.path.join("FORMAT");
        let Some(bytes) = files.read(&path).map_err(|error| failed(&path, &error))? else {
            return self.begin_format(files, &path);
        };
        let text = std::str::from_utf8(&bytes).ok().map(str::trim);
        match text.and_then(|text| text.parse::<u32>().ok()) {
            Some(FORMAT) => Ok(()),
            Some(OLDEST..FORMAT) => self.write_format(files, &path),
            Some(found) => Err(StoreError::Format { found, expected: FORMAT }),
            None => Err(damaged(&path, "it does not say a format")),
        }
    }

    /// The format is on disk before the first row is: a directory with rows and without a format is no crash's doing.
    fn begin_format(&self, files: &dyn Files, path: &Path) -> Result<(), StoreError> {
        if !self.is_new(files)? {
            return Err(damaged(path, "it is missing beside existing data"));
        }
        self.write_format(files, path)
    }

    /// Its name comes when its content is there.
    fn write_format(&self, files: &dyn Files, path: &Path) -> Result<(), StoreError> {
        let unfinished = path.with_extension("new");
        files
            .create(&unfinished, format!("{FORMAT}\n").as_bytes())
            .and_then(|()| files.rename(&unfinished, path))
            .and_then(|()| files.sync_directory(&self.path))
            .map_err(|error| failed(path, &error))
    }

    /// sled does not open over a snapshot that a crash left half-written; it needs none of it.
    fn remove_leftovers(&self, files: &dyn Files) -> Result<(), StoreError> {
        let sled = self.sled();
        let found = match files.list(&sled) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| failed(&sled, &error))?,
        };
        for path in found {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                files.remove(&path).map_err(|error| failed(&path, &error))?;
            }
        }
        Ok(())
    }
}

fn lock(files: &dyn Files, directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("LOCK");
    match files.lock(&path) {
        Ok(file) => {
            let process = format!("{}\n", std::process::id());
            files.write(&file, process.as_bytes()).map_err(|error| failed(&path, &error))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let holder = files.read(&path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
            let holder = holder.map(|process| format!(" (process {})", process.trim())).unwrap_or_default();
            Err(StoreError::Locked(format!("{}{holder}", directory.display())))
        }
        Err(error) => Err(failed(&path, &error)),
    }
}

/// Lies in a directory that is being made of another one, and is held by whoever makes it.
pub(super) const UNFINISHED: &str = "UNFINISHED";

/// Whether rows were ever kept in a directory, which a server is to open; nothing is made there for that.
///
/// # Errors
/// [`StoreError::Occupied`] when it is what an interrupted tool has left. [`StoreError::Io`].
pub(super) fn has_rows(files: &dyn Files, path: &Path) -> Result<bool, StoreError> {
    let found = match files.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(|error| failed(path, &error))?,
    };
    let has = |name: &str| found.iter().any(|path| path.ends_with(name));
    if has(UNFINISHED) {
        let what = "is what an interrupted restore, backup or salvage has left, and not whole";
        return Err(StoreError::Occupied(format!("{} {what}", path.display())));
    }
    Ok(has(SLED) || has(NEXT))
}

/// A file-system error with the path it is about.
pub(super) fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}

/// Something in a data directory is not what was written: says what, and what to do.
pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{}: {what}; no crash does this. Keep a copy of the data directory as it is now, check the disk, and restore a backup, \
         or get out what is sound with `postrider store salvage`",
        path.display()
    ))
}
