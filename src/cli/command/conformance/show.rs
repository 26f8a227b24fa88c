//! The report, for people: a heading, a line for each finding, and under what is wrong what should have been.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::print;
use crate::conformance::client::{CODE, Host};
use crate::conformance::report::{Fault, Finding, Outcome, Report};
use crate::conformance::requirement;

/// Columns of a line, where the terminal does not say.
const WIDTH: usize = 100;

/// Columns of a requirement's id, or another label.
const ID: usize = 10;

/// How many checks are through, on stderr where that is a terminal.
pub struct Progress {
    bar: ProgressBar,
    done: AtomicUsize,
}

impl Progress {
    /// Of so many.
    pub fn of(count: usize) -> Self {
        let drawn = io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(u64::try_from(count).ok(), target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, done: AtomicUsize::new(0) }
    }

    /// One more is through.
    pub fn step(&self, name: &str) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        self.bar.set_message(print::escape(name).into_owned());
    }

    /// Takes it off the screen.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// Prints it.
///
/// # Errors
/// When stdout cannot be written.
pub fn show(report: &Report, coloured: bool, verbose: bool) -> io::Result<()> {
    let paint = Paint { coloured };
    text(report, &paint, verbose).lines().try_for_each(print::line)
}

/// What the author of a client must do.
pub fn invitation(host: &Host, app: &str, patience: Duration) -> Vec<String> {
    vec![
        "A strict server for your client. Let it log in, take messages, confirm them, and come back by itself.".into(),
        "More is tried if it answers each message with the same text, and marks it as read (an echo bot).".into(),
        String::new(),
        format!("  address      {}", host.address()),
        format!("  certificate  {}", std::path::absolute(host.ca()).unwrap_or_else(|_| host.ca().to_owned()).display()),
        format!("  app          {}", print::escape(app)),
        "  user         any one user and device, by open login, without state of an earlier run".into(),
        format!("               or enrolled with the code {CODE}"),
        String::new(),
        format!("Start it now. When it ends, start it again with its state, within {} s.", patience.as_secs()),
        String::new(),
    ]
}

/// What happens, as a line.
pub fn news(news: &str) -> String {
    format!("… {}", print::escape(news))
}

struct Paint {
    coloured: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn strong(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    /// A mark and its colour; without colour a word, which `grep` finds.
    fn mark(&self, outcome: &Outcome) -> String {
        let (code, sign, word) = match outcome {
            Outcome::Kept { .. } => ("32", "✓", "ok    "),
            Outcome::Broken(_) => ("1;31", "✗", "BROKEN"),
            Outcome::Advice(_) => ("33", "!", "advice"),
            Outcome::Skipped { .. } => ("2", "·", "-     "),
        };
        if self.coloured { self.with(code, sign) } else { word.to_owned() }
    }
}

impl Paint {
    /// Columns that a mark takes.
    fn mark_width(&self) -> usize {
        if self.coloured { 1 } else { 6 }
    }
}

fn text(report: &Report, paint: &Paint, verbose: bool) -> String {
    let mut out = String::new();
    let name = if report.name.is_empty() { report.subject } else { &report.name };
    let title = format!("{} {} at {}", report.subject, name, report.address);
    let _ = writeln!(out, "{}", paint.strong(&print::escape(&title)));
    let mut group = "";
    for finding in &report.findings {
        if finding.group != group {
            group = finding.group;
            let _ = writeln!(out, "\n{}", paint.strong(group));
        }
        one(&mut out, finding, paint, verbose);
    }
    let _ = writeln!(out, "\n{}", verdict(report, paint));
    out
}

/// One finding: its mark, its name, and at the right the requirements it stands for.
fn one(out: &mut String, finding: &Finding, paint: &Paint, verbose: bool) {
    let ids = finding.requirements.join(" ");
    let times = match finding.outcome {
        Outcome::Kept { times } if times > 1 => format!(" ({times}×)"),
        _ => String::new(),
    };
    let name = print::escape(&finding.name);
    let indent = 3 + paint.mark_width();
    let used = indent + name.chars().count() + times.chars().count();
    let _ = write!(out, "  {} {name}{}", paint.mark(&finding.outcome), paint.faint(&times));
    if used + 2 + ids.len() > WIDTH {
        let _ = write!(out, "\n{:1$}", "", WIDTH.saturating_sub(ids.len()));
    } else {
        let _ = write!(out, "{:1$}", "", WIDTH - used - ids.len());
    }
    let _ = writeln!(out, "{}", paint.faint(&ids));
    match &finding.outcome {
        Outcome::Broken(fault) | Outcome::Advice(fault) => wrong(out, finding, fault, paint),
        Outcome::Skipped { reason } => under(out, "why", reason, paint),
        Outcome::Kept { .. } if verbose => rules(out, finding, paint),
        Outcome::Kept { .. } => {}
    }
}

fn wrong(out: &mut String, finding: &Finding, Fault { expected, came }: &Fault, paint: &Paint) {
    under(out, "expected", expected, paint);
    under(out, "came", came, paint);
    rules(out, finding, paint);
}

/// The requirements in their own words.
fn rules(out: &mut String, finding: &Finding, paint: &Paint) {
    for id in &finding.requirements {
        if let Some(sentence) = requirement::sentence(id) {
            under(out, id, &sentence, paint);
        }
    }
}

/// A line of explanation, broken into several.
fn under(out: &mut String, label: &str, text: &str, paint: &Paint) {
    const INDENT: usize = 9;
    for (number, line) in wrapped(&print::escape(text), WIDTH - INDENT - ID - 1).iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let _ = writeln!(out, "{:INDENT$}{} {line}", "", paint.faint(&format!("{label:<ID$}")));
    }
}

/// Lines of at most so many characters, where words allow it; at least one.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
}

fn verdict(report: &Report, paint: &Paint) -> String {
    let counts = report.counts;
    let mut parts = vec![format!("{} kept", counts.kept), format!("{} broken", counts.broken)];
    if counts.advice > 0 {
        parts.push(format!("{} advised otherwise", counts.advice));
    }
    if counts.skipped > 0 {
        parts.push(format!("{} not tried", counts.skipped));
    }
    let code = if report.is_clean() { "1;32" } else { "1;31" };
    paint.with(code, &parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let finding = |name: &str, outcome| Finding {
            group: "Frames",
            name: name.into(),
            requirements: vec!["FRAME-2"],
            outcome,
        };
        let fault = Fault { expected: "FRAME_EMPTY".into(), came: "an \x1b[2Jodd answer".into() };
        let findings = vec![
            finding("right", Outcome::Kept { times: 3 }),
            finding("wrong", Outcome::Broken(fault)),
            finding("untried", Outcome::Skipped { reason: "too far".into() }),
        ];
        Report::new("server", "h:1".into(), "x/1".into(), findings)
    }

    #[test]
    fn a_plain_report_has_words_for_marks_and_says_what_should_have_been() {
        let text = text(&report(), &Paint { coloured: false }, false);
        assert!(!text.contains('\x1b'), "{text}");
        for part in [
            "server x/1 at h:1",
            "ok     right (3×)",
            "BROKEN wrong",
            r"came       an \u{1b}[2Jodd answer",
            "FRAME-2    A length of 0 MUST be refused with FRAME_EMPTY.",
            "why        too far",
            "1 kept, 1 broken, 1 not tried",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn in_a_terminal_marks_are_coloured_and_what_peers_said_is_still_harmless() {
        let text = text(&report(), &Paint { coloured: true }, true);
        assert!(text.contains("\x1b[32m✓\x1b[0m right") && text.contains("\x1b[1;31m✗\x1b[0m wrong"), "{text}");
        assert!(!text.contains("\x1b[2J"));
    }
}
