//! The keys there are, by name (`listen.address`), by variable (`POSTRIDER_LISTEN_ADDRESS`), and by place in a file.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, Tls};

/// Every key there is, optional ones included, each with a value of its type: what "known" means.
pub(super) fn every_key() -> Table {
    let tls =
        Tls { certificate: Some("server.pem".into()), key: Some("server.key".into()), names: Tls::default().names };
    table_of(&Config { tls, ..Config::default() })
}

pub(super) fn table_of(config: &Config) -> Table {
    // Strings, integers, booleans, lists and tables only: there is nothing TOML could refuse.
    Table::try_from(config).unwrap_or_default()
}

/// Section and key of every value; a list of tables counts as one value.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

pub(super) fn get<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.get(key),
        None => table.get(key),
    }
}

pub(super) fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, key)) => {
            if let Value::Table(section) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                section.insert(key.to_owned(), value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

pub(super) fn offset_of(table: &DeTable<'_>, key: &str) -> usize {
    let (name, rest) = key.split_once('.').map_or((key, None), |(name, rest)| (name, Some(rest)));
    let found = table.iter().find(|(written, _)| written.get_ref() == name);
    match (found, rest) {
        (Some((_, value)), Some(rest)) => match value.get_ref() {
            DeValue::Table(section) => offset_of(section, rest),
            _ => value.span().start,
        },
        (Some((written, _)), None) => written.span().start,
        (None, _) => 0,
    }
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

pub(super) fn variable(key: &str) -> String {
    format!("POSTRIDER_{}", key.replace('.', "_").to_uppercase())
}

pub(super) fn parse_like(sample: &Value, text: &str) -> Option<Value> {
    match sample {
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        Value::Array(_) => Some(Value::Array(text.split(',').map(|item| Value::from(item.trim())).collect())),
        _ => Some(Value::from(text)),
    }
}

pub(super) fn kind(sample: &Value) -> &'static str {
    match sample {
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        _ => "a value",
    }
}

/// The name within a typing slip of `word`, if there is one.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let slips = (word.chars().count() / 3).clamp(1, 4);
    names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, _)| *distance <= slips)
        .min()
        .map(|(_, name)| name)
}
