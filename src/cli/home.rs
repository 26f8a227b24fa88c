//! `POSTRIDER_HOME`: where the client side keeps its contexts and the state of its devices, for the owner only.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::exit::Failure;

/// What stands in a file name as it is. No dot: a user may be named `..`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The client side's directory.
#[derive(Clone, Debug)]
pub struct Home {
    directory: PathBuf,
}

impl Home {
    /// As the environment has it: `POSTRIDER_HOME`, else the platform's place for a user's data. Made when first written.
    ///
    /// # Errors
    /// When the environment names no home at all.
    pub fn find() -> Result<Self, Failure> {
        Self::from_environment(|name| std::env::var_os(name)).ok_or_else(|| {
            Failure::usage("there is no home directory to keep client state in; set POSTRIDER_HOME or HOME")
        })
    }

    fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let given = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = given("POSTRIDER_HOME").or_else(|| {
            if cfg!(target_os = "macos") {
                return given("HOME").map(|home| home.join("Library/Application Support/postrider"));
            }
            // The XDG specification has relative paths ignored.
            let data = given("XDG_DATA_HOME").filter(|path| path.is_absolute());
            data.or_else(|| given("HOME").map(|home| home.join(".local/share"))).map(|data| data.join("postrider"))
        })?;
        Some(Self::at(&directory))
    }

    /// In this directory.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()) }
    }

    /// Where contexts are.
    #[must_use]
    pub fn contexts(&self) -> PathBuf {
        self.directory.join("contexts")
    }

    /// The file that names the current context.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.directory.join("current")
    }

    /// Where the devices of a user of an app of a server are.
    #[must_use]
    pub fn devices(&self, server: &str, app: &str, user: &str) -> PathBuf {
        let place = format!("{}@{}", file_name(app), file_name(server));
        self.directory.join("state").join(place).join(file_name(user))
    }
}

/// A name as one path component, whatever it is made of; at most 3 bytes for each of the name's.
#[must_use]
pub fn file_name(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

/// The name that [`file_name`] was given, if it is one of its.
#[must_use]
pub fn name_of(file_name: &str) -> Option<String> {
    percent_encoding::percent_decode_str(file_name).decode_utf8().ok().map(|name| name.into_owned())
}

/// Makes a directory, and those above it, for the owner only.
///
/// # Errors
/// As the system says.
pub fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Writes a small file for the owner only, whole or not at all.
///
/// # Errors
/// As the system says.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    make_private(directory)?;
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        drop(std::fs::remove_file(&aside));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Home::from_environment(find).map(|home| home.directory)
    }

    #[test]
    fn the_variable_wins_over_the_platforms_place() {
        assert_eq!(home(&[("POSTRIDER_HOME", "/p"), ("HOME", "/h")]), Some("/p".into()));
        assert_eq!(home(&[("POSTRIDER_HOME", "")]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_platforms_place_follows_xdg() {
        assert_eq!(home(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]), Some("/x/postrider".into()));
        assert_eq!(home(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")]), Some("/h/.local/share/postrider".into()));
    }

    #[test]
    fn no_name_leaves_its_directory() {
        for name in ["..", ".", "a/b", "zoë 🐎", "CON", "a%2fb"] {
            let file = file_name(name);
            assert!(!file.contains(['/', '.']), "{file}");
            assert_eq!(name_of(&file).as_deref(), Some(name));
        }
        let longest = "\u{1f40e}".repeat(16);
        assert!(file_name(&longest).len() <= 255);
    }

    #[test]
    fn files_and_directories_are_the_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        write_private(&path, "one").unwrap();
        write_private(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
