//! The house rules that a machine can hold: who may import whom, what may not appear at all.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every room of `src`, and the rooms it may import. The direction of the data is the order of the rows; only `app`
/// and `cli` see across it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("clock", &[]),
    ("sync", &[]),
    ("tenant", &["ids"]),
    ("store", &["ids", "sync"]),
    ("hub", &["ids", "sync"]),
    ("bus", &["ids"]),
    ("router", &["ids", "clock", "tenant", "store", "hub", "bus"]),
    ("net", &["ids", "clock", "tenant", "store", "router"]),
    ("admin", &["ids", "store"]),
    ("sweeper", &["ids", "clock", "tenant", "store", "hub", "router"]),
    ("config", &["tenant"]),
    ("telemetry", &["config"]),
    (
        "app",
        &["ids", "clock", "tenant", "store", "hub", "bus", "router", "net", "admin", "sweeper", "config", "telemetry"],
    ),
    ("bench", &["clock"]),
    ("conformance", &["clock", "net"]),
    ("cli", &["admin", "app", "bench", "clock", "config", "conformance", "telemetry"]),
];

/// What may not appear, where, and why. A place is allowed by the end of its path.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("unbounded_channel", &[], "every queue has a bound"),
    ("mpsc::unbounded", &[], "every queue has a bound"),
    ("flush_async", &[], "concurrent flush_async deadlocks sled 0.34"),
    ("Instant::now", &["src/clock.rs"], "src/clock.rs is the only clock"),
    ("SystemTime::now", &["src/clock.rs"], "src/clock.rs is the only clock"),
    ("todo!(", &[], "finish it"),
    ("unimplemented!(", &[], "finish it"),
    ("#[ignore", &[], "a test that does not run proves nothing"),
    ("allow(dead_code", &[], "remove what nothing uses"),
];

/// Where each of our crates is, and the folders that its Rust files are in.
const CRATES: &[(&str, &[&str])] = &[
    ("", &["src", "tests", "benches"]),
    ("protocol/", &["src", "tests"]),
    ("clients/rust/", &["src", "tests"]),
    ("fuzz/", &["src", "fuzz_targets"]),
    ("tests/models/", &["src", "tests"]),
    ("benches/peers/", &["src"]),
];

/// Markers of unfinished work need an owner issue: `TODO(#12)`.
const MARKERS: &[&str] = &["TODO", "FIXME", "XXX"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, as (path relative to the root, text); without what was built there.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "nothing found below {folder}: the test would prove nothing");
    files
}

/// The room a file of `src` belongs to.
fn room(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap();
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The rooms that a file's text names as `crate::room`, also within `use crate::{…}`.
fn imported(text: &str) -> BTreeSet<&str> {
    let identifier = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find(';').unwrap_or(group.len())];
            rooms.extend(group.split(',').map(|part| part.trim()).map(|part| &part[..identifier(part)]));
        } else {
            rooms.insert(&rest[..identifier(rest)]);
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn data_flows_one_way_so_every_room_imports_only_its_own() {
    let known: BTreeSet<&str> = MAY_IMPORT.iter().map(|(room, _)| *room).collect();
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src") {
        let room = room(&path);
        if matches!(room, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{path}: the room {room} is not in the table"));
            continue;
        };
        for other in imported(&text) {
            if known.contains(other) && other != room && !allowed.contains(&other) {
                wrong.push(format!("{path}: {room} may not import {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_seen_in_every_form() {
    let text = "use crate::{hub::Hub, ids};\nfn f() { crate::store::x(); mycrate::net::y(); }";
    assert_eq!(imported(text).into_iter().collect::<Vec<_>>(), ["hub", "ids", "store"]);
}

#[test]
fn only_the_composition_root_names_concrete_backends() {
    for (path, text) in rust_files("src") {
        let at_home = path == "src/app.rs" || path.starts_with("src/store/");
        assert!(at_home || !(text.contains("store::engine") || text.contains("store::memory")), "{path}");
    }
}

#[test]
fn the_command_line_uses_the_client_crate_and_nothing_lower() {
    for (path, text) in rust_files("src/cli") {
        assert!(!text.contains("postrider_protocol"), "{path}");
    }
}

#[test]
fn the_protocol_is_pure() {
    for (path, text) in rust_files("protocol/src") {
        for impure in ["tokio", "std::net", "std::fs", "Instant", "SystemTime", "rand::", "aws_lc_rs", "std::thread"] {
            let named =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(impure));
            assert!(!named, "{path} names {impure}");
        }
    }
}

#[test]
fn nothing_banned_appears() {
    let mut wrong = Vec::new();
    for folder in ["src", "protocol/src", "clients/rust/src"] {
        for (path, text) in rust_files(folder) {
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap();
                for (what, allowed, why) in BANNED {
                    let of_server = !what.ends_with("::now") || folder == "src";
                    if of_server && code.contains(what) && !allowed.iter().any(|place| path.ends_with(place)) {
                        wrong.push(format!("{path}:{}: {what}: {why}", number + 1));
                    }
                }
                for marker in MARKERS {
                    if line.contains(marker) && !line.contains(&format!("{marker}(#")) {
                        wrong.push(format!("{path}:{}: {marker} without an owner issue", number + 1));
                    }
                }
                if is_commented_out(line) {
                    wrong.push(format!("{path}:{}: commented-out code", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prose ends in a letter or a full stop; code ends like this.
fn is_commented_out(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    if comment.starts_with(['/', '!']) {
        return false;
    }
    let comment = comment.trim();
    let code_starts = ["let ", "use ", "fn ", "pub ", "if ", "for ", "return ", "match ", "self.", "assert", "}"];
    comment.ends_with(';') && code_starts.iter().any(|start| comment.starts_with(start)) || comment == "}"
}

#[test]
fn commented_out_code_is_told_from_prose() {
    assert!(is_commented_out("    // let x = 1;"));
    assert!(is_commented_out("// self.hub.leave(peer);"));
    assert!(!is_commented_out("// A guard held here deadlocks; see the hub."));
    assert!(!is_commented_out("//! let x = 1;"));
}

/// The files that cargo starts a crate from: targets named in its manifest, and those that it finds by itself.
fn is_target(path: &str, folder: &str, manifest: &str) -> bool {
    let Some(path) = path.strip_prefix(folder) else { return false };
    let found = !manifest.contains("autotests = false")
        && path.strip_prefix("tests/").is_some_and(|test| !test.contains('/') || is_main_of_a_folder(test));
    found || matches!(path, "src/lib.rs" | "src/main.rs") || manifest.contains(&format!("path = \"{path}\""))
}

fn is_main_of_a_folder(path: &str) -> bool {
    matches!(path.split_once('/'), Some((_, "main.rs")))
}

/// The paths that a file's text may mean by `mod name;`, `#[path = "…"]` and `include!("…")`. A `mod` within a `mod` of
/// the same file is not understood: give it a file of its own.
fn named_files(path: &str, text: &str, is_target: bool) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let below = if is_target || name == "mod.rs" { folder } else { path.strip_suffix(".rs").unwrap() };
    let mut named = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let quoted = line.strip_prefix("#[path = \"").or_else(|| line.strip_prefix("include!(\""));
        if let Some((quoted, _)) = quoted.and_then(|quoted| quoted.split_once('"')) {
            named.push(without_dots(&format!("{folder}/{quoted}")));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., "mod", name] = words[..]
            && let Some(name) = name.strip_suffix(';')
        {
            named.extend([format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]);
        }
    }
    named
}

/// `a/../b` is `b`.
fn without_dots(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[test]
fn every_file_is_a_target_or_is_reached_from_one_by_its_mod() {
    let mut unreached = BTreeMap::new();
    let mut to_read = Vec::new();
    for (of_crate, folders) in CRATES {
        let manifest = std::fs::read_to_string(root().join(of_crate).join("Cargo.toml")).unwrap();
        for (path, text) in folders.iter().flat_map(|folder| rust_files(&format!("{of_crate}{folder}"))) {
            if is_target(&path, of_crate, &manifest) {
                to_read.push((path, text, true));
            } else {
                unreached.insert(path, text);
            }
        }
    }
    // A crate within another's folder was walked twice.
    unreached.retain(|path, _| !to_read.iter().any(|(target, ..)| target == path));
    while let Some((path, text, is_target)) = to_read.pop() {
        for named in named_files(&path, &text, is_target) {
            to_read.extend(unreached.remove(&named).map(|text| (named, text, false)));
        }
    }
    let unreached: Vec<&String> = unreached.keys().collect();
    assert!(unreached.is_empty(), "no `mod` leads to {unreached:#?}: declare them, or remove them");
}

#[test]
fn a_file_is_named_by_its_mod_in_every_form() {
    let text = "#[cfg(test)]\nmod tests;\npub(in super::super) mod one;\n// mod two;\nmod three {\n}\nuse mod_four;";
    assert_eq!(named_files("src/a/mod.rs", text, false)[..2], ["src/a/tests.rs", "src/a/tests/mod.rs"]);
    assert_eq!(named_files("src/a.rs", text, false)[2..], ["src/a/one.rs", "src/a/one/mod.rs"]);
    assert_eq!(named_files("tests/main.rs", "mod a;", true), ["tests/a.rs", "tests/a/mod.rs"]);
    let text = "#[path = \"../../c/d.rs\"]\nmod e;\n    include!(\"generated/f.rs\");";
    let named = named_files("src/a/b.rs", text, false);
    assert_eq!((named[0].as_str(), named.last().unwrap().as_str()), ("c/d.rs", "src/a/generated/f.rs"));
}

#[test]
fn every_room_has_its_row_in_the_architecture() {
    let text = std::fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    for (room, _) in MAY_IMPORT {
        assert!(text.contains(&format!("`{room}")), "src/ARCHITECTURE.md does not mention {room}");
        let there = Path::new("src").join(room);
        assert!(root().join(&there).exists() || root().join(there.with_extension("rs")).exists(), "no room {room}");
    }
}
