//! The client's side against a server that is played here, over a network that loses whatever is under way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{Device, Event, Inbox, Login, LoginMethod, LoginRequest, LoginStep, Outbox, PushError, Session};
use crate::error::{CodedError, ErrorCode};
use crate::wire::{self, ClientFrame, ServerFrame, client_frame, deliver, send, server_frame};
use crate::{frame, limits};

const IDLE: Duration = Duration::from_millis(3000);
const CONVERSATION: u64 = 7;
const ZERO: Duration = Duration::ZERO;

fn request(method: LoginMethod) -> LoginRequest {
    let (app, user, device, agent) = ("dev".into(), "alice".into(), "laptop".into(), "test".into());
    LoginRequest { app, user, device, device_id: 0, window: 0, agent, method }
}

fn welcome() -> wire::Welcome {
    wire::Welcome {
        device_id: 5,
        idle_timeout_ms: IDLE.as_millis() as u32,
        max_frame_bytes: 64 * 1024,
        send_window: 8,
        ..Default::default()
    }
}

fn server_frame(body: server_frame::Body) -> ServerFrame {
    ServerFrame { body: Some(body) }
}

fn ack(send_id: u64) -> ServerFrame {
    let ack = wire::Ack { send_id, conversation: CONVERSATION, seq: send_id, time: 1 };
    server_frame(server_frame::Body::Ack(ack))
}

fn message(position: u64, seq: u64) -> ServerFrame {
    let message = wire::Message { conversation: CONVERSATION, seq, ..Default::default() };
    let entry = Some(deliver::Entry::Message(message));
    server_frame(server_frame::Body::Deliver(wire::Deliver { position, entry }))
}

fn log_in(device: &mut Device, welcome: wire::Welcome) -> Result<Session, CodedError> {
    let mut login = Login::new(request(LoginMethod::Open), device);
    let mut out = BytesMut::new();
    assert!(login.poll_transmit(&mut out));
    match login.handle_frame(server_frame(server_frame::Body::Welcome(welcome)), device, ZERO)? {
        LoginStep::LoggedIn(session, _) => Ok(*session),
        other => panic!("{other:?}"),
    }
}

fn frames(out: &mut BytesMut) -> Vec<ClientFrame> {
    let mut frames = Vec::new();
    while let Some(body) = frame::take(out, limits::MAX_FRAME_BYTES).expect("well-formed") {
        frames.push(frame::decode_client(body).expect("well-formed"));
    }
    frames
}

fn transmitted(session: &mut Session, device: &mut Device, now: Duration) -> Vec<ClientFrame> {
    let mut out = BytesMut::new();
    while session.poll_transmit(device, &mut out, now) {}
    frames(&mut out)
}

fn push(device: &mut Device, content: &'static str) -> u64 {
    device.outbox.push(send::To::User("bob".into()), Bytes::from_static(content.as_bytes())).expect("room")
}

fn sent_ids(frames: &[ClientFrame]) -> Vec<u64> {
    let id = |frame: &ClientFrame| match &frame.body {
        Some(client_frame::Body::Send(send)) => Some(send.send_id),
        _ => None,
    };
    frames.iter().filter_map(id).collect()
}

#[test]
fn a_key_login_answers_the_challenge_with_a_signature() {
    let mut device = Device::default();
    let mut login = Login::new(request(LoginMethod::DeviceKey), &device);
    let mut out = BytesMut::new();
    assert!(login.poll_transmit(&mut out));
    assert!(!login.poll_transmit(&mut out), "Hello goes once");
    let early = login.handle_frame(server_frame(server_frame::Body::Welcome(welcome())), &mut device, ZERO);
    assert_eq!(early.expect_err("no Welcome without a proof").code, ErrorCode::BadFrame);

    let challenge = wire::Challenge { nonce: vec![9; 32].into() };
    let step = login.handle_frame(server_frame(server_frame::Body::Challenge(challenge)), &mut device, ZERO);
    assert!(matches!(step, Ok(LoginStep::Sign { nonce }) if nonce == [9; 32]));
    login.handle_signature(&[3; 64]);
    out.clear();
    assert!(login.poll_transmit(&mut out));
    let proof = wire::Proof { signature: vec![3; 64].into() };
    assert_eq!(frames(&mut out)[0].body, Some(client_frame::Body::Proof(proof)));
    let step = login.handle_frame(server_frame(server_frame::Body::Welcome(welcome())), &mut device, ZERO);
    assert!(matches!(step, Ok(LoginStep::LoggedIn(..))));
}

#[test]
fn a_welcome_for_another_device_than_the_states_is_refused() {
    let mut device = Device::default();
    let mut login = Login::new(LoginRequest { device_id: 4, ..request(LoginMethod::Open) }, &device);
    let step = login.handle_frame(server_frame(server_frame::Body::Welcome(welcome())), &mut device, ZERO);
    assert_eq!(step.expect_err("device 5 is not device 4").code, ErrorCode::DeviceExpired);
}

/// SYNC-9.
#[test]
fn a_server_that_has_forgotten_what_it_acked_is_told_by_its_welcome() {
    let sends = |ids: std::ops::RangeInclusive<u64>| {
        ids.map(|send_id| wire::Send { send_id, ..Default::default() }).collect::<Vec<_>>()
    };
    // What was given out, what of it has no answer, and from where on the server knows all that it answered.
    for (highest, unanswered, answered) in [(3, vec![], 3), (5, sends(4..=5), 3), (5, sends(1..=5), 0)] {
        for known in 0..=highest {
            let mut device = Device { outbox: Outbox::restore(highest, unanswered.clone()), ..Device::default() };
            let welcomed = log_in(&mut device, wire::Welcome { highest_send_id: known, ..welcome() });
            match welcomed {
                Ok(_) => assert!(known >= answered, "{known} of {answered}"),
                Err(error) => assert!(error.code == ErrorCode::DeviceExpired && known < answered, "{error:?}"),
            }
        }
    }
}

#[test]
fn nothing_goes_out_before_it_is_released_and_no_more_than_the_window_at_once() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    (0..10).for_each(|_| assert!(push(&mut device, "x") > 0));
    assert_eq!(transmitted(&mut session, &mut device, ZERO), []);
    device.outbox.release(9);
    assert_eq!(sent_ids(&transmitted(&mut session, &mut device, ZERO)), [1, 2, 3, 4, 5, 6, 7, 8]);
    session.handle_frame(ack(1), &mut device, ZERO).expect("fine");
    session.handle_frame(ack(1), &mut device, ZERO).expect("a repeated answer is ignored");
    session.handle_frame(ack(9), &mut device, ZERO).expect("so is one to a send that was not written");
    assert_eq!(sent_ids(&transmitted(&mut session, &mut device, ZERO)), [9]);
    assert!(matches!(session.poll_event(), Some(Event::Acked(wire::Ack { send_id: 1, .. }))));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn the_outbox_never_spans_more_ids_than_the_server_keeps_answers() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, wire::Welcome { send_window: 1000, ..welcome() }).expect("login");
    (0..limits::SEND_WINDOW).for_each(|_| assert!(push(&mut device, "x") > 0));
    let full = device.outbox.push(send::To::Conversation(1), Bytes::new());
    assert_eq!(full, Err(PushError::Full));
    device.outbox.release(u64::MAX);
    assert_eq!(transmitted(&mut session, &mut device, ZERO).len(), limits::SEND_WINDOW);
    session.handle_frame(ack(2), &mut device, ZERO).expect("fine");
    assert!(!device.outbox.has_room(), "1 is still open");
    session.handle_frame(ack(1), &mut device, ZERO).expect("fine");
    assert!(device.outbox.has_room());
}

#[test]
fn a_client_without_state_goes_on_from_the_servers_count() {
    let mut device = Device::default();
    log_in(&mut device, wire::Welcome { highest_send_id: 41, ..welcome() }).expect("login");
    assert_eq!(push(&mut device, "x"), 42);
}

#[test]
fn a_server_that_has_counted_to_the_last_send_id_is_refused_and_nothing_overflows() {
    let mut device = Device::default();
    for highest_send_id in [u64::MAX, u64::MAX - 1] {
        let error = log_in(&mut device, wire::Welcome { highest_send_id, ..welcome() }).expect_err("no number");
        assert_eq!(error.code, ErrorCode::BadFrame);
    }
    let mut session = log_in(&mut device, wire::Welcome { highest_send_id: u64::MAX - 2, ..welcome() }).expect("one");
    push(&mut device, "the last");
    device.outbox.release(u64::MAX);
    assert_eq!(sent_ids(&transmitted(&mut session, &mut device, ZERO)), [u64::MAX - 1]);
    assert!(!device.outbox.has_room());
    let mut outbox = Outbox::restore(u64::MAX, []);
    assert_eq!(outbox.push(send::To::Conversation(CONVERSATION), Bytes::new()), Err(PushError::Full));
}

#[test]
fn a_state_with_numbers_that_no_client_gives_overflows_nothing() {
    let queued =
        |send_id| wire::Send { send_id, to: Some(send::To::Conversation(CONVERSATION)), content: Bytes::new() };
    let outbox = Outbox::restore(0, [queued(0), queued(7), queued(u64::MAX)]);
    let mut device = Device { outbox, inbox: Inbox::default() };
    assert!(!device.outbox.has_room());
    let mut session = log_in(&mut device, welcome()).expect("login");
    device.outbox.release(u64::MAX);
    assert_eq!(sent_ids(&transmitted(&mut session, &mut device, ZERO)), [0, 7]);
}

#[test]
fn a_message_above_the_servers_limit_is_told_before_it_is_queued_and_at_login() {
    let mut device = Device::default();
    let small = wire::Welcome { max_frame_bytes: 9000, ..welcome() };
    log_in(&mut device, small.clone()).expect("login");
    let large = Bytes::from(vec![0; 9000]);
    let refused = device.outbox.push(send::To::Conversation(1), large.clone());
    assert!(matches!(refused, Err(PushError::TooLarge { limit: 9000, .. })));
    assert_eq!(device.outbox.highest(), 0, "it took no id");

    let queued = wire::Send { send_id: 1, to: Some(send::To::Conversation(1)), content: large };
    let mut device = Device { outbox: Outbox::restore(1, [queued]), inbox: Inbox::default() };
    assert_eq!(log_in(&mut device, small).expect_err("too large").code, ErrorCode::FrameTooLarge);
}

#[test]
fn a_read_mark_waits_for_the_confirmation_that_covers_it() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    for position in 1..=3 {
        session.handle_frame(message(position, position), &mut device, ZERO).expect("fine");
    }
    assert!(device.inbox.read(CONVERSATION, 2));
    assert_eq!(transmitted(&mut session, &mut device, ZERO), []);
    device.inbox.confirm(1);
    assert_eq!(transmitted(&mut session, &mut device, ZERO), [ClientFrame { received: 1, body: None }]);
    device.inbox.confirm(3);
    let read = client_frame::Body::Read(wire::Read { conversation: CONVERSATION, seq: 2 });
    let expected = ClientFrame { received: 3, body: Some(read) };
    assert_eq!(transmitted(&mut session, &mut device, ZERO), [expected], "one frame carries both");
}

#[test]
fn on_a_new_connection_reads_are_said_again_before_unanswered_messages() {
    let mut device = Device::default();
    let mut first = log_in(&mut device, welcome()).expect("login");
    first.handle_frame(message(1, 1), &mut device, ZERO).expect("fine");
    device.inbox.confirm(1);
    assert!(device.inbox.read(CONVERSATION, 1));
    push(&mut device, "unanswered");
    device.outbox.release(1);
    transmitted(&mut first, &mut device, ZERO);
    let mut second = log_in(&mut device, wire::Welcome { cursor: 1, ..welcome() }).expect("login");
    let said = transmitted(&mut second, &mut device, ZERO);
    let kinds: Vec<_> = said.iter().map(|frame| matches!(frame.body, Some(client_frame::Body::Read(_)))).collect();
    assert_eq!(kinds, [true, false], "RCPT-10: {said:?}");
}

#[test]
fn a_position_is_confirmed_only_where_it_was_delivered_on_this_connection() {
    let mut device = Device::default();
    let mut first = log_in(&mut device, welcome()).expect("login");
    first.handle_frame(message(1, 1), &mut device, ZERO).expect("fine");
    let mut second = log_in(&mut device, welcome()).expect("login");
    device.inbox.confirm(1);
    assert_eq!(transmitted(&mut second, &mut device, ZERO), [], "not delivered here yet");
    second.handle_frame(message(1, 1), &mut device, ZERO).expect("fine");
    assert_eq!(second.poll_event(), None, "seen before");
    assert_eq!(transmitted(&mut second, &mut device, ZERO), [ClientFrame { received: 1, body: None }]);
}

#[test]
fn an_entry_of_an_unknown_kind_counts_as_seen() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    let unknown = server_frame(server_frame::Body::Deliver(wire::Deliver { position: 1, entry: None }));
    session.handle_frame(unknown, &mut device, ZERO).expect("fine");
    assert_eq!(session.poll_event(), Some(Event::Entry { position: 1, entry: None }));
    device.inbox.confirm(1);
    assert_eq!(transmitted(&mut session, &mut device, ZERO), [ClientFrame { received: 1, body: None }]);
}

#[test]
fn an_idle_connection_pings_and_a_silent_peer_is_given_up() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    assert_eq!(session.poll_timeout(), Some(IDLE / 3));
    session.handle_timeout(IDLE / 3);
    let ping = ClientFrame { received: 0, body: Some(client_frame::Body::Ping(wire::Ping { token: 1 })) };
    assert_eq!(transmitted(&mut session, &mut device, IDLE / 3), [ping]);

    let pong = server_frame(server_frame::Body::Pong(wire::Pong { token: 1 }));
    session.handle_frame(pong, &mut device, IDLE / 2).expect("fine");
    session.handle_timeout(IDLE * 2 / 3);
    assert_eq!(transmitted(&mut session, &mut device, IDLE * 2 / 3).len(), 1, "the second ping");
    let dead = IDLE * 2 / 3 + IDLE;
    session.handle_timeout(dead - Duration::from_millis(1));
    assert_eq!(session.poll_event(), None);
    session.handle_timeout(dead);
    assert_eq!(session.poll_event(), Some(Event::Unresponsive));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_peer_that_takes_sends_and_answers_none_is_given_up_though_the_client_never_pinged() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    push(&mut device, "x");
    device.outbox.release(1);
    assert_eq!(transmitted(&mut session, &mut device, ZERO).len(), 1);
    session.set_paused(true, ZERO);
    session.handle_timeout(IDLE);
    assert_eq!(session.poll_event(), None, "nobody reads, so nobody can tell");
    session.set_paused(false, IDLE);
    session.handle_timeout(IDLE * 2);
    assert_eq!(session.poll_event(), Some(Event::Unresponsive));
}

#[test]
fn who_sends_on_and_on_asks_with_a_ping_before_giving_up_a_peer_that_answers_nothing() {
    let mut device = Device::default();
    let many = wire::Welcome { send_window: 256, ..welcome() };
    let mut session = log_in(&mut device, many).expect("login");
    let step = IDLE / 10;
    for tenth in 0..30 {
        // The peer's disk is stuck: pings are all it answers.
        let now = step * tenth;
        session.handle_timeout(now);
        assert_eq!(session.poll_event(), None, "given up after {now:?} in spite of its Pongs");
        let send_id = push(&mut device, "x");
        device.outbox.release(send_id);
        for frame in transmitted(&mut session, &mut device, now) {
            if let Some(client_frame::Body::Ping(wire::Ping { token })) = frame.body {
                let pong = server_frame(server_frame::Body::Pong(wire::Pong { token }));
                session.handle_frame(pong, &mut device, now).expect("fine");
            }
        }
    }
    session.handle_timeout(step * 30 + IDLE);
    assert_eq!(session.poll_event(), Some(Event::Unresponsive), "when it answers nothing at all");
}

#[test]
fn goodbye_goes_after_everything_else() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, wire::Welcome { send_window: 1, ..welcome() }).expect("login");
    push(&mut device, "a");
    push(&mut device, "b");
    device.outbox.release(2);
    session.goodbye();
    assert_eq!(sent_ids(&transmitted(&mut session, &mut device, ZERO)), [1]);
    assert!(!session.said_goodbye());
    session.handle_frame(ack(1), &mut device, ZERO).expect("fine");
    let last = transmitted(&mut session, &mut device, ZERO);
    assert_eq!(sent_ids(&last), [2]);
    assert_eq!(last[1].body, Some(client_frame::Body::Goodbye(wire::Goodbye {})));
}

#[test]
fn one_link_request_waits_for_its_answer_at_a_time() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    session.link();
    session.link();
    let link = ClientFrame { received: 0, body: Some(client_frame::Body::LinkDevice(wire::LinkDevice {})) };
    assert_eq!(transmitted(&mut session, &mut device, ZERO), std::slice::from_ref(&link), "LOGIN-20");
    let code = server_frame(server_frame::Body::LinkCode(wire::LinkCode::default()));
    session.handle_frame(code, &mut device, ZERO).expect("fine");
    assert_eq!(transmitted(&mut session, &mut device, ZERO), [link]);
}

#[test]
fn an_error_that_closes_ends_the_session_and_one_that_does_not_goes_on() {
    let mut device = Device::default();
    let mut session = log_in(&mut device, welcome()).expect("login");
    for code in [ErrorCode::LinkNotAllowed, ErrorCode::Replaced] {
        let error = CodedError::new(code).to_wire();
        session.handle_frame(server_frame(server_frame::Body::Error(error)), &mut device, ZERO).expect("fine");
    }
    assert!(matches!(session.poll_event(), Some(Event::Error(error)) if error.code == 403));
    assert!(matches!(session.poll_event(), Some(Event::Closed(Some(error))) if error.code == 108));
}

/// What may happen between a client and its server, one thing at a time.
#[derive(Clone, Debug)]
enum Step {
    Push {
        refused: bool,
    },
    Release,
    Arrive,
    Confirm,
    Read,
    ToServer(usize),
    ToClient(usize),
    /// The server may or may not learn from `Hello.cursor` what was confirmed.
    BreakConnection {
        cursor_counts: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(|refused| Step::Push { refused }),
        3 => Just(Step::Release),
        4 => Just(Step::Arrive),
        2 => Just(Step::Confirm),
        2 => Just(Step::Read),
        6 => (1usize..6).prop_map(Step::ToServer),
        6 => (1usize..6).prop_map(Step::ToClient),
        2 => any::<bool>().prop_map(|cursor_counts| Step::BreakConnection { cursor_counts }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A server by the rules of the spec, which fails the test when the client breaks one.
#[derive(Default)]
struct FakeServer {
    /// The answers by `send_id - 1`, with what was sent.
    answers: Vec<(wire::Send, ServerFrame)>,
    /// Accepted messages.
    accepted: Vec<Bytes>,
    /// Messages in the client's inbox; the position of the n-th is 2n.
    inbox: u64,
    cursor: u64,
    delivered: u64,
    read: u64,
}

impl FakeServer {
    fn welcome(&mut self) -> wire::Welcome {
        self.delivered = self.cursor;
        let highest_send_id = self.answers.len() as u64;
        wire::Welcome { cursor: self.cursor, head: 2 * self.inbox, highest_send_id, ..welcome() }
    }

    fn stream(&mut self) -> Vec<ServerFrame> {
        let new = self.delivered / 2 + 1..=self.inbox;
        self.delivered = 2 * self.inbox;
        new.map(|seq| message(2 * seq, seq)).collect()
    }

    fn handle(&mut self, frame: ClientFrame) -> Option<ServerFrame> {
        assert!(frame.received <= self.delivered, "POSITION_NOT_DELIVERED");
        self.cursor = self.cursor.max(frame.received);
        match frame.body? {
            client_frame::Body::Send(send) => Some(self.answer(send)),
            client_frame::Body::Read(read) => {
                assert!(read.seq * 2 <= self.cursor, "read before it was received");
                self.read = self.read.max(read.seq);
                None
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, send: wire::Send) -> ServerFrame {
        let highest = self.answers.len() as u64;
        if send.send_id <= highest {
            let (first, answer) = &self.answers[send.send_id as usize - 1];
            assert_eq!(*first, send, "SEND_ID_REUSED");
            return answer.clone();
        }
        assert_eq!(send.send_id, highest + 1, "SEND_ID_GAP");
        let answer = if send.content.starts_with(b"no") {
            let error = Some(CodedError::new(ErrorCode::NotAccepted).to_wire());
            server_frame(server_frame::Body::Refused(wire::Refused { send_id: send.send_id, error }))
        } else {
            self.accepted.push(send.content.clone());
            ack(send.send_id)
        };
        self.answers.push((send, answer.clone()));
        answer
    }
}

/// Both sides and the network between them.
struct Play {
    server: FakeServer,
    device: Device,
    session: Session,
    to_server: VecDeque<ClientFrame>,
    to_client: VecDeque<ServerFrame>,
    pushed: Vec<Bytes>,
    answered: BTreeMap<u64, bool>,
    seen: Vec<u64>,
    marked: u64,
}

impl Play {
    fn new() -> Self {
        let mut server = FakeServer::default();
        let mut device = Device::default();
        let session = log_in(&mut device, server.welcome()).expect("login");
        let (to_server, to_client) = Default::default();
        let (pushed, answered, seen, marked) = Default::default();
        Self { server, device, session, to_server, to_client, pushed, answered, seen, marked }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push { refused } if self.device.outbox.has_room() => {
                let content = Bytes::from(format!("{}{}", if refused { "no" } else { "" }, self.pushed.len()));
                self.pushed.push(content.clone());
                self.device.outbox.push(send::To::User("bob".into()), content).expect("room");
            }
            Step::Push { .. } => {}
            Step::Release => self.device.outbox.release(self.device.outbox.highest()),
            Step::Arrive => self.server.inbox += 1,
            Step::Confirm => self.device.inbox.confirm(self.seen.last().copied().unwrap_or(0)),
            Step::Read => {
                self.marked = self.seen.last().map_or(0, |position| position / 2);
                assert!(self.device.inbox.read(CONVERSATION, self.marked));
            }
            Step::ToServer(count) => self.move_to_server(count),
            Step::ToClient(count) => self.move_to_client(count),
            Step::BreakConnection { cursor_counts } => {
                if cursor_counts {
                    self.server.cursor = self.server.cursor.max(self.device.inbox.confirmed());
                }
                self.to_server.clear();
                self.to_client.clear();
                self.session = log_in(&mut self.device, self.server.welcome()).expect("login");
            }
        }
    }

    fn move_to_server(&mut self, count: usize) {
        self.to_server.extend(transmitted(&mut self.session, &mut self.device, ZERO));
        for frame in self.to_server.drain(..count.min(self.to_server.len())) {
            self.to_client.extend(self.server.handle(frame));
        }
    }

    fn move_to_client(&mut self, count: usize) {
        self.to_client.extend(self.server.stream());
        for frame in self.to_client.drain(..count.min(self.to_client.len())) {
            self.session.handle_frame(frame, &mut self.device, ZERO).expect("the server keeps the rules");
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Acked(ack) => assert_eq!(self.answered.insert(ack.send_id, true), None, "answered once"),
                Event::Refused { send_id, .. } => assert_eq!(self.answered.insert(send_id, false), None),
                Event::Entry { position, .. } => self.seen.push(position),
                other => panic!("{other:?}"),
            }
        }
    }

    fn settle(&mut self) {
        self.step(&Step::BreakConnection { cursor_counts: false });
        for _ in 0..100 {
            for step in [Step::Release, Step::ToServer(1000), Step::ToClient(1000), Step::Confirm] {
                self.step(&step);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_breaks_each_message_is_taken_once_in_order_and_each_entry_seen_once(steps in steps()) {
        let mut play = Play::new();
        steps.iter().for_each(|step| play.step(step));
        play.settle();

        let wanted: Vec<_> = play.pushed.iter().filter(|content| !content.starts_with(b"no")).cloned().collect();
        prop_assert_eq!(&play.server.accepted, &wanted);
        let answers: Vec<_> = play.pushed.iter().map(|content| !content.starts_with(b"no")).collect();
        prop_assert_eq!(play.answered.into_values().collect::<Vec<_>>(), answers);
        prop_assert!(play.device.outbox.is_empty());
        prop_assert_eq!(play.seen, (1..=play.server.inbox).map(|seq| 2 * seq).collect::<Vec<_>>());
        prop_assert_eq!(play.server.cursor, 2 * play.server.inbox);
        prop_assert_eq!(play.server.read, play.marked);
    }
}
