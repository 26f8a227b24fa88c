//! Both sessions against each other in simulated time, over a link that splits what it carries and breaks. The tests beside
//! this file drive it with random steps; the fuzz target `session_pair` with a fuzzer's.
//!
//! The server side here has the smallest store that keeps the rules: it answers each `send_id` once and puts every
//! message into the inbox of the one device there is, so that both directions carry the same traffic.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_protocol::session::client::{Device, Event, Inbox, Login, LoginMethod, LoginRequest, LoginStep, Outbox};
use postrider_protocol::session::{client, server};
use postrider_protocol::wire::{self, deliver, send, server_frame::Body};
use postrider_protocol::{frame, limits};

const IDLE: Duration = Duration::from_secs(3);

/// What the network or the clock does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The application sends.
    Send,
    /// So many bytes arrive at the server.
    ToServer(usize),
    /// So many bytes arrive at the client.
    ToClient(usize),
    /// The application takes and confirms one message.
    Take,
    /// Time passes.
    Wait(u64),
    /// The connection breaks; what was under way is lost.
    Break,
    /// The application marks everything it was given as read, before it confirms it.
    Read,
    /// The client's process ends and comes back with what it had made durable.
    Restart,
}

/// The truth behind the server's session.
#[derive(Default)]
struct Store {
    /// Content of each accepted send; its index is `send_id`, `seq` and `position`, less one.
    accepted: Vec<Bytes>,
    cursor: u64,
    read: u64,
}

enum ClientSide {
    LoggingIn(Login),
    LoggedIn(Box<client::Session>),
}

enum ServerSide {
    Expecting,
    LoggedIn { session: server::Session, streamed: u64 },
}

pub struct World {
    now: Duration,
    device: Device,
    device_id: u64,
    store: Store,
    client: ClientSide,
    server: ServerSide,
    to_server: BytesMut,
    to_client: BytesMut,
    server_inbound: BytesMut,
    client_inbound: BytesMut,
    waiting: VecDeque<(u64, Bytes)>,
    sent: u64,
    acked: u64,
    taken: Vec<Bytes>,
    marked: u64,
    pub breaks_by_silence: u64,
}

impl World {
    /// Alice has one device, which is about to log in.
    pub fn new() -> Self {
        let device = Device::default();
        let client = ClientSide::LoggingIn(Self::login(&device, 0));
        let mut world = Self {
            now: Duration::ZERO,
            device,
            device_id: 0,
            store: Store::default(),
            client,
            server: ServerSide::Expecting,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
            server_inbound: BytesMut::new(),
            client_inbound: BytesMut::new(),
            waiting: VecDeque::new(),
            sent: 0,
            acked: 0,
            taken: Vec::new(),
            marked: 0,
            breaks_by_silence: 0,
        };
        world.transmit();
        world
    }

    fn login(device: &Device, device_id: u64) -> Login {
        let request = LoginRequest {
            app: "dev".into(),
            user: "alice".into(),
            device: "laptop".into(),
            device_id,
            window: 4,
            agent: String::new(),
            method: LoginMethod::Open,
        };
        Login::new(request, device)
    }

    pub fn step(&mut self, step: Step) {
        match step {
            Step::Send => {
                if self.device.outbox.has_room() {
                    self.sent += 1;
                    let content = Bytes::from(self.sent.to_string());
                    let id = self.device.outbox.push(send::To::User("alice".into()), content).expect("room");
                    assert_eq!(id, self.sent);
                    self.device.outbox.release(id);
                }
            }
            Step::ToServer(bytes) => {
                let bytes = bytes.min(self.to_server.len());
                self.server_inbound.unsplit(self.to_server.split_to(bytes));
                self.serve();
            }
            Step::ToClient(bytes) => {
                let bytes = bytes.min(self.to_client.len());
                self.client_inbound.unsplit(self.to_client.split_to(bytes));
                self.hear();
            }
            Step::Take => {
                if let Some((position, content)) = self.waiting.pop_front() {
                    self.taken.push(content);
                    self.device.inbox.confirm(position);
                }
            }
            Step::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                self.time_out();
            }
            Step::Break => self.reconnect(),
            Step::Read => {
                let had = (self.taken.len() + self.waiting.len()) as u64;
                if self.device.inbox.read(1, had) {
                    self.marked = had;
                }
            }
            Step::Restart => {
                let outbox = &self.device.outbox;
                let outbox = Outbox::restore(outbox.highest(), outbox.iter().cloned());
                self.device = Device { outbox, inbox: Inbox::restore(self.device.inbox.confirmed()) };
                // What was not taken comes again; read marks are the application's to repeat (RCPT-10).
                self.waiting.clear();
                self.marked = self.store.read;
                self.reconnect();
            }
        }
        self.transmit();
    }

    /// Client frames that are whole by now.
    fn serve(&mut self) {
        while let Some(body) = frame::take(&mut self.server_inbound, limits::MAX_LOGIN_FRAME_BYTES).expect("in bounds")
        {
            let frame = frame::decode_client(body).expect("well-formed");
            match &mut self.server {
                ServerSide::Expecting => {
                    let hello = server::AwaitingHello::new().handle_frame(frame).expect("a good hello");
                    assert!(hello.device_id == 0 || hello.device_id == 1);
                    self.store.cursor = self.store.cursor.max(hello.cursor);
                    let head = self.store.accepted.len() as u64;
                    assert!(hello.cursor <= head);
                    let welcome = wire::Welcome {
                        device_id: 1,
                        highest_send_id: head,
                        cursor: self.store.cursor,
                        head,
                        idle_timeout_ms: IDLE.as_millis() as u32,
                        max_frame_bytes: limits::DEFAULT_FRAME_BYTES as u32,
                        send_window: 3,
                        ..Default::default()
                    };
                    let session = server::Session::new(self.store.cursor, IDLE, self.now);
                    self.server = ServerSide::LoggedIn { session, streamed: self.store.cursor };
                    self.tell(Body::Welcome(welcome));
                }
                ServerSide::LoggedIn { session, .. } => {
                    let requests = session.handle_frame(frame, self.now).expect("the client keeps the rules");
                    self.store.cursor = self.store.cursor.max(requests.received.unwrap_or(0));
                    match requests.request {
                        None => {}
                        Some(server::Request::Send { send_id, content, .. }) => self.commit(send_id, content),
                        Some(server::Request::Ping { token }) => self.tell(Body::Pong(wire::Pong { token })),
                        Some(server::Request::Read { conversation: 1, seq }) => {
                            assert!(seq <= self.store.cursor, "RCPT-6: {seq} is read, {} taken", self.store.cursor);
                            self.store.read = self.store.read.max(seq);
                        }
                        other => panic!("nothing else is asked here: {other:?}"),
                    }
                }
            }
            self.stream();
        }
    }

    fn commit(&mut self, send_id: u64, content: Bytes) {
        let head = self.store.accepted.len() as u64;
        assert!((1..=head + 1).contains(&send_id), "SEND-1: {send_id} after {head}");
        if send_id == head + 1 {
            self.store.accepted.push(content);
        } else {
            assert_eq!(
                self.store.accepted[send_id as usize - 1],
                content,
                "SEND-9: the same content under the same id"
            );
        }
        self.tell(Body::Ack(wire::Ack { send_id, conversation: 1, seq: send_id, time: 0 }));
        if let ServerSide::LoggedIn { session, .. } = &mut self.server {
            session.handle_answered(1);
        }
    }

    /// Entries within the client's window of 4.
    fn stream(&mut self) {
        while let ServerSide::LoggedIn { session, streamed } = &mut self.server {
            let head = self.store.accepted.len() as u64;
            if *streamed >= head || *streamed >= session.confirmed() + 4 {
                return;
            }
            *streamed += 1;
            let position = *streamed;
            session.handle_delivered(position);
            let content = self.store.accepted[position as usize - 1].clone();
            let message = wire::Message { conversation: 1, seq: position, content, ..Default::default() };
            let entry = Some(deliver::Entry::Message(message));
            self.tell(Body::Deliver(wire::Deliver { position, entry }));
        }
    }

    fn tell(&mut self, body: Body) {
        frame::put(&server::frame(body), &mut self.to_client);
    }

    /// Server frames that are whole by now.
    fn hear(&mut self) {
        while let Some(body) = frame::take(&mut self.client_inbound, limits::MAX_FRAME_BYTES).expect("in bounds") {
            let frame = frame::decode_server(body).expect("well-formed");
            match &mut self.client {
                ClientSide::LoggingIn(login) => {
                    match login.handle_frame(frame, &mut self.device, self.now).expect("the server keeps the rules") {
                        LoginStep::LoggedIn(session, welcome) => {
                            self.device_id = welcome.device_id;
                            self.client = ClientSide::LoggedIn(session);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                ClientSide::LoggedIn(session) => {
                    session.handle_frame(frame, &mut self.device, self.now).expect("the server keeps the rules");
                    while let Some(event) = session.poll_event() {
                        match event {
                            Event::Acked(ack) => {
                                self.acked += 1;
                                assert_eq!(ack.send_id, self.acked, "each send is answered once, in order");
                            }
                            Event::Entry { position, entry: Some(deliver::Entry::Message(message)) } => {
                                self.waiting.push_back((position, message.content));
                            }
                            other => panic!("nothing else happens here: {other:?}"),
                        }
                    }
                }
            }
        }
    }

    fn transmit(&mut self) {
        match &mut self.client {
            ClientSide::LoggingIn(login) => drop(login.poll_transmit(&mut self.to_server)),
            ClientSide::LoggedIn(session) => {
                while session.poll_transmit(&mut self.device, &mut self.to_server, self.now) {}
            }
        }
    }

    /// Either side may find the other silent for too long; then the connection is over.
    fn time_out(&mut self) {
        let mut over =
            matches!(&self.server, ServerSide::LoggedIn { session, .. } if session.handle_timeout(self.now).is_err());
        if let ClientSide::LoggedIn(session) = &mut self.client {
            session.handle_timeout(self.now);
            while let Some(event) = session.poll_event() {
                assert_eq!(event, Event::Unresponsive);
                over = true;
            }
        }
        if over {
            self.breaks_by_silence += 1;
            self.reconnect();
        }
    }

    fn reconnect(&mut self) {
        for buffer in [&mut self.to_server, &mut self.to_client, &mut self.server_inbound, &mut self.client_inbound] {
            buffer.clear();
        }
        self.server = ServerSide::Expecting;
        self.client = ClientSide::LoggingIn(Self::login(&self.device, self.device_id));
    }

    /// The network behaves from now on: everything must come to its end.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.step(Step::ToServer(usize::MAX));
            self.step(Step::ToClient(usize::MAX));
            self.step(Step::Take);
            let taken = self.taken.len() as u64 == self.sent && self.store.cursor == self.sent;
            if taken && self.acked == self.sent && self.store.read >= self.marked {
                return self.check();
            }
        }
        panic!("sent {}, acked {}, taken {}", self.sent, self.acked, self.taken.len());
    }

    /// Every send was answered once, and every message taken once, in order.
    fn check(&self) {
        let wanted: Vec<Bytes> = (1..=self.sent).map(|number| Bytes::from(number.to_string())).collect();
        assert_eq!(self.store.accepted, wanted);
        assert_eq!(self.taken, wanted);
    }
}
