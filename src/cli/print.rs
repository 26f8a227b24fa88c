//! Everything a command prints goes through here. What others wrote never reaches a terminal with control characters:
//! they could move the cursor, fake lines, or set the terminal's title.

#![allow(clippy::print_stderr)]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

/// A line on stdout, written out before this returns.
///
/// # Errors
/// When stdout cannot be written.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// One JSON object as a line on stdout, written out before this returns.
///
/// # Errors
/// When stdout cannot be written.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    line(&to_json(value)?)
}

/// A line on stderr. That nobody reads it is no reason to stop.
pub fn complain(text: &str) {
    let one_line = text.replace(['\n', '\r'], " ");
    drop(writeln!(io::stderr().lock(), "{one_line}"));
}

/// JSON in one line. What JSON lets stand but a terminal might obey is escaped too.
///
/// # Errors
/// When the value cannot be JSON.
pub fn to_json(value: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_string(value)?;
    // Outside of strings JSON is plain ASCII, so each of these is inside one; all are below U+10000.
    Ok(match replace(&json, |out, c| write!(out, "\\u{:04x}", c as u32)) {
        Cow::Borrowed(_) => json,
        Cow::Owned(escaped) => escaped,
    })
}

/// Text as it may be shown: control characters, line breaks among them, and those that turn the direction of writing
/// are written out as in `\n` or `\u{1b}`.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, |out, c| write!(out, "{}", c.escape_default()))
}

fn replace(text: &str, escaped: impl Fn(&mut String, char) -> std::fmt::Result) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            // Writing to a string cannot fail.
            let _ = escaped(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment, given in milliseconds since 1970, as a person reads it.
#[must_use]
pub fn moment(ms: u64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(&format).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

/// A time in seconds as a person reads it, in its two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let units = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let largest = units.iter().skip(first).take(2).filter(|(count, _)| *count > 0 || seconds == 0);
    largest.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// Rows under a heading, in columns.
///
/// # Errors
/// When stdout cannot be written.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let wide = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(wide);
    let show = |row: [&str; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(cells.join("  ").trim_end())
    };
    show(heading)?;
    rows.iter().try_for_each(|row| show(std::array::from_fn(|column| row[column].as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(escape("hi 🐎 é"), "hi 🐎 é");
        assert_eq!(escape("a\x1b[2Jb\nc\u{9b}d\u{202e}e\x7f"), r"a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{7f}");
    }

    #[test]
    fn json_escapes_what_json_would_let_stand_and_reads_back_the_same() {
        let text = "a\x1b\u{9b}\u{7f}\u{202e}é\n";
        let json = to_json(&text).unwrap();
        assert_eq!(json, r#""a\u001b\u009b\u007f\u202eé\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        let texts = [0, 59, 61, 3_600, 86_400, 90_001].map(duration);
        assert_eq!(texts, ["0 s", "59 s", "1 min 1 s", "1 h", "1 d", "1 d 1 h"]);
    }

    #[test]
    fn moments_are_readable() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(u64::MAX), format!("{} ms", u64::MAX));
    }
}
