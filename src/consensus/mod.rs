//! The Raft protocol, pure: one [`Server`] takes an [`Event`] at a time and answers with [`Effect`]s.
//!
//! Nothing below this module touches time, threads, sockets, disk, global randomness, hash order or logging. `now` is
//! handed in, randomness comes from a seeded generator that is part of the state. So a server can be scripted,
//! simulated, replayed and model-checked.
//!
//! Read it in this order: [`types`], [`message`], [`event`], [`effect`]; then `server`, which keeps the rules about
//! terms and moves between roles; `election`, `follower` and `leader`, one for each role; and what they build on: `log`,
//! `progress`, `quorum`, `read`, and `common`, which also decides what must be durable before it is said.

#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;
pub mod effect;
mod election;
pub mod event;
mod follower;
mod invariants;
mod latency;
mod leader;
mod log;
pub mod membership;
pub mod message;
mod progress;
pub mod quorum;
mod random;
mod read;
mod recall;
pub mod server;
pub mod types;

pub use effect::{Effect, Persist, RejectReason, Role, Violation};
pub use event::{Event, Proposal, Ticket};
pub use log::{ENTRY_OVERHEAD_BYTES, Log};
pub use membership::Membership;
pub use message::{AppendEntries, Message, MessageBody, SnapshotMeta};
pub(crate) use random::Random;
pub use server::{ForcedRole, ForcedStart, PeerProgress, Remembered, Server, ServerConfig, ServerStatus};
pub use types::{Entry, EntryHeader, EntryKind, HardState, Index, LogTime, NodeId, Payload, SessionSequence, Term};
