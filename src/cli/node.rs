//! `raft -n ID`: runs one node until it is asked to stop.

use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use raft::config::{Config, NodeConfig};
use raft::machine::composite::Composite;
use raft::runtime::daemon::Daemon;

use super::args::{CommonArgs, NodeArgs, TransportKind};
use super::stop::{self, StopReason};
use super::{Error, descriptors, logging, stdio};

/// A node has stopped by then, or says what still runs.
pub(super) const STOP_PATIENCE: Duration = Duration::from_millis(1_900);

pub fn run(args: &NodeArgs) -> Result<ExitCode, Error> {
    match args.transport {
        TransportKind::Tcp => run_tcp(args),
        TransportKind::Stdio => stdio::run(args),
    }
}

fn run_tcp(args: &NodeArgs) -> Result<ExitCode, Error> {
    if args.workload.is_some() {
        return Err(Error::Usage("--workload goes with `-t stdio`".into()));
    }
    if args.data.is_some() {
        let problem = "--data goes with `-t stdio`; other nodes have DataDirectory in raft.ini";
        return Err(Error::Usage(problem.into()));
    }
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
    run_node(&config, node, args.rejoin, &stop).map_err(Error::Failed)?;
    Ok(ExitCode::SUCCESS)
}

fn unknown_node(name: &str, common: &CommonArgs, config: &Config) -> Error {
    let existing: Vec<_> = config.nodes.iter().map(NodeConfig::to_string).collect();
    Error::Usage(format!("{} has no node `{name}`; existing: {}", common.path().display(), existing.join(", ")))
}

/// Runs a node of `config` until it ends or `stop` receives something. The error is for people.
fn run_node(config: &Config, node: &NodeConfig, rejoin: bool, stop: &Receiver<StopReason>) -> Result<(), String> {
    let mut config = config.clone();
    descriptors::provide(&mut config.limits);
    let start = if rejoin { Daemon::rejoin } else { Daemon::start };
    let daemon = start(&config, node.id, Box::<Composite>::default()).map_err(|error| error.to_string())?;
    select! {
        recv(stop) -> reason => announce(reason.ok()),
        recv(daemon.node().running()) -> _ => {}
    }
    daemon.stop(STOP_PATIENCE)
}

/// The end of standard input needs no words: whoever held it has them.
pub(super) fn announce(reason: Option<StopReason>) {
    if let Some(reason @ StopReason::Signal(_)) = reason {
        log::info!("stopping: {reason}");
    }
}
