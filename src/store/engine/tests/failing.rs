//! When nothing can be written any more: it is told, and what is on stable storage can still be had.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::super::keys;
use super::super::rows::{Number, unseal};
use super::{Engine, EngineConfig, TestFiles, block_on, config, making, open_with, reporting, rows_in_sled};
use crate::ids::{AppId, Position, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{
    Answer, Committed, Completion, Health, Operation, Outcome, ReadLimit, Received, Store, StoreError, commit_and_wait,
};

/// Longer than anything takes here, unless it does not come at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that serves after a failure, in which carol and dave are at rest with a message each, and alice could not send
/// bob one because the disk failed.
struct Failed {
    world: World,
    files: Arc<TestFiles>,
    _directory: tempfile::TempDir,
}

fn failed() -> Failed {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let config = EngineConfig { serves_after_failure: true, ..config(directory.path()) };
    let engine = Arc::new(Engine::open_with(&config, Arc::<TestFiles>::clone(&files)).unwrap());
    let world = World::around(engine);
    let (alice, carol) = (world.attach("alice", "phone"), world.attach("carol", "phone"));
    world.attach("bob", "phone");
    world.attach("dave", "phone");
    world.acked(&alice, 1, "bob", "before");
    world.acked(&carol, 1, "dave", "at rest");
    files.fail(true);
    let lost = Operation::Send(world.sending(&alice, 2, "bob", "lost"));
    assert!(matches!(commit(&world, lost), Err(StoreError::Io(_))));
    Failed { world, files, _directory: directory }
}

fn commit(world: &World, operation: Operation) -> Result<Outcome, StoreError> {
    block_on(commit_and_wait(&*world.store, vec![operation])).map(|Committed { mut outcomes, .. }| outcomes.remove(0))
}

fn read(world: &World, user: u64, up_to: u64) -> Result<usize, StoreError> {
    let limit = ReadLimit { entries: 9, bytes: 9_999 };
    let page = block_on(world.store.read_inbox(AppId(1), UserId(user), Position(0), Position(up_to), limit));
    page.map(|page| page.entries.len())
}

#[test]
fn a_store_that_cannot_write_any_more_says_so_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    let mut health = engine.health();
    assert!(matches!(*health.borrow_and_update(), Health::Writing));
    files.fail(true);
    assert!(block_on(commit_and_wait(&engine, making("lost"))).is_err());
    assert!(health.has_changed().unwrap());
    let told = health.borrow_and_update().clone();
    assert!(matches!(&told, Health::Failed(StoreError::Io(why)) if why.contains("the disk is gone")), "{told:?}");
    drop(engine.commit(making("again"), Completion::once(|_| {})));
    assert!(!health.has_changed().unwrap(), "it is told once");
}

#[test]
fn a_full_disk_is_told_and_so_is_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let config = tiny(directory.path());
    let engine = Engine::open_with(&config, Arc::<TestFiles>::clone(&files)).unwrap();
    files.full.store(true, Ordering::SeqCst);
    while block_on(commit_and_wait(&engine, making(&format!("app {}", files.syncs())))).is_ok() {}
    assert!(matches!(*engine.health().borrow(), Health::Full(_)));
    files.full.store(false, Ordering::SeqCst);
    let mut health = engine.health();
    let again = async { health.wait_for(|health| matches!(health, Health::Writing)).await.map(drop) };
    block_on(async { tokio::time::timeout(PATIENCE, again).await }).expect("it is told").unwrap();
    block_on(commit_and_wait(&engine, making("there is room"))).expect("durable");
}

#[test]
fn a_panic_on_the_stores_thread_is_a_failure_that_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let engine = super::open(directory.path()).unwrap();
    let mut health = engine.health();
    block_on(engine.commit(making("app"), Completion::once(|_| panic!("on purpose"))));
    let failed = async { health.wait_for(|health| matches!(health, Health::Failed(_))).await.map(drop) };
    block_on(async { tokio::time::timeout(PATIENCE, failed).await }).expect("it is told").unwrap();
}

#[test]
fn a_segment_that_cannot_be_ended_for_want_of_room_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    // It has the place of the second from the beginning.
    assert_eq!(engine.shared().unwrap().end_segment().unwrap(), 1);
    files.no_new_files.store(true, Ordering::SeqCst);
    for round in 0..3 {
        let ended = engine.shared().unwrap().end_segment();
        assert!(matches!(ended, Err(StoreError::Full(_))), "{ended:?}");
        block_on(commit_and_wait(&engine, making(&format!("app {round}")))).expect("durable");
    }
    assert!(matches!(*engine.health().borrow(), Health::Writing));
    files.no_new_files.store(false, Ordering::SeqCst);
    assert_eq!(engine.shared().unwrap().end_segment().unwrap(), 2);
    block_on(commit_and_wait(&engine, making("in the next"))).expect("durable");
}

#[test]
fn a_panic_in_the_middle_of_a_change_is_a_failure_and_nothing_of_the_change_gets_to_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let engine = super::open(directory.path()).unwrap();
    block_on(commit_and_wait(&engine, making("before"))).expect("durable");
    let half_done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.shared().unwrap().core().change(|state| {
            state.ensure_app("half done");
            panic!("on purpose");
        })
    }));
    assert!(half_done.is_err());
    let next = block_on(commit_and_wait(&engine, making("after")));
    assert!(matches!(next, Err(StoreError::Io(_))), "{next:?}");
    assert!(matches!(*engine.health().borrow(), Health::Failed(_)));
    drop(engine);
    let engine = super::open(directory.path()).unwrap();
    let apps: Vec<String> = block_on(engine.list_apps()).unwrap().into_iter().map(|app| app.name).collect();
    assert_eq!(apps, ["before"]);
}

#[test]
fn after_a_failure_devices_at_rest_log_in_read_and_confirm_and_nothing_new_is_taken() {
    let Failed { world, files, .. } = failed();
    files.fail(false);
    let syncs = files.syncs();
    let known = commit(&world, Operation::Attach(world.open_login("dave", "phone")));
    let Ok(Outcome::Attached(dave)) = known else { panic!("{known:?}") };
    assert_eq!((dave.head, dave.cursor), (Position(1), Position(0)));
    assert_eq!(read(&world, dave.user.0, 1).unwrap(), 1);
    let (app, user, device) = (AppId(1), dave.user, dave.device);
    let received = Operation::Received(Received { app, user, device, position: Position(1), now: 2_000 });
    let answer = commit(&world, received);
    assert!(matches!(answer, Ok(Outcome::Received(Position(0)))), "it is not kept: {answer:?}");
    let carol = commit(&world, Operation::Attach(world.open_login("carol", "phone")));
    let Ok(Outcome::Attached(carol)) = carol else { panic!("{carol:?}") };
    let again = commit(&world, Operation::Send(world.sending(&carol, 1, "dave", "at rest")));
    assert!(matches!(again, Ok(Outcome::Answer(Answer::Ack { .. }))), "{again:?}");
    for refused in [
        Operation::Send(world.sending(&carol, 2, "dave", "new")),
        Operation::Attach(world.open_login("carol", "another device")),
        Operation::Attach(world.open_login("erin", "phone")),
        Operation::EnsureApp("dev".into()),
    ] {
        let answer = commit(&world, refused);
        assert!(matches!(answer, Err(StoreError::Io(_))), "{answer:?}");
    }
    assert_eq!(files.syncs(), syncs, "and nothing is written");
}

#[test]
fn after_a_failure_nothing_is_told_that_may_be_gone_after_a_restart() {
    let Failed { world, .. } = failed();
    for user in ["alice", "bob"] {
        let answer = commit(&world, Operation::Attach(world.open_login(user, "phone")));
        assert!(matches!(answer, Err(StoreError::Io(_))), "{user}: {answer:?}");
    }
    assert!(matches!(read(&world, 3, 2), Err(StoreError::Io(_))), "bob's inbox has what was lost");
}

#[test]
fn closing_does_not_wait_until_a_segment_is_in_sled() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = Arc::new(Engine::open_with(&config(directory.path()), Arc::<TestFiles>::clone(&files)).unwrap());
    let apps: Vec<_> = (0..3_000).map(|app| Operation::EnsureApp(format!("app number {app}"))).collect();
    block_on(commit_and_wait(&*engine, apps)).expect("durable");
    // The segment has ended and waits for space; then its spill waits for a group that is being synced.
    files.full.store(true, Ordering::SeqCst);
    assert!(matches!(engine.verify(&mut |_| {}), Err(StoreError::Full(_))));
    files.hold();
    let (done, last) = reporting();
    block_on(engine.commit(making("the last"), done));
    files.full.store(false, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(700));
    let (closed, wait) = channel();
    let closing = Arc::clone(&engine);
    thread::spawn(move || closed.send(block_on(closing.close())).unwrap());
    thread::sleep(Duration::from_millis(100));
    files.release();
    wait.recv_timeout(PATIENCE).expect("it closes").unwrap();
    last.recv().unwrap().expect("what was taken is finished");
    drop(engine);
    assert_eq!(spilled(directory.path()), 0, "the whole segment was moved before the store closed");
    let again = super::open(directory.path()).expect("opens");
    assert_eq!(block_on(again.list_apps()).unwrap().len(), 3_001);
}

/// The newest segment that is in sled.
fn spilled(directory: &Path) -> u64 {
    let row = rows_in_sled(directory).get(keys::spilled()).unwrap();
    row.map_or(0, |row| unseal::<Number>(&keys::spilled(), Bytes::copy_from_slice(&row)).unwrap().0)
}
