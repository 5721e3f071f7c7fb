//! Deterministic state machines: what the replicated log is for.

#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod command;
pub mod composite;
pub mod glob;
pub mod kv;
mod scan;
pub mod words;

pub use composite::Composite;

use bytes::Bytes;

use crate::consensus::{Index, LogTime, SessionSequence};

/// A state machine that can be replicated.
///
/// Every replica applies the same commands in the same order, so `apply` must depend on nothing but the state and its
/// arguments: no clock, no randomness, no hash order. Time, if it matters, is [`Applied::time`].
pub trait Machine: Send {
    /// Applies a committed command and returns the answer for the client that sent it. A command that makes no sense
    /// gets an answer that says so; it must not panic, and must have no effect.
    fn apply(&mut self, command: Applied<'_>) -> Bytes;

    /// Answers a question about the state without changing it.
    fn query(&self, query: &[u8]) -> Bytes;

    /// A hash of the whole state: equal on all replicas that have applied the same log.
    fn digest(&self) -> u64;

    /// A command in words, for people who look at the log.
    fn describe(&self, command: &[u8]) -> String {
        format!("{} bytes", command.len())
    }
}

/// A committed command, about to take effect.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Its position in the log.
    pub index: Index,
    /// Its log time.
    pub time: LogTime,
    /// The client session's stamp, if it came in one.
    pub session: Option<SessionSequence>,
    /// The command itself. It shares the log's memory: keeping slices of it copies nothing.
    pub command: &'a Bytes,
}
