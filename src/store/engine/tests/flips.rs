//! One bit of a store at rest is another: whatever file it is in, that is reported, or it changes nothing. Never is another
//! text served, nor a history that is shorter than it was.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Engine, block_on, cases, copy, in_memory, in_parallel};
use crate::ids::Position;
use crate::store::conformance::histories::History;
use crate::store::conformance::world::{EVERYTHING, World, tiny};
use crate::store::{Operation, Store, StoreError, commit_and_wait};

/// Messages in each of two rounds: enough for several of sled's own segments.
const MESSAGES: u64 = 700;

/// A store with something in every kind of file, closed in good order; and what it holds.
pub fn at_rest() -> (tempfile::TempDir, String) {
    let directory = in_memory();
    for round in 0..2 {
        let engine = Arc::new(Engine::open(&tiny(directory.path())).unwrap());
        if round == 0 {
            for batch in History::new(11, 160).batches {
                block_on(commit_and_wait(&*engine, batch)).unwrap();
            }
        }
        let world = World::around(Arc::<Engine>::clone(&engine));
        let writer = world.attach("writer", "phone");
        world.attach("reader", "phone");
        for id in 1..=MESSAGES {
            let text = format!("message {id} of {round} {}", "and more ".repeat(if id % 20 == 0 { 900 } else { 40 }));
            let send = world.sending(&writer, writer.highest_send_id.0 + id, "reader", &text);
            world.commit(vec![Operation::Send(send)]);
        }
        drop(world);
        block_on(engine.close()).unwrap();
    }
    let held = holds(&Engine::open(&tiny(directory.path())).unwrap()).unwrap();
    (directory, held)
}

/// All that can be read of a store.
pub fn holds(store: &dyn Store) -> Result<String, StoreError> {
    let mut text = String::new();
    for app in block_on(store.list_apps())? {
        write!(text, "{app:?}").expect("a string takes everything");
        for user in block_on(store.list_users(app.id, "", usize::MAX))? {
            let page = block_on(store.read_inbox(app.id, user.id, Position(0), user.head, EVERYTHING))?;
            write!(text, "\n{user:?}\n{page:?}").expect("a string takes everything");
        }
    }
    Ok(text)
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[derive(Default, Debug)]
struct Found {
    refused: usize,
    reading_failed: usize,
    verify_tells: usize,
    harmless: usize,
    panics: Vec<String>,
    wrong: Vec<String>,
}

/// Opens a store with a flipped bit and looks at all of it.
fn look(directory: &Path, held: &str, what: &str, found: &Mutex<Found>) {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let Ok(engine) = Engine::open(&tiny(directory)) else {
            found.lock().unwrap().refused += 1;
            return;
        };
        let now = holds(&engine);
        let verified = engine.verify(&mut |_| {});
        let mut found = found.lock().unwrap();
        match (now, verified) {
            (Err(_), _) => found.reading_failed += 1,
            (Ok(now), _) if now != held => found.wrong.push(format!("{what}: it holds\n{now}")),
            (Ok(_), Ok(verified)) if verified.problems.is_empty() => found.harmless += 1,
            (Ok(_), _) => found.verify_tells += 1,
        }
    }));
    if looked.is_err() {
        found.lock().unwrap().panics.push(what.to_owned());
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_reported_or_changes_nothing() {
    let (store, held) = at_rest();
    for file in files(store.path()) {
        let name = file.strip_prefix(store.path()).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0 || at % 1024 == 0).collect();
        let looks = used.len().min(cases(40));
        let found = Mutex::default();
        in_parallel(looks, |number| {
            let at = used[number * used.len() / looks];
            let directory = in_memory();
            copy(store.path(), directory.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (number % 8);
            fs::write(directory.path().join(&name), flipped).unwrap();
            look(directory.path(), &held, &format!("bit {} of byte {at} of {}", number % 8, name.display()), &found);
        });
        let found: Found = found.into_inner().unwrap();
        println!("{} ({} bytes): {found:?}", name.display(), bytes.len());
        assert!(found.wrong.is_empty(), "{}", found.wrong[0]);
    }
}
