//! Whatever is done to the files of a store at rest: it does not open, or has what it had; and what is saved of it was there, and
//! fits together.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use postrider_protocol::wire;
use prost::Message as _;

use super::super::super::tools::{self, Salvaged};
use super::super::crashes::dice;
use super::super::faulty::{FaultyFiles, Unsynced};
use super::super::flips::{at_rest, files, holds};
use super::super::{Engine, block_on, cases, copy, in_memory, in_parallel};
use super::{World, tiny};
use crate::ids::{AppId, Position, UserId};
use crate::store::conformance::histories::History;
use crate::store::conformance::world::EVERYTHING;
use crate::store::{Item, Publication, Store, commit_and_wait};

/// A message where it lies.
type Message = (AppId, UserId, Position, Bytes);

fn message(published: &Publication) -> Option<Message> {
    let Publication { app, user, entry, .. } = published;
    if let Item::Message(encoded) = &entry.item { Some((*app, *user, entry.position, encoded.clone())) } else { None }
}

fn messages(store: &dyn Store) -> BTreeSet<Message> {
    let mut messages = BTreeSet::new();
    for app in block_on(store.list_apps()).unwrap() {
        for user in block_on(store.list_users(app.id, "", usize::MAX)).unwrap() {
            let page = block_on(store.read_inbox(app.id, user.id, Position(0), user.head, EVERYTHING)).unwrap();
            for entry in page.entries {
                if let Item::Message(encoded) = entry.item {
                    messages.insert((app.id, user.id, entry.position, encoded));
                }
            }
        }
    }
    messages
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flipped,
    /// A page of zeros.
    Hole,
    /// Zeros from here on.
    Ends,
    Truncated,
    Removed,
}

const DAMAGES: [Damage; 5] = [Damage::Flipped, Damage::Hole, Damage::Ends, Damage::Truncated, Damage::Removed];

impl Damage {
    fn wreck(self, path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Damage::Flipped => bytes[at] ^= 1 << (at % 8),
            Damage::Hole => bytes.iter_mut().skip(at).take(4096).for_each(|byte| *byte = 0),
            Damage::Ends => bytes[at..].fill(0),
            Damage::Truncated => bytes.truncate(at),
            Damage::Removed => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// What was saved.
struct Saved {
    salvaged: Salvaged,
    held: String,
}

impl Saved {
    fn tells_what_is_lost(&self, held: &str) -> Result<(), String> {
        if self.salvaged.is_whole() && self.held != held {
            return Err("something is lost, and nothing is said to be".into());
        }
        Ok(())
    }
}

/// Damages up to three files of a store; half of them are of its journal.
fn wreck(store: &Path, number: usize) -> Vec<String> {
    let mut dice = dice(number as u64 + 1).map(|number| (number >> 16) as usize);
    let mut die = || dice.next().unwrap_or(0);
    let is_segment = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "segment");
    let (journal, others): (Vec<_>, Vec<_>) = files(store).into_iter().partition(is_segment);
    let mut done = Vec::new();
    for _ in 0..=number % 3 {
        let files = if die() % 2 == 0 { &journal } else { &others };
        let file = &files[die() % files.len()];
        let length = fs::metadata(file).map_or(0, |found| found.len() as usize);
        if length > 0 {
            let (damage, at) = (DAMAGES[die() % DAMAGES.len()], die() % length);
            damage.wreck(file, at);
            done.push(format!("{damage:?} at byte {at} of {}", file.strip_prefix(store).unwrap().display()));
        }
    }
    done
}

/// Saves what is left, and says what is wrong with that. `ever`: what was there at any time.
fn look(from: &Path, to: &Path, ever: &BTreeSet<Message>) -> Result<Saved, String> {
    let salvaged = tools::salvage(from, to, 7, &mut |_| {}).map_err(|error| error.to_string())?;
    if let Some(problem) = salvaged.found.problems.first() {
        return Err(format!("it does not fit together: {problem}"));
    }
    let engine = Arc::new(Engine::open(&tiny(to)).map_err(|error| error.to_string())?);
    let (now, held) = (messages(&*engine), holds(&*engine).unwrap());
    if let Some(made_up) = now.difference(ever).next() {
        return Err(format!("this was never there: {made_up:?}"));
    }
    let world = World::around(engine);
    for [from, to] in [["alice", "bob"], ["bob", "alice"], ["writer", "reader"], ["frank", "grace"]] {
        let (from, _) = (world.attach(from, "phone"), world.attach(to, "phone"));
        let (conversation, seq) = world.acked(&from, from.highest_send_id.0 + 1, to, "it goes on");
        let of_this = |message: &wire::Message| message.conversation == conversation && message.seq >= seq;
        let decoded = now.iter().filter(|(app, ..)| *app == world.app);
        let mut decoded = decoded.map(|(.., encoded)| wire::Message::decode(encoded.clone()).unwrap());
        if decoded.any(|message| of_this(&message)) {
            return Err(format!("number {seq} of conversation {conversation} is given again"));
        }
    }
    Ok(Saved { salvaged, held })
}

/// Opens what is left: without everything that was there, it must not.
fn open(path: &Path, held: &str) -> Result<(), String> {
    let opened = catch_unwind(|| {
        let engine = Engine::open(&tiny(path)).ok()?;
        // Some damage to sled's pages is found when they are read.
        holds(&engine).ok()
    });
    match opened {
        Ok(Some(now)) if now != held => Err(format!("it opens, and holds\n{now}")),
        // sled panics over some damage.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[test]
fn whatever_is_damaged_it_does_not_open_with_less_and_what_is_saved_was_there_and_fits_together() {
    let (store, held) = at_rest();
    let before = messages(&Engine::open(&tiny(store.path())).unwrap());
    in_parallel(cases(300), |number| {
        let directory = in_memory();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        copy(store.path(), &from);
        let done = wreck(&from, number);
        let looked = look(&from, &to, &before).and_then(|saved| {
            saved.tells_what_is_lost(&held)?;
            open(&from, &held)
        });
        if let Err(wrong) = looked {
            panic!("{done:?}: {wrong}");
        }
    });
}

#[test]
fn what_is_saved_after_a_crash_and_damage_was_there_and_fits_together() {
    let history = History::new(31, 200);
    let published = history.committed.iter().flat_map(|committed| &committed.published);
    let ever: BTreeSet<Message> = published.filter_map(message).collect();
    let running = in_memory();
    let files = FaultyFiles::new(running.path());
    files.record();
    let engine = Engine::open_with(&tiny(running.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
    for batch in history.batches {
        block_on(commit_and_wait(&engine, batch)).unwrap();
        files.answered.fetch_add(1, Ordering::SeqCst);
    }
    drop(engine);
    // Before there is a store, there is nothing to save.
    let mut images = files.images();
    images.retain(|image| image.answered > 0);
    in_parallel(cases(200), |number| {
        let directory = in_memory();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let image = &images[number * 7919 % images.len()];
        fs::create_dir(&from).unwrap();
        image.restore(&from, Unsynced::Torn(number as u64));
        let done = wreck(&from, number);
        if let Err(wrong) = look(&from, &to, &ever) {
            panic!("{}, {done:?}: {wrong}", image.moment);
        }
    });
}
