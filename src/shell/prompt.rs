//! The prompt: line editing, history and completion.

use std::cell::RefCell;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper, Highlighter, Hinter, Validator};

use super::command::COMMANDS;
use super::{Console, Flow, run_line, words};
use crate::client::Client;

const PROMPT: &str = "raft> ";
/// Nobody waits longer for keys to choose from.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(300);

/// Reads commands at a prompt until `quit` or Ctrl-D. Returns the exit code: 0, unless the terminal fails.
///
/// What other threads have to say in the meantime (the logs of `raft cluster`) must go through the printer that
/// `on_ready` gets before the first prompt: it writes above the prompt and what is being typed. A text should end with a
/// line end. When the prompt is gone its `print` fails, and standard error is free again. A terminal that cannot do this
/// gets no printer.
pub fn run_interactive(client: &mut Client, json: bool, on_ready: impl FnOnce(Box<dyn ExternalPrinter + Send>)) -> u8 {
    match interact(client, json, on_ready) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: the terminal: {error}");
            1
        }
    }
}

fn interact(
    client: &mut Client,
    json: bool,
    on_ready: impl FnOnce(Box<dyn ExternalPrinter + Send>),
) -> rustyline::Result<()> {
    let config = Config::builder()
        .auto_add_history(true)
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::<ShellHelper, DefaultHistory>::with_config(config)?;
    editor.set_helper(Some(ShellHelper::new(client)));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    if let Ok(printer) = editor.create_external_printer() {
        on_ready(Box::new(printer));
    }
    writeln!(io::stdout(), "`help` lists the commands, Ctrl-D leaves.")?;
    let mut interrupted = false;
    'prompt: loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                interrupted = false;
                let mut console = Console { out: &mut io::stdout(), err: &mut io::stderr(), terminal: true, json };
                // What is pasted comes at once, however many lines it has.
                for line in line.lines() {
                    if run_line(client, line.as_bytes(), "", &mut console)? == Flow::Quit {
                        break 'prompt;
                    }
                }
            }
            Err(ReadlineError::Interrupted) if interrupted => writeln!(io::stdout(), "Ctrl-D or quit leaves.")?,
            Err(ReadlineError::Interrupted) => interrupted = true,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error),
        }
    }
    if let Some(file) = &history {
        // A history that cannot be kept is no reason to complain.
        let _ = editor.append_history(file);
    }
    Ok(())
}

/// `$XDG_STATE_HOME/raft_history` or `~/.raft_history`.
fn history_file() -> Option<PathBuf> {
    match env::var_os("XDG_STATE_HOME") {
        Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder).join("raft_history")),
        _ => env::home_dir().map(|home| home.join(".raft_history")),
    }
}

/// Completes commands, nodes, topics and keys.
#[derive(Helper, Hinter, Highlighter, Validator)]
struct ShellHelper {
    labels: Vec<String>,
    /// Its own client, so that a search for keys has its own short timeout.
    client: RefCell<Client>,
}

impl ShellHelper {
    fn new(client: &Client) -> Self {
        ShellHelper {
            labels: client.nodes().map(|node| node.label.clone()).collect(),
            client: RefCell::new(Client::new(client.nodes().cloned(), COMPLETION_TIMEOUT)),
        }
    }

    /// What the last word, of which there is `start`, can become after the words before it.
    fn candidates(&self, before: &[&str], start: &str) -> Vec<String> {
        let names = COMMANDS.iter().map(|usage| usage.name.to_owned());
        let mut candidates: Vec<String> = match before {
            [] | ["help"] | ["send", _] => names.collect(),
            ["transfer" | "log" | "state" | "send"] => self.labels.clone(),
            ["debug"] => self.labels.iter().cloned().chain(["all".to_owned()]).collect(),
            ["topic"] => ["create", "list", "delete", "info", "purge"].map(str::to_owned).into(),
            ["topic", "delete" | "info" | "purge"] => self.topics(),
            ["put" | "take" | "receive" | "ack" | "nack" | "extend" | "length" | "watch"] => self.topics(),
            ["get" | "set" | "cas" | "del" | "list"] | ["send", _, _] => self.keys(start),
            _ => Vec::new(),
        };
        candidates.retain(|candidate| candidate.starts_with(start));
        candidates
    }

    /// Keys that begin so and need no quotes; none if the cluster does not answer at once.
    fn keys(&self, start: &str) -> Vec<String> {
        let items = self.client.borrow_mut().list(start.as_bytes(), None).unwrap_or_default();
        bare(items.into_iter().map(|(key, _)| key))
    }

    /// Topics that need no quotes; none if the cluster does not answer at once.
    fn topics(&self) -> Vec<String> {
        bare(self.client.borrow_mut().topics().unwrap_or_default())
    }
}

/// Those that need no quotes.
fn bare(items: impl IntoIterator<Item = Bytes>) -> Vec<String> {
    let texts = items.into_iter().filter_map(|word| String::from_utf8(word.into()).ok());
    texts.filter(|text| words::quote(text.as_bytes()) == *text).collect()
}

impl Completer for ShellHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..position).unwrap_or(line);
        let start_at = typed.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let (before, start) = typed.split_at_checked(start_at).unwrap_or(("", typed));
        let before: Vec<_> = before.split_whitespace().collect();
        Ok((start_at, self.candidates(&before, start)))
    }
}
