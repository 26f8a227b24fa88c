//! What is sound in a damaged journal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::directory::failed;
use super::super::files::Files;
use super::super::rows::Reach;
use super::record::{self, ALIGNMENT, Record, Seed};
use super::segment::{FoundHead, HEAD_BYTES, Head, Slot};
use crate::store::StoreError;

/// What a damaged journal gives, oldest first.
pub(in super::super) enum Found<'a> {
    /// The groups of this segment follow.
    Segment(u64),
    /// A group.
    Group(&'a [u8]),
    /// All groups of a segment were given.
    EndOfSegment(u64),
    /// Something is not there.
    Damage(String),
}

/// Which segments of a damaged journal are needed.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Needed {
    /// Those after this one: sled has it and all before it.
    After(u64),
    /// Those that the newest head says are not in sled.
    ByTheNewestHead,
    /// Whatever the files still have, also of what sled had once.
    All,
}

/// Visits every sound group of the segments that are needed. `reach`: so far the journal has gone at least.
///
/// # Errors
/// What `visit` returns, and when the files cannot be read at all.
pub(in super::super) fn sound_groups(
    files: &dyn Files,
    directory: &Path,
    needed: Needed,
    reach: Reach,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut used = BTreeMap::new();
    let mut headless = BTreeMap::new();
    let mut oldest = (0, 0);
    for path in files.list(directory).map_err(|error| failed(directory, &error))? {
        let Some(id) = Slot::id_of(&path) else { continue };
        match head(files, &path) {
            Ok(FoundHead::NeverUsed) => {}
            Ok(FoundHead::Used(head)) => {
                oldest = oldest.max((head.seed.number, head.oldest));
                used.insert(head.seed.number, (head.seed, path));
            }
            Ok(FoundHead::Damaged) => {
                headless.insert(id, path);
            }
            Err(error) => visit(Found::Damage(error.to_string()))?,
        }
    }
    let after = match needed {
        Needed::After(spilled) => spilled,
        Needed::ByTheNewestHead => oldest.1.saturating_sub(1),
        Needed::All => 0,
    };
    for path in find_headless(files, &mut used, &mut headless)? {
        visit(Found::Damage(format!("{}: its head is not what was written", path.display())))?;
    }
    for damage in find_next(files, directory, &mut used)? {
        visit(Found::Damage(damage))?;
    }
    let segments = used.split_off(&(after + 1));
    let newest = segments.keys().next_back().copied();
    let mut expected = match needed {
        Needed::All => segments.keys().next().copied().unwrap_or(0),
        Needed::After(_) | Needed::ByTheNewestHead => after + 1,
    };
    let mut end = Reach { segment: after, byte: 0 };
    for (number, (seed, path)) in segments {
        if let Some(last) = (expected < number).then(|| number - 1) {
            let missing =
                if expected == last { format!("segment {last}") } else { format!("segments {expected} to {last}") };
            visit(Found::Damage(format!("{missing} of the journal: neither in sled's files nor in its own")))?;
        }
        expected = number + 1;
        visit(Found::Segment(number))?;
        end = segment(files, seed, &path, Some(number) == newest, visit)?.0;
        visit(Found::EndOfSegment(number))?;
    }
    if end < reach {
        visit(Found::Damage(format!("the journal ends at {end}, and it went on to {reach} at least")))?;
    }
    for path in headless.into_values() {
        let what = "its head is not what was written; what it holds cannot be told from old bytes";
        visit(Found::Damage(format!("{}: {what}", path.display())))?;
    }
    Ok(())
}

/// The end of a segment tells in which file and how the next one begins: files whose own head is lost are used by that.
fn find_headless(
    files: &dyn Files,
    used: &mut BTreeMap<u64, (Seed, PathBuf)>,
    headless: &mut BTreeMap<u32, PathBuf>,
) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut numbers: Vec<u64> = if headless.is_empty() { Vec::new() } else { used.keys().copied().collect() };
    while let Some(number) = numbers.pop() {
        let Some((seed, path)) = used.get(&number).cloned() else { continue };
        let (_, next) = segment(files, seed, &path, true, &mut |_| Ok(()))?;
        if let Some(next) = next.filter(|_| !used.contains_key(&(number + 1)))
            && let Some(path) = headless.remove(&next.slot)
        {
            found.push(path.clone());
            used.insert(number + 1, (next.seed_after(seed), path));
            numbers.push(number + 1);
        }
    }
    Ok(found)
}

/// Where the newest segment says that the journal goes on: a file that has records of the next segment and the head of none, or of
/// another, is used by that. Returns what is wrong.
fn find_next(
    files: &dyn Files,
    directory: &Path,
    used: &mut BTreeMap<u64, (Seed, PathBuf)>,
) -> Result<Vec<String>, StoreError> {
    let mut wrong = Vec::new();
    while let Some((_, (seed, path))) = used.last_key_value() {
        let (_, Some(next)) = segment(files, *seed, path, true, &mut |_| Ok(()))? else { break };
        let seed = next.seed_after(*seed);
        let path = Slot::path(directory, next.slot);
        let Some(bytes) = files.read(&path).map_err(|error| failed(&path, &error))? else {
            wrong.push(format!("{}: the journal goes on in this file, which is missing", path.display()));
            break;
        };
        if !record::any_from(&bytes, seed, HEAD_BYTES) {
            break;
        }
        wrong.push(format!("{}: its head is not what was written", path.display()));
        used.insert(seed.number, (seed, path));
    }
    Ok(wrong)
}

fn head(files: &dyn Files, path: &Path) -> Result<FoundHead, StoreError> {
    let bytes = files.read(path).map_err(|error| failed(path, &error))?.unwrap_or_default();
    Ok(bytes.first_chunk().map_or(FoundHead::Damaged, Head::read))
}

/// Visits the sound groups of one segment; the answer is where they end, and where it says that the journal goes on.
fn segment(
    files: &dyn Files,
    seed: Seed,
    path: &Path,
    is_last: bool,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), StoreError>,
) -> Result<(Reach, Option<record::Next>), StoreError> {
    let bytes = files.read(path).map_err(|error| failed(path, &error))?.unwrap_or_default();
    let mut offset = HEAD_BYTES;
    loop {
        match record::read(&bytes, seed, offset) {
            Some((Record::Group(group), next)) => {
                visit(Found::Group(group))?;
                offset = next;
            }
            Some((Record::End(next), _)) => return Ok((next.seed_after(seed).at(HEAD_BYTES), Some(next))),
            None => {
                let sound = |at: &usize| record::read(&bytes, seed, *at).is_some();
                let next = (offset..bytes.len()).step_by(ALIGNMENT).find(sound);
                let number = seed.number;
                match next {
                    Some(next) => visit(Found::Damage(format!(
                        "{}: bytes {offset} to {next} (segment {number}) are not what was written",
                        path.display()
                    )))?,
                    None if is_last => return Ok((seed.at(offset), None)),
                    None => {
                        let what = format!("nothing after byte {offset} (segment {number}) is what was written");
                        visit(Found::Damage(format!("{}: {what}", path.display())))?;
                        return Ok((seed.at(offset), None));
                    }
                }
                offset = next.unwrap_or(bytes.len());
            }
        }
    }
}
