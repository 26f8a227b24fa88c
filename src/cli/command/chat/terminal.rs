//! What is typed and shown: a line editor on a terminal, under which other lines can appear while one is typed; plain
//! lines otherwise.

use std::io::IsTerminal;
use std::sync::mpsc as blocking;

use futures_util::StreamExt;
use postrider_client::limits;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::cli::exit::Failure;
use crate::cli::print;

/// Undoes what the editor asks of the terminal while a line is typed.
const BRACKETED_PASTE_OFF: &str = "\x1b[?2004l";

/// Something typed.
pub enum Input {
    /// A line.
    Line(String),
    /// Ctrl-D, Ctrl-C, or the end of a file.
    End,
    /// It cannot be read.
    Failed(String),
}

/// Where lines come from and go to.
pub enum Terminal {
    /// A person.
    Editor(Editor),
    /// A script.
    Plain(Box<FramedRead<tokio::io::Stdin, LinesCodec>>),
}

/// The line editor, which has a thread of its own because it blocks.
pub struct Editor {
    printer: Box<dyn ExternalPrinter + Send>,
    prompts: blocking::SyncSender<String>,
    lines: mpsc::Receiver<Input>,
    /// Whether a line is being typed.
    asking: bool,
    /// How the terminal was before.
    before: Option<Termios>,
}

impl Terminal {
    /// The editor when both ends are a terminal.
    pub fn open() -> Result<Self, Failure> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            let codec = LinesCodec::new_with_max_length(limits::MAX_FRAME_BYTES);
            return Ok(Terminal::Plain(Box::new(FramedRead::new(tokio::io::stdin(), codec))));
        }
        let failed = |error: ReadlineError| Failure::other(format!("cannot use this terminal: {error}"));
        let before = tcgetattr(std::io::stdin()).ok();
        let mut editor = DefaultEditor::new().map_err(failed)?;
        let printer = Box::new(editor.create_external_printer().map_err(failed)?);
        let (prompts, asked) = blocking::sync_channel(1);
        let (answer, lines) = mpsc::channel(1);
        std::thread::spawn(move || edit(editor, &asked, &answer));
        Ok(Terminal::Editor(Editor { printer, prompts, lines, asking: false, before }))
    }

    /// Asks for the next line. A script needs no prompt.
    pub fn ask(&mut self, prompt: String) -> Result<(), Failure> {
        match self {
            Terminal::Editor(editor) => {
                editor.asking = true;
                editor.prompts.try_send(prompt).map_err(|_| Failure::other("the line editor has ended"))
            }
            Terminal::Plain(_) => Ok(()),
        }
    }

    /// The next line. Dropping the future loses none.
    pub async fn next(&mut self) -> Input {
        match self {
            Terminal::Editor(editor) => {
                let input = editor.lines.recv().await.unwrap_or(Input::End);
                editor.asking = false;
                input
            }
            Terminal::Plain(lines) => match lines.next().await {
                Some(Ok(line)) => Input::Line(line),
                Some(Err(error)) => Input::Failed(error.to_string()),
                None => Input::End,
            },
        }
    }

    /// Shows a line, above the one that is being typed.
    pub fn show(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Terminal::Editor(editor) => editor
                .printer
                .print(format!("{line}\n"))
                .map_err(|error| Failure::other(format!("cannot write to this terminal: {error}"))),
            Terminal::Plain(_) => Ok(print::line(line)?),
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        if !self.asking {
            return;
        }
        // The editor has no chance to tidy up after itself. Nothing can be done about a terminal that is gone.
        let _ = print::line(BRACKETED_PASTE_OFF);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn edit(mut editor: DefaultEditor, asked: &blocking::Receiver<String>, answer: &mpsc::Sender<Input>) {
    for prompt in asked {
        let input = match editor.readline(&prompt) {
            Ok(line) => {
                // A line that cannot be recalled is no reason to stop.
                drop(editor.add_history_entry(line.as_str()));
                Input::Line(line)
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Input::End,
            Err(error) => Input::Failed(error.to_string()),
        };
        let last = !matches!(input, Input::Line(_));
        if answer.blocking_send(input).is_err() || last {
            return;
        }
    }
}
