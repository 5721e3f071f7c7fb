//! The nouns of the protocol: term, index, node id, log entry.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::membership::Membership;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A leader's reign. Starts at 0 (nobody has led yet) and only grows (Raft paper §5.1).
    Term
}
number! {
    /// A position in the log. The first entry has index 1; 0 means "before the first".
    Index
}
number! {
    /// A node's number, unique in its cluster: `Id` in raft.ini.
    NodeId
}
number! {
    /// Log time: milliseconds since the cluster began, as stamped into entries by leaders. Never goes back, and never
    /// comes from a wall clock, so that leases and expiries are the same on every replica.
    LogTime
}

impl Index {
    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; 0 stays 0.
    pub fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl Term {
    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

/// The bytes of a command, opaque to the protocol. Encoded once by the gateway; the same bytes go to the disk and to
/// every peer. Cloning shares them.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Bytes);

impl Payload {
    /// The payload of entries that carry no command.
    pub const EMPTY: Payload = Payload(Bytes::new());
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// Appended by a new leader so that earlier terms' entries can commit (Raft paper §5.4.2 and §8).
    Noop,
    /// A command for the state machine; the payload is the command.
    Command,
    /// The cluster's membership from here on (Raft thesis §4). Boxed: it is rare, and headers are many.
    Membership(Box<Membership>),
    /// Carries nothing but log time, appended when the state machine has something due.
    Tick,
}

/// Identifies one command of one client session, so that a retry takes effect once (Raft thesis §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionSequence {
    /// The session's id.
    pub session: u64,
    /// The command's number within the session, from 1.
    pub sequence: u64,
}

/// Everything about an entry but its payload. The protocol itself never looks at more than this.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryHeader {
    /// Position in the log.
    pub index: Index,
    /// Term of the leader that made the entry.
    pub term: Term,
    /// What the entry is for.
    pub kind: EntryKind,
    /// Log time when the leader made it.
    pub time: LogTime,
    /// The client session's stamp, if the command came in one.
    pub session: Option<SessionSequence>,
    /// Size of the payload in bytes.
    pub size: u32,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Everything but the payload.
    pub header: EntryHeader,
    /// The command; empty unless the kind is [`EntryKind::Command`].
    pub payload: Payload,
}

/// What a server must remember across restarts, besides its log: written durably before any message that depends on it
/// (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term this server has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}
