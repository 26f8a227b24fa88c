//! A disk that fails, or is full, below a real server: nothing is acked that is not kept, everybody is told, and what can
//! go on goes on.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, deliver, server_frame::Body};
use serde_json::Value;

use crate::support::{Raw, ServerProcess};

/// Where the journal's first record begins: with no file allowed to grow beyond it, none can be written.
const NO_RECORDS: u64 = 512;

/// How long a full disk may hold the server up after there is space again.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);

fn store_status(server: &ServerProcess) -> Value {
    let status = server.run(&["status", "--json", "--data", &server.data().display().to_string()]);
    assert_eq!(status.code, Some(0), "{status:?}");
    serde_json::from_str::<Value>(&status.stdout).unwrap()["store"].clone()
}

/// A device that the server knows and that is away: what it knows of itself.
async fn away(server: &ServerProcess, user: &str) -> wire::Welcome {
    let (mut raw, welcome) = Raw::resume(server, user, "phone", &wire::Welcome::default()).await;
    raw.backlog().await;
    welcome
}

fn texts(entries: &[(u64, deliver::Entry)]) -> Vec<String> {
    let text = |entry: &deliver::Entry| match entry {
        deliver::Entry::Message(message) => Some(String::from_utf8_lossy(&message.content).into_owned()),
        _ => None,
    };
    entries.iter().filter_map(|(_, entry)| text(entry)).collect()
}

#[tokio::test]
async fn a_server_whose_store_cannot_write_acks_nothing_more_says_so_and_exits_with_a_code_of_its_own() {
    let mut server = ServerProcess::start("");
    let bob = away(&server, "bob").await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bystander = Raw::login(&server, "carol", "laptop").await;
    bystander.backlog().await;
    alice.send("bob", "before").await;
    alice.next_ack().await;
    assert_eq!(store_status(&server)["state"], "writing");

    server.limit_file_sizes(NO_RECORDS);
    alice.send("bob", "lost").await;
    alice.closed_with(ErrorCode::StoreUnavailable).await;
    bystander.closed_with(ErrorCode::StoreUnavailable).await;
    let ended = server.wait();
    assert_eq!(ended.code, Some(8), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("postrider: the store cannot write: ") && last.contains(".segment"), "{ended:?}");

    server.start_again();
    let (mut bob, _) = Raw::resume(&server, "bob", "phone", &bob).await;
    assert_eq!(texts(&bob.backlog().await), ["before"]);
    server.terminate();
}

#[tokio::test]
async fn a_server_told_to_stay_up_lets_known_devices_read_what_is_on_disk_and_takes_nothing_more() {
    let mut server = ServerProcess::start("[store]\non_failure = \"read-only\"\n");
    let bob = away(&server, "bob").await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut carol = Raw::login(&server, "carol", "laptop").await;
    alice.send("bob", "before").await;
    let conversation = alice.next_ack().await.conversation;

    server.limit_file_sizes(NO_RECORDS);
    carol.send("dave", "lost").await;
    carol.closed_with(ErrorCode::StoreUnavailable).await;
    let status = store_status(&server);
    assert_eq!(status["state"], "failed");
    assert!(status["why"].as_str().unwrap().contains("the store cannot write: "), "{status}");

    let (mut reading, _) = Raw::resume(&server, "bob", "phone", &bob).await;
    let entries = reading.backlog().await;
    assert_eq!(texts(&entries), ["before"]);
    reading.confirm(entries[0].0).await;
    reading.read_up_to(conversation, 1).await;
    reading.settle().await;
    reading.send("alice", "no").await;
    reading.closed_with(ErrorCode::StoreUnavailable).await;
    let mut stranger = Raw::connect(&server).await;
    stranger.say(wire::client_frame::Body::Hello(Raw::hello("erin", "phone"))).await;
    stranger.closed_with(ErrorCode::StoreUnavailable).await;
    let ended = server.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("nothing more is acknowledged until a restart"), "{ended:?}");

    server.start_again();
    let (mut bob, _) = Raw::resume(&server, "bob", "phone", &bob).await;
    assert_eq!(texts(&bob.backlog().await), ["before"], "what was confirmed meanwhile was not kept");
    server.terminate();
}

/// A file system of its own in memory, that can be filled up.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// # Errors
    /// Why this machine does not allow it.
    fn mount() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = directory.path().display().to_string();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs", &path]).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { directory }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.directory.path().join("ballast")
    }

    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[0; 65_536]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").args(["-l", &self.directory.path().display().to_string()]).status());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_messages_lets_devices_read_and_is_left_behind_when_there_is_space() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return println!("no disk is filled up: {reason}"),
    };
    let mut server = ServerProcess::start_on(&disk.directory.path().join("data"), "");
    let bob = away(&server, "bob").await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "before").await;
    let conversation = alice.next_ack().await.conversation;
    let (mut carol, welcome) = Raw::resume(&server, "carol", "laptop", &wire::Welcome::default()).await;
    carol.backlog().await;
    disk.fill();

    // The journal has room for a while.
    let text = "x".repeat(50_000);
    let (refused, took) = loop {
        let asked = Instant::now();
        let send_id = carol.send("dave", &text).await;
        match carol.next_news().await {
            Body::Ack(_) => assert!(send_id < 200, "a full disk took 10 MB"),
            Body::Error(error) if error.name == ErrorCode::StoreUnavailable.name() => {
                assert!(error.retry && error.retry_after_ms > 0, "{error:?}");
                break (send_id, asked.elapsed());
            }
            other => panic!("{other:?}"),
        }
    };
    println!("message {refused} was refused within {took:?}");
    let status = store_status(&server);
    assert_eq!(status["state"], "full", "{status}");

    // Logins and reads go on, and nobody is thrown out for confirming or reading.
    let (mut reading, _) = Raw::resume(&server, "bob", "phone", &bob).await;
    let entries = reading.backlog().await;
    assert_eq!(texts(&entries), ["before"]);
    reading.confirm(entries[0].0).await;
    reading.read_up_to(conversation, 1).await;
    reading.settle().await;

    disk.make_room();
    let freed = Instant::now();
    let again = loop {
        let (mut carol, known) = Raw::resume(&server, "carol", "laptop", &welcome).await;
        assert_eq!(known.highest_send_id + 1, refused);
        carol.backlog().await;
        carol.send_as(refused, "dave", &text).await;
        match carol.next_news().await {
            Body::Ack(ack) => break ack,
            Body::Error(_) => assert!(freed.elapsed() < RESUMES_WITHIN, "there is space, and nothing happens"),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("message {refused} was taken {:?} after there was space", freed.elapsed());
    assert_eq!((again.send_id, again.seq), (refused, refused));
    assert_eq!(store_status(&server)["state"], "writing");

    // What bob had confirmed was not kept: it is now that he says anything at all.
    reading.settle().await;
    let told = alice.next_entry().await.1;
    assert!(matches!(&told, deliver::Entry::Delivered(receipt) if receipt.seq == 1), "{told:?}");

    // What bob had read was not kept: before an answer could make the client believe otherwise, it is told to come again.
    reading.send("alice", "thanks").await;
    reading.closed_with(ErrorCode::StoreUnavailable).await;
    let (mut reading, welcome) =
        Raw::resume(&server, "bob", "phone", &wire::Welcome { cursor: entries[0].0, ..bob.clone() }).await;
    assert_eq!(welcome.highest_send_id, 1, "the message is there all the same");
    reading.read_up_to(conversation, 1).await;
    reading.send_as(1, "alice", "thanks").await;
    reading.next_ack().await;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(alice.next_entry().await.1);
    }
    let is_read = |entry: &deliver::Entry| matches!(entry, deliver::Entry::Read(receipt) if receipt.seq == 1);
    assert!(told.iter().any(is_read), "{told:?}");
    server.terminate();
}
