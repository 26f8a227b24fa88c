//! Commands to copy: how this program was called, and names as a shell takes them.

use std::path::{Path, PathBuf};

/// How this program was called, so that what is printed can be typed.
#[must_use]
pub fn postrider() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    spelling(&called, std::env::current_exe().ok().as_deref())
}

fn spelling(called: &Path, executable: Option<&Path>) -> String {
    let lies_in = |directory: &str| {
        executable.and_then(Path::parent).is_some_and(|parent| parent.ends_with(Path::new("target").join(directory)))
    };
    if lies_in("release") {
        "cargo run --release --".into()
    } else if lies_in("debug") {
        "cargo run --".into()
    } else if called.as_os_str().is_empty() {
        "postrider".into()
    } else {
        quote(&called.display().to_string())
    }
}

/// A name as a shell takes it.
#[must_use]
pub fn quote(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | ':' | '+');
    if name.chars().all(plain) && !name.starts_with('-') && !name.is_empty() {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quote("zoë"), "zoë");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; rm"), r"'it'\''s; rm'");
    }

    #[test]
    fn a_program_that_cargo_built_is_called_through_cargo() {
        let spelled = |executable: &str| spelling(Path::new("x"), Some(Path::new(executable)));
        assert_eq!(spelled("/src/target/release/postrider"), "cargo run --release --");
        assert_eq!(spelled("/src/target/debug/postrider"), "cargo run --");
        assert_eq!(spelling(Path::new("./postrider"), Some(Path::new("/opt/postrider"))), "./postrider");
        assert_eq!(spelling(Path::new("postrider"), None), "postrider");
    }
}
