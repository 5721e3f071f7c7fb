//! `raft help`: explains a command, or a key of raft.ini.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use raft::config::{self, KeyHelp};

use super::Error;
use super::args::Cli;

pub fn run(topic: Option<&str>) -> Result<ExitCode, Error> {
    let mut cli = Cli::command();
    // So that the usage line of a subcommand names the binary too.
    cli.build();
    let command = match topic {
        None => Some(&mut cli),
        Some(topic) => cli.find_subcommand_mut(topic),
    };
    // Whoever reads it may stop before the end, as `head` does: that is no failure.
    let _ = match (command, topic.and_then(key_help)) {
        (Some(command), _) => command.print_long_help(),
        (None, Some(text)) => io::stdout().write_all(text.as_bytes()),
        (None, None) => return Err(unknown(topic.unwrap_or_default())),
    };
    Ok(ExitCode::SUCCESS)
}

fn key_help(name: &str) -> Option<String> {
    let keys = config::key_help();
    let exact = keys.iter().find(|key| key.name == name);
    let key = exact.or_else(|| keys.iter().find(|key| key.name.eq_ignore_ascii_case(name)))?;
    Some(explained(key))
}

fn explained(key: &KeyHelp) -> String {
    let mut text = format!("{}, in section [{}] of raft.ini\n\n", key.name, key.section);
    let _ = writeln!(text, "  default: {}", key.default.as_deref().unwrap_or("none, it must be there"));
    let _ = writeln!(text, "  allowed: {}\n", key.allowed);
    let _ = writeln!(text, "{}", wrapped(&key.explanation, 80));
    text
}

/// The text in lines of at most so many characters, broken between words.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}

fn unknown(topic: &str) -> Error {
    let keys: Vec<_> = config::key_help().iter().map(|key| key.name).collect();
    let problem = "is neither a command (cluster, init, dump, check, simulate, workbench, help) nor a key of raft.ini";
    Error::Usage(format!("`{topic}` {problem}; the keys are {}", keys.join(", ")))
}
