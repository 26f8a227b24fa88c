//! A client program: the real client session and the real saved state, driven over a simulated socket and a simulated disk
//! of its own, with an application that takes its time.
//!
//! It mirrors `clients/rust/src/driver`: the device id is saved before anything is written after the login, a send before
//! it is written, an entry is taken and the cursor saved in one step before it is confirmed, and what was not saved is
//! gone when the program is killed.
//!
//! # Layout
//! - `mod`: the program, its disk and its application
//! - `link`: its connection

mod link;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use postrider::ids::AppId;
use postrider_client::{Change, QueuedSend, Saved, To};
use postrider_protocol::session::client::{self as session, Login, Session};
use postrider_protocol::wire::{self, deliver::Entry, send};

use crate::dice::Dice;
use crate::judge::Judge;
use crate::judge::wire::Wire;
use crate::network::Socket;
use crate::planted::Bug;
use crate::runtime::{MS, Micros, Runtime};
use crate::server::APPS;

/// Entries that may wait for the application before the socket is read no further.
const MAX_WAITING: usize = 64;

/// How a program behaves.
#[derive(Clone, Copy)]
pub struct Manners {
    pub window: u32,
    pub persist: (Micros, Micros),
    pub think: (Micros, Micros),
    pub reads: u64,
    pub bug: Option<Bug>,
}

/// What the program wants of the world.
pub enum Wish {
    Nothing,
    /// A connection to a node.
    Connect,
}

enum Link {
    /// Not running.
    Off,
    /// Running, to connect at that time.
    Waiting(Micros),
    /// Given up at that time.
    LoggingIn(Socket, Login, Micros),
    Up(Socket, Box<Session>),
}

/// Something on its way to the program's disk.
struct Saving {
    due: Micros,
    change: Change,
    /// With a cursor: the entry that was taken.
    entry: Option<Entry>,
}

/// One program of one device.
pub struct Client {
    /// Its place in [`APPS`].
    pub app_number: usize,
    pub user: String,
    pub name: String,
    manners: Manners,
    runtime: Arc<Runtime>,
    dice: Dice,
    judge: Rc<RefCell<Judge>>,
    saved: Saved,
    /// Of the application; a new one for each start without state.
    life: u64,
    lives: Rc<RefCell<u64>>,
    // What follows is lost when the program is killed.
    device: session::Device,
    device_id: u64,
    link: Link,
    wire: Wire,
    inbound: BytesMut,
    outbound: BytesMut,
    /// When the line last took bytes.
    line_took: Micros,
    /// Whether there is a `Ping` in `outbound`, and when the last one was wholly written.
    ping_waits: bool,
    pinged: Micros,
    saving: VecDeque<Saving>,
    taken_up_to: u64,
    wanted: VecDeque<(String, Bytes)>,
    waiting: VecDeque<(u64, Option<Entry>)>,
    next_take: Micros,
    slow_until: Micros,
    lazy_until: Micros,
    attempts: u32,
    caught_up: bool,
    leaving: bool,
    healed: bool,
    wakes_at: Micros,
}

impl Client {
    pub fn new(
        (app_number, user, name): (usize, &str, &str),
        manners: Manners,
        runtime: &Arc<Runtime>,
        dice: Dice,
        judge: &Rc<RefCell<Judge>>,
        lives: &Rc<RefCell<u64>>,
    ) -> Self {
        let mut client = Self {
            app_number,
            user: user.into(),
            name: name.into(),
            manners,
            runtime: Arc::clone(runtime),
            dice,
            judge: Rc::clone(judge),
            saved: Saved::default(),
            life: 0,
            lives: Rc::clone(lives),
            device: session::Device::default(),
            device_id: 0,
            link: Link::Off,
            wire: Wire::default(),
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            line_took: 0,
            ping_waits: false,
            pinged: 0,
            saving: VecDeque::new(),
            taken_up_to: 0,
            wanted: VecDeque::new(),
            waiting: VecDeque::new(),
            next_take: 0,
            slow_until: 0,
            lazy_until: 0,
            attempts: 0,
            caught_up: false,
            leaving: false,
            healed: false,
            wakes_at: 0,
        };
        client.forget();
        client
    }

    /// A start without state.
    fn forget(&mut self) {
        *self.lives.borrow_mut() += 1;
        self.life = *self.lives.borrow();
        self.saved = Saved::default();
        self.load();
    }

    /// What a start finds.
    fn load(&mut self) {
        let to_wire = |queued: &QueuedSend| {
            let to = match &queued.to {
                To::User(name) => send::To::User(name.clone()),
                To::Conversation(id) => send::To::Conversation(*id),
            };
            wire::Send { send_id: queued.send_id, to: Some(to), content: queued.content.clone() }
        };
        let unanswered: Vec<wire::Send> = self.saved.unanswered.iter().map(to_wire).collect();
        self.device = session::Device {
            outbox: session::Outbox::restore(self.saved.highest_send_id, unanswered),
            inbox: session::Inbox::restore(self.saved.cursor),
        };
        self.device_id = self.saved.device_id;
        self.taken_up_to = self.saved.cursor;
        self.saving.clear();
        self.waiting.clear();
        self.wanted.clear();
    }

    pub fn is_running(&self) -> bool {
        !matches!(self.link, Link::Off)
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self) {
        if !self.is_running() && !self.leaving {
            self.load();
            self.attempts = 0;
            self.link = Link::Waiting(0);
        }
    }

    /// Kills it: what was not saved is gone, all but a part from the front.
    pub fn kill(&mut self) {
        let kept = self.dice.below(self.saving.len() as u64 + 1);
        for _ in 0..kept {
            self.save_next();
        }
        self.hang_up();
        self.link = Link::Off;
        self.load();
    }

    /// The application sends, as soon as there is room.
    pub fn send(&mut self, to: &str, content: Bytes) {
        if self.is_running() {
            self.wanted.push_back((to.into(), content));
        }
    }

    pub fn be_slow(&mut self, time: Micros) {
        self.slow_until = self.runtime.now() + time;
        self.wire.troubled = true;
    }

    pub fn be_lazy(&mut self, time: Micros) {
        self.lazy_until = self.runtime.now() + time;
        self.wire.troubled = true;
    }

    /// Its connection, if it has one.
    pub fn connection(&self) -> Option<Rc<RefCell<crate::network::Link>>> {
        match &self.link {
            Link::LoggingIn(socket, ..) | Link::Up(socket, _) => Some(socket.link()),
            Link::Off | Link::Waiting(_) => None,
        }
    }

    /// From now on it behaves: reads, takes, marks everything as read, and comes back at once.
    pub fn heal(&mut self) {
        (self.slow_until, self.lazy_until, self.attempts) = (0, 0, 0);
        self.healed = true;
        self.manners.reads = 100;
        self.start();
        if let Link::Waiting(at) = &mut self.link {
            *at = (*at).min(self.runtime.now() + 100 * MS);
        }
        self.mark_all_read();
    }

    /// Says goodbye and does not come back.
    pub fn leave(&mut self) {
        self.leaving = true;
        match &mut self.link {
            Link::Up(_, session) => session.goodbye(),
            _ => self.link = Link::Off,
        }
    }

    /// Whether its connection is one that the server has, too, as far as can be told.
    pub fn is_surely_connected(&self) -> bool {
        matches!(&self.link, Link::Up(socket, _) if !socket.link().borrow().troubled)
    }

    /// Whether something of its own is under way: a connection to be made, something to be saved or taken.
    pub fn is_busy(&self) -> bool {
        let comes_back = matches!(self.link, Link::Waiting(_));
        comes_back || !self.saving.is_empty() || !self.waiting.is_empty()
    }

    /// What it still waits for, if anything.
    pub fn unrest(&self) -> Option<String> {
        let Link::Up(..) = &self.link else {
            let how = match &self.link {
                Link::Off => "does not run",
                Link::Waiting(_) => "waits to connect",
                _ => "has not got its welcome",
            };
            return Some(how.into());
        };
        let at_rest = self.caught_up
            && self.saving.is_empty()
            && self.wanted.is_empty()
            && self.waiting.is_empty()
            && self.device.outbox.is_empty()
            && self.outbound.is_empty()
            && !self.device.inbox.has_unwritten_reads();
        let state = || {
            format!(
                "caught up: {}, saving {}, wants to send {}, unanswered {}, to take {}, unwritten {}",
                self.caught_up,
                self.saving.len(),
                self.wanted.len(),
                self.device.outbox.len(),
                self.waiting.len(),
                self.outbound.len()
            )
        };
        (!at_rest).then(state)
    }

    /// Does what can be done now.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Wish {
        if !self.is_running() {
            return Wish::Nothing;
        }
        let now = self.runtime.now();
        self.judge.borrow_mut().now = now;
        while self.saving.front().is_some_and(|first| first.due <= now) {
            self.save_next();
        }
        if matches!(self.link, Link::LoggingIn(.., deadline) if deadline <= now) {
            self.wait(0);
        }
        self.read_and_write(cx);
        self.take();
        self.queue();
        // What was saved, taken or queued may want to be written.
        self.read_and_write(cx);
        self.set_timer(cx.waker());
        match &self.link {
            Link::Waiting(at) if *at <= now => Wish::Connect,
            _ => Wish::Nothing,
        }
    }

    fn set_timer(&mut self, waker: &Waker) {
        let now = self.runtime.now();
        let of_link = match &self.link {
            Link::Waiting(at) | Link::LoggingIn(.., at) => Some(*at),
            Link::Up(_, session) => session.poll_timeout().map(|at| u64::try_from(at.as_micros()).expect("small")),
            _ => None,
        };
        let take = (!self.waiting.is_empty()).then_some(self.next_take.max(self.lazy_until));
        let slow = (self.slow_until > now).then_some(self.slow_until);
        let next = [of_link, self.saving.front().map(|first| first.due), take, slow].into_iter().flatten().min();
        if let Some(next) = next
            && (next < self.wakes_at || self.wakes_at <= now)
        {
            self.wakes_at = next;
            self.runtime.wake_at(next.max(now + 1), waker.clone());
        }
    }

    // ------------------------------------------------------------ its disk and its application

    pub fn app(&self) -> (AppId, &'static str) {
        APPS[self.app_number]
    }

    fn save(&mut self, change: Change, entry: Option<Entry>) {
        let due = self.runtime.now() + self.dice.between(self.manners.persist);
        let due = due.max(self.saving.back().map_or(0, |last| last.due));
        self.saving.push_back(Saving { due, change, entry });
    }

    fn save_next(&mut self) {
        let Some(Saving { change, entry, .. }) = self.saving.pop_front() else { return };
        self.saved.apply(&change);
        match change {
            Change::Queued(send) => self.device.outbox.release(send.send_id),
            Change::Cursor(position) => {
                self.device.inbox.confirm(position);
                if let Some(entry) = entry {
                    self.took(position, &entry);
                }
            }
            _ => {}
        }
    }

    fn took(&mut self, position: u64, entry: &Entry) {
        self.judge.borrow_mut().took(self.life, self.device_id, position, Some(entry));
        let Entry::Message(message) = entry else { return };
        if message.sender == self.user && message.recipient != self.user {
            return;
        }
        if self.dice.chance(self.manners.reads) {
            self.mark_read(message.conversation, message.seq);
        }
    }

    fn mark_all_read(&mut self) {
        let taken = self.judge.borrow().newest_taken(&self.user);
        for (conversation, seq) in taken {
            self.mark_read(conversation, seq);
        }
    }

    fn mark_read(&mut self, conversation: u64, seq: u64) {
        self.judge.borrow_mut().marked_read(&self.user, conversation, seq);
        let has_room = self.device.inbox.read(conversation, seq);
        assert!(has_room, "there are few conversations");
    }

    fn take(&mut self) {
        let now = self.runtime.now();
        while !self.waiting.is_empty() && self.next_take <= now && self.lazy_until <= now {
            let (position, entry) = self.waiting.pop_front().expect("looked");
            self.next_take = now + self.dice.between(self.manners.think);
            self.taken_up_to = position;
            if self.manners.bug == Some(Bug::ClientConfirmsTooEarly) {
                self.device.inbox.confirm(position);
            }
            self.save(Change::Cursor(position), entry);
        }
    }

    fn queue(&mut self) {
        while !self.wanted.is_empty() && self.device.outbox.has_room() {
            let (to, content) = self.wanted.pop_front().expect("looked");
            let pushed = self.device.outbox.push(send::To::User(to.clone()), content.clone());
            let send_id = pushed.expect("there is room, and no message is large");
            self.save(Change::Queued(QueuedSend { send_id, to: To::User(to), content }), None);
        }
    }
}
