//! Durable, then answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use futures_util::FutureExt;

use super::super::files::{Files, SystemFiles};
use super::{Engine, EngineConfig, TestFiles, block_on, config, copy, making, open, open_with, reporting};
use crate::store::conformance::world::World;
use crate::store::{Completion, Operation, Outcome, Store, StoreError, commit_and_wait};

/// Long enough that a store which does not wait would have answered.
const A_MOMENT: Duration = Duration::from_millis(100);

#[test]
fn no_answer_comes_before_the_sync() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    let before = files.syncs();
    files.hold();
    let (done, result) = reporting();
    block_on(engine.commit(making("app"), done));
    assert!(result.recv_timeout(A_MOMENT).is_err(), "answered without a sync");
    files.release();
    assert!(result.recv().unwrap().is_ok());
    assert_eq!(files.syncs(), before + 1);
}

#[test]
fn groups_go_past_the_systems_cache_where_the_file_system_can_and_through_it_elsewhere() {
    for segment_bytes in [1 << 20, 1024] {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(TestFiles::default());
        let config = EngineConfig { segment_bytes, ..config(directory.path()) };
        let engine = Engine::open_with(&config, Arc::<TestFiles>::clone(&files)).unwrap();
        let written = || [&files.writes, &files.direct_writes].map(|writes| writes.load(Ordering::SeqCst));
        let [before, direct_before] = written();
        block_on(commit_and_wait(&engine, making("app"))).unwrap();
        let [after, direct_after] = written();
        assert_eq!(after - before, 1, "one write a group");
        // Segments that are no whole blocks are for tests alone.
        let can = segment_bytes > 4096 && SystemFiles.open_direct(&directory.path().join("journal/0.segment")).is_ok();
        assert_eq!(direct_after - direct_before, usize::from(can));
    }
}

#[test]
fn batches_that_wait_for_a_sync_share_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    let before = files.syncs();
    files.hold();
    let results: Vec<_> = (0..20)
        .map(|app| {
            let (done, result) = reporting();
            block_on(engine.commit(making(&format!("app {app}")), done));
            // The first must be on its way before the others come.
            assert!(app > 0 || result.recv_timeout(A_MOMENT).is_err());
            result
        })
        .collect();
    files.release();
    for result in results {
        result.recv().unwrap().expect("durable");
    }
    assert_eq!(files.syncs(), before + 2);
}

#[test]
fn an_answer_that_changes_nothing_needs_no_sync() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    let first = block_on(commit_and_wait(&engine, making("app"))).unwrap();
    let before = files.syncs();
    assert_eq!(block_on(commit_and_wait(&engine, making("app"))).unwrap(), first);
    assert_eq!(files.syncs(), before);
}

#[test]
fn after_a_failed_sync_nothing_is_acked_and_nothing_more_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    let engine = open_with(directory.path(), &files);
    block_on(commit_and_wait(&engine, making("before"))).expect("a good disk");
    files.fail(true);
    assert!(matches!(block_on(commit_and_wait(&engine, making("lost"))), Err(StoreError::Io(_))));
    files.fail(false);
    let syncs = files.syncs();
    for app in ["before", "lost", "after"] {
        let refused = block_on(commit_and_wait(&engine, making(app)));
        assert!(matches!(refused, Err(StoreError::Io(_))), "the disk's recovery does not make it good");
    }
    assert_eq!(files.syncs(), syncs, "nothing is tried again");
    drop(engine);
    let engine = open(directory.path()).expect("a restart helps");
    let committed = block_on(commit_and_wait(&engine, making("before"))).unwrap();
    assert_eq!(committed.outcomes[..], [Outcome::App(crate::ids::AppId(1))]);
}

#[test]
fn what_was_acked_is_in_a_copy_of_the_files_taken_at_that_moment() {
    let directory = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let world = World::around(Arc::new(open(directory.path()).unwrap()));
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    for id in 1..=12 {
        let sends = (1..=20).map(|n| Operation::Send(world.sending(&alice, (id - 1) * 20 + n, "bob", "hi"))).collect();
        let (copied, wait) = channel();
        let (from, to) = (directory.path().to_owned(), copies.path().join(id.to_string()));
        let done = Completion::once(move |committed: Result<_, StoreError>| {
            copy(&from, &to);
            copied.send(committed.is_ok()).unwrap();
        });
        block_on(world.store.commit(sends, done));
        assert!(wait.recv().unwrap());
    }
    for id in 1..=12usize {
        let after_crash = World::around(Arc::new(open(&copies.path().join(id.to_string())).expect("opens")));
        assert_eq!(after_crash.inbox(&bob).len(), id * 20);
        assert_eq!(after_crash.attach("alice", "phone").highest_send_id.0, id as u64 * 20);
    }
}

#[test]
fn completions_come_in_the_order_of_commits() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let (told, order) = channel();
    for number in 0..500 {
        let told = told.clone();
        // Some change something and some do not.
        let batch = making(&format!("app {}", number / 3));
        block_on(engine.commit(batch, Completion::once(move |_| told.send(number).unwrap())));
    }
    drop(told);
    assert_eq!(order.iter().collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_makes_commit_wait_and_a_caller_who_leaves_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(TestFiles::default());
    // Room for one operation.
    let small = EngineConfig { queue_bytes: 300, ..config(directory.path()) };
    let engine = Engine::open_with(&small, Arc::<TestFiles>::clone(&files)).unwrap();
    files.hold();
    let (done, first) = reporting();
    assert!(engine.commit(making("first"), done).now_or_never().is_some(), "there is room");
    let (done, second) = reporting();
    let mut waiting = engine.commit(making("second"), done);
    assert!((&mut waiting).now_or_never().is_none(), "there is none");
    let (done, third) = reporting();
    drop(engine.commit(making("third"), done));
    assert!(matches!(third.try_recv(), Ok(Err(StoreError::Closed))), "done is always called");
    assert!(matches!(second.try_recv(), Err(TryRecvError::Empty)));
    files.release();
    block_on(waiting);
    assert!(first.recv().unwrap().is_ok());
    assert!(second.recv().unwrap().is_ok());
}

#[test]
fn closing_finishes_what_was_taken() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let results: Vec<_> = (0..50)
        .map(|app| {
            let (done, result) = reporting();
            block_on(engine.commit(making(&format!("app {app}")), done));
            result
        })
        .collect();
    block_on(engine.close()).unwrap();
    for result in results {
        assert!(matches!(result.try_recv(), Ok(Ok(_))), "answered before close returned");
    }
    assert_eq!(block_on(open(directory.path()).unwrap().list_apps()).unwrap().len(), 50);
}

#[test]
fn a_panic_on_the_stores_thread_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let (go, wait) = channel();
    let (started, is_running) = channel();
    let panicking = Completion::once(move |_| {
        started.send(()).unwrap();
        wait.recv().unwrap();
        panic!("on purpose");
    });
    block_on(engine.commit(making("first"), panicking));
    is_running.recv().unwrap();
    let (done, second) = reporting();
    block_on(engine.commit(making("second"), done));
    go.send(()).unwrap();
    assert!(matches!(second.recv_timeout(Duration::from_secs(10)), Ok(Err(StoreError::Closed))));
    assert!(matches!(block_on(commit_and_wait(&engine, making("third"))), Err(StoreError::Closed)));
    block_on(engine.close()).expect("its files close all the same");
}
