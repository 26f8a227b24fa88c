//! When the spill falls behind, when the disk is full, and what reads see meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use postrider_protocol::wire;
use prost::Message as _;

use super::super::keys::{self, Table};
use super::{Engine, EngineConfig, TestFiles, block_on, making, reporting, rows_in_sled};
use crate::ids::{AppId, Position, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{Attached, InboxEntry, Item, Operation, ReadLimit, Store, StoreError, commit_and_wait};

/// Long enough that a store which does not wait would have answered.
const A_MOMENT: Duration = Duration::from_millis(100);

fn open_tiny(path: &Path, files: &Arc<TestFiles>) -> Engine {
    Engine::open_with(&tiny(path), Arc::<TestFiles>::clone(files)).unwrap()
}

fn apps(engine: &Engine) -> Vec<String> {
    block_on(engine.list_apps()).expect("reads go on").into_iter().map(|app| app.name).collect()
}

fn name(app: usize) -> String {
    format!("app number {app}")
}

fn segments(directory: &Path) -> usize {
    fs::read_dir(directory.join("journal")).unwrap().count()
}

#[test]
fn when_the_spill_falls_behind_commits_wait_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_tiny(directory.path(), &files);
    files.hold_sled();
    let mut answered = 0;
    let (waiting, result) = loop {
        let (done, result) = reporting();
        let mut commit = engine.commit(making(&name(answered)), done);
        let taken = (0..50).any(|_| (&mut commit).now_or_never().is_some() || (thread::sleep(A_MOMENT / 50), false).1);
        if !taken {
            break (commit, result);
        }
        drop(result.recv().unwrap().expect("durable"));
        answered += 1;
        assert!(answered < 600, "three small segments took everything");
    };
    assert!(answered > 20, "it waited after {answered} groups already");
    assert_eq!(segments(directory.path()), 3);
    assert_eq!(apps(&engine), (0..answered).map(name).collect::<Vec<_>>());
    files.release();
    block_on(waiting);
    result.recv().unwrap().expect("durable");
    for app in answered + 1..answered + 100 {
        block_on(commit_and_wait(&engine, making(&name(app)))).expect("durable");
    }
    assert_eq!(apps(&engine).len(), answered + 100);
    assert_eq!(segments(directory.path()), 3);
}

#[test]
fn a_full_disk_refuses_and_the_store_goes_on_by_itself_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_tiny(directory.path(), &files);
    files.full.store(true, Ordering::SeqCst);
    let mut answered = 0;
    let refused = loop {
        match block_on(commit_and_wait(&engine, making(&name(answered)))) {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    for _ in 0..3 {
        assert!(matches!(block_on(commit_and_wait(&engine, making("no room"))), Err(StoreError::Full(_))));
    }
    block_on(commit_and_wait(&engine, making(&name(0)))).expect("what changes nothing needs no room");
    assert_eq!(apps(&engine).len(), answered, "reads go on, and nothing of what was refused is there");
    files.full.store(false, Ordering::SeqCst);
    let back = (0..50).any(|_| {
        thread::sleep(A_MOMENT);
        block_on(commit_and_wait(&engine, making(&name(answered)))).is_ok()
    });
    assert!(back, "there is space, and nothing happens");
    drop(engine);
    let engine = Engine::open(&tiny(directory.path())).unwrap();
    assert_eq!(apps(&engine), (0..=answered).map(name).collect::<Vec<_>>());
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_own_which_does_not_stay() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(&tiny(directory.path())).unwrap();
    for round in 0..6 {
        let batch: Vec<_> = (0..200).map(|app| Operation::EnsureApp(name(round * 200 + app))).collect();
        block_on(commit_and_wait(&engine, batch)).expect("durable");
        assert!(segments(directory.path()) <= 5, "{} segments", segments(directory.path()));
    }
    for app in 1200..1300 {
        block_on(commit_and_wait(&engine, making(&name(app)))).expect("durable");
    }
    assert_eq!(segments(directory.path()), 3);
    drop(engine);
    let engine = Engine::open(&tiny(directory.path())).unwrap();
    assert_eq!(apps(&engine), (0..1300).map(name).collect::<Vec<_>>());
}

#[test]
fn what_is_delivered_before_its_segment_is_full_never_touches_sled() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig { segment_bytes: 256 << 10, ..tiny(directory.path()) };
    let engine = Arc::new(Engine::open(&config).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    let text = "x".repeat(1000);
    for id in 1..=100 {
        world.acked(&alice, id, "bob", &text);
        world.received(&bob, id);
    }
    for app in 0..4000 {
        world.app_named(&name(app));
    }
    drop(world);
    block_on(engine.close()).unwrap();
    let rows = rows_in_sled(directory.path());
    assert!(rows.len() > 1000, "later segments were spilled");
    assert!(rows.iter().all(|row| row.unwrap().1.len() < 1000), "a message that was delivered long ago");
}

/// Rows of a table that are in sled.
fn rows_of(directory: &Path, table: Table) -> usize {
    rows_in_sled(directory).iter().filter(|row| Table::of(&row.as_ref().unwrap().0) == Some(table)).count()
}

#[test]
fn what_is_confirmed_while_it_goes_to_sled_is_deleted_there() {
    let tables = tables_after("bob", |world, _, bob| {
        world.received(bob, 5);
    });
    assert!(!tables.contains(&Table::Chunk), "{tables:?}");
}

#[test]
fn the_row_of_a_receipt_that_is_overtaken_while_it_goes_to_sled_is_deleted_there() {
    for by_a_newer_one in [true, false] {
        let tables = tables_after("alice", |world, alice, bob| {
            if by_a_newer_one {
                world.received(bob, 4);
            }
            world.received(alice, world.user("alice").unwrap().head.0);
        });
        assert!(!tables.contains(&Table::Newest), "{by_a_newer_one}: {tables:?}");
    }
}

/// The tables in which sled has rows of a user in the end. Alice has sent five messages, of which bob has confirmed three;
/// `meanwhile` happens while that goes to sled.
fn tables_after(user: &str, meanwhile: impl FnOnce(&World, &Attached, &Attached)) -> Vec<Table> {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let config = EngineConfig { segment_bytes: 64 << 10, ..tiny(directory.path()) };
    let engine = Arc::new(Engine::open_with(&config, Arc::<TestFiles>::clone(&files)).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 1..=5 {
        world.acked(&alice, id, "bob", "a message");
    }
    world.received(&bob, 3);
    files.hold_sled();
    let spilling = thread::spawn({
        let engine = Arc::clone(&engine);
        move || engine.checkpoint().map(drop)
    });
    files.wait_until_held();
    meanwhile(&world, &alice, &bob);
    files.release();
    spilling.join().unwrap().expect("spilled");
    drop(engine.checkpoint().expect("spilled"));
    let user = world.user(user).unwrap().id;
    drop(world);
    block_on(engine.close()).unwrap();
    drop(engine);
    let rows = rows_in_sled(directory.path());
    let keys = rows.iter().map(|row| row.unwrap().0).filter(|key| keys::user_of(key) == Some(user));
    keys.filter_map(|key| Table::of(&key)).collect()
}

#[test]
fn answers_that_newer_ones_replace_before_their_slot_is_needed_never_touch_sled() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig { segment_bytes: 64 << 10, segments: 6, ..tiny(directory.path()) };
    let engine = Arc::new(Engine::open(&config).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    for id in 1..=2_000 {
        world.acked(&alice, id, "bob", "a message");
        world.received(&bob, id);
    }
    drop(world);
    block_on(engine.close()).unwrap();
    drop(engine);
    assert_eq!(rows_of(directory.path(), Table::Answers), 0);
    // She is asked for them all the same.
    let world = World::around(Arc::new(Engine::open(&config).unwrap()));
    let alice = world.attach("alice", "phone");
    assert_eq!(world.acked(&alice, 2_000, "bob", "a message"), (1, 2_000));
    assert_eq!(world.acked(&alice, 1_745, "bob", "a message"), (1, 1_745));
}

#[test]
fn a_segment_ends_when_too_many_objects_have_changed_in_it_however_few_bytes_that_are() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig { segment_bytes: 2 << 20, segments: 2, ..tiny(directory.path()) };
    let engine = Arc::new(Engine::open(&config).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    for round in 0..150 {
        let logins = (0..100).map(|user| Operation::Attach(world.open_login(&format!("user {round} {user}"), "phone")));
        world.commit(logins.collect());
    }
    let bytes: usize =
        segments_in(directory.path()).map(|segment| segment.iter().filter(|byte| **byte != 0).count()).sum();
    assert!(bytes < 2 << 20, "{bytes} bytes would have filled a segment by themselves");
    drop(world);
    block_on(engine.close()).unwrap();
    drop(engine);
    // Two segments of 4,096 objects are all that sled need not have.
    let moved = rows_of(directory.path(), Table::User);
    assert!(moved > 6_000, "{moved} of 15,000 users were moved");
    let world = World::around(Arc::new(Engine::open(&config).unwrap()));
    assert_eq!(world.users("", usize::MAX).len(), 15_000);
}

/// What the files of the journal hold.
fn segments_in(directory: &Path) -> impl Iterator<Item = Vec<u8>> {
    fs::read_dir(directory.join("journal")).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap())
}

/// The number that a message says.
fn number(entry: &InboxEntry) -> u64 {
    let Item::Message(encoded) = &entry.item else { panic!("{entry:?}") };
    let message = wire::Message::decode(encoded.clone()).expect("a message");
    String::from_utf8(message.content.to_vec()).unwrap().trim().parse().unwrap()
}

/// Also when the writer panics: readers that go on for ever would hide it.
struct StopsAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn readers_miss_nothing_while_segments_are_spilled_and_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(Engine::open(&tiny(directory.path())).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let alice = world.attach("alice", "phone");
    let (bob, carol) = (world.attach("bob", "phone"), world.attach("carol", "phone"));
    let (told, confirmed, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let read = |user: UserId, after: u64, up_to: u64| {
        let limit = ReadLimit { entries: 40, bytes: usize::MAX };
        block_on(engine.read_inbox(AppId(1), user, Position(after), Position(up_to), limit)).unwrap().entries
    };
    let whole = |user: UserId, confirmed: &AtomicU64, step: u64| {
        let mut reads = 0;
        while !stop.load(Ordering::SeqCst) {
            let up_to = told.load(Ordering::SeqCst);
            let after = (reads * step) % (up_to + 1);
            let entries = read(user, after, up_to);
            // What was confirmed before the end of the read may be gone; all the rest must be there, without a hole.
            let first = after.max(confirmed.load(Ordering::SeqCst)) + 1;
            let numbers: Vec<u64> = entries.iter().map(number).filter(|number| *number >= first).collect();
            let to = if entries.len() < 40 { up_to } else { numbers.last().copied().unwrap_or(0) };
            assert_eq!(numbers, (first..=to).collect::<Vec<_>>(), "after {after} of {up_to}");
            assert!(entries.iter().all(|entry| entry.position.0 == number(entry)));
            reads += 1;
        }
        reads
    };
    let never = AtomicU64::new(0);
    let reads = thread::scope(|scope| {
        let stops = StopsAtTheEnd(&stop);
        let readers = [scope.spawn(|| whole(bob.user, &never, 7)), scope.spawn(|| whole(carol.user, &confirmed, 13))];
        for message in 1..=300 {
            // Some are so large that they lie in pieces.
            let text = format!("{message} {}", " ".repeat(if message % 5 == 0 { 6_000 } else { 200 }));
            world.acked(&alice, message * 2 - 1, "bob", &text);
            world.acked(&alice, message * 2, "carol", &text);
            told.store(message, Ordering::SeqCst);
            if message % 16 == 0 {
                confirmed.store(message - 8, Ordering::SeqCst);
                world.received(&carol, message - 8);
            }
        }
        drop(stops);
        readers.map(|reader| reader.join().expect("no hole"))
    });
    assert!(reads.iter().all(|reads| *reads > 50), "{reads:?}: the test would prove little");
}
