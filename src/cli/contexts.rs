//! Contexts: named servers, saved so that commands need not be told each time. One file each, and one that names the
//! current one.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::exit::Failure;
use super::home::{self, Home};

/// The context that `serve` keeps for the server it runs.
pub const LOCAL: &str = "local";

const EXTENSION: &str = "toml";

/// How to reach an app of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// host:port.
    pub server: String,
    /// A PEM file with the CA to trust, absolute.
    pub ca: PathBuf,
    /// The app's name.
    pub app: String,
}

/// The contexts of a home.
#[derive(Clone, Debug)]
pub struct Contexts {
    home: Home,
}

impl Contexts {
    /// Those of this home.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// The names, in order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let directory = self.home.contexts();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::other(format!("cannot read {}: {error}", directory.display()))),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| Some(file.strip_suffix(EXTENSION)?.strip_suffix('.')?.to_owned()))
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The context of this name.
    ///
    /// # Errors
    /// When there is none, with the names there are, or when its file is not right.
    pub fn load(&self, name: &str) -> Result<Context, Failure> {
        check_name(name)?;
        let path = self.path(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let names = self.names()?;
                let there = match names.as_slice() {
                    [] => "there are none yet; `postrider context save` makes one".to_owned(),
                    names => format!("there are: {}", names.join(", ")),
                };
                return Err(Failure::usage(format!("there is no context `{name}`; {there}")));
            }
            Err(error) => return Err(Failure::other(format!("cannot read {}: {error}", path.display()))),
        };
        toml::from_str(&text).map_err(|error| {
            let what = error.message().trim().replace('\n', " ");
            Failure::usage(format!("{}: {what}; `postrider context save {name}` writes it anew", path.display()))
        })
    }

    /// Saves a context under this name; the first one becomes current.
    ///
    /// # Errors
    /// When the name cannot be one, or the files cannot be written.
    pub fn save(&self, name: &str, context: &Context) -> Result<(), Failure> {
        check_name(name)?;
        let text = toml::to_string(context).map_err(|error| Failure::other(error.to_string()))?;
        let path = self.path(name);
        home::write_private(&path, &text).map_err(|error| cannot_write(&path, &error))?;
        if self.current().is_none() { self.choose(name) } else { Ok(()) }
    }

    /// Makes a context current.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be written.
    pub fn choose(&self, name: &str) -> Result<(), Failure> {
        self.load(name)?;
        let path = self.home.current();
        home::write_private(&path, &format!("{name}\n")).map_err(|error| cannot_write(&path, &error))
    }

    /// Removes a context; when it was current, none is.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let was_current = self.current().as_deref() == Some(name);
        let path = self.path(name);
        if check_name(name).is_err() || !path.exists() {
            self.load(name)?;
        }
        std::fs::remove_file(&path)
            .and_then(|()| if was_current { std::fs::remove_file(self.home.current()) } else { Ok(()) })
            .map_err(|error| Failure::other(format!("cannot remove {}: {error}", path.display())))
    }

    /// The name of the current context, if it is still there.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        let name = std::fs::read_to_string(self.home.current()).ok()?.trim().to_owned();
        (check_name(&name).is_ok() && self.path(&name).exists()).then_some(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.contexts().join(format!("{name}.{EXTENSION}"))
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Failure::usage(format!("{name:?} cannot name a context; use 1 to 64 of a-z, A-Z, 0-9, - _ and . (not first)")))
}

fn cannot_write(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::other(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn empty() -> (tempfile::TempDir, Contexts) {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::of(&Home::at(root.path()));
        (root, contexts)
    }

    fn context(server: &str) -> Context {
        Context { server: server.into(), ca: "/ca.pem".into(), app: "dev".into() }
    }

    #[test]
    fn the_first_context_saved_becomes_current_and_stays() {
        let (_root, contexts) = empty();
        assert_eq!(contexts.current(), None);
        contexts.save("work", &context("w:1")).unwrap();
        contexts.save(LOCAL, &context("l:1")).unwrap();
        assert_eq!(contexts.current().as_deref(), Some("work"));
        assert_eq!(contexts.names().unwrap(), [LOCAL, "work"]);
        contexts.save("work", &context("w:2")).unwrap();
        assert_eq!(contexts.load("work").unwrap(), context("w:2"));
    }

    #[test]
    fn another_can_be_chosen_and_removed() {
        let (_root, contexts) = empty();
        contexts.save("a", &context("a:1")).unwrap();
        contexts.save("b", &context("b:1")).unwrap();
        contexts.choose("b").unwrap();
        assert_eq!(contexts.current().as_deref(), Some("b"));
        contexts.remove("b").unwrap();
        assert_eq!(contexts.current(), None);
        assert_eq!(contexts.remove("b").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn an_unknown_context_is_told_with_those_there_are() {
        let (_root, contexts) = empty();
        contexts.save("home", &context("h:1")).unwrap();
        let failure = contexts.load("hom").unwrap_err();
        assert_eq!(failure.message, "there is no context `hom`; there are: home");
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(contexts.choose("hom").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let (_root, contexts) = empty();
        for name in ["", "..", "../x", "a/b", ".hidden"] {
            assert_eq!(contexts.save(name, &context("x:1")).unwrap_err().exit, Exit::Usage, "{name}");
        }
    }

    #[test]
    fn a_damaged_context_is_told_with_its_file() {
        let (root, contexts) = empty();
        contexts.save("a", &context("a:1")).unwrap();
        std::fs::write(root.path().join("contexts/a.toml"), "server = 5").unwrap();
        let message = contexts.load("a").unwrap_err().message;
        assert!(message.contains("contexts/a.toml") && message.contains("context save a"), "{message}");
    }
}
