//! The data directory, what is refused, and damage.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::super::{keys, rows};
use super::{Engine, EngineConfig, TestFiles, block_on, making, open, open_with, rows_in_sled};
use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{Answer, Outcome, ReadLimit, Store, StoreError, commit_and_wait};

#[test]
fn a_second_opener_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let Err(StoreError::Locked(who)) = open(directory.path()) else { panic!("two openers") };
    assert!(who.contains(&format!("(process {})", std::process::id())), "{who}");
    drop(first);
    open(directory.path()).expect("it is free again");
}

#[test]
fn a_directory_is_made_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/data");
    drop(open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let format = directory.path().join("FORMAT");
    assert_eq!(fs::read_to_string(&format).unwrap(), "5\n");
    for other in [2, 6] {
        fs::write(&format, format!("{other}\n")).unwrap();
        let Err(StoreError::Format { found, expected: 5 }) = open(directory.path()) else { panic!("{other} is read") };
        assert_eq!(found, other);
    }
    fs::write(&format, "two").unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::Corrupt(_))));
    fs::remove_file(&format).unwrap();
    assert!(
        matches!(open(directory.path()), Err(StoreError::Corrupt(_))),
        "rows without a format are no new directory"
    );
    fs::write(&format, "5\n").unwrap();
    open(directory.path()).expect("nothing was touched");
}

#[test]
fn a_directory_of_a_format_before_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let format = directory.path().join("FORMAT");
    for before in [3, 4] {
        fs::write(&format, format!("{before}\n")).unwrap();
        drop(open(directory.path()).expect("what it has is read"));
        let now = fs::read_to_string(&format).unwrap();
        assert_eq!(now, "5\n", "a build that reads {before} could not read what is added");
    }
}

#[test]
fn a_first_start_that_was_cut_short_does_not_block_the_next() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("FORMAT.new"), "").unwrap();
    // What sled could not open.
    fs::create_dir_all(directory.path().join("sled.new/db")).unwrap();
    drop(open(directory.path()).expect("opens"));
    drop(open(directory.path()).expect("opens again"));
    assert!(!directory.path().join("sled.new").exists());
}

#[test]
fn a_half_written_snapshot_does_not_block_opening() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let leftover = directory.path().join("sled/snap.0000000000000123.generating");
    fs::write(&leftover, "half").unwrap();
    open(directory.path()).expect("opens");
    assert!(!leftover.exists());
}

/// Where a log of a test goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn opening_that_takes_longer_than_a_second_says_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    drop(open_with(directory.path(), &files));
    let opened = |slow_ms, slow_sled_ms| {
        files.slow_ms.store(slow_ms, Ordering::SeqCst);
        files.slow_sled_ms.store(slow_sled_ms, Ordering::SeqCst);
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        drop(tracing::subscriber::with_default(log, || open_with(directory.path(), &files)));
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    };
    let said = opened(2_500, 0);
    assert!(said.contains("reading what the journal's segments hold done=0 of=1"), "{said}");
    let said = opened(0, 2_500);
    assert!(said.contains("sled is reading its files seconds=1 mib=0"), "{said}");
    assert!(said.contains("sled is reading its files seconds=2 mib=0"), "{said}");
    assert_eq!(opened(0, 0), "", "nothing is said when it does not take long");
}

#[test]
fn a_closed_store_refuses_everything_and_gives_its_files_free() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    block_on(engine.close()).unwrap();
    assert!(matches!(block_on(commit_and_wait(&engine, making("app"))), Err(StoreError::Closed)));
    assert!(matches!(block_on(engine.list_apps()), Err(StoreError::Closed)));
    block_on(engine.close()).expect("closing again is nothing");
    open(directory.path()).expect("free, although the old handle still lives");
}

/// Alice sent bob two messages, and so much happened since that no journal has them; then `damage` was done to the rows
/// in sled.
fn damaged(damage: impl FnOnce(&sled::Tree)) -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::around(Arc::new(Engine::open(&tiny(directory.path())).unwrap()));
    let alice = world.attach("alice", "phone");
    world.attach("bob", "phone");
    world.acked(&alice, 1, "bob", "one");
    world.acked(&alice, 2, "bob", "two");
    world.acked(&alice, 3, "bob", &"large ".repeat(1_000));
    for number in 0..120 {
        world.app_named(&format!("another app, number {number}"));
    }
    drop(world);
    let rows = rows_in_sled(directory.path());
    damage(&rows);
    rows.flush().unwrap();
    drop(rows);
    let world = World::around(Arc::new(Engine::open(&tiny(directory.path())).unwrap()));
    (directory, world)
}

fn read_bob(world: &World) -> Result<usize, StoreError> {
    let limit = ReadLimit { entries: 9, bytes: 9_999 };
    let read = world.store.read_inbox(AppId(1), UserId(2), Position(0), Position(3), limit);
    block_on(read).map(|page| page.entries.len())
}

#[test]
fn a_flipped_bit_is_reported_and_never_served() {
    let (_directory, world) = damaged(|rows| {
        let chunks: Vec<_> = rows.scan_prefix(keys::chunks_of_user(AppId(1), UserId(2))).map(Result::unwrap).collect();
        assert!(!chunks.is_empty());
        for (key, value) in chunks {
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 4;
            rows.insert(key, value).unwrap();
        }
    });
    assert!(matches!(read_bob(&world), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_piece_of_a_message_that_is_gone_while_its_entry_stays_is_reported() {
    let (_directory, world) = damaged(|rows| {
        rows.remove(keys::piece(AppId(1), UserId(2), Position(3), 0)).unwrap();
    });
    assert!(matches!(read_bob(&world), Err(StoreError::Corrupt(_))));
}

#[test]
fn damage_fails_the_operation_that_meets_it_without_a_trace_and_no_earlier_one() {
    let conversation = keys::conversation(AppId(1), ConversationId(1));
    let (_directory, world) = damaged(|tree| {
        tree.insert(conversation, rows::seal(b"elsewhere", &rows::Number(1))).unwrap();
    });
    let alice = world.attach("alice", "phone");
    let meeting = vec![
        crate::store::Operation::Send(world.sending(&alice, 4, "alice", "a note")),
        crate::store::Operation::Send(world.sending(&alice, 5, "bob", "meets the damage")),
    ];
    let failed = block_on(commit_and_wait(&*world.store, meeting));
    assert!(matches!(failed, Err(StoreError::Corrupt(_))));
    let outcome = world.send(&alice, 4, "alice", "a note");
    let (conversation, seq) = (ConversationId(2), Seq(1));
    let first = Outcome::Answer(Answer::Ack { send_id: SendId(4), conversation, seq, time: 1_000 });
    assert_eq!(outcome, first, "asked again, the operation before it is answered");
    assert_eq!(world.inbox(&alice).len(), 1, "and is there once");
    let outcome = world.send(&alice, 5, "alice", "another");
    let (send_id, seq) = (SendId(5), Seq(2));
    assert_eq!(
        outcome,
        Outcome::Answer(Answer::Ack { send_id, conversation, seq, time: 1_000 }),
        "nothing is consumed"
    );
}

#[test]
fn large_messages_stay_out_of_files_that_nobody_syncs() {
    let directory = tempfile::tempdir().unwrap();
    // Every message fills a segment and goes to sled.
    let small = EngineConfig { segment_bytes: 64 << 10, segments: 2, ..EngineConfig::new(directory.path()) };
    let world = World::around(Arc::new(Engine::open(&small).unwrap()));
    let alice = world.attach("alice", "phone");
    world.attach("bob", "phone");
    let text = "0123456789abcdef".repeat(60_000 / 16);
    let blobs = || fs::read_dir(directory.path().join("sled/blobs")).unwrap().count();
    for id in 1..=60 {
        world.acked(&alice, id, "bob", &text);
        assert_eq!(blobs(), 0, "after {id} messages");
    }
    let bob = world.attach("bob", "phone");
    for position in 1..=60 {
        world.received(&bob, position);
        assert_eq!(blobs(), 0, "after {position} confirmations");
    }
    assert_eq!(world.user("bob").map(|bob| (bob.entries, bob.devices[0].id)), Some((0, DeviceId(2))));
}
