//! A directory that is made beside its place, and gets its name when it is whole.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::fresh::sync_all;
use super::{ToolError, found};
use crate::store::StoreError;
use crate::store::engine::directory::{UNFINISHED, failed};
use crate::store::engine::files::Files;

/// What lies in a data directory and is not to be copied: the store's own, which is copied in its own way, and locks.
const OWN: &[&str] = &["LOCK", "FORMAT", UNFINISHED, "sled", "sled.new", "sled.next", "sled.old", "journal"];

/// What a file system keeps in its uppermost directory, and nobody but root may read.
const LOST_AND_FOUND: &str = "lost+found";

pub(super) struct Staging<'a> {
    files: &'a dyn Files,
    place: PathBuf,
    path: PathBuf,
    /// Held, never read: nobody else makes the same directory meanwhile.
    _lock: File,
    done: bool,
}

impl<'a> Staging<'a> {
    /// Begins to make a directory from another one. Its place is free: there is nothing, or a directory with nothing in it.
    pub(super) fn begin(files: &'a dyn Files, from: &Path, place: &Path) -> Result<Self, ToolError> {
        let place = free_place(files, place)?;
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(ToolError::Refused(format!("{} is no place for a directory", place.display())));
        };
        let (above, mut sources) = (existing(parent)?, vec![existing(from)?]);
        for path in files.list(from).map_err(|error| failed(from, &error))?.into_iter().filter(|path| path.is_symlink())
        {
            sources.push(existing(&path)?);
        }
        if sources.iter().any(|source| above.starts_with(source)) {
            let what = format!("is inside {}, which would be copied into itself", from.display());
            return Err(ToolError::Refused(format!(
                "{} {what}; put it elsewhere, best on another disk",
                place.display()
            )));
        }
        let path = parent.join(format!("{}.unfinished", name.to_string_lossy()));
        let lock = take(files, &path, &place)?;
        Ok(Staging { files, place, path, _lock: lock, done: false })
    }

    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes along what else is in a data directory: certificates and keys.
    pub(super) fn take_along(&self, data: &Path) -> Result<(), ToolError> {
        self.copy_all(data, OWN)
    }

    /// Copies all that is in a directory, but what has one of these names.
    pub(super) fn copy_all(&self, from: &Path, but: &[&str]) -> Result<(), ToolError> {
        for path in self.files.list(from).map_err(|error| failed(from, &error))? {
            let name = path.file_name().unwrap_or_default();
            if name != LOST_AND_FOUND && !but.iter().any(|but| name == *but) {
                copy(self.files, &path, &self.path.join(name))?;
            }
        }
        Ok(())
    }

    /// Gives it its name: it is on stable storage when this returns.
    pub(super) fn finish(mut self) -> Result<(), ToolError> {
        sync_all(self.files, &self.path)?;
        let mark = self.path.join(UNFINISHED);
        self.files.remove(&mark).map_err(|error| failed(&mark, &error))?;
        self.files.sync_directory(&self.path).map_err(|error| failed(&self.path, &error))?;
        self.files.rename(&self.path, &self.place).map_err(|error| failed(&self.place, &error))?;
        self.done = true;
        let parent = self.place.parent().unwrap_or(&self.place);
        Ok(self.files.sync_directory(parent).map_err(|error| failed(parent, &error))?)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.done {
            // What stays of it says that it is not whole, and the next attempt removes it.
            let _ = self.files.remove_directory(&self.path);
        }
    }
}

/// A place where a directory can get its name at the end.
fn free_place(files: &dyn Files, place: &Path) -> Result<PathBuf, ToolError> {
    // Without a slash at its end, which would lead on to where a link does.
    let place: PathBuf = std::path::absolute(place).map_err(|error| failed(place, &error))?.components().collect();
    let refused = |what: &str| Err(ToolError::Refused(format!("{} {what}", place.display())));
    if place.components().any(|part| part == Component::ParentDir) {
        return refused("has .. in it; name it without");
    }
    let above = place.parent().and_then(|parent| parent.metadata().ok()).map(|found| found.dev());
    match place.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(place),
        Ok(found) if found.is_symlink() => {
            return refused("is a link; name the directory that it leads to, or another one");
        }
        Ok(found) if !found.is_dir() => return refused("is a file, and nothing is written over; name a directory"),
        Ok(found) if above != Some(found.dev()) => {
            return refused("is where a file system is mounted; name a new directory in it");
        }
        Err(error) => return Err(failed(&place, &error).into()),
        Ok(_) => {}
    }
    if !files.list(&place).map_err(|error| failed(&place, &error))?.is_empty() {
        return refused("is not empty, and nothing is written over; name a directory that does not exist");
    }
    Ok(place)
}

/// A path without links, as far as it exists.
fn existing(path: &Path) -> Result<PathBuf, StoreError> {
    let path = std::path::absolute(path).map_err(|error| failed(path, &error))?;
    let mut above = path.as_path();
    loop {
        match above.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => above = above.parent().unwrap_or(Path::new("/")),
            real => {
                let real = real.map_err(|error| failed(above, &error))?;
                return Ok(real.join(path.strip_prefix(above).unwrap_or(Path::new(""))));
            }
        }
    }
}

/// Makes a directory and holds it. What an earlier attempt has left there goes; what is somebody's stays.
fn take(files: &dyn Files, path: &Path, place: &Path) -> Result<File, ToolError> {
    let mark = path.join(UNFINISHED);
    let in_the_way = match files.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        found => !found.map_err(|error| failed(path, &error))?.is_empty(),
    };
    if path.is_symlink() || in_the_way && found(&mark)?.is_none() {
        let what = "is in the way: nothing says that an interrupted command left it. Look into it, and move it away";
        return Err(ToolError::Refused(format!("{} {what}", path.display())));
    }
    files.make_directory(path).map_err(|error| failed(path, &error))?;
    let lock = files.lock(&mark).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            ToolError::Refused(format!("{} is being made by another command; wait for its end", place.display()))
        }
        _ => failed(&mark, &error).into(),
    })?;
    for path in files.list(path).map_err(|error| failed(path, &error))?.into_iter().filter(|path| *path != mark) {
        let removed =
            if path.is_dir() && !path.is_symlink() { files.remove_directory(&path) } else { files.remove(&path) };
        removed.map_err(|error| failed(&path, &error))?;
    }
    Ok(lock)
}

/// Copies a file, or a directory with all that is in it, or what a link leads to; sockets and the like are left out.
pub(super) fn copy(files: &dyn Files, from: &Path, to: &Path) -> Result<(), ToolError> {
    let Some(found) = found(from)? else { return Ok(()) };
    if found.is_dir() {
        files.make_directory(to).map_err(|error| failed(to, &error))?;
        for path in files.list(from).map_err(|error| failed(from, &error))? {
            // It might lead back here, and so on without end.
            if path.is_symlink() && path.is_dir() {
                let what = "is a link to a directory, which is not followed; put the directory in its place";
                return Err(ToolError::Refused(format!("{} {what}", path.display())));
            }
            copy(files, &path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    } else if found.is_file() {
        File::open(from).map_err(|error| failed(from, &error))?;
        // As the system does it: a file may be larger than the memory. Its mode comes with it, but for a backup that nobody
        // may write to: what is made of it is written to.
        let mode = Permissions::from_mode(found.permissions().mode() | 0o200);
        let copied = std::fs::copy(from, to).and_then(|_| std::fs::set_permissions(to, mode));
        copied.map_err(|error| failed(to, &error))?;
    }
    Ok(())
}
