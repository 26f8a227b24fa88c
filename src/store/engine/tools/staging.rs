//! A directory that is made beside its place, and gets its name when it is whole.

use std::io;
use std::path::{Path, PathBuf};

use super::ToolError;
use super::fresh::sync_all;
use crate::store::engine::directory::failed;
use crate::store::engine::files::Files;

/// What lies in a data directory and is not to be copied: the store's own, which is copied in its own way, and locks.
const OWN: &[&str] = &["LOCK", "FORMAT", "sled", "sled.new", "sled.next", "sled.old", "journal"];

pub(super) struct Staging<'a> {
    files: &'a dyn Files,
    place: PathBuf,
    path: PathBuf,
    done: bool,
}

impl<'a> Staging<'a> {
    /// Begins to make a directory whose place is free: there is nothing, or a directory with nothing in it.
    pub(super) fn begin(files: &'a dyn Files, place: &Path) -> Result<Self, ToolError> {
        let place = std::path::absolute(place).map_err(|error| failed(place, &error))?;
        match files.list(&place) {
            Ok(found) if !found.is_empty() => {
                let what = "is not empty, and nothing is written over; name a directory that does not exist";
                return Err(ToolError::Refused(format!("{} {what}", place.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => drop(found.map_err(|error| failed(&place, &error))?),
        }
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(ToolError::Refused(format!("{} is no place for a directory", place.display())));
        };
        let path = parent.join(format!("{}.unfinished", name.to_string_lossy()));
        match files.remove_directory(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, &error).into()),
            _ => files.make_directory(&path).map_err(|error| failed(&path, &error))?,
        }
        Ok(Staging { files, place, path, done: false })
    }

    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes along what else is in a data directory: certificates and keys.
    pub(super) fn take_along(&self, data: &Path) -> Result<(), ToolError> {
        for path in self.files.list(data).map_err(|error| failed(data, &error))? {
            let name = path.file_name().unwrap_or_default();
            if !OWN.iter().any(|own| name == *own) {
                copy(self.files, &path, &self.path.join(name))?;
            }
        }
        Ok(())
    }

    /// Gives it its name: it is on stable storage when this returns.
    pub(super) fn finish(mut self) -> Result<(), ToolError> {
        sync_all(self.files, &self.path)?;
        self.files.rename(&self.path, &self.place).map_err(|error| failed(&self.place, &error))?;
        self.done = true;
        let parent = self.place.parent().unwrap_or(&self.place);
        Ok(self.files.sync_directory(parent).map_err(|error| failed(parent, &error))?)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.done {
            // What stays of it says by its name that it is not whole, and the next attempt removes it.
            let _ = self.files.remove_directory(&self.path);
        }
    }
}

/// Copies a file, or a directory with all that is in it; sockets and the like are left out.
pub(super) fn copy(files: &dyn Files, from: &Path, to: &Path) -> Result<(), ToolError> {
    let found = from.symlink_metadata().map_err(|error| failed(from, &error))?;
    if found.is_dir() {
        files.make_directory(to).map_err(|error| failed(to, &error))?;
        for path in files.list(from).map_err(|error| failed(from, &error))? {
            copy(files, &path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    } else if found.is_file() {
        // As the system does it: a file may be larger than the memory. Its mode comes with it.
        std::fs::copy(from, to).map_err(|error| failed(to, &error))?;
    }
    Ok(())
}
