//! The world: one thread in which servers, clients, disk and network take turns, one step at a time.
//!
//! A crash can come between any two steps, which is at any await of any task.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::{DefaultHasher, Hasher as _};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use postrider::bus::InboxMoved;
use postrider::clock::Source as _;

use crate::client::{Client, Manners, Wish};
use crate::clock::SimClock;
use crate::connection;
use crate::dice::Dice;
use crate::disk::{Remains, SimStore};
use crate::judge::end::Patience;
use crate::judge::{Clause, Counts, Fault, Judge};
use crate::network::{self, Link};
use crate::plan::{Action, Plan, Program};
use crate::planted::Bug;
use crate::runtime::{Micros, Runtime, SECOND, TaskId};
use crate::server::{Hints, Node, first_batch};
use crate::truth::{Kind, Left};

/// The disk's task.
pub(crate) const DISK: TaskId = 0;
/// The first client's; the others follow.
const CLIENTS: TaskId = 1;
/// The first of the server's.
const TASKS: TaskId = 1_000;

/// Steps after which a simulation counts as running in circles.
const MAX_STEPS: u64 = 2_000_000;

/// How long everything may take to come to rest once the faults are over.
const REST_TIME: Micros = 600 * SECOND;

/// What is to happen at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    Act(usize),
    StartClient(usize),
    EndTwin {
        twin: usize,
        original: usize,
    },
    StartNode(usize),
    RestartEverything,
    /// A node that stops tells its connections so, until they are gone or its patience is.
    Stopping {
        node: usize,
        left: u32,
        down: Micros,
    },
    Storm {
        left: u64,
        every: Micros,
    },
    Hint(usize, InboxMoved),
    Heal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Trouble,
    /// The faults are over.
    Healed,
    /// Everybody has sent once more, over connections that had been at rest.
    LastWords,
    Leaving,
}

/// What a simulation came to.
pub struct Report {
    pub fault: Option<Fault>,
    pub counts: Counts,
    /// What was seen to happen, and how often.
    pub seen: BTreeMap<String, u64>,
    pub steps: u64,
    /// The same for the same seed and plan, and different for almost any other.
    pub fingerprint: u64,
    /// The last things that happened, if they were to be told.
    pub tail: VecDeque<String>,
}

pub(crate) struct Task {
    pub(crate) node: usize,
    waker: Waker,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// See the module.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) clock: Arc<SimClock>,
    /// One for each app.
    pub(crate) judges: [Rc<RefCell<Judge>>; 2],
    pub(crate) clients: Vec<Client>,
    pub(crate) nodes: Vec<Option<Rc<Node>>>,
    pub(crate) accepting: Vec<bool>,
    /// Absent while the only node is down.
    pub(crate) store: Option<Arc<SimStore>>,
    pub(crate) remains: Remains,
    pub(crate) starts: u64,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    made: u64,
    pub(crate) links: Vec<(usize, Weak<RefCell<Link>>)>,
    agenda: BTreeMap<(Micros, u64), Happening>,
    pub(crate) hints: Hints,
    pub(crate) lost_hints: BTreeMap<(usize, u32, u64), InboxMoved>,
    pub(crate) dice: Dice,
    net_dice: Rc<Dice>,
    lives: Rc<RefCell<u64>>,
    pub(crate) setup: Setup,
    pub(crate) phase: Phase,
    fingerprint: DefaultHasher,
    steps: u64,
    tail: VecDeque<String>,
}

/// How a plan is run.
#[derive(Clone, Copy)]
pub struct Setup {
    pub truth: Kind,
    pub bug: Option<Bug>,
    /// Whether the last lines of what happened are kept.
    pub tell: bool,
}

impl Setup {
    /// Over the model, without a bug, without words.
    pub const PLAIN: Setup = Setup { truth: Kind::Model, bug: None, tell: false };

    /// With this bug.
    pub fn with(bug: Bug) -> Self {
        Self { bug: Some(bug), ..Self::PLAIN }
    }
}

/// Runs a plan.
pub fn run(plan: &Plan, setup: Setup) -> Report {
    let mut world = World::new(plan.clone(), setup);
    world.run();
    let (mut counts, mut seen) = (Counts::default(), BTreeMap::<String, u64>::new());
    for judge in &world.judges {
        counts.add(&judge.borrow().counts);
        for (what, times) in &judge.borrow().seen {
            *seen.entry(what.clone()).or_default() += times;
        }
    }
    Report {
        fault: world.fault(),
        counts,
        seen,
        steps: world.steps,
        fingerprint: world.fingerprint.finish(),
        tail: std::mem::take(&mut world.tail),
    }
}

impl World {
    fn new(plan: Plan, setup: Setup) -> Self {
        let seed = plan.luck;
        let runtime = Runtime::new(seed);
        let mut world = World {
            clock: SimClock::new(seed, &runtime),
            judges: Default::default(),
            clients: Vec::new(),
            nodes: (0..plan.shape.nodes).map(|_| None).collect(),
            accepting: vec![true; plan.shape.nodes],
            store: None,
            remains: Remains { batches: vec![first_batch()], left: Left::default() },
            starts: 0,
            tasks: BTreeMap::new(),
            made: 0,
            links: Vec::new(),
            agenda: BTreeMap::new(),
            hints: Hints::default(),
            lost_hints: BTreeMap::new(),
            dice: Dice::new(seed, 4),
            net_dice: Rc::new(Dice::new(seed, 5)),
            lives: Rc::default(),
            setup,
            phase: Phase::Trouble,
            fingerprint: DefaultHasher::new(),
            steps: 0,
            tail: VecDeque::new(),
            plan,
            runtime,
        };
        for judge in &world.judges {
            judge.borrow_mut().tell = setup.tell;
        }
        for node in 0..world.nodes.len() {
            world.start_node(node);
        }
        for number in 0..world.plan.shape.programs.len() {
            world.add_client(number);
            world.later(world.plan.shape.programs[number].born, Happening::StartClient(number));
        }
        for number in 0..world.plan.actions.len() {
            world.later(world.plan.actions[number].0, Happening::Act(number));
        }
        world.later(world.plan.healed, Happening::Heal);
        world
    }

    fn run(&mut self) {
        while self.fault().is_none() {
            self.steps += 1;
            let now = self.runtime.now();
            let ready = self.runtime.ready() as u64;
            let due = self.agenda.first_key_value().is_some_and(|((at, _), _)| *at <= now);
            if ready == 0 && !due {
                if !self.go_on() {
                    return;
                }
            } else if due && self.dice.below(ready + 1) == 0 {
                let ((_, _), happening) = self.agenda.pop_first().expect("looked");
                self.note(|| format!("{happening:?}"));
                self.happens(happening);
            } else if let Some(id) = self.runtime.take_ready() {
                self.fingerprint.write_u64(now ^ (id << 40));
                self.poll(id);
            }
            self.pass_hints();
            if self.steps > MAX_STEPS {
                self.find(Clause::Stuck, "it runs in circles".into());
            }
        }
    }

    /// Nobody has anything to do at this moment. False when the simulation is over.
    fn go_on(&mut self) -> bool {
        if self.phase != Phase::Trouble && self.is_quiet() {
            let programs = self.clients.iter().take(self.plan.shape.programs.len());
            let unrest: Vec<String> = programs.filter_map(|client| self.unrest(client)).collect();
            if unrest.is_empty() {
                if self.phase == Phase::Leaving && self.tasks.is_empty() {
                    self.leaves_nothing_behind();
                    return false;
                }
                if self.phase != Phase::Leaving {
                    let patience = self.patience();
                    self.judges.iter().for_each(|judge| judge.borrow_mut().rests(patience));
                    self.next_phase();
                    return true;
                }
            } else if self.phase != Phase::Leaving {
                self.find(Clause::Stuck, format!("nothing is under way, but {}", unrest.join("; ")));
            }
        }
        let of_agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let next = [self.runtime.next_timer(), of_agenda].into_iter().flatten().min();
        match next {
            Some(next) if next <= self.plan.healed + REST_TIME => self.runtime.advance(next),
            _ => self.find(Clause::Stuck, format!("{:?} does not end", self.phase)),
        }
        true
    }

    /// Receipts that a full disk could not keep come at the latest when whoever said them has an answer to something that
    /// followed them (CONN-9, RCPT-10): that is after the last words, when everybody has.
    fn patience(&self) -> Patience {
        let refused = self.store.as_ref().is_some_and(|store| store.has_refused_receipts());
        if refused && self.phase == Phase::Healed { Patience::ReceiptsMayBeLate } else { Patience::None }
    }

    fn next_phase(&mut self) {
        if self.phase == Phase::Healed {
            self.phase = Phase::LastWords;
            let programs = self.plan.shape.programs.len();
            for number in 0..programs {
                let to = self.clients[self.dice.below(programs as u64) as usize].user.clone();
                self.clients[number].send(&to, Bytes::from(format!("#last.{number}")));
            }
        } else {
            self.phase = Phase::Leaving;
            for client in &mut self.clients {
                client.leave();
            }
        }
        self.wake_clients();
    }

    /// The first fault that was found.
    fn fault(&self) -> Option<Fault> {
        self.judges.iter().find_map(|judge| judge.borrow().fault().cloned())
    }

    fn unrest(&self, client: &Client) -> Option<String> {
        let unrest = match self.phase {
            Phase::Leaving => client.is_running().then(|| "has not got its goodbye".to_owned()),
            _ => client.unrest(),
        };
        unrest.map(|unrest| format!("{}/{} {unrest}", client.user, client.name))
    }

    /// Whether nothing can happen any more but pings and timeouts.
    fn is_quiet(&self) -> bool {
        let store_is_idle = self.store.as_ref().is_none_or(|store| store.is_idle());
        let busy =
            |(_, link): &(usize, Weak<RefCell<Link>>)| link.upgrade().is_some_and(|link| link.borrow().is_busy());
        store_is_idle
            && self.agenda.is_empty()
            && !self.links.iter().any(busy)
            && !self.clients.iter().any(Client::is_busy)
    }

    fn leaves_nothing_behind(&mut self) {
        for node in self.nodes.iter().flatten() {
            let seats = node.hub.connections();
            if seats != 0 {
                let what = format!("node {} has {seats} seats taken when nobody is connected", node.number);
                self.judges[0].borrow_mut().find(Clause::Leak, what);
            }
        }
    }

    fn poll(&mut self, id: TaskId) {
        let waker = self.runtime.waker(id);
        match id {
            DISK => {
                if let Some(store) = &self.store {
                    store.work();
                }
            }
            CLIENTS..TASKS => {
                let number = usize::try_from(id - CLIENTS).expect("small");
                let judge = Rc::clone(&self.judges[self.clients[number].app_number]);
                let heard = judge.borrow().heard;
                if let Wish::Connect = self.clients[number].poll(&mut Context::from_waker(&waker)) {
                    self.connect(number);
                    waker.wake();
                }
                let judge = judge.borrow();
                if judge.heard != heard {
                    self.fingerprint.write_u64(judge.heard);
                    let Client { user, name, .. } = &self.clients[number];
                    let who = format!("{user}/{name}");
                    self.note(|| format!("{who} {}", judge.last));
                }
            }
            _ => {
                let Some(task) = self.tasks.get_mut(&id) else { return };
                let mut cx = Context::from_waker(&task.waker);
                if let Poll::Ready(()) = task.future.as_mut().poll(&mut cx) {
                    self.tasks.remove(&id);
                }
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        let up = self.nodes[node].as_ref().filter(|_| self.accepting[node]).cloned();
        let Some(up) = up else { return self.clients[number].connected(None) };
        let (client_end, server_end) = network::connect(&self.runtime, &self.net_dice, self.plan.shape.quality);
        self.links.retain(|(_, link)| link.strong_count() > 0);
        self.links.push((node, Rc::downgrade(&client_end.link())));
        self.spawn(node, connection::serve(up, server_end));
        self.clients[number].connected(Some(client_end));
    }

    // ------------------------------------------------------------ for what happens

    /// Makes a program of this device, which does not run yet.
    pub(crate) fn add_client(&mut self, program: usize) -> usize {
        let shape = &self.plan.shape;
        let manners = Manners {
            window: shape.window,
            persist: shape.persist,
            think: shape.think,
            reads: shape.reads,
            bug: self.setup.bug,
        };
        let number = self.clients.len();
        let dice = Dice::new(self.plan.luck, 100 + number as u64);
        let Program { app, user, device, .. } = &shape.programs[program];
        let judge = &self.judges[*app];
        let client = Client::new((*app, user, device), manners, &self.runtime, dice, judge, &self.lives);
        self.clients.push(client);
        number
    }

    pub(crate) fn later(&mut self, at: Micros, happening: Happening) {
        self.made += 1;
        self.agenda.insert((at, self.made), happening);
    }

    pub(crate) fn soon(&mut self, time: Micros, happening: Happening) {
        self.later(self.runtime.now() + time, happening);
    }

    pub(crate) fn spawn(&mut self, node: usize, future: impl Future<Output = ()> + 'static) {
        self.made += 1;
        let id = TASKS + self.made;
        let waker = self.runtime.waker(id);
        waker.wake_by_ref();
        self.tasks.insert(id, Task { node, waker, future: Box::pin(future) });
    }

    pub(crate) fn wake_clients(&mut self) {
        for number in 0..self.clients.len() as u64 {
            self.runtime.waker(CLIENTS + number).wake();
        }
    }

    pub(crate) fn find(&mut self, clause: Clause, what: String) {
        self.judges[0].borrow_mut().find(clause, what);
    }

    pub(crate) fn act(&mut self, number: usize) -> Action {
        self.plan.actions[number].1
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    pub(crate) fn is_healed(&mut self) {
        self.phase = Phase::Healed;
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.setup.tell {
            if self.tail.len() == 60 {
                self.tail.pop_front();
            }
            let line = format!("{}  {}", crate::plan::Time(self.runtime.now()), what());
            self.tail.push_back(line);
        }
    }
}
