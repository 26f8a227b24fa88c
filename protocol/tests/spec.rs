//! SPEC.md against the code: its table of limits, the ids of its requirements, and the tests that prove them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use postrider_protocol::limits;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn spec() -> String {
    std::fs::read_to_string(here("SPEC.md")).expect("SPEC.md is readable")
}

const SECTIONS: [&str; 13] =
    ["TLS", "FRAME", "LIMIT", "NAME", "VER", "LOGIN", "SEND", "DLVR", "RCPT", "SYNC", "CONN", "ERR", "CONTENT"];

#[test]
fn the_table_of_limits_is_made_from_limits_rs() {
    const BEGIN: &str = "<!-- limits: made from src/limits.rs -->\n";
    const END: &str = "<!-- /limits -->";
    let bytes = |bytes: usize| format!("{bytes} bytes");
    let rows = [
        ("frame body before `Welcome`", bytes(limits::MAX_LOGIN_FRAME_BYTES), "the same"),
        ("frame body after it, `max_frame_bytes`", bytes(limits::DEFAULT_FRAME_BYTES), "1048576 bytes"),
        ("content of a message", "60000 bytes".to_owned(), "`max_frame_bytes` − 256 bytes"),
        ("name of a user or device", bytes(limits::MAX_NAME_BYTES), "the same"),
        ("name of an app", bytes(limits::MAX_APP_NAME_BYTES), "the same"),
        ("`Hello.agent`; longer is cut", bytes(limits::MAX_AGENT_BYTES), "the same"),
        ("enrolment code, as typed", bytes(limits::MAX_CODE_BYTES), "the same"),
        ("devices of a user", limits::MAX_DEVICES.to_string(), "the same"),
        ("sends unanswered, `send_window`", limits::SEND_WINDOW.to_string(), "the same"),
        ("answers kept for a device", limits::KEPT_ANSWERS.to_string(), "the same"),
        ("`Hello.window`, in positions", limits::DEFAULT_WINDOW.to_string(), "65536"),
        ("login timeout", format!("{} ms", limits::DEFAULT_LOGIN_TIMEOUT_MS), "the operator's choice"),
        (
            "`idle_timeout_ms`",
            format!("{} ms", limits::DEFAULT_IDLE_TIMEOUT_MS),
            "the operator's choice, at least 1000 ms",
        ),
    ];
    assert_eq!(limits::MAX_FRAME_BYTES, 1_048_576, "the third column of the table");
    assert_eq!(limits::FRAME_OVERHEAD_BYTES, 256, "the third column of the table");
    assert_eq!(limits::MAX_WINDOW, 65_536, "the third column of the table");
    assert_eq!(limits::MIN_IDLE_TIMEOUT_MS, 1_000, "the third column of the table");
    let mut table = String::from("| limit | by default | at most |\n|---|---|---|\n");
    for (what, default, most) in rows {
        writeln!(table, "| {what} | {default} | {most} |").unwrap();
    }

    let spec = spec();
    let (before, rest) = spec.split_once(BEGIN).expect("SPEC.md has the table's begin marker");
    let (_, after) = rest.split_once(END).expect("SPEC.md has the table's end marker");
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(here("SPEC.md"), wanted).expect("SPEC.md is writable");
        return;
    }
    assert!(spec == wanted, "the limits changed; run: BLESS=1 cargo test -p postrider-protocol --test spec");
}

#[test]
fn requirements_are_numbered_without_gaps_and_each_says_must_or_should() {
    let spec = spec();
    let mut defined = Vec::new();
    for paragraph in spec.split("\n\n").filter(|paragraph| paragraph.starts_with("**")) {
        let (id, sentence) = paragraph[2..].split_once("**").expect("a bold id");
        defined.push(id.to_owned());
        let binds = ["MUST", "SHOULD", "MAY"].iter().any(|word| sentence.contains(word));
        assert!(binds, "{id} binds nobody");
    }
    let mut wanted = Vec::new();
    for section in SECTIONS {
        let count = defined.iter().filter(|id| id.split_once('-').is_some_and(|(name, _)| name == section)).count();
        assert!(count > 0, "{section} has requirements");
        wanted.extend((1..=count).map(|number| format!("{section}-{number}")));
    }
    assert_eq!(defined, wanted);
}

#[test]
fn every_requirement_that_is_cited_exists() {
    let spec = spec();
    let mut files = vec![here("SPEC.md")];
    for dir in ["src", "tests", "schema", "vectors", "../src", "../clients", "../tests", "../fuzz"] {
        collect(&here(dir), &mut files);
    }
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for id in cited(&text) {
            assert!(spec.contains(&format!("**{id}**")), "{} cites {id}, which SPEC.md does not have", file.display());
        }
    }
}

/// Requirements that no test can prove, and why. One that a test names has no place here.
const UNPROVEN: &[(&str, &str)] = &[
    ("VER-6", "binds whoever changes the schema: that numbers are not given anew is seen by comparing, not by running"),
    ("RCPT-9", "says how a client may read what it was told; nothing of it is on the wire"),
    ("ERR-5", "says whom `detail` is for; that our client judges by code and flags alone is ERR-3"),
];

#[test]
fn every_requirement_is_named_by_a_test_or_excused_with_a_reason() {
    let (proven, unproven) = (named_by_tests(), UNPROVEN.iter().map(|(id, _)| (*id).to_owned()).collect());
    assert!(proven.len() > 50, "few tests name anything; is the tree as this test thinks? {proven:?}");
    let complaints = gaps(&defined(), &proven, &unproven);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_requirement_without_a_test_and_a_name_without_a_requirement_are_told() {
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert!(gaps(&set(&["a", "b"]), &set(&["a"]), &set(&["b"])).is_empty());
    let told = |defined: &[&str], proven: &[&str], excused: &[&str]| {
        let complaints = gaps(&set(defined), &set(proven), &set(excused));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        complaints[0].clone()
    };
    assert!(told(&["a", "b"], &["a"], &[]).contains("b: no test names it"));
    assert!(told(&["a"], &["a", "c"], &[]).contains("c: a test names it"));
    assert!(told(&["a"], &["a"], &["c"]).contains("c: it is excused"));
    assert!(told(&["a"], &["a"], &["a"]).contains("a: it is excused"));
}

fn gaps(defined: &BTreeSet<String>, proven: &BTreeSet<String>, excused: &BTreeSet<String>) -> Vec<String> {
    let mut gaps = Vec::new();
    for id in defined.difference(&(proven | excused)) {
        gaps.push(format!(
            "{id}: no test names it; name it in the comment of the test that proves it, or excuse it above"
        ));
    }
    for id in proven.difference(defined) {
        gaps.push(format!("{id}: a test names it, but SPEC.md does not have it"));
    }
    for id in excused.iter().filter(|id| !defined.contains(*id) || proven.contains(*id)) {
        gaps.push(format!("{id}: it is excused, but it is named by a test or not in SPEC.md"));
    }
    gaps
}

/// The requirements, by their bold ids.
fn defined() -> BTreeSet<String> {
    let spec = spec();
    let paragraphs = spec.split("\n\n").filter_map(|paragraph| paragraph.strip_prefix("**")?.split_once("**"));
    paragraphs.map(|(id, _)| id.to_owned()).collect()
}

/// What is named in tests: files of tests, the tests in a source file, and the checks of `postrider conformance`, which
/// `tests/conformance.rs` runs against our server and our client. The referee's table of all rules proves nothing.
fn named_by_tests() -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let mut files = Vec::new();
    for dir in ["src", "tests", "../src", "../clients/rust", "../tests"] {
        collect(&here(dir), &mut files);
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|found| found == "rs")) {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let path = file.to_string_lossy();
        let is_check = ["conformance/server/", "conformance/client/"].iter().any(|part| path.contains(part));
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("store/conformance/");
        // This file's own examples, and the table.
        if path.ends_with("tests/spec.rs") || path.ends_with("client/referee.rs") {
            continue;
        }
        let of_tests = if is_check || is_test { 0 } else { text.find("#[cfg(test)]").unwrap_or(text.len()) };
        named.extend(cited(&text[of_tests..]));
    }
    named
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "artifacts" && name != "corpus" {
            collect(&path, files);
        } else if ["rs", "proto", "md", "toml"].iter().any(|end| path.extension().is_some_and(|found| found == *end)) {
            files.push(path);
        }
    }
}

/// Words like `SEND-4` in `text`.
fn cited(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'))
        .filter(|word| {
            word.split_once('-').is_some_and(|(section, number)| {
                SECTIONS.contains(&section) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
        .map(str::to_owned)
        .collect()
}
