//! The Raft protocol, pure: one [`Server`](server) takes an [`Event`] at a time and answers with [`Effect`]s.
//!
//! Nothing below this module touches time, threads, sockets, disk, global randomness, hash order or logging. `now` is
//! handed in, randomness comes from a seeded generator that is part of the state. So a server can be scripted,
//! simulated, replayed and model-checked.

pub mod effect;
pub mod event;
pub mod membership;
pub mod message;
pub mod types;

pub use effect::{Effect, Persist, RejectReason, Role, Violation};
pub use event::{Event, Proposal, Ticket};
pub use membership::Membership;
pub use message::{AppendEntries, Message, MessageBody, SnapshotMeta};
pub use types::{Entry, EntryHeader, EntryKind, HardState, Index, LogTime, NodeId, Payload, SessionSequence, Term};
