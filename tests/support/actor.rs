//! Applications on our own client that chat under audit, crash, and start again from their state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postrider_client::{Client, Event, FileState, Message, Options, Sending, StateError, To, content};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::audit::{Audit, Kind, Verdict, Witness};

/// Messages an application lets wait for their answers.
const IN_FLIGHT: usize = 16;

/// How long everything may take to arrive once nobody writes any more.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How long a state may stay in use after its client is gone.
const LET_GO_TIME: Duration = Duration::from_secs(10);

/// What a device's application does.
#[derive(Clone)]
pub struct Plan {
    pub options: Options,
    pub state: PathBuf,
    /// Whom it writes to, in a random order.
    pub writes_to: Vec<String>,
    /// The pause between two messages.
    pub pace: Duration,
    /// Bytes that a long message is filled up with, at most; most messages are short.
    pub padding: usize,
    pub seed: u64,
}

/// An application on a thread and a runtime of its own, so that a crash takes all of it at once.
pub struct Actor {
    presence: Arc<Presence>,
    thread: JoinHandle<()>,
}

/// Whether an application runs.
#[derive(Default)]
struct Presence {
    crash: Notify,
    absent: AtomicBool,
}

/// All applications of a test.
pub struct Cast {
    pub actors: Vec<Actor>,
    audit: Audit,
    act: watch::Sender<Act>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Chat,
    /// Nobody writes; what is under way arrives.
    Drain,
    End,
}

impl Cast {
    pub fn new(audit: &Audit) -> Self {
        Self { actors: Vec::new(), audit: audit.clone(), act: watch::Sender::new(Act::Chat) }
    }

    /// Starts an application, once for each device.
    pub fn enter(&mut self, witness: Witness, plan: Plan) {
        let (presence, act) = (Arc::new(Presence::default()), self.act.subscribe());
        let own = Arc::clone(&presence);
        let thread = std::thread::spawn(move || live(&witness, &plan, &own, act));
        self.actors.push(Actor { presence, thread });
    }

    /// Fails, with what the auditor has seen so far, if an application has given up.
    pub fn must_go_on(&self) {
        if self.actors.iter().any(|actor| actor.thread.is_finished()) {
            panic!("an application has given up; until then: {:?}", self.audit.verdict_with_reasons());
        }
    }

    /// Lets everything arrive, ends the applications in order, and gives the verdict.
    pub fn end(self) -> Verdict {
        self.act.send_replace(Act::Drain);
        let deadline = Instant::now() + DRAIN_TIME;
        while self.audit.verdict() != Verdict::default() && Instant::now() < deadline {
            self.must_go_on();
            std::thread::sleep(Duration::from_millis(100));
        }
        // What comes once too often may come late.
        std::thread::sleep(Duration::from_millis(500));
        self.act.send_replace(Act::End);
        for actor in self.actors {
            actor.thread.join().unwrap();
        }
        println!("{:?}", self.audit.totals());
        self.audit.verdict_with_reasons()
    }
}

impl Actor {
    /// Takes the application away, as a crash would, and starts it again from what was durable.
    pub fn crash(&self) {
        self.presence.crash.notify_one();
    }

    /// Takes it away, as a crash would, until it [returns](Actor::returns) or nobody writes any more.
    pub fn leaves(&self) {
        self.presence.absent.store(true, Ordering::SeqCst);
        self.crash();
    }

    pub fn returns(&self) {
        self.presence.absent.store(false, Ordering::SeqCst);
    }
}

fn live(witness: &Witness, plan: &Plan, presence: &Presence, act: watch::Receiver<Act>) {
    let mut chance = StdRng::seed_from_u64(plan.seed);
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(async {
            tokio::select! {
                () = chat(witness, plan, &mut chance, act.clone()) => true,
                () = presence.crash.notified() => false,
            }
        });
        runtime.shutdown_background();
        if ended {
            return;
        }
        witness.restarts();
        while presence.absent.load(Ordering::SeqCst) && *act.borrow() == Act::Chat {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn chat(witness: &Witness, plan: &Plan, chance: &mut StdRng, mut act: watch::Receiver<Act>) {
    let options = plan.options.clone().retry_first(true).manual_confirm();
    let (client, mut events) = Client::connect(options, open_state(&plan.state).await).await.unwrap();
    // Read marks do not outlive a program: what was seen before is marked again.
    for (conversation, seq) in witness.newest() {
        witness.reads(conversation, seq);
        client.read(conversation, seq).await.unwrap();
    }
    let mut answers = FuturesUnordered::new();
    let mut pace = interval(plan.pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let chats = *act.borrow() == Act::Chat && !plan.writes_to.is_empty();
        tokio::select! {
            _ = pace.tick(), if chats && answers.len() < IN_FLIGHT => {
                let to = &plan.writes_to[chance.random_range(0..plan.writes_to.len())];
                let long = plan.padding > 0 && chance.random_bool(0.3);
                let padding = if long { chance.random_range(0..plan.padding) } else { 0 };
                answers.push(write(&client, witness, to, padding).await);
            }
            Some(answer) = answers.next() => match answer {
                Ok(ack) => witness.acked(&ack),
                Err(_) => witness.refused(),
            },
            event = events.next() => {
                let first = event.expect("a client that goes on");
                // Whatever else is there is taken and confirmed with it.
                let more = std::iter::from_fn(|| events.next().now_or_never().flatten()).take(31);
                let batch: Vec<_> = std::iter::once(first).chain(more).collect();
                take(&client, witness, batch, hesitation(chance)).await;
            }
            changed = act.changed() => {
                changed.unwrap();
                if *act.borrow() == Act::End {
                    break;
                }
            }
        }
    }
    client.close().await.unwrap();
}

async fn write(client: &Client, witness: &Witness, to: &str, padding: usize) -> Sending {
    let text = witness.writes(to);
    let sending = client.send(To::user(to), content::text(padded(&text, padding))).await.unwrap();
    witness.queued(sending.send_id(), &text);
    sending
}

/// The auditor's text, made longer by so many bytes that depend on it.
fn padded(text: &str, padding: usize) -> String {
    let filling = text.chars().cycle().take(padding);
    format!("{text}\n{padding}\n{}", filling.collect::<String>())
}

/// The message as the auditor knows it; as it is, if not every byte is as it was sent.
fn unpadded(message: &Message) -> Message {
    let mut message = message.clone();
    let text = message.text().and_then(|whole| {
        let (text, rest) = whole.split_once('\n')?;
        let padding = rest.split_once('\n')?.0.parse().ok()?;
        (padded(text, padding) == whole).then(|| text.to_owned())
    });
    if let Some(text) = text {
        message.content = content::text(&text);
    }
    message
}

/// Some applications take their time before they confirm, so that connections break and programs crash in between: what
/// then comes again must not be shown again.
fn hesitation(chance: &mut StdRng) -> Duration {
    let long = chance.random_bool(0.05);
    Duration::from_millis(if long { chance.random_range(50..500) } else { 0 })
}

async fn take(client: &Client, witness: &Witness, batch: Vec<Event>, hesitation: Duration) {
    let mut newest = Vec::new();
    for event in &batch {
        match event {
            Event::Message(message) => {
                witness.shown(&unpadded(message));
                newest.push((message.conversation, message.seq));
            }
            Event::Delivered(receipt) => witness.told(receipt, Kind::Delivered),
            Event::Read(receipt) => witness.told(receipt, Kind::Read),
            Event::Answered(answer) => match &answer.result {
                Ok(ack) => witness.acked(ack),
                Err(_) => witness.refused(),
            },
            Event::Stopped(error) => panic!("the client has stopped: {error}"),
            _ => {}
        }
    }
    if !hesitation.is_zero() {
        sleep(hesitation).await;
    }
    if let Some(position) = batch.iter().filter_map(Event::position).max() {
        witness.confirms(position);
        client.confirm(position).await.unwrap();
        witness.confirmed(position);
    }
    for (conversation, seq) in newest {
        witness.reads(conversation, seq);
        client.read(conversation, seq).await.unwrap();
    }
}

/// The state, once nobody holds it any more: a crashed client's last commit, or a process that another test is just
/// starting, which has our descriptors until it runs its own program.
pub async fn open_state(directory: &Path) -> FileState {
    let deadline = Instant::now() + LET_GO_TIME;
    loop {
        match FileState::open(directory) {
            Err(StateError::InUse { .. }) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
            state => return state.unwrap(),
        }
    }
}
