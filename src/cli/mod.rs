//! The command line of the `raft` binary: reads it, and does what it says.
//!
//! Exit codes: 0 when all went as asked, 1 when something failed, 2 when the command line makes no sense.

mod again;
mod args;
mod check;
mod cluster;
mod descriptors;
mod dump;
mod help;
mod init;
mod logging;
mod marks;
mod node;
mod printer;
mod progress;
mod simulate;
mod stdio;
mod stop;
mod supervisor;
mod workbench;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use raft::config::{Config, ConfigError};

use args::{Cli, Command, CommonArgs};

/// Why a command could not do what it was asked to.
enum Error {
    /// The command line makes no sense: exit code 2.
    Usage(String),
    /// Something else: exit code 1.
    Failed(String),
}

impl Error {
    /// A failure with what led to it.
    fn failed(what: impl fmt::Display, why: impl fmt::Display) -> Error {
        Error::Failed(format!("{what}: {why}"))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::Failed(format!("{error}; -c names another file, and `raft init --nodes 5` writes one"))
            }
            _ => Error::Failed(error.to_string()),
        }
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Cluster(args)) => cluster::run(&args),
        Some(Command::Init(args)) => init::run(&args),
        Some(Command::Dump(args)) => dump::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Simulate(args)) => simulate::run(&args),
        Some(Command::Workbench(args)) => workbench::run(&args),
        Some(Command::Help { topic }) => help::run(topic.as_deref()),
        None => node::run(&cli.node),
    };
    match outcome {
        Ok(code) => code,
        Err(Error::Usage(message)) => {
            let _ = Cli::command().error(ErrorKind::ValueValidation, message).print();
            ExitCode::from(2)
        }
        Err(Error::Failed(message)) => {
            // Not `eprintln!`: nobody may be left to read it, which is no reason to panic.
            let _ = writeln!(io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

impl CommonArgs {
    /// Where the configuration is.
    fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| "raft.ini".into())
    }

    /// The configuration with what the command line overrides, fit to be run.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.path())?;
        config.runtime = self.runtime.unwrap_or(config.runtime);
        config.debug |= self.debug;
        config.check_exposure(self.insecure)?;
        Ok(config)
    }
}
