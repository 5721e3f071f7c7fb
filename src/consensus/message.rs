//! What servers say to each other.

use serde::{Deserialize, Serialize};

use super::membership::Membership;
use super::types::{EntryHeader, Index, LogTime, Term};

/// A message between two servers. Who sent it to whom is the transport's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term. In a pre-vote request, the term it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: MessageBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageBody {
    /// "Vote for me" (Raft paper §5.2), or "would you?" when `pre` (Raft thesis §9.6).
    RequestVote {
        /// A pre-vote: changes nothing at the receiver, neither term nor vote.
        pre: bool,
        /// The candidate's last log index.
        last_index: Index,
        /// The term of that entry.
        last_term: Term,
        /// A leader asked for this election (transfer): the receiver does not protect its current leader.
        transfer: bool,
    },
    /// The answer to a vote request. For a granted pre-vote the message's term echoes the request's.
    RequestVoteResponse {
        /// Answers a pre-vote.
        pre: bool,
        /// The vote.
        granted: bool,
    },
    /// Log entries, or a heartbeat when there are none (Raft paper §5.3).
    AppendEntries(AppendEntries),
    /// The entries of that request are in the log, durably, up to `matched`.
    AppendAccepted {
        /// Highest index known to equal the leader's log and to be durable here: at most prev + len of the request.
        matched: Index,
        /// The request's round.
        round: u64,
    },
    /// The log does not contain the request's previous entry.
    AppendRejected {
        /// `prev_index` of the refused request, so that stale refusals are recognised.
        prev_index: Index,
        /// Best guess at where the logs agree: the largest index ≤ `prev_index` whose term here is ≤ `prev_term`.
        hint_index: Index,
        /// The term here of the entry at `hint_index`.
        hint_term: Term,
        /// The request's round.
        round: u64,
    },
    /// The receiver's log is too far behind: here is the state instead. The bytes travel on their own connection; this
    /// announces a complete, verified snapshot.
    InstallSnapshot {
        /// What the snapshot covers.
        snapshot: SnapshotMeta,
    },
    /// The snapshot is installed (or was not needed): the log matches up to here.
    SnapshotInstalled {
        /// Highest index known to equal the leader's log and to be durable here.
        matched: Index,
    },
    /// "Start an election now": leadership transfer (Raft thesis §3.10).
    TimeoutNow,
}

/// The leader's request to append entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntries {
    /// Index of the entry before the first.
    pub prev_index: Index,
    /// Its term.
    pub prev_term: Term,
    /// The leader's commit index.
    pub commit: Index,
    /// The leader's read round: an answer with this round proves that the leader still led when the round began
    /// (Raft thesis §6.4).
    pub round: u64,
    /// The entries, without payloads: consecutive from `prev_index + 1`.
    pub entries: Vec<EntryHeader>,
}

/// What a snapshot covers: the state after applying every entry up to `index`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Last entry the snapshot includes.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// Its log time.
    pub time: LogTime,
    /// The membership in force there.
    pub membership: Membership,
}
