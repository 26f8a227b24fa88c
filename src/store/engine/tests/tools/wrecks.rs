//! Whatever is done to the files of a store at rest: it does not open, or has what it had; and what is saved of it was there, and
//! fits together.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::super::super::tools::{self, Salvaged};
use super::super::crashes::dice;
use super::super::flips::{at_rest, files, holds};
use super::super::{Engine, block_on, cases, copy, in_memory, in_parallel};
use super::{World, tiny};
use crate::ids::{AppId, Position, UserId};
use crate::store::conformance::world::EVERYTHING;
use crate::store::{Item, Store};

/// A message where it lies.
type Message = (AppId, UserId, Position, Bytes);

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

/// Saves what is left, and says what is wrong with that.
fn look(from: &Path, to: &Path, before: &BTreeSet<Message>, held: &str) -> Result<Salvaged, String> {
    let salvaged = tools::salvage(from, to, 7, &mut |_| {}).map_err(|error| error.to_string())?;
    if let Some(problem) = salvaged.found.problems.first() {
        return Err(format!("it does not fit together: {problem}"));
    }
    let engine = Arc::new(Engine::open(&tiny(to)).map_err(|error| error.to_string())?);
    let now = messages(&*engine);
    if let Some(made_up) = now.difference(before).next() {
        return Err(format!("this was never there: {made_up:?}"));
    }
    if salvaged.is_whole() && holds(&*engine).unwrap() != held {
        return Err("something is lost, and nothing is said to be".into());
    }
    if before.len() > now.len() && salvaged.damage_count == 0 && salvaged.loss_count == 0 {
        return Err(format!("{} messages are lost, and it is not told", before.len() - now.len()));
    }
    let world = World::around(engine);
    let (frank, _) = (world.attach("frank", "phone"), world.attach("grace", "phone"));
    world.acked(&frank, 1, "grace", "it goes on");
    Ok(salvaged)
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
    // Those of the journal make up half of what is chosen.
    let (journal, others): (Vec<_>, Vec<_>) = files(store.path()).into_iter().partition(|file| is_segment(file));
    in_parallel(cases(300), |number| {
        let mut dice = dice(number as u64 + 1).map(|number| (number >> 16) as usize);
        let mut die = || dice.next().unwrap_or(0);
        let directory = in_memory();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        copy(store.path(), &from);
        let mut done = Vec::new();
        for _ in 0..=number % 3 {
            let files = if die() % 2 == 0 { &journal } else { &others };
            let name = files[die() % files.len()].strip_prefix(store.path()).unwrap();
            let length = fs::metadata(from.join(name)).map_or(0, |found| found.len() as usize);
            if length > 0 {
                let (damage, at) = (DAMAGES[die() % DAMAGES.len()], die() % length);
                damage.wreck(&from.join(name), at);
                done.push(format!("{damage:?} at byte {at} of {}", name.display()));
            }
        }
        let looked = look(&from, &to, &before, &held).and_then(|_| open(&from, &held));
        if let Err(wrong) = looked {
            panic!("{done:?}: {wrong}");
        }
    });
}

fn is_segment(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "segment")
}
