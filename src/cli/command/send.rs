//! `postrider send`: one message, or one a line from stdin, pipelined.
//!
//! The sending device's inbox is left alone: messages that arrive meanwhile are not confirmed, so that a later `listen`
//! or `chat` shows them. Only receipts that were shown here are confirmed, and none beyond the first such message.

mod progress;
mod tally;

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt, stream};
use postrider_client::{Client, Error, Event, Events, SendError, Sending, To, content};
use postrider_client::{limits, name};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use crate::cli::command::listen::{after, seconds};
use crate::cli::exit::{EXIT_CODES, Exit, Failure};
use crate::cli::signals::Signals;
use crate::cli::target::{self, Connected, TargetFlags, UserFlags};
use progress::Progress;
use tally::Tally;

/// Send messages
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Send {
    #[command(flatten)]
    user: UserFlags,
    /// To whom
    #[arg(long, value_name = "NAME")]
    to: String,
    /// What to wait for before ending
    #[arg(long, value_enum, default_value_t = Wait::Ack)]
    wait: Wait,
    /// Stop waiting after this long; exits with 6
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print each answer when sending from stdin, not only a summary
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    target: TargetFlags,
    /// The message, or - for one message a line from stdin
    #[arg(value_name = "TEXT|-")]
    text: String,
}

/// What `send` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Wait {
    /// The message is on the server's stable storage
    Ack,
    /// A device of the recipient has taken it
    Delivered,
    /// The recipient has read it
    Read,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(send: Send) -> Result<Exit, Failure> {
    name::check("the recipient's name", &send.to).map_err(|bad| Failure::usage(bad.detail))?;
    let mut signals = Signals::listen()?;
    let mut timeout = Box::pin(after(send.timeout));
    // Receipts come behind whatever else waits in the inbox and is not confirmed here.
    let window = if send.wait == Wait::Ack { 1 } else { limits::MAX_WINDOW };
    let connecting = target::connect(&send.target, &send.user, |options| {
        options.manual_confirm().window(window).close_timeout(Duration::from_secs(2))
    });
    let connected = tokio::select! {
        connected = connecting => connected?,
        _ = signals.next() => return Ok(Exit::Interrupted),
        () = &mut timeout => return Err(Failure::new(Exit::TimedOut, "timed out before the login; nothing was sent")),
    };
    let Connected { client, mut events, device } = connected;
    let from_stdin = send.text == "-";
    let quiet = from_stdin && !send.json && !send.verbose && !std::io::stdin().is_terminal();
    let progress = Progress::start(from_stdin && !send.json && !send.verbose);
    let mut tally = Tally::new(&send.user.user, &send.to, send.wait, send.json, quiet, progress);
    let ended = tokio::select! {
        done = work(&send, &client, &mut events, &mut tally, &device) => done.map(|()| None),
        _ = signals.next() => Ok(Some(Failure::new(Exit::Interrupted, "interrupted"))),
        () = &mut timeout => Ok(Some(Failure::new(Exit::TimedOut, "timed out"))),
    };
    let summary = tally.finish(from_stdin);
    let early = ended?;
    let closed = client.close().await;
    summary?;
    if let Some(Failure { exit, message }) = early {
        // Answers may still have come while the client was closing.
        let left = if let Err(Error::Unanswered(left)) = closed { left } else { 0 };
        return Err(Failure::new(exit, format!("{message}; {}", tally.what_is_missing(left))));
    }
    closed?;
    Ok(tally.exit())
}

/// Until everything is read, sent, answered, and waited for.
async fn work(
    send: &Send,
    client: &Client,
    events: &mut Events,
    tally: &mut Tally,
    device: &str,
) -> Result<(), Failure> {
    let mut input = std::pin::pin!(texts(&send.text));
    let (mut reading, mut has_ended) = (true, false);
    let mut answers: FuturesOrdered<Sending> = FuturesOrdered::new();
    while reading || has_ended || !answers.is_empty() || !tally.is_satisfied() {
        let answer = tokio::select! {
            Some(answer) = answers.next() => answer,
            text = input.next(), if reading && !has_ended && answers.len() < limits::SEND_WINDOW => {
                let Some(text) = text.transpose()? else {
                    reading = false;
                    continue;
                };
                let bytes = text.len() + 1;
                match client.submit(To::user(&send.to), content::text(text)).await {
                    Ok(sending) => {
                        tally.submitted(bytes);
                        answers.push_back(sending);
                        continue;
                    }
                    Err(error) => Err(error),
                }
            }
            event = events.next() => match event {
                Some(Event::Stopped(error)) => return Err(target::explain(error, &send.user.user, device)),
                Some(event) => {
                    tally.happened(&event, device)?;
                    if let Some(position) = tally.take_confirmable() {
                        client.confirm(position).await?;
                    }
                    continue;
                }
                None => return Err(Failure::other("the client ended without a word")),
            },
        };
        // The client has ended, and an event is to say why: nothing passes for sent before that.
        has_ended |= matches!(answer, Err(SendError::Closed));
        tally.answered(answer)?;
    }
    if let Some(position) = tally.take_last_confirmable() {
        client.confirm(position).await?;
    }
    Ok(())
}

/// The messages: the one given, or a line of stdin each.
fn texts(text: &str) -> impl Stream<Item = Result<String, Failure>> {
    if text != "-" {
        return stream::once(std::future::ready(Ok(text.to_owned()))).left_stream();
    }
    let codec = LinesCodec::new_with_max_length(limits::MAX_FRAME_BYTES);
    let mut number = 0_u64;
    let lines = FramedRead::with_capacity(tokio::io::stdin(), codec, 64 * 1024);
    let named = lines.map(move |line| {
        number += 1;
        line.map_err(|error| {
            let what = match error {
                LinesCodecError::MaxLineLengthExceeded => "is longer than any message may be".to_owned(),
                LinesCodecError::Io(error) => format!("cannot be read: {error}"),
            };
            Failure::other(format!("line {number} of stdin {what}; the lines before it were sent"))
        })
    });
    named.right_stream()
}
