//! What goes wrong: one line on stderr that says what and what to do, and an exit code that a script can trust.

use std::io::{Read, Write};
use std::net::TcpListener;

use postrider_client::{Change, FileState, QueuedSend, StateStore as _, To};
use rustix::process::Signal;

use crate::support::{Program, ServerProcess, Target};

const KEYS_ONLY: &str = "[[app]]\nname = \"dev\"\n";

#[test]
fn a_second_server_on_the_same_data_directory_is_told_that_it_is_in_use() {
    let server = ServerProcess::start("");
    let second = server.run(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    let line = second.complaint(1);
    let data = server.data().canonicalize().unwrap();
    assert!(line.contains(&data.display().to_string()) && line.contains("another postrider uses"), "{line}");
}

#[test]
fn a_port_in_use_is_told_with_the_address() {
    let server = ServerProcess::start("");
    let address = server.address().to_string();
    let second = server.run(&["serve", "--data", "other", "--listen", &address]);
    let line = second.complaint(1);
    assert!(line.contains(&format!("cannot listen on {address}: the port is in use")), "{line}");
}

#[test]
fn an_unknown_key_or_variable_or_a_bad_value_stops_the_server_before_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| Program::start(directory.path(), arguments, None).finish();
    let file = directory.path().join("postrider.toml");
    std::fs::write(&file, "data = \"d\"\n[listen]\nadress = \"127.0.0.1:0\"\n").unwrap();
    for command in [&["serve"][..], &["config", "check"], &["config", "show"], &["status"]] {
        let ended = run(command);
        let line = ended.complaint(2);
        assert!(line.contains("postrider.toml:3: unknown key `adress`; did you mean `address`?"), "{line}");
    }
    std::fs::write(&file, "[retention]\nttl_days = 0\n").unwrap();
    assert!(run(&["serve"]).complaint(2).contains("postrider.toml:2: retention.ttl_days"));
    std::fs::write(&file, "[listen]\naddress = \"0.0.0.0:0\"\n").unwrap();
    assert!(run(&["serve"]).complaint(2).contains("open login"), "off loopback it must be meant");
    assert!(!directory.path().join("postrider-data").exists(), "nothing was made");
}

#[test]
fn a_key_that_others_can_read_stops_the_server_and_the_command_that_mends_it_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = ServerProcess::start("");
    server.terminate();
    let key = server.data().canonicalize().unwrap().join("tls/server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o604)).unwrap();
    let line = server.run(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]).complaint(1).to_owned();
    assert!(line.ends_with(&format!("run: chmod 600 {}", key.display())), "{line}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.start_again();
}

#[test]
fn a_server_that_is_stopped_as_soon_as_it_says_that_it_is_there_stops_in_order() {
    let mut server = ServerProcess::start("");
    server.terminate();
    for _ in 0..20 {
        let ended = server.start_and_terminate();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_server_that_is_not_there_cannot_be_reached() {
    let mut server = ServerProcess::start("");
    server.kill();
    for command in [
        &["send", "--user", "alice", "--to", "bob", "hi"][..],
        &["listen", "--user", "bob"],
        &["device", "link", "--user", "bob"],
    ] {
        let ended = server.run(command);
        let line = ended.complaint(3);
        assert!(line.contains(&format!("cannot reach {}", server.address())), "{line}");
    }
    let ended = server.run(&["status", "--data", "data"]);
    assert!(ended.complaint(3).contains("no server runs on data directory"));
}

#[test]
fn what_answers_but_is_no_postrider_or_is_not_trusted_is_told_apart() {
    let server = ServerProcess::start("");
    let ca = server.ca().display().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            drop(socket.read(&mut [0; 512]));
            drop(socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    let send = |address: &str, ca: &str| {
        server.run(&["send", "--server", address, "--ca", ca, "--user", "alice", "--to", "bob", "hi"])
    };
    let ended = send(&plain, &ca);
    assert!(ended.complaint(3).contains("does not speak Postrider"), "{ended:?}");

    let another = ServerProcess::start("");
    let ended = send(&another.address().to_string(), &ca);
    assert!(ended.complaint(3).contains("is not trusted"), "{ended:?}");
    let ended = send(&server.address().to_string(), "no-such-file.pem");
    assert!(ended.complaint(2).contains("no-such-file.pem"), "{ended:?}");
}

#[test]
fn a_login_that_is_refused_and_a_message_that_is_refused_have_their_own_codes() {
    let server = ServerProcess::start(KEYS_ONLY);
    let ended = server.run(&["send", "--user", "alice", "--to", "bob", "hi"]);
    assert!(ended.complaint(5).contains("postrider enroll"), "the way in is told: {ended:?}");
    let ended = server.run(&["listen", "--user", "alice", "--app", "nope"]);
    assert!(ended.complaint(5).contains("UNKNOWN_APP"), "{ended:?}");
    let ended = server.run(&["enroll", "--user", "alice", "--code", "AAAA-BBBB"]);
    assert!(ended.complaint(5).contains("does not take the code"), "{ended:?}");
    let ended = server.run(&["user", "remove", "nobody", "--data", "data"]);
    assert!(ended.complaint(4).contains("nobody"), "{ended:?}");

    let added = server.run(&["user", "add", "alice", "--data", "data", "--json"]).json();
    let code = added[0]["code"].as_str().unwrap();
    server.run(&["enroll", "--user", "alice", "--code", code]).output();
    let ended = server.run(&["send", "--user", "alice", "--to", "nobody", "hi"]);
    assert!(ended.complaint(4).contains("NOT_ACCEPTED"), "{ended:?}");
}

#[test]
fn a_message_that_the_client_did_not_take_before_it_ended_is_never_reported_as_sent() {
    let server = ServerProcess::start("");
    let send = |text| server.run(&["send", "--user", "alice", "--to", "bob", text]);
    send("hi").output();
    // A message of an earlier run, under a number that has been used: the server ends the connection as soon as it comes.
    let devices = std::fs::read_dir(server.directory().join("home/state")).unwrap().next().unwrap().unwrap();
    let mut state = FileState::open(devices.path().join("alice/cli-1")).unwrap();
    let earlier = QueuedSend { send_id: 1, to: To::user("bob"), content: "other".into() };
    state.commit(&[Change::Queued(earlier)]).unwrap();
    drop(state);
    for _ in 0..8 {
        let ended = send("hi again");
        assert!(ended.complaint(5).contains("SEND_ID_REUSED"), "{ended:?}");
    }
}

#[test]
fn what_takes_too_long_or_is_interrupted_says_what_is_missing() {
    let server = ServerProcess::start("");
    let ended = server.run(&["listen", "--user", "bob", "--count", "2", "--timeout", "5"]);
    assert_eq!(ended.complaint(6), "postrider: timed out with 0 of 2 messages");
    let wait = ["send", "--user", "alice", "--to", "carol", "--wait", "delivered", "--timeout", "5", "anyone?"];
    let ended = server.run(&wait);
    assert_eq!(ended.complaint(6), "postrider: timed out; sent, but not all delivered to carol yet");
    let waiting = server.command(&["send", "--user", "alice", "--to", "carol", "--wait", "read", "anyone?"]);
    waiting.line();
    waiting.signal(Signal::INT);
    assert_eq!(waiting.finish().complaint(130), "postrider: interrupted; sent, but not all read by carol yet");
    let listening = server.command(&["listen", "--user", "bob", "--json"]);
    listening.lines_until("caught_up");
    listening.signal(Signal::INT);
    listening.finish().output();
}

#[test]
fn wrong_arguments_exit_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| Program::start(directory.path(), arguments, None).finish();
    assert_eq!(run(&["sned"]).code, Some(2));
    assert_eq!(run(&["listen"]).code, Some(2));
    for (arguments, part) in [
        (&["listen", "--user", "bob"][..], "no server is known"),
        (&["listen", "--user", "bob", "--server", "127.0.0.1:1"], "--ca"),
        (&["listen", "--user", "bob", "--context", "nope"], "there is no context `nope`"),
        (&["context", "show"], "no context is current"),
        (&["context", "use", "../x"], "cannot name a context"),
    ] {
        let ended = run(arguments);
        assert!(ended.complaint(2).contains(part), "{ended:?}");
    }
}
