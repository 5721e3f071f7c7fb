//! The interactive shell: lines in, requests to the cluster, answers out.
//!
//! A command that fails does not keep the next ones from running; the exit code is the worst of them: 0, 1 for an error
//! ([`Error`]: a failed cas, no leader, an unknown outcome), 2 for a command that makes no sense.

mod command;
mod execute;
mod output;
mod prompt;
mod queue;
mod watch;
mod words;

use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};

use crate::client::{Client, Error};

pub use command::{COMMANDS, Command, Usage, overview};
pub use execute::execute;
pub use output::{Output, error_json};
pub use prompt::run_interactive;
pub use queue::QueueCommand;
pub use rustyline::ExternalPrinter;
pub use watch::interrupt;

/// Where answers go, and in what form.
pub struct Console<'a> {
    /// Answers.
    pub out: &'a mut dyn Write,
    /// Errors, unless they are JSON.
    pub err: &'a mut dyn Write,
    /// Whether `out` is a terminal.
    pub terminal: bool,
    /// One line of JSON for each command, on `out`.
    pub json: bool,
}

/// What came of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on. The exit code if nothing worse comes.
    Continue(u8),
    /// The line asked to leave.
    Quit,
}

/// Runs the shell on this process's standard streams: with a prompt if they are a terminal ([`run_interactive`], which
/// `on_ready` is for), otherwise the commands of standard input until its end.
/// Returns the exit code.
pub fn run(client: &mut Client, json: bool, on_ready: impl FnOnce(Box<dyn ExternalPrinter + Send>)) -> u8 {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return run_interactive(client, json, on_ready);
    }
    on_standard_streams(json, |console| run_script(client, io::stdin().lock(), console))
}

/// Runs commands on this process's standard streams. Returns the exit code.
pub fn run_commands<C: AsRef<[u8]>>(client: &mut Client, commands: &[C], json: bool) -> u8 {
    on_standard_streams(json, |console| {
        let mut worst = 0;
        for command in commands {
            match run_line(client, command.as_ref(), "", console)? {
                Flow::Continue(code) => worst = worst.max(code),
                Flow::Quit => break,
            }
        }
        Ok(worst)
    })
}

/// Runs every line of a script: the worst exit code.
pub fn run_script(client: &mut Client, mut script: impl BufRead, console: &mut Console<'_>) -> io::Result<u8> {
    let mut worst = 0;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if script.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match run_line(client, &line, &format!("line {number}: "), console)? {
            Flow::Continue(code) => worst = worst.max(code),
            Flow::Quit => break,
        }
    }
    Ok(worst)
}

/// Runs one line. `place` begins the text of an error.
pub fn run_line(client: &mut Client, line: &[u8], place: &str, console: &mut Console<'_>) -> io::Result<Flow> {
    let result = match Command::parse(line) {
        Ok(None) => return Ok(Flow::Continue(0)),
        Ok(Some(Command::Quit)) => return Ok(Flow::Quit),
        Ok(Some(Command::Watch { topic })) => match watch::watch(client, &topic, console)? {
            Ok(()) => return Ok(Flow::Continue(0)),
            Err(error) => Err(error),
        },
        Ok(Some(command)) => execute(client, &command),
        Err(error) => Err(error),
    };
    match &result {
        Ok(output) if console.json => writeln!(console.out, "{}", output.json())?,
        Ok(output) => console.out.write_all(&output.text(console.terminal))?,
        Err(error) if console.json => writeln!(console.out, "{}", error_json(error))?,
        Err(error) => writeln!(console.err, "error: {place}{error}")?,
    }
    console.out.flush()?;
    Ok(Flow::Continue(match result {
        Ok(_) => 0,
        Err(Error::Usage(_)) => 2,
        Err(_) => 1,
    }))
}

/// Nobody reads on, as in `raft-shell -e list | head -1`: no reason for words.
fn on_standard_streams(json: bool, run: impl FnOnce(&mut Console<'_>) -> io::Result<u8>) -> u8 {
    let terminal = io::stdout().is_terminal();
    let mut console = Console { out: &mut io::stdout(), err: &mut io::stderr(), terminal, json };
    match run(&mut console) {
        Ok(code) => code,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => 1,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            1
        }
    }
}
