//! Everything the engine itself does to the file system, behind one small trait, so that tests can count it and make it
//! fail. (What sled does, it does by itself.)

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FlockOperation};

/// What direct writes are multiples of, in memory and on disk: enough for every disk there is.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Where the first block begins in memory.
pub(super) fn block_start(room: &[u8]) -> usize {
    room.as_ptr().addr().wrapping_neg() % BLOCK_BYTES
}

/// The file system.
pub(super) trait Files: Send + Sync {
    /// Makes a directory that only its owner may enter, and its parents, where they are missing.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Opens a file, making it if it is missing, and locks it for as long as the descriptor lives.
    /// [`io::ErrorKind::WouldBlock`] when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<File>;

    /// Opens a file that exists.
    fn open(&self, path: &Path) -> io::Result<File>;

    /// Opens a file that exists, for writes that go past the system's cache: of [`BLOCK_BYTES`], or multiples of that, at
    /// such offsets, from such places in memory. An error where that is not possible.
    fn open_direct(&self, path: &Path) -> io::Result<File>;

    /// All of a file; `None` when there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Writes all of an open file anew.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes a new file with these bytes, on stable storage but for its name.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from an offset of an open file; [`io::ErrorKind::UnexpectedEof`] when there are fewer.
    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes at an offset of an open file.
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what is read of a file what the disk has: brings there what the system holds back, then forgets what the
    /// system remembers, which after a failed sync may never have got there.
    fn settle(&self, file: &File) -> io::Result<()>;

    /// Bytes that may still be written to the file system a path is on.
    fn free_space(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// What is in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Deletes a directory with all that is in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns once the data of a file is on stable storage.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// Returns once the names in a directory are on stable storage.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's.
pub(super) struct SystemFiles;

impl SystemFiles {
    /// Locks an open file for as long as its descriptor lives, as [`Files::lock`] does.
    pub(super) fn hold(&self, file: File) -> io::Result<File> {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }
}

impl Files for SystemFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn lock(&self, path: &Path) -> io::Result<File> {
        self.hold(OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, path: &Path) -> io::Result<File> {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        // Some file systems say no only now.
        let mut room = vec![0; 2 * BLOCK_BYTES];
        let start = block_start(&room);
        file.read_exact_at(&mut room[start..start + BLOCK_BYTES], 0)?;
        Ok(file)
    }

    #[cfg(not(target_os = "linux"))]
    fn open_direct(&self, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.set_len(0)?;
        file.write_all(bytes)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(bytes, offset)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn settle(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
