//! The durable client state: what a crash, a torn write or a flipped bit does to it.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use postrider_client::{Change, FileState, Key, Owner, QueuedSend, Saved, StateError, StateStore, To};

const LOG: &str = "state.log";

fn queued(send_id: u64) -> Change {
    Change::Queued(QueuedSend { send_id, to: To::user("bob"), content: Bytes::from(vec![send_id as u8; 20]) })
}

/// Commits of every kind, with what the state is after each.
fn history() -> Vec<Vec<Change>> {
    let owner = Owner { app: "dev".into(), user: "alice".into(), device: "laptop".into() };
    vec![
        vec![Change::Owner(owner)],
        vec![Change::DeviceId(7), Change::HighestSendId(2)],
        vec![queued(3), queued(4)],
        vec![Change::Cursor(10)],
        vec![Change::Answered(3), Change::Cursor(12), queued(5)],
        vec![Change::Answered(4)],
    ]
}

fn states(history: &[Vec<Change>]) -> Vec<Saved> {
    let mut saved = Saved::default();
    let mut states = vec![saved.clone()];
    for changes in history {
        changes.iter().for_each(|change| saved.apply(change));
        states.push(saved.clone());
    }
    states
}

/// The log after that history, and how long it was after each commit.
fn written(dir: &Path) -> (Vec<u8>, Vec<usize>) {
    let mut state = FileState::open(dir).expect("open");
    let length = || fs::metadata(dir.join(LOG)).expect("log").len() as usize;
    let mut lengths = vec![length()];
    for changes in history() {
        state.commit(&changes).expect("commit");
        lengths.push(length());
    }
    drop(state);
    (fs::read(dir.join(LOG)).expect("log"), lengths)
}

fn reopened(log: &[u8]) -> Result<Saved, StateError> {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join(LOG), log).expect("write");
    FileState::open(dir.path())?.load()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    written(dir.path());
    for _ in 0..2 {
        let saved = FileState::open(dir.path()).expect("open").load().expect("load");
        assert_eq!(Some(&saved), states(&history()).last());
    }
}

#[test]
fn a_log_cut_at_any_byte_holds_the_commits_before_the_cut() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, lengths) = written(dir.path());
    let states = states(&history());
    for cut in 0..=log.len() {
        let whole = lengths.iter().filter(|&&length| length <= cut).count();
        match reopened(&log[..cut]) {
            Ok(saved) => assert_eq!(saved, states[whole - 1], "cut at {cut}"),
            Err(StateError::Damaged { .. }) => assert_eq!(whole, 0, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_is_reported_or_costs_the_last_commit_only() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, lengths) = written(dir.path());
    let states = states(&history());
    let last_commit = lengths[lengths.len() - 2];
    for byte in 0..log.len() {
        let mut flipped = log.clone();
        flipped[byte] ^= 1 << (byte % 8);
        match reopened(&flipped) {
            Ok(saved) => {
                assert!(byte >= last_commit, "byte {byte}");
                assert_eq!(saved, states[states.len() - 2], "byte {byte}");
            }
            Err(StateError::Damaged { .. }) => assert!(byte < last_commit, "byte {byte}"),
            Err(error) => panic!("byte {byte}: {error}"),
        }
    }
}

#[test]
fn damage_is_not_taken_for_a_torn_end_though_the_commit_behind_it_was_empty() {
    let dir = tempfile::tempdir().expect("dir");
    let mut state = FileState::open(dir.path()).expect("open");
    let first = fs::metadata(dir.path().join(LOG)).expect("log").len() as usize;
    state.commit(&[Change::Cursor(9)]).expect("commit");
    // A key has a file of its own: in the log this commit is a head and nothing else.
    state.commit(&[Change::Key(Key(vec![1; 83]))]).expect("commit");
    drop(state);
    let mut log = fs::read(dir.path().join(LOG)).expect("log");
    log[first] ^= 1;
    assert!(matches!(reopened(&log), Err(StateError::Damaged { .. })), "the cursor would be lost without a word");
}

#[test]
fn a_state_that_is_open_cannot_be_opened_again() {
    let dir = tempfile::tempdir().expect("dir");
    let open = FileState::open(dir.path()).expect("open");
    assert!(matches!(FileState::open(dir.path()), Err(StateError::InUse { .. })));
    drop(open);
    FileState::open(dir.path()).expect("free again");
}

#[test]
fn the_log_does_not_grow_without_end() {
    let dir = tempfile::tempdir().expect("dir");
    let mut state = FileState::open(dir.path()).expect("open");
    let content = Bytes::from(vec![1; 60_000]);
    for send_id in 1..=100 {
        let queued = QueuedSend { send_id, to: To::conversation(1), content: content.clone() };
        state.commit(&[Change::Queued(queued), Change::Answered(send_id - 1)]).expect("commit");
    }
    assert!(fs::metadata(dir.path().join(LOG)).expect("log").len() < 2 * 1024 * 1024);
    drop(state);
    let saved = FileState::open(dir.path()).expect("open").load().expect("load");
    assert_eq!(saved.unanswered.iter().map(|send| send.send_id).collect::<Vec<_>>(), [100]);
}

#[cfg(unix)]
#[test]
fn the_key_is_kept_and_nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("state");
    let key = Key(vec![1, 2, 3]);
    FileState::open(&path).expect("open").commit(&[Change::Key(key.clone())]).expect("commit");
    assert_eq!(FileState::open(&path).expect("open").load().expect("load").key, Some(key));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["device.key", LOG, "lock"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
}

/// SYNC-8.
#[test]
fn a_forgotten_device_leaves_nothing_but_what_had_no_answer() {
    let dir = tempfile::tempdir().expect("dir");
    written(dir.path());
    let mut state = FileState::open(dir.path()).expect("open");
    state.commit(&[Change::Key(Key(vec![1]))]).expect("commit");
    let unanswered = state.forget().expect("forgotten");
    assert_eq!(unanswered.iter().map(|send| send.send_id).collect::<Vec<_>>(), [5]);
    assert_eq!(state.load().expect("load"), Saved::default());
    drop(state);
    assert_eq!(FileState::open(dir.path()).expect("open").load().expect("load"), Saved::default());
}
