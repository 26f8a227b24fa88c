//! `postrider listen`: prints what arrives. What was printed is confirmed, so it is printed once.

use std::time::Duration;

use clap::Args;
use postrider_client::{Client, Error, Event, Message, Receipt};

use crate::cli::exit::{EXIT_CODES, Exit, Failure};
use crate::cli::lines::Line;
use crate::cli::print;
use crate::cli::signals::Signals;
use crate::cli::target::{self, Connected, TargetFlags, UserFlags};

/// Print what arrives
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Listen {
    #[command(flatten)]
    user: UserFlags,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Mark each message as read
    #[arg(long)]
    read: bool,
    /// Stop after this long; exits with 6 if --count messages have not come by then
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetFlags,
}

/// A number of seconds, whole or not, on the command line.
///
/// # Errors
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && duration.as_secs() <= 10 * 365 * 86_400)
        .ok_or_else(|| "not a time that can be waited for".to_owned())
}

/// Resolves after the time, or never.
pub async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(listen: Listen) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let mut timeout = Box::pin(after(listen.timeout));
    let connecting = target::connect(&listen.target, &listen.user, |options| options);
    let Connected { client, mut events, device } = tokio::select! {
        connected = connecting => connected?,
        _ = signals.next() => return Ok(Exit::Ok),
        () = &mut timeout => return Err(Failure::new(Exit::TimedOut, "timed out before the login")),
    };
    let (mut shown, mut timed_out) = (0, false);
    while listen.count != Some(shown) {
        let event = tokio::select! {
            biased;
            _ = signals.next() => break,
            () = &mut timeout => {
                timed_out = true;
                break;
            }
            // Asking for the next event confirms the one before: it has been printed.
            event = events.next() => event,
        };
        match event {
            // What cannot be printed is not confirmed either: the client is dropped as it is.
            Some(Event::Message(message)) => {
                show_message(&message, &listen.user.user, listen.json)?;
                shown += 1;
                if listen.read {
                    client.read(message.conversation, message.seq).await?;
                }
            }
            Some(Event::Stopped(error)) => return Err(target::explain(error, &listen.user.user, &device)),
            Some(event) => show_other(&event, &device, listen.json)?,
            None => return Err(Failure::other("the client ended without a word")),
        }
    }
    finish(&client).await?;
    match listen.count {
        Some(count) if timed_out => {
            Err(Failure::new(Exit::TimedOut, format!("timed out with {shown} of {count} messages")))
        }
        _ => Ok(Exit::Ok),
    }
}

/// Confirms what was printed and says goodbye. Messages that an earlier command left unanswered stay for the next one.
async fn finish(client: &Client) -> Result<(), Failure> {
    match client.close().await {
        Ok(()) | Err(Error::Unanswered(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn show_message(message: &Message, user: &str, as_json: bool) -> std::io::Result<()> {
    if as_json { print::json(&Line::message(message)) } else { print::line(&message_for_people(message, user)) }
}

/// A message as a person reads it.
#[must_use]
pub fn message_for_people(message: &Message, user: &str) -> String {
    let sender = print::escape(&message.sender);
    let words = match message.text() {
        Some(text) => print::escape(text).into_owned(),
        None => format!("({} bytes that are not text)", message.content.len()),
    };
    if message.recipient == user && message.sender != user {
        format!("{sender}: {words}")
    } else {
        format!("{sender} → {}: {words}", print::escape(&message.recipient))
    }
}

/// Everything but messages. The connection's ups and downs go to stderr when people read.
fn show_other(event: &Event, device: &str, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return match json_of(event, device) {
            Some(line) => print::json(&line),
            None => Ok(()),
        };
    }
    match event {
        Event::Delivered(receipt) => print::line(&receipt_for_people("✓✓ delivered to", receipt)),
        Event::Read(receipt) => print::line(&receipt_for_people("✓✓ read by", receipt)),
        Event::Expired(receipt) => print::line(&receipt_for_people("expired before it reached", receipt)),
        Event::Disconnected { .. } | Event::Connected { resumed: true } => {
            print::complain(&connection_for_people(event));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn receipt_for_people(what: &str, receipt: &Receipt) -> String {
    let Receipt { conversation, user, seq, .. } = receipt;
    format!("{what} {} up to {seq} (conversation {conversation})", print::escape(user))
}

/// What became of the connection, as a person reads it.
#[must_use]
pub fn connection_for_people(event: &Event) -> String {
    match event {
        Event::Disconnected { reason, retry_in } => {
            format!("disconnected: {}; again in {:.1} s", print::escape(reason), retry_in.as_secs_f32())
        }
        _ => "connected again".into(),
    }
}

/// Any event but a message as JSON, if it has a line.
#[must_use]
pub fn json_of<'e>(event: &'e Event, device: &'e str) -> Option<Line<'e>> {
    Some(match event {
        Event::Message(message) => Line::message(message),
        Event::Delivered(receipt) => Line::delivered(receipt),
        Event::Read(receipt) => Line::read(receipt),
        Event::Expired(receipt) => Line::expired(receipt),
        Event::CaughtUp => Line::CaughtUp,
        Event::Connected { resumed } => Line::Connected { device, resumed: *resumed },
        Event::Disconnected { reason, retry_in } => {
            Line::Disconnected { reason, retry_in_ms: u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX) }
        }
        Event::Answered(answer) => match &answer.result {
            Ok(ack) => Line::ack(ack),
            Err(error) => return Line::refused(error),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use postrider_client::content;

    use super::*;

    fn message(sender: &str, recipient: &str, content: impl Into<bytes::Bytes>) -> Message {
        let (sender, recipient) = (sender.into(), recipient.into());
        Message { position: 1, conversation: 1, seq: 1, sender, recipient, time: 0, content: content.into() }
    }

    #[test]
    fn people_see_who_wrote_and_no_control_characters() {
        let show = |message: &Message| message_for_people(message, "bob");
        assert_eq!(show(&message("alice", "bob", content::text("hi\x1b[2J"))), "alice: hi\\u{1b}[2J");
        assert_eq!(show(&message("bob", "alice", content::text("hi"))), "bob → alice: hi");
        assert_eq!(show(&message("alice", "bob", &b"\xff"[..])), "alice: (1 bytes that are not text)");
    }

    #[test]
    fn times_to_wait_are_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["0", "-1", "soon", "inf", "NaN", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
