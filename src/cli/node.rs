//! `raft -n ID`: runs one node until it is asked to stop.

use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::Receiver;
use raft::config::{Config, NodeConfig};

use super::args::{CommonArgs, NodeArgs, TransportKind};
use super::stop::{self, StopReason};
use super::{Error, logging};

/// A node that gets to know itself and its peers through its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdioOptions {
    /// Each timeout is drawn from [T, 2T).
    pub election_timeout: Duration,
    /// Below `election_timeout`.
    pub heartbeat_interval: Duration,
}

pub fn run(args: &NodeArgs) -> Result<ExitCode, Error> {
    match args.transport {
        TransportKind::Tcp => run_tcp(args),
        TransportKind::Stdio => run_stdio(args),
    }
}

fn run_tcp(args: &NodeArgs) -> Result<ExitCode, Error> {
    if args.election_timeout.is_some() || args.heartbeat_interval.is_some() {
        let problem = "--election-timeout and --heartbeat-interval go with `-t stdio`";
        return Err(Error::Usage(format!(
            "{problem}; other nodes have them from ElectionTimeout and HeartbeatInterval in raft.ini"
        )));
    }
    let name = args.node.as_deref().ok_or_else(|| Error::Usage("which node? -n 1 runs the one with Id 1".into()))?;
    let config = args.common.load()?;
    let node = config.find(name).ok_or_else(|| unknown_node(name, &args.common, &config))?;
    logging::start(config.debug, if args.stop_with_stdin { "" } else { &node.label });
    let stop = stop::requests(args.stop_with_stdin).map_err(|error| Error::failed("cannot wait for signals", error))?;
    run_node(&config, node, &stop).map_err(Error::Failed)?;
    Ok(ExitCode::SUCCESS)
}

fn unknown_node(name: &str, common: &CommonArgs, config: &Config) -> Error {
    let existing: Vec<_> = config.nodes.iter().map(NodeConfig::to_string).collect();
    Error::Usage(format!("{} has no node `{name}`; existing: {}", common.path().display(), existing.join(", ")))
}

fn run_stdio(args: &NodeArgs) -> Result<ExitCode, Error> {
    if args.node.is_some() || args.common.config.is_some() {
        let problem = "-n and -c do not go with `-t stdio`";
        return Err(Error::Usage(format!("{problem}: the node learns who it is from the `init` message")));
    }
    let options = StdioOptions {
        election_timeout: Duration::from_millis(args.election_timeout.unwrap_or(500)),
        heartbeat_interval: Duration::from_millis(args.heartbeat_interval.unwrap_or(100)),
    };
    if options.heartbeat_interval >= options.election_timeout {
        return Err(Error::Usage(format!(
            "--heartbeat-interval {} must be below --election-timeout {}: followers have to hear the leader in time",
            options.heartbeat_interval.as_millis(),
            options.election_timeout.as_millis()
        )));
    }
    logging::start(args.common.debug, "");
    let stop = stop::requests(false).map_err(|error| Error::failed("cannot wait for signals", error))?;
    run_maelstrom(options, &stop).map_err(Error::Failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a node of `config` until `stop` receives something. The error is for people.
fn run_node(_config: &Config, node: &NodeConfig, _stop: &Receiver<StopReason>) -> Result<(), String> {
    Err(format!("node {node} cannot run: this build has no runtime"))
}

/// Runs a node on standard input and output until that ends, or `stop` receives something. The error is for people.
fn run_maelstrom(_options: StdioOptions, _stop: &Receiver<StopReason>) -> Result<(), String> {
    Err("cannot run on standard input and output: this build has no runtime".into())
}
