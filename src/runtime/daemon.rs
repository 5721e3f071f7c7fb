//! A node of raft.ini, whole: its storage, its ports for peers and clients, and the node behind them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "async")]
use super::asynchronous::AsyncRuntime;
use super::node::Node;
use super::sockets::{ListenOptions, Seats, SessionFactory, Sockets, bind};
use super::threaded::{Controller, ControllerOptions};
use crate::config::{Config, NodeConfig, RuntimeKind, StorageClass};
use crate::consensus::NodeId;
#[cfg(feature = "http")]
use crate::gateway::http::{HttpOptions, HttpServer};
use crate::gateway::resp::{RespOptions, RespSession, Waiters};
use crate::machine::{Machine, scenario};
use crate::runtime::driver::Ended;
use crate::runtime::parts::NodeOptions;
use crate::runtime::{Inboxes, Input, NodeHandle};
use crate::storage::{
    FileStorage, InMemoryStorage, Lineage, OpenOptions, PeerMemory, Start, Storage, StorageError, cluster_id, random,
};
use crate::transport::tcp::{TcpOptions, TcpPeer, TcpTransport};

/// An answer may have so many bytes besides the largest value; see [`MAX_ANSWER_BYTES`](crate::machine::command).
const FRAME_HEADROOM_BYTES: u64 = 16 << 20;
/// Most bytes of answers queued for one client, besides the largest one. Requests are no longer read long before that.
const CLIENT_OUTPUT_BYTES: usize = 64 << 20;
/// Most bytes of answers queued for all clients.
const CLIENTS_OUTPUT_BYTES: usize = 512 << 20;
/// A client that has been silent for so long is probed.
const CLIENT_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long HTTP clients have to take their answers once the node has stopped.
#[cfg(feature = "http")]
const HTTP_PATIENCE: Duration = Duration::from_millis(300);

/// A running node with its ports.
pub struct Daemon {
    node: Node,
    #[cfg(feature = "http")]
    http: HttpServer,
    runtime: Runtime,
}

/// Who waits for the daemon's sockets.
enum Runtime {
    Threaded {
        /// Serves clients.
        controller: Controller,
        /// Served by the event handler.
        peers: Arc<dyn Sockets>,
    },
    #[cfg(feature = "async")]
    Async(AsyncRuntime),
}

/// Why a node could not be started, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        StartError(error.to_string())
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        StartError(error.to_string())
    }
}

impl Daemon {
    /// Starts the node with this id, running this machine: takes its data folder, opens its ports, joins its peers.
    ///
    /// # Errors
    /// There is no such node, its folder is damaged, in use or another's, or a port is taken.
    pub fn start(config: &Config, id: NodeId, machine: Box<dyn Machine>) -> Result<Daemon, StartError> {
        Daemon::start_as(config, id, machine, false)
    }

    /// Like [`start`](Daemon::start), for a node that lost its data folder, or has nothing but an older copy: its peers let it
    /// come back, to receive the log. It neither votes nor counts, now and at later starts on that folder.
    pub fn rejoin(config: &Config, id: NodeId, machine: Box<dyn Machine>) -> Result<Daemon, StartError> {
        if config.storage == StorageClass::InMemoryStorage {
            return Err(StartError(
                "--rejoin is of no use with InMemoryStorage, which remembers nothing anyway".into(),
            ));
        }
        if config.nodes.len() == 1 {
            return Err(StartError(format!("node {id} cannot rejoin a cluster of which it is the only node")));
        }
        Daemon::start_as(config, id, machine, true)
    }

    fn start_as(config: &Config, id: NodeId, machine: Box<dyn Machine>, rejoin: bool) -> Result<Daemon, StartError> {
        let me = config.node(id).ok_or_else(|| StartError(format!("there is no node with Id {id}")))?;
        let cluster_id = cluster_id(&config.name, &config.initial_membership());
        let Opened { storage, lineage, abstains, memory } = open_storage(config, me, cluster_id, rejoin)?;
        let peers = bind(&me.host, me.port, &format!("Port of node {me}"))?;
        let clients = bind(&me.host, me.client_port, &format!("ClientPort of node {me}"))?;
        #[cfg(feature = "http")]
        let http = bind(&me.host, me.http_port, &format!("HttpPort of node {me}"))?;

        let (runtime, handle, inboxes) = Runtime::start(config, me)?;
        let options = TcpOptions { lineage, abstains, ..tcp_options(config, id, cluster_id) };
        let transport = TcpTransport::start(options, memory, handle.clone(), runtime.peer_sockets(), peers)?;
        let mut options = NodeOptions::from_config(config, id);
        options.server.abstains = abstains;
        let node = Node::assemble(options, storage, machine, Box::new(transport), handle, inboxes)?;
        let seats = Seats::new(config.limits.max_connections);
        serve_clients(config, &node.handle(), &*runtime.sockets(), clients, seats.clone())?;
        #[cfg(feature = "http")]
        let http = runtime.serve_http(http_options(config, seats), node.handle(), http, &me.label)?;
        let process = std::process::id();
        let NodeConfig { host, port, client_port, .. } = me;
        let http_url =
            if cfg!(feature = "http") { format!(" and http://{host}:{}", me.http_port) } else { String::new() };
        log::info!(
            "node {id} serves peers on {host}:{port}, clients on {host}:{client_port}{http_url}, as process {process} with \
             {}",
            config.runtime
        );
        Ok(Daemon {
            node,
            #[cfg(feature = "http")]
            http,
            runtime,
        })
    }

    /// The node behind the ports.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Stops the node as [`Node::stop`] does, then closes its ports.
    pub fn stop(self, patience: Duration) -> Ended {
        #[cfg(feature = "http")]
        self.http.close();
        let ended = self.node.stop(patience);
        #[cfg(feature = "http")]
        self.http.stop(HTTP_PATIENCE);
        drop(self.runtime);
        ended
    }
}

impl Runtime {
    fn start(config: &Config, me: &NodeConfig) -> Result<(Runtime, NodeHandle, Inboxes), StartError> {
        match config.runtime {
            RuntimeKind::ThreadedRuntime => {
                let (handle, inboxes, peers) = NodeHandle::with_sockets()?;
                let options = ControllerOptions { name: me.label.clone(), workers: config.limits.workers };
                let node = handle.clone();
                let controller = Controller::start(options, move |reason| node.deliver(Input::Failed { reason }))?;
                Ok((Runtime::Threaded { controller, peers }, handle, inboxes))
            }
            #[cfg(feature = "async")]
            RuntimeKind::AsyncRuntime => {
                let (runtime, handle, inboxes) = AsyncRuntime::start(&me.label)?;
                Ok((Runtime::Async(runtime), handle, inboxes))
            }
            #[cfg(not(feature = "async"))]
            RuntimeKind::AsyncRuntime => Err(StartError(super::NO_ASYNC_RUNTIME.into())),
        }
    }

    /// For clients.
    fn sockets(&self) -> Arc<dyn Sockets> {
        match self {
            Runtime::Threaded { controller, .. } => controller.sockets(),
            #[cfg(feature = "async")]
            Runtime::Async(runtime) => runtime.sockets(),
        }
    }

    /// For peers.
    fn peer_sockets(&self) -> Arc<dyn Sockets> {
        match self {
            Runtime::Threaded { peers, .. } => Arc::clone(peers),
            #[cfg(feature = "async")]
            Runtime::Async(runtime) => runtime.sockets(),
        }
    }

    #[cfg(feature = "http")]
    fn serve_http(
        &self,
        options: HttpOptions,
        node: NodeHandle,
        listener: std::net::TcpListener,
        name: &str,
    ) -> io::Result<HttpServer> {
        match self {
            Runtime::Threaded { .. } => HttpServer::start(options, node, listener, name),
            #[cfg(feature = "async")]
            Runtime::Async(runtime) => HttpServer::start_on(runtime.tasks(), options, node, listener),
        }
    }
}

/// A node's storage, and what it says of the node and its peers.
struct Opened {
    storage: Box<dyn Storage>,
    lineage: Lineage,
    abstains: bool,
    memory: PeerMemory,
}

fn open_storage(config: &Config, me: &NodeConfig, cluster_id: u64, rejoin: bool) -> Result<Opened, StorageError> {
    match config.storage {
        StorageClass::FileStorage => {
            let mut storage = FileStorage::open(&OpenOptions {
                folder: Path::new(&config.data_directory).join(&me.label),
                cluster_id,
                node: me.id,
                membership: config.initial_membership(),
                segment_bytes: config.limits.segment_bytes,
                rejoin,
            })?;
            let (lineage, abstains, memory) = (storage.lineage().clone(), storage.abstains(), storage.take_peers());
            if abstains {
                log::warn!(
                    "node {} came back with --rejoin: it receives the log, but neither votes nor counts towards a majority",
                    me.id
                );
            }
            Ok(Opened { storage: Box::new(storage), lineage, abstains, memory })
        }
        StorageClass::InMemoryStorage => {
            log::warn!(
                "StorageClass is InMemoryStorage: nothing that node {me} stores survives its end, votes included"
            );
            let storage = match config.forced_start(me) {
                Some(start) => InMemoryStorage::starting_with(start.hard_state, scenario::entries(&start.log)),
                None => InMemoryStorage::new(),
            };
            let lineage = Start { life: storage.life(), nonce: random()? }.into();
            Ok(Opened { storage: Box::new(storage), lineage, abstains: false, memory: PeerMemory::default() })
        }
    }
}

fn tcp_options(config: &Config, me: NodeId, cluster_id: u64) -> TcpOptions {
    let peer = |node: &NodeConfig| TcpPeer { id: node.id, host: node.host.clone(), port: node.port };
    TcpOptions {
        me,
        lineage: Lineage::default(),
        abstains: false,
        cluster_id,
        peers: config.nodes.iter().map(peer).collect(),
        election_timeout: config.election_timeout,
        max_frame_bytes: (2 * config.limits.max_request_bytes + FRAME_HEADROOM_BYTES) as usize,
        snapshot_rate_bytes: config.limits.snapshot_rate_bytes,
        outbox_bytes: config.limits.max_inflight_bytes as usize,
    }
}

fn serve_clients(
    config: &Config,
    node: &NodeHandle,
    sockets: &dyn Sockets,
    listener: std::net::TcpListener,
    seats: Seats,
) -> io::Result<()> {
    let waiters = Waiters::default();
    node.tell_of_woken(Box::new(waiters.clone()));
    let options = Arc::new(RespOptions {
        waiters,
        limits: config.limits,
        nodes: config.nodes.iter().map(|node| (node.id, node.label.clone())).collect(),
        patience: config.election_timeout,
    });
    let listen = ListenOptions {
        name: "clients".into(),
        seats,
        farewell: b"-ERR max number of clients reached\r\n".to_vec(),
        max_output_bytes: CLIENT_OUTPUT_BYTES + config.limits.max_request_bytes as usize,
        max_total_output_bytes: CLIENTS_OUTPUT_BYTES,
        keepalive: CLIENT_KEEPALIVE,
    };
    let node = node.clone();
    let session: SessionFactory = Arc::new(move |connection| {
        Box::new(RespSession::new(options.clone(), node.clone(), connection.id(), connection.clone()))
    });
    sockets.listen(listener, listen, session)
}

#[cfg(feature = "http")]
fn http_options(config: &Config, seats: Seats) -> HttpOptions {
    HttpOptions {
        max_request_bytes: config.limits.max_request_bytes,
        seats,
        nodes: config.nodes.iter().map(|node| (node.id, node.label.clone())).collect(),
    }
}
