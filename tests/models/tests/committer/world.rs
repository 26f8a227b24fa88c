//! A store that counts: what is decided is the next number, and a journal of so many places makes numbers durable. Those who
//! ask do it as `store::engine::committer` does, with the same queue.

use std::sync::Arc;

use postrider_models::queue::{Core, Gate, Hands, Queue, Terms, Way};
use postrider_models::{MutexGuard, stop_time};
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::mpsc::{Receiver, SyncSender, sync_channel};
use shuttle::thread::{self, JoinHandle};

pub enum Numbers {}

impl Terms for Numbers {
    type State = Decided;
    type Waiting = Waiting;
    type Ending = SyncSender<Option<u64>>;
    type Failure = Failed;
}

#[derive(Default)]
pub struct Decided {
    /// The newest number.
    newest: u64,
    /// What the journal was given.
    written: u64,
    /// All who were queued, also those who were refused.
    queued: u64,
}

#[derive(Clone)]
pub struct Failed;

/// Who waits, and the how-manieth they are.
pub struct Waiting {
    turn: u64,
    answer: Answer,
    tell: SyncSender<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This number, and with it all before it.
    Durable(u64),
    Full,
    Failed,
    Closed,
}

/// What the model knows better than the queue.
pub struct Facts {
    /// What a power cut would leave.
    stable: u64,
    /// Places left in the journal.
    places: u64,
    full: bool,
    /// Syncs until one fails.
    sound_syncs: u64,
    answered: u64,
    /// Whether the spill makes no room any more.
    stalled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    Sound,
    /// A planted mistake of who asks.
    LooksBeforeItListens,
    /// A planted mistake of the thread.
    AnswersBeforeTheSync,
}

#[derive(Clone)]
pub struct World {
    pub queue: Arc<Queue<Numbers>>,
    pub facts: Arc<Mutex<Facts>>,
    habit: Habit,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// How many may wait at once, or be answered: the journal has places for as many, or the gate is closed.
const MOST_WAITING: u64 = 4;

/// What the spill makes free at once.
const FREED: u64 = 3;

impl World {
    /// With so many places in the journal, and so many syncs that do not fail.
    pub fn start(places: u64, sound_syncs: u64, habit: Habit) -> World {
        stop_time();
        let facts = Facts { stable: 0, places, full: false, sound_syncs, answered: 0, stalled: false };
        let world = World {
            queue: Arc::new(Queue::new(Decided::default(), 0, MOST_WAITING as usize)),
            facts: Arc::new(Mutex::new(facts)),
            habit,
            threads: Arc::default(),
        };
        let (filled, spills) = sync_channel(1);
        let (store, spill) = (world.clone(), world.clone());
        let store = thread::spawn(move || {
            store.queue.run(&mut Thread { world: &store, filled, unsynced: None });
            let (left, ending) = store.queue.abandon();
            assert!(left.is_empty() && ending.is_empty(), "only a thread that panics leaves somebody");
        });
        let spill = thread::spawn(move || spill.spill(&spills));
        world.threads.lock().unwrap().extend([store, spill]);
        world
    }

    /// Asks for a number; returns when the question is in the queue, or is answered already.
    pub fn ask(&self, urgent: bool) -> Receiver<Answer> {
        let (tell, answer) = sync_channel(1);
        loop {
            let mut opened = self.queue.opened();
            let mut core = self.queue.core();
            let verdict = match core.way(1) {
                Way::Closed => {
                    drop(core);
                    tell.send(Answer::Closed).unwrap();
                    return answer;
                }
                Way::Failed(Failed) => Answer::Failed,
                Way::Full(_) => Answer::Full,
                Way::Wait => {
                    drop(core);
                    if self.habit == Habit::LooksBeforeItListens {
                        opened = self.queue.opened();
                    }
                    block_on(opened);
                    continue;
                }
                Way::Open => {
                    core.state.newest += 1;
                    Answer::Durable(core.state.newest)
                }
            };
            core.state.queued += 1;
            let waiting_now = core.state.queued - self.facts.lock().unwrap().answered;
            assert!(waiting_now <= MOST_WAITING, "{waiting_now} wait at once");
            let waiting = Waiting { turn: core.state.queued, answer: verdict, tell };
            self.queue.push(core, waiting, 1, urgent);
            return answer;
        }
    }

    /// Asks and waits, so many times; returns the last answer.
    pub fn ask_often(&self, times: usize) -> JoinHandle<Answer> {
        let world = self.clone();
        thread::spawn(move || (0..times).fold(Answer::Closed, |_, _| world.ask(true).recv().unwrap()))
    }

    /// Ends the segment, and returns up to where it reaches; `None` when there is no end any more.
    pub fn end_segment(&self) -> Option<u64> {
        let (ended, wait) = sync_channel(1);
        if !self.queue.end_segment(ended) {
            return None;
        }
        wait.recv().unwrap_or(None)
    }

    /// Closes and waits until the threads are gone: everybody who was queued has an answer then.
    pub fn stop(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
        let queued = self.queue.core().state.queued;
        assert_eq!(self.facts.lock().unwrap().answered, queued, "all who were queued are answered");
    }

    pub fn stable(&self) -> u64 {
        self.facts.lock().unwrap().stable
    }

    pub fn answered(&self) -> u64 {
        self.facts.lock().unwrap().answered
    }

    pub fn stall_spill(&self) {
        self.facts.lock().unwrap().stalled = true;
    }

    pub fn set_full(&self, full: bool) {
        self.facts.lock().unwrap().full = full;
    }

    fn spill(&self, filled: &Receiver<()>) {
        while filled.recv().is_ok() {
            {
                let mut facts = self.facts.lock().unwrap();
                if facts.stalled {
                    continue;
                }
                facts.places += FREED;
            }
            self.queue.look_at_gate();
        }
    }
}

struct Thread<'a> {
    world: &'a World,
    /// Tells the spill.
    filled: SyncSender<()>,
    unsynced: Option<u64>,
}

impl Thread<'_> {
    fn set_gate(&self) {
        let (full, tight) = {
            let facts = self.world.facts.lock().unwrap();
            (facts.full, facts.places < MOST_WAITING)
        };
        if tight {
            // It has been told already, or it is.
            let _ = self.filled.try_send(());
        }
        self.world.queue.set_gate(match (full, tight) {
            (true, _) => Gate::Full("the disk".to_owned()),
            (false, true) => Gate::Behind,
            (false, false) => Gate::Open,
        });
    }
}

impl Hands<Numbers> for Thread<'_> {
    fn make_durable(&mut self, mut core: MutexGuard<'_, Core<Numbers>>) -> Option<Failed> {
        assert!(core.failure.is_none(), "after a failure nothing is tried again");
        let up_to = core.state.newest;
        let group = up_to - core.state.written;
        if group == 0 {
            return None;
        }
        core.state.written = up_to;
        drop(core);
        thread::yield_now();
        {
            let mut facts = self.world.facts.lock().unwrap();
            facts.places = facts.places.checked_sub(group).expect("what is decided has a place in the journal");
            if facts.sound_syncs == 0 {
                drop(facts);
                self.world.queue.fail(Failed);
                return Some(Failed);
            }
            facts.sound_syncs -= 1;
            match self.world.habit {
                Habit::AnswersBeforeTheSync => self.unsynced = Some(up_to),
                _ => facts.stable = up_to,
            }
        }
        self.world.queue.set_durable(up_to);
        if self.world.facts.lock().unwrap().places < MOST_WAITING {
            self.set_gate();
        }
        None
    }

    fn answer(&mut self, group: &mut Vec<Waiting>, failure: Option<&Failed>) {
        for Waiting { turn, answer, tell } in group.drain(..) {
            let answer = if failure.is_some() { Answer::Failed } else { answer };
            {
                let mut facts = self.world.facts.lock().unwrap();
                facts.answered += 1;
                assert_eq!(facts.answered, turn, "everybody is answered once, and in the order of the decisions");
                if let Answer::Durable(number) = answer {
                    assert!(number <= facts.stable, "{number} is answered before it is durable");
                }
            }
            // Who does not wait does not need to know.
            let _ = tell.send(answer);
        }
        if let Some(up_to) = self.unsynced.take() {
            self.world.facts.lock().unwrap().stable = up_to;
        }
    }

    fn look_at_gate(&mut self) {
        self.set_gate();
    }

    fn end_segment(&mut self, core: MutexGuard<'_, Core<Numbers>>, wanted: Vec<SyncSender<Option<u64>>>) {
        let ended = core.failure.is_none().then_some(core.state.newest);
        assert!(
            ended.is_none_or(|ended| ended == self.world.queue.durable()),
            "nothing is decided that is not in the segment"
        );
        drop(core);
        for wants in wanted {
            wants.send(ended).unwrap();
        }
    }
}
