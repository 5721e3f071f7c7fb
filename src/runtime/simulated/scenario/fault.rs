//! What goes wrong, when, and whom it befalls.

use serde::{Deserialize, Serialize};

/// Something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// Whom a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node with this number.
    Node(u64),
    /// Whoever leads then.
    Leader,
    /// The first node that runs then and does not lead.
    Follower,
    /// All nodes.
    Everyone,
}

/// Which way something is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It neither hears nor is heard.
    Both,
    /// It hears the others, and is not heard.
    Out,
    /// It is heard, and does not hear the others.
    In,
}

/// What a power loss takes of what was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loses {
    /// Some of it.
    #[default]
    Some,
    /// Some or all names of files, and no bytes.
    Names,
    /// Some or all sectors, and no names.
    Sectors,
    /// All of it.
    All,
}

/// What rots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotten {
    /// Any file but the newest segment of the log. What is at its very end after a crash, nobody can tell from a write that was
    /// interrupted.
    #[default]
    Any,
    /// An older segment of the log.
    Segment,
    /// The newest segment of the log, up to its last batch, after a clean stop: then all of it is known to be whole.
    Newest,
    /// A snapshot.
    Snapshot,
    /// Who the node is.
    Identity,
    /// Whom it knows.
    Peers,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum FaultKind {
    /// Nothing gets from the first of each pair to the second for so long.
    Cut {
        /// From whom to whom.
        links: Vec<(u64, u64)>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// A node is cut off from all others for so long.
    Isolate {
        /// Whom.
        target: Target,
        /// Which way.
        way: Way,
        /// Milliseconds.
        for_ms: u64,
    },
    /// Every message arrives so many times more.
    Storm {
        /// How many times.
        copies: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// What is sent from one to the other arrives only after this time.
    Clog {
        /// From whom to whom.
        links: Vec<(u64, u64)>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The process is killed. What it has written stays.
    Kill {
        /// Whom.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The machine loses power, at once or at its nth operation on the disk from now.
    PowerLoss {
        /// Whom.
        target: Target,
        /// After so many operations on the disk; 0: at once.
        after: u64,
        /// What is gone.
        #[serde(default)]
        loses: Loses,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is asked to stop, and starts again.
    Stop {
        /// Whom.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The process stands still.
    Pause {
        /// Whom.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
    },
    /// Everything takes so many times as long.
    Slow {
        /// Whom.
        target: Target,
        /// How many times.
        times: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The state machine takes so long with what it does next.
    Busy {
        /// Whose.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The clock gains or loses, from now on.
    ClockRate {
        /// Whom.
        target: Target,
        /// Thousandths: 1000 is right.
        per_mille: u64,
    },
    /// The clock is ahead from one moment to the next, as after a sleep that nobody noticed.
    ClockJumps {
        /// Whose.
        target: Target,
        /// Milliseconds.
        by_ms: u64,
    },
    /// A write or sync that has begun does not return for so long.
    DiskHangs {
        /// Whose.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The nth operation on the disk from now fails, and all later ones. The node has to stop, and starts again.
    DiskFails {
        /// Whose.
        target: Target,
        /// After so many operations.
        after: u64,
        /// The later ones succeed.
        #[serde(default)]
        once: bool,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The disk has room for so many more bytes.
    DiskFull {
        /// Whose.
        target: Target,
        /// Bytes.
        room: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The node is killed, and a byte of a file changes while it is down.
    BitRot {
        /// Whose.
        target: Target,
        /// Of which file.
        #[serde(default)]
        file: Rotten,
        /// Decides which.
        place: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with an empty disk.
    Wipe {
        /// Whose.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with what its disk was at the last such copy.
    OldCopy {
        /// Whose.
        target: Target,
        /// The copy is taken so many milliseconds before.
        age_ms: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with a copy of another node's disk.
    OtherDisk {
        /// Whose.
        target: Target,
        /// The other node.
        of: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// Syncs do nothing and succeed for so long. Then the machine loses power, and everything since the lies began: what is broken
    /// after that is not the nodes' fault.
    SyncsLie {
        /// Whose.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// A second process is started on the folder of one that runs.
    SecondProcess {
        /// Whose.
        target: Target,
    },
    /// Clients and a node do not hear each other for so long.
    Unheard {
        /// Whom.
        target: Target,
        /// Which way.
        way: Way,
        /// Nothing is lost: it arrives when that time is over.
        #[serde(default)]
        held: bool,
        /// Milliseconds.
        for_ms: u64,
    },
    /// A client goes to the node and sends it so many requests at once.
    Rush {
        /// Whom.
        target: Target,
        /// How many.
        requests: u64,
    },
    /// The leader is asked to hand leadership over.
    Transfer,
    /// The leader sends the oldest snapshot that it has, whatever the receiver needs.
    OldSnapshot {
        /// To whom.
        target: Target,
    },
}

impl FaultKind {
    /// Whom it befalls, if there is one.
    pub fn target(&self) -> Option<Target> {
        match self {
            FaultKind::Cut { .. } | FaultKind::Clog { .. } | FaultKind::Storm { .. } => None,
            FaultKind::Transfer => Some(Target::Leader),
            FaultKind::Isolate { target, .. }
            | FaultKind::Unheard { target, .. }
            | FaultKind::Kill { target, .. }
            | FaultKind::PowerLoss { target, .. }
            | FaultKind::Stop { target, .. }
            | FaultKind::Pause { target, .. }
            | FaultKind::Slow { target, .. }
            | FaultKind::Busy { target, .. }
            | FaultKind::ClockRate { target, .. }
            | FaultKind::ClockJumps { target, .. }
            | FaultKind::DiskHangs { target, .. }
            | FaultKind::DiskFails { target, .. }
            | FaultKind::DiskFull { target, .. }
            | FaultKind::BitRot { target, .. }
            | FaultKind::Wipe { target, .. }
            | FaultKind::OldCopy { target, .. }
            | FaultKind::OtherDisk { target, .. }
            | FaultKind::SyncsLie { target, .. }
            | FaultKind::SecondProcess { target }
            | FaultKind::Rush { target, .. }
            | FaultKind::OldSnapshot { target } => Some(*target),
        }
    }

    /// How long it lasts, in milliseconds: until what was cut off, slow or down need not be so any more.
    pub fn lasts_ms(&self) -> u64 {
        match self {
            FaultKind::Transfer
            | FaultKind::ClockRate { .. }
            | FaultKind::ClockJumps { .. }
            | FaultKind::SecondProcess { .. }
            | FaultKind::Rush { .. }
            | FaultKind::OldSnapshot { .. } => 0,
            FaultKind::Cut { for_ms, .. }
            | FaultKind::Isolate { for_ms, .. }
            | FaultKind::Unheard { for_ms, .. }
            | FaultKind::Storm { for_ms, .. }
            | FaultKind::Clog { for_ms, .. }
            | FaultKind::Pause { for_ms, .. }
            | FaultKind::Slow { for_ms, .. }
            | FaultKind::Busy { for_ms, .. }
            | FaultKind::DiskHangs { for_ms, .. }
            | FaultKind::DiskFull { for_ms, .. } => *for_ms,
            FaultKind::SyncsLie { for_ms, down_ms, .. } => for_ms.saturating_add(*down_ms),
            FaultKind::Kill { down_ms, .. }
            | FaultKind::PowerLoss { down_ms, .. }
            | FaultKind::Stop { down_ms, .. }
            | FaultKind::DiskFails { down_ms, .. }
            | FaultKind::BitRot { down_ms, .. }
            | FaultKind::Wipe { down_ms, .. }
            | FaultKind::OldCopy { down_ms, .. }
            | FaultKind::OtherDisk { down_ms, .. } => *down_ms,
        }
    }
}
