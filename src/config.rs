//! raft.ini, checked: what every part of a node may rely on.

use std::path::PathBuf;
use std::time::Duration;

use crate::consensus::{Membership, NodeId};

/// A checked configuration: every value is in its range, and the values fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[Cluster] Name`: mixed into the cluster id.
    pub name: String,
    /// `[Cluster] NodeCount`: how many of `nodes`, from the first, are voters at the start.
    pub node_count: usize,
    /// `[Cluster] ElectionTimeout`: each timeout is drawn from [T, 2T).
    pub election_timeout: Duration,
    /// `[Cluster] HeartbeatInterval`, below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// `[Cluster] MinReplicationInterval`: lower bound between two appends to a peer.
    pub min_replication_interval: Duration,
    /// `[Cluster] StorageClass`.
    pub storage: StorageClass,
    /// `[Cluster] DataDirectory`, absolute or relative to the working directory; each node has a folder in it.
    pub data_directory: PathBuf,
    /// `[Cluster] Runtime`.
    pub runtime: RuntimeKind,
    /// `[Cluster] Debug`.
    pub debug: bool,
    /// The limits of `[Cluster]`.
    pub limits: Limits,
    /// `[Nodes]` and their sections, in order.
    pub nodes: Vec<NodeConfig>,
}

/// How much of everything, from `[Cluster]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `SnapshotEntries`: a snapshot is due after so many entries.
    pub snapshot_entries: u64,
    /// `SnapshotBytes`: a snapshot is due after so many bytes of log.
    pub snapshot_bytes: u64,
    /// `SegmentBytes`: size of a file of the log.
    pub segment_bytes: u64,
    /// `MaxRequestBytes`: largest request of a client, key and value and all.
    pub max_request_bytes: u64,
    /// `MaxInflightBytes`: most bytes accepted but not yet applied, per node; and most bytes queued for one peer.
    pub max_inflight_bytes: u64,
    /// `Workers`: threads of the controller pool.
    pub workers: usize,
    /// `MaxConnections`: most client connections.
    pub max_connections: usize,
}

/// `StorageClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageClass {
    /// Durable.
    FileStorage,
    /// Nothing survives: for scenarios and tests.
    InMemoryStorage,
}

/// `Runtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Threads, the default.
    ThreadedRuntime,
}

/// `[Node.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `Label`: the name in logs, and of the data folder.
    pub label: String,
    /// `Id`.
    pub id: NodeId,
    /// `Host`: a name or an address. Looked up anew for every connection.
    pub host: String,
    /// `Port`: peers.
    pub port: u16,
    /// `ClientPort`: the Redis protocol.
    pub client_port: u16,
    /// `HttpPort`.
    pub http_port: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            snapshot_entries: 1_000_000,
            snapshot_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            max_request_bytes: 1 << 20,
            max_inflight_bytes: 64 << 20,
            workers: 2,
            max_connections: 10_000,
        }
    }
}

impl Config {
    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The members that a new cluster starts with.
    pub fn initial_membership(&self) -> Membership {
        Membership::of_voters(self.nodes.iter().take(self.node_count).map(|node| node.id))
    }
}
