//! Whatever stops the store at whatever moment: everything answered is there, nothing is half there, and it goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use super::faulty::{Errno, Fault, FaultyFiles, Image, Unsynced};
use super::{Engine, block_on, cases, in_memory, in_parallel};
use crate::store::conformance::histories::{History, contents};
use crate::store::conformance::world::{World, gathering, tiny};
use crate::store::{Batch, Completion, Store, StoreError, commit_and_wait};

/// Opens what a crash left after `answered` batches: it must hold those, perhaps some of the `on_their_way` ones after them,
/// and nothing else; and the history goes on from there as if nothing had happened.
fn check(directory: &Path, history: &History, answered: usize, on_their_way: usize, moment: &str) {
    let engine = match Engine::open(&tiny(directory)) {
        Ok(engine) => Arc::new(engine),
        Err(error) => panic!("{moment}: {error}"),
    };
    let mut world = World::around(Arc::<Engine>::clone(&engine));
    super::audit::audit(&engine);
    let found = contents(&mut world);
    let possible = answered..history.contents.len().min(answered + on_their_way + 1);
    let known = possible.clone().find(|&batches| history.contents[batches] == found);
    let Some(batches) = known else {
        panic!("{moment}: after {answered} batches, expected\n{}\nand found\n{found}", history.contents[answered]);
    };
    // One that changed only what cannot be read (a code) may be there or not: asking again tells nothing.
    if possible.skip_while(|next| *next <= batches).any(|next| history.contents[next] == found) {
        return;
    }
    for next in batches..history.batches.len().min(batches + 2) {
        assert_eq!(world.commit(history.batches[next].clone()), history.committed[next], "{moment}");
    }
}

fn check_image(image: &Image, history: &History, on_their_way: usize, unsynced: Unsynced) {
    let directory = in_memory();
    image.restore(directory.path(), unsynced);
    check(directory.path(), history, image.answered, on_their_way, &format!("{} ({unsynced:?})", image.moment));
}

/// Runs a history until a batch fails; returns why.
fn run(engine: &Engine, history: &History, files: &FaultyFiles) -> Option<StoreError> {
    let answered = files.answered.load(Ordering::SeqCst);
    for batch in &history.batches[answered..] {
        if let Err(error) = block_on(commit_and_wait(engine, batch.clone())) {
            return Some(error);
        }
        files.answered.fetch_add(1, Ordering::SeqCst);
    }
    None
}

/// Runs a history, so many batches at a time. They go to the disk in groups of several.
fn run_together(engine: &Engine, history: &History, files: &Arc<FaultyFiles>, batches: usize) {
    let all: Vec<_> = history.batches.iter().zip(&history.committed).collect();
    for together in all.chunks(batches) {
        let submitted = together.iter().map(|(batch, wanted)| {
            let (files, (told, result)) = (Arc::clone(files), channel());
            let done = move |committed| {
                files.answered.fetch_add(1, Ordering::SeqCst);
                told.send(committed).expect("somebody waits");
            };
            block_on(engine.commit(Batch::clone(batch), Completion::once(done)));
            (result, wanted)
        });
        for (result, wanted) in submitted.collect::<Vec<_>>() {
            assert_eq!(result.recv().expect("done is called").expect("nothing fails"), **wanted);
        }
    }
}

/// Numbers that are the same every time.
pub fn dice(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_answered() {
    for number in 0..cases(1) {
        let history = History::new(number, 160);
        let directory = tempfile::tempdir().unwrap();
        let files = FaultyFiles::new(directory.path());
        files.record();
        let engine = Engine::open_with(&tiny(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
        assert!(run(&engine, &history, &files).is_none());
        block_on(engine.close()).unwrap();
        let images = files.images();
        let spilled = images.iter().filter(|image| image.moment == "after sync sled/db").count();
        assert!(spilled >= 5, "only {spilled} spills: the test would prove little");
        let mut dice = dice(number as u64 + 1);
        for image in &images {
            let unsynced = match dice.next().unwrap_or(0) % 4 {
                0 => Unsynced::Kept,
                1 => Unsynced::Lost,
                _ => Unsynced::Torn(dice.next().unwrap_or(0)),
            };
            check_image(image, &history, 1, unsynced);
        }
    }
}

/// Batches that are submitted at once.
const TOGETHER: usize = 6;

#[test]
fn of_batches_that_go_to_the_disk_together_a_power_cut_leaves_what_was_answered_and_some_of_the_next() {
    for number in 0..cases(1) {
        let history = History::new(20 + number, 400);
        let directory = tempfile::tempdir().unwrap();
        let files = FaultyFiles::new(directory.path());
        files.record();
        let engine = Engine::open_with(&gathering(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
        let before = files.calls();
        run_together(&engine, &history, &files, TOGETHER);
        let calls = files.calls() - before;
        assert!(calls < 2 * history.batches.len(), "{calls} calls: each batch went alone, and the test proves little");
        block_on(engine.close()).unwrap();
        let mut dice = dice(number as u64 + 1);
        for image in files.images() {
            let unsynced = match dice.next().unwrap_or(0) % 3 {
                0 => Unsynced::Kept,
                1 => Unsynced::Lost,
                _ => Unsynced::Torn(dice.next().unwrap_or(0)),
            };
            check_image(&image, &history, TOGETHER, unsynced);
        }
    }
}

#[test]
fn a_power_cut_during_a_restart_is_like_any_other() {
    let history = History::new(3, 120);
    let directory = tempfile::tempdir().unwrap();
    let files = FaultyFiles::new(directory.path());
    let engine = Engine::open_with(&tiny(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
    files.record();
    assert!(run(&engine, &history, &files).is_none());
    drop(engine);
    let mut dice = dice(7);
    let images = files.images();
    for image in images.iter().step_by((images.len() / cases(12)).max(1)) {
        let directory = tempfile::tempdir().unwrap();
        image.restore(directory.path(), Unsynced::Torn(dice.next().unwrap_or(0)));
        let mut first = dice.next().unwrap_or(0) % 3;
        let files = FaultyFiles::new(directory.path());
        files.adopt_sled();
        files.record();
        let engine = Engine::open_with(&tiny(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
        let mut world = World::around(Arc::new(engine));
        let found = contents(&mut world);
        let answered = (image.answered..history.contents.len().min(image.answered + 2))
            .find(|&batches| history.contents[batches] == found);
        let Some(answered) = answered else {
            panic!("{}: expected\n{}\nand found\n{found}", image.moment, history.contents[image.answered]);
        };
        drop(world);
        for mut again in files.images() {
            first += 1;
            if first.is_multiple_of(3) {
                again.answered = answered;
                check_image(&again, &history, 1, Unsynced::Torn(dice.next().unwrap_or(0)));
            }
        }
    }
}

/// Enough for as many calls as are to fail.
const HISTORY_STEPS: usize = 1_300;

/// Runs a history in which the `nth` call fails, and looks at what is left.
fn fails_at(history: &History, nth: usize, fault: Fault, for_good: bool) {
    let moment = format!("{fault:?} at call {nth}");
    let directory = in_memory();
    let files = FaultyFiles::without_images(directory.path());
    let engine = Engine::open_with(&tiny(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
    files.fail_at(nth, fault, for_good);
    let failed = run(&engine, history, &files);
    if let Some(StoreError::Io(_)) = failed {
        let answered = files.answered.load(Ordering::SeqCst);
        let refused = run(&engine, history, &files);
        assert!(matches!(refused, Some(StoreError::Io(_))), "{moment}: it went on after {failed:?}");
        assert_eq!(answered, files.answered.load(Ordering::SeqCst), "{moment}");
    }
    block_on(engine.list_apps()).expect("reads go on");
    drop(engine);
    check(directory.path(), history, files.answered.load(Ordering::SeqCst), 1, &moment);
}

/// Calls that a whole history makes after it was opened.
fn calls_of(history: &History) -> usize {
    let directory = in_memory();
    let files = FaultyFiles::without_images(directory.path());
    let engine = Engine::open_with(&tiny(directory.path()), Arc::<FaultyFiles>::clone(&files)).unwrap();
    let before = files.calls();
    assert!(run(&engine, history, &files).is_none());
    files.calls() - before
}

/// Calls that are made to fail, one by one, when all cases run.
const FAILING_CALLS: usize = 500;

/// Has each of the first calls of a history fail in turn (of some of them, unless all cases run), for once and for good,
/// wholly and half done.
fn fails_at_each(history: &History, errno: Errno) {
    let calls = calls_of(history);
    assert!(calls >= FAILING_CALLS, "the history makes {calls} calls");
    let looks = cases(25).min(FAILING_CALLS);
    in_parallel(looks, |number| {
        let nth = 1 + number * FAILING_CALLS / looks;
        fails_at(history, nth, Fault::Error(errno), false);
        fails_at(history, nth, Fault::Short(errno), false);
        fails_at(history, nth, Fault::Error(errno), true);
        fails_at(history, nth, Fault::Short(errno), true);
    });
    println!("{errno:?} at {looks} of the first {FAILING_CALLS} calls, of {calls}, in four ways each");
}

#[test]
fn a_call_that_fails_costs_no_answer_and_nothing_is_answered_after_it() {
    fails_at_each(&History::new(5, HISTORY_STEPS), Errno::Eio);
}

#[test]
fn a_disk_that_fills_up_at_any_call_costs_no_answer() {
    fails_at_each(&History::new(6, HISTORY_STEPS), Errno::Enospc);
}
