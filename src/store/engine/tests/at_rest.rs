//! Users who are in sled alone: what brings them into memory, and what does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::keys;
use super::{Engine, EngineConfig, TestFiles, block_on, in_memory, making, rows_in_sled};
use crate::ids::{AppId, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{Operation, Outcome, Store, Sweep, commit_and_wait};

const USERS: u64 = 300;

/// Some dozens fit into memory.
fn small(path: &Path) -> EngineConfig {
    EngineConfig { cache_bytes: 64 << 10, ..tiny(path) }
}

/// A store that has moved all to sled, with some of the last users in memory: alice has written to bob long ago, carol's
/// phone is silent since, and the others were there a moment ago.
fn at_rest() -> (tempfile::TempDir, Arc<Engine>, World) {
    let directory = in_memory();
    let (engine, mut world) = open(&small(directory.path()));
    let alice = world.attach("alice", "phone");
    world.attach("bob", "phone");
    world.attach("carol", "phone");
    world.acked(&alice, 1, "bob", "old");
    world.now = 5_000;
    world.acked(&alice, 2, "bob", "new");
    for name in ["alice", "bob"] {
        world.attach(name, "phone");
    }
    for user in 4..=USERS {
        world.attach(&format!("user {user}"), "phone");
    }
    drop(engine.checkpoint().unwrap());
    let in_memory = users_in_memory(&engine);
    assert!(in_memory.first().is_none_or(|first| *first > UserId(USERS / 2)), "{in_memory:?}");
    (directory, engine, world)
}

fn open(config: &EngineConfig) -> (Arc<Engine>, World) {
    let engine = Arc::new(Engine::open(config).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    (engine, world)
}

fn users_in_memory(engine: &Engine) -> Vec<UserId> {
    engine.shared().unwrap().core().state.users_in_memory()
}

/// Sweeps the first of all: how many devices and entries expired.
fn sweep(world: &World, before: u64) -> (u64, u64) {
    let sweep = Sweep { app: world.app, after: UserId(0), limit: 100, before, connected: Arc::default() };
    match world.outcome(Operation::Sweep(sweep)) {
        Outcome::Swept { next: Some(UserId(100)), devices, entries } => (devices, entries),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sweep_takes_nobody_into_memory_who_has_nothing_to_expire() {
    let (_directory, engine, world) = at_rest();
    let before = users_in_memory(&engine);
    assert_eq!(sweep(&world, 1_000), (0, 0));
    assert_eq!(users_in_memory(&engine), before);
}

#[test]
fn a_sweep_finds_what_is_due_of_users_who_are_in_sled_alone() {
    let (_directory, _engine, world) = at_rest();
    assert_eq!(sweep(&world, 2_000), (1, 1), "carol's phone, and the old message");
    assert_eq!(world.user("bob").map(|bob| bob.entries), Some(1), "the new message");
    assert_eq!(world.user("carol").map(|carol| carol.devices.len()), Some(0));
    assert_eq!(sweep(&world, 2_000), (0, 0));
}

#[test]
fn who_looks_at_many_users_leaves_no_more_in_memory_than_fit() {
    let directory = in_memory();
    let (engine, world) = open(&small(directory.path()));
    let named = |user: u64| Operation::AddUser { app: world.app, name: format!("user {user}") };
    let all: Vec<Operation> = (0..USERS).map(named).collect();
    world.commit(all.clone());
    drop(engine.checkpoint().unwrap());
    let before = users_in_memory(&engine).len();
    // They are there: this looks at each and changes none.
    world.commit(all);
    let after = users_in_memory(&engine).len();
    assert!(after <= before && before < USERS as usize / 2, "{before}, then {after}");
}

#[test]
fn what_may_be_forgotten_stands_in_line_once_however_often_it_is_at_rest() {
    let directory = in_memory();
    let (engine, world) = open(&tiny(directory.path()));
    let alice = world.attach("alice", "phone");
    world.attach("bob", "phone");
    let mut in_line = Vec::new();
    for id in 1..=150 {
        world.acked(&alice, id, "bob", "hi");
        // A user who goes leaves nobody in line.
        world.commit(vec![Operation::AddUser { app: world.app, name: "guest".into() }]);
        drop(engine.checkpoint().unwrap());
        world.outcome(Operation::RemoveUser { app: world.app, name: "guest".into() });
        drop(engine.checkpoint().unwrap());
        in_line.push(engine.shared().unwrap().core().state.may_be_forgotten());
    }
    assert!(in_line.iter().all(|count| *count < 80), "{in_line:?}");
}

#[test]
fn while_the_disk_is_full_no_more_users_are_kept_in_memory_than_fit() {
    let directory = in_memory();
    let files = Arc::new(TestFiles::default());
    let engine = Arc::new(Engine::open_with(&small(directory.path()), Arc::<TestFiles>::clone(&files)).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    for user in 0..USERS {
        world.attach(&format!("user {user}"), "phone");
    }
    drop(engine.checkpoint().unwrap());
    let before = users_in_memory(&engine).len();
    files.full.store(true, Ordering::SeqCst);
    while block_on(commit_and_wait(&*engine, making(&format!("app {}", files.syncs())))).is_ok() {}
    for user in 0..USERS {
        let login = Operation::Attach(world.open_login(&format!("user {user}"), "phone"));
        block_on(commit_and_wait(&*engine, vec![login])).expect("logins go on");
    }
    let after = users_in_memory(&engine).len();
    assert!(after <= before + 64 && before < USERS as usize / 2, "{before}, then {after}");
    for user in 0..USERS {
        world.user(&format!("user {user}")).expect("and so do looks");
    }
    let after = users_in_memory(&engine).len();
    assert!(after <= before + 64, "{before}, then {after}");
}

#[test]
fn whoever_has_an_empty_inbox_is_let_in_without_a_search_for_entries() {
    let directory = in_memory();
    let (engine, world) = open(&tiny(directory.path()));
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "taken");
    world.received(&bob, 1);
    for app in 0..150 {
        world.app_named(&format!("another app, number {app}, so that the journal has forgotten both"));
    }
    drop(world);
    block_on(engine.close()).unwrap();
    // A row that cannot be read says whether somebody tried.
    let rows = rows_in_sled(directory.path());
    for user in [alice.user, bob.user] {
        rows.insert(keys::end(AppId(1), user), b"not a row").unwrap();
    }
    rows.flush().unwrap();
    drop(rows);
    let (_engine, world) = open(&tiny(directory.path()));
    let back = world.attach("bob", "phone");
    assert_eq!((back.user, back.cursor.0, back.head.0), (bob.user, 1, 1));
    assert!(world.inbox(&back).is_empty());
}
