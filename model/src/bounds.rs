//! How far the model is explored, and what was left out because of that.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raft::consensus::NodeId;

/// The time of every event. What was heard or asked before was heard or asked just now.
pub const NOW: Duration = Duration::ZERO;
/// Log time counts milliseconds, so that it stands still. No timeout is drawn longer: there is nothing to draw from.
pub const ELECTION_TIMEOUT: Duration = Duration::from_nanos(1);
/// Due at once.
pub const HEARTBEAT_INTERVAL: Duration = Duration::ZERO;
/// An election timeout has passed since everything: election clocks fire, and nobody protects a leader.
pub const LATE: Duration = ELECTION_TIMEOUT;
/// More than an election timeout has passed: leaders miss their quorum, and disks hang.
pub const TOO_LATE: Duration = Duration::from_nanos(2);

/// How much may happen.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// How many nodes, all voters.
    pub nodes: u64,
    /// Nobody campaigns in a term above this.
    pub terms: u64,
    /// How many commands clients propose. Every leader appends an entry of its own besides.
    pub entries: u32,
    /// How many crashes, each with a restart.
    pub crashes: u32,
    /// How many times a leader's heartbeat clock fires.
    pub heartbeats: u32,
    /// Writes to the disk take time; otherwise they are done before anything else happens.
    pub slow_disks: bool,
    /// As in [`ServerConfig`](raft::consensus::ServerConfig).
    pub pre_vote: bool,
    /// As in [`ServerConfig`](raft::consensus::ServerConfig).
    pub check_quorum: bool,
}

impl Bounds {
    /// Every node.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        (1..=self.nodes).map(NodeId)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { nodes, terms, entries, crashes, heartbeats, slow_disks, pre_vote, check_quorum } = self;
        let on = |on: &bool| if *on { "on" } else { "off" };
        let disks = if *slow_disks { "slow" } else { "fast" };
        write!(
            f,
            "{nodes} nodes, {terms} terms, {entries} entries, {crashes} crashes, {heartbeats} heartbeats, {disks} disks, "
        )?;
        write!(f, "pre-vote {}, check-quorum {}; ", on(pre_vote), on(check_quorum))?;
        write!(f, "any loss, delay, reordering and duplication")
    }
}

/// Which bounds kept something from happening.
#[derive(Default)]
pub struct Cuts {
    pub terms: AtomicBool,
    pub entries: AtomicBool,
    pub crashes: AtomicBool,
    pub heartbeats: AtomicBool,
}

impl Cuts {
    /// The bounds that were met, by name.
    pub fn met(&self) -> Vec<&'static str> {
        let all = [
            (&self.terms, "terms"),
            (&self.entries, "entries"),
            (&self.crashes, "crashes"),
            (&self.heartbeats, "heartbeats"),
        ];
        all.into_iter().filter(|(cut, _)| cut.load(Ordering::Relaxed)).map(|(_, name)| name).collect()
    }

    /// Notes that a bound was met, unless it was not.
    pub fn allow(cut: &AtomicBool, within: bool) -> bool {
        if !within && !cut.load(Ordering::Relaxed) {
            cut.store(true, Ordering::Relaxed);
        }
        within
    }
}
