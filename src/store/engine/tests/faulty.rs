//! A file system that fails on demand, and that knows at each call what a power cut would leave of the store.
//!
//! What sled does to its files is not seen here: of sled's part a cut leaves what was synced last, or all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::super::files::{Files, SystemFiles};
use super::{in_memory, path_of};

const SECTOR: usize = 512;

/// The number of the name of sled's directory among what may be lost.
const SLED_NAME: u32 = 63;

/// What the system says is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// The device.
    Eio = 5,
    /// There is no space.
    Enospc = 28,
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }
}

/// What goes wrong at a call that writes, syncs, makes, renames or removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(Errno),
    /// A write ends with an error after half of its bytes.
    Short(Errno),
}

pub struct FaultyFiles {
    root: PathBuf,
    /// Where copies of sled's files go; none are made of a disk whose power is not cut.
    copies: Option<tempfile::TempDir>,
    state: Mutex<State>,
    /// Batches that were answered: the images say how many.
    pub answered: AtomicUsize,
}

#[derive(Default)]
struct State {
    calls: usize,
    fault: Option<(usize, Fault)>,
    /// Whether the fault stays: every later call fails as well.
    for_good: bool,
    images: Option<Vec<Image>>,
    unsynced: Vec<Write>,
    new_names: BTreeSet<String>,
    removed: BTreeMap<String, Vec<u8>>,
    /// A copy of sled's files as they were when they were last synced.
    sled: Option<PathBuf>,
    /// Whether the name of sled's directory is not on stable storage.
    sled_is_new: bool,
    copied: usize,
}

/// A write that no sync has followed.
#[derive(Clone)]
struct Write {
    name: String,
    offset: usize,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What the disk may have if the power fails at one moment.
pub struct Image {
    /// The call that was about to be made, or was just made.
    pub moment: String,
    /// Batches answered by then. One more may be on its way.
    pub answered: usize,
    format: Option<Vec<u8>>,
    /// Whether the journal's directory is there.
    journal: bool,
    files: BTreeMap<String, Vec<u8>>,
    unsynced: Vec<Write>,
    new_names: BTreeSet<String>,
    removed: BTreeMap<String, Vec<u8>>,
    sled: Option<PathBuf>,
    sled_is_new: bool,
}

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Kept,
    Lost,
    /// Sector by sector, by the bits of this number.
    Torn(u64),
}

impl FaultyFiles {
    /// A disk whose power may be cut.
    pub fn new(root: &Path) -> Arc<FaultyFiles> {
        FaultyFiles::with(root, Some(in_memory()))
    }

    /// A disk that only fails.
    pub fn without_images(root: &Path) -> Arc<FaultyFiles> {
        FaultyFiles::with(root, None)
    }

    fn with(root: &Path, copies: Option<tempfile::TempDir>) -> Arc<FaultyFiles> {
        Arc::new(FaultyFiles { root: root.to_owned(), copies, state: Mutex::default(), answered: AtomicUsize::new(0) })
    }

    /// Fails the `nth` call from now.
    pub fn fail_at(&self, nth: usize, fault: Fault, for_good: bool) {
        let mut state = self.state();
        state.fault = Some((state.calls + nth, fault));
        state.for_good = for_good;
    }

    /// Takes sled's files as they are for synced.
    pub fn adopt_sled(&self) {
        if self.root.join("sled").exists() {
            self.copy_sled(&mut self.state());
        }
    }

    /// Keeps an image of each moment from now on.
    pub fn record(&self) {
        self.state().images = Some(Vec::new());
    }

    pub fn images(&self) -> Vec<Image> {
        self.state().images.take().unwrap_or_default()
    }

    pub fn calls(&self) -> usize {
        self.state().calls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// One call: others wait, so that each image is of one moment.
    fn call<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        state.calls += 1;
        let moment = format!("{what} {}", path.strip_prefix(&self.root).unwrap_or(path).display());
        self.take_image(&mut state, format!("before {moment}"));
        let fault = match state.fault {
            Some((at, fault)) if state.calls == at || state.for_good && state.calls > at => Some(fault),
            _ => None,
        };
        let done = match fault {
            Some(Fault::Error(errno)) => Err(errno.into()),
            fault => act(&mut state, fault),
        };
        self.take_image(&mut state, format!("after {moment}"));
        done
    }

    fn take_image(&self, state: &mut State, moment: String) {
        let Some(mut images) = state.images.take() else { return };
        let journal = self.root.join("journal");
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&journal).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            files.insert(name(&path), fs::read(&path).expect("readable"));
        }
        images.push(Image {
            moment,
            answered: self.answered.load(Ordering::SeqCst),
            format: fs::read(self.root.join("FORMAT")).ok(),
            journal: journal.exists(),
            files,
            unsynced: state.unsynced.clone(),
            new_names: state.new_names.clone(),
            removed: state.removed.clone(),
            sled: state.sled.clone(),
            sled_is_new: state.sled_is_new,
        });
        state.images = Some(images);
    }

    fn copy_sled(&self, state: &mut State) {
        let Some(copies) = &self.copies else { return };
        state.copied += 1;
        let copy = copies.path().join(state.copied.to_string());
        super::copy(&self.root.join("sled"), &copy);
        state.sled = Some(copy);
    }

    fn in_journal(&self, path: &Path) -> Option<String> {
        path.starts_with(self.root.join("journal")).then(|| name(path))
    }
}

impl Image {
    /// Puts it on a disk.
    pub fn restore(&self, to: &Path, unsynced: Unsynced) {
        if let Some(format) = &self.format {
            fs::write(to.join("FORMAT"), format).expect("written");
        }
        if let Some(sled) = self.sled.as_ref().filter(|_| !self.sled_is_new || unsynced.keeps(SLED_NAME)) {
            super::copy(sled, &to.join("sled"));
        }
        if !self.journal {
            return;
        }
        let mut files = self.files.clone();
        for write in self.unsynced.iter().rev() {
            if let Some(file) = files.get_mut(&write.name) {
                file[write.offset..][..write.old.len()].copy_from_slice(&write.old);
            }
        }
        let mut sector = 0;
        for write in &self.unsynced {
            let Some(file) = files.get_mut(&write.name) else { continue };
            let mut at = write.offset;
            while at < write.offset + write.new.len() {
                let end = (at / SECTOR + 1) * SECTOR;
                let end = end.min(write.offset + write.new.len());
                if unsynced.keeps(sector) {
                    file[at..end].copy_from_slice(&write.new[at - write.offset..end - write.offset]);
                }
                sector += 1;
                at = end;
            }
        }
        let mut name_number = 32;
        for new in &self.new_names {
            if !unsynced.keeps(name_number) {
                files.remove(new);
            }
            name_number += 1;
        }
        for (removed, bytes) in &self.removed {
            if !unsynced.keeps(name_number) {
                files.insert(removed.clone(), bytes.clone());
            }
            name_number += 1;
        }
        fs::create_dir(to.join("journal")).expect("made");
        for (name, bytes) in files {
            fs::write(to.join("journal").join(name), bytes).expect("written");
        }
    }
}

impl Unsynced {
    fn keeps(self, number: u32) -> bool {
        match self {
            Unsynced::Kept => true,
            Unsynced::Lost => false,
            Unsynced::Torn(bits) => bits >> (number % 64) & 1 == 1,
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

impl Files for FaultyFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        SystemFiles.make_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<File> {
        SystemFiles.lock(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        SystemFiles.open(path)
    }

    /// What is torn is written in pieces.
    fn open_direct(&self, _: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        SystemFiles.read(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        SystemFiles.write(file, bytes)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call("create", path, |state, fault| {
            if let Some(Fault::Short(errno)) = fault {
                SystemFiles.create(path, &bytes[..bytes.len() / 2])?;
                return Err(errno.into());
            }
            state.new_names.extend(self.in_journal(path));
            if state.images.is_some() {
                // What is not synced of it may be there, or zeros, or nothing.
                for (part, what) in [(0, "nothing"), (bytes.len() / 2, "half")] {
                    fs::write(path, &bytes[..part])?;
                    self.take_image(state, format!("{what} of {}", name(path)));
                }
            }
            SystemFiles.create(path, bytes)
        })
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        SystemFiles.read_at(file, offset, bytes)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = path_of(file);
        self.call("write", &path, |state, fault| {
            let (bytes, done) = match fault {
                Some(Fault::Short(errno)) => (&bytes[..bytes.len() / 2], Err(errno.into())),
                _ => (bytes, Ok(())),
            };
            let mut old = vec![0; bytes.len()];
            file.read_exact_at(&mut old, offset)?;
            state.unsynced.push(Write { name: name(&path), offset: offset as usize, old, new: bytes.to_vec() });
            SystemFiles.write_at(file, offset, bytes)?;
            done
        })
    }

    fn settle(&self, file: &File) -> io::Result<()> {
        let path = path_of(file);
        self.call("settle", &path, |state, _| {
            SystemFiles.settle(file)?;
            state.unsynced.retain(|write| write.name != name(&path));
            Ok(())
        })
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        SystemFiles.free_space(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", from, |state, _| {
            SystemFiles.rename(from, to)?;
            if let Some(to) = self.in_journal(to) {
                state.new_names.insert(to);
            }
            if to == self.root.join("sled") {
                state.sled_is_new = true;
                self.copy_sled(state);
            }
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        SystemFiles.list(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, |state, _| {
            if let Some(name) = self.in_journal(path)
                && path.exists()
            {
                state.removed.insert(name, fs::read(path)?);
            }
            SystemFiles.remove(path)
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove_directory(path)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let path = path_of(file);
        if path.ends_with("sled/db") {
            // The spill lags behind, so that there are crashes with several segments that are not in sled.
            thread::sleep(Duration::from_millis(4));
        }
        self.call("sync", &path, |state, fault| {
            if let Some(Fault::Short(errno)) = fault {
                return Err(errno.into());
            }
            SystemFiles.sync_data(file)?;
            state.unsynced.retain(|write| write.name != name(&path));
            if path == self.root.join("sled/db") {
                self.copy_sled(state);
            }
            Ok(())
        })
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.call("sync the names in", path, |state, _| {
            SystemFiles.sync_directory(path)?;
            if path == self.root {
                state.sled_is_new = false;
            }
            if path == self.root.join("journal") {
                state.new_names.clear();
                state.removed.clear();
            }
            Ok(())
        })
    }
}
