//! What operators do to a data directory, and what becomes of it when that is cut short or the directory is damaged.

mod mistakes;
mod salvage;
mod wrecks;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::super::files::{Files, SystemFiles};
use super::super::keys;
use super::super::rows::{Number, seal};
use super::super::tools::{self, ToolError};
use super::damage::{cut, segments};
use super::faulty::{Errno, Fault, FaultyFiles};
use super::{Engine, EngineConfig, copy, rows_in_sled};
use crate::ids::{AppId, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{Operation, StoreError};

/// A store whose rows are in sled: alice has written to bob and to carol, who have read some of it.
fn written(path: &Path) -> Vec<Vec<String>> {
    let world = world(path);
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    let carol = world.attach("carol", "phone");
    for id in 1..=60 {
        let to = if id % 3 == 0 { "carol" } else { "bob" };
        let text = if id % 20 == 0 { "large ".repeat(1_000) } else { format!("message {id}") };
        world.acked(&alice, id, to, &text);
    }
    world.received(&bob, 7);
    world.read(&bob, 1, 5);
    world.received(&carol, 2);
    world.acked(&carol, 1, "alice", "an answer");
    [alice, bob, carol].iter().map(|user| world.inbox(user)).collect()
}

fn world(path: &Path) -> World {
    World::around(Arc::new(Engine::open(&tiny(path)).expect("opens")))
}

fn inboxes(path: &Path) -> Vec<Vec<String>> {
    let world = world(path);
    ["alice", "bob", "carol"].iter().map(|user| world.inbox(&world.attach(user, "phone"))).collect()
}

fn is_sound(path: &Path) {
    let found = tools::verify(path, 7, &mut |_| {}).expect("opens");
    assert_eq!(found.problems, Vec::<String>::new());
}

fn refused<T: std::fmt::Debug>(result: Result<T, ToolError>, words: &str) {
    match result {
        Err(ToolError::Refused(why)) if why.contains(words) && !why.contains('\n') => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_without_a_store_is_refused_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("nothing");
    refused(tools::verify(&nothing, 7, &mut |_| {}), "holds no store");
    refused(tools::stats(&nothing, 7, &mut |_| {}), "holds no store");
    refused(tools::compact(&nothing, 7, &mut |_| {}), "holds no store");
    refused(tools::back_up(&nothing, &directory.path().join("b"), 7, &mut |_| {}), "holds no store");
    refused(tools::restore(&nothing, &directory.path().join("b"), 7, &mut |_| {}), "is no backup");
    refused(tools::salvage(&nothing, &directory.path().join("b"), 7, &mut |_| {}), "holds no store");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_store_that_is_in_use_is_left_alone_by_every_tool() {
    let directory = tempfile::tempdir().unwrap();
    let (data, out) = (directory.path().join("data"), directory.path().join("out"));
    let _running = Engine::open(&tiny(&data)).unwrap();
    let locked = |done: Result<(), ToolError>| assert!(matches!(done, Err(ToolError::Store(StoreError::Locked(_)))));
    locked(tools::verify(&data, 7, &mut |_| {}).map(drop));
    locked(tools::stats(&data, 7, &mut |_| {}).map(drop));
    locked(tools::compact(&data, 7, &mut |_| {}).map(drop));
    locked(tools::back_up(&data, &out, 7, &mut |_| {}).map(drop));
    locked(tools::restore(&data, &out, 7, &mut |_| {}).map(drop));
    locked(tools::salvage(&data, &out, 7, &mut |_| {}).map(drop));
    assert!(!out.exists());
}

#[test]
fn verifying_looks_also_at_rows_that_nothing_refers_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    written(path);
    is_sound(path);
    let rows = rows_in_sled(path);
    rows.insert([1, 0, 0, 0, 0, b'x'], b"no name of an app").unwrap();
    rows.insert(b"~a table that there is not", b"").unwrap();
    let key = keys::direct(AppId(9), UserId(1), UserId(2));
    let value = seal(&key, &Number(1));
    rows.insert(key, value).unwrap();
    rows.flush().unwrap();
    drop(rows);
    let found = tools::verify(path, 7, &mut |_| {}).expect("opens");
    assert_eq!(found.problem_count, 3, "{found:?}");
    assert!(found.problems.iter().any(|problem| problem.contains("app 9 is not there")), "{found:?}");
}

#[test]
fn every_byte_of_the_rows_is_in_the_statistics() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path());
    let stats = tools::stats(directory.path(), 7, &mut |_| {}).unwrap();
    let rows = |table: &str| {
        let mut found = stats.tables.iter().filter(|found| found.table == table && found.app.as_deref() == Some("dev"));
        found.next().map_or(0, |found| found.rows)
    };
    assert_eq!((rows("users"), rows("user names"), rows("conversations")), (3, 3, 2));
    assert_eq!(stats.row_bytes, stats.tables.iter().map(|table| table.bytes).sum::<u64>());
    assert!(stats.row_bytes > 18_000 && stats.files[0].bytes > stats.row_bytes, "{stats:?}");
    assert!(stats.dead_share > 0.0 && stats.dead_share < 1.0);
}

#[test]
fn compacting_gives_back_space_and_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    written(path);
    // Segments that get larger than those there are.
    let larger = EngineConfig { segment_bytes: 64 << 10, ..tiny(path) };
    let world = World::around(Arc::new(Engine::open(&larger).unwrap()));
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 61..=200 {
        world.acked(&alice, id, "bob", &"much text ".repeat(600));
    }
    world.received(&bob, world.user("bob").unwrap().head.0);
    drop(world);
    let before = inboxes(path);
    let done = tools::compact(path, 7, &mut |_| {}).unwrap();
    assert!(done.after_bytes * 2 < done.before_bytes, "{done:?}");
    assert_eq!(inboxes(path), before);
    is_sound(path);
}

#[test]
fn compacting_that_is_cut_short_at_any_call_leaves_the_old_or_the_new() {
    let original = tempfile::tempdir().unwrap();
    let before = written(original.path());
    let (mut cut, mut finished_by_opening) = (0, 0);
    loop {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        copy(original.path(), &path);
        let files = FaultyFiles::new(&path);
        files.fail_at(cut, Fault::Error(Errno::Eio), true);
        let done = tools::compact_with(files, &path, 7, &mut |_| {});
        finished_by_opening += u32::from(!path.join("sled").exists());
        assert_eq!(inboxes(&path), before, "cut at call {cut}");
        is_sound(&path);
        let names = SystemFiles.list(&path).unwrap();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("sled.")), "{names:?}");
        if done.is_ok() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 10 && finished_by_opening > 0, "{cut} {finished_by_opening}");
}

#[test]
fn what_was_acked_before_a_backup_began_is_in_it_whatever_happens_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    // A segment for every few groups: as much as can is spilled between the copies of two rows.
    let config = EngineConfig { segment_bytes: 2048, ..tiny(&directory.path().join("data")) };
    let engine = Arc::new(Engine::open(&config).unwrap());
    let (acked, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let world_of = Arc::clone(&engine);
        let (acked, ended) = (Arc::clone(&acked), Arc::clone(&ended));
        thread::spawn(move || {
            let world = World::around(world_of);
            let alice = world.attach("alice", "phone");
            let bob = world.attach("bob", "phone");
            world.attach("carol", "phone");
            for id in 1.. {
                let to = if id % 2 == 0 { "bob" } else { "carol" };
                world.acked(&alice, id, to, &format!("message {id}"));
                acked.store(id, Ordering::SeqCst);
                // Users come and go, and bob keeps up, so that rows of every kind are written and deleted.
                let name = format!("guest {}", id % 7);
                match id % 3 {
                    0 => {
                        world.attach(&name, "phone");
                    }
                    1 if world.user(&name).is_some() => {
                        world.outcome(Operation::RemoveUser { app: world.app, name });
                    }
                    _ => {}
                }
                if id % 10 == 0 {
                    world.received(&bob, world.user("bob").unwrap().head.0);
                }
                if ended.load(Ordering::SeqCst) {
                    break;
                }
            }
        })
    };
    let wait_for = |count: u64| {
        while acked.load(Ordering::SeqCst) < count {
            assert!(!writer.is_finished(), "the writer has failed");
            thread::yield_now();
        }
    };
    wait_for(200);
    for round in 0..8 {
        let before = acked.load(Ordering::SeqCst);
        let (backup, restored) =
            (directory.path().join(format!("backup {round}")), directory.path().join(format!("restored {round}")));
        // While rows are copied, whole segments are filled and spilled.
        let made = engine.back_up(&backup, &mut |_| wait_for(acked.load(Ordering::SeqCst) + 12)).unwrap();
        assert!(made.segments > 1, "{made:?}");
        let found = tools::restore(&backup, &restored, 7, &mut |_| {}).unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        let world = world(&restored);
        let carol = world.inbox(&world.attach("carol", "phone"));
        let sent_to_carol = before.div_ceil(2) as usize;
        for (index, entry) in carol.iter().take(sent_to_carol).enumerate() {
            assert!(entry.ends_with(&format!(" message {}", 2 * index + 1)), "round {round}: {entry}");
        }
        assert!(carol.len() >= sent_to_carol, "round {round}");
        assert!(world.attach("alice", "phone").highest_send_id.0 >= before);
    }
    ended.store(true, Ordering::SeqCst);
    writer.join().unwrap();
}

#[test]
fn whoever_comes_while_names_are_copied_is_found_by_name_in_the_backup() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let engine = Arc::new(Engine::open(&tiny(&path("data"))).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    // More than are copied at once.
    world.commit((0..600).map(|user| Operation::AddUser { app: world.app, name: format!("user {user}") }).collect());
    drop(engine.checkpoint().unwrap());
    let mut calls = 0;
    let mut progress = |_| {
        calls += 1;
        if calls == 1 {
            world.attach("a name before all others", "phone");
            drop(engine.checkpoint().unwrap());
        }
    };
    engine.back_up(&path("backup"), &mut progress).unwrap();
    assert!(calls > 1);
    tools::restore(&path("backup"), &path("restored"), 7, &mut |_| {}).expect("sound");
    // A backup is a data directory, too.
    let name_of = |engine: &Arc<Engine>| {
        World::around(Arc::<Engine>::clone(engine)).user("a name before all others").map(|it| it.name)
    };
    for _ in 0..2 {
        let engine = Arc::new(Engine::open(&tiny(&path("backup"))).unwrap());
        assert_eq!(name_of(&engine).as_deref(), Some("a name before all others"));
        drop(engine.checkpoint().unwrap());
    }
}

#[test]
fn a_large_message_that_comes_while_others_are_copied_can_be_read_in_the_backup_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let engine = Arc::new(Engine::open(&tiny(&path("data"))).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    // More pieces than are copied at once, and alice's lie before bob's.
    for id in 1..=30 {
        world.acked(&alice, id, "bob", &"large ".repeat(10_000));
    }
    drop(engine.checkpoint().unwrap());
    let mut sent = 0;
    let mut progress = |_| {
        sent += 1;
        world.acked(&bob, sent, "alice", &"as large ".repeat(6_000));
        drop(engine.checkpoint().unwrap());
    };
    engine.back_up(&path("backup"), &mut progress).unwrap();
    let there = World::around(Arc::new(Engine::open(&tiny(&path("backup"))).unwrap()));
    let inbox = there.inbox(&there.attach("alice", "phone"));
    assert_eq!(inbox.iter().filter(|entry| entry.contains("bob>alice")).count() as u64, sent);
    drop(there);
    is_sound(&path("backup"));
}

#[test]
fn a_backup_takes_the_certificates_along_and_is_made_only_where_nothing_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = written(&path("data"));
    fs::create_dir(path("data/tls")).unwrap();
    fs::write(path("data/tls/ca.pem"), "a certificate").unwrap();
    fs::create_dir_all(path("there/something")).unwrap();
    refused(tools::back_up(&path("data"), &path("there"), 7, &mut |_| {}), "is not empty");
    refused(tools::back_up(&path("data"), &path("data/backup"), 7, &mut |_| {}), "copied into itself");
    tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}).unwrap();
    refused(tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}), "is not empty");

    tools::restore(&path("backup"), &path("restored"), 7, &mut |_| {}).unwrap();
    assert_eq!(fs::read_to_string(path("restored/tls/ca.pem")).unwrap(), "a certificate");
    assert_eq!(inboxes(&path("restored")), before);
    refused(tools::restore(&path("backup"), &path("restored"), 7, &mut |_| {}), "is not empty");
    assert_eq!(inboxes(&path("restored")), before, "restoring again has changed nothing");
    tools::restore(&path("backup"), &path("again"), 7, &mut |_| {}).expect("the backup is not changed");
}

#[test]
fn a_backup_whose_journal_was_cut_short_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (from, backup) = (directory.path().join("data"), directory.path().join("backup"));
    written(&from);
    tools::back_up(&from, &backup, 7, &mut |_| {}).expect("a backup");
    let whole = directory.path().join("whole");
    tools::restore(&backup, &whole, 7, &mut |_| {}).expect("a store");
    let records = segments(&backup.join("journal"))[0].records.len();
    cut(&backup.join("journal"), 0, records - 2);
    let to = directory.path().join("to");
    let error = tools::restore(&backup, &to, 7, &mut |_| {}).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("the journal ends at byte"), "{error}");
    assert!(!to.exists());
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    written(&path("data"));
    tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}).unwrap();
    let segment = path("backup/journal/0.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let error = tools::restore(&path("backup"), &path("restored"), 7, &mut |_| {}).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert!(!path("restored").exists() && !path("restored.unfinished").exists());
}
