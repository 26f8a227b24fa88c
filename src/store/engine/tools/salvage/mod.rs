//! Saves what is sound of a damaged store into a new one, and says exactly what is not there.
//!
//! Rows of sled whose checksum holds are taken, then the journal's sound groups are replayed over them, oldest first, but
//! where sled has what is later. What is left is made to fit together again: counts, heads, newest receipts, names. Nothing
//! is invented: what must be there and is lost becomes what claims least, such as a watermark of 0. Senders are told that
//! what is lost has expired: no later receipt may speak for it. What cannot be known is what the end of the journal had: where
//! sled has none of it, the store is as it was before that, and gives the same numbers again. That an end is lost is told, unless
//! it went without a trace after a crash.
//!
//! # Layout
//! - this file: the way, and the report
//! - `rows`: what is sound in sled's files; `later`: what they have that a journal is too short for
//! - `repair`: apps, users and conversations that fit together
//! - `inbox`: one user's
//! - `expired`: what is lost, told to senders

mod expired;
mod inbox;
mod later;
mod repair;
mod rows;

use std::collections::BTreeSet;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::staging::Staging;
use super::{ToolError, config, in_short, must_hold_a_store};
use crate::store::StoreError;
use crate::store::engine::directory::Directory;
use crate::store::engine::disk::Disk;
use crate::store::engine::files::SystemFiles;
use crate::store::engine::journal::{Found, Journal, Needed, sound_groups};
use crate::store::engine::state::{Changes, State};
use crate::store::engine::{Engine, Verified, keys, spill};

/// Losses and problems that are kept in words; further ones are only counted.
const KEPT: usize = 10_000;

/// What was saved, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// What the new store holds.
    pub found: Verified,
    /// What is wrong with the files of the damaged one: the first 10,000, in words.
    pub damage: Vec<String>,
    /// How much is wrong with them.
    pub damage_count: u64,
    /// What is not there any more: the first 10,000.
    pub losses: Vec<Loss>,
    /// How much is not there.
    pub loss_count: u64,
}

/// Something that was in the damaged store and is not in the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The app's name.
    pub app: String,
    /// The user's name, where it is a user's.
    pub user: Option<String>,
    /// The conversation's number, where it is a conversation's.
    pub conversation: Option<u64>,
    /// What, for a person.
    pub what: String,
    /// Messages of the user's inbox that are lost.
    pub messages: u64,
    /// Where in the user's inbox what is lost was: from and to, both of them included. Not all positions between them were
    /// in use.
    pub positions: Vec<(u64, u64)>,
    /// By conversation, which of its messages are not in the user's inbox, were not delivered, and are not known to be the
    /// user's own: from and to, both of them included. What is lost is among them, and so is what has expired.
    pub conversations: Vec<(u64, Vec<(u64, u64)>)>,
}

impl Salvaged {
    fn damaged(&mut self, what: String) {
        self.damage_count += 1;
        if self.damage.len() < KEPT {
            self.damage.push(what);
        }
    }

    fn lost(&mut self, loss: Loss) {
        self.loss_count += 1;
        if self.losses.len() < KEPT {
            self.losses.push(loss);
        }
    }

    /// Whether everything is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damage_count == 0 && self.loss_count == 0 && self.found.problem_count == 0
    }
}

/// Makes a store at `to`, which does not exist, of what is sound in the one at `from`, which nobody uses and which is not
/// changed. Takes free space for two copies of it. `salt`: random bytes. `progress` is told the rows looked at, now and then.
///
/// # Errors
/// [`ToolError`]; nothing is there then.
pub fn salvage(from: &Path, to: &Path, salt: u64, progress: &mut dyn FnMut(u64)) -> Result<Salvaged, ToolError> {
    must_hold_a_store(from)?;
    let files = Arc::new(SystemFiles);
    let staging = Staging::begin(&*files, from, to)?;
    let mut salvaged = Salvaged::default();
    let _lock = rows::lock(from)?;
    let directory = Directory::open(&*files, staging.path())?;
    let spilled = rows::save(from, staging.path(), &directory, &mut salvaged, progress)?;

    let config = config(from, salt)?;
    let disk = Arc::new(Disk::open(files.clone(), directory, config.cache_bytes / 2)?);
    let damage = salvaged.damage_count;
    replay(&disk, &from.join("journal"), spilled, &mut salvaged)?;
    repair::repair(&disk, salvaged.damage_count == damage, &mut salvaged)?;
    for of_the_old_journal in [keys::spilled(), keys::reach()] {
        disk.write(&of_the_old_journal, None)?;
    }
    disk.sync()?;
    let disk = Arc::into_inner(disk).ok_or(StoreError::Closed)?;
    let directory = disk.close()?;
    Journal::create(&*files, &directory.journal(), &config.journal())?;
    drop(directory);
    staging.take_along(from)?;

    let engine = Engine::open(&super::EngineConfig { path: staging.path().to_owned(), ..config })?;
    salvaged.found = engine.verify(progress)?;
    drop(engine);
    staging.finish()?;
    Ok(salvaged)
}

/// Brings what the journal has to the rows.
fn replay(disk: &Arc<Disk>, journal: &Path, sled: rows::Sled, salvaged: &mut Salvaged) -> Result<(), ToolError> {
    let mut state = State::open(disk, 64 << 20)?;
    let needed = match sled {
        rows::Sled::Opened { spilled: Some(spilled) } => Needed::After(spilled),
        // As a new store; if segments are missing that were before those there are, sled's files had more.
        rows::Sled::Opened { spilled: None } => Needed::After(0),
        rows::Sled::OfUnknownSegments => Needed::ByTheNewestHead,
        rows::Sled::Lost => Needed::All,
    };
    let mut segment = 0;
    let mut lacking = BTreeSet::new();
    let mut visit = |found: Found<'_>| {
        match found {
            Found::Segment(number) => {
                segment = number;
                state.begin_segment(number);
            }
            Found::Group(group) => match state.replay(Changes::read(group)) {
                Ok(Some(users)) => {
                    for (app, user) in users.into_iter().filter(|user| lacking.insert(*user)) {
                        salvaged.damaged(format!(
                            "segment {segment}: user {user} of app {app} goes on from a record that is lost"
                        ));
                    }
                }
                Ok(None) => salvaged.damaged(format!("a record of the journal's segment {segment} makes no sense")),
                Err(StoreError::Corrupt(what)) => salvaged.damaged(what),
                Err(error) => return Err(error),
            },
            Found::EndOfSegment(number) => {
                let ended = state.end_segment();
                for &changed in &ended.changed {
                    let mut spill = state.spill(changed, number, ended.last_group);
                    let written = mem::take(&mut spill.written);
                    later::keep(disk, &mut spill)?;
                    spill::write(disk, spill)?;
                    state.spilled(changed, written, number, ended.last_group);
                }
                state.evict();
            }
            Found::Damage(what) => salvaged.damaged(what),
        }
        Ok(())
    };
    let done = sound_groups(&SystemFiles, journal, needed, disk.reach()?, &mut visit);
    if let Err(error) = done {
        salvaged.damaged(format!("the journal cannot be read: {}", in_short(error)));
    }
    Ok(())
}
