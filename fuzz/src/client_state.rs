//! What a client saves: its log of changes as a crash, a bad disk or a stranger leaves it.

use std::cell::RefCell;
use std::path::Path;

use bytes::Bytes;
use postrider_client::{Change, FileState, Key, Owner, QueuedSend, Saved, StateError, StateStore, To};
use postrider_protocol::session::client::{Inbox, Outbox};
use postrider_protocol::wire::send;
use tempfile::TempDir;

use crate::dice::Dice;
use crate::scratch;

const LOG: &str = "state.log";
const MAGIC: &[u8; 8] = b"PRSTATE1";

thread_local! {
    static SCRATCH: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// The first byte says what the log is: arbitrary bytes, arbitrary payloads behind good checksums, or what some commits
/// left, damaged.
///
/// What must hold: a state opens or is reported as damaged; what opens can be used, written on and opened again; after a
/// cut it is the state after the last whole commit, and damage before that is never taken for a cut.
pub fn client_state(data: &[u8]) {
    SCRATCH.with_borrow_mut(|scratch| {
        let directory = scratch.get_or_insert_with(scratch::directory).path();
        for file in scratch::files(directory) {
            std::fs::remove_file(file).expect("ours");
        }
        let mut dice = Dice::new(data);
        match dice.byte().map(|kind| kind % 4) {
            Some(0) => opened(directory, dice.rest()),
            Some(1) => opened(directory, &records(&mut dice)),
            Some(_) => drop(damaged_history(directory, &mut dice)),
            None => {}
        }
    });
}

fn opened(directory: &Path, log: &[u8]) {
    std::fs::write(directory.join(LOG), log).expect("in memory");
    if let Ok(state) = FileState::open(directory) {
        goes_on(state, directory);
    }
}

/// A log whose records are whole, whatever is in them.
fn records(dice: &mut Dice<'_>) -> Vec<u8> {
    let mut log = MAGIC.to_vec();
    let salt = [7; 8];
    log.extend_from_slice(&salt);
    while let Some(payload) = dice.bytes() {
        let mut place = salt.to_vec();
        place.extend_from_slice(&(log.len() as u64).to_be_bytes());
        place.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&place), payload);
        log.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        log.extend_from_slice(&checksum.to_be_bytes());
        log.extend_from_slice(payload);
    }
    log
}

/// A state that was opened can be used, written on and opened again.
fn goes_on(mut state: FileState, directory: &Path) -> Saved {
    let mut saved = state.load().expect("it is open");
    let ids: Vec<u64> = saved.unanswered.iter().map(|send| send.send_id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    use_it(&saved);
    let change = Change::Cursor(saved.cursor.saturating_add(1));
    state.commit(std::slice::from_ref(&change)).expect("in memory");
    saved.apply(&change);
    drop(state);
    let again = FileState::open(directory).expect("what was just written").load().expect("it is open");
    assert_eq!(again, saved);
    saved
}

/// What a client makes of its state.
fn use_it(saved: &Saved) {
    let unanswered = saved.unanswered.iter().map(|queued| postrider_protocol::wire::Send {
        send_id: queued.send_id,
        to: None,
        content: queued.content.clone(),
    });
    let mut outbox = Outbox::restore(saved.highest_send_id, unanswered);
    let highest = outbox.highest();
    if let Ok(send_id) = outbox.push(send::To::Conversation(1), Bytes::new()) {
        assert!(send_id > highest, "{send_id} is used again");
    }
    assert_eq!(Inbox::restore(saved.cursor).confirmed(), saved.cursor);
}

fn damaged_history(directory: &Path, dice: &mut Dice<'_>) -> Option<()> {
    let path = directory.join(LOG);
    let length = || std::fs::metadata(&path).expect("it is there").len() as usize;
    let mut state = FileState::open(directory).expect("a new state");
    // Where each commit ended, and what it made of the state.
    let mut ends = vec![length()];
    let mut states = vec![state.load().expect("it is open")];
    for _ in 0..dice.byte()? % 8 {
        let changes = (0..dice.byte()? % 4).map(|_| change(dice)).collect::<Option<Vec<_>>>()?;
        state.commit(&changes).expect("in memory");
        ends.push(length());
        states.push(state.load().expect("it is open"));
    }
    drop(state);
    let last = states.len() - 1;
    let key = states[last].key.clone();
    let whole = std::fs::read(&path).expect("it is there");
    let mut log = whole.clone();
    let at = usize::from(u16::from_be_bytes([dice.byte()?, dice.byte()?])) % log.len();
    let wanted = match dice.byte()? {
        kind @ ..0x80 => {
            log.truncate(at);
            if kind % 2 == 1 {
                // What a power loss may leave behind the cut.
                log.extend_from_slice(dice.rest());
            }
            // It may begin with just what was cut off.
            let same = log.iter().zip(&whole).take_while(|(left, was)| left == was).count();
            ends.iter().rposition(|end| *end <= same)
        }
        by => {
            log[at] ^= by;
            // A bad last record cannot be told from one that was never finished.
            let torn = last > 0 && at >= ends[last - 1];
            torn.then(|| last - 1)
        }
    };
    std::fs::write(&path, &log).expect("in memory");
    match (FileState::open(directory), wanted) {
        (Ok(mut state), Some(wanted)) => {
            let wanted = Saved { key, ..states[wanted].clone() };
            assert_eq!(state.load().expect("it is open"), wanted);
            goes_on(state, directory);
        }
        (Err(StateError::Damaged { .. }), None) => {}
        (got, wanted) => panic!("{got:?}, wanted {wanted:?} of {ends:?} at {at}"),
    }
    Some(())
}

fn change(dice: &mut Dice<'_>) -> Option<Change> {
    Some(match dice.byte()? % 8 {
        0 => Change::Owner(Owner { app: dice.text()?, user: dice.text()?, device: dice.text()? }),
        1 => Change::DeviceId(dice.number()?),
        2 => Change::Key(Key(dice.bytes()?.to_vec())),
        3 => Change::Cursor(dice.number()?),
        4 => Change::HighestSendId(dice.number()?),
        5 => Change::Answered(dice.number()?),
        _ => {
            let to = if dice.flag()? { To::user(dice.text()?) } else { To::conversation(dice.number()?) };
            let content = Bytes::copy_from_slice(dice.bytes()?);
            Change::Queued(QueuedSend { send_id: dice.number()?, to, content })
        }
    })
}
