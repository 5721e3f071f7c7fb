//! A replicated key-value store on its own Raft.
//!
//! The protocol itself is [`consensus`]: pure, events in and effects out. Everything else carries its effects out:
//! [`storage`] makes them durable, [`transport`] sends them, [`machine`] applies them, and [`runtime`] owns time and
//! threads. Clients come in through a [`gateway`], and [`client`] is one that finds the leader by itself.
//! `docs/ARCHITECTURE.md` shows how the pieces meet.
//!
//! # A tour
//!
//! * [`Node`] is a running node: [`propose`](Node::propose) puts a command through the log, [`query`](Node::query) asks
//!   linearizably, [`stop`](Node::stop) hands leadership over and ends it.
//! * What a node is made of is chosen when it starts: a state machine ([`machine::Machine`]: yours, or
//!   [`machine::Composite`], the built-in key-value store), a storage ([`storage::FileStorage`] or
//!   [`storage::InMemoryStorage`]), and a transport ([`transport::tcp`], [`transport::stdio`], [`transport::memory`]).
//! * [`runtime::daemon::Daemon`] is a node of raft.ini ([`config`]), ports and all: what the `raft` binary runs.
//! * [`transport::Failure`] is the one error of all requests, and says whether they can still take effect.
//!
//! # A cluster of one
//!
//! ```
//! use std::time::Duration;
//! use raft::machine::{Composite, command::{Answer, Change, Command, Condition, Query}};
//! use raft::{Node, NodeOptions, consensus::NodeId, storage::InMemoryStorage, transport::memory::MemoryNetwork};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (id, network) = (NodeId(1), MemoryNetwork::new());
//! let (storage, machine) = (Box::new(InMemoryStorage::new()), Box::new(Composite::default()));
//! let node = Node::start(NodeOptions::new(id, [id]), storage, machine, |handle| network.transport(id, handle))?;
//!
//! let change = Change::Set { key: "k".into(), value: "v".into(), condition: Condition::Always, want_old: false };
//! let set = Command::Change(change).encode();
//! // Until there is a leader the answer is a definite "not ready": nothing happened, so it may be tried again.
//! while node.propose(set.clone()).is_err_and(|failure| failure.is_definite()) {}
//! let answer = Answer::decode(&node.query(Query::Get { key: "k".into() }.encode())?)?;
//! assert!(matches!(answer, Answer::Value(Some(value)) if value.bytes == "v"));
//! node.stop(Duration::from_secs(2))?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/counter.rs` brings a state machine of its own, three nodes, and a dead leader.

#[cfg(feature = "cli")]
pub mod bench;
pub mod checker;
pub mod client;
pub mod codec;
pub mod config;
pub mod consensus;
#[cfg(feature = "cli")]
mod drawing;
#[cfg(feature = "cli")]
pub mod figures;
pub mod gateway;
#[cfg(feature = "cli")]
pub mod latencies;
pub mod machine;
pub mod marks;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
pub mod runtime;
#[cfg(feature = "cli")]
pub mod shell;
pub mod storage;
pub mod transport;
#[cfg(feature = "cli")]
pub mod workbench;

pub use runtime::node::Node;
pub use runtime::parts::NodeOptions;
