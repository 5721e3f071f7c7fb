//! raft.ini, checked: what every part of a node may rely on.

mod check;
mod document;
mod error;
mod keys;
mod load;
mod start;
mod start_check;
mod write;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use self::error::{ConfigError, Mistake};
pub use self::start::{Start, StartRole};
pub use self::write::{KeyHelp, key_help};
use crate::consensus::{Membership, NodeId};

/// How far `ClientPort` is above `Port`, unless the file says otherwise.
const CLIENT_PORT_DISTANCE: u16 = 1000;
/// How far `HttpPort` is above `Port`, unless the file says otherwise.
const HTTP_PORT_DISTANCE: u16 = 2000;

/// A checked configuration: every value is in its range, and the values fit together. One that was changed by a program
/// is checked by [`Config::check`].
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
    /// `SnapshotSeconds`: a snapshot is due so long after the first entry that the last one does not cover; `None`: never.
    pub snapshot_age: Option<Duration>,
    /// `SnapshotRateBytes`: most bytes a second of a snapshot on its way to another node.
    pub snapshot_rate_bytes: u64,
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
    /// Tasks on tokio.
    AsyncRuntime,
}

/// `[Node.X]`, and `[Start.X]`.
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
    /// `[Start.X]`: where the node begins, in a scenario.
    pub start: Option<Start>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            snapshot_entries: 1_000_000,
            snapshot_bytes: 64 << 20,
            snapshot_age: Some(Duration::from_secs(3600)),
            snapshot_rate_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            max_request_bytes: 1 << 20,
            max_inflight_bytes: 64 << 20,
            workers: 2,
            max_connections: 10_000,
        }
    }
}

impl Default for Config {
    /// The defaults of raft.ini, and no nodes yet.
    fn default() -> Self {
        Config {
            name: "raft".into(),
            node_count: 0,
            election_timeout: Duration::from_millis(150),
            heartbeat_interval: Duration::from_millis(30),
            min_replication_interval: Duration::ZERO,
            storage: StorageClass::FileStorage,
            data_directory: "./datasets/raft".into(),
            runtime: RuntimeKind::ThreadedRuntime,
            debug: false,
            limits: Limits::default(),
            nodes: Vec::new(),
        }
    }
}

impl Config {
    /// A cluster of so many nodes (1 to 99) on this machine, all of them voters: labels A, B, ..., ids from 1, ports
    /// from 3111. Everything else has its default, and can be changed afterwards.
    pub fn local(nodes: usize, data_directory: impl Into<PathBuf>) -> Config {
        Config {
            node_count: nodes,
            data_directory: data_directory.into(),
            nodes: (1..=u16::MAX).take(nodes).map(NodeConfig::local).collect(),
            ..Config::default()
        }
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node with this id or label, as people write it.
    pub fn find(&self, id_or_label: &str) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id.to_string() == id_or_label || node.label == id_or_label)
    }

    /// The members that a new cluster starts with.
    pub fn initial_membership(&self) -> Membership {
        Membership::of_voters(self.nodes.iter().take(self.node_count).map(|node| node.id))
    }
}

impl NodeConfig {
    /// Node `number` of a cluster on this machine, from 1.
    fn local(number: u16) -> NodeConfig {
        let letter =
            u8::try_from(number).ok().filter(|number| *number <= 26).map(|number| char::from(b'A' + number - 1));
        let port = 3110u16.saturating_add(number);
        NodeConfig {
            label: letter.map_or_else(|| format!("N{number}"), String::from),
            id: NodeId(number.into()),
            host: "127.0.0.1".into(),
            port,
            client_port: port.saturating_add(CLIENT_PORT_DISTANCE),
            http_port: port.saturating_add(HTTP_PORT_DISTANCE),
            start: None,
        }
    }
}

impl fmt::Display for NodeConfig {
    /// As logs name it: `2 (B)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.label)
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StorageClass::FileStorage => "FileStorage",
            StorageClass::InMemoryStorage => "InMemoryStorage",
        })
    }
}

impl FromStr for StorageClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "FileStorage" => Ok(StorageClass::FileStorage),
            "InMemoryStorage" => Ok(StorageClass::InMemoryStorage),
            _ => Err("there is no such storage; existing: FileStorage, InMemoryStorage".into()),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuntimeKind::ThreadedRuntime => "ThreadedRuntime",
            RuntimeKind::AsyncRuntime => "AsyncRuntime",
        })
    }
}

impl FromStr for RuntimeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ThreadedRuntime" => Ok(RuntimeKind::ThreadedRuntime),
            "AsyncRuntime" => Ok(RuntimeKind::AsyncRuntime),
            _ => Err("there is no such runtime; existing: ThreadedRuntime, AsyncRuntime".into()),
        }
    }
}
