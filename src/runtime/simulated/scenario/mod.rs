//! What a simulation is made of, all of it: drawn from a seed, or read from a file.

mod draw;
mod draw_faults;
mod fault;
mod stories;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use draw::{Profile, Wish};
pub use fault::{Fault, FaultKind, Loses, Rotten, Target, Way};

/// Everything that decides how a simulation goes. The same scenario always goes the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Decides everything that the rest leaves open: delays, losses, what clients ask, what a power loss leaves.
    pub seed: u64,
    /// Nodes, numbered from 1.
    pub nodes: u64,
    /// Clients.
    pub clients: u64,
    /// Simulated milliseconds with faults. After that comes the time to recover.
    pub time_ms: u64,
    /// How nodes are set up.
    pub settings: Settings,
    /// How messages travel when nothing else is the matter.
    pub network: Network,
    /// How long the disks take, and how badly they lose power.
    pub disks: Disks,
    /// What clients do.
    pub load: Workload,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

/// How nodes are set up: small limits, so that logs rotate, snapshots are taken and sent, and requests are refused, all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds.
    pub election_timeout_ms: u64,
    /// Milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds.
    pub min_replication_interval_ms: u64,
    /// Ask before campaigning.
    pub pre_vote: bool,
    /// Leaders step down that hear from no quorum.
    pub check_quorum: bool,
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// A snapshot is due after so many bytes of log.
    pub snapshot_bytes: u64,
    /// A snapshot is due after so many entries.
    pub snapshot_entries: u64,
    /// Most bytes of entries in one request.
    pub max_batch_bytes: u64,
    /// Most requests with entries under way to one peer.
    pub max_inflight_requests: u64,
    /// Most bytes accepted and not applied, and most of recent entries in memory.
    pub max_pending_bytes: u64,
    /// Bytes in one part of a snapshot that is sent.
    pub chunk_bytes: u64,
    /// As under Maelstrom: election timeouts adapt, and nodes know that messages overtake each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maelstrom: bool,
    /// Turns do what is brief for the state machine by themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applies_at_once: bool,
}

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The shortest way, in microseconds.
    pub delay_us: u64,
    /// What is added to it on average, in microseconds, exponentially distributed.
    pub jitter_us: u64,
    /// So many in a million messages are lost.
    pub lost: u64,
    /// So many in a million arrive twice.
    pub twice: u64,
    /// So many in a million are overtaken by later ones.
    pub overtaken: u64,
}

/// How the disks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disks {
    /// What a sync takes on average, in microseconds.
    pub sync_us: u64,
    /// A power loss may leave sectors that are neither old nor new.
    pub garbles: bool,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// How many keys there are.
    pub keys: u64,
    /// Most bytes of a value.
    pub value_bytes: u64,
    /// Average pause between an answer and the next request, in microseconds.
    pub pause_us: u64,
    /// Most requests of one client that are under way.
    pub depth: u64,
    /// A client waits so many milliseconds for an answer.
    pub patience_ms: u64,
    /// So many of a hundred requests are reads.
    pub reads: u64,
    /// So many of a hundred writes come in a session, where they are sent again until they are answered.
    #[serde(default)]
    pub sessions: u64,
    /// So many of a hundred writes in sessions are for the queue.
    #[serde(default)]
    pub queue: u64,
    /// So many of a hundred other writes, and of reads, are of numbers and lists.
    #[serde(default)]
    pub numbers: u64,
}

impl Scenario {
    /// How long nothing but time is needed for an election.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.election_timeout_ms)
    }
}
