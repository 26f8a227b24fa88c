//! What the journal holds when the store opens: replayed into the state, or refused with a report.
//!
//! The newest head says which segments are needed: all from its oldest to its own. Every one but the last must be sound
//! up to its end record. In the last, what follows the last whole record is cut, since a crash tears at most the one
//! record that nobody was answered for; a sound record behind an unsound one shows that it was no crash, and so does a
//! journal that ends before where sled knows that it went.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::super::directory::{damaged, failed};
use super::super::disk::Disk;
use super::super::files::Files;
use super::super::progress;
use super::super::state::{Ended, State};
use super::ahead::{self, Piece, Tail};
use super::damage::unsound;
use super::record::{self, Next, Seed};
use super::segment::{FoundHead, HEAD_BYTES, Head, Slot};
use super::{Active, Filled};
use crate::store::StoreError;

/// The journal as it was found.
pub(super) struct Found {
    /// Segments that are not in sled yet, oldest first.
    pub filled: Vec<Filled>,
    pub active: Active,
    pub free: Vec<Slot>,
}

/// Reads the journal in a directory, into the state.
///
/// # Errors
/// [`StoreError::Corrupt`] with a report, [`StoreError::Io`].
pub(super) fn open(files: &dyn Files, directory: &Path, disk: &Disk, state: &mut State) -> Result<Found, StoreError> {
    let Heads { mut used, mut free, torn } = heads(files, directory)?;
    let Some((_, &(newest, _))) = used.last_key_value() else {
        return Err(damaged(directory, "no file of the journal is there beside existing data"));
    };
    let spilled = newest.oldest.saturating_sub(1);
    let in_sled = disk.spilled()?;
    if in_sled < spilled {
        let what = format!(
            "it has the journal's segments up to {in_sled} and not up to {spilled} (sled cuts its files off where they are not what \
             it wrote)"
        );
        return Err(damaged(&disk.path(), &what));
    }
    let mut needed = used.split_off(&newest.oldest);
    if let Some(missing) = (newest.oldest..newest.seed.number).find(|number| !needed.contains_key(number)) {
        // It may have been in the file whose head is torn: that was free, so this segment and all before it are in sled.
        let later = needed.split_off(&missing);
        if torn.is_none() || later.len() as u64 != newest.seed.number - missing {
            return Err(damaged(directory, &format!("segment {missing} is in none of the files")));
        }
        used.append(&mut needed);
        needed = later;
    }
    free.extend(used.into_values().map(|(_, slot)| slot));

    let mut segments = replay_all(files, needed.into_values().collect(), state)?;
    let Some(last) = segments.pop() else {
        return Err(damaged(directory, "the newest head names no segment"));
    };
    let mut filled = Vec::new();
    for segment in segments {
        match segment.tail {
            Tail::Ended(_) => filled.push(segment.into_filled()),
            Tail::Open { offset } => return Err(unsound(&segment.slot.path, offset, segment.seed.number)),
        }
    }
    let end = match last.tail {
        Tail::Open { offset } => last.seed.at(offset),
        Tail::Ended(next) => next.seed_after(last.seed).at(HEAD_BYTES),
    };
    let reach = disk.reach()?;
    if end < reach {
        return Err(damaged(
            &last.slot.path,
            &format!("the journal ends at {end}, and it went on to {reach} at least"),
        ));
    }
    let next = match last.tail {
        Tail::Open { offset } if torn.is_none() => {
            let begun = last.slot.block_before(files, offset)?;
            let active = Active::behind(last.slot, last.seed, offset, begun);
            state.reopen_segment(last.ended);
            return Ok(Found { filled, active, free });
        }
        Tail::Open { .. } => None,
        Tail::Ended(next) => Some(next),
    };
    if let Some(torn) = torn {
        if next.map(|next| next.slot) != Some(torn.id) {
            return Err(damaged(&torn.path, "its head is not what was written"));
        }
        free.push(torn);
    }
    let Some(next) = next else { return Err(damaged(directory, "the newest segment has no end")) };
    filled.push(last.into_filled());
    let active = go_on(files, next, &mut filled, &mut free)?;
    state.begin_segment(active.seed.number);
    Ok(Found { filled, active, free })
}

/// Whether a directory holds no record: a first start that was cut short leaves that much.
///
/// # Errors
/// [`StoreError::Io`].
pub(super) fn is_unused(files: &dyn Files, directory: &Path) -> Result<bool, StoreError> {
    let found = match files.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        found => found.map_err(|error| failed(directory, &error))?,
    };
    for path in found {
        if !is_ours(&path) {
            return Err(StoreError::Occupied(format!("{} is no file of a journal", path.display())));
        }
        let bytes = files.read(&path).map_err(|error| failed(&path, &error))?.unwrap_or_default();
        if bytes.iter().skip(HEAD_BYTES).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file has the name of a slot, or of one that was being made.
fn is_ours(path: &Path) -> bool {
    let is_number = |name: &str| name.parse::<u32>().is_ok();
    let is_begun = path.extension().is_some_and(|extension| extension == "new");
    Slot::id_of(path).is_some() || is_begun && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(is_number)
}

/// Begins the segment after the last one, which has ended: the store stopped before the new head was written.
fn go_on(files: &dyn Files, next: Next, filled: &mut Vec<Filled>, free: &mut Vec<Slot>) -> Result<Active, StoreError> {
    // The slot was free when the end was written: if a segment is in it, that one and all before it are in sled.
    if let Some(spilled) = filled.iter().position(|segment| segment.slot.id == next.slot) {
        free.extend(filled.drain(..=spilled).map(|segment| segment.slot));
    }
    let (Some(oldest), Some(last)) = (filled.first(), filled.last()) else {
        return Err(StoreError::Corrupt("the journal goes on in the file that it ends in".into()));
    };
    let Some(at) = free.iter().position(|slot| slot.id == next.slot) else {
        return Err(damaged(&last.slot.path, &format!("it goes on in file {}, which is missing", next.slot)));
    };
    let slot = free.swap_remove(at);
    let seed = Seed { number: last.number + 1, salt: next.salt };
    // Records come after a head that is on stable storage.
    if record::any_from(&slot.read(files)?, seed, HEAD_BYTES) {
        return Err(damaged(&slot.path, &format!("it has records of segment {} and not its head", seed.number)));
    }
    Active::begin(files, slot, seed, oldest.number)
}

struct Heads {
    /// By segment.
    used: BTreeMap<u64, (Head, Slot)>,
    free: Vec<Slot>,
    /// With an unsound head: one that was being written, or damage.
    torn: Option<Slot>,
}

fn heads(files: &dyn Files, directory: &Path) -> Result<Heads, StoreError> {
    let mut heads = Heads { used: BTreeMap::new(), free: Vec::new(), torn: None };
    for slot in slots(files, directory)? {
        let path = slot.path.clone();
        match head(files, &slot)? {
            FoundHead::NeverUsed => heads.free.push(slot),
            FoundHead::Used(head) if head.slot == slot.id => {
                let number = head.seed.number;
                if let Some((_, other)) = heads.used.insert(number, (head, slot)) {
                    return Err(damaged(&path, &format!("segment {number} is also in {}", other.path.display())));
                }
            }
            FoundHead::Used(head) => {
                return Err(damaged(&path, &format!("this file was written as number {}", head.slot)));
            }
            FoundHead::Damaged if heads.torn.is_none() && slot.length >= HEAD_BYTES => heads.torn = Some(slot),
            FoundHead::Damaged => return Err(damaged(&path, "its head is not what was written")),
        }
    }
    Ok(heads)
}

/// Every slot, settled: what is read of it is what the disk has.
fn slots(files: &dyn Files, directory: &Path) -> Result<Vec<Slot>, StoreError> {
    let mut slots = Vec::new();
    let found = match files.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(directory, "the journal is not there beside existing data"));
        }
        found => found.map_err(|error| failed(directory, &error))?,
    };
    for path in found {
        if Slot::id_of(&path).is_none() && is_ours(&path) {
            files.remove(&path).map_err(|error| failed(&path, &error))?;
        } else if let Some(id) = Slot::id_of(&path) {
            slots.push(Slot::open(files, &path, id).map_err(|error| failed(&path, &error))?);
        }
    }
    Ok(slots)
}

fn head(files: &dyn Files, slot: &Slot) -> Result<FoundHead, StoreError> {
    let mut bytes = [0; HEAD_BYTES];
    if slot.length < HEAD_BYTES {
        return Ok(FoundHead::Damaged);
    }
    files.read_at(&slot.file, 0, &mut bytes).map_err(|error| failed(&slot.path, &error))?;
    Ok(Head::read(&bytes))
}

struct Segment {
    slot: Slot,
    seed: Seed,
    ended: Ended,
    tail: Tail,
}

impl Segment {
    fn into_filled(self) -> Filled {
        Filled { number: self.seed.number, slot: self.slot, ended: self.ended }
    }
}

/// Replays segments, oldest first; says how far it is if it takes long.
fn replay_all(files: &dyn Files, needed: Vec<(Head, Slot)>, state: &mut State) -> Result<Vec<Segment>, StoreError> {
    let of = needed.len();
    let done = AtomicUsize::new(0);
    let say = |_| tracing::info!(done = done.load(Relaxed), of, "reading what the journal's segments hold");
    let replayed = progress::telling(say, || {
        thread::scope(|scope| {
            let (reader, pieces) = sync_channel(1);
            let needed = &needed;
            scope.spawn(move || ahead::read_segments(files, needed, &reader));
            let replayed = needed.iter().map(|(head, slot)| {
                state.begin_segment(head.seed.number);
                let tail = replay(&pieces, head.seed, &slot.path, state)?;
                done.fetch_add(1, Relaxed);
                Ok((state.end_segment(), tail))
            });
            replayed.collect::<Result<Vec<_>, StoreError>>()
        })
    })?;
    let segments = needed.into_iter().zip(replayed);
    Ok(segments.map(|((head, slot), (ended, tail))| Segment { slot, seed: head.seed, ended, tail }).collect())
}

/// Replays a segment, to its tail.
fn replay(
    pieces: &Receiver<Result<Piece, StoreError>>,
    seed: Seed,
    path: &Path,
    state: &mut State,
) -> Result<Tail, StoreError> {
    loop {
        let piece = pieces.recv().map_err(|_| StoreError::Io("the thread that reads the journal has ended".into()))?;
        let groups = match piece? {
            Piece::Groups(groups) => groups,
            Piece::Tail(tail) => return Ok(tail),
        };
        for (offset, changes) in groups {
            let is_sound = state.replay(changes)?.is_some_and(|lacking| lacking.is_empty());
            if !is_sound {
                return Err(unsound(path, offset, seed.number));
            }
        }
    }
}
