//! The `raft-shell` binary: flags in, the shell's exit code out.

mod bench;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use raft::client::Client;
use raft::config::{Config, ConfigError};
use raft::shell;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use signal_hook::low_level;

/// Sends requests into a raft cluster.
///
/// Without -e it reads commands: at a prompt with history, editing and completion, or, if standard input is not a
/// terminal, line by line until its end. It finds the leader by itself, and the next one when that dies.
#[derive(Parser)]
#[command(name = "raft-shell", version, after_long_help = explanation(), after_help = "--help explains the commands.")]
struct Arguments {
    /// The cluster's configuration
    #[arg(short, long, global = true, value_name = "FILE", default_value = "raft.ini")]
    config: PathBuf,

    /// Run this command and leave; may be repeated
    #[arg(short, long = "execute", value_name = "COMMAND")]
    execute: Vec<OsString>,

    /// How long a command may take, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,

    /// Print one line of JSON for each command
    ///
    /// {"ok":true,...} or {"ok":false,"error":WORD,"definite":BOOL,"message":...}. WORD is one of unreachable, not_ready,
    /// overloaded, unknown_outcome, timeout, missing, different, exists, no_topic, full, stale, no_session, refused,
    /// protocol, usage. definite: the command certainly did not and never will take effect. `help COMMAND` names the other
    /// fields. Keys, values, topics and messages that are not UTF-8 are key_base64 and so on.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What is not a command of the shell.
#[derive(Subcommand)]
enum Tool {
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.tool {
        Some(Tool::Bench(_)) if !arguments.execute.is_empty() => {
            Arguments::command().error(ErrorKind::ArgumentConflict, "-e and bench do not go together").exit()
        }
        Some(Tool::Bench(args)) if args.has_no_queue() => Arguments::command()
            .error(ErrorKind::ArgumentConflict, "etcd has no lists: --queue needs another TARGET")
            .exit(),
        Some(Tool::Bench(args)) => bench::run(args, &arguments.config, arguments.timeout, arguments.json),
        None => run_shell(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        // Not `eprintln!`: nobody may be left to read it, which is no reason to panic.
        let _ = writeln!(io::stderr(), "error: {error}");
        ExitCode::FAILURE
    })
}

fn run_shell(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = load(&arguments.config)?;
    catch_interrupts();
    let mut client = Client::from_config(&config, arguments.timeout);
    let code = match arguments.execute.as_slice() {
        [] => shell::run(&mut client, arguments.json, |_| {}),
        commands => {
            let commands: Vec<_> = commands.iter().map(|command| command.as_encoded_bytes()).collect();
            shell::run_commands(&mut client, &commands, arguments.json)
        }
    };
    Ok(code.into())
}

fn load(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|error| {
        let hint = if matches!(error, ConfigError::Unreadable { .. }) { "; -c names another file" } else { "" };
        format!("{error}{hint}")
    })
}

/// Ctrl-C ends the `watch` that runs, and otherwise the shell. Where it cannot be caught it ends the shell in any case.
fn catch_interrupts() {
    let Ok(mut signals) = Signals::new([SIGINT]) else { return };
    thread::spawn(move || {
        for signal in signals.forever() {
            if !shell::interrupt() {
                let _ = low_level::emulate_default_handler(signal);
            }
        }
    });
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if (0.001..=86_400.0).contains(&seconds) => Ok(timeout),
        _ => Err("not between 0.001 and 86400 seconds".to_owned()),
    }
}

fn explanation() -> String {
    format!(
        "Commands:\n{}\n\n\
         A command that fails does not keep the next ones from running. Errors go to standard error.\n\
         Exit code: the worst of all commands, 0 if all went well, 1 after an error (a failed cas, no leader, an unknown \
         outcome), 2 after a command or flag that makes no sense.\n\n\
         Examples:\n  \
         raft-shell -e 'set greeting \"hello world\"' -e 'get greeting'\n  \
         raft-shell --json -e status\n  \
         printf 'set a 1\\nget a\\n' | raft-shell\n  \
         raft-shell bench --clients 64",
        shell::overview()
    )
}
