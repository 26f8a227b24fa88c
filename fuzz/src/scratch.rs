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
