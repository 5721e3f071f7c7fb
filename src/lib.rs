//! A replicated key-value store and message queue on its own Raft.
//!
//! The protocol itself is [`consensus`]: pure, events in and effects out. Everything else carries its effects out:
//! [`storage`] makes them durable, [`transport`] sends them, [`machine`] applies them, and [`runtime`] owns time and
//! threads. Clients come in through a [`gateway`]. `docs/ARCHITECTURE.md` shows how the pieces meet.

pub mod client;
pub mod codec;
pub mod config;
pub mod consensus;
pub mod gateway;
pub mod machine;
pub mod runtime;
#[cfg(feature = "cli")]
pub mod shell;
pub mod storage;
pub mod transport;

pub use runtime::threaded::node::{Node, NodeOptions};
