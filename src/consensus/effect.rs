//! What a server wants done. The driver carries effects out in the order given.

use std::fmt;

use super::event::Ticket;
use super::message::{AppendEntries, Message, SnapshotMeta};
use super::types::{EntryHeader, HardState, Index, LogTime, NodeId, Term};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// These entries are now in the log. The driver joins them with their payloads: the accepted prefix of the proposals
    /// in [`Event::Propose`](super::Event::Propose), or those of the received message. Indexes are consecutive; a
    /// preceding [`Truncate`](Effect::Truncate) has made room. They become durable with the next [`Persist`].
    Append {
        /// The entries.
        entries: Vec<EntryHeader>,
    },
    /// The log's entries from here on conflicted with the leader's and are gone.
    Truncate {
        /// First removed index.
        from: Index,
    },
    /// Make durable, then tell with [`Event::Persisted`](super::Event::Persisted).
    Persist(Persist),
    /// Send a message that carries no entries.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Send an `AppendEntries` with the entries `first..=last` of the log, which the driver fills in.
    SendEntries {
        /// The receiver.
        to: NodeId,
        /// The sender's term.
        term: Term,
        /// The request; its `entries` are empty.
        append: AppendEntries,
        /// First entry to send.
        first: Index,
        /// Last entry to send, ≥ `first`.
        last: Index,
    },
    /// Send the newest snapshot, which covers at least `at_least`; then tell the outcome as
    /// [`SnapshotInstalled`](super::MessageBody::SnapshotInstalled) or [`Unreachable`](super::Event::Unreachable).
    SendSnapshot {
        /// The receiver.
        to: NodeId,
        /// The snapshot's index must not be below this one.
        at_least: Index,
    },
    /// Replace the state machine and the whole log by this snapshot. The next [`Persist`] makes that durable.
    InstallSnapshot {
        /// The snapshot that was received.
        snapshot: SnapshotMeta,
    },
    /// Everything up to here is committed: apply it, in order.
    Commit {
        /// Last committed index.
        index: Index,
    },
    /// Leadership was confirmed for this read: run it once everything up to `index` is applied.
    ReadReady {
        /// From [`Event::Read`](super::Event::Read).
        ticket: Ticket,
        /// The commit index when the read arrived.
        index: Index,
        /// Log time when it was confirmed.
        time: LogTime,
    },
    /// The request was not accepted: it never was in the log and never will be.
    Reject {
        /// From [`Proposal`](super::Proposal) or [`Event::Read`](super::Event::Read).
        ticket: Ticket,
        /// Why.
        reason: RejectReason,
    },
    /// Role, term or known leader changed.
    RoleChanged {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
        /// Who leads this term, if known.
        leader: Option<NodeId>,
        /// Why, in words, for the log.
        reason: &'static str,
    },
    /// A message from a peer made no sense and was ignored: count it, and tell people.
    Refused {
        /// The sender.
        from: NodeId,
        /// What was wrong with it.
        reason: &'static str,
    },
    /// The transfer of leadership ended.
    TransferEnded {
        /// The target, if one was chosen.
        to: Option<NodeId>,
        /// `Ok` when another leader took over.
        outcome: Result<(), &'static str>,
    },
    /// This server had forgotten what it promised, and has caught up: it votes and counts again.
    Recalled,
    /// An internal invariant is broken: stop the node at once.
    Fail(Violation),
}

/// What must become durable, as one unit, in order of `token`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// Names this persist; each is one more than the one before.
    pub token: u64,
    /// Term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// Replace the whole log by this snapshot first.
    pub snapshot: Option<SnapshotMeta>,
    /// Remove the log's entries from here on first.
    pub truncate_from: Option<Index>,
    /// Append these entries, first and last.
    pub append: Option<(Index, Index)>,
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// This server does not lead.
    NotLeader,
    /// This server leads but is handing leadership over.
    Transferring,
    /// Too many bytes are waiting to be committed and applied.
    Overloaded,
    /// This server's disk is full, and there is nobody to hand leadership to.
    DiskFull,
}

/// A server's role, for people and for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether an election could be won (Raft thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

/// A broken invariant of the protocol, named as in the catalogue of `invariants.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// The values that break it.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant broken: {}: {}", self.invariant, self.details)
    }
}
