//! The data directory by the operator's hand: beside a running server, and without one.

use serde_json::{Value, json};

use crate::support::{Finished, Program, ServerProcess};

impl Finished {
    /// The JSON it printed, with this exit code.
    fn json_at(&self, code: i32) -> Value {
        assert_eq!((self.code, self.stderr.as_str()), (Some(code), ""), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A server that was stopped after alice had sent bob so many lines.
fn stopped_with(lines: usize) -> ServerProcess {
    let mut server = ServerProcess::start("");
    send(&server, 1..=lines).finish().output();
    server.terminate();
    server
}

fn send(server: &ServerProcess, lines: impl Iterator<Item = usize>) -> Program {
    let text: String = lines.map(|number| format!("line {number}\n")).collect();
    Program::start(server.directory(), &["send", "--user", "alice", "--to", "bob", "-"], Some(text.into_bytes()))
}

#[test]
fn a_backup_of_a_server_at_work_is_restored_with_all_that_was_acked_before_and_only_once() {
    const BEFORE: usize = 3_000;
    const LINES: usize = 12_000;
    let mut server = ServerProcess::start("");
    send(&server, 1..=BEFORE).finish();
    let sending = send(&server, BEFORE + 1..=LINES);
    let made = server.run(&["store", "backup", "backup", "--data", "data", "--json"]).json().remove(0);
    assert_eq!((&made["to"], &made["online"]), (&json!("backup"), &json!(true)), "{made}");
    let ended = server.run(&["store", "backup", "backup", "--data", "data"]);
    assert!(ended.complaint(4).contains("not empty"), "{ended:?}");
    assert_eq!(sending.finish().code, Some(0));
    server.terminate();

    std::fs::rename(server.data(), server.directory().join("lost")).unwrap();
    let restored = server.run(&["store", "restore", "backup", "data", "--json"]).json().remove(0);
    assert!(restored["problem_count"] == 0 && restored["messages"].as_u64() >= Some(BEFORE as u64), "{restored}");
    let ended = server.run(&["store", "restore", "backup", "data"]);
    assert!(ended.complaint(4).contains("not empty"), "{ended:?}");

    // The same certificates: who trusted the server before trusts it still.
    server.start_again();
    let count = restored["messages"].to_string();
    let heard = server.run(&["listen", "--user", "bob", "--count", &count]);
    let expected: String = (1..=count.parse().unwrap()).map(|number| format!("alice: line {number}\n")).collect();
    assert!(heard.output() == expected, "some line is missing, doubled, or not in its place");
}

/// SYNC-9.
#[test]
fn who_was_acked_more_than_a_restored_server_knows_is_told_and_goes_on_as_a_new_device() {
    let mut server = ServerProcess::start("");
    send(&server, 1..=3).finish();
    server.run(&["store", "backup", "backup", "--data", "data"]).output();
    send(&server, 4..=6).finish();
    server.terminate();
    std::fs::rename(server.data(), server.directory().join("lost")).unwrap();
    server.run(&["store", "restore", "backup", "data"]).output();
    server.start_again();
    for _ in 0..2 {
        let ended = server.run(&["send", "--user", "alice", "--to", "bob", "line 7"]);
        assert!(ended.complaint(5).contains("--forget"), "{ended:?}");
    }
    server.run(&["send", "--user", "alice", "--to", "bob", "--forget", "line 7"]).output();
    server.run(&["send", "--user", "alice", "--to", "bob", "line 8"]).output();
    let heard = server.run(&["listen", "--user", "bob", "--count", "5"]);
    assert_eq!(heard.output(), "alice: line 1\nalice: line 2\nalice: line 3\nalice: line 7\nalice: line 8\n");
}

#[test]
fn a_stopped_store_is_verified_measured_compacted_and_backed_up() {
    let mut server = stopped_with(2_000);
    let text = server.run(&["store", "verify", "data"]);
    assert!(text.output().contains("2000 of them messages\n"), "{text:?}");
    assert!(text.output().ends_with("every row is what was written, and they fit together\n"), "{text:?}");
    let found = server.run(&["store", "verify", "data", "--json"]).json_at(0);
    assert_eq!((&found["messages"], &found["problems"]), (&json!(2_000), &json!([])));

    let stats = server.run(&["store", "stats", "data", "--json"]).json_at(0);
    let tables = stats["tables"].as_array().unwrap();
    let users = tables.iter().find(|table| table["table"] == "users").unwrap();
    assert_eq!((&users["app"], &users["rows"]), (&json!("dev"), &json!(2)));
    let text = server.run(&["store", "stats", "data"]);
    assert!(text.output().contains("inboxes") && text.output().contains("% of sled's files"), "{text:?}");

    let done = server.run(&["store", "compact", "data", "--json"]).json_at(0);
    assert!(done["after_bytes"].as_u64() < done["before_bytes"].as_u64(), "{done}");
    let text = server.run(&["store", "compact", "data"]);
    assert!(text.output().contains("\nbefore  ") && text.output().contains("\nafter   "), "{text:?}");
    let made = server.run(&["store", "backup", "backup", "--data", "data"]);
    assert!(made.output().starts_with("backup  backup, from the stopped store\n"), "{made:?}");

    server.start_again();
    let heard = server.run(&["listen", "--user", "bob", "--count", "2000"]);
    assert!(heard.output().ends_with("alice: line 2000\n"));
}

#[test]
fn what_a_tool_cannot_do_is_told_in_one_line_that_says_what_to_do() {
    let server = ServerProcess::start("");
    for command in [&["verify", "data"][..], &["stats", "data"], &["compact", "data"], &["salvage", "data", "out"]] {
        let ended = server.run(&[&["store"], command].concat());
        assert!(ended.complaint(1).contains("stop that one"), "{ended:?}");
    }
    let ended = server.run(&["store", "verify", "nothing"]);
    assert!(ended.complaint(4).contains("nothing holds no store"), "{ended:?}");
    let ended = server.run(&["store", "restore", "nothing", "new"]);
    assert!(ended.complaint(4).contains("is no backup"), "{ended:?}");
    assert!(!server.directory().join("nothing").exists() && !server.directory().join("out").exists());
}

#[test]
fn of_a_damaged_store_the_rest_is_salvaged_and_the_loss_is_told() {
    let server = stopped_with(2_000);
    let journal = server.data().join("journal");
    let number =
        |path: &std::path::PathBuf| u64::from_le_bytes(std::fs::read(path).unwrap()[16..24].try_into().unwrap());
    let segments = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments.max_by_key(number).unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&newest, bytes).unwrap();

    let ended = server.run(&["store", "verify", "data"]);
    assert!(ended.complaint(7).contains("is not what was written"), "{ended:?}");
    let salvaged = server.run(&["store", "salvage", "data", "out", "--json"]).json_at(7);
    assert_eq!(salvaged["found"]["problems"], json!([]));
    assert!(salvaged["damage"][0].as_str().unwrap().contains("are not what was written"), "{salvaged}");
    let found = server.run(&["store", "verify", "out", "--json"]).json_at(0);
    assert_eq!(found["messages"], salvaged["found"]["messages"]);
    let text = server.run(&["store", "salvage", "data", "again"]);
    assert!(text.stdout.contains("\ndamaged ") && text.stdout.contains("places are damaged"), "{text:?}");
}
