//! A directory in memory where there is one: a fuzzer opens files thousands of times a second.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

const IN_MEMORY: &str = "/dev/shm";

/// A new, empty directory that goes when it is dropped.
pub fn directory() -> TempDir {
    let parent = Path::new(IN_MEMORY);
    let made = if parent.is_dir() { tempfile::tempdir_in(parent) } else { tempfile::tempdir() };
    made.expect("a scratch directory can be made")
}

/// Every file below `directory`, by name.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// What is in a directory, to be laid out as often as needed.
pub struct Snapshot(Vec<(PathBuf, Vec<u8>)>);

impl Snapshot {
    pub fn of(directory: &Path) -> Self {
        let read = |path: PathBuf| {
            let name = path.strip_prefix(directory).expect("below it").to_owned();
            (name, std::fs::read(path).expect("readable"))
        };
        Self(files(directory).into_iter().map(read).collect())
    }

    /// Names relative to the directory, in order.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// A copy of the directory.
    pub fn lay_out(&self) -> TempDir {
        let directory = directory();
        for (name, bytes) in &self.0 {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the directory")).expect("in memory");
            std::fs::write(path, bytes).expect("in memory");
        }
        directory
    }
}
