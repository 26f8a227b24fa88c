//! A file system in a file, whose power can be cut. Linux, as root: elsewhere it says why not.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Catastrophe, ServerProcess};

/// Room for a server with small segments and what waits for its users; the file is sparse.
const IMAGE_BYTES: u64 = 2 << 30;

/// What a file that nobody syncs holds.
static UNSYNCED: [u8; 65_536] = [b'u'; 65_536];

/// How long a server may go on after its disk is gone, at most. What it acks by then counts.
const AGONY: Duration = Duration::from_millis(60);

/// What still gets to the disk when its power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Everything = 0,
    /// What the file system had in its journal, but no data.
    TheJournal = 1,
    Nothing = 2,
}

/// An ext4 file system, mounted.
pub struct Image {
    directory: tempfile::TempDir,
    mounted: bool,
    cuts: Vec<Cut>,
    /// Cuts after which what was not synced was gone.
    losses: u32,
}

impl Image {
    /// # Errors
    /// Why this machine does not allow it, in one line.
    pub fn make() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting takes root; run it as root".into());
        }
        run("python3", &["--version"])?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut image = Self { directory, mounted: false, cuts: Vec::new(), losses: 0 };
        let made = File::create_new(image.file()).and_then(|file| file.set_len(IMAGE_BYTES));
        made.and_then(|()| fs::create_dir(image.mount())).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", &image.file().display().to_string()])?;
        image.attach()?;
        // A machine whose kernel does not know the call says so now.
        image.cut(Cut::Nothing)?;
        image.detach()?;
        image.attach()?;
        image.cuts.clear();
        Ok(image)
    }

    pub fn mount(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// A cut that loses nothing proves nothing.
    pub fn must_have_lost_what_was_not_synced(&self) {
        let hard = self.cuts.iter().filter(|cut| **cut == Cut::Nothing).count();
        assert!(hard == 0 || self.losses > 0, "of {hard} cuts, none took what was not synced");
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn attach(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", &self.file().display().to_string(), &self.mount().display().to_string()])?;
        self.mounted = true;
        Ok(())
    }

    fn detach(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        // Whoever just died under it may not be quite gone.
        while let Err(error) = run("umount", &[&self.mount().display().to_string()]) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mounted = false;
        Ok(())
    }

    fn cut(&mut self, cut: Cut) -> Result<(), String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cut_power.py");
        let (script, mount) = (script.display().to_string(), self.mount().display().to_string());
        run("python3", &[&script, &mount, &(cut as u8).to_string()])?;
        self.cuts.push(cut);
        Ok(())
    }
}

impl Catastrophe for Image {
    fn strike(&mut self, server: &mut ServerProcess, chance: &mut StdRng) {
        let cut = match chance.random_range(0..10) {
            0..=1 => Cut::Everything,
            2..=3 => Cut::TheJournal,
            _ => Cut::Nothing,
        };
        let unsynced = self.mount().join("unsynced");
        fs::write(&unsynced, UNSYNCED).unwrap();
        self.cut(cut).unwrap();
        std::thread::sleep(AGONY.mul_f64(chance.random()));
        server.kill();
        self.detach().unwrap();
        self.attach().unwrap();
        let kept = fs::read(&unsynced).is_ok_and(|found| found == UNSYNCED);
        self.losses += u32::from(!kept);
        drop(fs::remove_file(unsynced));
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |cut| self.cuts.iter().filter(|other| **other == cut).count();
        write!(
            f,
            "cuts: {} let nothing more through, {} the file system's journal, {} everything; after {} of them a file that \
             nobody had synced was gone",
            count(Cut::Nothing),
            count(Cut::TheJournal),
            count(Cut::Everything),
            self.losses
        )
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = self.detach()
        {
            println!("{} stays mounted: {error}", self.mount().display());
        }
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            println!("the disk image is {}", self.file().display());
        }
    }
}

/// Runs a command of the system to its end.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let complaint = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", complaint())) }
}
