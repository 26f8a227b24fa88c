//! What is wrong in the journal's files: a torn tail is cut, and everything else stops the opening with a report.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::journal::layout;
use super::super::keys;
use super::{Engine, EngineConfig, block_on, config, copy, making, open, rows_in_sled};
use crate::store::conformance::world::{World, tiny};
use crate::store::{Store, StoreError, commit_and_wait};

/// A store of some apps, one record each, in one segment; and where each record begins.
struct Written {
    /// A copy of the running store: as a crash leaves it.
    crashed: tempfile::TempDir,
    /// The same, closed in good order.
    closed: tempfile::TempDir,
    /// The last is where the next record would begin.
    records: Vec<usize>,
}

const APPS: usize = 6;

fn written() -> Written {
    let (crashed, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(&one_segment(closed.path())).unwrap();
    let mut records = vec![layout::FIRST_RECORD];
    for app in 0..APPS {
        block_on(commit_and_wait(&engine, making(&name(app)))).unwrap();
        let bytes = fs::read(segment(closed.path())).unwrap();
        records.push(layout::ends(&bytes, records[app]).1);
    }
    copy(closed.path(), crashed.path());
    block_on(engine.close()).unwrap();
    Written { crashed, closed, records }
}

fn one_segment(path: &Path) -> EngineConfig {
    EngineConfig { segment_bytes: 8192, ..config(path) }
}

fn name(app: usize) -> String {
    format!("app number {app}")
}

fn segment(directory: &Path) -> PathBuf {
    directory.join("journal/0.segment")
}

/// Opens a store whose segment has these bytes.
fn opened_with(from: &tempfile::TempDir, bytes: &[u8]) -> Result<Vec<String>, StoreError> {
    let directory = tempfile::tempdir().unwrap();
    copy(from.path(), directory.path());
    fs::write(segment(directory.path()), bytes).unwrap();
    let engine = open(directory.path())?;
    Ok(block_on(engine.list_apps()).unwrap().into_iter().map(|app| app.name).collect())
}

fn first_apps(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

fn is_reported(opened: Result<Vec<String>, StoreError>, words: &[&str]) -> Result<(), String> {
    match opened {
        Err(StoreError::Corrupt(report)) if words.iter().all(|word| report.contains(word)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_last_record_that_is_cut_at_any_byte_is_gone_and_the_others_are_there() {
    let written = written();
    let bytes = fs::read(segment(written.crashed.path())).unwrap();
    let last = written.records[APPS - 1];
    let (end, _) = layout::ends(&bytes, last);
    assert_eq!(opened_with(&written.crashed, &bytes).unwrap(), first_apps(APPS));
    for cut in last..end {
        let mut torn = bytes.clone();
        torn[cut..end].fill(0);
        // A record whose last bytes are zeros is whole without them.
        let left = if torn == bytes { APPS } else { APPS - 1 };
        assert_eq!(opened_with(&written.crashed, &torn).unwrap(), first_apps(left), "cut at {cut}");
        torn[cut..end].fill(0xA5);
        assert_eq!(opened_with(&written.crashed, &torn).unwrap(), first_apps(APPS - 1), "old bytes from {cut}");
    }
}

#[test]
fn a_flipped_bit_before_the_tail_is_reported_with_its_file_and_place() {
    let written = written();
    let bytes = fs::read(segment(written.crashed.path())).unwrap();
    for record in 0..APPS - 1 {
        let start = written.records[record];
        for byte in (start..layout::ends(&bytes, start).0).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            let words = ["0.segment", &format!("byte {start} "), "restore a backup"];
            is_reported(opened_with(&written.crashed, &flipped), &words).expect("a report");
        }
    }
}

#[test]
fn a_sound_record_that_makes_no_sense_is_reported_with_its_place() {
    let written = written();
    let bytes = fs::read(segment(written.crashed.path())).unwrap();
    for &record in &written.records[..APPS] {
        let mut changed = bytes.clone();
        changed[record + layout::HEADER_BYTES] = 0xFF;
        layout::seal(&mut changed, record);
        let words = ["0.segment", &format!("byte {record} "), "restore a backup"];
        is_reported(opened_with(&written.crashed, &changed), &words).expect("a report");
    }
}

#[test]
fn in_a_store_that_was_closed_even_the_last_record_is_told_from_a_torn_one() {
    let written = written();
    let bytes = fs::read(segment(written.closed.path())).unwrap();
    assert_eq!(opened_with(&written.closed, &bytes).unwrap(), first_apps(APPS));
    let start = written.records[APPS - 1];
    for byte in (start..layout::ends(&bytes, start).0).step_by(3) {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x10;
        is_reported(opened_with(&written.closed, &flipped), &["0.segment", &format!("byte {start} ")])
            .expect("a report");
    }
}

#[test]
fn in_a_store_that_was_closed_nothing_can_be_lost_at_the_end_without_a_trace() {
    let written = written();
    let bytes = fs::read(segment(written.closed.path())).unwrap();
    for (record, &start) in written.records.iter().enumerate() {
        let mut cut = bytes.clone();
        cut[start..].fill(0);
        let opened = opened_with(&written.closed, &cut);
        if record < APPS {
            is_reported(opened, &["0.segment", &format!("ends at byte {start} "), "salvage"]).expect("a report");
        } else {
            // Only the mark that it was closed.
            assert_eq!(opened.unwrap(), first_apps(APPS));
        }
    }
}

#[test]
fn a_flipped_bit_in_a_head_is_reported() {
    let written = written();
    let bytes = fs::read(segment(written.closed.path())).unwrap();
    for byte in (0..layout::FIRST_RECORD).step_by(31) {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x40;
        is_reported(opened_with(&written.closed, &flipped), &["journal"]).expect("a report");
    }
    is_reported(opened_with(&written.closed, &[]), &["journal"]).expect("a report");
    is_reported(opened_with(&written.closed, &bytes[..100]), &["journal"]).expect("a report");
    is_reported(opened_with(&written.closed, &vec![0; bytes.len()]), &["journal"]).expect("a report");
}

/// A store whose journal has several segments that sled does not have, because it is held up; copied while it runs.
pub fn several_segments() -> tempfile::TempDir {
    let (running, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Without free space nothing is spilled.
    let config =
        EngineConfig { segment_bytes: 1024, segments: 4, reserve_bytes: u64::MAX / 2, ..config(running.path()) };
    let engine = Engine::open(&config).unwrap();
    let full = (0..99).find_map(|app| block_on(commit_and_wait(&engine, making(&name(app)))).err());
    assert!(matches!(full, Some(StoreError::Full(_))));
    copy(running.path(), copied.path());
    copied
}

#[test]
fn a_segment_that_is_missing_swapped_or_doubled_is_reported() {
    let store = several_segments();
    let tampered = |tamper: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().unwrap();
        copy(store.path(), directory.path());
        tamper(&directory.path().join("journal"));
        let engine = open(directory.path())?;
        Ok(block_on(engine.list_apps()).unwrap().into_iter().map(|app| app.name).collect::<Vec<_>>())
    };
    let whole = tampered(&|_| {}).expect("it is sound");
    assert_eq!(whole, first_apps(whole.len()));
    assert!(whole.len() > 10);
    for id in 0..4 {
        let gone = tampered(&|journal| fs::remove_file(journal.join(format!("{id}.segment"))).unwrap());
        // Without the newest, the one before it has an end and names the file.
        is_reported(gone, &["journal"]).unwrap_or_else(|other| panic!("{id}: {other}"));
        let emptied = tampered(&|journal| {
            let path = journal.join(format!("{id}.segment"));
            fs::write(&path, vec![0; fs::read(&path).unwrap().len()]).unwrap();
        });
        // The newest had records after its head.
        if id != 3 {
            is_reported(emptied, &["journal"]).unwrap_or_else(|other| panic!("{id}: {other}"));
        }
        let headless = tampered(&|journal| {
            let path = journal.join(format!("{id}.segment"));
            let mut bytes = fs::read(&path).unwrap();
            bytes[..layout::FIRST_RECORD].fill(0);
            fs::write(&path, bytes).unwrap();
        });
        is_reported(headless, &["journal"]).unwrap_or_else(|other| panic!("{id}: {other}"));
    }
    let swapped = tampered(&|journal| {
        fs::rename(journal.join("1.segment"), journal.join("x")).unwrap();
        fs::rename(journal.join("2.segment"), journal.join("1.segment")).unwrap();
        fs::rename(journal.join("x"), journal.join("2.segment")).unwrap();
    });
    is_reported(swapped, &["written as number"]).expect("a report");
    let doubled = tampered(&|journal| {
        fs::copy(journal.join("1.segment"), journal.join("9.segment")).unwrap();
    });
    is_reported(doubled, &["written as number 1"]).expect("a report");
    let without = tampered(&|journal| fs::remove_dir_all(journal).unwrap());
    assert!(matches!(without, Err(StoreError::Io(_) | StoreError::Corrupt(_))), "{without:?}");
    let emptied = tampered(&|journal| {
        fs::remove_dir_all(journal).unwrap();
        fs::create_dir(journal).unwrap();
    });
    is_reported(emptied, &["no file of the journal"]).expect("a report");
}

#[test]
fn a_store_whose_other_half_is_missing_or_older_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let engine = Engine::open(&tiny(directory.path())).unwrap();
        // More than the journal's segments hold, so that some of them are used again.
        for app in 0..400 {
            block_on(commit_and_wait(&engine, making(&name(round * 400 + app)))).unwrap();
        }
        engine.verify(&mut |_| {}).expect("all of it gets to sled");
        block_on(engine.close()).unwrap();
        if round == 0 {
            copy(directory.path(), older.path());
        }
    }
    let sled = directory.path().join("sled");
    fs::remove_dir_all(&sled).unwrap();
    is_reported(open(directory.path()).map(|_| Vec::new()), &["journal", "the rest of the store"]).expect("a report");
    copy(&older.path().join("sled"), &sled);
    is_reported(open(directory.path()).map(|_| Vec::new()), &["sled", "segments up to"]).expect("a report");
}

/// A segment of a journal.
pub struct Segment {
    pub path: PathBuf,
    pub number: u64,
    /// Where each record begins; the last is where the next one would.
    pub records: Vec<usize>,
}

/// Those of a journal, newest first.
pub fn segments(journal: &Path) -> Vec<Segment> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(journal).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let number = u64::from_le_bytes(*bytes[16..].first_chunk().unwrap());
        let mut records = vec![layout::FIRST_RECORD];
        // A record has a kind, which is above 0.
        while records.last().is_some_and(|last| bytes.get(last + 8).is_some_and(|kind| *kind > 0)) {
            records.push(layout::ends(&bytes, records[records.len() - 1]).1);
        }
        segments.extend((number > 0).then_some(Segment { path, number, records }));
    }
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.number));
    segments
}

/// A closed store whose sled has the rows of all its journal and does not say of any segment that it is there: as spills leave
/// it that are cut short.
pub fn half_spilled(path: &Path) {
    let config = EngineConfig { segment_bytes: 4096, segments: 9, ..config(path) };
    let engine = Arc::new(Engine::open(&config).unwrap());
    let world = World::around(Arc::<Engine>::clone(&engine));
    let (alice, _) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 1..=40 {
        world.acked(
            &alice,
            id,
            "bob",
            "a message that takes some room in the journal, so that it has several segments",
        );
    }
    engine.verify(&mut |_| {}).expect("all of it goes to sled");
    block_on(engine.close()).unwrap();
    drop((world, engine));
    rows_in_sled(path).remove(keys::spilled()).unwrap();
}

/// Cuts the journal as a crash could have: everything from a record on is gone, and so are the newer segments.
pub fn cut(journal: &Path, newest: usize, record: usize) {
    let segments = segments(journal);
    for newer in &segments[..newest] {
        fs::write(&newer.path, vec![0; fs::metadata(&newer.path).unwrap().len() as usize]).unwrap();
    }
    let Segment { path, records, .. } = &segments[newest];
    let mut bytes = fs::read(path).unwrap();
    bytes[records[record]..].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_journal_that_ends_before_what_sled_has_of_it_is_reported() {
    let store = tempfile::tempdir().unwrap();
    half_spilled(store.path());
    let found = segments(&store.path().join("journal"));
    assert!(found.len() > 3 && found.iter().all(|segment| segment.number <= found.len() as u64), "none was used again");
    for (newest, segment) in found.iter().enumerate() {
        for record in 0..segment.records.len() {
            let directory = tempfile::tempdir().unwrap();
            copy(store.path(), directory.path());
            cut(&directory.path().join("journal"), newest, record);
            // The newest has nothing but the mark that it was closed; the end of the one before it is no change.
            let behind = segment.records.len() - 1 - record;
            let lost = newest > 1 || (newest == 1 && behind > 1);
            match open(directory.path()) {
                Err(error) => {
                    assert!(lost, "segment {}, record {record}: {error}", segment.number);
                    is_reported(Err(error), &["the journal ends at byte", "and it went on to byte"]).expect("a report");
                }
                Ok(engine) => {
                    assert!(!lost, "segment {}, record {record}", segment.number);
                    assert_eq!(engine.verify(&mut |_| {}).unwrap().problems, Vec::<String>::new());
                }
            }
        }
    }
}

#[test]
fn any_flipped_bit_in_a_segment_that_has_ended_is_reported() {
    let store = several_segments();
    for id in 0..3 {
        let path = Path::new("journal").join(format!("{id}.segment"));
        let bytes = fs::read(store.path().join(&path)).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for byte in (0..=end).step_by(53) {
            let directory = tempfile::tempdir().unwrap();
            copy(store.path(), directory.path());
            let mut flipped = bytes.clone();
            flipped[byte] ^= 2;
            fs::write(directory.path().join(&path), &flipped).unwrap();
            match open(directory.path()) {
                Err(StoreError::Corrupt(_)) => {}
                Err(other) => panic!("{other}"),
                // Bytes between records carry nothing.
                Ok(engine) => {
                    let apps = block_on(engine.list_apps()).unwrap().len();
                    assert!(layout::is_filling(&bytes, byte), "byte {byte} of {id} is {} ({apps} apps)", bytes[byte]);
                }
            }
        }
    }
}
