//! What a server is told.

use super::message::Message;
use super::message::SnapshotMeta;
use super::types::{Index, LogTime, NodeId, SessionSequence};

/// Names a client's request while the protocol works on it. Chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command that a client wants in the log. The payload stays with the driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Names the request in the answer.
    pub ticket: Ticket,
    /// Size of the payload in bytes.
    pub size: u32,
    /// The client session's stamp, if any.
    pub session: Option<SessionSequence>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time has passed: look at the deadlines.
    Tick,
    /// A peer's message arrived. `from` was checked by the transport.
    Receive {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Messages to this peer were lost or could not be sent: its connection broke or its outbox is full. If leadership is being
    /// handed to it, another gets it, or that ends.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Clients' commands. A prefix is accepted and gets consecutive indexes in one [`Append`](super::Effect::Append);
    /// the rest is answered with [`Reject`](super::Effect::Reject).
    Propose(Vec<Proposal>),
    /// Clients' linearizable reads, answered with [`ReadReady`](super::Effect::ReadReady) or `Reject`.
    Read(Vec<Ticket>),
    /// The persist with this token, and all before it, are durable.
    Persisted {
        /// From [`Persist`](super::Persist).
        token: u64,
    },
    /// The disk is full: no persist becomes durable until [`DiskFreed`](Event::DiskFreed). A leader hands over at once,
    /// nobody else campaigns, and no votes are given.
    DiskFull,
    /// There is space on the disk again.
    DiskFreed,
    /// A peer remembers an earlier life of this server, of which nothing is left: it abstains until it has caught up.
    Forgot,
    /// The state machine has applied everything up to here.
    Applied {
        /// Last applied index.
        index: Index,
    },
    /// When something falls due in the state machine next, in log time: the leader sees to it that an entry of that time or
    /// a later one comes into the log.
    MachineDeadline {
        /// `None`: nothing waits for time.
        time: Option<LogTime>,
    },
    /// Hand leadership to this node (Raft thesis §3.10), or to the best one when `None`.
    Transfer {
        /// The new leader.
        to: Option<NodeId>,
    },
    /// A snapshot of the own state machine is durable: the log up to `keep_from` may go.
    SnapshotTaken {
        /// What it covers.
        snapshot: SnapshotMeta,
        /// First index that the log keeps, as a tail for followers that are nearly there.
        keep_from: Index,
    },
}
