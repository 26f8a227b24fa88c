//! A store of one inbox and the connections that read it, as the server drives its hub: completions run in commit order on
//! one thread; a connection's task reads on, looks, takes and writes, as `net::connection` does.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use postrider_models::hub::{Hub, Outbox};
use postrider_models::ids::{AppId, DeviceId, Position, UserId};
use postrider_protocol::error::ErrorCode;
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::mpsc::{SyncSender, sync_channel};
use shuttle::thread::{self, JoinHandle};

const APP: AppId = AppId(1);
const ALICE: UserId = UserId(1);
pub const PHONE: DeviceId = DeviceId(1);

/// Entries read from the inbox at once.
const PAGE: u64 = 2;
const ENTRY_BYTES: usize = 8;

type Completion = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub struct World {
    hub: Arc<Hub>,
    /// The newest durable position; positions are contiguous.
    head: Arc<Mutex<u64>>,
    /// Completions, in commit order; `None` ends the store.
    commits: SyncSender<Option<Completion>>,
    store: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// What each device has confirmed.
    cursors: Arc<Mutex<[u64; 3]>>,
    bound: usize,
    window: u32,
    last: Arc<Mutex<Option<u64>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Until everything is served, or it is closed.
    Lasting,
    /// The network takes it after so many entries.
    BreaksAfter(usize),
    /// The planted mistake.
    LooksBeforeItRegisters,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything up to here.
    Served(u64),
    Broken,
    Closed(ErrorCode),
}

impl World {
    pub fn start(bound: usize, window: u32) -> World {
        let (commits, queue) = sync_channel::<Option<Completion>>(4);
        let store = thread::spawn(move || {
            while let Ok(Some(done)) = queue.recv() {
                done();
            }
        });
        World {
            hub: Arc::default(),
            head: Arc::default(),
            commits,
            store: Arc::new(Mutex::new(Some(store))),
            cursors: Arc::default(),
            bound,
            window,
            last: Arc::default(),
        }
    }

    /// Commits so many entries; connections are served when they have had the last one.
    pub fn publish(&self, entries: u64) {
        *self.last.lock().unwrap() = Some(entries);
        for _ in 0..entries {
            let (hub, head) = (Arc::clone(&self.hub), Arc::clone(&self.head));
            self.commit(move || {
                let position = {
                    let mut head = head.lock().unwrap();
                    *head += 1;
                    *head
                };
                hub.each(APP, ALICE, |_, outbox| {
                    outbox.publish([(Position(position), Some(|out: &mut BytesMut| out.put_u64(position)))]);
                });
            });
        }
    }

    pub fn close_all(&self) {
        self.hub.close_all(|| ErrorCode::ShuttingDown.into());
    }

    /// Everybody has gone: so have their seats.
    pub fn stop(&self) {
        self.commits.send(None).unwrap();
        let store = self.store.lock().unwrap().take();
        store.unwrap().join().unwrap();
        assert_eq!((self.hub.connections(), self.hub.devices(APP)), (0, HashSet::new()));
    }

    pub fn connect(&self, device: DeviceId, habit: Habit) -> JoinHandle<Ended> {
        let world = self.clone();
        thread::spawn(move || {
            let outbox = Arc::new(Outbox::new(world.bound));
            let cursor = world.log_in(device, &outbox);
            let ended = world.serve(device, &outbox, cursor, habit);
            world.hub.leave(APP, ALICE, &outbox);
            ended
        })
    }

    fn commit(&self, done: impl FnOnce() + Send + 'static) {
        self.commits.send(Some(Box::new(done))).unwrap();
    }

    /// The seat is taken in the login's completion, so that what is published after it reaches the outbox.
    fn log_in(&self, device: DeviceId, outbox: &Arc<Outbox>) -> u64 {
        let (answer, wait) = sync_channel(1);
        let (world, outbox) = (self.clone(), Arc::clone(outbox));
        self.commit(move || {
            let cursor = world.cursors.lock().unwrap()[device.0 as usize];
            let head = *world.head.lock().unwrap();
            world.hub.join(APP, ALICE, device, Arc::clone(&outbox));
            outbox.attach(Position(cursor), Position(head), world.window);
            answer.send(cursor).unwrap();
        });
        wait.recv().unwrap()
    }

    fn serve(&self, device: DeviceId, outbox: &Outbox, cursor: u64, habit: Habit) -> Ended {
        let mut had = cursor;
        let mut entries = 0;
        loop {
            if let Some(last) = *self.last.lock().unwrap()
                && had == last
            {
                return Ended::Served(had);
            }
            self.read_on(outbox);
            block_on(poll_fn(|cx| poll_work(cx, outbox, habit)));
            let mut output = outbox.take();
            let bound = self.bound + (PAGE as usize + 1) * ENTRY_BYTES;
            assert!(output.frames.len() <= bound, "{} bytes wait in one tail", output.frames.len());
            while output.frames.has_remaining() {
                let position = output.frames.get_u64();
                assert_eq!(position, had + 1, "every entry once, in order");
                had = position;
                entries += 1;
                if habit == Habit::BreaksAfter(entries) {
                    return Ended::Broken;
                }
            }
            assert_eq!(output.delivered.0.max(cursor), had);
            {
                let mut cursors = self.cursors.lock().unwrap();
                let confirmed = &mut cursors[device.0 as usize];
                *confirmed = had.max(*confirmed);
            }
            outbox.confirmed(Position(had));
            if let Some(why) = output.closing {
                return Ended::Closed(why.code);
            }
        }
    }

    /// As the router does it, with a page's time between looking and appending.
    fn read_on(&self, outbox: &Outbox) {
        let Some(backlog) = outbox.backlog() else { return };
        assert!(backlog.up_to.0 <= *self.head.lock().unwrap(), "nothing is read that is not durable");
        let through = backlog.up_to.0.min(backlog.after.0 + PAGE);
        outbox.stream(Position(through), |out| {
            (backlog.after.0 + 1..=through).for_each(|position| out.put_u64(position));
            Some(Position(through))
        });
    }
}

fn poll_work(cx: &mut Context<'_>, outbox: &Outbox, habit: Habit) -> Poll<()> {
    if habit == Habit::LooksBeforeItRegisters {
        let work = outbox.look().work;
        outbox.register(cx.waker());
        return if work { Poll::Ready(()) } else { Poll::Pending };
    }
    outbox.register(cx.waker());
    if outbox.look().work { Poll::Ready(()) } else { Poll::Pending }
}
