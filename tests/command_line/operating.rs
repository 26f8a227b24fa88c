//! Operators: contexts, the configuration, users and devices, and how the server is.

use serde_json::{Value, json};

use crate::support::{Finished, Program, ServerProcess, Target, called};

/// Every command here that speaks to the operator's socket finds it by the configuration beside it.
const KEYS_ONLY: &str = "data = \"data\"\n[[app]]\nname = \"shop\"\n";

#[test]
fn contexts_are_saved_listed_chosen_and_removed() {
    let server = ServerProcess::start("");
    let (address, ca) = (server.address().to_string(), server.ca().canonicalize().unwrap());
    let local = json!({ "name": "local", "server": address, "ca": ca, "app": "dev", "current": true });
    assert_eq!(server.run(&["context", "show", "--json"]).json(), [local], "serve has saved it");

    let save = ["context", "save", "work", "--server", &address, "--ca", "data/tls/ca.pem", "--app", "shop"];
    assert!(server.run(&save).output().contains("shop"));
    let rows = |finished: Finished| {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        finished.output().lines().map(words).collect::<Vec<_>>()
    };
    let listed = rows(server.run(&["context", "ls"]));
    assert_eq!(listed[0], ["NAME", "SERVER", "APP", "CA"]);
    assert_eq!(listed[1][..4], ["*", "local", &address, "dev"]);
    assert_eq!(listed[2][..3], ["work", &address, "shop"]);

    server.run(&["context", "use", "work"]).output();
    let ended = server.run(&["send", "--user", "alice", "--to", "bob", "hi"]);
    assert!(ended.complaint(5).contains("UNKNOWN_APP"), "{ended:?}");
    server.run(&["send", "--context", "local", "--user", "alice", "--to", "bob", "hi"]).output();
    server.run(&["context", "rm", "work"]).output();
    let ended = server.run(&["send", "--user", "alice", "--to", "bob", "hi"]);
    assert!(ended.complaint(2).contains("no server is known"), "none is current: {ended:?}");
}

#[test]
fn the_configuration_can_be_checked_shown_and_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| Program::start(directory.path(), arguments, None).finish();
    assert!(run(&["config", "check"]).output().contains("ok"));
    let default = run(&["config", "default"]);
    std::fs::write(directory.path().join("postrider.toml"), default.output()).unwrap();
    assert_eq!(run(&["config", "check"]).output(), "postrider.toml: ok\n");
    std::fs::write(directory.path().join("postrider.toml"), "[retention]\nttl_days = 7\n").unwrap();
    let shown = run(&["config", "show"]);
    let line = shown.output().lines().find(|line| line.starts_with("retention.ttl_days")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["retention.ttl_days", "=", "7", "#", "postrider.toml:2"]);
    std::fs::write(directory.path().join("again.toml"), shown.output()).unwrap();
    assert_eq!(run(&["config", "check", "--config", "again.toml"]).output(), "again.toml: ok\n");
    let json = run(&["config", "show", "--json"]).json();
    assert!(json.contains(&json!({ "key": "retention.ttl_days", "value": 7, "from": "postrider.toml:2" })));
}

#[test]
fn users_and_devices_are_made_listed_linked_revoked_and_removed() {
    let server = ServerProcess::start(KEYS_ONLY);
    let added = server.run(&["user", "add", "alice"]);
    let field = |name: &str| {
        let line = added.output().lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(field("user"), "alice");
    let code = field("code").split_whitespace().next().unwrap().to_owned();
    assert_eq!(field("next"), format!("{} enroll --user alice --code {code}", called()));
    server.run(&["user", "add", "bob", "--json"]).output();

    let enrolled = server.run(&["enroll", "--user", "alice", "--code", &code, "--json"]).json();
    assert_eq!(enrolled, [json!({ "user": "alice", "device": "cli-1", "enrolled": true })]);
    let linked = server.run(&["device", "link", "--user", "alice", "--json"]).json();
    let code = linked[0]["code"].as_str().unwrap();
    server.run(&["enroll", "--user", "alice", "--code", code, "--device", "desk"]).output();
    server.run(&["send", "--user", "alice", "--to", "bob", "hi"]).output();

    let names = |lines: Vec<Value>| -> Vec<String> {
        lines.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(server.run(&["device", "list", "alice", "--json"]).json()), ["cli-1", "desk"]);
    server.run(&["device", "revoke", "alice", "cli-1"]).output();
    assert_eq!(names(server.run(&["device", "list", "alice", "--json"]).json()), ["desk"]);
    let ended = server.run(&["listen", "--user", "alice", "--device", "cli-1"]);
    assert!(ended.complaint(5).contains("--forget"), "{ended:?}");
    server.run(&["send", "--user", "alice", "--device", "desk", "--to", "bob", "hi"]).output();

    assert_eq!(names(server.run(&["user", "list", "--json"]).json()), ["alice", "bob"]);
    server.run(&["user", "remove", "bob"]).output();
    assert_eq!(names(server.run(&["user", "list", "--json"]).json()), ["alice"]);
    let ended = server.run(&["send", "--user", "alice", "--device", "desk", "--to", "bob", "hi"]);
    assert!(ended.complaint(4).contains("NOT_ACCEPTED"), "{ended:?}");
}

#[test]
fn the_status_tells_where_the_server_is_and_how_many_are_there() {
    let server = ServerProcess::start("data = \"data\"\n");
    let bob = server.command(&["listen", "--user", "bob", "--json"]);
    bob.lines_until("caught_up");
    let status = server.run(&["status", "--json"]).json().remove(0);
    assert_eq!(status["listen"], json!([server.address().to_string()]));
    assert_eq!((&status["connections"], &status["apps"]), (&json!(1), &json!([{ "name": "dev", "users": 1 }])));
    let text = server.run(&["status"]);
    assert!(text.output().contains(&format!("listens on   {}", server.address())), "{text:?}");
}
