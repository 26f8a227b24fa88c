//! What the task does about its connection: attempts, login, frames, loss.

use std::time::Duration;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::session::client::{self as session, LoginMethod, LoginRequest, LoginStep};
use postrider_protocol::wire::{ServerFrame, Welcome};
use postrider_protocol::{frame, limits, proof};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::link::{Connection, Link, LinkEvent, Phase, plain};
use super::{Driver, End};
use crate::{Ack, Answer, Change, Error, Event, Login, Options, SendError, tls};

impl Driver {
    pub(super) fn handle_link(&mut self, event: LinkEvent) -> Result<(), End> {
        match event {
            LinkEvent::RetryDue => {
                self.connect();
                Ok(())
            }
            LinkEvent::Connected(outcome) => match *outcome {
                Ok(stream) => {
                    self.start_login(stream);
                    Ok(())
                }
                Err(error) => self.disconnected(error),
            },
            LinkEvent::Written => Ok(()),
            LinkEvent::Read(0) => self.disconnected(self.lost("the server closed it without a word")),
            LinkEvent::Read(_) => self.handle_input(),
            LinkEvent::Failed(error) => self.disconnected(self.lost(plain(&error))),
        }
    }

    /// When [`handle_deadline`](Self::handle_deadline) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of_link = match &self.link {
            Link::Up(connection) => match &connection.phase {
                Phase::Login { deadline, .. } => Some(*deadline),
                Phase::Session { session, .. } => session.poll_timeout().map(|timeout| self.started + timeout),
            },
            _ => None,
        };
        let of_close = self.closing.as_ref().map(|closing| closing.deadline);
        of_link.into_iter().chain(of_close).min()
    }

    pub(super) fn handle_deadline(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.closing.as_ref().is_some_and(|closing| now >= closing.deadline) {
            return Err(End::Closed);
        }
        let elapsed = self.now();
        let Link::Up(connection) = &mut self.link else { return Ok(()) };
        match &mut connection.phase {
            Phase::Login { deadline, .. } if now >= *deadline => {
                let (server, timeout) = (self.options.server.clone(), self.options.connect_timeout);
                self.disconnected(Error::Timeout { server, timeout })
            }
            Phase::Login { .. } => Ok(()),
            Phase::Session { session, .. } => {
                session.handle_timeout(elapsed);
                self.handle_session_events()
            }
        }
    }

    fn connect(&mut self) {
        let timeout = self.options.connect_timeout;
        self.link = Link::connecting(self.options.server.clone(), self.tls.clone(), timeout);
    }

    fn start_login(&mut self, stream: TlsStream<TcpStream>) {
        let Link::Connecting { deadline, .. } = &self.link else { return };
        let deadline = *deadline;
        let method = self.login_method();
        let request = LoginRequest {
            app: self.options.app.clone(),
            user: self.options.user.clone(),
            device: self.options.device.clone(),
            device_id: self.device_id,
            window: self.options.window,
            agent: self.options.agent.clone(),
            method,
        };
        let mut login = session::Login::new(request, &self.device);
        let mut output = bytes::BytesMut::new();
        login.poll_transmit(&mut output);
        let mut connection = Connection::new(stream, Phase::Login { login, deadline });
        connection.output = output;
        self.link = Link::Up(Box::new(connection));
    }

    fn login_method(&self) -> LoginMethod {
        match (&self.options.login, &self.key) {
            (Login::Open, _) => LoginMethod::Open,
            // The same again until there is a Welcome (LOGIN-10).
            (Login::Enroll { code }, Some(key)) if self.device_id == 0 => {
                LoginMethod::Enroll { code: code.clone(), public_key: key.public() }
            }
            _ => LoginMethod::DeviceKey,
        }
    }

    /// Takes every whole frame that has arrived.
    fn handle_input(&mut self) -> Result<(), End> {
        loop {
            let Link::Up(connection) = &mut self.link else { return Ok(()) };
            let taken = frame::take(&mut connection.input, limits::MAX_FRAME_BYTES);
            let decoded = match taken.and_then(|body| body.map(frame::decode_server).transpose()) {
                Ok(None) => return self.handle_session_events(),
                Ok(Some(frame)) => self.handle_frame(frame),
                Err(error) => self.disconnected(self.lost(format!("the server broke the protocol: {error}"))),
            };
            decoded?;
        }
    }

    fn handle_frame(&mut self, frame: ServerFrame) -> Result<(), End> {
        let now = self.now();
        let Link::Up(connection) = &mut self.link else { return Ok(()) };
        match &mut connection.phase {
            Phase::Session { session, .. } => match session.handle_frame(frame, &mut self.device, now) {
                Ok(()) => Ok(()),
                Err(error) => self.disconnected(self.lost(format!("the server broke the protocol: {error}"))),
            },
            Phase::Login { login, .. } => match login.handle_frame(frame, &mut self.device, now) {
                Ok(LoginStep::Waiting) => Ok(()),
                Ok(LoginStep::Sign { nonce }) => self.sign(&nonce),
                Ok(LoginStep::LoggedIn(session, welcome)) => {
                    connection.phase = Phase::Session { session, since: Instant::now() };
                    self.logged_in(&welcome);
                    Ok(())
                }
                Ok(LoginStep::Failed(error)) => self.disconnected(Error::Server(error.into())),
                Err(error) if error.code == ErrorCode::BadFrame => {
                    self.disconnected(self.lost(format!("the server broke the protocol: {error}")))
                }
                Err(error) => self.disconnected(Error::Server((&error).into())),
            },
        }
    }

    fn sign(&mut self, nonce: &[u8; limits::NONCE_BYTES]) -> Result<(), End> {
        let (Link::Up(connection), Some(key)) = (&mut self.link, &self.key) else { return Ok(()) };
        let Phase::Login { login, .. } = &mut connection.phase else { return Ok(()) };
        let exporter = match tls::exporter(&connection.stream) {
            Ok(exporter) => exporter,
            Err(error) => return self.disconnected(self.lost(format!("TLS gives no exporter: {error}"))),
        };
        let Options { app, user, device, .. } = &self.options;
        login.handle_signature(&key.sign(&proof::signed_bytes(&exporter, nonce, app, user, device)));
        login.poll_transmit(&mut connection.output);
        Ok(())
    }

    fn logged_in(&mut self, welcome: &Welcome) {
        let batch = self.committer.pending();
        if self.device_id != welcome.device_id {
            self.device_id = welcome.device_id;
            batch.push(Change::DeviceId(welcome.device_id));
            batch.push(Change::HighestSendId(self.device.outbox.highest()));
        }
        if self.device.inbox.confirmed() > self.cursor {
            self.cursor = self.device.inbox.confirmed();
            batch.push(Change::Cursor(self.cursor));
        }
        let ready = self.ready.take();
        let resumed = ready.is_none();
        if let Some(ready) = ready {
            let _ = ready.send(Ok(()));
        }
        tracing::debug!(server = %welcome.server, backlog = welcome.head - welcome.cursor.min(welcome.head), "connected");
        self.tell_news(Event::Connected { resumed });
    }

    fn handle_session_events(&mut self) -> Result<(), End> {
        loop {
            let Some((session, _)) = self.link.session() else { return Ok(()) };
            match session.poll_event() {
                None => return Ok(()),
                Some(event) => self.handle_session_event(event)?,
            }
        }
    }

    fn handle_session_event(&mut self, event: session::Event) -> Result<(), End> {
        match event {
            session::Event::Acked(ack) => self.answered(ack.send_id, Ok(ack.into())),
            session::Event::Refused { send_id, error } => {
                self.answered(send_id, Err(SendError::refused(send_id, error)));
            }
            session::Event::Entry { position, entry } => self.tell(Event::from_entry(position, entry)),
            session::Event::CaughtUp if self.caught_up_once => self.tell_news(Event::CaughtUp),
            session::Event::CaughtUp => {
                self.caught_up_once = true;
                self.tell(Event::CaughtUp);
            }
            session::Event::LinkCode(code) => {
                if let Some(reply) = self.links.pop_front() {
                    let _ = reply.send(Ok(code.into()));
                }
            }
            session::Event::Error(error) => match self.links.pop_front() {
                Some(reply) => {
                    let _ = reply.send(Err(Error::Server(error.into())));
                }
                None => tracing::warn!(code = error.code, name = %error.name, "the server reports an error"),
            },
            session::Event::Closed(Some(error)) => return self.disconnected(Error::Server(error.into())),
            session::Event::Closed(None) => return self.disconnected(self.lost("the server said goodbye")),
            session::Event::Unresponsive => {
                return self.disconnected(self.lost("the server does not answer any more"));
            }
        }
        Ok(())
    }

    fn answered(&mut self, send_id: u64, result: Result<Ack, SendError>) {
        self.committer.pending().push(Change::Answered(send_id));
        if let Some(waiter) = self.answers.remove(&send_id) {
            // The application may have lost interest.
            let _ = waiter.send(result);
        } else if send_id <= self.earlier {
            self.tell(Event::Answered(Answer { send_id, result }));
        }
        self.tell_flushed();
    }

    /// The connection is gone, or was not made. Ends the task if that is for good.
    fn disconnected(&mut self, error: Error) -> Result<(), End> {
        if let Link::Up(connection) = &self.link
            && let Phase::Session { since, .. } = connection.phase
        {
            self.backoff.was_connected(since.elapsed());
        }
        for reply in self.links.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        if self.closing.is_none() && self.is_final(&error) {
            return Err(End::Stopped(error));
        }
        let advice = if let Error::Server(error) = &error { error.retry_after } else { Duration::ZERO };
        let retry_in = self.backoff.next(advice);
        tracing::debug!(%error, ?retry_in, "disconnected");
        self.link = Link::Down { retry_at: Instant::now() + retry_in };
        if self.closing.is_none() {
            self.tell_news(Event::Disconnected { reason: error.to_string(), retry_in });
        }
        Ok(())
    }

    fn is_final(&self, error: &Error) -> bool {
        match error {
            // A server that was right once may be so again, when its operator has mended it.
            Error::Untrusted { .. } | Error::NotPostrider { .. } if self.ready.is_none() => false,
            _ if self.ready.is_some() && !self.options.retry_first => true,
            error => error.is_permanent(),
        }
    }
}
