//! The configuration: a file and the environment.

use postrider::config::load::{ConfigError, Origin, compose};
use postrider::config::{Loaded, check};

/// Ends the file; `NAME=value` lines follow.
const END_OF_FILE: char = '\u{1}';

/// What must hold: there is a configuration within the rules, or one line that names a place in the file; what is in force
/// can be written down and loaded again.
pub fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, variables) = text.split_once(END_OF_FILE).unwrap_or((text, ""));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: Vec<_> = variables.lines().filter_map(pair).collect();
    match compose(Some(("postrider.toml", file)), &environment, &[]) {
        Ok(loaded) => good(&loaded, file),
        Err(error) => bad(&error, file),
    }
}

fn good(loaded: &Loaded, file: &str) {
    assert_eq!(check::check(&loaded.config), Ok(()));
    for (key, value, origin) in loaded.values() {
        if let Origin::File(_, line) = origin {
            assert!((1..=lines(file)).contains(&line), "{key} = {value} is said to be on line {line}");
        }
    }
    let written: String = loaded.values().iter().map(|(key, value, _)| format!("{key} = {value}\n")).collect();
    let again = compose(Some(("written.toml", &written)), &[], &[]).expect("what is in force loads again");
    assert_eq!(again.config, loaded.config);
}

fn bad(error: &ConfigError, file: &str) {
    let told = error.to_string();
    assert!(!told.contains(char::is_control), "not one line: {told:?}");
    if let ConfigError::Malformed { line, .. } | ConfigError::UnknownKey { line, .. } = error {
        assert!((1..=lines(file)).contains(line), "line {line} of {}", lines(file));
    }
}

/// A file that ends in a line break has an empty last line: something may be missing there.
fn lines(file: &str) -> usize {
    file.bytes().filter(|byte| *byte == b'\n').count() + 1
}
