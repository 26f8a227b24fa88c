//! Rows that sled has lost without a word: an inbox is never served shorter than it was.

use std::path::Path;
use std::sync::Arc;

use super::super::keys;
use super::{Engine, block_on, copy, in_memory, rows_in_sled};
use crate::ids::{AppId, Position, UserId};
use crate::store::conformance::world::{World, tiny};
use crate::store::{ReadLimit, Store, StoreError};

const BOB: (AppId, UserId) = (AppId(1), UserId(2));
const MESSAGES: u64 = 120;

/// Messages for bob, who has confirmed some; all but the last are in sled, in several rows.
fn inbox(confirmed: u64) -> tempfile::TempDir {
    let directory = in_memory();
    let world = World::around(Arc::new(Engine::open(&tiny(directory.path())).unwrap()));
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 1..=MESSAGES {
        world.acked(&alice, id, "bob", &format!("message {id} {}", "x".repeat(200)));
    }
    world.received(&bob, confirmed);
    for app in 0..150 {
        world.app_named(&format!("another app, number {app}, so that bob's segments are in sled"));
    }
    directory
}

fn chunks(rows: &sled::Tree) -> Vec<sled::IVec> {
    rows.scan_prefix(keys::chunks_of_user(BOB.0, BOB.1)).keys().map(Result::unwrap).collect()
}

/// A copy of a store without some rows.
fn without(store: &Path, lost: &[sled::IVec]) -> (tempfile::TempDir, Engine) {
    let directory = in_memory();
    copy(store, directory.path());
    let rows = rows_in_sled(directory.path());
    for key in lost {
        assert!(rows.remove(key).unwrap().is_some());
    }
    rows.flush().unwrap();
    drop(rows);
    let engine = Engine::open(&tiny(directory.path())).unwrap();
    (directory, engine)
}

/// Bob's whole inbox, a page after the other.
fn read(engine: &Engine, page: usize) -> Result<usize, StoreError> {
    let user = block_on(engine.find_user(BOB.0, "bob"))?.expect("bob");
    let limit = ReadLimit { entries: page, bytes: usize::MAX };
    let (mut after, mut found) = (Position(0), 0);
    loop {
        let page = block_on(engine.read_inbox(BOB.0, BOB.1, after, user.head, limit))?;
        found += page.entries.len();
        match page.entries.last() {
            Some(last) if !page.complete => after = last.position,
            _ => return Ok(found),
        }
    }
}

#[test]
fn an_inbox_that_lacks_any_of_its_rows_is_reported_and_never_served_as_shorter() {
    for confirmed in [0, 50] {
        let store = inbox(confirmed);
        let all = chunks(&rows_in_sled(store.path()));
        assert!(all.len() > 5, "{} rows", all.len());
        let (_whole, engine) = without(store.path(), &[]);
        assert_eq!(read(&engine, 7).unwrap() as u64, MESSAGES - confirmed);
        assert_eq!(engine.verify(&mut |_| {}).unwrap().problems, Vec::<String>::new());
        let ranges = (0..all.len()).map(|first| &all[first..=first]).chain((1..all.len()).map(|first| &all[first..]));
        for lost in ranges.chain([&all[..]]) {
            let (_directory, engine) = without(store.path(), lost);
            for page in [7, usize::MAX] {
                let found = read(&engine, page);
                assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?} without {lost:?} in pages of {page}");
            }
            assert_ne!(engine.verify(&mut |_| {}).unwrap().problem_count, 0, "without {lost:?}");
        }
    }
}

#[test]
fn a_last_row_that_is_lost_with_what_says_where_the_inbox_ends_is_missed_by_who_reads_all_of_it() {
    let store = inbox(0);
    let tree = rows_in_sled(store.path());
    let lost = [chunks(&tree).pop().unwrap(), keys::end(BOB.0, BOB.1).into()];
    drop(tree);
    let (_directory, engine) = without(store.path(), &lost);
    assert!(matches!(read(&engine, usize::MAX), Err(StoreError::Corrupt(_))));
    assert_ne!(engine.verify(&mut |_| {}).unwrap().problem_count, 0);
}
