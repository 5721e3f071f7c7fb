//! `raft -t stdio`: a node that gets to know itself and its peers through its standard input.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never, select};
use raft::config::{Config, Limits, RuntimeKind};
use raft::consensus::{Membership, ServerConfig};
use raft::gateway::maelstrom::{self, Closed, Door, Init, Options, Workload};
use raft::machine::composite::Composite;
use raft::runtime::node::Node;
use raft::runtime::parts::NodeOptions;
use raft::storage::{FileStorage, InMemoryStorage, Life, OpenOptions, PeerMemory, Storage, cluster_id};
use raft::transport::stdio::Names;

use super::args::NodeArgs;
use super::node::{STOP_PATIENCE, announce};
use super::stop::{self, StopReason};
use super::{Error, logging};

/// Unless the command line says otherwise.
const ELECTION_TIMEOUT_MS: u64 = 500;
const HEARTBEAT_INTERVAL_MS: u64 = 100;

/// What the command line says of a node.
struct StdioOptions {
    /// Each timeout is drawn from [T, 2T).
    election_timeout: Duration,
    /// It follows what messages are measured to take.
    adapts: bool,
    /// Below `election_timeout`.
    heartbeat_interval: Duration,
    /// What requests mean that do not say it themselves.
    workload: Workload,
    /// What the node runs on.
    runtime: RuntimeKind,
    /// Where the nodes' data folders are. `None`: state is in memory.
    data: Option<PathBuf>,
}

/// A node's storage, and what it says of the node and its peers.
struct Opened {
    storage: Box<dyn Storage>,
    life: Life,
    peers: Option<PeerMemory>,
}

pub fn run(args: &NodeArgs) -> Result<ExitCode, Error> {
    let options = options(args).map_err(Error::Usage)?;
    logging::start(args.common.debug, "");
    let stop = stop::requests(false).map_err(|error| Error::failed("cannot wait for signals", error))?;
    serve(options, &stop).map_err(Error::Failed)?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &NodeArgs) -> Result<StdioOptions, String> {
    if args.node.is_some() || args.common.config.is_some() {
        let problem = "-n and -c do not go with `-t stdio`";
        return Err(format!("{problem}: the node learns who it is from the `init` message"));
    }
    if args.rejoin {
        return Err("--rejoin does not go with `-t stdio`".into());
    }
    let options = StdioOptions {
        election_timeout: Duration::from_millis(args.election_timeout.unwrap_or(ELECTION_TIMEOUT_MS)),
        adapts: args.election_timeout.is_none(),
        heartbeat_interval: Duration::from_millis(args.heartbeat_interval.unwrap_or(HEARTBEAT_INTERVAL_MS)),
        workload: args.workload.unwrap_or_default(),
        runtime: args.common.runtime.unwrap_or(Config::default().runtime),
        data: args.data.clone(),
    };
    if options.heartbeat_interval >= options.election_timeout {
        return Err(format!(
            "--heartbeat-interval {} must be below --election-timeout {}: followers have to hear the leader in time",
            options.heartbeat_interval.as_millis(),
            options.election_timeout.as_millis()
        ));
    }
    Ok(options)
}

/// Runs a node until standard input ends, the node does, or `stop` receives something. The error is for people.
fn serve(options: StdioOptions, stop: &Receiver<StopReason>) -> Result<(), String> {
    let (started, nodes) = bounded(1);
    let serving = Options { max_request_bytes: Limits::default().max_request_bytes, workload: options.workload };
    let start = move |init: &Init| {
        let node = start(&options, init)?;
        let handle = node.handle();
        started.send(node).map_err(|_| "it is stopping already".to_owned())?;
        Ok(handle)
    };
    let door = maelstrom::serve(BufReader::new(io::stdin()), io::stdout(), serving, start)
        .map_err(|error| format!("cannot serve standard input and output: {error}"))?;
    let (closed, node) = wait(&door, nodes, stop);
    let ended = node.map_or(Ok(()), |node| node.stop(STOP_PATIENCE));
    door.finish();
    match closed {
        Some(Closed::InputLost(why)) => Err(format!("cannot read standard input: {why}")),
        Some(Closed::NotStarted(why)) => Err(why),
        Some(Closed::EndOfInput | Closed::OutputLost(_)) | None => ended,
    }
}

/// Waits until there is a reason to stop. Returns why the door closed, if it did, and the node, if it was started.
fn wait(door: &Door, mut nodes: Receiver<Node>, stop: &Receiver<StopReason>) -> (Option<Closed>, Option<Node>) {
    let mut node: Option<Node> = None;
    let mut running = never();
    let closed = loop {
        select! {
            recv(nodes) -> started => {
                nodes = never();
                node = started.ok();
                running = node.as_ref().map_or_else(never, |node| node.running().clone());
            }
            recv(running) -> _ => break None,
            recv(door.closed()) -> closed => break closed.ok(),
            recv(stop) -> reason => {
                announce(reason.ok());
                break None;
            }
        }
    };
    (closed, node.or_else(|| nodes.try_recv().ok()))
}

/// Starts the node that `init` is about.
fn start(options: &StdioOptions, init: &Init) -> Result<Node, String> {
    let names = init.names();
    let membership = Membership::of_voters(names.ids());
    let Opened { storage, life, peers } = open(options.data.as_deref(), names, &membership)?;
    let labels = names.ids().filter_map(|id| Some((id, names.name(id)?.to_owned()))).collect();
    let server = ServerConfig {
        adapts: options.adapts,
        ..ServerConfig::new(names.me(), options.election_timeout, options.heartbeat_interval)
    };
    let node_options = NodeOptions { server, membership, labels, ..NodeOptions::new(names.me(), []) };
    let machine = Box::new(Composite::default());
    Node::start_on(options.runtime, node_options, storage, machine, |handle| init.transport(handle, life, peers))
        .map_err(|error| error.to_string())
}

/// Opens the node's folder in `data`, which bears its name.
fn open(data: Option<&Path>, names: &Names, membership: &Membership) -> Result<Opened, String> {
    let Some(data) = data else {
        let storage = InMemoryStorage::new();
        return Ok(Opened { life: storage.life(), storage: Box::new(storage), peers: None });
    };
    let name = names.my_name();
    // Anything else would lead out of `data`, or into another node's folder.
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(format!("with --data the node's name is that of its folder, which {name:?} cannot be"));
    }
    let mut storage = FileStorage::open(&OpenOptions {
        folder: data.join(name),
        cluster_id: cluster_id(&names.cluster_name(), membership),
        node: names.me(),
        membership: membership.clone(),
        segment_bytes: Limits::default().segment_bytes,
        rejoin: false,
    })
    .map_err(|error| error.to_string())?;
    let (life, peers) = (storage.life(), Some(storage.take_peers()));
    Ok(Opened { life, storage: Box::new(storage), peers })
}
