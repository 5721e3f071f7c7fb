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

/// Terms and indexes above this are refused: no election and no log ever gets there, and so counting on from one that was
/// accepted never overflows.
const HIGHEST: u64 = u64::MAX / 2;

impl Message {
    /// What is wrong with it, if anything, whoever sent it (reliability T93).
    pub(super) fn malformed(&self) -> Option<&'static str> {
        if self.term.0 > HIGHEST {
            return Some("names a term that no cluster ever reaches");
        }
        match &self.body {
            MessageBody::AppendEntries(append) => append.malformed(self.term),
            MessageBody::InstallSnapshot { snapshot } if snapshot.index.0 > HIGHEST => {
                Some("sent a snapshot beyond the last possible index")
            }
            MessageBody::InstallSnapshot { snapshot } if snapshot.term > self.term => {
                Some("sent a snapshot of a later term than its own")
            }
            _ => None,
        }
    }
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
        /// The sender neither votes nor counts.
        abstains: bool,
    },
    /// The log does not contain the request's previous entry.
    AppendRejected {
        /// `prev_index` of the refused request, so that stale refusals are recognised.
        prev_index: Index,
        /// Best guess at where the logs agree: the largest index ≤ `prev_index` whose term here is ≤ `prev_term`.
        hint_index: Index,
        /// The term here of the entry at `hint_index`.
        hint_term: Term,
        /// The request's round; 0 if it was of an earlier term.
        round: u64,
        /// The sender neither votes nor counts.
        abstains: bool,
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
        /// The sender neither votes nor counts.
        abstains: bool,
    },
    /// "Start an election now": leadership transfer (Raft thesis §3.10).
    TimeoutNow,
    /// "In which term are you?", asked by a server that forgot what it promised. Whoever answers has seen the last of the
    /// sender's earlier life.
    AskTerm {
        /// Names the life that asks.
        nonce: u64,
    },
    /// The answer: the message's own term.
    TellTerm {
        /// From the question.
        nonce: u64,
    },
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

impl AppendEntries {
    fn malformed(&self, term: Term) -> Option<&'static str> {
        let (mut index, mut last_term) = (self.prev_index, self.prev_term);
        if index.0.saturating_add(self.entries.len() as u64) > HIGHEST {
            return Some("sent entries beyond the last possible index");
        }
        if last_term > term {
            return Some("sent a previous entry of a later term than its own");
        }
        for entry in &self.entries {
            if entry.index != index.next() {
                return Some("sent entries that are not consecutive");
            }
            if entry.term < last_term || entry.term > term {
                return Some("sent entries whose terms go back, or are later than its own");
            }
            (index, last_term) = (entry.index, entry.term);
        }
        None
    }
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
