//! The layers: defaults, file, environment, flags. Each value keeps where it came from, so that an error and
//! `postrider config show` can say it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::keys::{every_key, get, keys, kind, line_of, nearest, offset_of, parse_like, put, table_of, variable};
use super::{Config, check};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "postrider.toml";

/// Variables with our prefix that belong to the client side, not to the configuration.
const CLIENT_VARIABLES: [&str; 2] = ["POSTRIDER_HOME", "POSTRIDER_CONTEXT"];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file's name, and the line.
    File(String, usize),
    /// The variable's name.
    Environment(String),
    /// The flag, as typed.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(name, line) => write!(f, "{name}:{line}"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value given by a flag.
#[derive(Clone, Debug)]
pub struct Override {
    /// Section and key, as in `listen.address`.
    pub key: &'static str,
    /// The flag, as in `--listen`.
    pub flag: &'static str,
    /// The value.
    pub value: Value,
}

/// The values in force, and where each comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values; they have passed [`check::check`].
    pub config: Config,
    /// By section and key.
    pub origins: BTreeMap<String, Origin>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Loaded {
    /// Every key that has a value, with the value as TOML and its origin, in the order of the reference.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Value, Origin)> {
        let table = table_of(&self.config);
        let mut values = Vec::new();
        for key in keys(&table) {
            let value = get(&table, &key).cloned().unwrap_or(Value::Boolean(false));
            let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
            values.push((key, value, origin));
        }
        values
    }
}

/// Why there is no configuration. Each is one line that says where and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {why}")]
    Unreadable {
        /// Which file.
        file: String,
        /// As the system says it.
        why: String,
    },
    /// The file is not TOML, or a value is not of its key's type.
    #[error("{file}:{line}: {what}")]
    Malformed {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The file has a key that means nothing.
    #[error("{file}:{line}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// As written.
        key: String,
        /// What was probably meant, or what there is.
        hint: String,
    },
    /// The environment has a variable with our prefix that means nothing.
    #[error("unknown variable {name}; {hint}")]
    UnknownVariable {
        /// As set.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// A value is not of its key's type, or breaks a rule.
    #[error("{from}{key}: {what}")]
    BadValue {
        /// Where the value is, with a colon, or nothing when nobody set it.
        from: String,
        /// Section and key.
        key: String,
        /// What is wrong and what to do.
        what: String,
    },
}

impl ConfigError {
    /// What is told is one line for a terminal, whatever was written: control characters are shown by their names.
    fn shown(mut self) -> Self {
        let show = |text: &mut String| {
            if text.contains(char::is_control) {
                let letter = |letter: char| {
                    if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
                };
                *text = text.chars().map(letter).collect();
            }
        };
        match &mut self {
            ConfigError::Unreadable { file, why } => [file, why].map(show),
            ConfigError::Malformed { file, line: _, what } => [file, what].map(show),
            ConfigError::UnknownKey { file, line: _, key, hint } => {
                show(file);
                [key, hint].map(show)
            }
            ConfigError::UnknownVariable { name, hint } => [name, hint].map(show),
            ConfigError::BadValue { from, key: _, what } => [from, what].map(show),
        };
        self
    }
}

/// Reads the layers: `file`, or [`DEFAULT_FILE`] if it exists, then the process's environment, then `flags`.
///
/// # Errors
/// [`ConfigError`], as one line.
pub fn load(file: Option<&Path>, flags: &[Override]) -> Result<Loaded, ConfigError> {
    let path = match file {
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let text = path.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .map_err(|why| ConfigError::Unreadable { file: path.display().to_string(), why: why.to_string() })
    });
    let text = text.transpose()?;
    let name = path.as_ref().map(|path| path.display().to_string());
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let mut loaded = compose(name.as_deref().zip(text.as_deref()), &environment, flags)?;
    loaded.file = path;
    Ok(loaded)
}

/// The same from values: a file's name and text, the variables, the flags.
///
/// # Errors
/// [`ConfigError`], as one line.
pub fn compose(
    file: Option<(&str, &str)>,
    environment: &[(String, String)],
    flags: &[Override],
) -> Result<Loaded, ConfigError> {
    lay_over(file, environment, flags).map_err(ConfigError::shown)
}

fn lay_over(
    file: Option<(&str, &str)>,
    environment: &[(String, String)],
    flags: &[Override],
) -> Result<Loaded, ConfigError> {
    let mut layers = Layers { table: table_of(&Config::default()), origins: BTreeMap::new() };
    if let Some((name, text)) = file {
        layers.add_file(name, text)?;
    }
    layers.add_environment(environment)?;
    for Override { key, flag, value } in flags {
        layers.set(key, value.clone(), Origin::Flag(flag))?;
    }
    let config = Config::deserialize(layers.table.clone()).map_err(|error| ConfigError::BadValue {
        from: String::new(),
        key: "configuration".into(),
        what: error.message().to_owned(),
    })?;
    check::check(&config).map_err(|fault| layers.blame(fault.key, fault.what))?;
    Ok(Loaded { config, origins: layers.origins, file: None })
}

struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    fn add_file(&mut self, file: &str, text: &str) -> Result<(), ConfigError> {
        let malformed = |error: toml::de::Error| ConfigError::Malformed {
            file: file.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            what: error.message().trim().replace('\n', " "),
        };
        let spanned = DeTable::parse(text).map_err(malformed)?;
        refuse_unknown(file, text, spanned.get_ref(), &every_key(), "")?;
        toml::from_str::<Config>(text).map_err(malformed)?;
        let values: Table = toml::from_str(text).map_err(malformed)?;
        for key in keys(&values) {
            if let Some(value) = get(&values, &key) {
                put(&mut self.table, &key, value.clone());
                let line = line_of(text, offset_of(spanned.get_ref(), &key));
                self.origins.insert(key, Origin::File(file.to_owned(), line));
            }
        }
        Ok(())
    }

    fn add_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        let known = every_key();
        let names: BTreeMap<String, String> =
            keys(&known).into_iter().filter(|key| key != "app").map(|key| (variable(&key), key)).collect();
        let mut ours: Vec<_> = environment
            .iter()
            .filter(|(name, _)| name.starts_with("POSTRIDER_") && !CLIENT_VARIABLES.contains(&name.as_str()))
            .collect();
        ours.sort();
        for (name, text) in ours {
            let Some(key) = names.get(name) else {
                let hint = match nearest(name, names.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`postrider config default` lists the keys; apps can only be set in the file".into(),
                };
                return Err(ConfigError::UnknownVariable { name: name.clone(), hint });
            };
            let origin = Origin::Environment(name.clone());
            let value = get(&known, key).and_then(|sample| parse_like(sample, text)).ok_or_else(|| {
                let what = format!("`{text}` is not {}", get(&known, key).map_or("a value", kind));
                ConfigError::BadValue { from: format!("{origin}: "), key: key.clone(), what }
            })?;
            self.set(key, value, origin)?;
        }
        Ok(())
    }

    /// Sets one value and makes sure that it is of its key's type, so that the blame falls on the right layer.
    fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        put(&mut self.table, key, value);
        self.origins.insert(key.to_owned(), origin);
        match Config::deserialize(self.table.clone()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.blame(key, error.message().trim().replace('\n', " "))),
        }
    }

    fn blame(&self, key: &str, what: String) -> ConfigError {
        let from = self.origins.get(key).map(|origin| format!("{origin}: ")).unwrap_or_default();
        ConfigError::BadValue { from, key: key.to_owned(), what }
    }
}

fn refuse_unknown(
    file: &str,
    text: &str,
    written: &DeTable<'_>,
    known: &Table,
    section: &str,
) -> Result<(), ConfigError> {
    for (key, value) in written {
        let Some(sample) = known.get(key.get_ref().as_ref()) else {
            let hint = match nearest(key.get_ref(), known.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if section.is_empty() => "`postrider config default` lists the keys".into(),
                None => format!("{section} has {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
            let (line, key) = (line_of(text, key.span().start), key.get_ref().to_string());
            return Err(ConfigError::UnknownKey { file: file.to_owned(), line, key, hint });
        };
        match (value.get_ref(), sample) {
            (DeValue::Table(inner), Value::Table(known)) => {
                refuse_unknown(file, text, inner, known, &format!("[{}]", key.get_ref()))?;
            }
            (DeValue::Array(items), Value::Array(samples)) => {
                for item in items.iter() {
                    if let (DeValue::Table(inner), Some(Value::Table(known))) = (item.get_ref(), samples.first()) {
                        refuse_unknown(file, text, inner, known, &format!("[[{}]]", key.get_ref()))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, LoginMethod, REFERENCE};

    fn from_file(text: &str) -> Result<Loaded, ConfigError> {
        compose(Some(("postrider.toml", text)), &[], &[])
    }

    fn error_of(text: &str) -> String {
        from_file(text).expect_err("this must not load").to_string()
    }

    fn from_environment(name: &str, value: &str) -> Result<Loaded, ConfigError> {
        compose(None, &[(name.to_owned(), value.to_owned())], &[])
    }

    #[test]
    fn the_reference_says_the_defaults() {
        assert_eq!(from_file(REFERENCE).unwrap().config, Config::default());
        assert_eq!(compose(None, &[], &[]).unwrap().config, Config::default());
    }

    #[test]
    fn the_reference_documents_every_key() {
        let known = every_key();
        let Some(Value::Array(apps)) = known.get("app") else { panic!("there are apps") };
        let in_app = apps[0].as_table().unwrap().keys().cloned();
        for key in keys(&known).into_iter().filter(|key| key != "app").chain(in_app) {
            let name = key.rsplit('.').next().unwrap();
            let lines: Vec<_> = REFERENCE.lines().collect();
            let at = lines
                .iter()
                .position(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")))
                .unwrap_or_else(|| panic!("{key} is not in reference.toml"));
            assert!(lines[at - 1].starts_with("# "), "{key} has no comment");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
        assert_eq!(
            error_of("data = \"d\"\n\n[lisen]\n"),
            "postrider.toml:3: unknown key `lisen`; did you mean `listen`?"
        );
        assert_eq!(
            error_of("[listen]\nidle_timeout = 5\n"),
            "postrider.toml:2: unknown key `idle_timeout`; did you mean `idle_timeout_ms`?"
        );
        assert_eq!(
            error_of("[[app]]\nname = \"a\"\npassword = 1\n"),
            "postrider.toml:3: unknown key `password`; [[app]] has name, login, allow_open_off_loopback"
        );
    }

    #[test]
    fn a_wrong_type_or_syntax_is_told_with_its_line() {
        assert!(error_of("[listen]\nmax_connections = \"many\"\n").starts_with("postrider.toml:2: invalid type"));
        assert!(error_of("[listen\n").starts_with("postrider.toml:1: "));
        assert_eq!(
            error_of("[listen]\naddress = \"localhost:7222\"\n"),
            "postrider.toml:2: `localhost:7222` is not an IP address with a port, such as 127.0.0.1:7222"
        );
    }

    #[test]
    fn an_error_is_one_line_whatever_was_written() {
        assert_eq!(
            error_of("\"a\\nb\" = 1\n"),
            "postrider.toml:1: unknown key `a\\nb`; `postrider config default` lists the keys"
        );
        assert!(error_of("[log]\nlevel = \"\\u001b[2J\"\n").contains("\\u{1b}[2J"));
        let variable = from_environment("POSTRIDER_TLS_NAM\tES", "x").expect_err("unknown").to_string();
        assert!(variable.starts_with("unknown variable POSTRIDER_TLS_NAM\\tES;"), "{variable}");
    }

    #[test]
    fn a_broken_rule_is_told_with_the_line_of_its_key() {
        assert_eq!(
            error_of("\n[listen]\nidle_timeout_ms = 5\n"),
            "postrider.toml:3: listen.idle_timeout_ms: 5 is not between 1000 and 86400000"
        );
    }

    #[test]
    fn an_address_may_be_one_or_a_list() {
        let one = from_file("[listen]\naddress = \"127.0.0.1:1\"\n").unwrap().config;
        let list = from_file("[listen]\naddress = [\"127.0.0.1:1\", \"[::1]:2\"]\n").unwrap().config;
        assert_eq!(one.listen.address, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(list.listen.address.len(), 2);
    }

    #[test]
    fn apps_in_the_file_replace_the_default_one_and_take_device_keys() {
        let config = from_file("[[app]]\nname = \"shop\"\n").unwrap().config;
        assert_eq!(config.app.len(), 1);
        assert_eq!((config.app[0].name.as_str(), &config.app[0].login[..]), ("shop", &[LoginMethod::DeviceKey][..]));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "data = \"file\"\n[log]\nlevel = \"warn\"\nformat = \"human\"\n";
        let environment = [("POSTRIDER_DATA", "env"), ("POSTRIDER_LOG_LEVEL", "debug"), ("POSTRIDER_HOME", "/h")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = [Override { key: "data", flag: "--data", value: Value::from("flag") }];
        let loaded = compose(Some(("p.toml", file)), &environment, &flags).unwrap();
        assert_eq!(loaded.config.data, Path::new("flag"));
        assert_eq!((loaded.config.log.level.as_str(), loaded.config.log.format), ("debug", LogFormat::Human));
        let origin = |key: &str| loaded.origins.get(key).map(ToString::to_string);
        assert_eq!(origin("data").as_deref(), Some("--data"));
        assert_eq!(origin("log.level").as_deref(), Some("POSTRIDER_LOG_LEVEL"));
        assert_eq!(origin("log.format").as_deref(), Some("p.toml:4"));
        assert_eq!(origin("retention.ttl_days"), None);
    }

    #[test]
    fn variables_take_numbers_lists_and_words() {
        let config = from_environment("POSTRIDER_LISTEN_ADDRESS", "127.0.0.1:1, [::1]:2").unwrap().config;
        assert_eq!(config.listen.address.len(), 2);
        let config = from_environment("POSTRIDER_RETENTION_TTL_DAYS", "7").unwrap().config;
        assert_eq!(config.retention.ttl_days, 7);
        let config = from_environment("POSTRIDER_TLS_NAMES", "a.example").unwrap().config;
        assert_eq!(config.tls.names, ["a.example"]);
    }

    #[test]
    fn bad_variables_are_told_by_name() {
        let error = |name, value| from_environment(name, value).expect_err("bad").to_string();
        assert_eq!(
            error("POSTRIDER_LISTEN_ADRESS", "x"),
            "unknown variable POSTRIDER_LISTEN_ADRESS; did you mean POSTRIDER_LISTEN_ADDRESS?"
        );
        assert_eq!(
            error("POSTRIDER_RETENTION_TTL_DAYS", "soon"),
            "POSTRIDER_RETENTION_TTL_DAYS: retention.ttl_days: `soon` is not a whole number"
        );
        assert!(error("POSTRIDER_LOG_FORMAT", "xml").starts_with("POSTRIDER_LOG_FORMAT: log.format: unknown variant"));
    }

    #[test]
    fn the_values_in_force_can_be_loaded_again() {
        let loaded = from_file("[[app]]\nname = \"a\"\n[limits]\ninbox_entries = 7\n").unwrap();
        let text: String = loaded.values().iter().map(|(key, value, _)| format!("{key} = {value}\n")).collect();
        assert_eq!(from_file(&text).unwrap().config, loaded.config);
    }
}
