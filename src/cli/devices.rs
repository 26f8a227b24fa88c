//! Which of a user's devices here a command is. Each device has a directory with its state, which one process at a time
//! can open: two processes of the same user are two devices.

use std::io;
use std::path::{Path, PathBuf};

use postrider_client::limits::MAX_DEVICES;
use postrider_client::{FileState, StateError};

use super::exit::Failure;
use super::home::{file_name, name_of};

/// Devices that nobody named are `cli-1`, `cli-2`, …
const PREFIX: &str = "cli-";

/// A device with its state, open.
#[derive(Debug)]
pub struct Chosen {
    /// The device's name.
    pub name: String,
    /// Where its state is.
    pub directory: PathBuf,
    /// Its state; no other process has it.
    pub state: FileState,
    /// Whether it was made just now.
    pub fresh: bool,
}

/// The first device in `directory` that no other process uses, those named here (`cli-1`, `cli-2`, …) first; a new one
/// when all are in use or there is none.
///
/// # Errors
/// When the state cannot be used, or too many processes run already.
pub fn first_free(directory: &Path) -> Result<Chosen, Failure> {
    for name in existing(directory)? {
        if let Some(chosen) = open(directory, &name)? {
            return Ok(chosen);
        }
    }
    next_new(directory)
}

/// A new device.
///
/// # Errors
/// As [`first_free`].
pub fn next_new(directory: &Path) -> Result<Chosen, Failure> {
    // Others may take the same number at the same time; twice as many as can be devices is more than enough.
    for number in 1..=2 * MAX_DEVICES {
        let name = format!("{PREFIX}{number}");
        if !directory.join(file_name(&name)).exists()
            && let Some(chosen) = open(directory, &name)?
        {
            return Ok(chosen);
        }
    }
    let count = 2 * MAX_DEVICES;
    Err(Failure::other(format!(
        "{count} processes run as this user here already; end one, or choose with --device NAME"
    )))
}

/// The device of this name, new or not.
///
/// # Errors
/// When another process uses it, or its state cannot be used.
pub fn named(directory: &Path, name: &str) -> Result<Chosen, Failure> {
    open(directory, name)?.ok_or_else(|| {
        Failure::other(format!(
            "another process is running as device {name}; end it, or choose another --device, or give none"
        ))
    })
}

/// Drops a device's state.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(directory: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::other(format!("cannot remove {}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}

/// `None` when another process has it.
fn open(directory: &Path, name: &str) -> Result<Option<Chosen>, Failure> {
    let directory = directory.join(file_name(name));
    let fresh = !directory.exists();
    match FileState::open(&directory) {
        Ok(state) => Ok(Some(Chosen { name: name.to_owned(), directory, state, fresh })),
        Err(StateError::InUse { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The devices there are: numbered ones by their number, then the others by name.
fn existing(directory: &Path) -> Result<Vec<String>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::other(format!("cannot read {}: {error}", directory.display()))),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
        .filter_map(|file| name_of(&file))
        .collect();
    let number = |name: &str| name.strip_prefix(PREFIX).and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    names.sort_by(|one, other| number(one).cmp(&number(other)).then_with(|| one.cmp(other)));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn each_process_is_the_first_device_that_is_free() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("alice");
        let first = first_free(&directory).unwrap();
        let second = first_free(&directory).unwrap();
        assert_eq!((first.name.as_str(), first.fresh), ("cli-1", true));
        assert_eq!((second.name.as_str(), second.fresh), ("cli-2", true));
        drop(first);
        let again = first_free(&directory).unwrap();
        assert_eq!((again.name.as_str(), again.fresh), ("cli-1", false));
    }

    #[test]
    fn named_devices_are_found_and_numbers_are_numbers() {
        let root = tempfile::tempdir().unwrap();
        drop(named(root.path(), "laptop").unwrap());
        assert_eq!(first_free(root.path()).unwrap().name, "laptop");
        drop(named(root.path(), "cli-10").unwrap());
        drop(named(root.path(), "cli-9").unwrap());
        assert_eq!(existing(root.path()).unwrap(), ["cli-9", "cli-10", "laptop"]);
    }

    #[test]
    fn a_named_device_in_use_is_told_in_one_line() {
        let root = tempfile::tempdir().unwrap();
        let _used = named(root.path(), "laptop").unwrap();
        let failure = named(root.path(), "laptop").unwrap_err();
        assert_eq!(failure.exit, Exit::Other);
        assert!(failure.message.starts_with("another process is running as device laptop;"), "{}", failure.message);
    }

    #[test]
    fn a_forgotten_device_is_new_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = named(root.path(), "..").unwrap().directory;
        forget(&directory).unwrap();
        forget(&directory).unwrap();
        assert!(named(root.path(), "..").unwrap().fresh);
        assert!(directory.starts_with(root.path()));
    }
}
