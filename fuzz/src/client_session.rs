//! The client's login and session, driven by an application and by a server that may say anything at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_protocol::session::client::{Device, Event, Login, LoginMethod, LoginRequest, LoginStep, Session};
use postrider_protocol::wire::{self, client_frame, deliver, send};
use postrider_protocol::{frame, limits};

use crate::dice::Dice;
use crate::frames;

/// What must hold, whatever the server says: frames are well-formed and within the limits of both sides; sends go in
/// order, once a connection, only after their release, and never above the window (SEND-6, SEND-9); each gets at most one
/// answer; each position is handed over once (DLVR-3) and confirmed only once it was taken and delivered (DLVR-5); a read
/// mark goes only behind the confirmation that covers it (RCPT-6); nothing follows a goodbye or an end; no timeout spins.
pub fn client_session(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut client = Client::default();
    while client.connection(&mut dice).is_some() {}
}

/// What outlives connections, beside what the device says of itself.
#[derive(Default)]
struct Client {
    device: Device,
    now: Duration,
    pushed: BTreeMap<u64, Bytes>,
    released: u64,
    answered: BTreeSet<u64>,
    last_entry: u64,
    /// Messages that were handed over: position, conversation, seq.
    messages: Vec<(u64, u64, u64)>,
    /// The position that covers the read mark of a conversation.
    reads: BTreeMap<u64, (u64, u64)>,
}

/// What one connection was seen to do.
struct Seen {
    window: usize,
    max_frame_bytes: usize,
    last_send: u64,
    in_flight: BTreeSet<u64>,
    delivered: u64,
    told: u64,
    heard: Duration,
    goodbye: bool,
    over: bool,
}

impl Client {
    /// `None` when the input is at its end, else the connection did not go on.
    fn connection(&mut self, dice: &mut Dice<'_>) -> Option<()> {
        let Some((session, welcome)) = self.log_in(dice)? else { return Some(()) };
        self.use_session(dice, session, &welcome)
    }

    fn log_in(&mut self, dice: &mut Dice<'_>) -> Option<Option<(Box<Session>, Box<wire::Welcome>)>> {
        let kind = dice.byte()? % 3;
        let method = match kind {
            0 => LoginMethod::Open,
            1 => LoginMethod::DeviceKey,
            _ => LoginMethod::Enroll { code: "PR-7K2QM-0XW4T-9ZRB3-H5VNC".into(), public_key: [7; 32] },
        };
        let request = LoginRequest {
            app: "dev".into(),
            user: "alice".into(),
            device: "phone".into(),
            device_id: u64::from(dice.byte()? % 2),
            window: dice.number()? as u32,
            agent: "fuzz".into(),
            method,
        };
        let mut login = Login::new(request, &self.device);
        let hello = transmitted(|out| login.poll_transmit(out), limits::MAX_LOGIN_FRAME_BYTES);
        let [wire::ClientFrame { received: 0, body: Some(client_frame::Body::Hello(hello)) }] = &hello[..] else {
            panic!("LOGIN-1: {hello:?}");
        };
        assert_eq!(hello.cursor, self.device.inbox.confirmed());
        let mut signed = false;
        loop {
            match login.handle_frame(frames::server_frame(dice)?, &mut self.device, self.now) {
                Ok(LoginStep::Sign { .. }) => {
                    assert!(kind != 0 && !signed, "LOGIN-5");
                    login.handle_signature(&[1; limits::SIGNATURE_BYTES]);
                    signed = true;
                    let proof = transmitted(|out| login.poll_transmit(out), limits::MAX_LOGIN_FRAME_BYTES);
                    assert!(matches!(&proof[..], [frame] if matches!(frame.body, Some(client_frame::Body::Proof(_)))));
                }
                Ok(LoginStep::LoggedIn(session, welcome)) => {
                    assert_eq!(signed, kind != 0);
                    return Some(Some((session, welcome)));
                }
                Ok(LoginStep::Waiting) => {}
                Ok(LoginStep::Failed(_)) | Err(_) => return Some(None),
            }
            assert!(!login.poll_transmit(&mut BytesMut::new()), "a login says nothing unasked");
        }
    }

    fn use_session(&mut self, dice: &mut Dice<'_>, mut session: Box<Session>, welcome: &wire::Welcome) -> Option<()> {
        let max_frame_bytes = welcome.max_frame_bytes as usize;
        let mut seen = Seen {
            window: (welcome.send_window as usize).clamp(1, limits::SEND_WINDOW),
            max_frame_bytes: max_frame_bytes.clamp(limits::MAX_LOGIN_FRAME_BYTES, limits::MAX_FRAME_BYTES),
            last_send: 0,
            in_flight: BTreeSet::new(),
            delivered: welcome.cursor,
            told: welcome.cursor,
            heard: self.now,
            goodbye: false,
            over: false,
        };
        self.last_entry = self.last_entry.max(welcome.cursor);
        let idle = Duration::from_millis(welcome.idle_timeout_ms.max(limits::MIN_IDLE_TIMEOUT_MS).into());
        let mut paused = false;
        while !seen.over {
            match dice.byte()? % 16 {
                0..=3 => {
                    let frame = frames::server_frame(dice)?;
                    if let Some(wire::server_frame::Body::Deliver(deliver)) = &frame.body {
                        seen.delivered = seen.delivered.max(deliver.position);
                    }
                    seen.heard = self.now;
                    if session.handle_frame(frame, &mut self.device, self.now).is_err() {
                        return Some(());
                    }
                }
                4 => {
                    self.now += Duration::from_millis(dice.number()?.min(100_000));
                    session.handle_timeout(self.now);
                }
                5 | 6 => self.push(dice)?,
                7 => {
                    let up_to = dice.number()?;
                    self.device.outbox.release(up_to);
                    self.released = self.released.max(up_to.min(self.device.outbox.highest()));
                }
                8 => {
                    self.device.inbox.confirm(dice.number()?);
                    assert!(self.device.inbox.confirmed() <= self.device.inbox.seen());
                }
                9 => self.read(dice)?,
                10 => session.link(),
                11 if dice.flag()? => session.goodbye(),
                12 => {
                    paused = dice.flag()?;
                    session.set_paused(paused, self.now);
                }
                13 => self.wait_for_timeout(&mut session, &mut seen),
                14 if dice.flag()? => return Some(()),
                _ => self.transmit(&mut session, &mut seen),
            }
            self.take_events(&mut session, &mut seen, idle, paused);
        }
        assert!(transmitted(|out| session.poll_transmit(&mut self.device, out, self.now), 0).is_empty());
        assert_eq!((session.poll_event(), session.poll_timeout()), (None, None), "nothing follows the end");
        Some(())
    }

    fn push(&mut self, dice: &mut Dice<'_>) -> Option<()> {
        let to = send::To::Conversation(dice.number()?);
        // Some are near the smallest frame limit that a server can have.
        let length = match dice.byte()? {
            length @ 0..=200 => usize::from(length),
            length => limits::MAX_LOGIN_FRAME_BYTES + usize::from(length) - 240,
        };
        let content = Bytes::from(vec![length as u8; length]);
        let room = self.device.outbox.has_room();
        let highest = self.device.outbox.highest();
        if let Ok(send_id) = self.device.outbox.push(to, content.clone()) {
            assert!(room && send_id == highest + 1);
            self.pushed.insert(send_id, content);
        }
        assert!(self.device.outbox.len() <= limits::SEND_WINDOW);
        Some(())
    }

    fn read(&mut self, dice: &mut Dice<'_>) -> Option<()> {
        let (conversation, seq) = (dice.number()?, dice.number()?);
        let covers = |(_, of, number): &&(u64, u64, u64)| *of == conversation && *number <= seq;
        let after = self.messages.iter().filter(covers).map(|(position, ..)| *position).max();
        let news = self.reads.get(&conversation).is_none_or(|(known, _)| *known < seq);
        if self.device.inbox.read(conversation, seq) && news {
            self.reads.insert(conversation, (seq, after.unwrap_or(0)));
        }
        Some(())
    }

    /// Runs the timer that the session asked for.
    fn wait_for_timeout(&mut self, session: &mut Session, seen: &mut Seen) {
        let Some(due) = session.poll_timeout() else { return };
        self.now = self.now.max(due);
        session.handle_timeout(self.now);
        self.transmit(session, seen);
        assert!(session.poll_timeout().is_none_or(|next| next > self.now), "a timer that is due at once for ever");
    }

    fn transmit(&mut self, session: &mut Session, seen: &mut Seen) {
        let frames = transmitted(|out| session.poll_transmit(&mut self.device, out, self.now), seen.max_frame_bytes);
        for wire::ClientFrame { received, body } in frames {
            assert!(!seen.goodbye, "nothing follows a goodbye");
            if received != 0 {
                assert!(received > seen.told && received <= seen.delivered, "DLVR-5: {received}");
                assert!(received <= self.device.inbox.confirmed());
                seen.told = received;
            }
            match body {
                None => assert!(received != 0, "FRAME-6"),
                Some(client_frame::Body::Send(send)) => {
                    assert!(send.send_id > seen.last_send && send.send_id <= self.released, "SEND-9: {send:?}");
                    assert!(!self.answered.contains(&send.send_id));
                    assert_eq!(self.pushed.get(&send.send_id), Some(&send.content));
                    seen.last_send = send.send_id;
                    seen.in_flight.insert(send.send_id);
                    assert!(seen.in_flight.len() <= seen.window, "SEND-6");
                }
                Some(client_frame::Body::Read(read)) => {
                    let &(seq, after) = self.reads.get(&read.conversation).expect("a mark that was made");
                    assert_eq!(read.seq, seq);
                    assert!(seen.told >= after, "RCPT-6: {read:?} is covered by {after}, told is {}", seen.told);
                }
                Some(client_frame::Body::Goodbye(_)) => seen.goodbye = true,
                Some(client_frame::Body::Ping(_) | client_frame::Body::LinkDevice(_)) => {}
                Some(other) => panic!("LOGIN-7: {other:?}"),
            }
        }
        assert_eq!(session.said_goodbye(), seen.goodbye);
    }

    fn take_events(&mut self, session: &mut Session, seen: &mut Seen, idle: Duration, paused: bool) {
        while let Some(event) = session.poll_event() {
            assert!(!seen.over, "nothing follows the end: {event:?}");
            match event {
                Event::Acked(wire::Ack { send_id, .. }) | Event::Refused { send_id, .. } => {
                    assert!(seen.in_flight.remove(&send_id), "an answer to what was not asked here: {send_id}");
                    assert!(self.answered.insert(send_id), "a second answer to {send_id}");
                }
                Event::Entry { position, entry } => {
                    assert!(position > self.last_entry, "DLVR-3: {position} after {}", self.last_entry);
                    self.last_entry = position;
                    if let Some(deliver::Entry::Message(message)) = entry {
                        self.messages.push((position, message.conversation, message.seq));
                    }
                }
                Event::Closed(_) => seen.over = true,
                Event::Unresponsive => {
                    assert!(!paused && self.now >= seen.heard + idle, "CONN-1: the peer spoke within the idle timeout");
                    seen.over = true;
                }
                Event::CaughtUp | Event::LinkCode(_) | Event::Error(_) => {}
            }
        }
    }
}

/// Everything there is to write, as frames; each must be whole, well-formed and at most `limit` bytes long.
fn transmitted(mut transmit: impl FnMut(&mut BytesMut) -> bool, limit: usize) -> Vec<wire::ClientFrame> {
    let mut frames = Vec::new();
    let mut out = BytesMut::new();
    while transmit(&mut out) {
        while let Some(body) = frame::take(&mut out, limit).expect("LIMIT-1") {
            frames.push(frame::decode_client(body).expect("well-formed"));
        }
        assert!(out.is_empty(), "whole frames only");
    }
    frames
}
