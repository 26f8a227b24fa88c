//! The real binary, as a person or a script uses it: what it prints, where, and how it ends.

mod failures;
mod operating;
mod store;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Finished, Program, ServerProcess, Target, called};

impl Finished {
    /// What it printed, after it has done what it was asked and complained of nothing.
    fn output(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    fn json(&self) -> Vec<Value> {
        self.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Its one line on stderr, after it failed with this exit code.
    fn complaint(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{self:?}"));
        assert!(line.starts_with("postrider: ") && !line.contains('\n'), "{self:?}");
        line
    }
}

/// The fields of a line of JSON that can be known beforehand.
fn known(line: &str) -> Value {
    let mut line: Value = serde_json::from_str(line).unwrap();
    let fields = line.as_object_mut().unwrap();
    for unknown in ["time", "conversation"] {
        if let Some(value) = fields.remove(unknown) {
            assert!(value.as_u64().unwrap() > 0, "{unknown}");
        }
    }
    line
}

#[test]
fn the_server_says_where_it_is_and_what_to_type_next_and_keeps_its_data_private() {
    let mut server = ServerProcess::start("");
    let mode = |path: &str| std::fs::metadata(server.data().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert!(server.terminate().stdout.is_empty());

    let greeting = server.start_again();
    let (address, data) = (server.address(), server.data());
    let data = data.canonicalize().unwrap();
    assert_eq!(greeting[0], format!("postrider {} listens on {address} (TLS 1.3)", env!("CARGO_PKG_VERSION")));
    assert_eq!(greeting[1], format!("data         {}", data.display()));
    assert!(greeting[2].starts_with(&format!("certificate  {}", data.join("tls/ca.pem").display())), "{}", greeting[2]);
    assert!(greeting.iter().any(|line| line.starts_with("warning ") && line.contains("open login")), "{greeting:#?}");
    assert_eq!(*greeting.last().unwrap(), format!("next         {} chat --user alice", called()));
}

#[test]
fn a_message_goes_from_terminal_to_terminal_and_every_step_is_told() {
    let server = ServerProcess::start("");
    let sent = server.run(&["send", "--user", "alice", "--to", "bob", "while you were away"]);
    assert_eq!(sent.output(), "✓ ack seq 1\n");
    let heard = server.run(&["listen", "--user", "bob", "--count", "1"]);
    assert_eq!(heard.output(), "alice: while you were away\n");

    let bob = server.command(&["listen", "--user", "bob", "--json", "--read"]);
    bob.lines_until("caught_up");
    let sent = server.run(&["send", "--user", "alice", "--to", "bob", "--wait", "read", "--json", "here?"]);
    let lines: Vec<Value> = sent.output().lines().map(known).collect();
    assert!(lines.contains(&json!({ "event": "ack", "send_id": 2, "seq": 2 })), "{lines:#?}");
    assert!(lines.contains(&json!({ "event": "delivered", "seq": 2, "user": "bob" })), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), &json!({ "event": "read", "seq": 2, "user": "bob" }));
    let line = bob.line().unwrap();
    let message = json!({ "event": "message", "seq": 2, "sender": "alice", "recipient": "bob", "text": "here?" });
    assert_eq!(known(&line), message);
    bob.signal(Signal::TERM);
    bob.finish().output();

    let sent = server.run(&["send", "--user", "alice", "--to", "bob", "a last word"]);
    assert_eq!(sent.output(), "✓ ack seq 3\n", "what was printed once is not printed again");
    let waits = server.command(&["send", "--user", "alice", "--to", "bob", "--wait", "delivered", "really"]);
    assert_eq!(waits.line().unwrap(), "✓ ack seq 4");
    let heard = server.run(&["listen", "--user", "bob", "--count", "2"]);
    assert_eq!(heard.output(), "alice: a last word\nalice: really\n");
    assert_eq!(waits.line().unwrap(), "✓✓ delivered");
    waits.finish().output();
}

#[test]
fn two_processes_of_one_user_are_two_devices() {
    let server = ServerProcess::start("");
    let first = server.command(&["listen", "--user", "bob", "--json"]);
    let second = server.command(&["listen", "--user", "bob", "--json"]);
    for bob in [&first, &second] {
        bob.lines_until("caught_up");
    }
    server.run(&["send", "--user", "alice", "--to", "bob", "to both"]).output();
    for bob in [first, second] {
        assert!(bob.lines_until("to both").len() == 1);
        bob.signal(Signal::INT);
        bob.finish().output();
    }
    let devices = server.run(&["device", "list", "bob", "--data", "data", "--json"]).json();
    let names: Vec<_> = devices.iter().map(|device| device["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_file_of_lines_is_sent_pipelined_and_arrives_once_and_in_order() {
    const LINES: usize = 5_000;
    let server = ServerProcess::start("");
    let text: String = (1..=LINES).map(|number| format!("line {number}\n")).collect();
    let sending = ["send", "--user", "alice", "--to", "bob", "-"];
    let sending = Program::start(server.directory(), &sending, Some(text.clone().into_bytes()));
    let heard = server.run(&["listen", "--user", "bob", "--count", &LINES.to_string()]);
    assert!(
        heard.output() == text.replace("line", "alice: line"),
        "some line is missing, doubled, or not in its place"
    );
    let sent = sending.finish();
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let more = server.run(&["listen", "--user", "bob", "--timeout", "5"]);
    assert_eq!(more.output(), "");
}

#[test]
fn a_sender_piping_through_a_crash_of_the_server_loses_no_line_and_doubles_none() {
    const LINES: usize = 4_000;
    let mut server = ServerProcess::start("");
    let text: String = (1..=LINES).map(|number| format!("line {number}\n")).collect();
    let bob = server.command(&["listen", "--user", "bob", "--count", &LINES.to_string()]);
    let sending = ["send", "--user", "alice", "--to", "bob", "-"];
    let sending = Program::start(server.directory(), &sending, Some(text.clone().into_bytes()));
    let mut heard = bob.lines_until("line 100").join("\n") + "\n";
    server.kill();
    server.start_again();
    let heard_then = bob.finish();
    assert_eq!(heard_then.code, Some(0), "{}", heard_then.stderr);
    assert!(heard_then.stderr.contains("connected again"), "{}", heard_then.stderr);
    heard += &heard_then.stdout;
    assert!(heard == text.replace("line", "alice: line"), "some line is missing, doubled, or not in its place");
    let sent = sending.finish();
    assert_eq!(sent.code, Some(0), "{sent:?}");
}

#[test]
fn a_server_that_is_asked_to_stop_tells_its_clients_and_ends_in_order() {
    let mut server = ServerProcess::start("[shutdown]\nspread_ms = 100\n");
    let bob = server.command(&["listen", "--user", "bob", "--json"]);
    bob.lines_until("caught_up");
    let ended = server.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told: Value = serde_json::from_str(&bob.line().unwrap()).unwrap();
    assert_eq!(told["event"], "disconnected");
    assert!(told["reason"].as_str().unwrap().contains("SHUTTING_DOWN"), "{told}");
    server.start_again();
    bob.lines_until("\"resumed\":true");
    server.run(&["send", "--user", "alice", "--to", "bob", "after the break"]).output();
    bob.lines_until("after the break");
    std::thread::sleep(Duration::from_millis(10));
    bob.signal(Signal::INT);
    bob.finish().output();
}
