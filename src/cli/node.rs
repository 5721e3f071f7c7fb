//! `raft -n ID`: runs one node until it is asked to stop.

use std::io::{self, BufReader};
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use raft::config::{Config, Limits, NodeConfig};
use raft::consensus::{Membership, ServerConfig};
use raft::gateway::maelstrom::{self, Closed, Init, Options, Workload};
use raft::machine::composite::Composite;
use raft::runtime::parts::NodeOptions;
use raft::runtime::threaded::daemon::Daemon;
use raft::runtime::threaded::node::Node;
use raft::storage::InMemoryStorage;

use super::args::{CommonArgs, NodeArgs, TransportKind};
use super::stop::{self, StopReason};
use super::{Error, descriptors, logging};

/// A node has stopped by then, or says what still runs.
const STOP_PATIENCE: Duration = Duration::from_millis(1_900);

/// A node that gets to know itself and its peers through its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdioOptions {
    /// Each timeout is drawn from [T, 2T).
    pub election_timeout: Duration,
    /// Below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// What requests mean that do not say it themselves.
    pub workload: Workload,
}

pub fn run(args: &NodeArgs) -> Result<ExitCode, Error> {
    match args.transport {
        TransportKind::Tcp => run_tcp(args),
        TransportKind::Stdio => run_stdio(args),
    }
}

fn run_tcp(args: &NodeArgs) -> Result<ExitCode, Error> {
    if args.workload.is_some() {
        return Err(Error::Usage("--workload goes with `-t stdio`".into()));
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

fn run_stdio(args: &NodeArgs) -> Result<ExitCode, Error> {
    if args.node.is_some() || args.common.config.is_some() {
        let problem = "-n and -c do not go with `-t stdio`";
        return Err(Error::Usage(format!("{problem}: the node learns who it is from the `init` message")));
    }
    if args.rejoin {
        return Err(Error::Usage(
            "--rejoin does not go with `-t stdio`: such a node has no data folder to lose".into(),
        ));
    }
    let options = StdioOptions {
        election_timeout: Duration::from_millis(args.election_timeout.unwrap_or(500)),
        heartbeat_interval: Duration::from_millis(args.heartbeat_interval.unwrap_or(100)),
        workload: args.workload.unwrap_or_default(),
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

/// Runs a node on standard input and output until that ends, or `stop` receives something. The error is for people.
fn run_maelstrom(options: StdioOptions, stop: &Receiver<StopReason>) -> Result<(), String> {
    let (started, nodes) = bounded(1);
    let start = move |init: &Init| {
        let names = init.names();
        let storage = InMemoryStorage::new();
        let life = storage.life();
        let labels = names.ids().filter_map(|id| Some((id, names.name(id)?.to_owned()))).collect();
        let server = ServerConfig::new(names.me(), options.election_timeout, options.heartbeat_interval);
        let membership = Membership::of_voters(names.ids());
        let node_options = NodeOptions { server, membership, labels, ..NodeOptions::new(names.me(), []) };
        let machine = Box::new(Composite::default());
        let node = Node::start(node_options, Box::new(storage), machine, |handle| init.transport(handle, life))
            .map_err(|error| error.to_string())?;
        let handle = node.handle();
        started.send(node).map_err(|_| "it is stopping already".to_owned())?;
        Ok(handle)
    };
    let input = BufReader::new(io::stdin());
    let serving = Options { max_request_bytes: Limits::default().max_request_bytes, workload: options.workload };
    let door = maelstrom::serve(input, io::stdout(), serving, start)
        .map_err(|error| format!("cannot serve standard input and output: {error}"))?;
    let closed = select! {
        recv(stop) -> reason => {
            announce(reason.ok());
            None
        }
        recv(door.closed()) -> closed => closed.ok(),
    };
    let ended = nodes.try_recv().map_or(Ok(()), |node| node.stop(STOP_PATIENCE));
    door.finish();
    match closed {
        Some(Closed::InputLost(why)) => Err(format!("cannot read standard input: {why}")),
        Some(Closed::NotStarted(why)) => Err(why),
        Some(Closed::EndOfInput | Closed::OutputLost(_)) | None => ended,
    }
}

/// The end of standard input needs no words: whoever held it has them.
fn announce(reason: Option<StopReason>) {
    if let Some(reason @ StopReason::Signal(_)) = reason {
        log::info!("stopping: {reason}");
    }
}
