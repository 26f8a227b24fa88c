//! `postrider chat`: messages back and forth. On a terminal with a line editor, else line by line from stdin.

mod terminal;

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use postrider_client::name;
use postrider_client::{Ack, Client, Event, Message, SendError, Sending, To, content};

use crate::cli::command::listen::{after, connection_for_people, message_for_people};
use crate::cli::exit::{EXIT_CODES, Exit, Failure};
use crate::cli::print::escape;
use crate::cli::signals::Signals;
use crate::cli::target::{self, Connected, TargetFlags, UserFlags};
use terminal::{Input, Terminal};

/// How long the end of the input waits for answers to what was typed.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

const HELP: &str = "\
  /to NAME   write to NAME from now on; what they wrote and you have seen counts as read
  /quit      end (or Ctrl-D)
  //text     send a line that begins with a slash
  ✓ on the server's disk   ✓✓ on a device of theirs";

/// Write messages back and forth in the terminal
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Chat {
    #[command(flatten)]
    user: UserFlags,
    /// Whom to write to first
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    #[command(flatten)]
    target: TargetFlags,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(Chat { user, to, target }: Chat) -> Result<Exit, Failure> {
    if let Some(to) = &to {
        name::check("the recipient's name", to).map_err(|bad| Failure::usage(bad.detail))?;
    }
    let mut signals = Signals::listen()?;
    let connecting = target::connect(&target, &user, |options| options.close_timeout(Duration::from_secs(2)));
    let Connected { client, mut events, device } = tokio::select! {
        connected = connecting => connected?,
        _ = signals.next() => return Ok(Exit::Ok),
    };
    let terminal = Terminal::open()?;
    let mut chat = Conversation { user: user.user, client, terminal, peer: to, unread: HashMap::new(), ended: false };
    let mut answers: FuturesOrdered<Sending> = FuturesOrdered::new();
    chat.greet()?;
    let mut last_answers = Box::pin(after(None));
    while !chat.ended || !answers.is_empty() {
        tokio::select! {
            biased;
            _ = signals.next() => break,
            () = &mut last_answers => break,
            event = events.next() => match event {
                Some(Event::Stopped(error)) => return Err(target::explain(error, &chat.user, &device)),
                Some(event) => chat.happened(event).await?,
                None => return Err(Failure::other("the client ended without a word")),
            },
            Some(answer) = answers.next() => chat.answered(answer)?,
            input = chat.terminal.next(), if !chat.ended => {
                if let Some(sending) = chat.typed(input).await? {
                    answers.push_back(sending);
                }
                if chat.ended {
                    last_answers = Box::pin(after(Some(LAST_ANSWERS)));
                }
            }
        }
    }
    let unanswered = answers.len();
    match chat.client.close().await {
        Ok(()) => Ok(Exit::Ok),
        Err(postrider_client::Error::Unanswered(_)) => {
            let kept = "messages have no answer yet; they are kept, and the next command as this user sends them";
            Err(Failure::other(format!("{unanswered} {kept}")))
        }
        Err(error) => Err(error.into()),
    }
}

struct Conversation {
    user: String,
    client: Client,
    terminal: Terminal,
    /// Whom typed lines go to.
    peer: Option<String>,
    /// By sender: the conversation and the newest message that was shown and does not count as read.
    unread: HashMap<String, (u64, u64)>,
    ended: bool,
}

impl Conversation {
    fn greet(&mut self) -> Result<(), Failure> {
        let help = "/help lists what else there is";
        match self.peer.as_deref().map(escape) {
            Some(peer) => self.terminal.show(&format!("you are {}, writing to {peer}; {help}", escape(&self.user)))?,
            None => self.terminal.show(&format!("you are {}; type whom to write to; {help}", escape(&self.user)))?,
        }
        self.prompt()
    }

    fn prompt(&mut self) -> Result<(), Failure> {
        let prompt = match &self.peer {
            Some(peer) => format!("{}> ", escape(peer)),
            None => "to: ".into(),
        };
        self.terminal.ask(prompt)
    }

    async fn typed(&mut self, input: Input) -> Result<Option<Sending>, Failure> {
        let mut sending = None;
        match input {
            Input::End => self.ended = true,
            Input::Failed(why) => return Err(Failure::other(format!("cannot read what is typed: {why}"))),
            Input::Line(line) => sending = self.line(&line).await?,
        }
        if !self.ended {
            self.prompt()?;
        }
        Ok(sending)
    }

    async fn line(&mut self, line: &str) -> Result<Option<Sending>, Failure> {
        let text = match (line.strip_prefix("//"), line.strip_prefix('/'), &self.peer) {
            (Some(_), _, _) => &line[1..],
            (None, Some(command), _) => return self.command(command).await.map(|()| None),
            (None, None, _) if line.trim().is_empty() => return Ok(None),
            (None, None, None) => return self.write_to(line.trim()).await.map(|()| None),
            (None, None, Some(_)) => line,
        };
        let Some(peer) = self.peer.clone() else {
            self.terminal.show("  to whom? type a name first")?;
            return Ok(None);
        };
        match self.client.send(To::user(peer), content::text(text)).await {
            Ok(sending) => Ok(Some(sending)),
            Err(error @ SendError::TooLarge { .. }) => {
                self.terminal.show(&format!("  ✗ not sent: {error}"))?;
                Ok(None)
            }
            // The event that follows says why.
            Err(_) => Ok(None),
        }
    }

    async fn command(&mut self, command: &str) -> Result<(), Failure> {
        match command.trim().split_once(' ').unwrap_or((command.trim(), "")) {
            ("to", name) => self.write_to(name.trim()).await,
            ("help", _) => self.terminal.show(HELP),
            ("quit" | "q" | "exit", _) => {
                self.ended = true;
                Ok(())
            }
            _ => self.terminal.show("  there is no such command; /help lists them"),
        }
    }

    async fn write_to(&mut self, peer: &str) -> Result<(), Failure> {
        if let Err(bad) = name::check("the name", peer) {
            return self.terminal.show(&format!("  {}", bad.detail));
        }
        self.peer = Some(peer.to_owned());
        if let Some((conversation, seq)) = self.unread.remove(peer) {
            self.client.read(conversation, seq).await?;
        }
        self.terminal.show(&format!("  writing to {} now", escape(peer)))
    }

    fn answered(&mut self, answer: Result<Ack, SendError>) -> Result<(), Failure> {
        match answer {
            Ok(ack) => self.terminal.show(&format!("  ✓ {}", ack.seq)),
            // The event that follows says why.
            Err(SendError::Closed) => Ok(()),
            Err(error) => self.terminal.show(&format!("  ✗ {}", escape(&error.to_string()))),
        }
    }

    async fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Message(message) => self.message(message).await,
            Event::Delivered(it) => self.terminal.show(&format!("  ✓✓ delivered to {} ({})", escape(&it.user), it.seq)),
            // That another device of ours has read is no news to the reader.
            Event::Read(it) if it.user == self.user => Ok(()),
            Event::Read(it) => self.terminal.show(&format!("  ✓✓ read by {} ({})", escape(&it.user), it.seq)),
            Event::Expired(it) => {
                self.terminal.show(&format!("  ✗ expired before it reached {} ({})", escape(&it.user), it.seq))
            }
            Event::Disconnected { .. } | Event::Connected { resumed: true } => {
                self.terminal.show(&format!("  ({})", connection_for_people(&event)))
            }
            Event::Answered(answer) => self.answered(answer.result),
            _ => Ok(()),
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), Failure> {
        self.terminal.show(&message_for_people(&message, &self.user))?;
        if message.sender == self.user {
            return Ok(());
        }
        if self.peer.as_ref() == Some(&message.sender) {
            self.client.read(message.conversation, message.seq).await?;
        } else {
            if !self.unread.contains_key(&message.sender) {
                self.terminal.show(&format!("  (/to {} to answer)", escape(&message.sender)))?;
            }
            self.unread.insert(message.sender, (message.conversation, message.seq));
        }
        Ok(())
    }
}
